//! Noise schedules and the solvers that walk them: one paper, one file.
//!
//! Schedulers see slices, never a tensor type; they are generic over the float so that tests
//! can run them in f64 against patched diffusers. [`build`] makes one from a name, a pack's
//! configuration and a request's options; the pipeline drives it through [`Scheduler`].
//!
//! The papers: `ddim`, `euler_discrete`, `lcm`, `dpm_solver_multistep` (with `dpm_schedule`). What they
//! share: `betas` and `sigmas` (tables by training timestep), `spacing` (which timesteps are visited),
//! `prediction` (what the UNet says). What they are made from: `names`, `class`, `config`, `options`.

mod betas;
mod class;
mod config;
mod ddim;
mod dpm_schedule;
mod dpm_solver_multistep;
mod error;
mod euler_discrete;
mod float;
mod lcm;
mod names;
mod options;
mod prediction;
mod sigmas;
mod spacing;

use serde_json::{Map, Value};

use class::Class;
use options::Options;

pub use config::SchedulerConfig;
pub use error::SchedulerError;
pub use float::Float;
pub use names::SchedulerName;

/// Where a stochastic step takes its noise from: PyTorch's CPU generator in the daemon.
pub trait NoiseSource<F> {
    /// Fills `out` with standard normal numbers, as one `torch.randn` of that many elements would.
    fn fill_standard_normal(&mut self, out: &mut [F]);
}

/// A solver with its timesteps set for one picture.
pub trait Scheduler<F> {
    /// The timesteps the UNet is called with, in order; one [`Scheduler::step`] each.
    fn timesteps(&self) -> &[f64];

    /// The standard deviation that the initial standard normal noise is scaled to.
    fn init_noise_sigma(&self) -> f64;

    /// Scales `sample` in place to what the UNet expects before the call at `step_index`.
    fn scale_model_input(&self, sample: &mut [F], step_index: usize);

    /// Moves `sample` from `timesteps()[step_index]` to the next one, given the UNet's `model_output`.
    /// Steps are taken in order, from 0.
    fn step(
        &mut self,
        model_output: &[F],
        step_index: usize,
        sample: &mut [F],
        noise: &mut dyn NoiseSource<F>,
    );
}

/// Makes the scheduler of `name`, or of the pack's `_class_name`, for one picture of
/// `num_inference_steps` steps. `options` are a request's `scheduler_options`: diffusers' configuration
/// names, and DDIM's `eta`; they go before what the pack says, and null ones are passed over.
///
/// # Errors
/// Names the option and its value: unknown, mistyped or out of range, in contradiction to another or
/// to `name`, in diffusers but not here; or `steps` where the schedule has no room for that many; or
/// `scheduler` where the pack's class is none of ours.
pub fn build<F: Float>(
    name: Option<&SchedulerName>,
    config: &SchedulerConfig,
    options: &Map<String, Value>,
    num_inference_steps: usize,
) -> Result<Box<dyn Scheduler<F> + Send>, SchedulerError> {
    let (class, fixed) = match name {
        Some(name) => name.meaning(),
        None => (class_of(config)?, Vec::new()),
    };
    let name = name.map_or(class.diffusers_name(), SchedulerName::as_str);
    let options = Options::merge(class, config, name, &fixed, options)?;
    Ok(match class {
        Class::Ddim => Box::new(ddim::Ddim::new(&options, num_inference_steps)?),
        Class::EulerDiscrete => Box::new(euler_discrete::EulerDiscrete::new(&options, num_inference_steps)?),
        Class::Lcm => Box::new(lcm::Lcm::new(&options, num_inference_steps)?),
        Class::DpmSolverMultistep => {
            Box::new(dpm_solver_multistep::DpmSolverMultistep::new(&options, num_inference_steps)?)
        }
    })
}

/// The class that the pack names.
fn class_of(config: &SchedulerConfig) -> Result<Class, SchedulerError> {
    Class::from_diffusers_name(config.class_name()).ok_or_else(|| {
        let names: Vec<String> = SchedulerName::all().map(|name| name.to_string()).collect();
        let message = format!(
            "the pack's scheduler_config.json asks for a class we do not have; choose one of {}",
            names.join(", ")
        );
        let value = match config.class_name() {
            "" => "no _class_name",
            name => name,
        };
        SchedulerError::new("scheduler", value, message)
    })
}
