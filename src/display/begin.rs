//! A picture to begin from as the VAE encoder takes it, as diffusers' `VaeImageProcessor` prepares it.

use fast_image_resize::FilterType;
use ndarray::{Array2, Array4};

use super::read::{ReadError, read_picture};
use super::resize::resize;
use crate::diffusion::pipeline::Begin;
use crate::diffusion::postprocess::RgbImage;
use crate::diffusion::request::InitImage;

/// Masks are white, where the picture is painted anew, from here on.
const WHITE: f32 = 0.5;

/// Decodes the pictures of `init_image` and stretches them to `width` x `height` pixels (Lanczos).
///
/// # Errors
/// A file that is damaged behind its header; says which of the two.
pub fn begin_from(
    init_image: &InitImage,
    width: usize,
    height: usize,
) -> Result<Begin, (&'static str, ReadError)> {
    let read = |field, bytes: &[u8]| {
        let picture = read_picture(bytes).map_err(|error| (field, error))?;
        Ok(resize(&picture, width, height, FilterType::Lanczos3))
    };
    let picture = read("init_image", &init_image.image.bytes)?;
    let sample = Array4::from_shape_fn((1, 3, height, width), |(_, channel, y, x)| {
        f32::from(picture.pixels[(y * width + x) * 3 + channel]) / 255.0 * 2.0 - 1.0
    });
    let mask = init_image.mask.as_ref().map(|mask| Ok(binary(&read("mask", &mask.bytes)?))).transpose()?;
    Ok(Begin { sample, mask, strength: init_image.strength })
}

/// `[H, W]`: 1 where the picture is white rather than black, 0 elsewhere.
fn binary(mask: &RgbImage) -> Array2<f32> {
    Array2::from_shape_fn((mask.height, mask.width), |(y, x)| {
        let at = (y * mask.width + x) * 3;
        let [red, green, blue] = [0, 1, 2].map(|channel| u32::from(mask.pixels[at + channel]));
        // Pillow's luma of ITU-R 601-2, in 16 bits.
        let luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
        f32::from(luma as f32 / 255.0 >= WHITE)
    })
}
