//! The forms of `[power]`: heat, power supply, quiet hours, and a panel that must not be refreshed while it is warm.

use std::path::PathBuf;

use config::Value;

use super::keys::{Key, key};
use super::reader::{Reader, number, text, whole, word, words};
use crate::device::governor::{Policy, QuietHours, ThreadCap, UnderVoltage};

/// `[power]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerSettings {
    /// Where the kernel describes the board.
    pub sysfs: PathBuf,
    /// What the governor goes by.
    pub policy: Policy,
    /// A panel that pictures wait for.
    pub panel: PanelSettings,
}

/// A panel with a thermometer on MQTT: electronic paper that is refreshed while it is hot keeps ghosts or is damaged.
#[derive(Debug, Clone, PartialEq)]
pub struct PanelSettings {
    /// Where its temperature is heard; nothing: pictures wait for no panel.
    pub topic: Option<String>,
    /// Pictures wait while it is warmer, degrees Celsius.
    pub max_c: f64,
    /// For so long at most.
    pub wait_s: u64,
}

impl Default for PowerSettings {
    fn default() -> Self {
        Self {
            sysfs: PathBuf::from("/sys"),
            policy: Policy::default(),
            panel: PanelSettings { topic: None, max_c: 50.0, wait_s: 3600 },
        }
    }
}

/// The section's keys.
pub(super) const KEYS: [Key; 12] = [
    key(
        "power",
        "sysfs",
        "an absolute path",
        None,
        "Where the kernel describes the board; elsewhere in a container that mounts the host's.",
    ),
    key(
        "power",
        "warm_c",
        "a number of degrees Celsius, 20 to 120",
        None,
        "From here on, in degrees Celsius, work rests between steps: the nearer to hot_c, the longer. 3 degrees lower it goes on as before.",
    ),
    key(
        "power",
        "hot_c",
        "a number of degrees Celsius, 20 to 120, above warm_c",
        None,
        "From here on no further step is made, and no job begins. (A Raspberry Pi throttles from 80 on, a Jetson Orin from 99.)",
    ),
    key(
        "power",
        "resume_c",
        "a number of degrees Celsius, 0 to 120, below hot_c",
        None,
        "So cool it has to be until work goes on after that.",
    ),
    key(
        "power",
        "rest_percent",
        "a whole number from 0 to 1000",
        None,
        "The longest rest, in percent of a step's time: 100 halves the speed and about the heat.",
    ),
    key(
        "power",
        "max_threads",
        "a list such as [\"65:3\", \"72:2\"]",
        None,
        "Fewer threads from a temperature on: \"CELSIUS:THREADS\".",
    ),
    key(
        "power",
        "under_voltage",
        "\"slow\", \"hold\" or \"ignore\"",
        None,
        "While the power supply fails, and a minute after: \"slow\" works with half of the threads, \"hold\" makes no further step.",
    ),
    key(
        "power",
        "quiet_hours",
        "a list such as [\"22:00-07:00\"]",
        None,
        "Hours (UTC) in which no job begins; a running one is finished.",
    ),
    key(
        "power",
        "quiet_threads",
        "a whole number from 0 to 1024",
        None,
        "With more than 0, jobs run in quiet hours too, with so many threads at most.",
    ),
    key(
        "power",
        "panel_topic",
        "a topic without wildcards",
        Some("\"home/panel/temperature\""),
        "Where a panel that shows our pictures publishes its temperature, a number in degrees Celsius.",
    ),
    key(
        "power",
        "panel_max_c",
        "a number of degrees Celsius, -40 to 120",
        None,
        "While the panel is warmer, finished pictures wait: electronic paper must not be refreshed hot.",
    ),
    key(
        "power",
        "panel_wait_s",
        "a whole number of seconds, 0 to 86400",
        None,
        "They wait no longer than this, whatever the panel says.",
    ),
];

/// Takes the section's values.
pub(super) fn read(reader: &mut Reader, power: &mut PowerSettings) {
    let absolute = |value: &Value| word(value).map(PathBuf::from).filter(|path| path.is_absolute());
    reader.take("power", "sysfs", &mut power.sysfs, absolute);
    let policy = &mut power.policy;
    reader.take("power", "warm_c", &mut policy.warm_c, number(20.0, 120.0));
    reader.take("power", "hot_c", &mut policy.hot_c, number(20.0, 120.0));
    reader.take("power", "resume_c", &mut policy.resume_c, number(0.0, 120.0));
    reader.take("power", "rest_percent", &mut policy.rest_percent, whole(0..=1000));
    reader.take("power", "max_threads", &mut policy.max_threads, |value| {
        words(value)?.iter().map(|text| thread_cap(text)).collect()
    });
    reader.take("power", "under_voltage", &mut policy.under_voltage, |value| match text(value)?.as_str() {
        "slow" => Some(UnderVoltage::Slow),
        "hold" => Some(UnderVoltage::Hold),
        "ignore" => Some(UnderVoltage::Ignore),
        _ => None,
    });
    reader.take("power", "quiet_hours", &mut policy.quiet_hours, |value| {
        words(value)?.iter().map(|text| quiet_hours(text)).collect()
    });
    reader.take("power", "quiet_threads", &mut policy.quiet_threads, whole(0..=1024));
    let panel = &mut power.panel;
    reader.take("power", "panel_topic", &mut panel.topic, |value| {
        word(value).filter(|topic| crate::mqtt::topics::is_topic(topic)).map(Some)
    });
    reader.take("power", "panel_max_c", &mut panel.max_c, number(-40.0, 120.0));
    reader.take("power", "panel_wait_s", &mut panel.wait_s, whole(0..=86_400));
    if policy.hot_c <= policy.warm_c {
        let message = format!("must be above warm_c, which is {}", policy.warm_c);
        reader.add("power.hot_c", policy.hot_c.to_string(), message);
    }
    if policy.resume_c >= policy.hot_c {
        let message = format!("must be below hot_c, which is {}", policy.hot_c);
        reader.add("power.resume_c", policy.resume_c.to_string(), message);
    }
}

/// `72:2`.
fn thread_cap(text: &str) -> Option<ThreadCap> {
    let (celsius, threads) = text.split_once(':')?;
    let (from_c, threads) = (celsius.trim().parse::<f64>().ok()?, threads.trim().parse().ok()?);
    ((0.0..=120.0).contains(&from_c) && (1..=1024).contains(&threads))
        .then_some(ThreadCap { from_c, threads })
}

/// `22:00-07:00`.
fn quiet_hours(text: &str) -> Option<QuietHours> {
    let (from, until) = text.split_once('-')?;
    let (from, until) = (super::schedule::minute_of(from.trim())?, super::schedule::minute_of(until.trim())?);
    (from != until).then_some(QuietHours { from, until })
}

impl PowerSettings {
    /// The value of the key `name` as TOML; nothing where there is none.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let Policy { warm_c, hot_c, resume_c, rest_percent, under_voltage, quiet_threads, .. } = &self.policy;
        Some(match name {
            "sysfs" => toml::Value::String(self.sysfs.display().to_string()).to_string(),
            "warm_c" => warm_c.to_string(),
            "hot_c" => hot_c.to_string(),
            "resume_c" => resume_c.to_string(),
            "rest_percent" => rest_percent.to_string(),
            "max_threads" | "quiet_hours" => "[]".to_owned(),
            "under_voltage" => match under_voltage {
                UnderVoltage::Slow => "\"slow\"",
                UnderVoltage::Hold => "\"hold\"",
                UnderVoltage::Ignore => "\"ignore\"",
            }
            .to_owned(),
            "quiet_threads" => quiet_threads.to_string(),
            "panel_max_c" => self.panel.max_c.to_string(),
            "panel_wait_s" => self.panel.wait_s.to_string(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_and_hours_have_their_forms() {
        assert_eq!(thread_cap("72.5: 2"), Some(ThreadCap { from_c: 72.5, threads: 2 }));
        assert_eq!(quiet_hours("22:00-07:30"), Some(QuietHours { from: 1320, until: 450 }));
        for wrong in ["", "72", "72:0", "hot:2", "200:2", "NaN:2"] {
            assert_eq!(thread_cap(wrong), None, "{wrong}");
        }
        for wrong in ["", "22:00", "22-7", "24:00-07:00", "07:00-07:00"] {
            assert_eq!(quiet_hours(wrong), None, "{wrong}");
        }
    }
}
