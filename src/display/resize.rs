//! Pictures at another size, as Pillow makes them.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::diffusion::postprocess::RgbImage;

/// `picture` at `width` x `height` pixels, stretched; in 8 bits, the filter widened when shrinking.
///
/// Rows first, then columns, each rounded to 8 bits: the order shows in single levels, and this is Pillow's.
pub(super) fn resize(picture: &RgbImage, width: usize, height: usize, filter: FilterType) -> RgbImage {
    let rows = stretch(picture, width, picture.height, filter);
    stretch(&rows, width, height, filter)
}

fn stretch(picture: &RgbImage, width: usize, height: usize, filter: FilterType) -> RgbImage {
    if (width, height) == (picture.width, picture.height) {
        return picture.clone();
    }
    let pixels = |length: usize| u32::try_from(length).expect("pictures have sides of at most 65536 pixels");
    let source =
        ImageRef::new(pixels(picture.width), pixels(picture.height), &picture.pixels, PixelType::U8x3)
            .expect("the buffer holds width x height x 3 bytes");
    let mut target = Image::new(pixels(width), pixels(height), PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    Resizer::new().resize(&source, &mut target, &options).expect("both have the same pixel type");
    RgbImage { width, height, pixels: target.into_vec() }
}
