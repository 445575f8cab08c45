//! A file of at most so many bytes: what may be given up, from the least loss to the most.
//!
//! A rendition never changes its format, and one for a palette never its size: such a panel shows what it is given, pixel by
//! pixel.

use super::compose::{Canvas, compose};
use super::encode::{Dots, Picture, encode};
use super::profile::{Dither, Encoding, Profile};
use super::{RenderError, Rendered, dots};
use crate::diffusion::postprocess::RgbImage;
use crate::display::smaller::keep;

/// Qualities of JPEG below the profile's own go down by this.
const QUALITY_STEP: u8 = 10;
/// And not below this.
const QUALITY_MIN: u8 = 10;
/// Both sides are divided by these, one after the other.
const DIVISORS: [usize; 4] = [1, 2, 4, 8];
/// Bits of each colour that lossless formats keep.
const SHADES: [u32; 4] = [8, 6, 5, 4];

/// The best file that keeps to the profile's `max_bytes`.
pub(super) fn render(picture: &RgbImage, profile: &Profile) -> Result<Rendered, RenderError> {
    let shrinks = profile.encoding.may_shrink() && profile.palette.is_none();
    let divisors = if shrinks { &DIVISORS[..] } else { &DIVISORS[..1] };
    let mut smallest = usize::MAX;
    for divisor in divisors {
        let canvas = compose(picture, profile, *divisor);
        for rung in rungs(profile) {
            let rendered = try_rung(&canvas, profile, rung)?;
            if profile.max_bytes == 0 || rendered.bytes.len() <= profile.max_bytes {
                return Ok(rendered);
            }
            smallest = smallest.min(rendered.bytes.len());
        }
    }
    let (profile, max_bytes) = (profile.name.clone(), profile.max_bytes);
    Err(RenderError::TooLarge { profile, bytes: smallest, max_bytes })
}

/// What one attempt gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Nothing,
    Quality(u8),
    Shades(u32),
    Dither(Dither),
}

fn rungs(profile: &Profile) -> Vec<Rung> {
    let mut rungs = vec![Rung::Nothing];
    if profile.max_bytes == 0 {
        return rungs;
    }
    match profile.encoding {
        Encoding::Jpeg420 | Encoding::Jpeg444 => {
            let lower = (1..10).map(|step| profile.quality.saturating_sub(step * QUALITY_STEP));
            rungs.extend(lower.filter(|quality| *quality >= QUALITY_MIN).map(Rung::Quality));
        }
        Encoding::Png | Encoding::WebP | Encoding::Qoi if profile.palette.is_none() => {
            rungs.extend(SHADES[1..].iter().map(|bits| Rung::Shades(*bits)));
        }
        // A pattern compresses well, and plain areas better.
        Encoding::Png | Encoding::WebP | Encoding::Qoi => {
            rungs.extend([Dither::Bayer, Dither::None].map(Rung::Dither));
        }
        Encoding::Png1 | Encoding::Png2 | Encoding::Png4 | Encoding::Png8 => {
            rungs.extend([Dither::Bayer, Dither::None].map(Rung::Dither));
        }
        _ => {}
    }
    rungs
}

fn try_rung(canvas: &Canvas, profile: &Profile, rung: Rung) -> Result<Rendered, RenderError> {
    let picture = match rung {
        Rung::Nothing | Rung::Quality(_) => dots(canvas, profile),
        Rung::Shades(bits) => with_shades(dots(canvas, profile), bits),
        Rung::Dither(dither) => dots(canvas, &Profile { dither, ..profile.clone() }),
    };
    let quality = if let Rung::Quality(quality) = rung { quality } else { profile.quality };
    let bytes = encode(&picture, profile, quality)?;
    let media_type = profile.encoding.media_type();
    Ok(Rendered { bytes, media_type, width: picture.width, height: picture.height })
}

fn with_shades(mut picture: Picture, bits: u32) -> Picture {
    if let Dots::Rgb(pixels) = &mut picture.dots {
        for value in pixels.iter_mut().flatten() {
            *value = keep(*value, bits);
        }
    }
    picture
}
