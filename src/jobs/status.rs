//! `job/<id>`: what the outside hears of one job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report::ImageMeta;
use super::{GenerateError, JobId};
use crate::diffusion::request::FieldError;

/// The version of all messages; raised when one changes its meaning.
pub const API: u32 = 1;

/// The words of a job's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Waits.
    Queued,
    /// On the worker.
    Running,
    /// The picture is published.
    Succeeded,
    /// It ended without a picture.
    Failed,
    /// Somebody asked it to stop, or the daemon stops.
    Cancelled,
    /// Never accepted.
    Rejected,
}

impl Phase {
    /// Nothing follows on this id.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Why a job failed or a request was rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A stable word for programs.
    pub code: String,
    /// The request field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it was, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// For people: what is allowed, or what to do.
    pub message: String,
    /// `deadline`: about how many seconds it would have taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_s: Option<u64>,
}

impl ErrorBody {
    /// An error that no single field is to blame for.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), field: None, value: None, message: message.into(), estimate_s: None }
    }
}

impl From<FieldError> for ErrorBody {
    fn from(error: FieldError) -> Self {
        Self {
            code: error.code.to_owned(),
            field: Some(error.field),
            value: Some(error.value),
            message: error.message,
            estimate_s: None,
        }
    }
}

/// Where the picture is and how to check it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageBody {
    /// The topic it was published on.
    pub topic: String,
    /// Length of the payload.
    pub bytes: usize,
    /// Of the payload, lower-case hexadecimal.
    pub sha256: String,
    /// `image/png`.
    pub content_type: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Makes the same picture again.
    pub seed: u32,
    /// How well it fits the prompt, -1 to 1, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f32>,
}

impl ImageBody {
    /// What `meta` says, of a picture published on `topic`.
    pub fn of(meta: &ImageMeta, topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            bytes: meta.bytes,
            sha256: meta.sha256.clone(),
            content_type: meta.content_type.clone(),
            width: meta.width,
            height: meta.height,
            seed: meta.seed,
            similarity: meta.similarity,
        }
    }
}

/// The JSON on `job/<id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// [`API`].
    pub api: u32,
    /// The job.
    pub id: JobId,
    /// The node that has it.
    pub node: String,
    /// How it stands.
    pub status: Phase,
    /// While queued: its place, 1 is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// While running: denoising steps done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// While running: denoising steps in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// While queued or running: about how many seconds until the picture, once jobs like it were timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<u64>,
    /// Failed or rejected: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// Succeeded: the picture, the first where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageBody>,
    /// Succeeded with several: all of them, in the order they were published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageBody>,
}

impl JobStatus {
    /// A status with nothing but its phase.
    pub fn new(id: &JobId, node: &str, status: Phase) -> Self {
        Self {
            api: API,
            id: id.clone(),
            node: node.to_owned(),
            status,
            position: None,
            step: None,
            steps: None,
            eta_s: None,
            error: None,
            image: None,
            images: Vec::new(),
        }
    }

    /// Accepted; `position` 1 is next.
    pub fn queued(id: &JobId, node: &str, position: usize, eta: Option<Duration>) -> Self {
        Self { position: Some(position), eta_s: eta.map(seconds), ..Self::new(id, node, Phase::Queued) }
    }

    /// On the worker, `step` of `steps` done.
    pub fn running(id: &JobId, node: &str, step: usize, steps: usize, eta: Option<Duration>) -> Self {
        Self {
            step: Some(step),
            steps: Some(steps),
            eta_s: eta.map(seconds),
            ..Self::new(id, node, Phase::Running)
        }
    }

    /// Refused at the door.
    pub fn rejected(id: &JobId, node: &str, error: ErrorBody) -> Self {
        Self { error: Some(error), ..Self::new(id, node, Phase::Rejected) }
    }

    /// Ended without a picture: cancelled or failed.
    pub fn ended(id: &JobId, node: &str, error: GenerateError) -> Self {
        match error {
            GenerateError::Cancelled | GenerateError::Interrupted => Self::new(id, node, Phase::Cancelled),
            GenerateError::Failed { code, message } => {
                Self { error: Some(ErrorBody::new(code, message)), ..Self::new(id, node, Phase::Failed) }
            }
        }
    }

    /// The pictures are out.
    pub fn succeeded(id: &JobId, node: &str, images: Vec<ImageBody>) -> Self {
        let image = images.first().cloned();
        let images = if images.len() > 1 { images } else { Vec::new() };
        Self { image, images, ..Self::new(id, node, Phase::Succeeded) }
    }
}

/// Whole seconds, up.
fn seconds(eta: Duration) -> u64 {
    eta.as_secs_f64().ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_carry_the_contracts_fields_and_no_others() {
        let id = JobId::parse("j1").expect("valid");
        let json = |status: &JobStatus| serde_json::to_value(status).expect("serialises");
        assert_eq!(
            json(&JobStatus::queued(&id, "desk", 2, None)),
            serde_json::json!({"api": 1, "id": "j1", "node": "desk", "status": "queued", "position": 2})
        );
        let eta = Some(Duration::from_millis(2100));
        assert_eq!(
            json(&JobStatus::running(&id, "desk", 3, 8, eta)),
            serde_json::json!({"api": 1, "id": "j1", "node": "desk", "status": "running",
                "step": 3, "steps": 8, "eta_s": 3})
        );
        let error = FieldError::new("invalid_value", "steps", 0, "1 to 200");
        assert_eq!(
            json(&JobStatus::rejected(&id, "desk", error.into())),
            serde_json::json!({"api": 1, "id": "j1", "node": "desk", "status": "rejected",
                "error": {"code": "invalid_value", "field": "steps", "value": "0", "message": "1 to 200"}})
        );
    }
}
