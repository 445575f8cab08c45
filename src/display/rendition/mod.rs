//! Renditions: a picture as one panel wants it, pixel by pixel and byte by byte.
//!
//! A [`Profile`] says what that is; [`Profiles`] has those of known products. [`render`] goes through it in this order:
//!
//! 1. `compose`: cut or set on margins, resized in linear light, turned (`saliency` finds what has to stay).
//! 2. `tone`: lightness and saturation as the panel can have them, in OKLab.
//! 3. `gamut`: what the panel's inks cannot mix is moved to the nearest colour that they can; `cube` tabulates both.
//! 4. `dither`: dots of inks, compared as they were measured.
//! 5. `encode`: the bytes, inks by their nominal colours or numbers.
//!
//! The same picture and profile give the same bytes on every machine: sums are integers, or floats in a fixed order, and
//! functions come from `libm`. JPEG and the deflate of PNG are libraries' integer arithmetic.

mod compose;
mod cube;
mod dither;
mod encode;
mod gamut;
mod ladder;
mod oklab;
mod options;
mod palette;
mod profile;
mod profiles;
mod saliency;
mod tone;

use self::compose::{Canvas, compose};
use self::cube::Cube;
use self::dither::{Inks, Rgb565, dither};
use self::encode::{Dots, Picture};
use self::gamut::Gamut;
use self::oklab::{Linear, srgb_8, to_16};
use self::tone::Mapping;
use crate::diffusion::postprocess::RgbImage;

pub use options::{OPTIONS, OptionError, ProfileOption};
pub use palette::{Ink, NAMES as PALETTES, Palette};
pub use profile::{Dither, Encoding, Fit, Profile, SIDE_MAX, Tone};
pub use profiles::{Profiles, UnknownProfile, is_profile_name};

/// A picture as a panel wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The file.
    pub bytes: Vec<u8>,
    /// Of HTTP's and MQTT's content type.
    pub media_type: &'static str,
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// No file could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The options do not go together.
    #[error("profile {profile}: {error}")]
    Profile {
        /// Its name.
        profile: String,
        /// What is wrong.
        error: OptionError,
    },
    /// The format cannot hold it.
    #[error("profile {profile}: encoding = {encoding:?}: {reason}")]
    Encoding {
        /// Its name.
        profile: String,
        /// The encoding.
        encoding: &'static str,
        /// Why.
        reason: String,
    },
    /// Nothing that may be given up makes it small enough.
    #[error("profile {profile}: max_bytes = {max_bytes}: the smallest file has {bytes} bytes")]
    TooLarge {
        /// Its name.
        profile: String,
        /// Of the smallest file.
        bytes: usize,
        /// What is allowed.
        max_bytes: usize,
    },
    /// A picture without pixels.
    #[error("the picture has {width} x {height} pixels and {bytes} bytes")]
    Picture {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// Bytes.
        bytes: usize,
    },
}

impl RenderError {
    fn encoding(profile: &Profile, reason: &str) -> Self {
        Self::Encoding {
            profile: profile.name.clone(),
            encoding: profile.encoding.name(),
            reason: reason.to_owned(),
        }
    }
}

/// `picture` as `profile` wants it. A pure function: the same bytes for the same arguments, on every machine.
///
/// Where `max_bytes` is set, quality is given up for it first (JPEG's, then shades or dots), then, where the format says how large
/// it is and the panel is no e-paper, size.
///
/// # Errors
/// Options that do not go together, a side that the format cannot say, a file that cannot be made small enough.
pub fn render(picture: &RgbImage, profile: &Profile) -> Result<Rendered, RenderError> {
    check(picture, profile)?;
    ladder::render(picture, profile)
}

/// What the panel will show: the same dots in their measured colours.
///
/// # Errors
/// As [`render`], but for the encoding's.
pub fn preview(picture: &RgbImage, profile: &Profile) -> Result<RgbImage, RenderError> {
    check(picture, profile)?;
    let dots = dots(&compose(picture, profile, 1), profile);
    Ok(dots.rgb(profile.palette.as_ref(), true))
}

/// What dots are set for: composed, with the panel's tones, in all colours.
///
/// # Errors
/// As [`preview`].
pub fn tone_mapped(picture: &RgbImage, profile: &Profile) -> Result<RgbImage, RenderError> {
    check(picture, profile)?;
    let canvas = compose(picture, profile, 1);
    let mapping = Mapping::new(&canvas, profile);
    let pixels = mapped(&canvas, &mapping).concat();
    Ok(RgbImage { width: canvas.width, height: canvas.height, pixels })
}

fn check(picture: &RgbImage, profile: &Profile) -> Result<(), RenderError> {
    let RgbImage { width, height, pixels } = picture;
    if *width == 0 || *height == 0 || pixels.len() != width * height * 3 {
        return Err(RenderError::Picture { width: *width, height: *height, bytes: pixels.len() });
    }
    profile.check().map_err(|error| RenderError::Profile { profile: profile.name.clone(), error })
}

/// The dots of a composed picture.
fn dots(canvas: &Canvas, profile: &Profile) -> Picture {
    let mapping = Mapping::new(canvas, profile);
    let dots = match &profile.palette {
        Some(palette) => {
            let gamut = Gamut::new(palette.linear(), palette.is_gray());
            let targets = Cube::new(|light| gamut.nearest(mapping.map(light))).map(canvas);
            let numbers = dither(&targets, canvas.width, profile.dither, &Inks::new(palette));
            Dots::Inks(numbers.into_iter().map(|number| number as u8).collect())
        }
        None if profile.encoding.is_rgb565() => {
            let light = |pixel: &[u16; 3]| pixel.map(|light| f32::from(light) / 65535.0);
            let targets: Vec<Linear> = match mapping.is_identity() {
                true => canvas.pixels.iter().map(light).collect(),
                false => canvas.pixels.iter().map(|pixel| mapping.map(light(pixel))).collect(),
            };
            Dots::Rgb565(dither(&targets, canvas.width, profile.dither, &Rgb565))
        }
        None => Dots::Rgb(mapped(canvas, &mapping)),
    };
    Picture { width: canvas.width, height: canvas.height, dots }
}

/// 8-bit sRGB after `mapping`.
fn mapped(canvas: &Canvas, mapping: &Mapping) -> Vec<[u8; 3]> {
    if mapping.is_identity() {
        return canvas.pixels.iter().map(|pixel| srgb_8(*pixel)).collect();
    }
    let map = |pixel: &[u16; 3]| srgb_8(to_16(mapping.map(pixel.map(|light| f32::from(light) / 65535.0))));
    canvas.pixels.iter().map(map).collect()
}

#[cfg(test)]
mod digest_tests;
#[cfg(test)]
mod quality_tests;
#[cfg(test)]
#[path = "rendition_tests.rs"]
mod tests;
