//! The scheduler that the pipeline drives: walks a [`Plan`] stage by stage. It is generic over the float, so that
//! tests can run it in f64 against patched diffusers.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::NoiseSource;
use super::float::Float;
use super::plan::{Combination, Kept, Plan, Stage};
use super::prediction::{Level, SampleLimit};

/// A solver with its timesteps set for one picture.
#[derive(Debug)]
pub struct Scheduler<F> {
    plan: Plan,
    timesteps: Vec<f64>,
    /// The sample that the stages of one step start from.
    saved: Vec<f64>,
    /// The newest first, as many as any stage reaches back to. In f64 whatever the sample is in: from nearly
    /// pure noise, DPM-Solver multiplies what was rounded off here by up to `alpha_t / alpha_s` (1e4).
    kept: VecDeque<Vec<f64>>,
    reach: usize,
    noise: Vec<F>,
}

/// What a solver remembers of the steps so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerState {
    saved: Vec<f64>,
    kept: Vec<Vec<f64>>,
}

impl<F: Float> Scheduler<F> {
    /// What it remembers.
    pub fn state(&self) -> SchedulerState {
        SchedulerState { saved: self.saved.clone(), kept: self.kept.iter().cloned().collect() }
    }

    /// Whether `state` can be of a solver of this kind for samples of `size` numbers.
    pub fn takes(&self, state: &SchedulerState, size: usize) -> bool {
        [0, size].contains(&state.saved.len())
            && state.kept.len() <= self.reach
            && state.kept.iter().all(|kept| kept.len() == size)
    }

    /// Goes on from a state that it [`takes`](Scheduler::takes).
    pub fn restore(&mut self, state: SchedulerState) {
        (self.saved, self.kept) = (state.saved, state.kept.into());
    }

    pub(super) fn new(plan: Plan) -> Self {
        Self {
            timesteps: plan.stages.iter().map(|stage| stage.timestep).collect(),
            saved: Vec::new(),
            kept: VecDeque::new(),
            reach: plan.reach(),
            noise: Vec::new(),
            plan,
        }
    }

    /// The timesteps the UNet is called with, in order; one [`Scheduler::step`] each. Solvers that call it more
    /// than once a step (Heun, KDPM2, PNDM's Runge-Kutta steps, Langevin) have more of them than steps.
    pub fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    /// The standard deviation that the initial standard normal noise is scaled to.
    pub fn init_noise_sigma(&self) -> f64 {
        self.plan.init_noise_sigma
    }

    /// What the sample is made of before the UNet call at `step_index`: the factors of the picture and of
    /// standard normal noise.
    pub fn signal_and_noise(&self, step_index: usize) -> (f64, f64) {
        let level = self.plan.stages[step_index].level;
        (level.signal, level.noise)
    }

    /// The sample before the call at `step_index` as it would be on the way to the picture `original`: diffusers'
    /// `add_noise` at that timestep. Image-to-image begins with it at 0; inpainting puts it outside the mask at
    /// `step_index + 1` after each step. After the last step it is the picture itself.
    pub fn add_noise(&self, original: &[F], noise: &[F], step_index: usize) -> Vec<F> {
        assert_eq!(original.len(), noise.len(), "picture and noise have one shape");
        let Some(stage) = self.plan.stages.get(step_index) else {
            return original.to_vec();
        };
        let Level { signal, noise: of_noise, .. } = stage.level;
        let pairs = original.iter().zip(noise);
        pairs.map(|(x, z)| F::from_f64(signal * x.to_f64() + of_noise * z.to_f64())).collect()
    }

    /// What the UNet's `model_output` at `step_index` says the picture will be, given the `sample` it was called
    /// with (not scaled): diffusers' `pred_original_sample`, within the scheduler's limit. For previews.
    pub fn pred_original_sample(&self, model_output: &[F], step_index: usize, sample: &[F]) -> Vec<F> {
        let mut original = Vec::with_capacity(sample.len());
        let level = self.plan.stages[step_index].level;
        self.estimate(model_output, level, sample, &mut original);
        original.into_iter().map(F::from_f64).collect()
    }

    /// Scales `sample` in place to what the UNet expects before the call at `step_index`.
    pub fn scale_model_input(&self, sample: &mut [F], step_index: usize) {
        let scale = self.plan.stages[step_index].level.scale;
        if scale != 1.0 {
            for x in sample {
                *x = F::from_f64(x.to_f64() / scale);
            }
        }
    }

    /// Moves `sample` from `timesteps()[step_index]` to the next one, given the UNet's `model_output`.
    /// Steps are taken in order, from 0.
    pub fn step(
        &mut self,
        model_output: &[F],
        step_index: usize,
        sample: &mut [F],
        noise: &mut dyn NoiseSource<F>,
    ) {
        assert_eq!(model_output.len(), sample.len(), "model output and sample have one shape");
        self.keep(model_output, step_index, sample);
        let stage = &self.plan.stages[step_index];
        if let Some(correction) = &stage.correction {
            self.saved = (0..sample.len()).map(|i| self.combine(correction, model_output, i)).collect();
        } else if stage.saves {
            self.saved.clear();
            self.saved.extend(sample.iter().map(|x| x.to_f64()));
        }
        if let Some(std_dev) = stage.noise {
            self.noise.resize(sample.len(), F::ZERO);
            noise.fill_standard_normal(&mut self.noise);
            for (i, x) in sample.iter_mut().enumerate() {
                let noisy = self.combine(&stage.next, model_output, i) + std_dev * self.noise[i].to_f64();
                *x = F::from_f64(noisy);
            }
        } else {
            for (i, x) in sample.iter_mut().enumerate() {
                *x = F::from_f64(self.combine(&stage.next, model_output, i));
            }
        }
    }

    /// Element `i` of the combination.
    fn combine(&self, combination: &Combination, model_output: &[F], i: usize) -> f64 {
        let mut sum = combination.of_saved * self.saved[i];
        if combination.of_output != 0.0 {
            sum += combination.of_output * model_output[i].to_f64();
        }
        for (factor, kept) in combination.of_kept.iter().zip(&self.kept) {
            sum += factor * kept[i];
        }
        sum
    }

    /// Puts what this stage keeps of the model output before the earlier ones.
    fn keep(&mut self, model_output: &[F], step_index: usize, sample: &[F]) {
        let Stage { level, keeps, .. } = self.plan.stages[step_index];
        let (prediction, limit) = (self.plan.prediction, self.plan.limit);
        let mut newest =
            if self.kept.len() == self.reach { self.kept.pop_back().unwrap_or_default() } else { Vec::new() };
        if self.reach == 0 {
            return;
        }
        newest.clear();
        let pairs = sample.iter().zip(model_output).map(|(x, m)| (x.to_f64(), m.to_f64()));
        match keeps {
            Kept::Output => newest.extend(pairs.map(|(_, m)| m)),
            Kept::Noise if limit == SampleLimit::None => {
                let blend = prediction.noise(level);
                newest.extend(pairs.map(|(x, m)| blend.at(x, m)));
            }
            Kept::OriginalSample | Kept::Noise => self.estimate(model_output, level, sample, &mut newest),
        }
        if keeps == Kept::Noise && limit != SampleLimit::None {
            for (x0, x) in newest.iter_mut().zip(sample) {
                *x0 = (x.to_f64() - level.signal * *x0) / level.noise;
            }
        }
        self.kept.push_front(newest);
    }

    /// The denoised estimate within its limit, written to the end of `original`.
    fn estimate(&self, model_output: &[F], level: Level, sample: &[F], original: &mut Vec<f64>) {
        let blend = self.plan.prediction.original_sample(level);
        let pairs = sample.iter().zip(model_output);
        original.extend(pairs.map(|(x, m)| blend.at(x.to_f64(), m.to_f64())));
        self.plan.limit.apply(original);
    }
}
