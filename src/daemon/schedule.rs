//! Art by itself: prompts that are due by the clock, or because nobody wants anything else.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{ScheduleSettings, When};
use crate::jobs::defaults::Defaults;

/// Longest sensor value that goes into a prompt, in characters.
const SENSOR_MAX: usize = 80;
/// An entry whose minute was missed by less is painted late rather than not at all.
const LATE: Duration = Duration::from_secs(90);

/// See the module.
pub(super) struct Schedule {
    settings: ScheduleSettings,
    /// Also holds whether ambient pictures are on.
    pub(super) defaults: Defaults,
    /// When each entry is due next.
    next: Vec<Due>,
    ambient_at: Instant,
    ambient_index: usize,
    sensors: HashMap<String, String>,
}

enum Due {
    /// By the monotonic clock.
    At(Instant),
    /// By the wall clock: the day, since 1970, that was painted last.
    Day(Option<u64>),
}

impl Schedule {
    pub(super) fn new(settings: ScheduleSettings) -> Self {
        let now = Instant::now();
        let next = settings.entries.iter().map(|entry| match entry.when {
            When::Every(interval) => Due::At(now + interval),
            When::Daily { .. } => Due::Day(None),
        });
        Self {
            next: next.collect(),
            defaults: Defaults::default(),
            ambient_at: now,
            ambient_index: 0,
            sensors: HashMap::new(),
            settings,
        }
    }

    /// The topics that it listens on.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &String> {
        self.settings.sensors.iter().map(|sensor| &sensor.topic)
    }

    /// Takes note of a sensor's message; whether it was one.
    pub(super) fn hear(&mut self, topic: &str, payload: &[u8]) -> bool {
        let mut heard = false;
        for sensor in self.settings.sensors.iter().filter(|sensor| sensor.topic == topic) {
            heard = true;
            self.sensors.insert(sensor.name.clone(), plain(&String::from_utf8_lossy(payload)));
        }
        heard
    }

    /// Takes changed defaults; ambient pictures begin at once.
    pub(super) fn set_defaults(&mut self, defaults: Defaults) {
        if defaults.ambient && !self.defaults.ambient {
            self.ambient_at = Instant::now();
        }
        self.defaults = defaults;
    }

    /// Prompts that are due now; ambient ones only when the node is `idle`.
    pub(super) fn due(&mut self, idle: bool) -> Vec<String> {
        self.due_at(idle, Instant::now(), SystemTime::now())
    }

    fn due_at(&mut self, idle: bool, now: Instant, clock: SystemTime) -> Vec<String> {
        let since_1970 = clock.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (day, second) = (since_1970 / 86_400, since_1970 % 86_400);
        let mut prompts = Vec::new();
        for (entry, next) in self.settings.entries.iter().zip(&mut self.next) {
            let due = match (entry.when, &mut *next) {
                (When::Every(interval), Due::At(at)) if *at <= now => {
                    // Not one for each interval that the machine slept through.
                    *at = now + interval;
                    true
                }
                (When::Daily { minute }, Due::Day(painted)) if *painted != Some(day) => {
                    let at = u64::from(minute) * 60;
                    let due = (at..at + LATE.as_secs()).contains(&second);
                    if due {
                        *painted = Some(day);
                    }
                    due
                }
                _ => false,
            };
            if due {
                prompts.push(filled(&entry.prompt, &self.sensors));
            }
        }
        let ambient = &self.settings.ambient;
        if prompts.is_empty()
            && idle
            && self.defaults.ambient
            && !ambient.is_empty()
            && self.ambient_at <= now
        {
            self.ambient_at = now + Duration::from_secs(self.settings.ambient_s);
            prompts.push(filled(&ambient[self.ambient_index % ambient.len()], &self.sensors));
            self.ambient_index += 1;
        }
        prompts
    }
}

/// The prompt with `%name%` replaced by what the sensor said last; by nothing where it has not yet.
fn filled(prompt: &str, sensors: &HashMap<String, String>) -> String {
    let is_name =
        |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let (mut text, mut rest) = (String::new(), prompt);
    while let Some((before, after)) = rest.split_once('%') {
        text += before;
        match after.split_once('%').filter(|(name, _)| is_name(name)) {
            Some((name, behind)) => {
                text += sensors.get(name).map_or("", String::as_str);
                rest = behind;
            }
            None => {
                text.push('%');
                rest = after;
            }
        }
    }
    text + rest
}

/// One line without what has a meaning in prompts.
fn plain(text: &str) -> String {
    let harmless = |c: char| !c.is_control() && !"()[]{}|:\\".contains(c);
    text.chars().filter(|c| harmless(*c)).take(SENSOR_MAX).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ScheduleEntry, Sensor};

    fn schedule(entries: &[&str], ambient: &[&str]) -> Schedule {
        Schedule::new(ScheduleSettings {
            entries: entries.iter().map(|text| ScheduleEntry::parse(text).expect("valid")).collect(),
            ambient: ambient.iter().map(|text| (*text).to_owned()).collect(),
            ambient_s: 60,
            sensors: vec![Sensor::parse("weather=home/weather").expect("valid")],
        })
    }

    fn clock(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn an_hour_of_the_day_comes_once_a_day_whatever_the_clock_does() {
        let mut schedule = schedule(&["07:30 a sunrise"], &[]);
        let now = Instant::now();
        let half_past_seven = 7 * 3600 + 30 * 60;
        let mut at = |seconds| schedule.due_at(true, now, clock(seconds)).len();
        assert_eq!(at(half_past_seven - 1), 0);
        assert_eq!(at(half_past_seven), 1);
        assert_eq!(at(half_past_seven + 1), 0);
        assert_eq!(at(half_past_seven - 100), 0);
        assert_eq!(at(half_past_seven), 0, "the clock was set back");
        assert_eq!(at(86_400 + half_past_seven + 30), 1, "the next day");
    }

    #[test]
    fn intervals_go_by_the_monotonic_clock_and_do_not_catch_up() {
        let mut schedule = schedule(&["every 10s a fox"], &[]);
        let start = Instant::now();
        let mut at = |seconds| schedule.due_at(true, start + Duration::from_secs(seconds), clock(0)).len();
        assert_eq!([at(1), at(11), at(12), at(100), at(101)], [0, 1, 0, 1, 0]);
    }

    #[test]
    fn ambient_pictures_come_in_turn_when_nobody_else_wants_one() {
        let mut schedule = schedule(&[], &["a", "b"]);
        let start = Instant::now() + Duration::from_secs(1);
        assert!(schedule.due_at(true, start, clock(0)).is_empty(), "off");
        let mut on = Defaults::default();
        on.set("ambient", "ON").expect("valid");
        schedule.set_defaults(on);
        assert!(schedule.due_at(false, start, clock(0)).is_empty(), "busy");
        assert_eq!(schedule.due_at(true, start, clock(0)), ["a"]);
        assert!(schedule.due_at(true, start + Duration::from_secs(59), clock(0)).is_empty());
        assert_eq!(schedule.due_at(true, start + Duration::from_secs(61), clock(0)), ["b"]);
    }

    #[test]
    fn sensors_stand_in_prompts_and_cannot_write_syntax() {
        let mut schedule = schedule(&["every 1s a %weather% sky, 100% %nothing%blue"], &[]);
        assert!(!schedule.hear("home/other", b"x"));
        assert!(schedule.hear("home/weather", b"  cloudy (very:9) {a|b}\n"));
        let due = schedule.due_at(true, Instant::now() + Duration::from_secs(2), clock(0));
        assert_eq!(due, ["a cloudy very9 ab sky, 100% blue"]);
    }
}
