//! Where the service's words go: the one place that tells both doors, MQTT and HTTP.
//!
//! How a job stands goes to both at once. Its end goes to HTTP as soon as it is on the disk, and to the broker from there, by
//! `outbox`: a broker that is away keeps nobody at the device waiting.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::deliver::Delivery;
use crate::device::notify::Notifier;
use crate::http::{JobView, News};
use crate::jobs::JobId;
use crate::jobs::report::{ConfigReport, StateReport};
use crate::jobs::status::JobStatus;
use crate::jobs::store::{Ended, Reply};

/// See the module.
pub(super) struct Outlets {
    /// Statuses and previews, to the broker.
    pub(super) deliveries: mpsc::Sender<Delivery>,
    /// Wakes the delivery of ended jobs.
    pub(super) ended: Arc<Notify>,
    /// Everything, to listeners over HTTP.
    pub(super) news: Arc<News>,
    /// `state`.
    pub(super) state: watch::Sender<StateReport>,
    /// `config`.
    pub(super) config: watch::Sender<ConfigReport>,
    /// systemd.
    pub(super) notifier: Notifier,
}

impl Outlets {
    /// How a job stands now that makes `prompt`.
    pub(super) fn tell(&self, status: JobStatus, reply: Option<&Reply>, prompt: Option<String>) {
        self.news.job(&JobView::new(status.clone(), prompt));
        self.repeat(status, reply);
    }

    /// To the broker alone: an answer to who asks again, or one more step, which HTTP's listeners see in `state`.
    pub(super) fn repeat(&self, status: JobStatus, reply: Option<&Reply>) {
        self.hand_over(Delivery::Status(Box::new(status), reply.cloned()));
    }

    /// How a job has ended, which is on the disk.
    pub(super) fn tell_end(&self, ended: &Ended) {
        self.news.job(&JobView::ended(None, ended));
        self.ended.notify_one();
    }

    /// What a picture looks like now; a courtesy, so it waits for nobody.
    pub(super) fn preview(&self, id: &JobId, jpeg: Bytes, connected: bool) {
        if connected {
            let _ = self.deliveries.try_send(Delivery::Preview { id: id.clone(), jpeg: jpeg.clone() });
        }
        self.news.preview(id, jpeg);
    }

    /// The pictures of a job are gone.
    pub(super) fn forget(&self, id: &JobId) {
        self.news.deleted(id);
        self.hand_over(Delivery::Forget { id: id.clone() });
    }

    /// To the broker.
    pub(super) fn hand_over(&self, delivery: Delivery) {
        match self.deliveries.try_send(delivery) {
            // Closed: there is no broker by configuration.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::error!("too much waits for the broker; a message is dropped");
            }
        }
    }
}
