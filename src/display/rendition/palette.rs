//! The colours that a panel has: what they look like, and what stands for them in its files.
//!
//! Dithering compares with the colours as measured on a panel; a file holds the nominal ones, or the controller's numbers.

use super::oklab::{Linear, Oklab, linear, oklab};

/// Most colours of a palette: what an index of 8 bits can say.
const INKS_MAX: usize = 256;

/// One colour of a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ink {
    /// As it looks, in 8-bit sRGB.
    pub measured: [u8; 3],
    /// As files name it, in 8-bit sRGB.
    pub nominal: [u8; 3],
    /// As the panel's controller names it.
    pub code: u8,
}

/// The colours of a panel, black before white before others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Palette {
    /// What profiles call it.
    pub name: String,
    /// 2 to 256.
    pub inks: Vec<Ink>,
}

/// Names of the palettes that are built in, with what they are.
pub const NAMES: [(&str, &str); 11] = [
    ("bw", "black and white"),
    ("bw-paper", "black and white as e-paper has them"),
    ("gray4", "four even steps of gray"),
    ("gray8", "eight even steps of gray"),
    ("gray16", "sixteen even steps of gray"),
    ("gray256", "all grays of 8 bits"),
    ("bwr", "black, white and red e-paper"),
    ("bwry", "black, white, yellow and red e-paper"),
    ("spectra6", "E Ink Spectra 6 (E6): black, white, yellow, red, blue, green"),
    ("acep7", "E Ink ACeP 7: black, white, green, blue, red, yellow, orange"),
    ("rgb332", "256 colours: 3 bits of red and green, 2 of blue"),
];

const BLACK: [u8; 3] = [0, 0, 0];
const WHITE: [u8; 3] = [255, 255, 255];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const RED: [u8; 3] = [255, 0, 0];
const YELLOW: [u8; 3] = [255, 255, 0];
const ORANGE: [u8; 3] = [255, 128, 0];

const fn ink(code: u8, nominal: [u8; 3], measured: [u8; 3]) -> Ink {
    Ink { measured, nominal, code }
}

/// OpenDisplay's measurements of a Spectra 6 panel, version 2; codes of its controller (Zephyr's ed2208-gca driver).
const SPECTRA6: [Ink; 6] = [
    ink(0, BLACK, [31, 24, 41]),
    ink(1, WHITE, [168, 180, 182]),
    ink(2, YELLOW, [180, 173, 0]),
    ink(3, RED, [113, 24, 19]),
    ink(5, BLUE, [36, 70, 139]),
    ink(6, GREEN, [50, 84, 60]),
];

/// Pimoroni's measured palette for the UC8159 (`inky`'s SATURATED_PALETTE), its white as dim as paper is; the controller's codes.
const ACEP7: [Ink; 7] = [
    ink(0, BLACK, [57, 48, 57]),
    ink(1, WHITE, [200, 203, 200]),
    ink(2, GREEN, [58, 91, 70]),
    ink(3, BLUE, [61, 59, 94]),
    ink(4, RED, [156, 72, 75]),
    ink(5, YELLOW, [208, 190, 71]),
    ink(6, ORANGE, [177, 106, 73]),
];

/// E Ink's data sheets give its black and white panels a white of about 70 % and a contrast of 12 to 20: here L* 84 and 25.
const PAPER: [Ink; 2] = [ink(0, BLACK, [58, 58, 60]), ink(1, WHITE, [208, 209, 204])];

const PAPER_RED: Ink = ink(3, RED, [150, 42, 36]);
const PAPER_YELLOW: Ink = ink(2, YELLOW, [205, 178, 50]);

impl Palette {
    /// One that is built in, or a list of colours as `#rrggbb` between commas, black and white first as far as there are any.
    pub fn parse(text: &str) -> Option<Self> {
        let inks = match text {
            "bw" => grays(2),
            "gray4" => grays(4),
            "gray8" => grays(8),
            "gray16" => grays(16),
            "gray256" => grays(256),
            "bw-paper" => PAPER.to_vec(),
            "bwr" => [&PAPER[..], &[PAPER_RED]].concat(),
            "bwry" => [&PAPER[..], &[PAPER_YELLOW, PAPER_RED]].concat(),
            "spectra6" => SPECTRA6.to_vec(),
            "acep7" => ACEP7.to_vec(),
            "rgb332" => (0..=u8::MAX).map(rgb332).collect(),
            _ => own(text)?,
        };
        Some(Self { name: text.to_owned(), inks })
    }

    /// Bits of an index into the palette: 1, 2, 4 or 8.
    pub fn bits(&self) -> u8 {
        match self.inks.len() {
            ..=2 => 1,
            3..=4 => 2,
            5..=16 => 4,
            _ => 8,
        }
    }

    /// Whether it has grays only.
    pub(super) fn is_gray(&self) -> bool {
        let gray = |colour: [u8; 3]| {
            colour.iter().max().zip(colour.iter().min()).is_some_and(|(most, least)| most - least < 8)
        };
        self.inks.iter().all(|ink| gray(ink.measured))
    }

    /// Whether its nominal colours are the `2^bits` even grays, darkest first, that a PNG needs no palette for.
    pub(super) fn is_even_gray(&self, bits: u8) -> bool {
        let levels = 1usize << bits;
        let even = |(index, ink): (usize, &Ink)| ink.nominal == [(index * 255 / (levels - 1)) as u8; 3];
        self.inks.len() == levels && self.inks.iter().enumerate().all(even)
    }

    /// Of each ink.
    pub(super) fn linear(&self) -> Vec<Linear> {
        self.inks.iter().map(|ink| linear(ink.measured)).collect()
    }

    /// The darkest and the lightest ink.
    pub(super) fn ends(&self) -> (Oklab, Oklab) {
        let mut all: Vec<Oklab> = self.linear().into_iter().map(oklab).collect();
        all.sort_by(|one, two| one[0].total_cmp(&two[0]));
        (all[0], all[all.len() - 1])
    }
}

fn grays(levels: usize) -> Vec<Ink> {
    let gray = |index: usize| [(index * 255 / (levels - 1)) as u8; 3];
    (0..levels).map(|index| ink(index as u8, gray(index), gray(index))).collect()
}

fn rgb332(code: u8) -> Ink {
    let [red, green, blue] = [code >> 5, code >> 2 & 7, code & 3].map(u16::from);
    let colour = [red * 255 / 7, green * 255 / 7, blue * 255 / 3].map(|value| value as u8);
    ink(code, colour, colour)
}

fn own(text: &str) -> Option<Vec<Ink>> {
    let colours: Vec<[u8; 3]> =
        text.split(',').map(|word| parse_colour(word.trim())).collect::<Option<_>>()?;
    let inks = (0..=u8::MAX).zip(&colours).map(|(code, colour)| ink(code, *colour, *colour)).collect();
    (2..=INKS_MAX).contains(&colours.len()).then_some(inks)
}

/// `#rrggbb`.
pub(super) fn parse_colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    let value = u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    Some([16, 8, 0].map(|shift| (value >> shift) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_palette_of_distinct_colours_and_codes() {
        for (name, _) in NAMES {
            let palette = Palette::parse(name).expect(name);
            let mut codes: Vec<u8> = palette.inks.iter().map(|ink| ink.code).collect();
            codes.dedup();
            assert_eq!(codes.len(), palette.inks.len(), "{name}");
            let (dark, light) = palette.ends();
            assert!(light[0] - dark[0] > 0.4, "{name}");
        }
    }

    #[test]
    fn own_palettes_are_colours_between_commas() {
        let palette = Palette::parse("#000000, #ffffff,#ff8000").expect("three colours");
        assert_eq!(palette.inks[2], ink(2, [255, 128, 0], [255, 128, 0]));
        assert_eq!(palette.bits(), 2);
        for wrong in ["", "#000000", "#00000,#ffffff", "black,white", "#+00000,#ffffff"] {
            assert_eq!(Palette::parse(wrong), None, "{wrong}");
        }
    }
}
