//! Brings a picture into the panel's shape: cut, resized in linear light, set on its margins, turned.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U16x3;
use fast_image_resize::{Filter, FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::oklab::linear_16;
use super::profile::{Fit, Profile};
use super::saliency::focus;
use crate::diffusion::postprocess::RgbImage;

/// From this factor of shrinking on pixels are averaged over their area: a sharper filter rings around edges that are
/// one pixel in the end.
const AREA_FROM: f64 = 6.0;

/// Rows of pixels in linear light, 16 bits each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<[u16; 3]>,
}

/// A part of a picture, pixels and parts of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Crop {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// `picture` as large as `profile`'s file, shrunk by `divisor` where that is more than 1.
pub(super) fn compose(picture: &RgbImage, profile: &Profile, divisor: usize) -> Canvas {
    let turned = profile.rotation % 180 == 90;
    let (width, height) = size(picture, profile);
    let (width, height) = (width.div_ceil(divisor), height.div_ceil(divisor));
    let (across, down) = if turned { (height, width) } else { (width, height) };
    let source = light(picture);
    let upright = match profile.fit {
        Fit::Stretch => resize(&source, whole(picture), across, down),
        Fit::Cover => resize(&source, cover(picture, across, down, (0.5, 0.5)), across, down),
        Fit::Saliency => {
            resize(&source, cover(picture, across, down, focus(picture, across, down)), across, down)
        }
        Fit::Contain => contain(&source, picture, across, down, profile.margin()),
    };
    turn(upright, profile.rotation)
}

/// The file's size; a side of 0 follows the picture's shape.
fn size(picture: &RgbImage, profile: &Profile) -> (usize, usize) {
    let (own_width, own_height) = match profile.rotation % 180 {
        90 => (picture.height, picture.width),
        _ => (picture.width, picture.height),
    };
    let scaled =
        |side: usize, own: usize, by: usize| (side * own).div_ceil(by).clamp(1, super::profile::SIDE_MAX);
    match (profile.width, profile.height) {
        (0, 0) => (own_width, own_height),
        (width, 0) => (width, scaled(width, own_height, own_width)),
        (0, height) => (scaled(height, own_width, own_height), height),
        size => size,
    }
}

fn light(picture: &RgbImage) -> Canvas {
    let pixels =
        picture.pixels.chunks_exact(3).map(|pixel| linear_16([pixel[0], pixel[1], pixel[2]])).collect();
    Canvas { width: picture.width, height: picture.height, pixels }
}

fn whole(picture: &RgbImage) -> Crop {
    Crop { left: 0.0, top: 0.0, width: picture.width as f64, height: picture.height as f64 }
}

/// The largest part of the shape `across` x `down`; `focus` says how much of what is left over is before it.
fn cover(picture: &RgbImage, across: usize, down: usize, focus: (f64, f64)) -> Crop {
    let (own_width, own_height) = (picture.width as f64, picture.height as f64);
    let (across, down) = (across as f64, down as f64);
    let width = own_width.min(own_height * across / down);
    let height = own_height.min(own_width * down / across);
    Crop { left: (own_width - width) * focus.0, top: (own_height - height) * focus.1, width, height }
}

fn contain(source: &Canvas, picture: &RgbImage, across: usize, down: usize, margin: [u8; 3]) -> Canvas {
    let inner_width = (down * picture.width / picture.height).clamp(1, across);
    let inner_height = (across * picture.height / picture.width).clamp(1, down);
    let inner = resize(source, whole(picture), inner_width, inner_height);
    let (left, top) = ((across - inner_width) / 2, (down - inner_height) / 2);
    let mut pixels = vec![linear_16(margin); across * down];
    for (row, from) in inner.pixels.chunks_exact(inner_width).enumerate() {
        let start = (top + row) * across + left;
        pixels[start..start + inner_width].copy_from_slice(from);
    }
    Canvas { width: across, height: down, pixels }
}

fn resize(source: &Canvas, crop: Crop, width: usize, height: usize) -> Canvas {
    if (source.width, source.height) == (width, height)
        && (crop.width, crop.height) == (width as f64, height as f64)
    {
        return source.clone();
    }
    let side = |length: usize| u32::try_from(length).expect("pictures and panels have sides far below 2^32");
    let pixels: Vec<U16x3> = source.pixels.iter().copied().map(U16x3::new).collect();
    let from = TypedImageRef::new(side(source.width), side(source.height), &pixels)
        .expect("as many pixels as width x height");
    let mut to = TypedImage::<U16x3>::new(side(width), side(height));
    let shrinking = (crop.width / width as f64).min(crop.height / height as f64);
    let filter = if shrinking >= AREA_FROM { FilterType::Box } else { FilterType::Custom(lanczos_filter()) };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
        crop.left,
        crop.top,
        crop.width,
        crop.height,
    );
    Resizer::new().resize_typed(&from, &mut to, &options).expect("the part lies inside the picture");
    let pixels = to.pixels().iter().map(|pixel| pixel.0).collect();
    Canvas { width, height, pixels }
}

/// Lanczos with three lobes, by `libm`: the library's own asks the platform for its sine.
fn lanczos_filter() -> Filter {
    Filter::new("lanczos3", lanczos, 3.0).expect("a support above 0")
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { libm::sin(x) / x }
    };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

/// Clockwise.
fn turn(upright: Canvas, rotation: u16) -> Canvas {
    let Canvas { width, height, ref pixels } = upright;
    let from = |at: &dyn Fn(usize, usize) -> (usize, usize), across: usize, down: usize| {
        let places = (0..down).flat_map(|y| (0..across).map(move |x| (x, y)));
        let pixels = places.map(|(x, y)| at(x, y)).map(|(x, y)| pixels[y * width + x]).collect();
        Canvas { width: across, height: down, pixels }
    };
    match rotation {
        90 => from(&|x, y| (y, height - 1 - x), height, width),
        180 => from(&|x, y| (width - 1 - x, height - 1 - y), width, height),
        270 => from(&|x, y| (width - 1 - y, x), height, width),
        _ => upright,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four corners of different gray.
    fn corners() -> RgbImage {
        RgbImage { width: 2, height: 2, pixels: [10, 60, 120, 250].iter().flat_map(|v| [*v; 3]).collect() }
    }

    fn grays(canvas: &Canvas) -> Vec<u8> {
        canvas.pixels.iter().map(|pixel| super::super::oklab::srgb_8(*pixel)[0]).collect()
    }

    #[test]
    fn turning_is_clockwise() {
        let turned = |rotation| grays(&compose(&corners(), &Profile { rotation, ..Profile::plain("x") }, 1));
        assert_eq!(turned(0), [10, 60, 120, 250]);
        assert_eq!(turned(90), [120, 10, 250, 60]);
        assert_eq!(turned(180), [250, 120, 60, 10]);
        assert_eq!(turned(270), [60, 250, 10, 120]);
    }

    #[test]
    fn black_and_white_average_to_the_gray_of_half_the_light() {
        let picture = RgbImage { width: 2, height: 1, pixels: vec![0, 0, 0, 255, 255, 255] };
        let profile = Profile { width: 1, height: 1, fit: Fit::Stretch, ..Profile::plain("x") };
        assert_eq!(grays(&compose(&picture, &profile, 1)), [188]);
    }

    #[test]
    fn margins_are_of_their_colour_and_as_wide_on_both_sides() {
        let picture = RgbImage { width: 4, height: 4, pixels: vec![255; 48] };
        let profile = Profile {
            width: 8,
            height: 4,
            fit: Fit::Contain,
            background: Some([9, 9, 9]),
            ..Profile::plain("x")
        };
        assert_eq!(grays(&compose(&picture, &profile, 1))[..8], [9, 9, 255, 255, 255, 255, 9, 9]);
    }

    #[test]
    fn one_side_of_zero_follows_the_shape() {
        let picture = RgbImage { width: 30, height: 20, pixels: vec![7; 1800] };
        let sized = |width, height, rotation| {
            let profile = Profile { width, height, rotation, ..Profile::plain("x") };
            size(&picture, &profile)
        };
        assert_eq!(sized(0, 0, 90), (20, 30));
        assert_eq!(sized(60, 0, 0), (60, 40));
        assert_eq!(sized(0, 10, 0), (15, 10));
    }
}
