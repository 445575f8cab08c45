//! Files for screens and browsers, by libraries: JPEG, WebP, QOI.

use image::codecs::qoi::QoiEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::diffusion::postprocess::RgbImage;

/// Baseline, Huffman tables of its own; `halved` for colour at half the resolution (4:2:0).
pub(super) fn jpeg(picture: &RgbImage, quality: u8, halved: bool) -> Result<Vec<u8>, String> {
    let side =
        |length: usize| u16::try_from(length).map_err(|_| format!("{length} pixels are beyond JPEG's 65535"));
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(if halved { SamplingFactor::F_2_2 } else { SamplingFactor::F_1_1 });
    encoder.set_progressive(false);
    encoder.set_optimized_huffman_tables(true);
    let (width, height) = (side(picture.width)?, side(picture.height)?);
    encoder.encode(&picture.pixels, width, height, ColorType::Rgb).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Lossless (VP8L): the only kind that is written in Rust.
pub(super) fn webp(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    write(WebPEncoder::new_lossless(&mut bytes), picture)?;
    Ok(bytes)
}

pub(super) fn qoi(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    write(QoiEncoder::new(&mut bytes), picture)?;
    Ok(bytes)
}

fn write(encoder: impl ImageEncoder, picture: &RgbImage) -> Result<(), String> {
    let side = |length: usize| u32::try_from(length).map_err(|error| error.to_string());
    let (width, height) = (side(picture.width)?, side(picture.height)?);
    encoder
        .write_image(&picture.pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| error.to_string())
}
