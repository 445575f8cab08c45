//! Our schedulers against diffusers', as shipped and in float64. Golden files: quantize/golden/schedulers.py.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use std::collections::BTreeMap;
use std::fs;

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
    /// One in so many elements is written down.
    stride: usize,
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

const CLASSES: [&str; 15] = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "LCMScheduler",
    "TCDScheduler",
];

impl Golden {
    fn read(class: &str) -> (Self, Vec<f32>) {
        let path = |ending: &str| {
            let root = env!("CARGO_MANIFEST_DIR");
            format!("{root}/tests/golden/schedulers/{class}.{ending}")
        };
        let golden = serde_json::from_slice(&fs::read(path("json")).unwrap()).unwrap();
        let values = fs::read(path("f32")).unwrap();
        let values =
            values.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        (golden, values)
    }

    fn runs<'a>(&'a self, values: &'a [f32]) -> Vec<Run<'a>> {
        let n = self.header.elements / self.header.stride;
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

fn build<F: Float>(case: &Case, steps: usize) -> Result<Scheduler<F>, SchedulerError> {
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
fn run<F: Float>(mut scheduler: Scheduler<F>, header: &Header) -> [Vec<f64>; 3]
where
    TorchGenerator: NoiseSource<F>,
{
    let mut noise = TorchGenerator::new(header.noise_seed);
    let mut sample: Vec<F> = (0..header.elements)
        .map(|i| ((i * 37 % 17) as f64 - 8.0) / 4.0 * scheduler.init_noise_sigma())
        .map(F::from_f64)
        .collect();
    let mut output = vec![F::ZERO; header.elements];
    let mut states = Vec::new();
    for step in 0..scheduler.timesteps().len() {
        let mut scaled = sample.clone();
        scheduler.scale_model_input(&mut scaled, step);
        model(&scaled, scheduler.timesteps()[step], &mut output);
        scheduler.step(&output, step, &mut sample, &mut noise);
        states.push(sample.iter().step_by(header.stride).map(|x| x.to_f64()).collect::<Vec<f64>>());
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

/// How far timesteps with fractions may be off: diffusers works them out from logarithms in float32.
fn timestep_tolerance(case: &Case) -> f64 {
    const FRACTIONS: [&str; 4] = ["Euler", "LMS", "Heun", "KDPM2"];
    let on = |key: &str| case.options.get(key) == Some(&json!(true));
    let own = on("use_karras_sigmas") || on("use_exponential_sigmas") || on("use_beta_sigmas");
    if !FRACTIONS.iter().any(|class| case.class.starts_with(class)) {
        0.0
    } else if own || case.class.starts_with("KDPM2") {
        // Cosine betas end at 2e-9 of signal, held in float32.
        if is_cosine(case) { 0.1 } else { 1e-2 }
    } else {
        1e-4
    }
}

fn is_cosine(case: &Case) -> bool {
    case.options.get("beta_schedule") == Some(&json!("squaredcos_cap_v2"))
}

/// The greatest distances of a class, for the summary.
#[derive(Default)]
struct Worst {
    in_f64: f64,
    in_f32: f64,
    from_shipped: f64,
    /// Runs further than 1e-4 from the float64 copy: ours in f32, and diffusers'.
    beyond: usize,
    diffusers_beyond: usize,
}

#[test]
fn trajectories_are_those_of_diffusers() {
    let mut failures = Vec::new();
    let mut count = 0;
    for class in CLASSES {
        let (golden, values) = Golden::read(class);
        let runs = golden.runs(&values);
        let mut worst_of_class = Worst::default();
        for row in &runs {
            let what = describe(row.case, row.steps);
            let problems = compare(row, &golden.header, &mut worst_of_class);
            failures.extend(problems.into_iter().map(|problem| format!("{problem}: {what}")));
        }
        let Worst { in_f64, in_f32, from_shipped, beyond, diffusers_beyond } = worst_of_class;
        println!(
            "{class}: {} runs, f64 {in_f64:.1e}, f32 {in_f32:.1e}, shipped {from_shipped:.1e}; \
             beyond 1e-4 {beyond}, diffusers {diffusers_beyond}",
            runs.len()
        );
        count += runs.len();
    }
    assert!(count > 60_000, "only {count} runs in the golden files");
    assert!(failures.is_empty(), "{} problems in {count} runs:\n{}", failures.len(), failures.join("\n"));
}

/// What is wrong with one run.
fn compare(row: &Run<'_>, header: &Header, worst_of_class: &mut Worst) -> Vec<String> {
    let (wide, narrow) = match (build::<f64>(row.case, row.steps), build::<f32>(row.case, row.steps)) {
        (Ok(wide), Ok(narrow)) => (wide, narrow),
        (Err(error), _) | (_, Err(error)) => return vec![format!("refused, {error}")],
    };
    let mut problems = Vec::new();
    let tolerance = timestep_tolerance(row.case);
    // Between the steps of its ancestral form, where cosine betas begin, float32 leaves diffusers' KDPM2 nothing of
    // `sigma_next^2 - sigma_up^2`: 898 for 874.
    let cancels = row.case.class.starts_with("KDPM2Ancestral") && is_cosine(row.case);
    let pairs = wide.timesteps().iter().zip(row.timesteps).step_by(if cancels { 2 } else { 1 });
    let mut distances = pairs.map(|(ours, theirs)| (ours - theirs).abs());
    if wide.timesteps().len() != row.timesteps.len() || distances.any(|distance| distance > tolerance) {
        problems.push(format!("timesteps {:?} and not {:?}", wide.timesteps(), row.timesteps));
    }
    let in_f64 = worst(&run(wide, header), &row.float64);
    if in_f64 > 1e-5 {
        problems.push(format!("f64 differs from float64 by {in_f64:.1e}"));
    }
    let states = run(narrow, header);
    let in_f32 = worst(&states, &row.float64);
    // From nearly pure noise, or to it, f32 keeps few digits of the picture: not in diffusers either. Where float32
    // takes it away from its own float64 copy, we may be as far, or twice: that is all the digits there are.
    let shipped: Vec<f64> = row.shipped.iter().map(|x| f64::from(*x)).collect();
    let own = distance(&shipped, row.float64[2]);
    if in_f32 > (2.0 * own).max(1e-4) {
        problems.push(format!("f32 differs from float64 by {in_f32:.1e}, diffusers by {own:.1e}"));
    }
    let from_shipped = distance(&states[2], row.shipped);
    if from_shipped > 1e-4 && own <= 0.5e-4 {
        problems.push(format!(
            "f32 differs from diffusers as shipped by {from_shipped:.1e}, its own error {own:.1e}"
        ));
    }
    worst_of_class.beyond += usize::from(in_f32 > 1e-4);
    worst_of_class.diffusers_beyond += usize::from(own > 1e-4);
    worst_of_class.in_f64 = worst_of_class.in_f64.max(in_f64);
    worst_of_class.in_f32 = worst_of_class.in_f32.max(in_f32);
    worst_of_class.from_shipped = worst_of_class.from_shipped.max(from_shipped);
    problems
}

#[test]
fn what_diffusers_refuses_is_refused_and_what_it_gets_wrong_is_finite_or_refused() {
    let mut failures = Vec::new();
    let mut seen = (0, 0);
    for class in CLASSES {
        let (golden, _) = Golden::read(class);
        for case in &golden.cases {
            for (steps, reason) in &case.skip {
                let steps = steps.parse().unwrap();
                let built = build::<f32>(case, steps);
                if reason.starts_with("raises") {
                    seen.0 += 1;
                    if built.is_ok() {
                        failures
                            .push(format!("accepted, though diffusers {reason}: {}", describe(case, steps)));
                    }
                } else if let Ok(scheduler) = built {
                    seen.1 += 1;
                    let states = run(scheduler, &golden.header);
                    if !states.iter().flatten().all(|x| x.is_finite()) {
                        failures.push(format!("not finite: {}", describe(case, steps)));
                    }
                }
            }
        }
    }
    println!("{seen:?}");
    assert!(seen.0 > 50 && seen.1 > 1000, "too few cases: {seen:?}");
    assert!(failures.is_empty(), "{} problems:\n{}", failures.len(), failures.join("\n"));
}
