//! A job and a picture as HTTP shows them: what MQTT says of them, with places to get pictures from instead of topics.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::jobs::JobId;
use crate::jobs::report::ImageMeta;
use crate::jobs::status::{API, ErrorBody, JobStatus, Phase};
use crate::jobs::store::Ended;

/// The JSON of `/api/jobs/{id}` and of the event `job`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobView {
    /// [`API`].
    pub api: u32,
    /// The job.
    pub id: JobId,
    /// The node that has it.
    pub node: String,
    /// How it stands.
    pub status: Phase,
    /// What the picture shows; absent with `[privacy] embed_parameters = false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
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
    /// Its number in the history, once it has ended: where its pictures are.
    #[serde(skip)]
    pub number: Option<u64>,
    /// Succeeded: the pictures that are still there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<PictureView>,
}

/// The JSON of one picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PictureView {
    /// Where it is.
    pub url: String,
    /// What `image/meta` says of it.
    #[serde(flatten)]
    pub meta: ImageMeta,
    /// Where the renditions are that its request names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub renditions: BTreeMap<String, String>,
}

/// Codes of the delivery over MQTT. Over HTTP such a picture is there all the same.
const UNDELIVERED: [&str; 2] = ["too_large", "undeliverable"];

impl JobView {
    /// What `status` says, of a job that makes `prompt`.
    pub fn new(status: JobStatus, prompt: Option<String>) -> Self {
        let JobStatus { id, node, status, position, step, steps, eta_s, error, .. } = status;
        let images = Vec::new();
        Self { api: API, id, node, status, prompt, position, step, steps, eta_s, error, number: None, images }
    }

    /// How a job ended, as soon as that is on the disk: whether a broker takes its pictures is another matter.
    pub fn ended(number: Option<u64>, ended: &Ended) -> Self {
        let mut status = ended.status.clone();
        let code = status.error.as_ref().map(|error| error.code.as_str());
        if status.status == Phase::Failed && code.is_some_and(|code| UNDELIVERED.contains(&code)) {
            (status.status, status.error) = (Phase::Succeeded, None);
        }
        let prompt = ended.pictures.first().and_then(|picture| picture.prompt.clone());
        let images = PictureView::all_of(ended).collect();
        Self { number, images, ..Self::new(status, prompt) }
    }
}

impl PictureView {
    /// Of each picture of a job.
    pub fn all_of(ended: &Ended) -> impl Iterator<Item = Self> {
        ended.pictures.iter().map(move |meta| {
            let url = match meta.index {
                0 => format!("/api/images/{}", meta.id),
                index => format!("/api/images/{}/{index}", meta.id),
            };
            let names = ended.renditions.iter().flatten();
            let renditions = names.map(|name| (name.clone(), format!("{url}?rendition={name}"))).collect();
            Self { url, meta: meta.clone(), renditions }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(index: usize) -> ImageMeta {
        let id = JobId::parse("j").expect("valid");
        let prompt = Some("a fox".to_owned());
        ImageMeta { index, count: 2, bytes: 3, prompt, ..ImageMeta::example(&id) }
    }

    #[test]
    fn a_picture_that_no_broker_takes_is_a_picture_here() {
        let id = JobId::parse("j").expect("valid");
        let error = ErrorBody::new("undeliverable", "no");
        let status = JobStatus { error: Some(error), ..JobStatus::new(&id, "desk", Phase::Failed) };
        let renditions = Some(vec!["jpeg".to_owned()]);
        let ended = Ended { pictures: vec![meta(0), meta(1)], renditions, ..Ended::new(status) };
        let view = JobView::ended(None, &ended);
        assert_eq!((view.status, view.error), (Phase::Succeeded, None));
        let urls: Vec<_> = view.images.iter().map(|picture| picture.url.as_str()).collect();
        assert_eq!(urls, ["/api/images/j", "/api/images/j/1"]);
        let json = serde_json::to_value(&view.images[0]).expect("plain data");
        assert_eq!((json["seed"].as_u64(), json["prompt"].as_str()), (Some(7), Some("a fox")));
        assert_eq!(view.images[1].renditions["jpeg"], "/api/images/j/1?rendition=jpeg");
    }
}
