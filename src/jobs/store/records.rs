//! What the store keeps of a job: the request that was accepted, and how it ended.
//!
//! JSON, so that a later version reads what an earlier one wrote: fields may be added, none may change its meaning.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::jobs::JobId;
use crate::jobs::report::ImageMeta;
use crate::jobs::status::JobStatus;

/// Where a requester wants to be answered besides the usual topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Checked against `[mqtt] reply_prefixes` when the request was accepted.
    pub topic: String,
    /// Sent back as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_data: Option<Vec<u8>>,
}

/// What tells a message that the broker delivers again from one that its sender sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// MQTT's packet id, which the broker keeps when it sends again.
    pub packet_id: u16,
    /// Of the payload, lower-case hexadecimal.
    pub sha256: String,
}

/// An accepted request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its name outside.
    pub id: JobId,
    /// The request as a JSON object, the node's defaults filled in.
    pub request: String,
    /// The random numbers that were drawn for what it leaves open: the same again whenever it is read.
    #[serde(default)]
    pub random: Vec<u32>,
    /// When it was accepted, milliseconds since 1970 by this machine's clock.
    pub accepted_ms: u64,
    /// Seconds from then on in which the picture is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<f64>,
    /// Higher ones run first.
    #[serde(default)]
    pub priority: i64,
    /// Where else to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Of the message that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// It came over the fleet's topic.
    #[serde(default)]
    pub fleet: bool,
    /// Processes that died while they made it.
    #[serde(default)]
    pub attempts: u32,
}

impl Accepted {
    /// What is left of its time at `now_ms`; `None` without a deadline. A clock that was set back gives no time away:
    /// no more is left than was asked for.
    pub fn time_left(&self, now_ms: u64) -> Option<Duration> {
        let deadline = Duration::try_from_secs_f64(self.deadline_s?).ok()?;
        Some(deadline.saturating_sub(Duration::from_millis(now_ms.saturating_sub(self.accepted_ms))))
    }
}

/// How a job ended. Never changes once its status was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The one terminal status.
    pub status: JobStatus,
    /// What is said about each picture, in order.
    #[serde(default)]
    pub pictures: Vec<ImageMeta>,
    /// Where else to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// It came over the fleet's topic.
    #[serde(default)]
    pub fleet: bool,
    /// Renditions that its request names; else the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renditions: Option<Vec<String>>,
}

impl Ended {
    /// With `status`, no pictures, and nobody who hears of it apart.
    pub fn new(status: JobStatus) -> Self {
        Self { status, pictures: Vec::new(), reply: None, fleet: false, renditions: None }
    }

    /// The job.
    pub fn id(&self) -> &JobId {
        &self.status.id
    }

    /// Bytes of its pictures.
    pub fn bytes(&self) -> u64 {
        self.pictures.iter().map(|picture| picture.bytes as u64).sum()
    }
}

/// How far the delivery of an ended job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its pictures are to be published, then its status.
    Pictures,
    /// The broker has the pictures; the status is final.
    Status,
}

impl Stage {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Pictures => 0,
            Self::Status => 1,
        }
    }

    pub(super) fn of(byte: u8) -> Self {
        if byte == 0 { Self::Pictures } else { Self::Status }
    }
}

/// Milliseconds since 1970; a board without a clock starts there.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(deadline_s: Option<f64>) -> Accepted {
        Accepted {
            id: JobId::parse("a").expect("valid"),
            request: "{\"prompt\": \"a fox\"}".to_owned(),
            random: vec![7],
            accepted_ms: 100_000,
            deadline_s,
            priority: 0,
            reply: None,
            fingerprint: None,
            fleet: false,
            attempts: 0,
        }
    }

    #[test]
    fn time_runs_out_and_a_clock_that_jumps_gives_none_away() {
        let request = accepted(Some(10.0));
        let left = |now_ms| request.time_left(now_ms).expect("a deadline").as_secs();
        assert_eq!((left(100_000), left(104_000), left(110_000)), (10, 6, 0));
        assert_eq!(left(5), 10, "set back before the request came");
        assert_eq!(left(u64::MAX), 0, "set far ahead");
        assert_eq!(accepted(None).time_left(200_000), None);
    }

    #[test]
    fn records_of_an_earlier_version_are_read() {
        let text = r#"{"id": "a", "request": "{}", "accepted_ms": 5}"#;
        let read: Accepted = serde_json::from_str(text).expect("only what has always been there is needed");
        assert_eq!((read.priority, read.attempts, read.reply), (0, 0, None));
        let whole = accepted(Some(0.5));
        let text = serde_json::to_string(&whole).expect("plain data");
        assert_eq!(serde_json::from_str::<Accepted>(&text).expect("its own text"), whole);
    }
}
