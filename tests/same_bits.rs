//! Noise and schedulers give the same bits on every machine: digests that were made on x86-64, checked here
//! and, under qemu, by `tests/aarch64`. Whether the numbers are right is for the golden tests to say.
//!
//! A change that is meant to move the numbers fails here, too: the message has the new table.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::{self, NoiseSource, Scheduler, SchedulerConfig, SchedulerName};
use serde_json::Map;
use sha2::{Digest, Sha256};

/// What Stable Diffusion 1.x ships, which all classes read.
const CONFIG: &str = r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085,
    "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}"#;

/// First eight bytes of the SHA-256 of the values, little endian.
fn digest<'a>(values: impl IntoIterator<Item = &'a f32>) -> String {
    let mut hash = Sha256::new();
    for value in values {
        hash.update(value.to_bits().to_le_bytes());
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn assert_table(found: &[(String, String)], expected: &[(&str, &str)]) {
    let lines = |rows: &mut dyn Iterator<Item = (&str, &str)>| -> String {
        rows.map(|(name, digest)| format!("    (\"{name}\", \"{digest}\"),\n")).collect()
    };
    let found = lines(&mut found.iter().map(|(name, digest)| (name.as_str(), digest.as_str())));
    let expected = lines(&mut expected.iter().copied());
    assert!(found == expected, "other bits than on x86-64; found:\n{found}\nexpected:\n{expected}");
}

const NOISE: &[(&str, &str)] = &[
    ("seed 0, 15 numbers", "feb39d97c8afee24"),
    ("seed 7, 16 numbers", "67dadefe82f10be8"),
    ("seed 7, 1024 numbers", "34710e5d0a48c1b4"),
    ("seed 4294967295, 1040 numbers", "34e531e2e28130b9"),
];

#[test]
fn a_seed_gives_the_same_noise_everywhere() {
    // Below 16 numbers PyTorch takes another path; 1040 is no multiple of its block.
    let cases = [(0, 15), (7, 16), (7, 1024), (4_294_967_295, 1040)];
    let found = cases.map(|(seed, size)| {
        let noise = TorchGenerator::new(seed).randn(size);
        (format!("seed {seed}, {size} numbers"), digest(&noise))
    });
    assert_table(&found, NOISE);
}

const SCHEDULERS: &[(&str, &str)] = &[
    ("dpmpp-1m", "ae66a03098d7d6bc"),
    ("dpmpp-1m-karras", "8f9b6ff22bacd240"),
    ("dpmpp-1m-exponential", "aceea77560f23dd8"),
    ("dpmpp-1m-beta", "e93b3c0a9b258b87"),
    ("dpmpp-2m", "114804cd7f23978d"),
    ("dpmpp-2m-karras", "330d86cf1d072639"),
    ("dpmpp-2m-exponential", "73dfc4f96fbd34ee"),
    ("dpmpp-2m-beta", "1d1c0a6c41511443"),
    ("dpmpp-3m", "88538a55f32970fe"),
    ("dpmpp-3m-karras", "8fe21d2aed01d692"),
    ("dpmpp-3m-exponential", "5cd2109fb505a018"),
    ("dpmpp-3m-beta", "6ef432d60ad1ed76"),
    ("dpm-1", "09dd3bc8ae3608b7"),
    ("dpm-1-karras", "19a18a154193575f"),
    ("dpm-1-exponential", "88472d0517df9e06"),
    ("dpm-1-beta", "8b0c8cb080424a96"),
    ("dpm-2", "de69e48b3a55a468"),
    ("dpm-2-karras", "fe59c7a0b0ebce5b"),
    ("dpm-2-exponential", "fd7d7d71755f35e8"),
    ("dpm-2-beta", "04478f7cac399ab2"),
    ("dpm-3", "f343ed7ed78e3c00"),
    ("dpm-3-karras", "c5fbbcbd453079c3"),
    ("dpm-3-exponential", "da7c6cc396f12445"),
    ("dpm-3-beta", "35020a17eb8d5adf"),
    ("ddim", "024f98734c581def"),
    ("euler", "fbdac6c096440814"),
    ("euler-karras", "5eb6b53cb4a8607a"),
    ("euler-exponential", "6d8756172306aaf4"),
    ("euler-beta", "4c0a537d0d5a200e"),
    ("lcm", "9affde59ac0341d4"),
];

#[test]
fn a_scheduler_walks_the_same_path_everywhere() {
    let config = SchedulerConfig::from_json(CONFIG).unwrap();
    let found: Vec<_> = SchedulerName::all()
        .map(|name| {
            let path: Vec<f32> = [1, 4, 10, 25]
                .into_iter()
                .flat_map(|steps| walk(schedulers::build(Some(&name), &config, &Map::new(), steps).unwrap()))
                .collect();
            (name.to_string(), digest(&path))
        })
        .collect();
    assert_table(&found, SCHEDULERS);
}

/// Every sample on the way from noise, with `sample * t / (t + 1)` for a UNet: only operations that IEEE 754
/// rounds in one way.
fn walk(mut scheduler: Box<dyn Scheduler<f32> + Send>) -> Vec<f32> {
    let mut noise = TorchGenerator::new(7);
    let mut sample = noise.randn(48);
    let sigma = scheduler.init_noise_sigma() as f32;
    sample.iter_mut().for_each(|x| *x *= sigma);
    let mut path = sample.clone();
    for (index, t) in scheduler.timesteps().to_vec().into_iter().enumerate() {
        let mut input = sample.clone();
        scheduler.scale_model_input(&mut input, index);
        let factor = (t / (t + 1.0)) as f32;
        let output: Vec<f32> = input.iter().map(|x| x * factor).collect();
        scheduler.step(&output, index, &mut sample, &mut noise as &mut dyn NoiseSource<f32>);
        path.extend(&sample);
    }
    path
}
