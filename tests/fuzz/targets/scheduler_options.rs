//! A scheduler's name, the pack's configuration and a request's options: refused with a field, or a schedule that runs
//! to its end with numbers that stay numbers.
//!
//! The input is three bytes (name, steps, how many are left out for a strength), then two JSON objects with a line break
//! between them.

#![no_main]

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::{self, Run, SchedulerConfig, SchedulerName};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|bytes: &[u8]| {
    let [name, steps, strength, rest @ ..] = bytes else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (pack, request) = text.split_once('\n').unwrap_or((text, "{}"));
    let Ok(config) = SchedulerConfig::from_json(pack) else { return };
    let Ok(options) = serde_json::from_str::<Map<String, Value>>(request) else { return };
    // A hundred thousand training steps take their time, and there is nothing new in them.
    let many = |options: &Map<String, Value>| {
        options.get("num_train_timesteps").and_then(Value::as_f64).is_some_and(|count| count > 2000.0)
    };
    if many(&options) || serde_json::from_str(pack).is_ok_and(|pack| many(&pack)) {
        return;
    }
    let names: Vec<SchedulerName> = SchedulerName::all().collect();
    // One above the names: the pack's own class.
    let name = names.get(usize::from(*name) % (names.len() + 1));
    let steps = usize::from(*steps % 64);
    let run = match strength {
        255 => Ok(Run::from(steps)),
        share => Run::of_strength(steps, f64::from(*share) / 254.0),
    };
    let built = run.and_then(|run| schedulers::build::<f32>(name, &config, &options, run));
    let mut scheduler = match built {
        Ok(scheduler) => scheduler,
        Err(error) => {
            // An option may be called "", and is then named so.
            assert!(!error.field.is_empty() || options.contains_key(""));
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let mut noise = TorchGenerator::new(1);
    let mut sample: Vec<f32> = noise.randn(4);
    sample.iter_mut().for_each(|value| *value *= scheduler.init_noise_sigma() as f32);
    for step in 0..scheduler.timesteps().len() {
        assert!(scheduler.timesteps()[step].is_finite());
        scheduler.scale_model_input(&mut sample.clone(), step);
        scheduler.step(&[0.5, -0.5, 1.0, 0.0], step, &mut sample, &mut noise);
        assert!(sample.iter().all(|value| value.is_finite()), "{name:?}, step {step} of {steps}: {sample:?}");
    }
});
