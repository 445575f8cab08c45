//! Where a picture is between two steps, as bytes: whoever goes on from them makes the same picture, bit for bit.
//!
//! Latents, the solver's memory and the state of the random numbers are all that a step changes; everything else
//! follows from the request, the pack and the build, which whoever keeps the bytes has to compare.

use serde::{Deserialize, Serialize};

use super::canvas::{Canvas, CanvasState};

/// Keeps checkpoints for the pipeline; asked between steps.
pub trait Checkpoints {
    /// What an earlier attempt at the same request left; given out once.
    fn resume(&mut self) -> Option<Vec<u8>>;
    /// Whether one is wanted now.
    fn is_due(&mut self) -> bool;
    /// Takes one.
    fn save(&mut self, checkpoint: Vec<u8>);
}

/// Never wants any.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCheckpoints;

impl Checkpoints for NoCheckpoints {
    fn resume(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn is_due(&mut self) -> bool {
        false
    }

    fn save(&mut self, _: Vec<u8>) {}
}

/// The content of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    /// Steps done.
    step: usize,
    /// Of every picture of the request.
    canvases: Vec<CanvasState>,
}

/// The bytes of `canvases` after `step` steps.
pub(super) fn save(step: usize, canvases: &[Canvas]) -> Vec<u8> {
    let canvases = canvases.iter().map(Canvas::state).collect();
    postcard::to_stdvec(&Snapshot { step, canvases }).expect("numbers in memory")
}

/// Puts `canvases` where `bytes` say, and returns how many of `steps` are done; `None`, and nothing changes, where the
/// bytes are not of this request.
pub(super) fn restore(bytes: &[u8], canvases: &mut [Canvas], steps: usize) -> Option<usize> {
    let snapshot: Snapshot = postcard::from_bytes(bytes).ok()?;
    let fits = snapshot.step <= steps
        && snapshot.canvases.len() == canvases.len()
        && snapshot.canvases.iter().zip(&*canvases).all(|(state, canvas)| canvas.takes(state));
    if !fits {
        return None;
    }
    for (state, canvas) in snapshot.canvases.into_iter().zip(canvases) {
        canvas.restore(state);
    }
    Some(snapshot.step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::canvas::Seeds;
    use crate::diffusion::decoding::Decoder;
    use crate::diffusion::presets::{PackDefaults, Preset};
    use crate::diffusion::request::{GenerationRequest, Limits, RawRequest};
    use crate::diffusion::schedulers::{SchedulerConfig, SchedulerName};

    const STEPS: usize = 9;

    fn own() -> SchedulerConfig {
        SchedulerConfig::from_json(
            r#"{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}"#,
        )
        .expect("a configuration")
    }

    fn canvases(scheduler: &str) -> Vec<Canvas> {
        let preset = Preset {
            width: 64,
            height: 64,
            steps: STEPS,
            guidance_scale: 1.0,
            scheduler: None,
            unet: "unet".to_owned(),
            time_cond_proj_dim: None,
            decoder: Decoder::Full,
        };
        let pack = PackDefaults::new(preset, 8).with_scheduler(own());
        let raw = RawRequest {
            prompt: "a fox".to_owned(),
            scheduler: Some(scheduler.to_owned()),
            ..RawRequest::default()
        };
        let request = GenerationRequest::new(raw, &Limits::default(), &pack, || 7).expect(scheduler);
        let canvas = |index| Canvas::new(&request, &own(), Seeds::of(&request, index), [2, 3, 5], None, None);
        (0..2).map(|index| canvas(index).expect(scheduler)).collect()
    }

    /// Some model: its output depends on everything that it sees.
    fn advance(canvases: &mut [Canvas], step: usize) {
        for canvas in canvases {
            let output: Vec<f32> =
                canvas.model_input(step).iter().map(|x| libm::sinf(3.0 * x) + 0.1).collect();
            canvas.advance(&output, step);
        }
    }

    #[test]
    fn every_scheduler_goes_on_from_every_step_to_the_same_bits() {
        for scheduler in SchedulerName::table() {
            let mut whole = canvases(scheduler);
            let steps = whole[0].scheduler.timesteps().len();
            for cut in 1..=steps {
                let mut first = canvases(scheduler);
                (0..cut).for_each(|step| advance(&mut first, step));
                let bytes = save(cut, &first);
                let mut second = canvases(scheduler);
                assert_eq!(restore(&bytes, &mut second, steps), Some(cut), "{scheduler}");
                (cut..steps).for_each(|step| advance(&mut second, step));
                if cut == 1 {
                    (0..steps).for_each(|step| advance(&mut whole, step));
                }
                for (one, other) in whole.iter().zip(&second) {
                    let bits =
                        |canvas: &Canvas| canvas.latents.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(one), bits(other), "{scheduler} from step {cut} of {steps}");
                }
            }
        }
    }

    #[test]
    fn bytes_of_something_else_change_nothing() {
        let mut made = canvases("dpmpp-2m");
        advance(&mut made, 0);
        let bytes = save(1, &made);
        let mut fewer = canvases("dpmpp-2m");
        fewer.pop();
        assert_eq!(restore(&bytes, &mut fewer, STEPS), None);
        assert_eq!(restore(&bytes, &mut canvases("dpmpp-2m"), 0), None);
        assert_eq!(restore(&bytes[..bytes.len() / 2], &mut canvases("dpmpp-2m"), STEPS), None);
        assert_eq!(restore(b"", &mut canvases("dpmpp-2m"), STEPS), None);
    }
}
