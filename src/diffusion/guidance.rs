//! Classifier-free guidance: combines the two halves of a UNet call; once per step, by `pipeline`.
//!
//! Ho & Salimans, "Classifier-Free Diffusion Guidance", <https://arxiv.org/abs/2207.12598>.

/// Guidance at or below this is none: the conditional half alone is run, as diffusers does.
pub const NO_GUIDANCE: f64 = 1.0;

/// `uncond + guidance_scale * (text - uncond)`, element by element; all slices have one length.
pub fn combine(noise_pred_uncond: &[f32], noise_pred_text: &[f32], guidance_scale: f64) -> Vec<f32> {
    let scale = guidance_scale as f32;
    noise_pred_uncond
        .iter()
        .zip(noise_pred_text)
        .map(|(uncond, text)| uncond + scale * (text - uncond))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_one_is_the_conditional_half_and_larger_ones_go_beyond() {
        assert_eq!(combine(&[1.0, -2.0], &[3.0, 4.0], 1.0), [3.0, 4.0]);
        assert_eq!(combine(&[1.0, -2.0], &[3.0, 4.0], 2.0), [5.0, 10.0]);
    }
}
