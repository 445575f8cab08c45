//! How many steps a run has and where it begins: at pure noise, or later for image-to-image.

use super::error::SchedulerError;

/// The steps of one picture. A number of steps makes one that begins at pure noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Steps from pure noise.
    pub(super) steps: usize,
    /// Steps left out at its noisy end.
    pub(super) begin: usize,
}

impl From<usize> for Run {
    fn from(steps: usize) -> Self {
        Self { steps, begin: 0 }
    }
}

impl Run {
    /// The last `strength` of `steps`, from 0 (none) to 1 (all): what diffusers' image-to-image pipelines call
    /// `get_timesteps`. `floor(steps * strength)` steps are left.
    ///
    /// # Errors
    /// When `strength` is outside (0, 1], or leaves no step.
    pub fn of_strength(steps: usize, strength: f64) -> Result<Self, SchedulerError> {
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(SchedulerError::new("strength", strength, "is a number above 0, at most 1"));
        }
        let left = ((steps as f64 * strength) as usize).min(steps);
        if left == 0 {
            let message =
                format!("leaves none of {steps} steps; choose at least {}", 1.0 / steps.max(1) as f64);
            return Err(SchedulerError::new("strength", strength, message));
        }
        Ok(Self { steps, begin: steps - left })
    }

    /// Steps that are taken.
    pub fn len(&self) -> usize {
        self.steps - self.begin
    }

    /// Is there no step? Never, for those made by [`Run::of_strength`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_leaves_the_steps_that_diffusers_leaves() {
        // diffusers 0.42.1, StableDiffusionImg2ImgPipeline.get_timesteps: (steps, strength, steps left)
        for (steps, strength, left) in [
            (50, 0.8, 40),
            (50, 0.3, 15),
            (20, 0.75, 15),
            (3, 0.5, 1),
            (10, 0.29, 2),
            (7, 1.0, 7),
            (100, 0.57, 56),
        ] {
            assert_eq!(Run::of_strength(steps, strength).unwrap().len(), left, "{steps} {strength}");
        }
    }

    #[test]
    fn a_strength_that_means_nothing_is_refused() {
        for strength in [0.0, -0.5, 1.0001, f64::NAN, f64::INFINITY] {
            let error = Run::of_strength(10, strength).unwrap_err();
            assert_eq!(error.field, "strength");
            assert!(error.message.contains("above 0, at most 1"), "{error}");
        }
        let error = Run::of_strength(4, 0.2).unwrap_err();
        assert!(error.message.contains("leaves none of 4 steps; choose at least 0.25"), "{error}");
    }
}
