//! PNG (W3C, third edition): 8-bit RGB, and 1, 2, 4, 8 bits of gray or palette.

use super::Picture;
use crate::diffusion::postprocess::RgbImage;
use crate::display::rendition::palette::Palette;

fn side(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|error| error.to_string())
}

fn write(
    size: (usize, usize),
    prepare: impl Fn(&mut png::Encoder<'_, &mut Vec<u8>>),
    data: &[u8],
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(size.0)?, side(size.1)?);
    encoder.set_compression(png::Compression::High);
    prepare(&mut encoder);
    let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
    writer.write_image_data(data).map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub(super) fn truecolour(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let prepare = |encoder: &mut png::Encoder<'_, &mut Vec<u8>>| {
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
    };
    write((picture.width, picture.height), prepare, &picture.pixels)
}

/// Gray where the palette is what gray of so many bits means anyway: many small decoders know no other.
pub(super) fn indexed(picture: &Picture, palette: &Palette, bits: u8) -> Result<Vec<u8>, String> {
    let gray = palette.is_even_gray(bits);
    let prepare = |encoder: &mut png::Encoder<'_, &mut Vec<u8>>| {
        encoder.set_depth(match bits {
            1 => png::BitDepth::One,
            2 => png::BitDepth::Two,
            4 => png::BitDepth::Four,
            _ => png::BitDepth::Eight,
        });
        // Dots of a dither say nothing about their neighbours.
        encoder.set_filter(png::Filter::NoFilter);
        if gray {
            encoder.set_color(png::ColorType::Grayscale);
        } else {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(palette.inks.iter().flat_map(|ink| ink.nominal).collect::<Vec<u8>>());
        }
    };
    let data: Vec<u8> = picture.rows(|ink| ink).iter().flat_map(|row| super::pack(row, bits, 0)).collect();
    write((picture.width, picture.height), prepare, &data)
}
