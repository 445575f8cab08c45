//! At the door: a message becomes an accepted job, or a rejection that says why.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::cancelling::NEWEST;
use super::{Service, durably};
use crate::daemon::troubles;
use crate::device::messages;
use crate::diffusion::request::{FieldError, GenerationRequest};
use crate::display;
use crate::jobs::ledger::{Known, Refusal};
use crate::jobs::message::{parse_fields, read_body};
use crate::jobs::pace::Cost;
use crate::jobs::status::{ErrorBody, JobStatus};
use crate::jobs::store::{Accepted, Fingerprint, Reply, now_ms};
use crate::jobs::terms::{self, Schedule, Terms};
use crate::jobs::worker::hex;
use crate::jobs::{JobId, PackInfo, pictures, prompt, random_seed};
use crate::mqtt::{Incoming, topics};

/// Longest request that is kept for `again`, in bytes.
const NEWEST_MAX: usize = 16 << 10;

/// Where a request came from.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Who is asked to slow down.
    pub(super) client: Option<String>,
    /// MQTT 5's response topic.
    pub(super) response_topic: Option<String>,
    /// MQTT 5's correlation data.
    pub(super) correlation_data: Option<Vec<u8>>,
    /// What is left of the message's expiry.
    pub(super) expiry: Option<Duration>,
    /// Of the message.
    pub(super) fingerprint: Option<Fingerprint>,
    /// Over the fleet's topic.
    pub(super) fleet: bool,
}

impl Service {
    pub(super) fn on_generate(&mut self, message: &Incoming, fleet: bool) {
        let fingerprint = message.packet_id.map(|packet_id| {
            let sha256 = hex(&Sha256::digest(&message.payload));
            Fingerprint { packet_id, sha256 }
        });
        if let Some(id) =
            fingerprint.as_ref().filter(|_| message.duplicate).and_then(|same| self.ledger.redelivered(same))
        {
            let id = id.clone();
            tracing::info!(job_id = %id, "the broker delivers its request again");
            self.answer_known(&id);
            return;
        }
        let origin = Origin {
            client: message.client.clone(),
            response_topic: message.response_topic.clone(),
            correlation_data: message.correlation_data.as_ref().map(|data| data.to_vec()),
            expiry: message.expiry_s.map(|seconds| Duration::from_secs(u64::from(seconds))),
            fingerprint,
            fleet,
        };
        match parse_fields(&message.payload, message.content_type.as_deref()) {
            Ok(fields) => {
                self.ask(fields, origin);
            }
            Err(rejection) => {
                let id = rejection.id.unwrap_or_else(JobId::generate);
                self.reject(&id, rejection.error.into(), None);
            }
        }
    }

    /// Takes a request up, or says why not: what is told of it.
    pub(super) fn ask(&mut self, fields: Map<String, Value>, origin: Origin) -> JobStatus {
        let named = fields.get("id").and_then(Value::as_str).and_then(JobId::parse);
        if let Some(status) = named.as_ref().and_then(|id| self.answer_known(id)) {
            return status;
        }
        let id = named.unwrap_or_else(JobId::generate);
        let reply = match self.reply(&fields, &origin) {
            Ok(reply) => reply,
            Err(error) => return self.reject(&id, error.into(), None),
        };
        match self.admit(&id, fields, origin, reply.as_ref()) {
            Ok(status) => status,
            Err(error) => self.reject(&id, error, reply.as_ref()),
        }
    }

    /// Says how a job stands, if it is known.
    fn answer_known(&self, id: &JobId) -> Option<JobStatus> {
        let known = self.ledger.find(id)?;
        let node = &self.setup.node;
        let status = match known {
            Known::Waiting { position } => JobStatus::queued(id, node, position, None),
            Known::Underway => match self.running.as_ref().filter(|running| running.id == *id) {
                Some(running) => running.status(node),
                None => JobStatus::running(id, node, 1, 1, None),
            },
            Known::Ended(status) => *status,
        };
        self.outlets.repeat(status.clone(), None);
        Some(status)
    }

    fn reply(&self, fields: &Map<String, Value>, origin: &Origin) -> Result<Option<Reply>, FieldError> {
        let field = fields.get("reply").and_then(Value::as_str);
        let Some(topic) = field.or(origin.response_topic.as_deref()) else { return Ok(None) };
        if !topics::reply_allowed(topic, &self.setup.reply_prefixes) {
            let prefixes = self.setup.reply_prefixes.join(", ");
            let message = format!("answers go to topics below {prefixes} only ([mqtt] reply_prefixes)");
            return Err(FieldError::new("invalid_value", "reply", topic, message));
        }
        Ok(Some(Reply { topic: topic.to_owned(), correlation_data: origin.correlation_data.clone() }))
    }

    fn admit(
        &mut self,
        id: &JobId,
        mut fields: Map<String, Value>,
        origin: Origin,
        reply: Option<&Reply>,
    ) -> Result<JobStatus, ErrorBody> {
        // What is on disk waits for the next start; its sender may never hear a rejection, or not know what to do with it.
        if self.stopping && !self.setup.durable {
            return Err(ErrorBody::new("stopping", "the node is stopping; send it again later"));
        }
        let client = origin.client.as_deref().or(reply.map(|reply| reply.topic.as_str())).unwrap_or_default();
        self.rate.take(client, Instant::now()).map_err(|wait| {
            let message = format!("too many requests; send it again in {} s", wait.as_secs() + 1);
            ErrorBody::new("rate_limited", message)
        })?;
        self.fill_defaults(&mut fields);
        let ledger = &self.ledger;
        pictures::resolve(&mut fields, |id| ledger.picture(id).ok().flatten())?;
        self.find_out(fields.get("model").and_then(Value::as_str));
        let mut random = Vec::new();
        let (request, terms) = self.check(&fields, &mut random)?;
        let terms = terms.with_expiry(origin.expiry);
        let cost = self.fit_deadline(&mut fields, Cost::of(&request), &terms)?;
        fields.insert("id".to_owned(), id.as_str().into());
        let accepted = Accepted {
            id: id.clone(),
            request: Value::Object(fields).to_string(),
            random,
            accepted_ms: now_ms(),
            deadline_s: terms.deadline_s,
            priority: terms.priority,
            reply: reply.cloned(),
            fingerprint: origin.fingerprint,
            fleet: origin.fleet,
            attempts: 0,
        };
        let wait = self.wait_before(terms.priority);
        let own = self.pace.estimate(&cost);
        if !self.ledger.is_loaded() {
            let trouble = self.troubles.first().map(|error| error.message.clone());
            return Err(ErrorBody::new(troubles::STORAGE, trouble.unwrap_or_default()));
        }
        let position =
            durably(|| self.ledger.accept(&accepted, cost)).map_err(|refusal| self.refused(refusal))?;
        self.troubles.clear(troubles::STORAGE);
        tracing::info!(message_id = messages::JOB_ACCEPTED, job_id = %id, position, "job accepted");
        let eta = wait.zip(own).map(|(wait, own)| wait + own);
        let status = JobStatus::queued(id, &self.setup.node, position, eta);
        self.tell(status.clone(), reply);
        self.remember_newest(&accepted);
        Ok(status)
    }

    /// Keeps a request for `again`, unless it carries pictures. Lost after a crash, which is no harm.
    fn remember_newest(&self, accepted: &Accepted) {
        if accepted.request.len() <= NEWEST_MAX
            && let Ok(fields) = serde_json::from_str::<Value>(&accepted.request)
        {
            let _ = self.ledger.store().set(NEWEST, &fields, true);
        }
    }

    fn refused(&mut self, refusal: Refusal) -> ErrorBody {
        match refusal {
            Refusal::Full { .. } => ErrorBody::new("queue_full", refusal.to_string()),
            Refusal::Store(error) => {
                self.troubles.set(troubles::STORAGE, error.to_string());
                ErrorBody::new(troubles::STORAGE, error.to_string())
            }
        }
    }

    /// Checks a request whole. `random` holds the numbers drawn for it before, and then those drawn now as well.
    pub(super) fn check(
        &self,
        fields: &Map<String, Value>,
        random: &mut Vec<u32>,
    ) -> Result<(GenerationRequest, Terms), FieldError> {
        let mut body = read_body(fields.clone()).map_err(|rejection| rejection.error)?;
        let terms = std::mem::take(&mut body.terms);
        terms.check_renditions(&self.setup.renditions)?;
        let offer = self.setup.offering.now();
        let pack = PackInfo::named(&offer.packs, body.model.as_deref())?;
        let body = body.probed(display::probe)?;
        let mut drawn = 0;
        let draw = || {
            drawn += 1;
            if random.len() < drawn {
                random.push(random_seed());
            }
            random[drawn - 1]
        };
        Ok((prompt::check(body.raw, &self.setup.limits, &pack.defaults, draw)?, terms))
    }

    /// The request of an accepted job, exactly as it was accepted.
    pub(super) fn reread(&self, accepted: &Accepted) -> Result<(GenerationRequest, Terms), FieldError> {
        let fields = parse_fields(accepted.request.as_bytes(), None).map_err(|rejection| rejection.error)?;
        self.check(&fields, &mut accepted.random.clone())
    }

    /// What an accepted job will take. One that can no longer be made costs nothing: it fails as soon as it starts.
    pub(super) fn cost_of(&self, accepted: &Accepted) -> Cost {
        self.reread(accepted).map(|(request, _)| Cost::of(&request)).unwrap_or_default()
    }

    /// Lowers the steps of a request that would come too late and allows it.
    fn fit_deadline(
        &self,
        fields: &mut Map<String, Value>,
        cost: Cost,
        terms: &Terms,
    ) -> Result<Cost, ErrorBody> {
        let limit = terms.deadline_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let known = self.wait_before(terms.priority).zip(self.pace.estimate(&cost));
        let (Some(limit), Some((wait, own))) = (limit, known) else { return Ok(cost) };
        let within = |time| self.pace.steps_within(&cost, time);
        match terms::schedule(cost.steps, limit, wait, own, terms.adaptive, within) {
            Schedule::Fits => Ok(cost),
            Schedule::Fewer { steps } => {
                tracing::info!(steps, asked = cost.steps, "fewer steps to meet the deadline");
                fields.insert("steps".to_owned(), steps.into());
                Ok(Cost { steps, ..cost })
            }
            Schedule::TooLate { estimate } => Err(too_late(limit, estimate)),
        }
    }

    /// How long until a new job of this priority would start.
    fn wait_before(&self, priority: i64) -> Option<Duration> {
        let running = match &self.running {
            None => Duration::ZERO,
            Some(running) => running.left(&self.pace)?,
        };
        self.ledger.wait_before(priority, running, |cost| self.pace.estimate(cost))
    }

    pub(super) fn reject(&self, id: &JobId, error: ErrorBody, reply: Option<&Reply>) -> JobStatus {
        tracing::info!(job_id = %id, code = error.code, field = error.field, "request rejected");
        let status = JobStatus::rejected(id, &self.setup.node, error);
        self.tell(status.clone(), reply);
        status
    }
}

fn too_late(limit: Duration, estimate: Duration) -> ErrorBody {
    let seconds = estimate.as_secs_f64().ceil() as u64;
    let message = format!(
        "it would take about {seconds} s, waiting included: allow more time or fewer steps, or say \"adaptive\": true"
    );
    let field = FieldError::new("deadline", "deadline_s", limit.as_secs_f64(), message);
    ErrorBody { estimate_s: Some(seconds), ..ErrorBody::from(field) }
}
