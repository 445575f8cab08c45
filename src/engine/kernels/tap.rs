//! One tap of a filter over one tile, in integers: the products, and what they add to the tile in f32.

use super::codes::{Codes, Unit};
use super::gemm::PAIR;
use super::{PANEL, QUAD, ROWS_MAX, Weights, float, sums};

/// Rows of two panels of f32.
pub(in crate::engine) type Tile = [f32; ROWS_MAX * PAIR];

/// What one tap of a filter reads for one tile.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Tap<'a> {
    pub(super) codes: &'a Codes,
    /// Which rows of the codes.
    pub(super) rows: &'a [u32],
    pub(super) weights: &'a [i8],
    /// Where in `weights` a panel begins, one or two of them.
    pub(super) starts: &'a [usize],
    /// Sums of a panel's weights for each channel.
    pub(super) sums: [&'a [i32; PANEL]; 2],
}

impl Tap<'_> {
    /// Where the panels begin.
    ///
    /// # Safety
    /// As [`Kernel::fused`](super::Kernel::fused) asks.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only AVX512-VNNI has a fused kernel")
    )]
    pub(super) unsafe fn panels(&self) -> Weights {
        // SAFETY: the panels begin within the weights.
        let first = unsafe { self.weights.as_ptr().add(self.starts[0]) };
        Weights { first, second: self.starts.get(1).map(|second| second - self.starts[0]) }
    }
}

/// `tile[row] += scale[row] * (codes - excess) * weights + offset[row] * sum of the weights`; the `first` tap does not ask
/// what was there. Rows of the tile that no row of the tap belongs to are left with anything.
#[inline]
pub(super) fn add(unit: Unit, tap: &Tap<'_>, first: bool, tile: &mut Tile) {
    let Unit { kernel, level } = unit;
    let Codes { width, codes, scale, offset } = tap.codes;
    let ascending = tap.starts.is_sorted();
    if let (Some(fused), true) = (kernel.fused, ascending) {
        let count = scale.len().min(offset.len()).min(codes.len() / width.max(&1));
        assert!((1..=kernel.rows).contains(&tap.rows.len()) && width.is_multiple_of(2 * QUAD));
        assert!(tap.rows.iter().all(|row| (*row as usize) < count), "rows outside of the codes");
        assert!((1..=kernel.panels).contains(&tap.starts.len()));
        let end = |start: &usize| start + width * PANEL;
        assert!(
            tap.starts.iter().all(|start| end(start) <= tap.weights.len()),
            "panels outside of the weights"
        );
        // SAFETY: `Isa::kernel` gives out kernels of this CPU only; the rest was just asserted.
        return unsafe { fused(tap, kernel.excess(), first, tile) };
    }
    if first {
        tile.fill(0.0);
    }
    let mut sources: [&[u8]; ROWS_MAX] = [&[]; ROWS_MAX];
    let (mut scales, mut offsets) = ([0.0; ROWS_MAX], [0.0; ROWS_MAX]);
    for (at, row) in tap.rows.iter().enumerate() {
        let row = *row as usize;
        sources[at] = &codes[row * width..][..*width];
        (scales[at], offsets[at]) = (scale[row], offset[row]);
    }
    let count = tap.rows.len();
    let mut products = [0; ROWS_MAX * PAIR];
    sums::fill(kernel, &sources[..count], tap.weights, tap.starts, &mut products, PAIR);
    let scales = [&scales[..count], &offsets[..count]];
    float::fold(level, tile, &products, kernel.excess(), scales, tap.sums.map(<[i32; PANEL]>::as_slice));
}
