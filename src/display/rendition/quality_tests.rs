//! How near dots come to the picture, against `image`'s Floyd-Steinberg: the mean distance in OKLab after a blur that stands for the
//! eye, of both sides from the same tone-mapped picture, with the same measured palette.

use image::imageops::ColorMap;
use image::{Rgb, RgbImage as Buffer};

use super::oklab::{linear, oklab};
use super::*;

/// Of the eye's blur, dots: half a millimetre on a panel of 130 dots an inch.
const SIGMA: f64 = 2.0;
/// Dots are the same at any size; this many take little time.
const SIZE: (usize, usize) = (200, 120);

/// Nearest in sRGB, as a user of `image` would write it.
struct Nearest<'a>(&'a Palette);

impl ColorMap for Nearest<'_> {
    type Color = Rgb<u8>;

    fn index_of(&self, colour: &Rgb<u8>) -> usize {
        let distance = |ink: &Ink| -> i32 {
            ink.measured
                .iter()
                .zip(colour.0)
                .map(|(one, two)| (i32::from(*one) - i32::from(two)).pow(2))
                .sum()
        };
        let inks = self.0.inks.iter().enumerate();
        inks.min_by_key(|(_, ink)| distance(ink)).map_or(0, |(index, _)| index)
    }

    fn map_color(&self, colour: &mut Rgb<u8>) {
        colour.0 = self.0.inks[self.index_of(colour)].measured;
    }
}

fn by_image(wanted: &RgbImage, palette: &Palette) -> RgbImage {
    let (width, height) = (wanted.width as u32, wanted.height as u32);
    let mut buffer = Buffer::from_raw(width, height, wanted.pixels.clone()).expect("whole rows");
    image::imageops::dither(&mut buffer, &Nearest(palette));
    RgbImage { pixels: buffer.into_raw(), ..*wanted }
}

/// In linear light, seen from afar.
fn blurred(picture: &RgbImage) -> Vec<[f64; 3]> {
    let reach = (3.0 * SIGMA) as isize;
    let weights: Vec<f64> =
        (-reach..=reach).map(|at| (-(at * at) as f64 / (2.0 * SIGMA * SIGMA)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let pass = |light: &[[f64; 3]], dx: isize, dy: isize| -> Vec<[f64; 3]> {
        let (width, height) = (picture.width as isize, picture.height as isize);
        let at =
            |x: isize, y: isize| light[(y.clamp(0, height - 1) * width + x.clamp(0, width - 1)) as usize];
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let mean = |(x, y): (isize, isize)| {
            (-reach..=reach).zip(&weights).fold([0.0; 3], |mean, (off, weight)| {
                let light = at(x + off * dx, y + off * dy);
                [0, 1, 2].map(|channel| mean[channel] + light[channel] * weight / sum)
            })
        };
        places.map(mean).collect()
    };
    let light: Vec<[f64; 3]> =
        picture.pixels.chunks_exact(3).map(|p| linear([p[0], p[1], p[2]]).map(f64::from)).collect();
    pass(&pass(&light, 1, 0), 0, 1)
}

fn error(dots: &RgbImage, wanted: &RgbImage) -> f64 {
    let look = |light: [f64; 3]| oklab(light.map(|light| light as f32));
    let distance = |(one, two): (&[f64; 3], &[f64; 3])| {
        let off = look(*one).into_iter().zip(look(*two)).map(|(one, two)| f64::from(one - two).powi(2));
        off.sum::<f64>().sqrt()
    };
    let (one, two) = (blurred(dots), blurred(wanted));
    one.iter().zip(&two).map(distance).sum::<f64>() / one.len() as f64
}

/// Five that easeld painted, and five drawn here: gradients, waves, noise, a chart, a vignette.
fn pictures() -> Vec<RgbImage> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/display/pictures");
    let painted = ["apple", "fox", "house", "crown", "cat"].map(|name| {
        let picture = image::open(format!("{directory}/{name}.png")).expect(name).to_rgb8();
        RgbImage { width: 128, height: 128, pixels: picture.into_raw() }
    });
    let mut random = 7u32;
    let mut noise = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as usize
    };
    let mut draw = |pixel: &mut dyn FnMut(usize, usize, usize) -> [usize; 3]| {
        let values = (0..128 * 128).flat_map(|at| pixel(at % 128, at / 128, noise()));
        RgbImage { width: 128, height: 128, pixels: values.map(|value| value.min(255) as u8).collect() }
    };
    let drawn = [
        draw(&mut |x, y, _| [x * 2, y * 2, 255 - x - y / 2]),
        draw(&mut |x, y, _| [(x * y / 32) % 256, 90 + x, 200 - y]),
        draw(&mut |x, y, noise| [60 + x / 2 + noise / 4, 90 + y / 2 + noise / 4, 70 + noise / 4]),
        draw(&mut |x, y, _| [x / 32 * 80, y / 32 * 80, (x / 16 + y / 16) % 4 * 80]),
        draw(&mut |x, y, _| {
            let off = (x.abs_diff(64).pow(2) + y.abs_diff(64).pow(2)) / 40;
            [240 - off.min(200), 190 - off.min(170), 160 - off.min(150)]
        }),
    ];
    painted.into_iter().chain(drawn).collect()
}

#[test]
fn every_profiles_own_dither_is_nearer_than_images_floyd_steinberg() {
    let mut seen = Vec::new();
    for profile in Profiles::builtin().iter() {
        let Some(palette) = profile.palette.clone().filter(|_| profile.dither != Dither::None) else {
            continue;
        };
        if seen.contains(&palette.name) {
            continue;
        }
        let profile = Profile { width: SIZE.0, height: SIZE.1, ..profile.clone() };
        let mut sums = [0.0; 2];
        let mut lower = 0;
        for picture in pictures() {
            let wanted = tone_mapped(&picture, &profile).expect("a profile of ours");
            let ours = error(&preview(&picture, &profile).expect("a profile of ours"), &wanted);
            let theirs = error(&by_image(&wanted, &palette), &wanted);
            sums = [sums[0] + ours / 10.0, sums[1] + theirs / 10.0];
            lower += usize::from(ours < theirs);
        }
        println!(
            "{:10} {:16} ours {:.4}, image {:.4}, lower on {lower} of 10",
            palette.name,
            profile.dither.name(),
            sums[0],
            sums[1]
        );
        assert!(sums[0] < sums[1], "{}: {sums:?}", profile.name);
        seen.push(palette.name);
    }
    assert!(seen.len() >= 8, "{seen:?}");
}
