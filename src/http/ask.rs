//! What handlers ask of the daemon's loop, each with a place for the answer.

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::view::JobView;
use crate::jobs::JobId;

/// One question. A handler that is gone by the time of the answer is no harm.
#[derive(Debug)]
pub enum Ask {
    /// A request, to be admitted as one that came over MQTT.
    Generate {
        /// Its fields.
        fields: Map<String, Value>,
        /// Who is asked to slow down.
        client: String,
        /// `queued`, `rejected`, or how the job stands whose id it repeats.
        answer: oneshot::Sender<JobView>,
    },
    /// How a job stands.
    Job {
        /// Which.
        id: JobId,
        /// `None`: not known (any more).
        answer: oneshot::Sender<Option<JobView>>,
    },
    /// What runs, what waits in its order, and the newest that ended.
    Jobs {
        /// How many of those that ended.
        ended: usize,
        /// In this order.
        answer: oneshot::Sender<Vec<JobView>>,
    },
    /// A job is to stop, or not to start.
    Cancel {
        /// Which.
        id: JobId,
        /// How it stands then: a running one notices between two steps.
        answer: oneshot::Sender<Option<JobView>>,
    },
    /// The pictures of a job are to go.
    Delete {
        /// Which.
        id: JobId,
        /// What became of it.
        answer: oneshot::Sender<Deleted>,
    },
    /// Whether the loop turns.
    Alive {
        /// It does.
        answer: oneshot::Sender<()>,
    },
}

/// What became of a wish to delete pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// They are gone.
    Yes,
    /// There are none under this id.
    Unknown,
    /// The broker does not have them yet; they go out first.
    Underway,
    /// The store says why not.
    Failed(String),
}
