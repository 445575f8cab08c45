//! How far two pictures are apart.

use easeld::diffusion::postprocess::RgbImage;

/// Peak signal-to-noise ratio in dB; infinite for equal pictures.
pub(crate) fn psnr(ours: &RgbImage, theirs: &RgbImage) -> f64 {
    assert_eq!((ours.width, ours.height), (theirs.width, theirs.height));
    let squared = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
    let mse = ours.pixels.iter().zip(&theirs.pixels).map(squared).sum::<f64>() / ours.pixels.len() as f64;
    10.0 * (255.0_f64.powi(2) / mse).log10()
}
