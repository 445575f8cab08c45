//! AVX512-VNNI: `vpdpbusd` on 512 bits, four products of u8 and s8 added into each of 16 channels.
//!
//! 12 rows x 2 panels is 24 accumulators, two vectors of weights and one broadcast: 27 of 32 registers, and twice
//! the 2 x 5 instructions in flight that a Zen 4, Zen 5 or Ice Lake core needs.

use std::arch::x86_64::*;

use super::{Isa, Kernel, Out, PANEL, QUAD, Weights};

const ROWS: usize = 12;
const PANELS: usize = 2;

pub(super) const KERNEL: Kernel =
    Kernel { isa: Isa::Avx512Vnni, rows: ROWS, panels: PANELS, code_max: 255, code_zero: 0, dot };

/// # Safety
/// As [`Kernel::dot`] asks, on a CPU with AVX512F and AVX512-VNNI.
unsafe fn dot(rows: &[*const u8], quads: usize, weights: Weights, out: Out) {
    // SAFETY: handed on unchanged.
    unsafe {
        match weights.second {
            None => super::by_rows!(rows, [1, 4, 8, 12], rows => tile(rows, quads, [weights.first], out)),
            Some(apart) => {
                let panels = [weights.first, weights.first.add(apart)];
                super::by_rows!(rows, [1, 4, 8, 12], rows => tile(rows, quads, panels, out))
            }
        }
    }
}

/// # Safety
/// As [`dot`] asks, with `R` rows and `P` panels.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn tile<const R: usize, const P: usize>(
    rows: [*const u8; R],
    quads: usize,
    weights: [*const i8; P],
    out: Out,
) {
    let mut sums = [[_mm512_setzero_si512(); P]; R];
    for quad in 0..quads {
        // SAFETY: every panel of `weights` holds `quads` quads; each row holds `quads * QUAD` codes, and an
        // unaligned load takes exactly four of them.
        unsafe {
            let panels = weights.map(|panel| _mm512_loadu_si512(panel.add(quad * PANEL * QUAD).cast()));
            for row in 0..R {
                let codes = _mm512_set1_epi32(rows[row].add(quad * QUAD).cast::<i32>().read_unaligned());
                for panel in 0..P {
                    sums[row][panel] = _mm512_dpbusd_epi32(sums[row][panel], codes, panels[panel]);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (panel, sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds at least `R` rows of `P` panels.
            unsafe { _mm512_storeu_si512(out.sums.add(row * out.stride + panel * PANEL).cast(), *sum) };
        }
    }
}
