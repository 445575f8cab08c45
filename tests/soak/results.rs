//! What became of each job, as everybody on the broker heard it.

use std::collections::{BTreeMap, BTreeSet};

use easeld::jobs::worker::hex;
use easeld::mqtt::Incoming;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::observer::json;

/// Of one id.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// `queued` or `running` was heard: it is accepted.
    pub(crate) accepted: bool,
    /// Distinct terminal statuses, as text, by node.
    pub(crate) ends: BTreeSet<String>,
    /// Terminal statuses in all: repetitions counted.
    pub(crate) told: usize,
    /// The digest that a success announces.
    pub(crate) sha256: Option<String>,
    /// Times that `running` with no step done was heard: executions begun.
    pub(crate) begun: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// By id.
    pub(crate) jobs: BTreeMap<String, Outcome>,
    /// Digests of everything that came on `image`.
    pub(crate) images: BTreeSet<String>,
}

impl Results {
    /// Takes note of a message of any kind.
    pub(crate) fn hear(&mut self, message: &Incoming) {
        let levels: Vec<&str> = message.topic.split('/').collect();
        match levels[..] {
            [_, _, "image"] => drop(self.images.insert(hex(&Sha256::digest(&message.payload)))),
            [_, _, "job", id] => self.hear_status(id, &json(message)),
            _ => {}
        }
    }

    fn hear_status(&mut self, id: &str, status: &Value) {
        let outcome = self.jobs.entry(id.to_owned()).or_default();
        match status["status"].as_str() {
            Some("queued") => outcome.accepted = true,
            Some("running") => {
                outcome.accepted = true;
                outcome.begun += usize::from(status["step"] == 0);
            }
            Some("succeeded" | "failed" | "cancelled") => {
                outcome.told += 1;
                outcome.ends.insert(status.to_string());
                outcome.sha256 = status["image"]["sha256"].as_str().map(str::to_owned);
            }
            _ => {}
        }
    }

    /// Nothing was heard of it, neither acceptance nor end.
    pub(crate) fn is_unheard(&self, id: &str) -> bool {
        self.jobs.get(id).is_none_or(|outcome| !outcome.accepted && outcome.ends.is_empty())
    }

    /// Ids without an end among `ids`.
    pub(crate) fn open<'a>(&'a self, ids: &'a BTreeSet<String>) -> impl Iterator<Item = &'a String> {
        ids.iter().filter(|id| self.jobs.get(*id).is_none_or(|outcome| outcome.ends.is_empty()))
    }

    /// Ids whose end was told in two different ways.
    pub(crate) fn contradicted(&self) -> Vec<&String> {
        self.jobs.iter().filter(|(_, outcome)| outcome.ends.len() > 1).map(|(id, _)| id).collect()
    }

    /// Successes whose picture never came.
    pub(crate) fn without_picture(&self) -> Vec<&String> {
        let missing =
            |outcome: &Outcome| outcome.sha256.as_ref().is_some_and(|sha256| !self.images.contains(sha256));
        self.jobs.iter().filter(|(_, outcome)| missing(outcome)).map(|(id, _)| id).collect()
    }
}
