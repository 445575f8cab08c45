//! NEON without dot product (Cortex-A53, A72): SMULL and SMLAL make 16-bit sums of two products, SADALP adds pairs
//! of those into 32 bits. 16 products in three instructions; widening to SMLAL.4s takes four.
//!
//! Two products of codes in -128..=127 and weights in -127..=127 are at most 2 x 128 x 127 = 32512: 16 bits hold them.
//! 2 rows x 1 panel is 16 accumulators, since SADALP leaves two sums per channel until the end.

use std::arch::aarch64::*;

use super::{Isa, Kernel, Out, PANEL, QUAD, Weights};

const ROWS: usize = 2;
/// Vectors in a quad of a panel: 4 channels of 4 weights each.
const VECTORS: usize = 4;

pub(super) const KERNEL: Kernel =
    Kernel { isa: Isa::Neon, rows: ROWS, panels: 1, code_max: 255, code_zero: 128, dot, fused: None };

/// # Safety
/// As [`Kernel::dot`] asks.
unsafe fn dot(rows: &[*const u8], quads: usize, weights: Weights, out: Out) {
    // SAFETY: handed on unchanged; NEON is part of aarch64.
    unsafe { super::by_rows!(rows, [1, 2], rows => tile(rows, quads, weights.first, out)) }
}

/// # Safety
/// As [`dot`] asks, with `R` rows.
#[target_feature(enable = "neon")]
unsafe fn tile<const R: usize>(rows: [*const u8; R], quads: usize, weights: *const i8, out: Out) {
    // [row][vector][lower or upper two channels]
    let mut sums = [[[vdupq_n_s32(0); 2]; VECTORS]; R];
    for pair in 0..quads / 2 {
        // SAFETY: `quads` is even, `weights` holds a panel of them; each row holds `quads * QUAD` codes.
        unsafe {
            let at = weights.add(pair * 2 * PANEL * QUAD);
            let codes = rows.map(|row| {
                let row = row.add(pair * 2 * QUAD).cast::<i32>();
                let four = |at: *const i32| vreinterpret_s8_s32(vdup_n_s32(at.read_unaligned()));
                [four(row), four(row.add(1))]
            });
            for vector in 0..VECTORS {
                let even = vld1q_s8(at.add(vector * 16));
                let odd = vld1q_s8(at.add(PANEL * QUAD + vector * 16));
                for row in 0..R {
                    let [first, second] = codes[row];
                    let lower = vmull_s8(vget_low_s8(even), first);
                    let lower = vmlal_s8(lower, vget_low_s8(odd), second);
                    let upper = vmull_s8(vget_high_s8(even), first);
                    let upper = vmlal_s8(upper, vget_high_s8(odd), second);
                    sums[row][vector][0] = vpadalq_s16(sums[row][vector][0], lower);
                    sums[row][vector][1] = vpadalq_s16(sums[row][vector][1], upper);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (vector, [lower, upper]) in sums.iter().enumerate() {
            // SAFETY: `out` holds at least `R` rows of one panel.
            unsafe { vst1q_s32(out.sums.add(row * out.stride + vector * 4), vpaddq_s32(*lower, *upper)) };
        }
    }
}
