//! The options of a profile by name: one table for the built-in profiles, the configuration and the command line.

use super::palette::{self, Palette};
use super::profile::{Dither, Encoding, Fit, Profile, SIDE_MAX, Tone};
use crate::jobs::nearest::nearest;

/// One option of a profile.
#[derive(Debug)]
pub struct ProfileOption {
    /// Its key.
    pub name: &'static str,
    /// What it may be.
    pub allowed: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

const fn option(name: &'static str, allowed: &'static str, doc: &'static str) -> ProfileOption {
    ProfileOption { name, allowed, doc }
}

/// All of them.
pub const OPTIONS: [ProfileOption; 15] = [
    option("title", "a string", "What the product is called"),
    option("source", "a string", "Where the facts are from"),
    option("width", "a whole number from 0 to 8192", "Pixels of a row of the file; 0: the picture's own"),
    option("height", "a whole number from 0 to 8192", "Rows of the file; 0: the picture's own"),
    option("rotation", "0, 90, 180 or 270", "Degrees by which the picture is turned clockwise into the file"),
    option("fit", "cover, contain, saliency or stretch", "How the picture comes into another shape"),
    option("background", "a colour as #rrggbb", "Of margins"),
    option("tone", "none, range or levels", "How lightness becomes the panel's"),
    option("contrast", "a number from 0.25 to 4", "Of lightness about the middle; 1 leaves it"),
    option("saturation", "a number from 0 to 4", "Factor of colourfulness; 1 leaves it"),
    option(
        "palette",
        "none, bw, bw-paper, gray4, gray8, gray16, gray256, bwr, bwry, spectra6, acep7, rgb332, or colours as #rrggbb between commas",
        "The panel's colours",
    ),
    option(
        "dither",
        "none, floyd-steinberg, atkinson, stucki, blue-noise or bayer",
        "How other colours are mixed from dots",
    ),
    option(
        "encoding",
        "png, png-1, png-2, png-4, png-8, jpeg, jpeg-444, webp, bmp-1, bmp-4, bmp-8, bmp-24, qoi, rgb888, rgb565-le, rgb565-be, \
         lvgl8-rgb565, lvgl8-indexed, lvgl9-rgb565, lvgl9-rgb888, lvgl9-l8, lvgl9-indexed, packed-1, packed-2, packed-4, planes or awtrix",
        "The bytes",
    ),
    option("quality", "a whole number from 1 to 100", "Of JPEG"),
    option(
        "max_bytes",
        "a whole number from 0 to 268435455",
        "Most bytes of the file; 0: any. Quality goes first, then size",
    ),
];

/// An option that cannot be what it was set to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Its value.
    #[error("{option} = {value:?}: must be {allowed}")]
    Value {
        /// The option.
        option: &'static str,
        /// What it was.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Its name.
    #[error("unknown option `{option}`; {hint}")]
    Unknown {
        /// The name that was given.
        option: String,
        /// What may have been meant.
        hint: String,
    },
    /// The options do not go together.
    #[error("{0}")]
    Together(String),
}

impl Profile {
    /// Sets the option `name` of [`OPTIONS`] to what `value` says.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), or a value that is not allowed; the profile is as before then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            let known = OPTIONS.map(|option| option.name);
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            return Err(OptionError::Unknown { option: name.to_owned(), hint });
        };
        self.take(option.name, value.trim()).ok_or_else(|| OptionError::Value {
            option: option.name,
            value: value.to_owned(),
            allowed: option.allowed,
        })
    }

    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        let whole = |most: usize| value.parse().ok().filter(|number| *number <= most);
        let number =
            |least: f32, most: f32| value.parse().ok().filter(|number: &f32| (least..=most).contains(number));
        match name {
            "title" => value.clone_into(&mut self.title),
            "source" => value.clone_into(&mut self.source),
            "width" => self.width = whole(SIDE_MAX)?,
            "height" => self.height = whole(SIDE_MAX)?,
            "rotation" => {
                self.rotation = value.parse().ok().filter(|turn| [0, 90, 180, 270].contains(turn))?;
            }
            "fit" => self.fit = Fit::parse(value)?,
            "background" => self.background = Some(palette::parse_colour(value)?),
            "tone" => self.tone = Tone::parse(value)?,
            "contrast" => self.contrast = number(0.25, 4.0)?,
            "saturation" => self.saturation = number(0.0, 4.0)?,
            "palette" if value == "none" => self.palette = None,
            "palette" => self.palette = Some(Palette::parse(value)?),
            "dither" => self.dither = Dither::parse(value)?,
            "encoding" => self.encoding = Encoding::parse(value)?,
            "quality" => self.quality = whole(100).filter(|quality| *quality >= 1)? as u8,
            "max_bytes" => self.max_bytes = whole(268_435_455)?,
            _ => return None,
        }
        Some(())
    }

    /// Every option with its value, as [`Profile::set`] takes it.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let colour = |[red, green, blue]: [u8; 3]| format!("#{red:02x}{green:02x}{blue:02x}");
        let mut options = vec![
            ("title", self.title.clone()),
            ("source", self.source.clone()),
            ("width", self.width.to_string()),
            ("height", self.height.to_string()),
            ("rotation", self.rotation.to_string()),
            ("fit", self.fit.name().to_owned()),
            ("background", colour(self.margin())),
            ("tone", self.tone.name().to_owned()),
            ("contrast", self.contrast.to_string()),
            ("saturation", self.saturation.to_string()),
        ];
        let palette = self.palette.as_ref().map_or("none", |palette| &palette.name);
        options.extend([
            ("palette", palette.to_owned()),
            ("dither", self.dither.name().to_owned()),
            ("encoding", self.encoding.name().to_owned()),
            ("quality", self.quality.to_string()),
            ("max_bytes", self.max_bytes.to_string()),
        ]);
        options
    }

    /// Whether the options go together.
    ///
    /// # Errors
    /// What is missing or too much, in words that name the options.
    pub fn check(&self) -> Result<(), OptionError> {
        let encoding = self.encoding.name();
        let wrong = |text: String| Err(OptionError::Together(text));
        let Some(palette) = &self.palette else {
            return match self.encoding.is_indexed() {
                true => wrong(format!("encoding = {encoding:?} holds a palette's colours: set `palette`")),
                false => Ok(()),
            };
        };
        let name = &palette.name;
        if let Some(bits) = self.encoding.index_bits() {
            let packed = encoding.starts_with("packed");
            let most = palette.inks.iter().map(|ink| usize::from(ink.code)).max().unwrap_or(0);
            let needed = if packed { most + 1 } else { palette.inks.len() };
            if needed > 1 << bits {
                return wrong(format!(
                    "encoding = {encoding:?} has {bits} bits a pixel, too few for palette = {name:?}"
                ));
            }
        }
        let planes = self.encoding == Encoding::Planes;
        if planes && palette.inks.iter().take(2).map(|ink| ink.nominal).ne([[0; 3], [255; 3]]) {
            return wrong(format!("encoding = \"planes\" wants black and white first in palette = {name:?}"));
        }
        if planes && palette.inks.len() > 8 {
            return wrong(format!("encoding = \"planes\" has at most 8 colours, palette = {name:?} more"));
        }
        if self.encoding.is_rgb565() {
            return wrong(format!("encoding = {encoding:?} brings its own colours: set palette = \"none\""));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_can_be_set_to_what_it_says_of_itself() {
        let mut profile = Profile::plain("x");
        for (name, value) in Profile::plain("y").options() {
            profile.set(name, &value).expect(name);
        }
        assert_eq!(OPTIONS.map(|option| option.name).to_vec(), {
            profile.options().iter().map(|(name, _)| *name).collect::<Vec<_>>()
        });
    }

    #[test]
    fn the_words_that_are_allowed_are_those_that_are_taken() {
        let mut profile = Profile::plain("x");
        for option in OPTIONS.iter().skip(5) {
            for word in option.allowed.split([',', ' ']).filter(|word| !["", "or"].contains(word)) {
                if ["a", "colours"].contains(&word) {
                    break;
                }
                profile.set(option.name, word).expect(word);
            }
        }
        let count = |name: &str| {
            let option = OPTIONS.iter().find(|option| option.name == name).expect(name);
            option.allowed.replace(" or ", ", ").split(", ").count()
        };
        assert_eq!(count("encoding"), Encoding::ALL.len());
        assert_eq!(count("dither"), Dither::ALL.len());
        assert_eq!(count("fit"), Fit::ALL.len());
        assert_eq!(count("tone"), Tone::ALL.len());
    }

    #[test]
    fn mistakes_are_told_with_name_value_and_what_is_allowed() {
        let mut profile = Profile::plain("x");
        for (name, value) in [
            ("width", "8193"),
            ("width", "-1"),
            ("rotation", "45"),
            ("fit", "covre"),
            ("background", "red"),
            ("contrast", "NaN"),
            ("saturation", "4.1"),
            ("palette", "spectra"),
            ("quality", "0"),
            ("max_bytes", "many"),
        ] {
            let error = profile.set(name, value).expect_err(value).to_string();
            assert!(error.contains(name) && error.contains(value) && error.contains("must be"), "{error}");
        }
        assert_eq!(profile, Profile::plain("x"));
        let error = profile.set("ditther", "none").expect_err("a slip").to_string();
        assert!(error.contains("did you mean `dither`?"), "{error}");
    }

    #[test]
    fn options_have_to_go_together() {
        let check = |options: &[(&str, &str)]| {
            let mut profile = Profile::plain("x");
            for (name, value) in options {
                profile.set(name, value).expect(name);
            }
            profile.check()
        };
        assert!(check(&[("encoding", "packed-4"), ("palette", "spectra6")]).is_ok());
        assert!(check(&[("encoding", "planes"), ("palette", "bwr")]).is_ok());
        for wrong in [
            &[("encoding", "png-4")][..],
            &[("encoding", "packed-2"), ("palette", "spectra6")],
            &[("encoding", "png-2"), ("palette", "spectra6")],
            &[("encoding", "planes"), ("palette", "gray4")],
            &[("encoding", "rgb565-le"), ("palette", "bw")],
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
