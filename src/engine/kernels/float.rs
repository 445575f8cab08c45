//! Loops over f32 rows, each written once in plain Rust and compiled for every vector width.

use super::math::{erf, exp, fma};
use super::{Isa, PANEL};

/// Vector width for f32; follows the integer kernel's instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Level {
    /// What the target always has: SSE2 or NEON.
    Base,
    /// AVX2 and FMA. Made only by [`Level::of`].
    Avx2,
    /// AVX-512 F, BW, VL, DQ. Made only by [`Level::of`].
    Avx512,
}

impl Level {
    /// The width that goes with `isa`, which has to be one that this CPU supports: its `Isa::kernel` is there.
    pub(in crate::engine) fn of(isa: Isa) -> Level {
        assert!(isa.kernel().is_some(), "{} is not of this CPU", isa.name());
        match isa {
            Isa::Avx2 | Isa::AvxVnni => Level::Avx2,
            Isa::Avx512Vnni => Level::Avx512,
            _ => Level::Base,
        }
    }
}

/// Compiles a function once per [`Level`]. Its body sees the constant `FMA`: whether a fused multiply-add is one
/// instruction.
macro_rules! versions {
    ($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(in crate::engine) fn $name(level: Level, $($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<const FMA: bool>($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($argument: $type),*) $(-> $result)? { body::<true>($($argument),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($argument: $type),*) $(-> $result)? { body::<true>($($argument),*) }

            match level {
                Level::Base => body::<{ cfg!(target_arch = "aarch64") }>($($argument),*),
                // SAFETY: this level exists only where `Isa::kernel` found AVX2 and FMA.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: this level exists only where `Isa::kernel` found these parts of AVX-512.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(not(target_arch = "x86_64"))]
                Level::Avx2 | Level::Avx512 => unreachable!("a level of x86-64"),
            }
        }
    };
}

pub(super) use versions;

/// A function of one number that stands between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Activation {
    /// x itself.
    Identity,
    /// x * sigmoid(x).
    Silu,
    /// x * sigmoid(1.702 x), CLIP's approximation of GELU.
    QuickGelu,
    /// x * Phi(x), through the error function.
    Gelu,
    /// x, or 0 below 0.
    Relu,
    /// x, or 0.2 x below 0, as ESRGAN has it.
    LeakyRelu,
}

/// Of [`Activation::LeakyRelu`].
const LEAK: f32 = 0.2;

impl Activation {
    /// The function in double precision: what the vector code is held to, and what a graph's own spelling is
    /// compared with.
    pub(in crate::engine) fn reference(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            Activation::Identity => x,
            Activation::Silu => x * sigmoid(x),
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Activation::Relu => x.max(0.0),
            Activation::LeakyRelu => x.max(f64::from(LEAK) * x),
        }
    }
}

/// The activation of every value, for the body of a function that is compiled for every level.
#[inline(always)]
pub(super) fn each<const FMA: bool>(activation: Activation, values: &mut [f32]) {
    let swish = |x: f32, steepness: f32| x / (1.0 + exp::<FMA>(-steepness * x));
    match activation {
        Activation::Identity => {}
        Activation::Silu => values.iter_mut().for_each(|x| *x = swish(*x, 1.0)),
        Activation::QuickGelu => values.iter_mut().for_each(|x| *x = swish(*x, 1.702)),
        Activation::Gelu => values.iter_mut().for_each(|x| {
            *x = 0.5 * *x * (1.0 + erf::<FMA>(*x * std::f32::consts::FRAC_1_SQRT_2));
        }),
        // What is no number stays none.
        Activation::Relu => values.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
        Activation::LeakyRelu => values.iter_mut().for_each(|x| *x = if *x < 0.0 { LEAK * *x } else { *x }),
    }
}

versions! {
    /// The activation of every value, in place.
    fn activate(activation: Activation, values: &mut [f32]) { each::<FMA>(activation, values) }
}

versions! {
    /// `values[i] += other[i]`.
    fn add(values: &mut [f32], other: &[f32]) {
        values.iter_mut().zip(other).for_each(|(value, other)| *value += other);
    }
}

versions! {
    /// `values[i] *= other[i]`.
    fn multiply(values: &mut [f32], other: &[f32]) {
        values.iter_mut().zip(other).for_each(|(value, other)| *value *= other);
    }
}

versions! {
    /// `out[i] = activation(values[i] * gain[i] + shift[i])`.
    fn affine(values: &[f32], gain: &[f32], shift: &[f32], activation: Activation, out: &mut [f32]) {
        for (((out, x), gain), shift) in out.iter_mut().zip(values).zip(gain).zip(shift) {
            *out = fma::<FMA>(*x, *gain, *shift);
        }
        each::<FMA>(activation, out);
    }
}

versions! {
    /// Adds rows of values and of their squares, channel by channel.
    fn moments(rows: &[f32], sums: &mut [f32], squares: &mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for ((x, sum), square) in row.iter().zip(sums.iter_mut()).zip(squares.iter_mut()) {
                *sum += x;
                *square = fma::<FMA>(*x, *x, *square);
            }
        }
    }
}

/// Partial results that a vector unit keeps side by side.
const LANES: usize = 16;

versions! {
    /// Mean of the values and mean of their squared distances from it.
    fn mean_and_variance(values: &[f32]) -> (f32, f32) {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let count = values.len() as f32;
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for at in 0..LANES {
                lanes[at] += chunk[at];
            }
        }
        let mean = (rest.iter().sum::<f32>() + lanes.iter().sum::<f32>()) / count;
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for at in 0..LANES {
                lanes[at] = fma::<FMA>(chunk[at] - mean, chunk[at] - mean, lanes[at]);
            }
        }
        let rest: f32 = rest.iter().map(|x| (x - mean) * (x - mean)).sum();
        (mean, (rest + lanes.iter().sum::<f32>()) / count)
    }
}

versions! {
    /// The least and the largest value.
    fn range(values: &[f32]) -> (f32, f32) {
        (extreme(values, f32::INFINITY, |a, b| a < b), extreme(values, f32::NEG_INFINITY, |a, b| a > b))
    }
}

/// The value that is before all others; `last` if there is none.
#[inline(always)]
fn extreme(values: &[f32], last: f32, before: impl Fn(f32, f32) -> bool) -> f32 {
    let first = |a: f32, b: f32| if before(a, b) { a } else { b };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [last; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = first(*x, *lane);
        }
    }
    // In halves: one after the other takes as long as a short row itself.
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(low, high)| *low = first(*high, *low));
        half /= 2;
    }
    rest.iter().fold(lanes[0], |so_far, x| first(*x, so_far))
}

versions! {
    /// `out[i] = round((values[i] - minimum) * steps) - zero`, the rounded number being in 0..=255.
    fn encode(values: &[f32], minimum: f32, steps: f32, zero: u8, out: &mut [u8]) {
        // Adding 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
        const MAGIC: f32 = 8_388_608.0;
        for (code, x) in out.iter_mut().zip(values) {
            *code = (((x - minimum) * steps + MAGIC).to_bits() as u8).wrapping_sub(zero);
        }
    }
}

versions! {
    /// Takes integer sums, rows of two panels, into f32 rows of two panels:
    /// `tile += scale[row] * (sums - excess * weight_sums) + offset[row] * weight_sums`.
    fn fold(
        tile: &mut [f32],
        sums: &[i32],
        excess: i32,
        scales: [&[f32]; 2],
        weight_sums: [&[i32]; 2],
    ) {
        let mut weights = [0.0; 2 * PANEL];
        let mut above = [0; 2 * PANEL];
        for (panel, sums) in weight_sums.into_iter().enumerate() {
            for ((weight, above), sum) in weights[panel * PANEL..].iter_mut().zip(&mut above[panel * PANEL..]).zip(sums) {
                (*weight, *above) = (*sum as f32, excess * sum);
            }
        }
        let rows = tile.chunks_exact_mut(2 * PANEL).zip(sums.chunks_exact(2 * PANEL));
        for ((tile, sums), (scale, offset)) in rows.zip(scales[0].iter().zip(scales[1])) {
            for (((tile, sum), weight), above) in tile.iter_mut().zip(sums).zip(&weights).zip(&above) {
                *tile = fma::<FMA>(*scale, sum.wrapping_sub(*above) as f32, fma::<FMA>(*offset, *weight, *tile));
            }
        }
    }
}

versions! {
    /// Adds the products of f32 rows and one panel of f32 weights `[input][channel]` to rows of two panels, from
    /// column `column` on.
    fn dot(tile: &mut [f32], rows: &[&[f32]], weights: &[f32], column: usize) {
        let mut row = 0;
        while row < rows.len() {
            let at = row * 2 * PANEL + column;
            if let Some(rows) = rows[row..].first_chunk::<4>() {
                dot_rows::<4, FMA>(&mut tile[at..], *rows, weights);
                row += 4;
            } else {
                dot_rows::<1, FMA>(&mut tile[at..], [rows[row]], weights);
                row += 1;
            }
        }
    }
}

#[inline(always)]
fn dot_rows<const R: usize, const FMA: bool>(tile: &mut [f32], rows: [&[f32]; R], weights: &[f32]) {
    let inputs = weights.len() / PANEL;
    let rows = rows.map(|row| &row[..inputs]);
    let mut sums = [[0.0; PANEL]; R];
    for (input, weights) in weights.chunks_exact(PANEL).enumerate() {
        for (sums, row) in sums.iter_mut().zip(&rows) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = fma::<FMA>(row[input], *weight, *sum);
            }
        }
    }
    for (tile, sums) in tile.chunks_mut(2 * PANEL).zip(&sums) {
        tile.iter_mut().zip(sums).for_each(|(tile, sum)| *tile += sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Vec<Level> {
        Isa::supported().into_iter().map(Level::of).collect()
    }

    fn wave(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * i) as f32 * 0.37).sin() * 6.0).collect()
    }

    #[test]
    fn activations_are_their_formulas_at_every_level() {
        use Activation::*;
        for level in levels() {
            for activation in [Identity, Silu, QuickGelu, Gelu, Relu, LeakyRelu] {
                let mut values = wave(203);
                let expected: Vec<f64> = values.iter().map(|x| activation.reference(f64::from(*x))).collect();
                activate(level, activation, &mut values);
                for (ours, expected) in values.iter().zip(expected) {
                    assert!((f64::from(*ours) - expected).abs() < 4e-6, "{activation:?} {ours} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_range_holds_the_extremes_wherever_they_stand() {
        for level in levels() {
            for at in [0, 15, 16, 40] {
                let mut values = vec![0.5; 41];
                values[at] = -3.0;
                values[40 - at] = if at == 20 { -3.0 } else { 7.0 };
                assert_eq!(range(level, &values), (-3.0, 7.0));
            }
        }
    }

    #[test]
    fn products_in_f32_are_the_sums_of_products() {
        for level in levels() {
            for rows in [1, 3, 4, 9] {
                let inputs = 13;
                let values: Vec<Vec<f32>> = (0..rows).map(|r| wave(inputs + r)).collect();
                let rows: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
                let weights = wave(inputs * PANEL);
                let mut tile = vec![1.0; rows.len() * 2 * PANEL];
                dot(level, &mut tile, &rows, &weights, PANEL);
                for (r, row) in rows.iter().enumerate() {
                    for c in 0..PANEL {
                        let sum: f64 =
                            (0..inputs).map(|k| f64::from(row[k]) * f64::from(weights[k * PANEL + c])).sum();
                        let got = f64::from(tile[r * 2 * PANEL + PANEL + c]);
                        assert!((got - 1.0 - sum).abs() < 1e-3, "{got} {sum}");
                        assert_eq!(tile[r * 2 * PANEL + c], 1.0);
                    }
                }
            }
        }
    }

    #[test]
    fn mean_and_variance_do_not_cancel() {
        let values: Vec<f32> = (0..77).map(|i| 1000.0 + (i % 7) as f32).collect();
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / 77.0;
        let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / 77.0;
        for level in levels() {
            let (ours, ours_squared) = mean_and_variance(level, &values);
            assert!(
                (f64::from(ours) - mean).abs() < 1e-3 && (f64::from(ours_squared) - variance).abs() < 1e-3
            );
        }
    }
}
