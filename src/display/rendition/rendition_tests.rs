//! Whole renditions: sizes of every profile, odd sizes in every encoding, read back byte by byte from the published layouts.

use super::*;

/// A picture with edges, gradients and strong colours.
pub(super) fn picture(width: usize, height: usize) -> RgbImage {
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x * 255 / width.max(2), y * 255 / height.max(2));
            let ring = (u.abs_diff(128).pow(2) + v.abs_diff(128).pow(2)) / 64;
            pixels.extend(match ring {
                0..64 => [220, 40, 30],
                64..128 => [u as u8, 200, v as u8],
                _ => [u as u8, v as u8, (255 - u) as u8],
            });
        }
    }
    RgbImage { width, height, pixels }
}

/// A profile of this encoding with a palette that goes with it.
pub(super) fn profile(encoding: Encoding, width: usize, height: usize) -> Profile {
    let palette = match encoding {
        Encoding::Png1 | Encoding::Bmp1 | Encoding::Packed1 => Some("bw-paper"),
        Encoding::Png2 | Encoding::Packed2 => Some("bwry"),
        Encoding::Planes => Some("bwr"),
        Encoding::Png4 | Encoding::Bmp4 | Encoding::Packed4 | Encoding::Lvgl9Indexed => Some("spectra6"),
        Encoding::Lvgl8Indexed => Some("acep7"),
        Encoding::Png8 | Encoding::Bmp8 => Some("gray256"),
        _ => None,
    };
    let palette = palette.and_then(Palette::parse);
    Profile { width, height, palette, encoding, ..Profile::plain("test") }
}

/// A file and what is known of it.
struct File<'a> {
    bytes: &'a [u8],
    width: usize,
    height: usize,
}

/// Of B, G, R in memory.
fn bgr(entry: &[u8]) -> [u8; 3] {
    [entry[2], entry[1], entry[0]]
}

impl File<'_> {
    fn short(&self, at: usize) -> usize {
        usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    fn long(&self, at: usize) -> usize {
        self.short(at) | self.short(at + 2) << 16
    }

    /// Rows of values of so many bits from `start`, `stride` bytes each, the first in the highest bits.
    fn values(&self, start: usize, bits: usize, stride: usize) -> Vec<Vec<usize>> {
        let value = |x: usize, y: usize| {
            let byte = self.bytes[start + y * stride + x * bits / 8];
            usize::from(byte >> (8 - bits - x * bits % 8)) & ((1 << bits) - 1)
        };
        (0..self.height).map(|y| (0..self.width).map(|x| value(x, y)).collect()).collect()
    }

    /// BITMAPFILEHEADER, BITMAPINFOHEADER, colours, rows from the bottom in multiples of four bytes.
    fn bmp(&self) -> Vec<u8> {
        let File { bytes, width, height } = *self;
        assert_eq!(&bytes[..2], b"BM");
        assert_eq!(
            (self.long(2), self.long(14), self.long(18), self.long(22)),
            (bytes.len(), 40, width, height)
        );
        let (offset, bits) = (self.long(10), self.short(28));
        let stride = (width * bits).div_ceil(32) * 4;
        assert_eq!((bytes.len(), self.long(34)), (offset + stride * height, stride * height));
        let mut rows: Vec<Vec<u8>> = match bits {
            24 => (0..height)
                .map(|y| bytes[offset + y * stride..][..width * 3].chunks(3).flat_map(bgr).collect())
                .collect(),
            _ => {
                let rows = self.values(offset, bits, stride);
                rows.iter()
                    .map(|row| row.iter().flat_map(|index| bgr(&bytes[54 + index * 4..])).collect())
                    .collect()
            }
        };
        rows.reverse();
        rows.concat()
    }

    fn rgb565(&self, header: usize, big: bool) -> Vec<u8> {
        assert_eq!(self.bytes.len(), header + self.width * self.height * 2);
        let pixel = |pair: &[u8]| {
            let [high, low] = if big { [pair[0], pair[1]] } else { [pair[1], pair[0]] };
            let value = u16::from(high) << 8 | u16::from(low);
            let wide = |level: u16, most: u16| (f32::from(level) * 255.0 / f32::from(most)).round() as u8;
            [wide(value >> 11, 31), wide(value >> 5 & 63, 63), wide(value & 31, 31)]
        };
        self.bytes[header..].chunks(2).flat_map(pixel).collect()
    }

    /// `lv_image_header_t`: magic, format, flags, width, height, stride, reserved.
    fn lvgl9(&self, format: u8, stride: usize) {
        assert_eq!((self.bytes[0], self.bytes[1], self.short(2)), (0x19, format, 0));
        let sizes = (self.short(4), self.short(6), self.short(8), self.short(10));
        assert_eq!(sizes, (self.width, self.height, stride, 0));
    }

    /// `lv_img_header_t`: 5 bits of format, 5 of nothing, 11 each of width and height.
    fn lvgl8(&self, format: usize) {
        let header = self.long(0);
        assert_eq!((header & 31, header >> 5 & 31), (format, 0));
        assert_eq!((header >> 10 & 0x7ff, header >> 21), (self.width, self.height));
    }

    /// Sixteen colours behind `header`, then two pixels a byte.
    fn sixteen(&self, header: usize) -> Vec<u8> {
        let stride = self.width.div_ceil(2);
        assert_eq!(self.bytes.len(), header + 64 + stride * self.height);
        let rows = self.values(header + 64, 4, stride).concat();
        rows.iter().flat_map(|index| bgr(&self.bytes[header + index * 4..])).collect()
    }

    fn packed(&self, bits: usize, inks: &[Ink]) -> Vec<u8> {
        let stride = (self.width * bits).div_ceil(8);
        assert_eq!(self.bytes.len(), stride * self.height);
        let ink = |code: usize| inks.iter().find(|ink| usize::from(ink.code) == code).expect("a known code");
        self.values(0, bits, stride).concat().into_iter().flat_map(|code| ink(code).nominal).collect()
    }

    fn planes(&self) -> Vec<u8> {
        let stride = self.width.div_ceil(8);
        assert_eq!(self.bytes.len(), 2 * stride * self.height);
        let black = self.values(0, 1, stride).concat();
        let red = self.values(stride * self.height, 1, stride).concat();
        let pixel = |inks: (usize, usize)| match inks {
            (0, 1) => [0, 0, 0],
            (1, 0) => [255, 0, 0],
            (1, 1) => [255; 3],
            _ => panic!("two inks on one place"),
        };
        black.into_iter().zip(red).flat_map(pixel).collect()
    }

    fn awtrix(&self) -> Vec<u8> {
        let json: serde_json::Value = serde_json::from_slice(self.bytes).expect("JSON");
        let db = &json["draw"][0]["db"];
        assert_eq!(
            (&db[0], &db[1], &db[2], &db[3]),
            (&0.into(), &0.into(), &self.width.into(), &self.height.into())
        );
        let numbers = db[4].as_array().expect("numbers");
        numbers
            .iter()
            .flat_map(|number| number.as_u64().expect("a colour").to_be_bytes()[5..].to_vec())
            .collect()
    }
}

/// What is in the file, by hand-written readers and by `image`'s, as 8-bit RGB; nothing may be left over.
fn read(encoding: Encoding, bytes: &[u8], width: usize, height: usize, palette: Option<&Palette>) -> Vec<u8> {
    let file = File { bytes, width, height };
    let inks = palette.map_or(&[][..], |palette| &palette.inks);
    match encoding {
        Encoding::Bmp1 | Encoding::Bmp4 | Encoding::Bmp8 | Encoding::Bmp24 => file.bmp(),
        Encoding::Rgb888 => bytes.to_vec(),
        Encoding::Rgb565Le => file.rgb565(0, false),
        Encoding::Rgb565Be => file.rgb565(0, true),
        Encoding::Lvgl8Rgb565 => {
            file.lvgl8(4);
            file.rgb565(4, false)
        }
        Encoding::Lvgl8Indexed => {
            file.lvgl8(9);
            file.sixteen(4)
        }
        Encoding::Lvgl9Rgb565 => {
            file.lvgl9(0x12, width * 2);
            file.rgb565(12, false)
        }
        Encoding::Lvgl9Indexed => {
            file.lvgl9(0x09, width.div_ceil(2));
            file.sixteen(12)
        }
        Encoding::Lvgl9Rgb888 => {
            file.lvgl9(0x0f, width * 3);
            bytes[12..].chunks(3).flat_map(bgr).collect()
        }
        Encoding::Lvgl9L8 => {
            file.lvgl9(0x06, width);
            bytes[12..].iter().flat_map(|gray| [*gray; 3]).collect()
        }
        Encoding::Packed1 => file.packed(1, inks),
        Encoding::Packed2 => file.packed(2, inks),
        Encoding::Packed4 => file.packed(4, inks),
        Encoding::Planes => file.planes(),
        Encoding::Awtrix => file.awtrix(),
        Encoding::Qoi => qoi(bytes, width, height),
        _ => {
            let picture = image::load_from_memory(bytes).expect("a file").to_rgb8();
            assert_eq!((picture.width() as usize, picture.height() as usize), (width, height));
            picture.into_raw()
        }
    }
}

/// The Quite OK Image format, after its one-page specification.
fn qoi(bytes: &[u8], width: usize, height: usize) -> Vec<u8> {
    assert_eq!((&bytes[..4], bytes[12]), (&b"qoif"[..], 3));
    assert_eq!(bytes[4..12], [(width as u32).to_be_bytes(), (height as u32).to_be_bytes()].concat());
    assert_eq!(bytes[bytes.len() - 8..], [0, 0, 0, 0, 0, 0, 0, 1]);
    let (mut seen, mut pixel, mut at) = ([[0u8; 4]; 64], [0u8, 0, 0, 255], 14);
    let mut pixels = Vec::new();
    while at < bytes.len() - 8 {
        let byte = bytes[at];
        at += 1;
        let mut run = 1;
        match (byte >> 6, byte & 63) {
            _ if byte == 254 => {
                pixel[..3].copy_from_slice(&bytes[at..at + 3]);
                at += 3;
            }
            (0, index) => pixel = seen[usize::from(index)],
            (1, diff) => {
                for (channel, shift) in [4, 2, 0].into_iter().enumerate() {
                    pixel[channel] = pixel[channel].wrapping_add((diff >> shift & 3).wrapping_sub(2));
                }
            }
            (2, green) => {
                let (green, rest) = (green.wrapping_sub(32), bytes[at]);
                at += 1;
                pixel[0] = pixel[0].wrapping_add(green.wrapping_add(rest >> 4).wrapping_sub(8));
                pixel[1] = pixel[1].wrapping_add(green);
                pixel[2] = pixel[2].wrapping_add(green.wrapping_add(rest & 15).wrapping_sub(8));
            }
            (_, length) => run = usize::from(length) + 1,
        }
        let hash = [3, 5, 7, 11].iter().zip(pixel).map(|(by, value)| by * usize::from(value)).sum::<usize>();
        seen[hash % 64] = pixel;
        (0..run).for_each(|_| pixels.extend_from_slice(&pixel[..3]));
    }
    pixels
}

#[test]
fn every_encoding_says_at_every_size_what_was_drawn() {
    let picture = picture(37, 29);
    for encoding in Encoding::ALL {
        for (width, height) in [(1, 1), (1, 2047), (2047, 3), (13, 7), (16, 8)] {
            let profile = profile(*encoding, width, height);
            let name = encoding.name();
            let rendered = render(&picture, &profile).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((rendered.width, rendered.height), (width, height), "{name}");
            let read = read(*encoding, &rendered.bytes, width, height, profile.palette.as_ref());
            let drawn = dots(&compose(&picture, &profile, 1), &profile).rgb(profile.palette.as_ref(), false);
            assert_eq!(read.len(), drawn.pixels.len(), "{name} {width} x {height}");
            match encoding {
                // `image`'s decoder smears halved colour over a column alone; Pillow, which does not, reads it in
                // tests/display/verify.py.
                Encoding::Jpeg420 if width == 1 => {}
                Encoding::Jpeg420 | Encoding::Jpeg444 => {
                    let off = read.iter().zip(&drawn.pixels).map(|(one, two)| f64::from(one.abs_diff(*two)));
                    // Edges of strong colours all over: halved, much of that is lost.
                    let most = if *encoding == Encoding::Jpeg420 { 30.0 } else { 14.0 };
                    assert!(off.sum::<f64>() / (read.len() as f64) < most, "{name} {width} x {height}");
                }
                Encoding::Lvgl9L8 => {}
                _ => assert_eq!(read, drawn.pixels, "{name} {width} x {height}"),
            }
        }
    }
}

#[test]
fn sides_that_a_format_cannot_say_are_refused_by_name() {
    let wide = profile(Encoding::Lvgl8Rgb565, 2048, 1);
    let error = render(&picture(8, 8), &wide).expect_err("11 bits").to_string();
    assert!(error.contains("lvgl8-rgb565") && error.contains("2047"), "{error}");
    let nothing = RgbImage { width: 0, height: 4, pixels: Vec::new() };
    assert!(matches!(render(&nothing, &Profile::plain("x")), Err(RenderError::Picture { .. })));
}

#[test]
fn profiles_have_the_byte_counts_of_their_products() {
    let picture = picture(64, 64);
    let bytes = |name: &str| {
        let profiles = Profiles::builtin();
        render(&picture, profiles.get(name).expect(name)).expect(name).bytes.len()
    };
    for (name, expected) in [
        ("trmnl", 48_062),
        ("waveshare-7in3-e6", 192_000),
        ("waveshare-7in3-f", 192_000),
        ("waveshare-7in5-v2", 48_000),
        ("waveshare-7in5b-v2", 96_000),
        ("waveshare-4in2-g", 30_000),
        ("esp32-240x240", 115_200),
        ("m5stack-320x240", 153_600),
        ("lvgl9-480x320", 307_212),
        ("lvgl8-480x320", 307_204),
        ("hub75-64x64", 12_288),
        ("photoframe-e6", 54 + 800 * 480 * 3),
    ] {
        assert_eq!(bytes(name), expected, "{name}");
    }
    assert!(bytes("trmnl-png") < 90_000);
}

#[test]
fn jpegs_are_baseline_with_the_sampling_asked_for() {
    for (encoding, sampling) in [(Encoding::Jpeg420, 0x22), (Encoding::Jpeg444, 0x11)] {
        let bytes = render(&picture(40, 30), &profile(encoding, 0, 0)).expect("a picture").bytes;
        let markers: Vec<u8> = bytes.windows(2).filter(|pair| pair[0] == 0xff).map(|pair| pair[1]).collect();
        assert!(markers.contains(&0xc0) && !markers.iter().any(|marker| [0xc1, 0xc2, 0xc9].contains(marker)));
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("SOF0");
        assert_eq!(bytes[frame + 11], sampling);
    }
}

#[test]
fn files_keep_to_their_bytes_or_say_that_they_cannot() {
    let picture = picture(256, 256);
    for encoding in [Encoding::Png, Encoding::Jpeg420, Encoding::WebP, Encoding::Qoi] {
        let whole = render(&picture, &profile(encoding, 0, 0)).expect("any size").bytes.len();
        let max_bytes = whole / 3;
        let profile = Profile { max_bytes, ..profile(encoding, 0, 0) };
        let rendered = render(&picture, &profile).expect("smaller");
        assert!(rendered.bytes.len() <= max_bytes, "{}", encoding.name());
    }
    let panel = Profile { max_bytes: 100, ..profile(Encoding::Png4, 256, 256) };
    let error = render(&picture, &panel).expect_err("a panel keeps its size");
    assert!(matches!(error, RenderError::TooLarge { max_bytes: 100, .. }), "{error}");
}

#[test]
fn rgb332_has_256_colours_whose_dots_add_up_to_the_picture() {
    let palette = Palette::parse("rgb332").expect("a name");
    let picture = picture(96, 64);
    let light = |colour: &[u8]| oklab::linear([colour[0], colour[1], colour[2]]);
    let mean = |pixels: &[u8]| {
        let sum = pixels.chunks_exact(3).map(light).fold([0.0_f64; 3], |sum, light| {
            [0, 1, 2].map(|channel| sum[channel] + f64::from(light[channel]))
        });
        sum.map(|sum| sum / (pixels.len() / 3) as f64)
    };
    for dither in [Dither::FloydSteinberg, Dither::Stucki, Dither::BlueNoise] {
        let base = profile(Encoding::Bmp8, 0, 0);
        let profile = Profile { palette: Some(palette.clone()), dither, ..base };
        let rendered = render(&picture, &profile).expect("a picture");
        let read = read(Encoding::Bmp8, &rendered.bytes, 96, 64, Some(&palette));
        let steps = |value: u8, most: u16| (0..=most).any(|step| (step * 255 / most) as u8 == value);
        assert!(read.chunks_exact(3).all(|c| steps(c[0], 7) && steps(c[1], 7) && steps(c[2], 3)));
        let used: std::collections::BTreeSet<&[u8]> = read.chunks_exact(3).collect();
        assert!(used.len() > 40, "{} colours", used.len());
        let (is, should) = (mean(&read), mean(&picture.pixels));
        let off = is.iter().zip(should).map(|(is, should)| (is - should).abs()).fold(0.0, f64::max);
        assert!(off < 0.02, "{}: {is:?} for {should:?}", dither.name());
    }
}
