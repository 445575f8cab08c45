//! The table behind `scheduler: "auto"`, measured: how near each solver comes to the exact solution from the same
//! noise, for data that is 24 narrow Gaussians in 16 dimensions, whose score is known.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::{self, AutoTable, NoiseSource, SchedulerConfig, SchedulerName};
use serde_json::Map;

const DIMENSIONS: usize = 16;
const MODES: usize = 24;
const WIDTH: f64 = 0.15;
const STARTS: usize = 100;

fn normal(seed: u32, count: usize) -> Vec<f64> {
    let mut numbers = vec![0.0; count];
    TorchGenerator::new(seed).fill_standard_normal(&mut numbers);
    numbers
}

/// The mean of the data, given a point with this much noise.
fn denoise(point: &[f64], sigma: f64, modes: &[f64]) -> Vec<f64> {
    let variance = WIDTH * WIDTH + sigma * sigma;
    let squares = |mode: &[f64]| mode.iter().zip(point).map(|(m, x)| (m - x) * (m - x)).sum::<f64>();
    let logs: Vec<f64> = modes.chunks(DIMENSIONS).map(|mode| -squares(mode) / (2.0 * variance)).collect();
    let most = logs.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = logs.iter().map(|log| (log - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..DIMENSIONS)
        .map(|i| {
            let modes = modes.iter().skip(i).step_by(DIMENSIONS);
            let mode = weights.iter().zip(modes).map(|(weight, mode)| weight * mode).sum::<f64>() / total;
            (WIDTH * WIDTH * point[i] + sigma * sigma * mode) / variance
        })
        .collect()
}

/// Where `name` ends from the noise of a fixed seed.
fn run(name: &SchedulerName, steps: usize, modes: &[f64]) -> Vec<f64> {
    const STABLE_DIFFUSION: &str = r#"{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1}"#;
    let config = SchedulerConfig::from_json(STABLE_DIFFUSION).unwrap();
    let mut scheduler = schedulers::build::<f64>(Some(name), &config, &Map::new(), steps).unwrap();
    let (signal, noise) = scheduler.signal_and_noise(0);
    let scale = (signal * signal + noise * noise).sqrt();
    let mut sample: Vec<f64> = normal(2, DIMENSIONS * STARTS).into_iter().map(|z| z * scale).collect();
    let mut unused = TorchGenerator::new(0);
    for step in 0..scheduler.timesteps().len() {
        let (signal, noise) = scheduler.signal_and_noise(step);
        let predict = |point: &[f64]| -> Vec<f64> {
            let point: Vec<f64> = point.iter().map(|x| x / signal).collect();
            let picture = denoise(&point, noise / signal, modes);
            point.iter().zip(picture).map(|(x, x0)| (x - x0) * signal / noise).collect()
        };
        let output: Vec<f64> = sample.chunks(DIMENSIONS).flat_map(predict).collect();
        scheduler.step(&output, step, &mut sample, &mut unused);
    }
    sample
}

#[test]
fn auto_picks_a_solver_that_comes_nearest_or_nearly() {
    let modes = normal(1, DIMENSIONS * MODES);
    let reference = run(&"dpmpp-2m-karras".parse().unwrap(), 600, &modes);
    let error = |name: &SchedulerName, steps: usize| -> f64 {
        let ours = run(name, steps, &modes);
        let of_point = |(a, b): (&[f64], &[f64])| {
            (a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / DIMENSIONS as f64).sqrt()
        };
        let points = ours.chunks(DIMENSIONS).zip(reference.chunks(DIMENSIONS));
        points.map(of_point).sum::<f64>() / STARTS as f64
    };
    for steps in [4, 8, 20] {
        let picked = AutoTable::default().pick(None, steps).unwrap();
        let own = error(&picked, steps);
        // One call a step, of the picture's estimate or classical.
        let families =
            ["dpmpp-1m", "dpmpp-2m", "dpmpp-3m", "dpmpp-2s", "dpmpp-3s", "unipc", "ddim", "euler", "lms"];
        let stochastic =
            |name: &SchedulerName| ["sde", "ancestral"].iter().any(|word| name.as_str().contains(word));
        let mut others: Vec<_> = SchedulerName::all()
            .filter(|name| {
                families.iter().any(|family| name.as_str().starts_with(family)) && !stochastic(name)
            })
            .map(|name| (error(&name, steps), name))
            .collect();
        others.sort_by(|a, b| a.0.total_cmp(&b.0));
        let best: Vec<String> =
            others.iter().take(4).map(|(error, name)| format!("{name} {error:.4}")).collect();
        println!("{steps} steps: {picked} {own:.4}; best {}", best.join(", "));
        assert!(own <= 1.2 * others[0].0, "{steps} steps: {picked} {own:.4}, and {}", best.join(", "));
        assert!(own < 0.8 * error(&"ddim".parse().unwrap(), steps), "{steps} steps: no better than DDIM");
    }
}
