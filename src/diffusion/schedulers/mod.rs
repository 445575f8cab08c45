//! Noise schedules and the solvers that walk them: one paper, one file.
//!
//! [`build`] makes a [`Scheduler`] from a name, a pack's configuration and a request's options; the pipeline drives
//! it. Schedulers see slices, never a tensor type; they are generic over the float so that tests can run them in
//! f64 against patched diffusers.
//!
//! Every paper's file makes a `plan`: calls of the UNet, and linear combinations of samples, model outputs and noise
//! between them. `walk` runs it. The papers: `ddim`, `ddpm`, `pndm`; `euler_discrete`, `euler_ancestral`,
//! `heun_discrete`, `kdpm2`, `lms_discrete`, `langevin` (over `k_schedule`); `dpm_solver_multistep` and
//! `dpm_solver_singlestep` (over `dpm_solver`), `unipc`, `deis` (over `lambda_schedule` and `exponential`); `lcm`,
//! `tcd`. What they share: `betas` and `sigmas` (tables by training timestep), `spacing` (which timesteps are
//! visited), `prediction` (what the UNet says), `run` (how many steps, from where). What they are made from: `names`,
//! `class`, `config`, `options`; `auto` chooses a name by the number of steps.

mod auto;
mod betas;
mod class;
mod config;
mod ddim;
mod ddpm;
mod deis;
mod dpm_solver;
mod dpm_solver_multistep;
mod dpm_solver_singlestep;
mod error;
mod euler_ancestral;
mod euler_discrete;
mod exponential;
mod float;
mod heun_discrete;
mod k_schedule;
mod kdpm2;
mod lambda_schedule;
mod langevin;
mod lcm;
mod lms_discrete;
mod names;
mod options;
mod plan;
mod pndm;
mod prediction;
mod run;
mod sigmas;
mod spacing;
mod tcd;
mod unipc;
mod walk;

use serde_json::{Map, Value};

use class::Class;
use options::Options;
use plan::Plan;

pub use auto::{AUTO, AutoTable};
pub use config::SchedulerConfig;
pub use error::SchedulerError;
pub use float::Float;
pub use names::SchedulerName;
pub use run::Run;
pub use walk::{Scheduler, SchedulerState};

/// Where a stochastic step takes its noise from: PyTorch's CPU generator in the daemon.
pub trait NoiseSource<F> {
    /// Fills `out` with standard normal numbers, as one `torch.randn` of that many elements would.
    fn fill_standard_normal(&mut self, out: &mut [F]);
}

/// Makes the scheduler of `name`, or of the pack's `_class_name`, for one picture of `run` steps (a number, or
/// [`Run::of_strength`] for image-to-image). `options` are a request's `scheduler_options`: diffusers' configuration
/// names, and those that diffusers has elsewhere or not at all (`eta`, `snr`, `correct_steps`, `exact_third_order`);
/// they go before what the pack says, and null ones are passed over.
///
/// # Errors
/// Names the option and its value: unknown, mistyped or out of range, in contradiction to another or
/// to `name`, in diffusers but not here; or `steps` where the schedule has no room for that many or the solver needs
/// more; or `scheduler` where the pack's class is none of ours.
pub fn build<F: Float>(
    name: Option<&SchedulerName>,
    config: &SchedulerConfig,
    options: &Map<String, Value>,
    run: impl Into<Run>,
) -> Result<Scheduler<F>, SchedulerError> {
    let run = run.into();
    let (class, fixed) = match name {
        Some(name) => name.meaning(),
        None => (class_of(config)?, Vec::new()),
    };
    let name = name.map_or(class.diffusers_name(), SchedulerName::as_str);
    let options = Options::merge(class, config, name, &fixed, options)?;
    let plan = plan(class, &options, run)?;
    if plan.stages.is_empty() {
        let message = format!("is fewer than {} left out for strength", run.begin);
        return Err(SchedulerError::new("steps", run.steps, message));
    }
    Ok(Scheduler::new(plan))
}

fn plan(class: Class, options: &Options, run: Run) -> Result<Plan, SchedulerError> {
    match class {
        Class::Ddim => ddim::plan(options, run),
        Class::Ddpm => ddpm::plan(options, run),
        Class::Pndm => pndm::plan(options, run),
        Class::LmsDiscrete => lms_discrete::plan(options, run),
        Class::EulerDiscrete => euler_discrete::plan(options, run),
        Class::EulerAncestral => euler_ancestral::plan(options, run),
        Class::HeunDiscrete => heun_discrete::plan(options, run),
        Class::Kdpm2 => kdpm2::plan(options, run, false),
        Class::Kdpm2Ancestral => kdpm2::plan(options, run, true),
        Class::DpmSolverMultistep => dpm_solver_multistep::plan(options, run),
        Class::DpmSolverSinglestep => dpm_solver_singlestep::plan(options, run),
        Class::UniPc => unipc::plan(options, run),
        Class::Deis => deis::plan(options, run),
        Class::Lcm => lcm::plan(options, run),
        Class::Tcd => tcd::plan(options, run),
        Class::Langevin => langevin::plan(options, run),
    }
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
