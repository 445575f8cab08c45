//! Floats to s8: symmetric, a scale per output channel.

use rayon::prelude::*;

use super::load::Values;
use super::records::Order;

/// Whether a float weight gains by int8: not where so few numbers come in or go out that they carry everything
/// (pixels, latents).
pub(super) fn is_worth_int8(order: &Order) -> bool {
    order.inputs() >= 16 && order.channels() >= 16
}

/// Shares of a channel's largest weight that are tried as its range; as quantize/quantize.py does.
const CLIPS: [f32; 7] = [1.0, 0.98, 0.96, 0.93, 0.9, 0.86, 0.82];

/// Symmetric, one scale per channel: of a few clips the one with the least squared error. All cores share the work.
pub(super) fn quantize(values: &[f32], order: &Order) -> Values {
    let (channels, length) = (order.channels(), order.inputs() * order.taps());
    let place = |channel: usize, at: usize| match order {
        Order::ChannelsFirst { .. } => channel * length + at,
        Order::InputsFirst { .. } => at * channels + channel,
    };
    let quantized: Vec<(Vec<i8>, f32)> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            quantize_channel(&(0..length).map(|at| values[place(channel, at)]).collect::<Vec<_>>())
        })
        .collect();
    let mut codes = vec![0; values.len()];
    for (channel, (own, _)) in quantized.iter().enumerate() {
        for (at, code) in own.iter().enumerate() {
            codes[place(channel, at)] = *code;
        }
    }
    Values::Int8(codes, quantized.into_iter().map(|(_, scale)| scale).collect())
}

/// The codes and the scale of one channel.
fn quantize_channel(values: &[f32]) -> (Vec<i8>, f32) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let code = |value: f32, scale: f32| match scale > 0.0 {
        true => (value / scale).round_ties_even().clamp(-127.0, 127.0),
        false => 0.0,
    };
    let error = |clip: f32| -> f32 {
        let scale = largest * clip / 127.0;
        values.iter().map(|value| (code(*value, scale) * scale - value).powi(2)).sum()
    };
    let errors = CLIPS.map(error);
    let best = (0..CLIPS.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b])).map_or(1.0, |at| CLIPS[at]);
    let scale = largest * best / 127.0;
    (values.iter().map(|value| code(*value, scale) as i8).collect(), scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizing_is_within_half_a_step_of_the_clipped_range() {
        let values: Vec<f32> = (0..17 * 33).map(|at| ((at * at) as f32 * 0.37).sin()).collect();
        let order = Order::InputsFirst { inputs: 17, channels: 33 };
        let Values::Int8(codes, scales) = quantize(&values, &order) else { panic!("codes") };
        order.each(|at, channel, _, _| {
            let clipped = values[at].clamp(-127.0 * scales[channel], 127.0 * scales[channel]);
            let error = (f32::from(codes[at]) * scales[channel] - clipped).abs();
            assert!(error <= 0.5001 * scales[channel], "{error}");
        });
    }
}
