//! Light and colour in numbers: sRGB, linear light, OKLab; the same bits on every machine.
//!
//! OKLab is Björn Ottosson's (<https://bottosson.github.io/posts/oklab/>). Only sums, products and quotients are taken here, which
//! IEEE 754 defines to the last bit, and `libm` for the tables: a platform's own `powf` and `cbrt` differ between x86 and ARM.

use std::sync::LazyLock;

/// Red, green and blue in linear light, 0 to 1; outside of it while an error is carried.
pub(super) type Linear = [f32; 3];
/// Lightness 0 to 1, green to red, blue to yellow.
pub(super) type Oklab = [f32; 3];

/// Linear light of each 8-bit sRGB value, as 16 bits.
static LINEAR_16: LazyLock<[u16; 256]> =
    LazyLock::new(|| std::array::from_fn(|value| libm::round(decode(value as f64 / 255.0) * 65535.0) as u16));

/// The 8-bit sRGB value nearest to each of 65536 steps of linear light.
static SRGB_8: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..=u16::MAX).map(|light| libm::round(encode(f64::from(light) / 65535.0) * 255.0) as u8).collect()
});

/// sRGB's transfer function (IEC 61966-2-1), 0 to 1 both.
fn decode(value: f64) -> f64 {
    if value <= 0.04045 { value / 12.92 } else { libm::pow((value + 0.055) / 1.055, 2.4) }
}

/// Its inverse.
pub(super) fn encode(light: f64) -> f64 {
    if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * libm::pow(light, 1.0 / 2.4) - 0.055 }
}

/// An 8-bit sRGB pixel in linear light of 16 bits.
pub(super) fn linear_16(pixel: [u8; 3]) -> [u16; 3] {
    let table = &*LINEAR_16;
    pixel.map(|value| table[usize::from(value)])
}

/// An 8-bit sRGB pixel in linear light.
pub(super) fn linear(pixel: [u8; 3]) -> Linear {
    linear_16(pixel).map(|light| f32::from(light) / 65535.0)
}

/// The nearest 8-bit sRGB pixel.
pub(super) fn srgb_8(pixel: [u16; 3]) -> [u8; 3] {
    let table = &**SRGB_8;
    pixel.map(|light| table[usize::from(light)])
}

/// To 16 bits, what lies outside at the ends.
pub(super) fn to_16(light: Linear) -> [u16; 3] {
    light.map(|light| (light.clamp(0.0, 1.0) * 65535.0 + 0.5) as u16)
}

/// Less than any light that counts.
const TRACE: f32 = 1e-30;

/// Cube roots, within two units in the last place: a guess from the exponent, then Halley's rule twice. All three at a time, in
/// a register of four.
#[inline(always)]
pub(super) fn cube_roots([one, two, three]: [f32; 3]) -> [f32; 3] {
    let values = [one, two, three, 1.0];
    let x = values.map(f32::abs);
    let mut roots = x.map(|x| f32::from_bits(x.to_bits() / 3 + 0x2a51_4067));
    for _ in 0..2 {
        for (root, x) in roots.iter_mut().zip(x) {
            let cube = *root * *root * *root;
            // The trace keeps 0 / 0 away, and is lost beside anything else.
            *root *= (cube + x + x + TRACE) / (cube + cube + x + TRACE);
        }
    }
    [0, 1, 2].map(|place| roots[place].copysign(values[place]))
}

/// The responses of the eye's cones to `light`.
#[inline(always)]
pub(super) fn cones([r, g, b]: Linear) -> [f32; 3] {
    [
        0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b,
        0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b,
        0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b,
    ]
}

/// OKLab of compressed cone responses.
#[inline(always)]
pub(super) fn opponents([l, m, s]: [f32; 3]) -> Oklab {
    [
        0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
    ]
}

/// OKLab of linear light, negative light included.
#[inline(always)]
pub(super) fn oklab(light: Linear) -> Oklab {
    opponents(cube_roots(cones(light)))
}

/// Linear light of OKLab; outside 0 to 1 where sRGB does not have the colour.
pub(super) fn from_oklab([lightness, a, b]: Oklab) -> Linear {
    let l = lightness + 0.396_337_78 * a + 0.215_803_76 * b;
    let m = lightness - 0.105_561_346 * a - 0.063_854_17 * b;
    let s = lightness - 0.089_484_18 * a - 1.291_485_5 * b;
    let [l, m, s] = [l * l * l, m * m * m, s * s * s];
    [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours_have_their_published_values() {
        // Ottosson's table, XYZ aside: white, and sRGB's primaries as CSS Color 4 gives them.
        for (pixel, expected) in [
            ([255, 255, 255], [1.0, 0.0, 0.0]),
            ([255, 0, 0], [0.62796, 0.22486, 0.12585]),
            ([0, 255, 0], [0.86644, -0.23389, 0.17950]),
            ([0, 0, 255], [0.45201, -0.03246, -0.31153]),
        ] {
            let found = oklab(linear(pixel));
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 2e-4, "{pixel:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn there_and_back_is_the_same_pixel() {
        for value in 0..=255u8 {
            let pixel = [value, 255 - value, value / 2];
            assert_eq!(srgb_8(linear_16(pixel)), pixel);
            assert_eq!(srgb_8(to_16(from_oklab(oklab(linear(pixel))))), pixel);
        }
    }

    #[test]
    fn cube_roots_are_exact_to_float() {
        for step in 1..2000 {
            let x = step as f32 / 1000.0;
            let expected = libm::cbrt(f64::from(x)) as f32;
            let [root, negative, nothing] = cube_roots([x, -x, 0.0]);
            assert!((root - expected).abs() <= 2.5e-7 * expected, "{x}");
            assert_eq!(negative, -root);
            assert!(nothing.abs() < 1e-12);
        }
    }
}
