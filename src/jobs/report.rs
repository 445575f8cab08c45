//! The node's own messages: `info`, `state`, and `image/meta`.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::defaults::ConfigReport;
use super::status::{API, ErrorBody, JobStatus, Phase};
use super::{JobId, PackInfo, schema};
use crate::diffusion::presets::Room;
use crate::diffusion::request::Limits;

/// What the node is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Not ready for requests yet.
    Starting,
    /// A model is being read.
    Loading,
    /// Nothing to do.
    Idle,
    /// A picture is being made.
    Generating,
    /// Jobs wait and do not start: `set/paused`.
    Paused,
    /// It cannot work until somebody acts; `error` says on what.
    Error,
    /// Going away.
    Stopping,
}

/// The JSON on `state`; retained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateReport {
    /// [`API`].
    pub api: u32,
    /// In one word.
    pub state: NodeState,
    /// The running job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// How many jobs wait.
    pub queue: usize,
    /// Denoising steps done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// Denoising steps in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Percent of the running job's steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<usize>,
    /// About how many seconds until the running job's picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<u64>,
    /// `set/paused` is on.
    pub paused: bool,
    /// How many seconds the last picture took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_duration_s: Option<f64>,
    /// Of the processor, in degrees Celsius, where the machine says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temp_c: Option<f64>,
    /// Work is not at full speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<ThrottleReport>,
    /// What keeps the node from working.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// In [`StateReport`]: how work is slowed down, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ThrottleReport {
    /// `held`: no further step; `waiting`: no job begins; `slowed`: it goes on with rests or fewer threads.
    pub mode: &'static str,
    /// `heat`, `under_voltage` or `quiet_hours`.
    pub cause: &'static str,
    /// Most threads that work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The rest after a step, in percent of its time, in tens.
    pub rest_percent: u32,
}

impl StateReport {
    /// A state with nothing running.
    pub fn new(state: NodeState, queue: usize) -> Self {
        Self {
            api: API,
            state,
            job: None,
            queue,
            step: None,
            steps: None,
            progress: None,
            eta_s: None,
            paused: false,
            last_duration_s: None,
            temp_c: None,
            throttle: None,
            error: None,
        }
    }

    /// Whether `other` says nothing new: a degree more or less does not count.
    pub fn is_like(&self, other: &Self) -> bool {
        let near = match (self.temp_c, other.temp_c) {
            (Some(one), Some(two)) => (one - two).abs() < 2.0,
            (one, two) => one == two,
        };
        near && *self == Self { temp_c: self.temp_c, ..other.clone() }
    }
}

/// One model in [`InfoReport`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    /// What requests give as `model`.
    pub name: String,
    /// For people.
    pub title: String,
    /// Identifies its files.
    pub pack_hash: String,
    /// Default size in pixels.
    pub width: usize,
    /// Default size in pixels.
    pub height: usize,
    /// Sizes are multiples of this.
    pub size_multiple: usize,
    /// Most pixels of a picture that memory has room for, where that bounds any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<usize>,
    /// Default steps.
    pub steps: usize,
    /// Default guidance.
    pub guidance_scale: f64,
    /// Names for the field `preset`.
    pub presets: Vec<String>,
}

impl ModelReport {
    fn new(pack: &PackInfo) -> Self {
        let default = pack.defaults.default_preset();
        Self {
            name: pack.name.clone(),
            title: pack.title.clone(),
            pack_hash: pack.pack_hash.clone(),
            width: default.width,
            height: default.height,
            size_multiple: pack.defaults.size_multiple,
            max_pixels: pack.defaults.room.as_ref().map(Room::pixels),
            steps: default.steps,
            guidance_scale: default.guidance_scale,
            presets: pack.defaults.names().map(str::to_owned).collect(),
        }
    }
}

/// The bounds in [`InfoReport`], under the names of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LimitsReport {
    /// Bytes of UTF-8.
    pub max_prompt_bytes: usize,
    /// Denoising steps.
    pub max_steps: usize,
    /// Width times height.
    pub max_pixels: usize,
    /// Pictures of one request, candidates included.
    pub max_images: usize,
    /// Jobs that may wait.
    pub queue_capacity: usize,
}

/// The JSON on `info`; retained. What a requester needs to know before asking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InfoReport {
    /// [`API`].
    pub api: u32,
    /// The node.
    pub node: String,
    /// Of easeld.
    pub version: String,
    /// What it serves; the first is the default.
    pub models: Vec<ModelReport>,
    /// What it accepts.
    pub limits: LimitsReport,
    /// The formats on `image`.
    pub content_types: Vec<String>,
    /// Names of what is published on `image/<rendition>` where a request does not say.
    pub renditions: Vec<String>,
    /// JSON Schema of a request.
    pub request: serde_json::Value,
}

impl InfoReport {
    /// What `node` says of itself and of `packs`, the default one first; requests may name `renditions`.
    pub fn new(
        node: &str,
        packs: &[PackInfo],
        limits: &Limits,
        queue_capacity: usize,
        renditions: &[String],
    ) -> Self {
        Self {
            api: API,
            node: node.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            models: packs.iter().map(ModelReport::new).collect(),
            limits: LimitsReport {
                max_prompt_bytes: limits.max_prompt_bytes,
                max_steps: limits.max_steps,
                max_pixels: limits.max_pixels,
                max_images: limits.max_images,
                queue_capacity,
            },
            content_types: vec!["image/png".to_owned()],
            renditions: Vec::new(),
            request: schema::request(limits, packs, renditions),
        }
    }
}

/// What a node offers at the moment: packs come and go.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What requests may name, the default one first.
    pub packs: Vec<PackInfo>,
    /// [`InfoReport`] as JSON.
    pub info: Bytes,
}

/// The JSON on `image/meta`; retained, published right after the bytes it describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageMeta {
    /// [`API`].
    pub api: u32,
    /// The job that made it.
    pub id: JobId,
    /// Length of the payload on `image`.
    pub bytes: usize,
    /// Of that payload, lower-case hexadecimal.
    pub sha256: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `image/png`.
    pub content_type: String,
    /// What the picture shows; absent with `[privacy] embed_parameters = false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Its place among the pictures of the job, from 0.
    pub index: usize,
    /// How many pictures the job gives out.
    pub count: usize,
    /// Makes the same picture again.
    pub seed: u32,
    /// How well it fits the prompt, -1 to 1, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f32>,
    /// Denoising steps.
    pub steps: usize,
    /// The pack that made it.
    pub model: String,
    /// When, RFC 3339 in UTC.
    pub created: String,
}

#[cfg(test)]
impl ImageMeta {
    /// Of the only picture of the job `id`.
    pub(crate) fn example(id: &JobId) -> Self {
        Self {
            api: API,
            id: id.clone(),
            bytes: 0,
            sha256: "ab".repeat(32),
            width: 8,
            height: 8,
            content_type: "image/png".to_owned(),
            prompt: None,
            index: 0,
            count: 1,
            seed: 7,
            similarity: None,
            steps: 2,
            model: "m".to_owned(),
            created: "2026-11-26T08:00:00Z".to_owned(),
        }
    }
}

/// The JSON on `event`: a job's end, for automations. Not retained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// `succeeded`, `failed` or `cancelled`.
    pub event_type: Phase,
    /// The job.
    pub id: JobId,
    /// Failed: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

impl Event {
    /// Of a terminal status.
    pub fn of(status: &JobStatus) -> Self {
        Self { event_type: status.status, id: status.id.clone(), error: status.error.clone() }
    }
}

/// `time` as RFC 3339 in UTC, to the second. Times before 1970 become 1970: a board without a clock starts there.
pub fn rfc3339(time: SystemTime) -> String {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to civil date, after Howard Hinnant's `civil_from_days`: years start in March, so that the leap day is
    // the last day of the 400-year cycle of 146,097 days. 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// Reads what [`rfc3339`] writes; `None` for anything else.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, by: char| {
        let mut parts = text.split(by).map(|part| part.parse::<u64>().ok());
        let three = (parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(three)
    };
    let ((year, month, day), (hour, minute, second)) = (numbers(date, '-')?, numbers(time, ':')?);
    let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // The way back: Hinnant's `days_from_civil`.
    let year = if month <= 2 { year - 1 } else { year };
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let year_of_era = year % 400;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (year / 400 * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_date_prints_them() {
        // Oracle: `date -u -d @N +%FT%TZ`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339(time), text);
            assert_eq!(parse_rfc3339(text), Some(time));
        }
        for wrong in
            ["", "1970-01-01", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+01:00"]
        {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }
}
