//! Renditions of small pictures in every combination of options: refused in words, or as large as asked for.

#![no_main]

use easeld::diffusion::postprocess::RgbImage;
use easeld::display::rendition::{Dither, Encoding, Fit, Profile, RenderError, Tone, preview, render};
use libfuzzer_sys::fuzz_target;

/// Longest side of a picture and of a rendition, pixels: all that happens happens at few.
const SIDE_MAX: usize = 80;
const PALETTES: [&str; 8] = ["none", "bw", "bw-paper", "gray4", "bwr", "bwry", "spectra6", "acep7"];

fuzz_target!(|bytes: &[u8]| {
    let Some((options, rest)) = bytes.split_at_checked(16) else { return };
    let pick = |at: usize, of: usize| usize::from(options[at]) % of;
    let (width, height) = (pick(0, SIDE_MAX) + 1, pick(1, SIDE_MAX) + 1);
    let mut pixels = rest.to_vec();
    pixels.resize(width * height * 3, options[15]);
    let picture = RgbImage { width, height, pixels };
    let mut profile = Profile {
        width: pick(2, SIDE_MAX),
        height: pick(3, SIDE_MAX),
        rotation: [0, 90, 180, 270][pick(4, 4)],
        fit: Fit::ALL[pick(5, Fit::ALL.len())],
        tone: Tone::ALL[pick(6, Tone::ALL.len())],
        contrast: f32::from(options[7]) / 64.0 + 0.25,
        saturation: f32::from(options[8]) / 64.0,
        dither: Dither::ALL[pick(9, Dither::ALL.len())],
        encoding: Encoding::ALL[pick(10, Encoding::ALL.len())],
        quality: options[12] % 100 + 1,
        max_bytes: usize::from(options[13]) * usize::from(options[14]),
        ..Profile::plain("fuzz")
    };
    profile.set("palette", PALETTES[pick(11, PALETTES.len())]).expect("a known palette");
    match render(&picture, &profile) {
        Ok(rendered) => {
            assert!(!rendered.bytes.is_empty());
            assert!(profile.max_bytes == 0 || rendered.bytes.len() <= profile.max_bytes);
            if profile.max_bytes == 0 {
                assert!(profile.width == 0 || rendered.width == profile.width);
                assert!(profile.height == 0 || rendered.height == profile.height);
                let shown = preview(&picture, &profile).expect("it was rendered");
                assert_eq!((shown.width, shown.height), (rendered.width, rendered.height));
                assert_eq!(shown.pixels.len(), shown.width * shown.height * 3);
            }
            let again = render(&picture, &profile).expect("it was rendered");
            assert_eq!(again, rendered);
        }
        Err(RenderError::Profile { .. } | RenderError::TooLarge { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
