//! Noise and schedulers give the same bits on every machine: digests that were made on x86-64, checked here
//! and, under qemu, by `tests/aarch64`. Whether the numbers are right is for the golden tests to say.
//!
//! A change that is meant to move the numbers fails here, too: the message has the new table.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::{self, Scheduler, SchedulerConfig, SchedulerName};
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
    ("dpmpp-1m", "9cb6fabcf9317a44"),
    ("dpmpp-1m-karras", "f641af0363ea036d"),
    ("dpmpp-1m-exponential", "d28aa862a50b6113"),
    ("dpmpp-1m-beta", "75ad3b89fd9aa6a7"),
    ("dpmpp-2m", "74ccbf5992a36ade"),
    ("dpmpp-2m-karras", "ae35efc7c04abb05"),
    ("dpmpp-2m-exponential", "f89bdfef10c0a9a0"),
    ("dpmpp-2m-beta", "62be598e4200f033"),
    ("dpmpp-3m", "f6131b13f9308f31"),
    ("dpmpp-3m-karras", "23a20365afc8ac92"),
    ("dpmpp-3m-exponential", "87b6b68eed86dd5b"),
    ("dpmpp-3m-beta", "6d95c9820cc05033"),
    ("dpmpp-2m-sde", "26059c309c50893d"),
    ("dpmpp-2m-sde-karras", "cae702bdf116f94a"),
    ("dpmpp-2m-sde-exponential", "5fe88b91b4eca74c"),
    ("dpmpp-2m-sde-beta", "b5ae3ae304bea4c3"),
    ("dpmpp-3m-sde", "974994d9e15912b9"),
    ("dpmpp-3m-sde-karras", "a4b76806a6a73509"),
    ("dpmpp-3m-sde-exponential", "eb102fa80c01569a"),
    ("dpmpp-3m-sde-beta", "7a3745066d97a696"),
    ("dpmpp-2s", "26c0b5eded38a38b"),
    ("dpmpp-2s-karras", "3da811ca59992c62"),
    ("dpmpp-2s-exponential", "d4ccdb0d989b8bf5"),
    ("dpmpp-2s-beta", "2febd549a1876eed"),
    ("dpmpp-3s", "f90b9ff0ff0aa231"),
    ("dpmpp-3s-karras", "a5c52d535c9b0b18"),
    ("dpmpp-3s-exponential", "528d4eb197411f47"),
    ("dpmpp-3s-beta", "ead86d4ab5ab1514"),
    ("dpmpp-sde", "e864de26b8ec3733"),
    ("dpmpp-sde-karras", "ced8b13c4ef948c1"),
    ("dpmpp-sde-exponential", "09a763296e93f54f"),
    ("dpmpp-sde-beta", "fa8ed176b60bbbdd"),
    ("dpm-1", "875bc7cc7e521645"),
    ("dpm-1-karras", "c5b663d8ba9de757"),
    ("dpm-1-exponential", "7c80088f9f6f9cbb"),
    ("dpm-1-beta", "a4e49d5dd84ba9ea"),
    ("dpm-2", "96668fb6b2d0e0dd"),
    ("dpm-2-karras", "648cf525df0f1c0d"),
    ("dpm-2-exponential", "8a8508c2f20c7b4e"),
    ("dpm-2-beta", "b2059800e46885ac"),
    ("dpm-3", "2091663b09d2587b"),
    ("dpm-3-karras", "afc5fdfd5a6f5f22"),
    ("dpm-3-exponential", "fe6850429daea34c"),
    ("dpm-3-beta", "d0a5b67b20160b14"),
    ("dpm-2s", "f2528fedcc253d70"),
    ("dpm-2s-karras", "a02912da6fbfbd74"),
    ("dpm-2s-exponential", "a6b104ab80c3a54b"),
    ("dpm-2s-beta", "1b470c567cc2d523"),
    ("dpm-3s", "04cd8d6af2d644bf"),
    ("dpm-3s-karras", "3f618932683878f1"),
    ("dpm-3s-exponential", "55bddd02e742d396"),
    ("dpm-3s-beta", "cbdf3549bd0f8202"),
    ("unipc", "932979df564e7376"),
    ("unipc-karras", "f8c1799c965eea74"),
    ("unipc-exponential", "d034631666e28b89"),
    ("unipc-beta", "dd17e0def4863140"),
    ("deis", "5a3e40921317c9ff"),
    ("deis-karras", "ebde6a114710504f"),
    ("deis-exponential", "c4fd0b63a9af11bd"),
    ("deis-beta", "24e2b32e460f0ccb"),
    ("ddim", "a832921cf8ec64f5"),
    ("ddim-trailing", "01c3def35a80437b"),
    ("ddpm", "b725730c83d8aab1"),
    ("pndm", "695f5b132047f52b"),
    ("plms", "b677803810c400a9"),
    ("euler", "1da18b9b2717de8f"),
    ("euler-karras", "34bf1e5be18d8226"),
    ("euler-exponential", "47bbdc9f14e36dcf"),
    ("euler-beta", "4424a8a30df34006"),
    ("euler-ancestral", "fa71d8da519c6486"),
    ("heun", "23c2ee0fbbe8ff2e"),
    ("heun-karras", "90c49b30853a0617"),
    ("heun-exponential", "d45b91e2677ea625"),
    ("heun-beta", "52f047031e936a38"),
    ("kdpm2", "c495589af2819191"),
    ("kdpm2-karras", "409826479e8a7ab0"),
    ("kdpm2-exponential", "a543dde13549b3e9"),
    ("kdpm2-beta", "35b3298553d2d76f"),
    ("kdpm2-ancestral", "de1d42fa8739fd8c"),
    ("kdpm2-ancestral-karras", "fd7764ee1c6240e7"),
    ("kdpm2-ancestral-exponential", "86fc619343b42d52"),
    ("kdpm2-ancestral-beta", "bdcb84ccfe5a5b74"),
    ("lms", "8a32a0bc2796fc7a"),
    ("lms-karras", "4cbd132547109eaf"),
    ("lms-exponential", "042588ec63f72b77"),
    ("lms-beta", "e95ae3229aaad17a"),
    ("lcm", "12ee5960d8ee5d8e"),
    ("tcd", "182aa509d260a502"),
    ("langevin", "ac11ed6eaa75a935"),
    ("langevin-karras", "5dfd0337b99e43a8"),
    ("langevin-exponential", "f87aff6f89d5a4e0"),
    ("langevin-beta", "0cbc7c8f2d850aa2"),
];

#[test]
fn a_scheduler_walks_the_same_path_everywhere() {
    let config = SchedulerConfig::from_json(CONFIG).unwrap();
    let found: Vec<_> = SchedulerName::all()
        .map(|name| {
            let path: Vec<f32> = [4, 10, 25]
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
fn walk(mut scheduler: Scheduler<f32>) -> Vec<f32> {
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
        scheduler.step(&output, index, &mut sample, &mut noise);
        path.extend(&sample);
    }
    path
}
