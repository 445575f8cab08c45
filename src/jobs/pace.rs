//! How long jobs take on this machine, learnt from those that ran: what ETAs and deadlines are measured with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diffusion::request::GenerationRequest;

/// How much a new measurement counts against what was known.
const NEW: f64 = 0.3;
/// Kinds of jobs that are remembered.
const KINDS_MAX: usize = 64;

/// What of a request its time depends on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cost {
    /// The pack.
    pub model: String,
    /// Calls of the UNet, at most one a step here.
    pub steps: usize,
    /// Pixels of all rows that go through the UNet in a step.
    pub pixels: usize,
}

impl Cost {
    /// Of a checked request.
    pub fn of(request: &GenerationRequest) -> Self {
        let steps = request.run().map_or(request.num_inference_steps, |run| run.len());
        let guided =
            request.time_cond_proj_dim.is_none() && request.guidance.is_on(request.num_inference_steps);
        let rows = request.candidates * if guided { 2 } else { 1 };
        let made = request.width * request.height * request.magnification * request.magnification;
        Self { model: request.model.clone(), steps, pixels: made * rows }
    }

    fn kind(&self) -> String {
        format!("{} {}", self.model, self.pixels)
    }
}

/// What was measured of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Measured {
    /// Seconds a step.
    step: f64,
    /// Seconds of everything else: text encoder, VAE decoder, writing.
    rest: f64,
    /// See [`Cost::pixels`].
    pixels: usize,
}

/// See the module. Kept in the store, so that a restarted node knows its pace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    kinds: BTreeMap<String, Measured>,
}

impl Pace {
    /// Learns from a job that took `total`, of which `stepping` for `cost.steps` steps.
    pub fn learn(&mut self, cost: &Cost, stepping: Duration, total: Duration) {
        if cost.steps == 0 {
            return;
        }
        let step = stepping.as_secs_f64() / cost.steps as f64;
        let rest = total.saturating_sub(stepping).as_secs_f64();
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&cost.kind()) {
            self.kinds.pop_first();
        }
        let known = self.kinds.entry(cost.kind()).or_insert(Measured { step, rest, pixels: cost.pixels });
        known.step += NEW * (step - known.step);
        known.rest += NEW * (rest - known.rest);
    }

    /// About how long a job will run; `None` while nothing like it has. Other sizes of the same pack are taken to cost as their
    /// pixels.
    pub fn estimate(&self, cost: &Cost) -> Option<Duration> {
        let (step, rest) = self.rates(cost)?;
        Some(Duration::from_secs_f64(step * cost.steps as f64 + rest))
    }

    /// How many steps fit into `time`, one at least where any fits.
    pub fn steps_within(&self, cost: &Cost, time: Duration) -> Option<usize> {
        let (step, rest) = self.rates(cost)?;
        Some(((time.as_secs_f64() - rest) / step.max(1e-9)).max(0.0) as usize)
    }

    /// Seconds a step, and of everything else.
    fn rates(&self, cost: &Cost) -> Option<(f64, f64)> {
        if let Some(known) = self.kinds.get(&cost.kind()) {
            return Some((known.step, known.rest));
        }
        let of_the_pack = format!("{} ", cost.model);
        let distance = |measured: &Measured| measured.pixels.abs_diff(cost.pixels);
        let kinds = self.kinds.iter().filter(|(kind, _)| kind.starts_with(&of_the_pack));
        let (_, nearest) = kinds.min_by_key(|(_, measured)| distance(measured))?;
        let scale = cost.pixels as f64 / nearest.pixels.max(1) as f64;
        Some((nearest.step * scale, nearest.rest * scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(model: &str, steps: usize, pixels: usize) -> Cost {
        Cost { model: model.to_owned(), steps, pixels }
    }

    fn seconds(estimate: Option<Duration>) -> f64 {
        estimate.expect("known").as_secs_f64()
    }

    #[test]
    fn what_ran_once_is_foreseen_for_other_steps_and_sizes() {
        let mut pace = Pace::default();
        assert_eq!(pace.estimate(&cost("a", 10, 100)), None);
        pace.learn(&cost("a", 10, 100), Duration::from_secs(20), Duration::from_secs(25));
        assert!((seconds(pace.estimate(&cost("a", 10, 100))) - 25.0).abs() < 1e-6);
        assert!((seconds(pace.estimate(&cost("a", 4, 100))) - 13.0).abs() < 1e-6);
        assert!((seconds(pace.estimate(&cost("a", 10, 200))) - 50.0).abs() < 1e-6);
        assert_eq!(pace.estimate(&cost("ab", 10, 100)), None, "another pack");
        assert_eq!(pace.steps_within(&cost("a", 10, 100), Duration::from_secs(12)), Some(3));
        assert_eq!(pace.steps_within(&cost("a", 10, 100), Duration::from_secs(4)), Some(0));
    }

    #[test]
    fn it_follows_a_board_that_gets_slower_and_stays_small() {
        let mut pace = Pace::default();
        for _ in 0..30 {
            pace.learn(&cost("a", 1, 100), Duration::from_secs(1), Duration::from_secs(1));
        }
        for _ in 0..30 {
            pace.learn(&cost("a", 1, 100), Duration::from_secs(3), Duration::from_secs(3));
        }
        assert!((seconds(pace.estimate(&cost("a", 1, 100))) - 3.0).abs() < 0.01);
        for pixels in 0..1000 {
            pace.learn(&cost("b", 1, pixels), Duration::from_secs(1), Duration::from_secs(1));
        }
        assert!(pace.kinds.len() <= KINDS_MAX);
        let text = serde_json::to_string(&pace).expect("plain data");
        assert_eq!(serde_json::from_str::<Pace>(&text).expect("its own text"), pace);
    }
}
