//! Finished pictures, larger.

use fast_image_resize::FilterType;

use super::resize::resize;
use crate::diffusion::postprocess::RgbImage;

/// `picture`, `factor` times larger along each side, by Lanczos' filter.
pub fn upscale(picture: &RgbImage, factor: usize) -> RgbImage {
    resize(picture, picture.width * factor, picture.height * factor, FilterType::Lanczos3)
}
