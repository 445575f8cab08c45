//! Inner loops, one file per instruction set, all behind [`Kernel`].
//!
//! Integer products are exact, so every kernel gives the bits of `scalar`. Weights are s8 within -127..=127, in
//! panels of 16 output channels: `[quad of 4 inputs][channel][4]`, an even number of quads. Activations are codes of
//! one byte with a scale and an offset per row, `x = scale * code + offset`; whether the byte is read as u8 or s8
//! is the kernel's affair ([`Kernel::code_zero`]).

#![allow(unsafe_code, reason = "vector instructions and pointers into tiles; each block says why it holds")]

pub(super) mod attention;
pub(super) mod codes;
pub(super) mod finish;
pub(super) mod float;
pub(super) mod gemm;
mod head;
mod isa;
pub(super) mod math;
mod peak;
mod scalar;
mod softmax;
mod sums;
mod tap;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;

pub use isa::{Isa, IsaError};
pub use peak::dot_product_peak;
use tap::{Tap, Tile};

/// Output channels in a panel of weights.
pub(super) const PANEL: usize = 16;
/// Inputs whose weights lie side by side.
pub(super) const QUAD: usize = 4;
/// Codes per row are a multiple of this: two quads, what one step of every kernel takes.
pub(super) const STEP: usize = 8;
/// No kernel takes more rows at once, nor more than two panels.
pub(super) const ROWS_MAX: usize = 12;

/// The integer kernel of one instruction set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// Whose it is.
    #[cfg_attr(not(test), expect(dead_code, reason = "names the kernel where a test fails"))]
    pub(super) isa: Isa,
    /// Rows it takes at once, at most.
    pub(super) rows: usize,
    /// Panels it takes at once: 1 or 2.
    pub(super) panels: usize,
    /// Codes count from 0 to this, before `code_zero` is taken off.
    pub(super) code_max: u8,
    /// Taken off every code: 128 where the kernel reads bytes as s8.
    pub(super) code_zero: u8,
    /// `out[row][channel] = sum over k of codes[row][k] * weights[channel][k]`.
    ///
    /// # Safety
    /// This CPU has the instruction set. There are 1 to `Kernel::rows` rows, each with `quads * QUAD` readable codes
    /// as `code_max` and `code_zero` say; `quads` is even. There are 1 to `Kernel::panels` panels of
    /// `quads * PANEL * QUAD` weights each. `out` has room for `Kernel::rows` rows of sums.
    pub(super) dot: unsafe fn(rows: &[*const u8], quads: usize, weights: Weights, out: Out),
    /// [`tap::add`] in one go, the sums never leaving their registers, where there are enough of those. It gives the
    /// bits of `dot` and [`float::fold`].
    ///
    /// # Safety
    /// This CPU has the instruction set. There are 1 to `Kernel::rows` rows, all of them rows of the codes, whose width
    /// is a multiple of [`STEP`]; 1 to `Kernel::panels` panels that lie within the weights, in ascending order.
    pub(super) fused: Option<unsafe fn(tap: &Tap<'_>, excess: i32, first: bool, tile: &mut Tile)>,
}

/// Where panels of weights begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub(super) first: *const i8,
    /// From the first panel to the second, in bytes; nothing if there is one panel only.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "kernels of ARM take one panel at a time")
    )]
    pub(super) second: Option<usize>,
}

/// Where sums go: rows `stride` numbers apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out {
    pub(super) sums: *mut i32,
    pub(super) stride: usize,
}

impl Kernel {
    /// What an activation's code counts from, in the arithmetic that all kernels share: the middle of the codes.
    pub(super) fn centre(&self) -> i32 {
        (i32::from(self.code_max) + 1) / 2
    }

    /// How far the stored codes are above codes that count from the centre: a sum of products is that much too large,
    /// times the sum of the weights.
    pub(super) fn excess(&self) -> i32 {
        self.centre() - i32::from(self.code_zero)
    }
}

/// Evaluates `$call` with `$array` an array of rows (pointers, numbers): of the least of the lengths that fits, the last
/// row repeated up to it.
macro_rules! by_rows {
    ($rows:expr, [$($count:literal),*], $array:ident => $call:expr) => {{
        let rows: &[_] = $rows;
        let last = rows.len() - 1;
        $(if rows.len() <= $count {
            let $array: [_; $count] = std::array::from_fn(|row| rows[row.min(last)]);
            return $call;
        })*
        unreachable!("a tile of {} rows", rows.len())
    }};
}
use by_rows;

#[cfg(test)]
mod tests;
