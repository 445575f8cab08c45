//! NEON with dot product (Cortex-A76, A78AE): SDOT by element, four products added into each of four channels.
//!
//! 6 rows x 1 panel is 24 accumulators and four vectors of weights. The intrinsic is not stable in Rust 1.91, so one
//! instruction of assembly stands for it.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Isa, Kernel, Out, PANEL, QUAD, Weights};

const ROWS: usize = 6;
/// Vectors in a quad of a panel: 4 channels of 4 weights each.
const VECTORS: usize = 4;

pub(super) const KERNEL: Kernel =
    Kernel { isa: Isa::Dotprod, rows: ROWS, panels: 1, code_max: 255, code_zero: 128, dot, fused: None };

/// # Safety
/// As [`Kernel::dot`] asks, on a CPU with FEAT_DotProd.
unsafe fn dot(rows: &[*const u8], quads: usize, weights: Weights, out: Out) {
    // SAFETY: handed on unchanged.
    unsafe { super::by_rows!(rows, [1, 2, 4, 6], rows => tile(rows, quads, weights.first, out)) }
}

macro_rules! sdot {
    ($sum:expr, $weights:expr, $codes:expr, $lane:literal) => {
        asm!(
            concat!("sdot {sum:v}.4s, {weights:v}.16b, {codes:v}.4b[", $lane, "]"),
            sum = inout(vreg) $sum,
            weights = in(vreg) $weights,
            codes = in(vreg) $codes,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// # Safety
/// As [`dot`] asks, with `R` rows.
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile<const R: usize>(rows: [*const u8; R], quads: usize, weights: *const i8, out: Out) {
    let mut sums = [[vdupq_n_s32(0); VECTORS]; R];
    for pair in 0..quads / 2 {
        // SAFETY: `quads` is even, `weights` holds a panel of them; each row holds `quads * QUAD` codes. The
        // assembly is one arithmetic instruction between registers, which this function's feature allows.
        unsafe {
            let at = weights.add(pair * 2 * PANEL * QUAD);
            let codes: [int8x8_t; R] =
                std::array::from_fn(|row| vld1_s8(rows[row].add(pair * 2 * QUAD).cast()));
            // One vector of weights at a time: with all four there, 6 rows need more than the 32 registers.
            for vector in 0..VECTORS {
                let weights = vld1q_s8(at.add(vector * 16));
                for row in 0..R {
                    sdot!(sums[row][vector], weights, codes[row], 0);
                }
            }
            let at = at.add(PANEL * QUAD);
            for vector in 0..VECTORS {
                let weights = vld1q_s8(at.add(vector * 16));
                for row in 0..R {
                    sdot!(sums[row][vector], weights, codes[row], 1);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (vector, sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds at least `R` rows of one panel.
            unsafe { vst1q_s32(out.sums.add(row * out.stride + vector * 4), *sum) };
        }
    }
}
