//! What must hold of every solver whatever diffusers does: on Gaussian data, whose score is known exactly, those of
//! the differential equation converge with their order, and those that draw noise end at the Gaussian.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::{self, NoiseSource, Scheduler, SchedulerConfig};
use serde_json::{Map, Value, json};

/// A scheduler of `class` for a model that predicts the noise.
fn build(class: &str, options: &Value, steps: usize) -> Scheduler<f64> {
    let mut entries = options.as_object().unwrap().clone();
    entries.insert("_class_name".to_owned(), json!(class));
    let config = SchedulerConfig::from_entries(entries).unwrap();
    schedulers::build(None, &config, &Map::new(), steps)
        .unwrap_or_else(|error| panic!("{class} {options}: {error}"))
}

/// The noise level of the call at `step`.
fn sigma(scheduler: &Scheduler<f64>, step: usize) -> f64 {
    let (signal, noise) = scheduler.signal_and_noise(step);
    noise / signal
}

/// No noise at all, and none wanted.
struct NoNoise;

impl NoiseSource<f64> for NoNoise {
    fn fill_standard_normal(&mut self, _: &mut [f64]) {
        panic!("a solver of the differential equation draws no noise");
    }
}

/// Independent components with these means and deviations, and where each path lies, in deviations from the mean.
const MEANS: [f64; 4] = [0.5, -0.3, 0.0, 1.0];
const DEVIATIONS: [f64; 4] = [0.3, 0.7, 1.0, 1.6];
const PATHS: [f64; 4] = [1.3, -0.8, 0.6, -1.7];

/// The paths at a noise level: the exact solution.
fn exact(sigma: f64) -> [f64; 4] {
    std::array::from_fn(|i| MEANS[i] + PATHS[i] * (DEVIATIONS[i] * DEVIATIONS[i] + sigma * sigma).sqrt())
}

/// Where a run is compared with the exact solution.
#[derive(Clone, Copy)]
enum At {
    /// After the last step, at the least noise level of training.
    SigmaMin,
    /// Before the last call: from there these go to a noise level of zero in one step, however many steps there are.
    LastCall,
    /// Before the call at this timestep.
    Timestep(f64),
}

/// The distance of a run from the exact solution.
fn error(class: &str, options: &Value, at: At, steps: usize) -> f64 {
    let mut scheduler = build(class, options, steps);
    let calls = scheduler.timesteps().len();
    let end = match at {
        At::SigmaMin => calls,
        At::LastCall => calls - 1,
        At::Timestep(t) => scheduler.timesteps().iter().position(|other| *other == t).unwrap(),
    };
    let (signal, _) = scheduler.signal_and_noise(0);
    let mut sample = exact(sigma(&scheduler, 0)).map(|x| signal * x);
    for step in 0..end {
        let ((signal, _), level) = (scheduler.signal_and_noise(step), sigma(&scheduler, step));
        let output: [f64; 4] = std::array::from_fn(|i| {
            level * (sample[i] / signal - MEANS[i]) / (DEVIATIONS[i] * DEVIATIONS[i] + level * level)
        });
        scheduler.step(&output, step, &mut sample, &mut NoNoise);
    }
    let (signal, level) = match at {
        At::SigmaMin => {
            // Of the cosine betas below, by their first.
            let bar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
            let beta = 1.0 - bar(1.0 / 1000.0) / bar(0.0);
            ((1.0 - beta).sqrt(), (beta / (1.0 - beta)).sqrt())
        }
        At::LastCall | At::Timestep(_) => (scheduler.signal_and_noise(end).0, sigma(&scheduler, end)),
    };
    let there = exact(level);
    (0..4).map(|i| (sample[i] / signal - there[i]).powi(2)).sum::<f64>().sqrt()
}

/// The options of one solver, the order its paper states, and numbers of steps, doubling, that show it.
struct Solver {
    class: &'static str,
    options: Value,
    at: At,
    order: f64,
    steps: [usize; 2],
}

fn lambda_solver(class: &'static str, order: f64, steps: usize, mut options: Value) -> Solver {
    let common = json!({
        // From a noise level of 20,000, where the estimate of the picture is constant nearly: what the first steps,
        // of lower order for want of history, add to the error is nothing.
        "beta_schedule": "squaredcos_cap_v2", "use_exponential_sigmas": true, "lower_order_final": false,
        "final_sigmas_type": "sigma_min",
    });
    options.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
    Solver { class, options, at: At::SigmaMin, order, steps: [steps, 2 * steps] }
}

fn k_solver(class: &'static str, order: f64, steps: usize, kind: &str) -> Solver {
    let options = json!({"beta_schedule": "squaredcos_cap_v2", kind: true});
    Solver { class, options, at: At::LastCall, order, steps: [steps, 2 * steps] }
}

/// Solvers whose timesteps are whole: many of them, and compared at a tenth of the way to the picture.
fn whole_solver(class: &'static str, order: f64, steps: usize, mut options: Value) -> Solver {
    let common = json!({
        "num_train_timesteps": 100_000, "beta_start": 1e-6, "beta_end": 2e-4, "timestep_spacing": "trailing",
        "clip_sample": false,
    });
    options.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
    Solver { class, options, at: At::Timestep(9_999.0), order, steps: [steps, 2 * steps] }
}

fn solvers() -> Vec<Solver> {
    let mut all = vec![
        whole_solver("DDIMScheduler", 1.0, 200, json!({})),
        whole_solver("PNDMScheduler", 2.0, 200, json!({"skip_prk_steps": true})),
        whole_solver("PNDMScheduler", 2.0, 200, json!({"skip_prk_steps": false})),
    ];
    for kind in ["use_karras_sigmas", "use_exponential_sigmas"] {
        all.push(k_solver("EulerDiscreteScheduler", 1.0, 320, kind));
        all.push(k_solver("HeunDiscreteScheduler", 2.0, 160, kind));
        all.push(k_solver("KDPM2DiscreteScheduler", 2.0, 160, kind));
        all.push(k_solver("LMSDiscreteScheduler", 4.0, 400, kind));
    }
    let (multistep, singlestep) = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler");
    for algorithm in ["dpmsolver++", "dpmsolver"] {
        let with = |order: u64, rule: &str| json!({"algorithm_type": algorithm, "solver_order": order, "solver_type": rule});
        for class in [multistep, singlestep] {
            all.push(lambda_solver(class, 1.0, 480, with(1, "midpoint")));
            all.push(lambda_solver(class, 2.0, 240, with(2, "midpoint")));
            all.push(lambda_solver(class, 2.0, 240, with(2, "heun")));
        }
        all.push(lambda_solver(singlestep, 3.0, 240, with(3, "midpoint")));
        all.push(lambda_solver(singlestep, 3.0, 240, with(3, "heun")));
        // As diffusers and the authors have it, and as the polynomial has it.
        all.push(lambda_solver(multistep, 2.0, 240, with(3, "midpoint")));
        let mut exact = with(3, "midpoint");
        exact["exact_third_order"] = json!(true);
        all.push(lambda_solver(multistep, 3.0, 240, exact));
    }
    for order in [1u64, 2, 3] {
        all.push(lambda_solver("DEISMultistepScheduler", order as f64, 240, json!({"solver_order": order})));
        for rule in ["bh1", "bh2"] {
            for predict_x0 in [true, false] {
                let options = json!({"solver_order": order, "solver_type": rule, "predict_x0": predict_x0});
                all.push(lambda_solver("UniPCMultistepScheduler", order as f64 + 1.0, 240, options.clone()));
                let mut predictor = options;
                predictor["disable_corrector"] = (0..2000).collect::<Vec<_>>().into();
                all.push(lambda_solver("UniPCMultistepScheduler", order as f64, 240, predictor));
            }
        }
    }
    all
}

#[test]
fn solvers_of_the_differential_equation_converge_with_their_order() {
    let mut failures = Vec::new();
    for Solver { class, mut options, at, order, steps } in solvers() {
        let [coarse, fine] = steps.map(|steps| error(class, &options, at, steps));
        let measured = (coarse / fine).log2();
        if options.as_object_mut().unwrap().remove("disable_corrector").is_some() {
            options["corrector"] = json!(false);
        }
        let line = format!("{measured:.2} for {order}, {coarse:.1e} {fine:.1e}: {class} {options}");
        println!("{line}");
        if measured.is_nan() || measured < order - 0.2 {
            failures.push(line);
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// A Gaussian in two dimensions whose components go together.
const MEAN: [f64; 2] = [0.4, -0.7];
const COVARIANCE: [[f64; 2]; 2] = [[0.5, 0.3], [0.3, 0.8]];
/// Fewer where this runs in an emulator; `same_bits` says that the paths are the same there.
const SAMPLES: usize = if cfg!(target_arch = "aarch64") { 4_000 } else { 100_000 };

/// The noise in `x`, as a perfect model predicts it: `noise S^-1 (x - signal mean)`, where S is the covariance
/// at this level.
fn noise_in(x: &[f64], signal: f64, noise: f64) -> [f64; 2] {
    let s =
        |i: usize, j: usize| signal * signal * COVARIANCE[i][j] + if i == j { noise * noise } else { 0.0 };
    let determinant = s(0, 0) * s(1, 1) - s(0, 1) * s(1, 0);
    let d = [x[0] - signal * MEAN[0], x[1] - signal * MEAN[1]];
    let solved = [s(1, 1) * d[0] - s(0, 1) * d[1], s(0, 0) * d[1] - s(1, 0) * d[0]];
    solved.map(|value| noise * value / determinant)
}

/// Mean and covariance of the pairs in `samples`.
fn moments(samples: &[f64]) -> ([f64; 2], [[f64; 2]; 2]) {
    let n = (samples.len() / 2) as f64;
    let over = |f: &dyn Fn(&[f64]) -> f64| samples.chunks_exact(2).map(f).sum::<f64>() / n;
    let mean = [0, 1].map(|i| over(&|x| x[i]));
    let covariance = [0, 1].map(|i| [0, 1].map(|j| over(&|x| (x[i] - mean[i]) * (x[j] - mean[j]))));
    (mean, covariance)
}

/// Draws all samples at once, as the elements of one picture, and says how far mean and covariance end from the
/// Gaussian's, in standard errors of that many samples.
fn deviations(class: &str, options: &Value, steps: usize) -> [f64; 5] {
    let mut options = options.clone();
    // Up to a noise level of 3.4, four times the data's: solvers of first order need a thousand steps for this
    // many samples to see no bias.
    options["beta_end"] = json!(0.005);
    let mut scheduler = build(class, &options, steps);
    let mut generator = TorchGenerator::new(5);
    // Where the noise begins something is left of the picture: start from the true distribution there.
    let (signal, noise) = scheduler.signal_and_noise(0);
    let [mut z, mut sample] = [0, 1].map(|_| vec![0.0f64; 2 * SAMPLES]);
    generator.fill_standard_normal(&mut z);
    generator.fill_standard_normal(&mut sample);
    let a = COVARIANCE[0][0].sqrt();
    let b = COVARIANCE[0][1] / a;
    let c = (COVARIANCE[1][1] - b * b).sqrt();
    for (x, z) in sample.chunks_exact_mut(2).zip(z.chunks_exact(2)) {
        let picture = [MEAN[0] + a * z[0], MEAN[1] + b * z[0] + c * z[1]];
        (0..2).for_each(|i| x[i] = signal * picture[i] + noise * x[i]);
    }
    for step in 0..scheduler.timesteps().len() {
        let (signal, noise) = scheduler.signal_and_noise(step);
        let output: Vec<f64> = sample.chunks_exact(2).flat_map(|x| noise_in(x, signal, noise)).collect();
        scheduler.step(&output, step, &mut sample, &mut generator);
    }
    let (mean, covariance) = moments(&sample);
    let n = SAMPLES as f64;
    let of_mean = |i: usize| (mean[i] - MEAN[i]) / (COVARIANCE[i][i] / n).sqrt();
    let of_covariance = |i: usize, j: usize| {
        let own = COVARIANCE[i][i] * COVARIANCE[j][j] + COVARIANCE[i][j] * COVARIANCE[i][j];
        (covariance[i][j] - COVARIANCE[i][j]) / (own / n).sqrt()
    };
    [of_mean(0), of_mean(1), of_covariance(0, 0), of_covariance(0, 1), of_covariance(1, 1)]
}

#[test]
fn solvers_that_draw_noise_end_at_the_gaussian() {
    let (multistep, singlestep) = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler");
    let karras = json!({"use_karras_sigmas": true});
    let solver = |algorithm: &str, order: u64| {
        json!({"algorithm_type": algorithm, "solver_order": order, "use_karras_sigmas": true,
               "final_sigmas_type": "sigma_min"})
    };
    let cases = [
        ("DDPMScheduler", 1000, json!({"clip_sample": false})),
        ("DDPMScheduler", 1000, json!({"clip_sample": false, "variance_type": "fixed_large"})),
        ("DDIMScheduler", 1000, json!({"clip_sample": false, "eta": 1.0})),
        ("DDIMScheduler", 1000, json!({"clip_sample": false, "eta": 0.5})),
        ("EulerAncestralDiscreteScheduler", 1000, json!({})),
        ("KDPM2AncestralDiscreteScheduler", 150, karras.clone()),
        (multistep, 600, solver("sde-dpmsolver++", 1)),
        (multistep, 100, solver("sde-dpmsolver++", 2)),
        (multistep, 100, solver("sde-dpmsolver++", 3)),
        (multistep, 400, solver("sde-dpmsolver", 1)),
        (multistep, 200, solver("sde-dpmsolver", 2)),
        (singlestep, 1000, solver("sde-dpmsolver++", 2)),
        ("LangevinScheduler", 400, karras),
    ];
    let mut failures = Vec::new();
    for (class, steps, options) in cases {
        let deviations = deviations(class, &options, steps);
        let line = format!("{deviations:.1?}: {class} {steps} {options}");
        println!("{line}");
        // Five numbers a case: one beyond 4 standard errors would be seen by chance once in 240 such tests.
        if !deviations.iter().all(|deviation| deviation.abs() < 4.0) {
            failures.push(line);
        }
    }
    assert!(failures.is_empty(), "in standard errors:\n{}", failures.join("\n"));
}
