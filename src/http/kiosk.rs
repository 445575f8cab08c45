//! The `[kiosk]` table: how the page behaves. It is given to the page as it is; a browser may override it for itself.

use serde::Serialize;

/// The `[kiosk]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KioskConfig {
    /// Shown while there is no picture yet, and in the browser's title.
    pub title: String,
    /// `auto` (the browser's), or a language the page knows.
    pub language: String,
    /// Prompts to tap on.
    pub examples: Vec<String>,
    /// Seconds without a touch after which the gallery plays; 0 for never.
    pub attract_s: u64,
    /// Seconds for which each of its pictures shows.
    pub slide_s: u64,
    /// `HH:MM-HH:MM` by the browser's clock, in which the screen is dark; empty for never.
    pub night: String,
    /// What a night looks like: `dark`, `dim` or `clock`.
    pub night_style: String,
    /// Whether the prompt shows under the picture.
    pub caption: bool,
    /// The keyboard on the screen: `auto` (where there is touch), `on` or `off`.
    pub keyboard: String,
    /// Pictures in the gallery.
    pub gallery: usize,
}

/// Languages the page knows.
pub const LANGUAGES: [&str; 7] = ["auto", "en", "de", "fr", "es", "it", "nl"];
/// Forms of a night.
pub const NIGHTS: [&str; 3] = ["dark", "dim", "clock"];
/// When there is a keyboard.
pub const KEYBOARDS: [&str; 3] = ["auto", "on", "off"];

impl Default for KioskConfig {
    fn default() -> Self {
        // Words that the bundled model knows; any other model does, too.
        let examples = [
            "a fox next to a crown on a pink background",
            "an owl on a teal background",
            "a rocket next to a star on a black background",
            "a cactus on a yellow background",
            "a whale on a blue background",
            "a {cat|dog|panda} next to a {cake|pizza|balloon}",
        ];
        Self {
            title: "easeld".to_owned(),
            language: "auto".to_owned(),
            examples: examples.map(str::to_owned).to_vec(),
            attract_s: 120,
            slide_s: 12,
            night: String::new(),
            night_style: "dim".to_owned(),
            caption: true,
            keyboard: "auto".to_owned(),
            gallery: 60,
        }
    }
}

/// Whether `text` is `HH:MM-HH:MM`, or empty.
pub fn valid_night(text: &str) -> bool {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let number = |text: &str| {
            (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<u32>().ok())?
        };
        (number(hour)? < 24 && number(minute)? < 60).then_some(())
    };
    text.is_empty()
        || text.split_once('-').is_some_and(|(from, to)| minute(from).is_some() && minute(to).is_some())
}

#[cfg(test)]
mod tests {
    use super::valid_night;

    #[test]
    fn nights_are_two_times_of_day() {
        for good in ["", "22:00-07:00", "00:00-23:59"] {
            assert!(valid_night(good), "{good}");
        }
        for bad in ["22-7", "24:00-07:00", "22:00", "22:00-7:00", "22:00-07:60", "+2:00-07:00"] {
            assert!(!valid_night(bad), "{bad}");
        }
    }
}
