//! The picture's lightness and colours as the panel can have them, before any dot is set: in OKLab.

use super::compose::Canvas;
use super::oklab::{Linear, Oklab, cones, from_oklab, oklab};
use super::palette::Palette;
use super::profile::{Profile, Tone};

/// Share of pixels that may become quite black, and quite white, when levels are set.
const CLIPPED: f32 = 0.005;
/// Most that levels stretch a dull picture.
const STRETCH_MAX: f32 = 1.6;

/// What happens to each colour.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mapping {
    /// Lightness of the picture that becomes 0, and the factor for the rest.
    floor: f32,
    gain: f32,
    contrast: f32,
    saturation: f32,
    /// The panel's black and white.
    ends: (Oklab, Oklab),
}

impl Mapping {
    /// What `profile` asks for; where it sets levels, after a look at the picture.
    pub(super) fn new(canvas: &Canvas, profile: &Profile) -> Self {
        let identity = ([0.0; 3], [1.0, 0.0, 0.0]);
        let ends = match profile.tone {
            Tone::None => identity,
            Tone::Range | Tone::Levels => profile.palette.as_ref().map_or(identity, Palette::ends),
        };
        let (floor, gain) = if profile.tone == Tone::Levels { levels(canvas) } else { (0.0, 1.0) };
        // A panel of grays has a gray picture: what it shows is held against that.
        let gray = profile.palette.as_ref().is_some_and(Palette::is_gray);
        let saturation = if gray { 0.0 } else { profile.saturation };
        Self { floor, gain, contrast: profile.contrast, saturation, ends }
    }

    /// Whether it changes nothing.
    pub(super) fn is_identity(&self) -> bool {
        *self
            == Self {
                floor: 0.0,
                gain: 1.0,
                contrast: 1.0,
                saturation: 1.0,
                ends: ([0.0; 3], [1.0, 0.0, 0.0]),
            }
    }

    /// The colour to be shown for `light`. Grays become the panel's grays: a paper that is not quite neutral is its white.
    pub(super) fn map(&self, light: Linear) -> Linear {
        let [lightness, a, b] = oklab(light);
        let lightness = curve(((lightness - self.floor) * self.gain).clamp(0.0, 1.0), self.contrast);
        let (black, white) = self.ends;
        let range = white[0] - black[0];
        let along = |channel: usize| black[channel] + (white[channel] - black[channel]) * lightness;
        let chroma = range * self.gain * self.saturation;
        from_oklab([along(0), along(1) + a * chroma, along(2) + b * chroma])
    }
}

/// An S about the middle for `contrast` above 1, its mirror image below.
fn curve(lightness: f32, contrast: f32) -> f32 {
    if contrast == 1.0 {
        return lightness;
    }
    let half = |value: f32| 0.5 * libm::powf(2.0 * value, contrast);
    if lightness < 0.5 { half(lightness) } else { 1.0 - half(1.0 - lightness) }
}

/// The lightness that becomes 0, and the factor that brings the lightest to 1.
fn levels(canvas: &Canvas) -> (f32, f32) {
    const STEPS: usize = 256;
    let mut histogram = [0usize; STEPS];
    for pixel in &canvas.pixels {
        let light = pixel.map(|light| f32::from(light) / 65535.0);
        // The mean of the cones stands for lightness: a percentile needs no more.
        let lightness = libm::cbrtf(cones(light).iter().sum::<f32>() / 3.0);
        histogram[((lightness * (STEPS - 1) as f32) as usize).min(STEPS - 1)] += 1;
    }
    let most = (canvas.pixels.len() as f32 * CLIPPED) as usize;
    let end = |order: &mut dyn Iterator<Item = usize>| -> f32 {
        let mut seen = 0;
        for step in order {
            seen += histogram[step];
            if seen > most {
                return step as f32 / (STEPS - 1) as f32;
            }
        }
        0.0
    };
    let dark = end(&mut (0..STEPS));
    let bright = end(&mut (0..STEPS).rev());
    let gain = (1.0 / (bright - dark).max(1e-3)).min(STRETCH_MAX);
    // What the bound leaves over is shared by both ends as they were.
    let spare = 1.0 - (bright - dark) * gain;
    let below = if dark + (1.0 - bright) > 0.0 { dark / (dark + 1.0 - bright) } else { 0.0 };
    (dark - spare.max(0.0) * below / gain, gain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(options: &[(&str, &str)], grays: &[u16]) -> Mapping {
        let mut profile = Profile::plain("x");
        for (name, value) in options {
            profile.set(name, value).expect(name);
        }
        let pixels: Vec<[u16; 3]> = grays.iter().map(|gray| [*gray; 3]).collect();
        Mapping::new(&Canvas { width: pixels.len(), height: 1, pixels }, &profile)
    }

    #[test]
    fn black_and_white_become_the_panels_own() {
        let mapping =
            mapping(&[("palette", "spectra6"), ("tone", "range"), ("saturation", "1.3")], &[0, 65535]);
        let palette = Palette::parse("spectra6").expect("built in");
        for (gray, ink) in [(0.0, 0), (1.0, 1)] {
            let found = mapping.map([gray; 3]);
            for (found, expected) in found.iter().zip(palette.linear()[ink]) {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }

    #[test]
    fn levels_stretch_a_dull_picture_within_bounds() {
        // Lightness 0.3 to 0.7, then 0.45 to 0.55: the second more than the bound allows.
        let gray = |lightness: f32| (lightness * lightness * lightness * 65535.0) as u16;
        let dull = mapping(&[("tone", "levels")], &[gray(0.2), gray(0.9)]);
        let lightness = |mapping: &Mapping, from: f32| oklab(mapping.map([from * from * from; 3]))[0];
        assert!(lightness(&dull, 0.2) < 0.02 && lightness(&dull, 0.9) > 0.98);
        let flat = mapping(&[("tone", "levels")], &[gray(0.45), gray(0.55)]);
        let (dark, bright) = (lightness(&flat, 0.45), lightness(&flat, 0.55));
        assert!((bright - dark - 0.16).abs() < 0.02 && dark > 0.35 && bright < 0.65, "{dark} {bright}");
    }

    #[test]
    fn nothing_asked_is_nothing_done() {
        assert!(mapping(&[], &[1000]).is_identity());
        assert!(!mapping(&[("saturation", "1.1")], &[1000]).is_identity());
        assert!((curve(0.25, 2.0) - 0.125).abs() < 1e-6 && (curve(0.75, 2.0) - 0.875).abs() < 1e-6);
    }
}
