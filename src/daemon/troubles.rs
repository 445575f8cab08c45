//! What keeps the node from working, each until it is over.

use crate::device::messages;
use crate::jobs::status::ErrorBody;

/// The broker keeps commands from us.
pub(super) const REFUSED: &str = "subscription_refused";
/// Jobs cannot be written down.
pub(super) const STORAGE: &str = "storage";
/// The jobs of an earlier process are lost.
pub(super) const STORE_DAMAGED: &str = "store_damaged";
/// Too much waits for the broker.
pub(super) const OUTBOX_FULL: &str = "outbox_full";
/// A network cannot be used.
pub(super) const MODEL: &str = "model";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<ErrorBody>);

impl Troubles {
    /// Takes note; the newest message of each code counts.
    pub(super) fn set(&mut self, code: &str, message: impl Into<String>) {
        let message = message.into();
        match self.0.iter_mut().find(|error| error.code == code) {
            Some(known) => known.message = message,
            None => {
                tracing::error!(message_id = messages::TROUBLE, code, "{message}");
                self.0.push(ErrorBody::new(code, message));
            }
        }
    }

    /// It is over.
    pub(super) fn clear(&mut self, code: &str) {
        if self.has(code) {
            tracing::info!(message_id = messages::TROUBLE_OVER, code, "{code} is over");
        }
        self.0.retain(|error| error.code != code);
    }

    /// Whether it lasts.
    pub(super) fn has(&self, code: &str) -> bool {
        self.0.iter().any(|error| error.code == code)
    }

    /// Whether one of them keeps pictures from being made or sent.
    pub(super) fn block(&self) -> bool {
        self.0.iter().any(|error| error.code != STORE_DAMAGED)
    }

    /// The first of those that last.
    pub(super) fn first(&self) -> Option<&ErrorBody> {
        self.0.first()
    }
}
