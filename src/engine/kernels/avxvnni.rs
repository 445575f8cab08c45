//! AVX-VNNI: `vpdpbusd` on 256 bits in its VEX form, for CPUs without AVX-512 (Alder Lake and its successors).
//!
//! 6 rows x 1 panel is 12 accumulators, two vectors of weights and one broadcast: 15 of 16 registers.

use std::arch::x86_64::*;

use super::{Isa, Kernel, Out, PANEL, QUAD, Weights};

const ROWS: usize = 6;
/// Vectors in a panel: 8 channels each.
const VECTORS: usize = 2;

pub(super) const KERNEL: Kernel =
    Kernel { isa: Isa::AvxVnni, rows: ROWS, panels: 1, code_max: 255, code_zero: 0, dot, fused: None };

/// # Safety
/// As [`Kernel::dot`] asks, on a CPU with AVX2 and AVX-VNNI.
unsafe fn dot(rows: &[*const u8], quads: usize, weights: Weights, out: Out) {
    // SAFETY: handed on unchanged.
    unsafe { super::by_rows!(rows, [1, 2, 4, 6], rows => tile(rows, quads, weights.first, out)) }
}

/// # Safety
/// As [`dot`] asks, with `R` rows.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn tile<const R: usize>(rows: [*const u8; R], quads: usize, weights: *const i8, out: Out) {
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
                    sums[row][vector] = _mm256_dpbusd_avx_epi32(sums[row][vector], codes, panel[vector]);
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
