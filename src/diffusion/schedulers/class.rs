//! The diffusers classes we have, and the options each of them takes.

/// A scheduler class, one paper and one file each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Ddim,
    EulerDiscrete,
    Lcm,
    DpmSolverMultistep,
}

/// The options that replace the sigmas of the timestep spacing; at most one is true.
pub(super) const SIGMA_KINDS: [&str; 3] = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"];

/// Options that all classes take.
const COMMON: &[&str] = &[
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
    "rescale_betas_zero_snr",
];

/// `eta` is an argument of `step` in diffusers, not of the configuration; here it is an option like any other.
const DDIM: &[&str] = &[
    "eta",
    "clip_sample",
    "clip_sample_range",
    "set_alpha_to_one",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
];

const EULER: &[&str] = &[
    "interpolation_type",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "sigma_min",
    "sigma_max",
    "timestep_type",
    "final_sigmas_type",
];

const LCM: &[&str] = &[
    "original_inference_steps",
    "timestep_scaling",
    "clip_sample",
    "clip_sample_range",
    "set_alpha_to_one",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
];

const DPM_SOLVER_MULTISTEP: &[&str] = &[
    "solver_order",
    "algorithm_type",
    "solver_type",
    "lower_order_final",
    "euler_at_final",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "use_flow_sigmas",
    "flow_shift",
    "use_dynamic_shifting",
    "time_shift_type",
    "final_sigmas_type",
    "lambda_min_clipped",
    "variance_type",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
];

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Ddim, Self::EulerDiscrete, Self::Lcm, Self::DpmSolverMultistep];

    /// The name in `_class_name`.
    pub(super) fn diffusers_name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIMScheduler",
            Self::EulerDiscrete => "EulerDiscreteScheduler",
            Self::Lcm => "LCMScheduler",
            Self::DpmSolverMultistep => "DPMSolverMultistepScheduler",
        }
    }

    /// The class of that name, when we have it.
    pub(super) fn from_diffusers_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.diffusers_name() == name)
    }

    /// Every option the class takes.
    pub(super) fn options(self) -> impl Iterator<Item = &'static str> {
        let own = match self {
            Self::Ddim => DDIM,
            Self::EulerDiscrete => EULER,
            Self::Lcm => LCM,
            Self::DpmSolverMultistep => DPM_SOLVER_MULTISTEP,
        };
        COMMON.iter().chain(own).copied()
    }

    /// Is `key` an option of the class?
    pub(super) fn has(self, key: &str) -> bool {
        self.options().any(|option| option == key)
    }
}
