//! Dots of few colours that together look like the picture. Which colour is nearest is judged in OKLab; what a dot is off is
//! carried in linear light, because that is how dots add up in the eye: an error carried in OKLab or sRGB makes mixtures too
//! bright.

mod blue_noise;
mod diffusion;
mod inks;
mod levels;
mod ordered;

pub(super) use inks::Inks;
pub(super) use levels::{Rgb565, expand};

use super::oklab::Linear;
use super::profile::Dither;

/// The colours that dots can have, by numbers.
pub(super) trait Colours {
    /// The number of the colour that looks most like `light`, and its light.
    fn nearest(&self, light: Linear) -> (u16, Linear);

    /// The number of the colour of one dot of a mixture that gives `light`; over all `threshold`s from 0 to 1 the dots are that
    /// mixture.
    fn mixed(&self, light: Linear, threshold: f32) -> u16;
}

/// The number of each dot, for `targets` in rows of `width`.
pub(super) fn dither(targets: &[Linear], width: usize, dither: Dither, colours: &impl Colours) -> Vec<u16> {
    match dither {
        Dither::None => targets.iter().map(|target| colours.nearest(*target).0).collect(),
        Dither::FloydSteinberg => diffusion::diffuse(targets, width, diffusion::FLOYD_STEINBERG, colours),
        Dither::Atkinson => diffusion::diffuse(targets, width, diffusion::ATKINSON, colours),
        Dither::Stucki => diffusion::diffuse(targets, width, diffusion::STUCKI, colours),
        Dither::BlueNoise => ordered::ordered(targets, width, blue_noise::threshold, colours),
        Dither::Bayer => ordered::ordered(targets, width, ordered::bayer, colours),
    }
}

#[cfg(test)]
mod tests {
    use super::super::palette::Palette;
    use super::*;

    #[test]
    fn areas_have_the_light_that_was_wanted() {
        for (name, tolerance) in [("bw", 0.03), ("gray4", 0.02), ("spectra6", 0.03), ("acep7", 0.05)] {
            let palette = Palette::parse(name).expect("built in");
            let inks = Inks::new(&palette);
            let light = palette.linear();
            let ends =
                |channel: usize, share: f32| light[0][channel] * (1.0 - share) + light[1][channel] * share;
            for method in [Dither::FloydSteinberg, Dither::Stucki, Dither::BlueNoise, Dither::Bayer] {
                for share in [0.1, 0.35, 0.5, 0.8] {
                    let last = if name == "gray4" { 3 } else { 1 };
                    let white = light[last];
                    let wanted = [0, 1, 2].map(|channel| match name {
                        "gray4" => white[channel] * share,
                        _ => ends(channel, share),
                    });
                    let dots = dither(&vec![wanted; 64 * 64], 64, method, &inks);
                    for channel in 0..3 {
                        let sum: f32 = dots.iter().map(|dot| light[usize::from(*dot)][channel]).sum();
                        let mean = sum / dots.len() as f32;
                        assert!(
                            (mean - wanted[channel]).abs() < tolerance,
                            "{name} {method:?} {share} {channel}: {mean}, not {}",
                            wanted[channel]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_panel_has_comes_out_plain() {
        for name in ["bw-paper", "gray16", "bwr", "bwry", "spectra6", "acep7"] {
            let palette = Palette::parse(name).expect("built in");
            let inks = Inks::new(&palette);
            for (index, light) in palette.linear().into_iter().enumerate() {
                for method in Dither::ALL {
                    let dots = dither(&vec![light; 32 * 32], 32, *method, &inks);
                    assert!(dots.iter().all(|dot| usize::from(*dot) == index), "{name} {index} {method:?}");
                }
            }
        }
    }
}
