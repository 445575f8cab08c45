//! What comes in over HTTP: the same commands as over MQTT, each with an answer.

use serde_json::{Map, Value};

use super::admission::Origin;
use super::{Service, durably};
use crate::http::{Ask, Deleted, JobView};
use crate::jobs::JobId;
use crate::jobs::ledger::Known;
use crate::jobs::status::JobStatus;
use crate::jobs::worker::WorkerGone;

/// Longer requests carry pictures; they are not read again for the sake of their prompt.
const REREAD_MAX: usize = 16 << 10;

impl Service {
    /// Answers one question. Who asked may be gone, which is no harm.
    pub(in crate::daemon) fn on_ask(&mut self, ask: Ask) -> Result<(), WorkerGone> {
        match ask {
            Ask::Generate { fields, client, answer } => {
                let origin = Origin { client: Some(client), ..Origin::default() };
                let status = self.ask(fields, origin);
                // A known id is answered with what HTTP knows of it; a rejected one is not known.
                let known = self.view(&status.id);
                let _ = answer.send(known.unwrap_or_else(|| JobView::new(status, None)));
            }
            Ask::Job { id, answer } => drop(answer.send(self.view(&id))),
            Ask::Jobs { ended, answer } => drop(answer.send(self.views(ended))),
            Ask::Cancel { id, answer } => {
                self.cancel(&id);
                let _ = answer.send(self.view(&id));
            }
            Ask::Delete { id, answer } => {
                let deleted = self.delete_known(&id);
                let _ = answer.send(deleted);
            }
            Ask::Alive { answer } => drop(answer.send(())),
        }
        self.show_state();
        self.start_next()
    }

    fn delete_known(&mut self, id: &JobId) -> Deleted {
        if self.view(id).is_none_or(|view| view.images.is_empty()) {
            return Deleted::Unknown;
        }
        match self.delete(id) {
            Ok(true) => Deleted::Yes,
            Ok(false) => Deleted::Underway,
            Err(error) => Deleted::Failed(error.to_string()),
        }
    }

    /// How a job stands.
    fn view(&self, id: &JobId) -> Option<JobView> {
        let node = &self.setup.node;
        let status = match self.ledger.find(id)? {
            Known::Waiting { position } => JobStatus::queued(id, node, position, self.eta_of(position)),
            Known::Underway | Known::Ended(_) => {
                if let Some(number) = self.ledger.end_of(id) {
                    let ended = durably(|| self.ledger.store().ended(number));
                    return ended.ok().flatten().map(|(ended, _)| JobView::ended(Some(number), &ended));
                }
                match self.running.as_ref().filter(|running| running.id == *id) {
                    Some(running) => running.status(node),
                    // It has ended, and the disk does not take it.
                    None => JobStatus::running(id, node, 1, 1, None),
                }
            }
        };
        Some(JobView::new(status, self.prompt_of(id)))
    }

    /// The running one, those that wait, and the newest `ended`.
    fn views(&self, ended: usize) -> Vec<JobView> {
        let running = self.running.iter().map(|running| running.id.clone());
        let waiting = self.ledger.waiting().iter().map(|job| job.id.clone());
        let open = running.chain(waiting).filter_map(|id| self.view(&id));
        let ended = durably(|| self.ledger.store().ends(None, ended)).unwrap_or_default();
        open.chain(ended.iter().map(|(number, ended)| JobView::ended(Some(*number), ended))).collect()
    }

    /// About how long until the picture of the waiting job at `position` is there.
    fn eta_of(&self, position: usize) -> Option<std::time::Duration> {
        let running = match &self.running {
            None => std::time::Duration::ZERO,
            Some(running) => running.left(&self.pace)?,
        };
        let until = self.ledger.waiting().iter().take(position);
        until.map(|job| self.pace.estimate(&job.cost)).try_fold(running, |sum, one| Some(sum + one?))
    }

    /// What an open job is to show, where that may be said.
    pub(super) fn prompt_of(&self, id: &JobId) -> Option<String> {
        if !self.setup.embed_parameters {
            return None;
        }
        if let Some(running) = self.running.as_ref().filter(|running| running.id == *id) {
            return Some(running.prompt.clone());
        }
        let number = self.ledger.waiting().iter().find(|job| job.id == *id)?.number;
        let accepted = durably(|| self.ledger.store().accepted(number)).ok().flatten()?;
        let request = Some(accepted.request).filter(|request| request.len() <= REREAD_MAX)?;
        let fields: Map<String, Value> = serde_json::from_str(&request).ok()?;
        fields.get("prompt")?.as_str().map(str::to_owned)
    }
}
