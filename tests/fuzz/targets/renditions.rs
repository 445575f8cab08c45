//! Renditions in every combination of options, of small pictures and of odd ones: refused in words, or as large as asked for, and what
//! other decoders read is what was to be seen.

#![no_main]

use easeld::diffusion::postprocess::RgbImage;
use easeld::display::rendition::{
    Dither, Encoding, Fit, Profile, RenderError, Rendered, SIDE_MAX, Tone, preview, render,
};
use libfuzzer_sys::fuzz_target;

/// Longest side of most pictures and renditions, pixels: all that happens happens at few.
const SMALL: usize = 80;
/// Sizes where rows, strides and padding go wrong.
const ODD: [(usize, usize); 4] = [(1, 1), (1, 2047), (2047, 3), (13, 7)];
const PALETTES: [&str; 12] = [
    "none", "bw", "bw-paper", "gray4", "gray8", "gray16", "gray256", "bwr", "bwry", "spectra6", "acep7", "rgb332",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((options, rest)) = bytes.split_at_checked(17) else { return };
    let pick = |at: usize, of: usize| usize::from(options[at]) % of;
    let (mut width, mut height) = (pick(0, SMALL) + 1, pick(1, SMALL) + 1);
    let (mut panel_width, mut panel_height) = (pick(2, SMALL), pick(3, SMALL));
    match options[16] {
        0..=31 => (panel_width, panel_height) = ODD[pick(2, ODD.len())],
        32..=63 => (width, height) = ODD[pick(0, ODD.len())],
        64..=71 => (panel_width, panel_height) = (SIDE_MAX + pick(2, 2), pick(3, 2) + 1),
        _ => {}
    }
    let mut pixels = rest.to_vec();
    pixels.resize(width * height * 3, options[15]);
    let picture = RgbImage { width, height, pixels };
    let mut profile = Profile {
        width: panel_width,
        height: panel_height,
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
            decode(&rendered, &picture, &profile);
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
        Err(RenderError::Profile { .. } | RenderError::TooLarge { .. } | RenderError::Encoding { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});

/// Where `image` has a decoder: the file has the pixels that a plain PNG of the same profile has.
fn decode(rendered: &Rendered, picture: &RgbImage, profile: &Profile) {
    let format = match profile.encoding {
        // `image` gives it another name than ours.
        Encoding::Qoi => Some(image::ImageFormat::Qoi),
        _ => image::ImageFormat::from_mime_type(rendered.media_type),
    };
    let Some(format) = format else {
        let of_dots = rendered.width * rendered.height;
        assert!(rendered.bytes.len() >= of_dots / 8, "{} bytes for {of_dots} dots", rendered.bytes.len());
        return;
    };
    let read = image::load_from_memory_with_format(&rendered.bytes, format).expect("a file that can be read").to_rgb8();
    assert_eq!(read.dimensions(), (rendered.width as u32, rendered.height as u32));
    let lossless = !matches!(profile.encoding, Encoding::Jpeg420 | Encoding::Jpeg444);
    // Of a bounded file some has been given up.
    if lossless && profile.max_bytes == 0 {
        let plain = Profile { encoding: Encoding::Png, ..profile.clone() };
        let plain = render(picture, &plain).expect("PNG takes all that others do");
        let plain = image::load_from_memory(&plain.bytes).expect("a PNG file").to_rgb8();
        assert!(read == plain, "{} has other pixels than PNG", profile.encoding.name());
    }
}
