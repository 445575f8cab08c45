//! Commands about jobs that are known: cancel, delete, again.

use serde_json::{Map, Value};

use super::admission::Origin;
use super::{Service, durably, id_of, text};
use crate::daemon::troubles;
use crate::jobs::ledger::Known;
use crate::jobs::stop::Stop;
use crate::jobs::store::StoreError;
use crate::jobs::{GenerateError, JobId};

/// The name in the store under which the newest request is kept.
pub(super) const NEWEST: &str = "newest_request";

impl Service {
    /// Empty: the running job; `all`: everything; else an id.
    pub(super) fn on_cancel(&mut self, payload: &[u8]) {
        match text(payload) {
            "" => self.cancel_running(),
            "all" => self.cancel_all(),
            _ => match id_of(payload) {
                Some(id) => self.cancel(&id),
                None => tracing::info!("asked to cancel what is no job's id"),
            },
        }
    }

    /// Of all nodes of the fleet: an id, or `all` for the fleet's own jobs. Others stay.
    pub(super) fn on_fleet_cancel(&mut self, payload: &[u8]) {
        if text(payload) == "all" {
            let jobs = self.ledger.withdraw_where(|job| job.fleet);
            self.end_withdrawn(jobs, &GenerateError::Cancelled);
            if self.running.as_ref().is_some_and(|running| running.fleet) {
                self.cancel_running();
            }
        } else if let Some(id) = id_of(payload) {
            let known = self.ledger.find(&id);
            if matches!(known, Some(Known::Waiting { .. } | Known::Underway)) {
                self.cancel(&id);
            }
        }
    }

    fn cancel_running(&mut self) {
        if let Some(running) = &self.running {
            tracing::info!(job_id = %running.id, "cancelling the running job");
            running.stop.set(Stop::Cancelled);
        }
    }

    pub(super) fn cancel_all(&mut self) {
        let jobs = self.ledger.withdraw_where(|_| true);
        self.end_withdrawn(jobs, &GenerateError::Cancelled);
        self.cancel_running();
    }

    pub(super) fn cancel(&mut self, id: &JobId) {
        if self.running.as_ref().is_some_and(|running| running.id == *id) {
            return self.cancel_running();
        }
        if let Some(job) = self.ledger.withdraw(id) {
            tracing::info!(job_id = %id, "job cancelled before it ran");
            return self.end_withdrawn(vec![job], &GenerateError::Cancelled);
        }
        match self.ledger.find(id) {
            Some(Known::Ended(status)) => self.outlets.repeat(*status, None),
            Some(_) => {}
            None => tracing::info!("asked to cancel a job that is not known"),
        }
    }

    /// Takes a picture out of the history, and off the retained topics where it is the newest.
    pub(super) fn on_delete(&mut self, payload: &[u8]) {
        let Some(id) = id_of(payload) else {
            return tracing::info!("asked to delete what is no job's id");
        };
        if !self.delete(&id).is_ok_and(|deleted| deleted) {
            tracing::info!(job_id = %id, "asked to delete the pictures of a job that has none");
        }
    }

    /// The same for every door; whether there were any.
    pub(super) fn delete(&mut self, id: &JobId) -> Result<bool, StoreError> {
        let outcome = durably(|| self.ledger.delete(id));
        match &outcome {
            Ok(true) => {
                tracing::info!(job_id = %id, "pictures deleted");
                self.outlets.forget(id);
            }
            Ok(false) => {}
            Err(error) => self.troubles.set(troubles::STORAGE, error.to_string()),
        }
        outcome
    }

    /// The newest request once more: with another seed, or with the same for `same`.
    pub(super) fn on_again(&mut self, payload: &[u8]) {
        let newest: Option<Map<String, Value>> = self.ledger.store().setting(NEWEST).ok().flatten();
        let Some(mut fields) = newest else {
            return tracing::info!("asked to paint again, and nothing was painted yet");
        };
        fields.remove("id");
        if text(payload) != "same" {
            fields.remove("seed");
        }
        self.ask(fields, Origin::default());
    }
}
