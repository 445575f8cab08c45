//! The fleet's jobs among our own: claimed before they start, left alone when another node has them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Service;
use crate::daemon::claims::{Claim, Verdict};
use crate::daemon::deliver::Delivery;
use crate::daemon::json;
use crate::jobs::JobId;
use crate::jobs::queue::Waiting;
use crate::jobs::status::{ErrorBody, JobStatus, Phase};
use crate::mqtt::{Incoming, Publication};

/// After a connection the broker sends the claims that it has kept; nothing is claimed before that is over.
const SETTLE: Duration = Duration::from_secs(2);
/// A claim of ours that was not heard by then is made again.
const CLAIM_AGAIN: Duration = Duration::from_secs(5);
/// How long the broker keeps a claim: as long as the ends of jobs.
const CLAIM_EXPIRY_S: u32 = 24 * 3600;

impl Service {
    /// A connection is new.
    pub(super) fn fleet_connected(&mut self) {
        self.claims.connected();
        self.claimed.clear();
        self.settled_at = Some(Instant::now() + SETTLE);
    }

    /// Takes note of what nodes of the fleet say to each other; whether it was that.
    pub(super) fn hear_fleet(&mut self, message: &Incoming) -> bool {
        if !self.setup.in_fleet {
            return false;
        }
        if let Some(id) = self.setup.topics.claimed_id(&message.topic) {
            let Some(id) = JobId::parse(id) else { return true };
            let claim = serde_json::from_slice::<Value>(&message.payload).ok();
            let claim = claim.and_then(|claim| serde_json::from_value::<Claim>(claim).ok());
            if self.claims.hear(&id, claim) {
                self.claim(&id, false);
            }
            return true;
        }
        let Some(node) = self.setup.topics.status_of(&message.topic) else { return false };
        self.claims.hear_status(node, &message.payload[..] == b"online");
        true
    }

    /// Whether a waiting job may start now: our own always, the fleet's once it is ours.
    pub(super) fn may_start(&mut self, job: &Waiting) -> bool {
        if !job.fleet || !self.setup.in_fleet {
            return true;
        }
        match self.claims.verdict(&job.id) {
            Verdict::Mine => true,
            Verdict::Theirs | Verdict::Done { .. } => false,
            Verdict::Unclaimed => {
                let now = Instant::now();
                let settled = self.settled_at.is_some_and(|at| at <= now);
                let asked = self.claimed.get(&job.id).is_some_and(|at| now - *at < CLAIM_AGAIN);
                if settled && !asked && self.connected {
                    self.claimed.insert(job.id.clone(), now);
                    self.claim(&job.id, false);
                }
                false
            }
        }
    }

    /// Ends waiting jobs that another node has made.
    pub(super) fn end_made_elsewhere(&mut self) {
        if !self.setup.in_fleet {
            return;
        }
        let made = |job: &Waiting| match self.claims.verdict(&job.id) {
            Verdict::Done { node } if job.fleet => Some((job.id.clone(), node)),
            _ => None,
        };
        let made: Vec<_> = self.ledger.waiting().iter().filter_map(made).collect();
        for (id, node) in made {
            let Some(job) = self.ledger.withdraw(&id) else { continue };
            let message = format!("{node} has made it");
            let error = Some(ErrorBody::new("claimed", message));
            let status = JobStatus { error, ..JobStatus::new(&id, &self.setup.node, Phase::Cancelled) };
            self.end_withdrawn_as(vec![job], |_| status.clone());
        }
    }

    /// Waiting jobs that take up room: not those of the fleet that another node makes.
    pub(super) fn waiting_for_us(&self) -> usize {
        let theirs = |job: &&Waiting| job.fleet && self.claims.verdict(&job.id) == Verdict::Theirs;
        self.ledger.waiting().iter().filter(|job| !theirs(job)).count()
    }

    /// Tells the fleet how one of its jobs ended here: a picture is the one that counts, anything else leaves it to others.
    pub(super) fn fleet_ended(&mut self, status: &JobStatus) {
        self.claimed.remove(&status.id);
        if !self.setup.in_fleet || self.claims.verdict(&status.id) != Verdict::Mine {
            return;
        }
        if status.status == Phase::Succeeded {
            self.claim(&status.id, true);
        } else {
            let topic = self.setup.topics.fleet_claim(status.id.as_str());
            let nothing = Publication { topic, retain: true, ..Publication::default() };
            self.hand_over(Delivery::Publish(Box::new(nothing)));
        }
    }

    fn claim(&self, id: &JobId, done: bool) {
        let done = done || self.ledger.find(id).is_some_and(|known| known.is_success());
        let claim = json(self.setup.topics.fleet_claim(id.as_str()), &self.claims.own(done));
        let claim = Publication { retain: true, expiry_s: Some(CLAIM_EXPIRY_S), ..claim };
        self.hand_over(Delivery::Publish(Box::new(claim)));
    }
}
