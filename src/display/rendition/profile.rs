//! What a panel wants: a profile, and the words for each of its options.

use super::palette::Palette;

/// Longest side of a rendition, pixels: what 13 bits can say, and more than any panel has.
pub const SIDE_MAX: usize = 8192;

/// An enumeration whose variants have the names that profiles call them by.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// What profiles call it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The one of this name.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.name() == text)
            }
        }
    };
}

named! {
    /// How a picture comes into a panel of another shape.
    Fit {
        /// Fills the panel; what is too much is cut off at both ends alike.
        Cover = "cover",
        /// Is there as a whole, with margins.
        Contain = "contain",
        /// Fills the panel; what stands out stays.
        Saliency = "saliency",
        /// Fills the panel, distorted.
        Stretch = "stretch",
    }
}

named! {
    /// How the picture's lightness becomes the panel's.
    Tone {
        /// Not at all: what the panel cannot show is clipped.
        None = "none",
        /// Black becomes the panel's black, white its white, and everything between stays between.
        Range = "range",
        /// The same, after the picture's own darkest and lightest became black and white.
        Levels = "levels",
    }
}

named! {
    /// How colours that the panel does not have are mixed from dots.
    Dither {
        /// The nearest colour.
        None = "none",
        /// Floyd and Steinberg 1976, rows in turns.
        FloydSteinberg = "floyd-steinberg",
        /// Bill Atkinson's, who drops a quarter of the error: more contrast.
        Atkinson = "atkinson",
        /// Stucki 1981: over two further rows.
        Stucki = "stucki",
        /// A threshold per pixel without a pattern (Ulichney 1993): still where the picture is still.
        BlueNoise = "blue-noise",
        /// A threshold per pixel in 8 x 8 (Bayer 1973): a pattern that compresses well.
        Bayer = "bayer",
    }
}

named! {
    /// The bytes.
    Encoding {
        /// PNG, 8-bit RGB.
        Png = "png",
        /// PNG, 1-bit gray or indexed.
        Png1 = "png-1",
        /// PNG, 2-bit gray or indexed.
        Png2 = "png-2",
        /// PNG, 4-bit gray or indexed.
        Png4 = "png-4",
        /// PNG, 8-bit gray or indexed.
        Png8 = "png-8",
        /// Baseline JPEG, colour at half the resolution.
        Jpeg420 = "jpeg",
        /// Baseline JPEG, colour at full resolution.
        Jpeg444 = "jpeg-444",
        /// WebP, lossless.
        WebP = "webp",
        /// Windows bitmap, 1-bit indexed.
        Bmp1 = "bmp-1",
        /// Windows bitmap, 4-bit indexed.
        Bmp4 = "bmp-4",
        /// Windows bitmap, 8-bit indexed.
        Bmp8 = "bmp-8",
        /// Windows bitmap, 24-bit.
        Bmp24 = "bmp-24",
        /// The Quite OK Image format.
        Qoi = "qoi",
        /// Three bytes a pixel, row by row, nothing else.
        Rgb888 = "rgb888",
        /// Two bytes a pixel, the low one first.
        Rgb565Le = "rgb565-le",
        /// Two bytes a pixel, the high one first, as SPI displays take them.
        Rgb565Be = "rgb565-be",
        /// LVGL 8's binary image, 16-bit true colour.
        Lvgl8Rgb565 = "lvgl8-rgb565",
        /// LVGL 8's binary image, indexed.
        Lvgl8Indexed = "lvgl8-indexed",
        /// LVGL 9's binary image, RGB565.
        Lvgl9Rgb565 = "lvgl9-rgb565",
        /// LVGL 9's binary image, RGB888.
        Lvgl9Rgb888 = "lvgl9-rgb888",
        /// LVGL 9's binary image, 8-bit gray.
        Lvgl9L8 = "lvgl9-l8",
        /// LVGL 9's binary image, indexed with as many bits as the palette needs.
        Lvgl9Indexed = "lvgl9-indexed",
        /// The controller's numbers of the colours, 8 pixels a byte, the first in the highest bit.
        Packed1 = "packed-1",
        /// The same, 4 pixels a byte.
        Packed2 = "packed-2",
        /// The same, 2 pixels a byte.
        Packed4 = "packed-4",
        /// A plane of bits for black, then one for each further colour; 0 is ink.
        Planes = "planes",
        /// AWTRIX 3's JSON: a `db` instruction with a number a pixel.
        Awtrix = "awtrix",
    }
}

/// What a panel wants. [`Profile::set`] is how options get their values, wherever they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// `[A-Za-z0-9_-]{1,64}`: the last level of its topic and of its URL.
    pub name: String,
    /// The product, for people.
    pub title: String,
    /// Where the facts are from.
    pub source: String,
    /// Pixels of a row of the file; 0 for the picture's own.
    pub width: usize,
    /// Rows of the file; 0 for the picture's own.
    pub height: usize,
    /// By how much the picture is turned clockwise into the file: 0, 90, 180 or 270 degrees.
    pub rotation: u16,
    /// How it comes into another shape.
    pub fit: Fit,
    /// Of margins, in sRGB; else the panel's white, or black where it has no palette.
    pub background: Option<[u8; 3]>,
    /// How lightness is mapped.
    pub tone: Tone,
    /// Of lightness about the middle, 0.25 to 4; 1 leaves it.
    pub contrast: f32,
    /// Factor of OKLab's chroma, 0 to 4; 1 leaves it.
    pub saturation: f32,
    /// The panel's colours; else it has all.
    pub palette: Option<Palette>,
    /// How others are mixed.
    pub dither: Dither,
    /// The bytes.
    pub encoding: Encoding,
    /// Of JPEG, 1 to 100.
    pub quality: u8,
    /// Most bytes of the file; 0 for any.
    pub max_bytes: usize,
}

impl Profile {
    /// PNG of the picture as it is.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: String::new(),
            source: String::new(),
            width: 0,
            height: 0,
            rotation: 0,
            fit: Fit::Cover,
            background: None,
            tone: Tone::None,
            contrast: 1.0,
            saturation: 1.0,
            palette: None,
            dither: Dither::FloydSteinberg,
            encoding: Encoding::Png,
            quality: 85,
            max_bytes: 0,
        }
    }

    /// The margins' colour.
    pub(super) fn margin(&self) -> [u8; 3] {
        let own = if self.palette.is_some() { [255; 3] } else { [0; 3] };
        self.background.unwrap_or(own)
    }
}

impl Encoding {
    /// What HTTP and MQTT call it.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png | Self::Png1 | Self::Png2 | Self::Png4 | Self::Png8 => "image/png",
            Self::Jpeg420 | Self::Jpeg444 => "image/jpeg",
            Self::WebP => "image/webp",
            Self::Bmp1 | Self::Bmp4 | Self::Bmp8 | Self::Bmp24 => "image/bmp",
            Self::Qoi => "image/qoi",
            Self::Awtrix => "application/json",
            _ => "application/octet-stream",
        }
    }

    /// Bits of an index where the file holds indices or codes of a palette; `None` of those that follow the palette.
    pub(super) fn index_bits(self) -> Option<u8> {
        match self {
            Self::Png1 | Self::Bmp1 | Self::Packed1 => Some(1),
            Self::Png2 | Self::Packed2 => Some(2),
            Self::Png4 | Self::Bmp4 | Self::Packed4 => Some(4),
            Self::Png8 | Self::Bmp8 => Some(8),
            _ => None,
        }
    }

    /// Whether it needs a palette.
    pub fn is_indexed(self) -> bool {
        self.index_bits().is_some() || matches!(self, Self::Planes | Self::Lvgl8Indexed | Self::Lvgl9Indexed)
    }

    /// Whether it has 5 bits of red and blue, 6 of green.
    pub(super) fn is_rgb565(self) -> bool {
        matches!(self, Self::Rgb565Le | Self::Rgb565Be | Self::Lvgl8Rgb565 | Self::Lvgl9Rgb565)
    }

    /// Whether the file says how large the picture is and can be read at any size: those may become smaller to fit
    /// `max_bytes`.
    pub(super) fn may_shrink(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg420 | Self::Jpeg444 | Self::WebP | Self::Qoi | Self::Bmp24)
    }
}
