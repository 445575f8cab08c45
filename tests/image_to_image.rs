//! Runs that begin at a picture with noise, and what previews show, against diffusers. Golden file:
//! quantize/golden/image_to_image.py.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::{self, NoiseSource, Run, Scheduler, SchedulerConfig, SchedulerName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Golden {
    header: Header,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Header {
    noise_seed: u32,
}

#[derive(Deserialize)]
struct Case {
    class: String,
    options: Map<String, Value>,
    steps: usize,
    strength: f64,
    noisy: Vec<f64>,
    pred_original_sample: Option<Vec<f64>>,
    timesteps: Vec<f64>,
    last: Vec<f64>,
}

fn picture() -> Vec<f64> {
    (0..8).map(|i| (f64::from(i * 37 % 17) - 8.0) / 4.0).collect()
}

/// The golden script's UNet.
fn model(sample: &[f64], timestep: f64) -> Vec<f64> {
    let pattern = (0..).map(|i| (f64::from(i * 5 % 7) - 3.0) / 4.0);
    sample.iter().zip(pattern).map(|(x, p)| x / (x.abs() + 1.0) * 0.75 + p * (timestep / 1000.0)).collect()
}

fn distance(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let norm = |values: Vec<f64>| values.into_iter().map(|x| x * x).sum::<f64>().sqrt();
    norm(ours.iter().zip(theirs).map(|(a, b)| a - b).collect()) / norm(theirs.to_vec())
}

fn build(class: &str, options: &Map<String, Value>, run: Run) -> Scheduler<f64> {
    let mut entries = options.clone();
    entries.insert("_class_name".to_owned(), json!(class));
    let config = SchedulerConfig::from_entries(entries).unwrap();
    schedulers::build(None, &config, &Map::new(), run).unwrap()
}

/// Distances of the first sample, the first estimate and the last sample.
fn distances(case: &Case, noise_seed: u32) -> [f64; 3] {
    let run = Run::of_strength(case.steps, case.strength).unwrap();
    let mut scheduler = build(&case.class, &case.options, run);
    let mut generator = TorchGenerator::new(noise_seed);
    let mut noise = vec![0.0f64; 8];
    generator.fill_standard_normal(&mut noise);
    let mut sample = scheduler.add_noise(&picture(), &noise, 0);
    let noisy = distance(&sample, &case.noisy);
    let mut estimated = 0.0;
    assert_eq!(scheduler.timesteps().len(), case.timesteps.len(), "{} {:?}", case.class, case.options);
    for (step, t) in scheduler.timesteps().to_vec().into_iter().enumerate() {
        let mut scaled = sample.clone();
        scheduler.scale_model_input(&mut scaled, step);
        let output = model(&scaled, t);
        if let (0, Some(theirs)) = (step, &case.pred_original_sample) {
            estimated = distance(&scheduler.pred_original_sample(&output, 0, &sample), theirs);
        }
        scheduler.step(&output, step, &mut sample, &mut generator);
    }
    [noisy, estimated, distance(&sample, &case.last)]
}

#[test]
fn a_run_from_a_picture_is_that_of_diffusers() {
    let golden: Golden = serde_json::from_str(include_str!("golden/schedulers/image_to_image.json")).unwrap();
    let mut worst = [0.0f64; 3];
    let mut failures = Vec::new();
    for case in &golden.cases {
        let distances = distances(case, golden.header.noise_seed);
        // PyTorch's noise may differ by as much from one machine to another.
        if !distances.iter().all(|distance| *distance < 1e-6) {
            let Case { class, options, steps, strength, .. } = case;
            failures.push(format!("{distances:?}: {class} {steps} {strength} {}", json!(options)));
        }
        worst = std::array::from_fn(|i| worst[i].max(distances[i]));
    }
    println!("{} runs, {worst:?}", golden.cases.len());
    let estimates = golden.cases.iter().filter(|case| case.pred_original_sample.is_some()).count();
    assert!(
        golden.cases.len() >= 60 && estimates >= 30,
        "{} cases, {estimates} estimates",
        golden.cases.len()
    );
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_perfect_model_leads_every_solver_from_the_noisy_picture_back_to_it() {
    // Of one picture only: what is not it is noise. The estimate is the picture at once, and every solver ends there,
    // from wherever it begins; inpainting's samples, put in between, are on its way.
    let config =
        SchedulerConfig::from_json(r#"{"_class_name": "DDIMScheduler", "clip_sample": false}"#).unwrap();
    let mut wrong = Vec::new();
    for name in SchedulerName::all() {
        for strength in [0.4, 1.0] {
            let run = Run::of_strength(20, strength).unwrap();
            let mut scheduler = schedulers::build::<f64>(Some(&name), &config, &Map::new(), run).unwrap();
            let mut generator = TorchGenerator::new(3);
            let mut noise = vec![0.0; 8];
            generator.fill_standard_normal(&mut noise);
            let mut sample = scheduler.add_noise(&picture(), &noise, 0);
            let calls = scheduler.timesteps().len();
            for step in 0..calls {
                let (signal, of_noise) = scheduler.signal_and_noise(step);
                let output: Vec<f64> =
                    sample.iter().zip(picture()).map(|(x, x0)| (x - signal * x0) / of_noise).collect();
                let estimate = scheduler.pred_original_sample(&output, step, &sample);
                if distance(&estimate, &picture()) > 1e-9 {
                    wrong.push(format!("{name} {strength}: estimate at {step}"));
                }
                scheduler.step(&output, step, &mut sample, &mut generator);
            }
            // Those that end above a noise level of zero keep that much: 0.01 of it.
            let end = distance(&sample, &picture());
            if end > 0.05 {
                wrong.push(format!("{name} {strength}: ends {end:.1e} away"));
            }
            assert_eq!(scheduler.add_noise(&picture(), &noise, calls), picture());
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
