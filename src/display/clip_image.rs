//! A picture as CLIP's image tower takes it: resized, its middle cut out, normalised.

use fast_image_resize::FilterType;
use ndarray::Array4;

use super::resize;
use crate::diffusion::postprocess::RgbImage;
use crate::diffusion::similarity::ImageProcessor;

/// `pixel_values` `[1, 3, S, S]`, as transformers' `CLIPImageProcessor` makes them: bicubic to the shortest edge
/// (Pillow's, in 8 bits), the centre cropped, scaled to 0..1, normalised.
pub fn clip_pixel_values(picture: &RgbImage, processor: &ImageProcessor) -> Array4<f32> {
    let resized = resize_shortest_edge(picture, processor.shortest_edge);
    let side = processor.crop_size;
    let (top, left) = ((resized.height - side) / 2, (resized.width - side) / 2);
    Array4::from_shape_fn((1, 3, side, side), |(_, channel, y, x)| {
        let value = resized.pixels[((top + y) * resized.width + left + x) * 3 + channel];
        (f32::from(value) / 255.0 - processor.mean[channel]) / processor.std[channel]
    })
}

/// The longer side is cut off to whole pixels, as transformers' `get_resize_output_image_size` does.
fn resize_shortest_edge(picture: &RgbImage, edge: usize) -> RgbImage {
    let (width, height) = (picture.width, picture.height);
    let short = width.min(height);
    let (new_width, new_height) = (edge * width / short, edge * height / short);
    resize::resize(picture, new_width, new_height, FilterType::CatmullRom)
}
