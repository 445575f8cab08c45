//! Every kernel that this CPU has against the formula, bit for bit.

use super::codes::{Codes, Unit};
use super::*;

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }
}

/// Codes as `kernel` stores them.
fn codes(kernel: &Kernel, count: usize, mut code: impl FnMut() -> u64) -> Vec<u8> {
    let of = u64::from(kernel.code_max) + 1;
    (0..count).map(|_| ((code() % of) as u8).wrapping_sub(kernel.code_zero)).collect()
}

/// What the stored byte means to `kernel`.
fn value(kernel: &Kernel, code: u8) -> i64 {
    if kernel.code_zero == 0 { i64::from(code) } else { i64::from(code as i8) }
}

fn check(kernel: &Kernel, rows: &[Vec<u8>], quads: usize, weights: &[i8]) {
    let width = kernel.panels * PANEL;
    // A margin around the sums shows writes that go too far.
    let mut out = vec![i32::MIN; kernel.rows * width + 64];
    let pointers: Vec<*const u8> = rows.iter().map(Vec::as_ptr).collect();
    let stride = quads * QUAD * PANEL;
    let weights_at = Weights { first: weights.as_ptr(), second: (kernel.panels == 2).then_some(stride) };
    // SAFETY: `kernel` comes from `Isa::kernel`, so this CPU has it; the vectors have the sizes it asks for.
    unsafe { (kernel.dot)(&pointers, quads, weights_at, Out { sums: out.as_mut_ptr(), stride: width }) };
    for (row, codes) in rows.iter().enumerate() {
        for channel in 0..width {
            let sum: i64 = (0..quads * QUAD)
                .map(|k| {
                    let at =
                        channel / PANEL * stride + (k / QUAD * PANEL + channel % PANEL) * QUAD + k % QUAD;
                    value(kernel, codes[k]) * i64::from(weights[at])
                })
                .sum();
            let got = i64::from(out[row * width + channel]);
            assert_eq!(
                got,
                sum,
                "{:?}, row {row} of {}, channel {channel}, {quads} quads",
                kernel.isa,
                rows.len()
            );
        }
    }
    assert!(out[kernel.rows * width..].iter().all(|&sum| sum == i32::MIN), "{:?} wrote too far", kernel.isa);
}

#[test]
fn kernels_are_exact_on_random_tiles_of_every_shape() {
    let mut random = Random(1);
    for kernel in Isa::supported().into_iter().filter_map(Isa::kernel) {
        for quads in [2, 4, 6, 10, 12, 24, 80, 162, 720] {
            for rows in 1..=kernel.rows {
                let rows: Vec<_> = (0..rows).map(|_| codes(kernel, quads * QUAD, || random.next())).collect();
                let weights: Vec<i8> = (0..kernel.panels * quads * QUAD * PANEL)
                    .map(|_| (random.next() % 255) as i8 as i32 as i8)
                    .map(|weight| weight.max(-127))
                    .collect();
                check(kernel, &rows, quads, &weights);
            }
        }
    }
}

#[test]
fn kernels_are_exact_where_sums_are_largest() {
    for kernel in Isa::supported().into_iter().filter_map(Isa::kernel) {
        for (code, weight) in [(0, 127), (0, -127), (255, 127), (255, -127)] {
            let quads = 2560; // 10240 inputs: the widest layer of Stable Diffusion 1.5
            let rows = vec![codes(kernel, quads * QUAD, || code); kernel.rows];
            check(kernel, &rows, quads, &vec![weight; kernel.panels * quads * QUAD * PANEL]);
        }
    }
}

#[test]
fn folding_in_registers_gives_the_bits_of_folding_afterwards() {
    let mut random = Random(3);
    for isa in
        Isa::supported().into_iter().filter(|isa| isa.kernel().is_some_and(|kernel| kernel.fused.is_some()))
    {
        let unit = Unit::of(isa);
        let apart = Unit { kernel: Box::leak(Box::new(Kernel { fused: None, ..*unit.kernel })), ..unit };
        for inputs in [8, 24, 320] {
            let mut coded = Codes::default();
            coded.resize(20, inputs);
            coded.codes = codes(unit.kernel, coded.codes.len(), || random.next());
            let mut float = || (random.next() % 2000) as f32 / 700.0 - 1.3;
            coded.scale[..20].fill_with(&mut float);
            coded.offset[..20].fill_with(&mut float);
            let weights: Vec<i8> = (0..3 * inputs * PANEL)
                .map(|_| (random.next() % 255) as i32 as i8)
                .map(|w| w.max(-127))
                .collect();
            let sums: [[i32; PANEL]; 2] = [[7, -80_000].repeat(8).try_into().unwrap(), [0; PANEL]];
            for (count, starts) in (1..=unit.kernel.rows).flat_map(|count| [(count, 1), (count, 2)]) {
                // The row after the last one, padding, among them.
                let rows: Vec<u32> = (0..count).map(|at| (at * 7 % 21) as u32).collect();
                let starts = &[0, 2 * inputs * PANEL][..starts];
                let tap =
                    Tap { codes: &coded, rows: &rows, weights: &weights, starts, sums: [&sums[0], &sums[1]] };
                for first in [true, false] {
                    let tiles = [unit, apart].map(|unit| {
                        let mut tile = [0.75; ROWS_MAX * gemm::PAIR];
                        tap::add(unit, &tap, first, &mut tile);
                        let used = |at: &usize| at % gemm::PAIR < starts.len() * PANEL;
                        (0..count * gemm::PAIR).filter(used).map(|at| tile[at].to_bits()).collect::<Vec<_>>()
                    });
                    assert!(
                        tiles[0] == tiles[1],
                        "{isa:?}: {count} rows of {inputs}, {} panels",
                        starts.len()
                    );
                }
            }
        }
    }
}
