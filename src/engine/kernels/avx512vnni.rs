//! AVX512-VNNI: `vpdpbusd` on 512 bits, four products of u8 and s8 added into each of 16 channels.
//!
//! 12 rows x 2 panels is 24 accumulators, two vectors of weights and one broadcast: 27 of 32 registers, and twice
//! the 2 x 5 instructions in flight that a Zen 4, Zen 5 or Ice Lake core needs. They are folded into the tile from there.

use std::arch::x86_64::*;

use super::codes::Codes;
use super::gemm::PAIR;
use super::tap::{Tap, Tile};
use super::{Isa, Kernel, Out, PANEL, QUAD, Weights};

const ROWS: usize = 12;
const PANELS: usize = 2;

pub(super) const KERNEL: Kernel = Kernel {
    isa: Isa::Avx512Vnni,
    rows: ROWS,
    panels: PANELS,
    code_max: 255,
    code_zero: 0,
    dot,
    fused: Some(fused),
};

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
    // SAFETY: handed on unchanged.
    let sums = unsafe { products(rows, quads, weights) };
    for (row, sums) in sums.iter().enumerate() {
        for (panel, sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds at least `R` rows of `P` panels.
            unsafe { _mm512_storeu_si512(out.sums.add(row * out.stride + panel * PANEL).cast(), *sum) };
        }
    }
}

/// # Safety
/// As [`dot`] asks of what it reads.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn products<const R: usize, const P: usize>(
    rows: [*const u8; R],
    quads: usize,
    weights: [*const i8; P],
) -> [[__m512i; P]; R] {
    let mut sums = [[_mm512_setzero_si512(); P]; R];
    for quad in 0..quads {
        // SAFETY: every panel of `weights` holds `quads` quads; each row holds `quads * QUAD` codes, and an
        // unaligned load takes exactly four of them.
        unsafe {
            let mut panels = [_mm512_setzero_si512(); P];
            for (panel, weights) in panels.iter_mut().zip(weights) {
                *panel = _mm512_loadu_si512(weights.add(quad * PANEL * QUAD).cast());
            }
            for row in 0..R {
                let codes = _mm512_set1_epi32(rows[row].add(quad * QUAD).cast::<i32>().read_unaligned());
                for panel in 0..P {
                    sums[row][panel] = _mm512_dpbusd_epi32(sums[row][panel], codes, panels[panel]);
                }
            }
        }
    }
    sums
}

/// # Safety
/// As [`Kernel::fused`] asks, on a CPU with AVX512F and AVX512-VNNI.
unsafe fn fused(tap: &Tap<'_>, excess: i32, first: bool, tile: &mut Tile) {
    // SAFETY: handed on unchanged; the panels begin within the weights.
    unsafe {
        let Weights { first: panel, second } = tap.panels();
        match second {
            None => {
                super::by_rows!(tap.rows, [1, 4, 8, 12], rows => fold(tap, rows, [panel], excess, first, tile))
            }
            Some(apart) => {
                let panels = [panel, panel.add(apart)];
                super::by_rows!(tap.rows, [1, 4, 8, 12], rows => fold(tap, rows, panels, excess, first, tile))
            }
        }
    }
}

/// # Safety
/// As [`fused`] asks, with `R` rows and `P` panels.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn fold<const R: usize, const P: usize>(
    tap: &Tap<'_>,
    rows: [u32; R],
    weights: [*const i8; P],
    excess: i32,
    first: bool,
    tile: &mut Tile,
) {
    let width = tap.codes.width;
    let mut codes = [tap.codes.codes.as_ptr(); R];
    for (code, row) in codes.iter_mut().zip(rows) {
        // SAFETY: every row is one of the codes.
        *code = unsafe { code.add(row as usize * width) };
    }
    // SAFETY: each row has `width` codes, each panel as many weights for every channel.
    let sums = unsafe { products(codes, width / QUAD, weights) };
    let mut weight_sums = [_mm512_setzero_ps(); P];
    let mut above = [_mm512_setzero_si512(); P];
    for panel in 0..P {
        // SAFETY: an array of 16 numbers.
        let sums = unsafe { _mm512_loadu_si512(tap.sums[panel].as_ptr().cast()) };
        weight_sums[panel] = _mm512_cvtepi32_ps(sums);
        above[panel] = _mm512_mullo_epi32(sums, _mm512_set1_epi32(excess));
    }
    for (at, sums) in sums.iter().enumerate() {
        let row = rows[at] as usize;
        // SAFETY: every row has a scale and an offset.
        let (scale, offset) = unsafe {
            let Codes { scale, offset, .. } = tap.codes;
            (_mm512_set1_ps(*scale.get_unchecked(row)), _mm512_set1_ps(*offset.get_unchecked(row)))
        };
        for (panel, sum) in sums.iter().enumerate() {
            // SAFETY: a tile has `PAIR` numbers for each of at least `R` rows.
            unsafe {
                let place = tile.as_mut_ptr().add(at * PAIR + panel * PANEL);
                let before = if first { _mm512_setzero_ps() } else { _mm512_loadu_ps(place) };
                let offsets = _mm512_fmadd_ps(offset, weight_sums[panel], before);
                let sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(*sum, above[panel]));
                _mm512_storeu_ps(place, _mm512_fmadd_ps(scale, sum, offsets));
            }
        }
    }
}
