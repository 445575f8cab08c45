//! The forms of `[schedule]`: when to paint what, and which topics say something that belongs into a prompt.

use std::time::Duration;

use super::keys::{Key, key};

/// The section's keys.
pub(super) const KEYS: [Key; 4] = [
    key(
        "schedule",
        "entries",
        "a list such as [\"07:30 a sunrise\", \"every 2h a {cat|dog}\"]",
        None,
        "When to paint what: \"HH:MM PROMPT\" (UTC) or \"every 90m PROMPT\" (s, m, h or d).",
    ),
    key(
        "schedule",
        "ambient",
        "a list of prompts",
        None,
        "Painted one after the other while set/ambient is on.",
    ),
    key(
        "schedule",
        "ambient_s",
        "a whole number of seconds, 1 to 31536000",
        None,
        "Seconds from one ambient picture to the next.",
    ),
    key(
        "schedule",
        "sensors",
        "a list such as [\"weather=home/weather/state\"]",
        None,
        "NAME=TOPIC: %NAME% in a prompt above stands for the newest message on that topic.",
    ),
];

/// When an entry is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Once a day, so many minutes after midnight UTC.
    Daily {
        /// 0 to 1439.
        minute: u32,
    },
    /// Again and again.
    Every(Duration),
}

/// One line of the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleEntry {
    /// When it is due.
    pub when: When,
    /// What is painted; alternatives and sensors are filled in each time.
    pub prompt: String,
}

impl ScheduleEntry {
    /// Reads `HH:MM PROMPT` or `every 90m PROMPT`.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.trim().split_once(char::is_whitespace)?;
        let (when, prompt) = match first {
            "every" => {
                let (interval, prompt) = rest.trim().split_once(char::is_whitespace)?;
                (When::Every(interval_of(interval)?), prompt)
            }
            time => (When::Daily { minute: minute_of(time)? }, rest),
        };
        let prompt = prompt.trim().to_owned();
        (!prompt.is_empty()).then_some(Self { when, prompt })
    }
}

/// `90m`: at least a second, at most a year.
fn interval_of(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=31_536_000).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// `HH:MM` as minutes after midnight.
pub(super) fn minute_of(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<u32>().ok())
    };
    let (hour, minute) = (digits(hour)??, digits(minute)??);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

/// A topic whose newest message may stand in a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sensor {
    /// In prompts, between percent signs.
    pub name: String,
    /// Where it is heard.
    pub topic: String,
}

impl Sensor {
    /// Reads `name=topic`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, topic) = text.split_once('=')?;
        let (name, topic) = (name.trim(), topic.trim());
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = !name.is_empty() && name.chars().all(plain) && crate::mqtt::topics::is_topic(topic);
        fits.then(|| Self { name: name.to_owned(), topic: topic.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_say_when_and_what() {
        let entry = |text: &str| ScheduleEntry::parse(text).map(|entry| (entry.when, entry.prompt));
        let every = |seconds| When::Every(Duration::from_secs(seconds));
        assert_eq!(entry("07:30 a sunrise"), Some((When::Daily { minute: 450 }, "a sunrise".to_owned())));
        assert_eq!(entry("every 2h a {cat|dog}"), Some((every(7200), "a {cat|dog}".to_owned())));
        assert_eq!(entry(" every 90m  x "), Some((every(5400), "x".to_owned())));
        for wrong in
            ["", "07:30", "7:30 x", "24:00 x", "07:60 x", "every x", "every 0s x", "every 2w x", "every 2h "]
        {
            assert_eq!(entry(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sensors_are_a_name_and_a_topic() {
        let sensor = Sensor::parse("weather = home/weather").expect("valid");
        assert_eq!((sensor.name.as_str(), sensor.topic.as_str()), ("weather", "home/weather"));
        for wrong in ["weather", "=home", "a b=home", "w=home/#", "w="] {
            assert_eq!(Sensor::parse(wrong), None, "{wrong}");
        }
    }
}
