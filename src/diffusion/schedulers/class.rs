//! The classes we have, and the options each of them takes.

/// A scheduler class, one paper and one file each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Ddim,
    Ddpm,
    Pndm,
    LmsDiscrete,
    EulerDiscrete,
    EulerAncestral,
    HeunDiscrete,
    Kdpm2,
    Kdpm2Ancestral,
    DpmSolverMultistep,
    DpmSolverSinglestep,
    UniPc,
    Deis,
    Lcm,
    Tcd,
    Langevin,
}

/// The options that replace the sigmas of the timestep spacing; at most one is true.
pub(super) const SIGMA_KINDS: [&str; 3] = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"];

/// Options that all classes take.
const COMMON: &[&str] =
    &["num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type"];

const SPACING: &[&str] = &["timestep_spacing", "steps_offset"];
const ZERO_SNR: &[&str] = &["rescale_betas_zero_snr"];
const CLIP: &[&str] = &["clip_sample", "clip_sample_range"];
const THRESHOLD: &[&str] = &["thresholding", "dynamic_thresholding_ratio", "sample_max_value"];
const BOUNDS: &[&str] = &["sigma_min", "sigma_max"];
const FINAL: &[&str] = &["final_sigmas_type"];
/// Of models that predict the velocity of a flow, which we do not have: accepted where they are off.
const FLOW: &[&str] = &["use_flow_sigmas", "flow_shift", "use_dynamic_shifting", "time_shift_type"];
const SOLVER: &[&str] = &["solver_order", "solver_type", "lower_order_final"];
const DISTILLED: &[&str] = &["original_inference_steps", "timestep_scaling", "set_alpha_to_one"];

impl Class {
    pub(super) const ALL: [Self; 16] = [
        Self::Ddim,
        Self::Ddpm,
        Self::Pndm,
        Self::LmsDiscrete,
        Self::EulerDiscrete,
        Self::EulerAncestral,
        Self::HeunDiscrete,
        Self::Kdpm2,
        Self::Kdpm2Ancestral,
        Self::DpmSolverMultistep,
        Self::DpmSolverSinglestep,
        Self::UniPc,
        Self::Deis,
        Self::Lcm,
        Self::Tcd,
        Self::Langevin,
    ];

    /// The name in `_class_name`: diffusers' own but for the last, which diffusers does not have.
    pub(super) fn diffusers_name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIMScheduler",
            Self::Ddpm => "DDPMScheduler",
            Self::Pndm => "PNDMScheduler",
            Self::LmsDiscrete => "LMSDiscreteScheduler",
            Self::EulerDiscrete => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::HeunDiscrete => "HeunDiscreteScheduler",
            Self::Kdpm2 => "KDPM2DiscreteScheduler",
            Self::Kdpm2Ancestral => "KDPM2AncestralDiscreteScheduler",
            Self::DpmSolverMultistep => "DPMSolverMultistepScheduler",
            Self::DpmSolverSinglestep => "DPMSolverSinglestepScheduler",
            Self::UniPc => "UniPCMultistepScheduler",
            Self::Deis => "DEISMultistepScheduler",
            Self::Lcm => "LCMScheduler",
            Self::Tcd => "TCDScheduler",
            Self::Langevin => "LangevinScheduler",
        }
    }

    /// The class of that name, when we have it.
    pub(super) fn from_diffusers_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.diffusers_name() == name)
    }

    /// What the class takes beside [`COMMON`]. `eta` is an argument of `step` in diffusers, not of the
    /// configuration; here it is an option like any other.
    fn groups(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Ddim => &[SPACING, ZERO_SNR, &["eta", "set_alpha_to_one"], CLIP, THRESHOLD],
            Self::Ddpm => &[SPACING, ZERO_SNR, &["variance_type"], CLIP, THRESHOLD],
            Self::Pndm => &[SPACING, &["skip_prk_steps", "set_alpha_to_one"]],
            Self::LmsDiscrete | Self::Kdpm2 | Self::Kdpm2Ancestral => &[SPACING, &SIGMA_KINDS],
            Self::EulerDiscrete => {
                &[SPACING, ZERO_SNR, &["interpolation_type", "timestep_type"], &SIGMA_KINDS, BOUNDS, FINAL]
            }
            Self::EulerAncestral => &[SPACING, ZERO_SNR],
            Self::HeunDiscrete => &[SPACING, &SIGMA_KINDS, CLIP],
            Self::DpmSolverMultistep => &[
                SPACING,
                ZERO_SNR,
                SOLVER,
                &[
                    "algorithm_type",
                    "euler_at_final",
                    "exact_third_order",
                    "use_lu_lambdas",
                    "lambda_min_clipped",
                    "variance_type",
                ],
                &SIGMA_KINDS,
                FINAL,
                FLOW,
                THRESHOLD,
            ],
            Self::DpmSolverSinglestep => &[
                SOLVER,
                &["algorithm_type", "lambda_min_clipped", "variance_type"],
                &SIGMA_KINDS,
                FINAL,
                FLOW,
                THRESHOLD,
            ],
            Self::UniPc => &[
                SPACING,
                ZERO_SNR,
                SOLVER,
                &["predict_x0", "disable_corrector", "solver_p", "shift_terminal"],
                &SIGMA_KINDS,
                BOUNDS,
                FINAL,
                FLOW,
                THRESHOLD,
            ],
            Self::Deis => &[SPACING, SOLVER, &["algorithm_type"], &SIGMA_KINDS, FLOW, THRESHOLD],
            Self::Lcm => &[SPACING, ZERO_SNR, DISTILLED, CLIP, THRESHOLD],
            Self::Tcd => &[SPACING, ZERO_SNR, &["eta"], DISTILLED, CLIP, THRESHOLD],
            Self::Langevin => {
                &[SPACING, ZERO_SNR, &["snr", "correct_steps"], &SIGMA_KINDS, BOUNDS, FINAL, CLIP, THRESHOLD]
            }
        }
    }

    /// Every option the class takes.
    pub(super) fn options(self) -> impl Iterator<Item = &'static str> {
        COMMON.iter().chain(self.groups().iter().copied().flatten()).copied()
    }

    /// Is `key` an option of the class?
    pub(super) fn has(self, key: &str) -> bool {
        self.options().any(|option| option == key)
    }
}
