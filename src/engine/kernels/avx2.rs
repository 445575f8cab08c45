//! AVX2: `vpmaddubsw` multiplies u8 by s8 and adds pairs into 16 bits, `vpmaddwd` by ones adds pairs of those.
//!
//! `vpmaddubsw` saturates. With codes of at most 127 a pair is at most 2 x 127 x 127 = 32258, which fits, so
//! here activations have 7 bits and the sums are exact. Widening both sides to 16 bits would keep the eighth bit
//! and lose a quarter of the speed.

use std::arch::x86_64::*;

use super::{Isa, Kernel, Out, PANEL, QUAD, Weights};

const ROWS: usize = 6;
/// Vectors in a panel: 8 channels each.
const VECTORS: usize = 2;

pub(super) const KERNEL: Kernel =
    Kernel { isa: Isa::Avx2, rows: ROWS, panels: 1, code_max: 127, code_zero: 0, dot, fused: None };

/// # Safety
/// As [`Kernel::dot`] asks, on a CPU with AVX2.
unsafe fn dot(rows: &[*const u8], quads: usize, weights: Weights, out: Out) {
    // SAFETY: handed on unchanged.
    unsafe { super::by_rows!(rows, [1, 2, 4, 6], rows => tile(rows, quads, weights.first, out)) }
}

/// # Safety
/// As [`dot`] asks, with `R` rows.
#[target_feature(enable = "avx2")]
unsafe fn tile<const R: usize>(rows: [*const u8; R], quads: usize, weights: *const i8, out: Out) {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); VECTORS]; R];
    for quad in 0..quads {
        // SAFETY: `weights` holds a panel of `quads` quads; each row holds `quads * QUAD` codes, and an
        // unaligned load takes exactly four of them.
        unsafe {
            let at = weights.add(quad * PANEL * QUAD);
            let panel = [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())];
            for row in 0..R {
                let codes = _mm256_set1_epi32(rows[row].add(quad * QUAD).cast::<i32>().read_unaligned());
                for vector in 0..VECTORS {
                    let pairs = _mm256_maddubs_epi16(codes, panel[vector]);
                    let quads = _mm256_madd_epi16(pairs, ones);
                    sums[row][vector] = _mm256_add_epi32(sums[row][vector], quads);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (vector, sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds at least `R` rows of one panel.
            unsafe { _mm256_storeu_si256(out.sums.add(row * out.stride + vector * 8).cast(), *sum) };
        }
    }
}
