//! NEON with matrix multiplication (Neoverse V1, Cortex-A710 and on): SMMLA, 2 rows x 8 codes by 8 weights x 2
//! channels.
//!
//! SMMLA wants eight weights of a channel side by side, the panel has four: ZIP1 and ZIP2 put two quads together, once
//! for three pairs of rows. The intrinsic is not stable in Rust 1.91, so one instruction of assembly stands for it.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Isa, Kernel, Out, PANEL, QUAD, Weights};

const ROWS: usize = 6;
/// Vectors in a quad of a panel: 4 channels of 4 weights each.
const VECTORS: usize = 4;

pub(super) const KERNEL: Kernel =
    Kernel { isa: Isa::I8mm, rows: ROWS, panels: 1, code_max: 255, code_zero: 128, dot, fused: None };

/// # Safety
/// As [`Kernel::dot`] asks, on a CPU with FEAT_I8MM.
unsafe fn dot(rows: &[*const u8], quads: usize, weights: Weights, out: Out) {
    // The second row of the last pair repeats the first when the count is odd; nobody reads its sums.
    let row = |at: usize| rows[at.min(rows.len() - 1)];
    // SAFETY: handed on unchanged; `out` has room for `ROWS` rows.
    unsafe {
        match rows.len() {
            0..=2 => tile([[row(0), row(1)]], quads, weights.first, out),
            3..=4 => tile([[row(0), row(1)], [row(2), row(3)]], quads, weights.first, out),
            _ => tile([[row(0), row(1)], [row(2), row(3)], [row(4), row(5)]], quads, weights.first, out),
        }
    }
}

/// # Safety
/// As [`dot`] asks, with `2 * P` rows.
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile<const P: usize>(rows: [[*const u8; 2]; P], quads: usize, weights: *const i8, out: Out) {
    // [pair of rows][pair of channels]: row 0 with both channels, then row 1 with both
    let mut sums = [[vdupq_n_s32(0); 2 * VECTORS]; P];
    for pair in 0..quads / 2 {
        // SAFETY: `quads` is even, `weights` holds a panel of them; each row holds `quads * QUAD` codes. The
        // assembly is one arithmetic instruction between registers, which this function's feature allows.
        unsafe {
            let at = weights.add(pair * 2 * PANEL * QUAD);
            let codes = rows.map(|two| {
                let [first, second] = two.map(|row| vld1_s8(row.add(pair * 2 * QUAD).cast()));
                vcombine_s8(first, second)
            });
            for vector in 0..VECTORS {
                let even = vreinterpretq_s32_s8(vld1q_s8(at.add(vector * 16)));
                let odd = vreinterpretq_s32_s8(vld1q_s8(at.add(PANEL * QUAD + vector * 16)));
                let eights = [vzip1q_s32(even, odd), vzip2q_s32(even, odd)];
                for (codes, sums) in codes.iter().zip(&mut sums) {
                    for (half, weights) in eights.iter().enumerate() {
                        asm!(
                            "smmla {sum:v}.4s, {codes:v}.16b, {weights:v}.16b",
                            sum = inout(vreg) sums[2 * vector + half],
                            codes = in(vreg) *codes,
                            weights = in(vreg) *weights,
                            // Not `pure`: kept in this order, the sums stay in their registers.
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                }
            }
        }
    }
    for (pair, sums) in sums.iter().enumerate() {
        for (channels, sum) in sums.iter().enumerate() {
            let at = 2 * pair * out.stride + 2 * channels;
            // SAFETY: `out` holds at least `2 * P` rows of one panel.
            unsafe {
                vst1_s32(out.sums.add(at), vget_low_s32(*sum));
                vst1_s32(out.sums.add(at + out.stride), vget_high_s32(*sum));
            }
        }
    }
}
