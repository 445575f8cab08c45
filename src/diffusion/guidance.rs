//! Classifier-free guidance: combines the two halves of a UNet call; once per step, by `denoise`.
//!
//! Ho & Salimans, "Classifier-Free Diffusion Guidance", <https://arxiv.org/abs/2207.12598>. The rescaling is of
//! Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", <https://arxiv.org/abs/2305.08891>,
//! section 3.4; the interval of Kynkäänniemi et al., "Applying Guidance in a Limited Interval",
//! <https://arxiv.org/abs/2404.07724>, by steps, as diffusers' guiders count it.

/// Guidance at or below this is none: the conditional half alone is run, as diffusers does.
pub const NO_GUIDANCE: f64 = 1.0;

/// How strictly the prompt is followed, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// 0 to 100; at most 1 means none.
    pub scale: f64,
    /// 0 to 1: how much of the contrast that guidance adds is taken back.
    pub rescale: f64,
    /// The share of the steps before it begins, 0 to 1.
    pub start: f64,
    /// The share of the steps after which it ends, 0 to 1.
    pub stop: f64,
}

impl Guidance {
    /// `scale` in every step, not rescaled.
    pub fn of(scale: f64) -> Self {
        Self { scale, rescale: 0.0, start: 0.0, stop: 1.0 }
    }

    /// Whether the step numbered `step` of `steps` is guided: others cost half as much.
    pub fn applies(&self, step: usize, steps: usize) -> bool {
        let at = |share: f64| (share * steps as f64) as usize;
        self.scale > NO_GUIDANCE && (at(self.start)..at(self.stop)).contains(&step)
    }

    /// Whether any of `steps` is guided.
    pub fn is_on(&self, steps: usize) -> bool {
        (0..steps).any(|step| self.applies(step, steps))
    }

    /// `width` numbers that say the scale to a UNet distilled with guidance (Meng et al. 2023, arXiv 2210.03142), as
    /// diffusers' `get_guidance_scale_embedding` makes them of `scale - 1`: sines, cosines, and a zero if `width` is odd.
    pub fn embedding(&self, width: usize) -> Vec<f32> {
        let half = width / 2;
        let step = libm::logf(10_000.0) / (half as f32 - 1.0);
        let scaled = (self.scale - 1.0) as f32 * 1000.0;
        let angles: Vec<f32> = (0..half).map(|index| scaled * libm::expf(index as f32 * -step)).collect();
        let sines = angles.iter().map(|angle| libm::sinf(*angle));
        let cosines = angles.iter().map(|angle| libm::cosf(*angle));
        sines.chain(cosines).chain((width % 2 == 1).then_some(0.0)).collect()
    }

    /// `uncond + scale * (text - uncond)`, then brought back towards the deviation of `text`; all slices have one length.
    pub fn combine(&self, noise_pred_uncond: &[f32], noise_pred_text: &[f32]) -> Vec<f32> {
        let scale = self.scale as f32;
        let pairs = noise_pred_uncond.iter().zip(noise_pred_text);
        let mut guided: Vec<f32> = pairs.map(|(uncond, text)| uncond + scale * (text - uncond)).collect();
        if self.rescale > 0.0 {
            let ratio = deviation(noise_pred_text) / deviation(&guided);
            // Two constants have no contrast to give back.
            if ratio.is_finite() {
                let factor = (self.rescale * ratio + (1.0 - self.rescale)) as f32;
                guided.iter_mut().for_each(|value| *value *= factor);
            }
        }
        guided
    }
}

/// The unbiased standard deviation, as `torch.std`.
fn deviation(values: &[f32]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().copied().map(f64::from).sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum();
    (squares / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_one_is_the_conditional_half_and_larger_ones_go_beyond() {
        assert_eq!(Guidance::of(1.0).combine(&[1.0, -2.0], &[3.0, 4.0]), [3.0, 4.0]);
        assert_eq!(Guidance::of(2.0).combine(&[1.0, -2.0], &[3.0, 4.0]), [5.0, 10.0]);
    }

    #[test]
    fn rescaling_gives_the_deviation_of_the_conditional_half_back() {
        let (uncond, text) = ([0.5, -1.0, 2.0, 0.25], [1.0, -3.0, 2.5, 0.0]);
        let full = Guidance { rescale: 1.0, ..Guidance::of(7.5) }.combine(&uncond, &text);
        assert!((deviation(&full) / deviation(&text) - 1.0).abs() < 1e-6);
        let half = Guidance { rescale: 0.5, ..Guidance::of(7.5) }.combine(&uncond, &text);
        let plain = Guidance::of(7.5).combine(&uncond, &text);
        for ((half, full), plain) in half.iter().zip(&full).zip(&plain) {
            assert!((half - (full + plain) / 2.0).abs() < 1e-5);
        }
        let flat = Guidance { rescale: 1.0, ..Guidance::of(3.0) }.combine(&[1.0, 1.0], &[2.0, 2.0]);
        assert_eq!(flat, [4.0, 4.0]);
    }

    #[test]
    fn the_interval_counts_steps_as_diffusers_guiders_do() {
        let some = Guidance { start: 0.25, stop: 0.8, ..Guidance::of(3.0) };
        let guided: Vec<usize> = (0..8).filter(|step| some.applies(*step, 8)).collect();
        assert_eq!(guided, [2, 3, 4, 5]);
        assert!((0..8).all(|step| Guidance::of(3.0).applies(step, 8)));
        assert!(!(0..8).any(|step| Guidance::of(1.0).applies(step, 8)));
    }
}
