//! Group and layer norms with what follows them: the affine map, the activation, and the coding for a layer that
//! reads codes.

use std::ops::Range;

use super::Machine;
use crate::engine::kernels::codes::Codes;
use crate::engine::kernels::float;
use crate::engine::lower::Norm;

/// Rows whose sums are taken in f32 before they are added up in f64.
pub(in crate::engine) const BLOCK: usize = 64;

/// Where the rows go.
pub(in crate::engine) enum Target<'a> {
    Floats(&'a mut [f32]),
    Codes(&'a mut Codes),
}

/// For each entry of the batch the gain and shift of every channel: norm and affine map in one.
pub(in crate::engine) type ChannelMaps = Vec<[Vec<f32>; 2]>;

/// With `imposed` maps the input is not asked for its mean and variance.
pub(in crate::engine) fn norm(
    machine: &Machine,
    norm: &Norm,
    imposed: Option<&ChannelMaps>,
    input: &[f32],
    target: Target<'_>,
) {
    let channels = norm.channels;
    let own;
    let affine = match imposed {
        Some(maps) => maps,
        None => {
            // A layer norm finds its mean row by row, on the way.
            let by_row = norm.rows == 1 && norm.groups == 1;
            own = if by_row {
                Vec::new()
            } else {
                channel_maps(norm, norm.rows, &moments(machine, norm, 0..norm.rows, input))
            };
            &own
        }
    };
    let apply = |row: usize, out: &mut [f32], scratch: &mut [Vec<f32>; 2]| {
        let values = &input[row * channels..][..channels];
        let (gain, shift): (&[f32], &[f32]) = match affine.get(row / norm.rows) {
            Some([gain, shift]) => (gain, shift),
            None => {
                let (mean, variance) = float::mean_and_variance(machine.unit.level, values);
                let steepness = (variance + norm.epsilon).sqrt().recip();
                let [gain, shift] = scratch;
                for (channel, (to_gain, to_shift)) in gain.iter_mut().zip(shift.iter_mut()).enumerate() {
                    *to_gain = norm.gain[channel] * steepness;
                    *to_shift = norm.shift[channel] - mean * *to_gain;
                }
                (gain, shift)
            }
        };
        float::affine(machine.unit.level, values, gain, shift, norm.activation, out);
    };
    let scratch = || [vec![0.0; channels], vec![0.0; channels]];
    match target {
        Target::Floats(out) => {
            machine.pool.each(machine.pool.rows(out, channels), |(first, part)| {
                let mut scratch = scratch();
                for (row, out) in part.chunks_exact_mut(channels).enumerate() {
                    apply(first + row, out, &mut scratch);
                }
            });
        }
        Target::Codes(codes) => {
            let rows = input.len() / channels;
            codes.resize(rows, channels);
            let parts = codes.parts(rows.div_ceil(machine.pool.threads()).max(1));
            machine.pool.each(parts, |mut part| {
                let (mut scratch, mut out) = (scratch(), vec![0.0; channels]);
                for row in 0..part.rows() {
                    apply(part.first + row, &mut out, &mut scratch);
                    part.encode(machine.unit, row, &out);
                }
            });
        }
    }
}

/// Sums and sums of squares of every channel over every block of `rows`, for each entry of the batch: the same blocks
/// for any number of threads.
pub(in crate::engine) fn moments(
    machine: &Machine,
    norm: &Norm,
    rows: Range<usize>,
    input: &[f32],
) -> Vec<f32> {
    let channels = norm.channels;
    let blocks = rows.len().div_ceil(BLOCK);
    let mut moments = vec![0.0_f32; norm.batch * blocks * 2 * channels];
    machine.pool.each(machine.pool.rows(&mut moments, 2 * channels), |(first, part)| {
        for (at, moments) in part.chunks_exact_mut(2 * channels).enumerate() {
            let (entry, block) = ((first + at) / blocks, (first + at) % blocks);
            let start = rows.start + block * BLOCK;
            let count = BLOCK.min(rows.end - start);
            let values = &input[(entry * norm.rows + start) * channels..][..count * channels];
            let (sums, squares) = moments.split_at_mut(channels);
            float::moments(machine.unit.level, values, sums, squares);
        }
    });
    moments
}

/// What the norm does to each channel, by the [`moments`] of all its `rows`.
pub(in crate::engine) fn channel_maps(norm: &Norm, rows: usize, moments: &[f32]) -> ChannelMaps {
    let Norm { batch, channels, groups, .. } = *norm;
    let size = channels / groups;
    let count = (rows * size) as f64;
    let entry_map = |moments: &[f32]| {
        let mut maps = [vec![0.0; channels], vec![0.0; channels]];
        for group in 0..groups {
            let total = |offset: usize| -> f64 {
                let blocks = moments.chunks_exact(2 * channels);
                blocks.flat_map(|block| &block[offset + group * size..][..size]).map(|x| f64::from(*x)).sum()
            };
            let mean = total(0) / count;
            let variance = (total(channels) / count - mean * mean).max(0.0);
            let steepness = (variance + f64::from(norm.epsilon)).sqrt().recip();
            let channels = group * size..(group + 1) * size;
            let [gains, shifts] = maps.each_mut().map(|map| &mut map[channels.clone()]);
            let given = norm.gain[channels.clone()].iter().zip(&norm.shift[channels.clone()]);
            for ((gain_out, shift_out), (gain, shift)) in gains.iter_mut().zip(shifts).zip(given) {
                let gain = f64::from(*gain) * steepness;
                *gain_out = gain as f32;
                *shift_out = (f64::from(*shift) - mean * gain) as f32;
            }
        }
        maps
    };
    moments.chunks_exact(moments.len() / batch).map(entry_map).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::Isa;
    use crate::engine::kernels::codes::Unit;
    use crate::engine::kernels::float::Activation;
    use crate::engine::pool::Pool;

    #[test]
    fn norms_are_their_formula_for_every_shape_and_thread_count() {
        for (batch, rows, channels, groups) in [(2, 130, 12, 3), (1, 64, 8, 8), (5, 1, 40, 1), (3, 1, 24, 4)]
        {
            let input: Vec<f32> =
                (0..batch * rows * channels).map(|at| (at as f32 * 0.77).sin() * 3.0 + 1.0).collect();
            let norm_op = Norm {
                input: 0,
                batch,
                rows,
                channels,
                groups,
                epsilon: 1e-5,
                gain: (0..channels).map(|c| 1.0 + c as f32 * 0.1).collect(),
                shift: (0..channels).map(|c| c as f32 * 0.05).collect(),
                activation: Activation::Silu,
            };
            let outputs: Vec<Vec<f32>> = [1, 2, 3]
                .into_iter()
                .map(|threads| {
                    let unit = Unit::of(Isa::choose().unwrap());
                    let machine = Machine { pool: Pool::new(threads), unit };
                    let mut out = vec![0.0; input.len()];
                    norm(&machine, &norm_op, None, &input, Target::Floats(&mut out));
                    out
                })
                .collect();
            assert!(outputs.iter().all(|out| *out == outputs[0]), "threads change nothing");
            let size = channels / groups;
            for (at, got) in outputs[0].iter().enumerate() {
                let (entry, channel) = (at / (rows * channels), at % channels);
                let group: Vec<f64> = (0..rows * size)
                    .map(|i| (entry * rows + i / size) * channels + channel / size * size + i % size)
                    .map(|at| f64::from(input[at]))
                    .collect();
                let mean = group.iter().sum::<f64>() / group.len() as f64;
                let variance = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / group.len() as f64;
                let x = (f64::from(input[at]) - mean) / (variance + 1e-5).sqrt();
                let x = x * f64::from(norm_op.gain[channel]) + f64::from(norm_op.shift[channel]);
                let wanted = Activation::Silu.reference(x);
                assert!((f64::from(*got) - wanted).abs() < 1e-4, "{got} {wanted}");
            }
        }
    }
}
