//! DPM-Solver and DPM-Solver++, multistep, orders 1 to 3: Lu et al. 2022, <https://arxiv.org/abs/2206.00927>
//! and <https://arxiv.org/abs/2211.01095>. Same options as diffusers' `DPMSolverMultistepScheduler`.
//!
//! With `alpha = 1 / sqrt(sigma^2 + 1)`, `sigma_t = sigma alpha` and `lambda = ln(alpha / sigma_t)`, a
//! step from s to t with `h = lambda_t - lambda_s` is, for both algorithms,
//! `x_t = base x + k (E m0 + W D1 + P2 D2)`:
//!
//! | | DPM-Solver++ (m = x0) | DPM-Solver (m = noise) |
//! | --- | --- | --- |
//! | z | -h | h |
//! | base | sigma_t / sigma_s | alpha_t / alpha_s |
//! | k | -alpha_t | -sigma_t |
//!
//! where `E = e^z - 1`, `P1 = E / z - 1`, `P2 = (E - z) / z^2 - 1/2`; W is `E / 2` for the second
//! order's midpoint rule and P1 for Heun's and for the third order. D1 and D2 are the divided
//! differences of earlier model outputs, zero below second and third order.

use super::dpm_schedule::schedule;
use super::error::SchedulerError;
use super::float::Float;
use super::options::Options;
use super::prediction::{Blend, PredictionType, SampleLimit};
use super::sigmas::FinalSigma;
use super::{NoiseSource, Scheduler};

/// Which integral is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    /// Of the denoised estimate.
    DpmSolverPlusPlus,
    /// Of the noise.
    DpmSolver,
}

pub(super) struct DpmSolverMultistep {
    solver: Solver,
    prediction: PredictionType,
    limit: SampleLimit,
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<f64>,
    /// Converted model outputs, newest first, as many as the order. In f64 whatever the sample is in: from
    /// nearly pure noise, DPM-Solver multiplies what was rounded off here by up to `alpha_t / alpha_s` (1e4).
    history: Vec<Vec<f64>>,
}

/// The options that decide the coefficients of a step.
struct Solver {
    algorithm: Algorithm,
    order: usize,
    heun: bool,
    lower_order_final: bool,
    euler_at_final: bool,
    final_sigma: FinalSigma,
}

impl Solver {
    fn read(options: &Options) -> Result<Self, SchedulerError> {
        let algorithms = [
            ("dpmsolver++", Algorithm::DpmSolverPlusPlus),
            ("dpmsolver", Algorithm::DpmSolver),
            // diffusers takes DEIS configurations for this.
            ("deis", Algorithm::DpmSolverPlusPlus),
        ];
        // And those of DEIS and UniPC for midpoint.
        let rules = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
        let solver = Self {
            algorithm: options.choice("algorithm_type", Algorithm::DpmSolverPlusPlus, &algorithms)?,
            order: options.count("solver_order", 2, 1..=3)?,
            heun: options.choice("solver_type", false, &rules)?,
            lower_order_final: options.flag("lower_order_final", true)?,
            euler_at_final: options.flag("euler_at_final", false)?,
            final_sigma: FinalSigma::read(options)?,
        };
        if solver.algorithm == Algorithm::DpmSolver && solver.final_sigma == FinalSigma::Zero {
            let message = "is sigma_min with algorithm_type dpmsolver, which divides by it";
            return Err(SchedulerError::new("final_sigmas_type", "zero", message));
        }
        Ok(solver)
    }

    /// The order of the step at `index`: no history at first, and stable low orders at the end of short runs.
    fn order_at(&self, index: usize, count: usize) -> usize {
        const SHORT: usize = 15;
        let cautious = self.lower_order_final && count < SHORT;
        let left = count - index;
        let last_is_euler = self.euler_at_final || cautious || self.final_sigma == FinalSigma::Zero;
        let most = match left {
            1 if last_is_euler => 1,
            2 if cautious => 2,
            _ => 3,
        };
        self.order.min(index + 1).min(most)
    }

    /// The factor of the sample and those of the model outputs, newest first, for the step at `index`.
    fn coefficients(&self, sigmas: &[f64], index: usize, order: usize) -> (f64, [f64; 3]) {
        let lambda = |i: usize| -libm::log(sigmas[i]);
        let (alpha_s, sigma_s) = alpha_sigma(sigmas[index]);
        let (alpha_t, sigma_t) = alpha_sigma(sigmas[index + 1]);
        let h = lambda(index + 1) - lambda(index);
        let (z, base, k) = match self.algorithm {
            Algorithm::DpmSolverPlusPlus => (-h, sigma_t / sigma_s, -alpha_t),
            Algorithm::DpmSolver => (h, alpha_t / alpha_s, -sigma_t),
        };
        let e = libm::expm1(z);
        let mut outputs = [k * e, 0.0, 0.0];
        // D1 and D2 as factors of m0, m1, m2. Written without 1 / h, which is infinite where two
        // noise levels are equal (Karras sigmas down to sigma_min).
        let (d1, d2) = match order {
            1 => return (base, outputs),
            2 => {
                let r = ratio(h, lambda(index) - lambda(index - 1));
                ([r, -r, 0.0], [0.0; 3])
            }
            _ => {
                let h0 = lambda(index) - lambda(index - 1);
                let h1 = lambda(index - 1) - lambda(index - 2);
                let (newer, older, both) = (ratio(h, h0), ratio(h, h1), ratio(h, h0 + h1));
                let tilt = ratio(h0, h0 + h1);
                let difference = [newer, -newer - older, older];
                let d1 = [newer + tilt * difference[0], -newer + tilt * difference[1], tilt * difference[2]];
                (d1, difference.map(|d| both * d))
            }
        };
        let w = if order == 2 && !self.heun { 0.5 * e } else { p1(z) };
        for i in 0..3 {
            outputs[i] += k * (w * d1[i] + p2(z) * d2[i]);
        }
        (base, outputs)
    }
}

/// Signal and noise of the variance-preserving process at noise level `sigma`.
fn alpha_sigma(sigma: f64) -> (f64, f64) {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}

/// `a / b`, or 0 where `b` is: two equal noise levels hold no slope.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// `(e^z - 1) / z - 1`, by its series where the quotient would cancel.
fn p1(z: f64) -> f64 {
    if z.abs() < 1e-3 {
        z / 2.0 * (1.0 + z / 3.0 * (1.0 + z / 4.0 * (1.0 + z / 5.0)))
    } else {
        libm::expm1(z) / z - 1.0
    }
}

/// `(e^z - 1 - z) / z^2 - 1/2`, likewise.
fn p2(z: f64) -> f64 {
    if z.abs() < 1e-2 {
        z / 6.0 * (1.0 + z / 4.0 * (1.0 + z / 5.0 * (1.0 + z / 6.0 * (1.0 + z / 7.0))))
    } else {
        (libm::expm1(z) - z) / (z * z) - 0.5
    }
}

impl DpmSolverMultistep {
    pub(super) fn new(options: &Options, num_inference_steps: usize) -> Result<Self, SchedulerError> {
        for key in ["use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting", "variance_type"] {
            options.must_be_off(key)?;
        }
        let solver = Solver::read(options)?;
        let (timesteps, sigmas) = schedule(options, num_inference_steps, solver.final_sigma)?;
        Ok(Self {
            history: Vec::with_capacity(solver.order),
            solver,
            prediction: PredictionType::read(options)?,
            limit: SampleLimit::read(options, false)?,
            timesteps,
            sigmas,
        })
    }

    /// What the algorithm integrates, the denoised estimate or the noise, written over `converted`.
    fn convert<F: Float>(&self, model_output: &[F], sample: &[F], sigma: f64, converted: &mut Vec<f64>) {
        let (alpha, sigma) = alpha_sigma(sigma);
        let original = self.prediction.original_sample(alpha, sigma);
        let noise = self.prediction.noise(alpha, sigma);
        let fill = |converted: &mut Vec<f64>, blend: Blend| {
            converted.clear();
            let pairs = sample.iter().zip(model_output);
            converted.extend(pairs.map(|(x, m)| blend.at(x.to_f64(), m.to_f64())));
        };
        match self.solver.algorithm {
            Algorithm::DpmSolverPlusPlus => {
                fill(converted, original);
                self.limit.apply(converted);
            }
            Algorithm::DpmSolver if self.limit == SampleLimit::None => fill(converted, noise),
            Algorithm::DpmSolver => {
                fill(converted, original);
                self.limit.apply(converted);
                for (x0, x) in converted.iter_mut().zip(sample) {
                    *x0 = (x.to_f64() - alpha * *x0) / sigma;
                }
            }
        }
    }
}

impl<F: Float> Scheduler<F> for DpmSolverMultistep {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    fn scale_model_input(&self, _sample: &mut [F], _step_index: usize) {}

    fn step(
        &mut self,
        model_output: &[F],
        step_index: usize,
        sample: &mut [F],
        _noise: &mut dyn NoiseSource<F>,
    ) {
        assert_eq!(model_output.len(), sample.len(), "model output and sample have one shape");
        let full = self.history.len() == self.solver.order;
        let mut newest = if full { self.history.pop().unwrap_or_default() } else { Vec::new() };
        self.convert(model_output, sample, self.sigmas[step_index], &mut newest);
        self.history.insert(0, newest);
        let order = self.solver.order_at(step_index, self.timesteps.len());
        let (base, outputs) = self.solver.coefficients(&self.sigmas, step_index, order);
        for (i, x) in sample.iter_mut().enumerate() {
            let mut next = base * x.to_f64();
            for (factor, output) in outputs.iter().zip(&self.history).take(order) {
                next += factor * output[i];
            }
            *x = F::from_f64(next);
        }
    }
}
