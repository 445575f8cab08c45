//! Our schedulers against diffusers', as shipped and in float64. Golden files: quantize/golden/schedulers.py.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use std::collections::BTreeMap;

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::{self, Float, NoiseSource, Scheduler, SchedulerConfig, SchedulerError};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Golden {
    header: Header,
    /// Timesteps of every number of steps that was not left out.
    schedules: Vec<Vec<Vec<f64>>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Header {
    steps: Vec<usize>,
    elements: usize,
    noise_seed: u32,
}

#[derive(Deserialize)]
struct Case {
    class: String,
    options: Map<String, Value>,
    schedule: Option<usize>,
    /// Number of steps to the reason why diffusers has no result.
    #[serde(default)]
    skip: BTreeMap<String, String>,
}

/// One run of diffusers.
struct Run<'a> {
    case: &'a Case,
    steps: usize,
    timesteps: &'a [f64],
    /// By the float64 copy, after the first, the middle and the last step.
    float64: [&'a [f32]; 3],
    /// After the last step.
    shipped: &'a [f32],
}

impl Golden {
    fn read() -> (Self, Vec<f32>) {
        let golden = serde_json::from_str(include_str!("golden/schedulers/cases.json")).unwrap();
        let values = include_bytes!("golden/schedulers/values.f32")
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        (golden, values)
    }

    fn runs<'a>(&'a self, values: &'a [f32]) -> Vec<Run<'a>> {
        let n = self.header.elements;
        let mut rows = values.chunks_exact(4 * n);
        let mut runs = Vec::new();
        for case in &self.cases {
            let Some(schedule) = case.schedule else { continue };
            let mut timesteps = self.schedules[schedule].iter();
            for &steps in &self.header.steps {
                if case.skip.contains_key(&steps.to_string()) {
                    continue;
                }
                let row = rows.next().expect("a row for every run");
                runs.push(Run {
                    case,
                    steps,
                    timesteps: timesteps.next().expect("timesteps for every run"),
                    float64: [&row[..n], &row[n..2 * n], &row[2 * n..3 * n]],
                    shipped: &row[3 * n..],
                });
            }
        }
        assert!(rows.next().is_none(), "values beyond the last case");
        runs
    }
}

fn build<F: Float>(case: &Case, steps: usize) -> Result<Box<dyn Scheduler<F> + Send>, SchedulerError> {
    let mut entries = case.options.clone();
    entries.insert("_class_name".to_owned(), json!(case.class));
    let config = SchedulerConfig::from_json(&Value::Object(entries).to_string()).unwrap();
    schedulers::build(None, &config, &Map::new(), steps)
}

/// The golden script's `model`, in the same operations.
fn model<F: Float>(sample: &[F], timestep: f64, output: &mut [F]) {
    let r = |value: f64| F::from_f64(value).to_f64();
    for (i, (x, m)) in sample.iter().zip(output).enumerate() {
        let pattern = ((i * 5 % 7) as f64 - 3.0) / 4.0;
        let x = x.to_f64();
        let bounded = r(r(x / r(x.abs() + 1.0)) * 0.75);
        *m = F::from_f64(bounded + r(pattern * r(timestep / 1000.0)));
    }
}

/// Samples after the first, the middle and the last step.
fn run<F: Float>(scheduler: &mut dyn Scheduler<F>, elements: usize, noise_seed: u32) -> [Vec<f64>; 3]
where
    TorchGenerator: NoiseSource<F>,
{
    let mut noise = TorchGenerator::new(noise_seed);
    let mut sample: Vec<F> = (0..elements)
        .map(|i| ((i * 37 % 17) as f64 - 8.0) / 4.0 * scheduler.init_noise_sigma())
        .map(F::from_f64)
        .collect();
    let mut output = vec![F::ZERO; elements];
    let mut states = Vec::new();
    for step in 0..scheduler.timesteps().len() {
        let mut scaled = sample.clone();
        scheduler.scale_model_input(&mut scaled, step);
        model(&scaled, scheduler.timesteps()[step], &mut output);
        scheduler.step(&output, step, &mut sample, &mut noise);
        states.push(sample.iter().map(|x| x.to_f64()).collect::<Vec<f64>>());
    }
    let last = states.len() - 1;
    [states[0].clone(), states[last / 2].clone(), states[last].clone()]
}

/// `|ours - theirs| / |theirs|`; infinite where ours is no number.
fn distance(ours: &[f64], theirs: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut ours.iter().zip(theirs).map(|(a, b)| a - f64::from(*b)));
    let size = norm(&mut theirs.iter().map(|b| f64::from(*b))).max(1e-30);
    let relative = difference / size;
    if relative.is_finite() { relative } else { f64::INFINITY }
}

fn worst(ours: &[Vec<f64>; 3], theirs: &[&[f32]; 3]) -> f64 {
    ours.iter().zip(theirs).map(|(a, b)| distance(a, b)).fold(0.0, f64::max)
}

/// What a run is called in a failure.
fn describe(case: &Case, steps: usize) -> String {
    format!("{} {steps} steps {}", case.class, Value::Object(case.options.clone()))
}

/// Options under which diffusers does not round timesteps, and how far its float32 logarithms may move them.
fn timestep_tolerance(case: &Case) -> f64 {
    let on = |key: &str| case.options.get(key) == Some(&json!(true));
    let cosine = case.options.get("beta_schedule") == Some(&json!("squaredcos_cap_v2"));
    if case.class != "EulerDiscreteScheduler" {
        0.0
    } else if on("use_karras_sigmas") || on("use_exponential_sigmas") || on("use_beta_sigmas") {
        // Cosine betas end at 2e-9 of signal, held in float32.
        if cosine { 0.1 } else { 1e-2 }
    } else {
        1e-4
    }
}

/// How near f32 samples come to the float64 copy.
fn f32_tolerance(case: &Case) -> f64 {
    let is = |key: &str, value: Value| case.options.get(key) == Some(&value);
    let zero_snr = is("rescale_betas_zero_snr", json!(true));
    let pure_noise = zero_snr || is("beta_schedule", json!("squaredcos_cap_v2"));
    let epsilon = case.options.get("prediction_type").is_none_or(|name| name == "epsilon");
    // Samples that are noise but for a part in 1e4 keep three digits of the picture in f32: where it is
    // got from predicted noise, and in DPM-Solver (not ++), which steps from noise to noise.
    if (zero_snr && epsilon) || (pure_noise && is("algorithm_type", json!("dpmsolver"))) {
        1e-2
    } else {
        1e-4
    }
}

#[test]
fn trajectories_are_those_of_diffusers() {
    let (golden, values) = Golden::read();
    let (elements, seed) = (golden.header.elements, golden.header.noise_seed);
    let runs = golden.runs(&values);
    let mut failures = Vec::new();
    for row in &runs {
        let what = describe(row.case, row.steps);
        let mut fail = |problem: String| failures.push(format!("{problem}: {what}"));
        let (mut wide, mut narrow) =
            match (build::<f64>(row.case, row.steps), build::<f32>(row.case, row.steps)) {
                (Ok(wide), Ok(narrow)) => (wide, narrow),
                (Err(error), _) | (_, Err(error)) => {
                    fail(format!("refused, {error}"));
                    continue;
                }
            };
        let tolerance = timestep_tolerance(row.case);
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance;
        if wide.timesteps().len() != row.timesteps.len()
            || !wide.timesteps().iter().zip(row.timesteps).all(near)
        {
            fail(format!("timesteps {:?} and not {:?}", wide.timesteps(), row.timesteps));
        }
        let in_f64 = worst(&run(&mut *wide, elements, seed), &row.float64);
        if in_f64 > 1e-5 {
            fail(format!("f64 differs from float64 by {in_f64:.1e}"));
        }
        let states = run(&mut *narrow, elements, seed);
        let in_f32 = worst(&states, &row.float64);
        if in_f32 > f32_tolerance(row.case) {
            fail(format!("f32 differs from float64 by {in_f32:.1e}"));
        }
        let shipped: Vec<f64> = row.shipped.iter().map(|x| f64::from(*x)).collect();
        // Where float32 takes diffusers itself away from its float64 copy, we cannot be near both.
        let own = distance(&shipped, row.float64[2]);
        let from_shipped = distance(&states[2], row.shipped);
        if from_shipped > f32_tolerance(row.case).max(2.0 * own) {
            fail(format!(
                "f32 differs from diffusers as shipped by {from_shipped:.1e}, its own error {own:.1e}"
            ));
        }
    }
    assert!(runs.len() > 30_000, "only {} runs in the golden file", runs.len());
    assert!(
        failures.is_empty(),
        "{} problems in {} runs:\n{}",
        failures.len(),
        runs.len(),
        failures.join("\n")
    );
}

#[test]
fn what_diffusers_refuses_is_refused_and_what_it_divides_by_zero_is_finite_or_refused() {
    let (golden, _) = Golden::read();
    let (elements, seed) = (golden.header.elements, golden.header.noise_seed);
    let mut failures = Vec::new();
    let mut seen = (0, 0);
    for case in &golden.cases {
        for (steps, reason) in &case.skip {
            let steps = steps.parse().unwrap();
            let built = build::<f32>(case, steps);
            if reason.starts_with("raises") {
                seen.0 += 1;
                if built.is_ok() {
                    failures.push(format!("accepted, though diffusers {reason}: {}", describe(case, steps)));
                }
            } else if let Ok(mut scheduler) = built {
                seen.1 += 1;
                let states = run(&mut *scheduler, elements, seed);
                if !states.iter().flatten().all(|x| x.is_finite()) {
                    failures.push(format!("not finite: {}", describe(case, steps)));
                }
            }
        }
    }
    assert!(seen.0 > 50 && seen.1 > 1000, "too few cases: {seen:?}");
    assert!(failures.is_empty(), "{} problems:\n{}", failures.len(), failures.join("\n"));
}
