//! How schedulers are asked for: names, a pack's configuration, a request's options, and what is wrong with them.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::{self, SchedulerConfig, SchedulerError, SchedulerName};
use serde_json::{Map, Value, json};

/// A production configuration, in the JSON that diffusers writes.
fn stable_diffusion(class: &str) -> SchedulerConfig {
    let text = format!(
        r#"{{"_class_name": "{class}", "_diffusers_version": "0.35.0", "beta_end": 0.012, "beta_start": 0.00085,
             "beta_schedule": "scaled_linear", "clip_sample": false, "lambda_min_clipped": -Infinity,
             "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
             "timestep_spacing": "leading", "trained_betas": null, "variance_type": null}}"#
    );
    SchedulerConfig::from_json(&text).unwrap()
}

#[test]
fn every_name_gives_finite_samples_for_every_number_of_steps() {
    const ELEMENTS: usize = 16;
    let config = stable_diffusion("PNDMScheduler");
    let predictions = ["epsilon", "v_prediction", "sample"];
    let mut failures = Vec::new();
    let mut refused = Vec::new();
    for (n, name) in SchedulerName::all().enumerate() {
        let distilled = ["lcm", "tcd"].contains(&name.as_str());
        // Among the larger ones are those where NumPy's rounding makes one timestep too many.
        let more = [61, 77, 103, 200].into_iter().filter(|_| !distilled);
        for steps in (1..=50).chain(more) {
            let prediction = predictions[(n + steps) % 3];
            let options = options(json!({"prediction_type": prediction}));
            let mut scheduler = match schedulers::build::<f32>(Some(&name), &config, &options, steps) {
                Ok(scheduler) => scheduler,
                // PNDM needs more steps and another prediction than some of these, DEIS with sigmas of its own two.
                Err(error) if ["steps", "prediction_type"].contains(&error.field.as_str()) => {
                    refused.push((name.to_string(), error.field));
                    continue;
                }
                Err(error) => panic!("{name} {prediction} {steps}: {error}"),
            };
            assert!(scheduler.timesteps().len() >= steps);
            let mut noise = TorchGenerator::new(steps as u32);
            let mut sample = noise.randn(ELEMENTS);
            for x in &mut sample {
                *x *= scheduler.init_noise_sigma() as f32;
            }
            for step in 0..scheduler.timesteps().len() {
                // What a UNet that has gone astray may say: nothing to do with the sample.
                let output = noise.randn(ELEMENTS);
                scheduler.scale_model_input(&mut sample.clone(), step);
                scheduler.step(&output, step, &mut sample, &mut noise);
            }
            if !sample.iter().all(|x| x.is_finite()) {
                failures.push(format!("{name} {prediction} {steps}"));
            }
        }
    }
    assert!(failures.is_empty(), "not finite: {failures:?}");
    refused.retain(|(name, _)| !["pndm", "plms"].contains(&name.as_str()));
    let one_step = ["deis-karras", "deis-exponential", "deis-beta"];
    assert_eq!(refused, one_step.map(|name| (name.to_owned(), "steps".to_owned())));
}

fn options(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// The error for `name` under `request`, over Stable Diffusion's DDIM configuration.
fn refusal(name: &str, request: &str, steps: usize) -> SchedulerError {
    let name = (!name.is_empty()).then(|| name.parse::<SchedulerName>().unwrap());
    let config = stable_diffusion("DDIMScheduler");
    let options = serde_json::from_str(request).unwrap();
    let built = schedulers::build::<f32>(name.as_ref(), &config, &options, steps);
    built.map(|_| ()).expect_err(request)
}

/// Scheduler, scheduler_options, steps; the error's field, its value and part of its message.
type Refusal = (&'static str, &'static str, usize, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const REFUSALS: &[Refusal] = &[
    ("", r#"{"etta": 1}"#, 4, "etta", "1", "did you mean eta?"),
    ("", r#"{"zzzzzzzz": 1}"#, 4, "zzzzzzzz", "1", "whose options are num_train_timesteps"),
    ("", r#"{"solver_order": 2}"#, 4, "solver_order", "2", "has no meaning for DDIMScheduler"),
    ("", r#"{"eta": "high"}"#, 4, "eta", "\"high\"", "a number from 0 to 1"),
    ("", r#"{"eta": 1.5}"#, 4, "eta", "1.5", "a number from 0 to 1"),
    ("", r#"{"eta": -1}"#, 4, "eta", "-1", "a number from 0 to 1"),
    ("", r#"{"clip_sample": 1}"#, 4, "clip_sample", "1", "true or false"),
    ("", r#"{"prediction_type": "flow_prediction"}"#, 4, "prediction_type", "\"flow_prediction\"", "epsilon, v_prediction, sample"),
    ("", r#"{"beta_schedule": 3}"#, 4, "beta_schedule", "3", "linear, scaled_linear, squaredcos_cap_v2"),
    ("", r#"{"beta_end": 1e300}"#, 4, "beta_end", "1e+300", "a number from"),
    ("", r#"{"beta_start": 0.8, "beta_end": 0.9}"#, 4, "beta_end", "0.9", "choose smaller betas"),
    ("", r#"{"trained_betas": [0.1]}"#, 4, "trained_betas", "[0.1]", "num_train_timesteps (1000) numbers"),
    ("", r#"{"num_train_timesteps": 1}"#, 1, "num_train_timesteps", "1", "from 2 to 100000"),
    ("", r#"{"num_train_timesteps": 10.5}"#, 1, "num_train_timesteps", "10.5", "a whole number"),
    ("", r#"{"num_train_timesteps": 1e18}"#, 1, "num_train_timesteps", "1e+18", "a whole number"),
    ("", r#"{"steps_offset": 900}"#, 4, "steps_offset", "900", "the model knows 0 to 999"),
    ("", r#"{"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"}"#, 4, "rescale_betas_zero_snr", "true", "v_prediction"),
    ("", r#"{"dynamic_thresholding_ratio": 2}"#, 4, "dynamic_thresholding_ratio", "2", "from 0 to 1"),
    ("", "{}", 0, "steps", "0", "1 to num_train_timesteps, 1000"),
    ("", "{}", 1001, "steps", "1001", "1 to num_train_timesteps, 1000"),
    ("dpmpp-2m", "{}", 1000, "steps", "1000", "at most 999"),
    ("dpmpp-2m", r#"{"solver_order": 3}"#, 4, "solver_order", "3", "scheduler dpmpp-2m means 2"),
    ("dpmpp-2m-karras", r#"{"use_beta_sigmas": true}"#, 4, "use_beta_sigmas", "true", "dpmpp-2m-karras means false"),
    ("dpmpp-2m-karras", r#"{"use_karras_sigmas": false}"#, 4, "use_karras_sigmas", "false", "dpmpp-2m-karras means true"),
    ("euler", r#"{"use_karras_sigmas": true, "use_beta_sigmas": true}"#, 4, "use_beta_sigmas", "true", "only one of"),
    ("euler", r#"{"interpolation_type": "log_linear"}"#, 4, "interpolation_type", "\"log_linear\"", "linear"),
    ("euler", r#"{"sigma_min": 5, "sigma_max": 2}"#, 4, "sigma_max", "2", "above the greatest"),
    ("dpmpp-2m", r#"{"use_lu_lambdas": true}"#, 4, "use_lu_lambdas", "true", "not supported"),
    ("dpmpp-2m", r#"{"variance_type": "learned"}"#, 4, "variance_type", "\"learned\"", "not supported"),
    ("dpmpp-2m", r#"{"solver_type": "rk4"}"#, 4, "solver_type", "\"rk4\"", "midpoint, heun"),
    ("dpmpp-2m", r#"{"lambda_min_clipped": "low"}"#, 4, "lambda_min_clipped", "\"low\"", "is a number"),
    ("dpm-2", r#"{"final_sigmas_type": "zero"}"#, 4, "final_sigmas_type", "\"zero\"", "dpm-2 means \"sigma_min\""),
    ("lcm", "{}", 51, "steps", "51", "1 to original_inference_steps, 50"),
    ("lcm", r#"{"original_inference_steps": 0}"#, 1, "original_inference_steps", "0", "from 1 to 1000"),
];

#[test]
fn a_wrong_option_is_named_with_its_value_and_what_would_do() {
    let failures: Vec<String> = REFUSALS
        .iter()
        .filter_map(|&(name, request, steps, field, value, message)| {
            let error = refusal(name, request, steps);
            let as_wanted = error.field == field && error.value == value && error.message.contains(message);
            (!as_wanted).then(|| format!("{error}\n  wanted {field}, {value}, {message}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_pack_of_a_class_we_do_not_have_runs_under_a_name() {
    let config = stable_diffusion("IPNDMScheduler");
    let error = schedulers::build::<f32>(None, &config, &Map::new(), 4).map(|_| ()).unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("scheduler", "IPNDMScheduler"));
    assert!(error.message.contains("ddim") && error.message.contains("dpmpp-2m-karras"), "{error}");
    let name = "ddim".parse().unwrap();
    let scheduler = schedulers::build::<f32>(Some(&name), &config, &Map::new(), 4).unwrap();
    assert_eq!(scheduler.timesteps(), [751.0, 501.0, 251.0, 1.0]);
}

#[test]
fn a_request_goes_before_the_pack_and_null_means_the_packs_own() {
    let name = "euler-karras".parse().unwrap();
    let config = stable_diffusion("DDIMScheduler");
    let timesteps = |request: Value| {
        let scheduler = schedulers::build::<f64>(Some(&name), &config, &options(request), 4).unwrap();
        (scheduler.timesteps().to_vec(), scheduler.init_noise_sigma())
    };
    let own = timesteps(json!({}));
    assert_eq!(timesteps(json!({"timestep_spacing": null, "use_karras_sigmas": true})), own);
    let trailing = timesteps(json!({"timestep_spacing": "trailing"}));
    assert!(trailing.0[0] > own.0[0], "{trailing:?} {own:?}");
}
