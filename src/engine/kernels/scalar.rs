//! The reference: what every other kernel has to compute, written as the formula.

use super::{Isa, Kernel, Out, PANEL, QUAD, Weights};

pub(super) const KERNEL: Kernel =
    Kernel { isa: Isa::Scalar, rows: 4, panels: 1, code_max: 255, code_zero: 0, dot, fused: None };

/// # Safety
/// As [`Kernel::dot`] asks.
unsafe fn dot(rows: &[*const u8], quads: usize, weights: Weights, out: Out) {
    for (row, codes) in rows.iter().enumerate() {
        for channel in 0..PANEL {
            let mut sum = 0;
            for k in 0..quads * QUAD {
                let at = (k / QUAD * PANEL + channel) * QUAD + k % QUAD;
                // SAFETY: the caller vouches for `quads * QUAD` codes and for a whole panel of weights.
                sum += unsafe { i32::from(*codes.add(k)) * i32::from(*weights.first.add(at)) };
            }
            // SAFETY: `out` holds `rows.len()` rows of one panel.
            unsafe { *out.sums.add(row * out.stride + channel) = sum };
        }
    }
}
