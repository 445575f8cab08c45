//! From the queue to the worker and from there to the store: jobs start, move on and end.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{PACE, Service, durably};
use crate::daemon::activity::Running;
use crate::daemon::troubles;
use crate::device::messages;
use crate::diffusion::pipeline::Progress;
use crate::diffusion::postprocess::RgbImage;
use crate::diffusion::request::FieldError;
use crate::display;
use crate::jobs::checkpoints::JobCheckpoints;
use crate::jobs::queue::Waiting;
use crate::jobs::report::{ImageMeta, rfc3339};
use crate::jobs::status::{API, ErrorBody, ImageBody, JobStatus};
use crate::jobs::stop::{Stop, StopFlag};
use crate::jobs::store::{Accepted, Ended};
use crate::jobs::worker::{Finished, Job, WorkerEvent, WorkerGone};
use crate::jobs::{GenerateError, JobId};

/// The picture format that is published.
const PNG: &str = "image/png";
/// Jobs of the fleet that are passed over, at most, because another node makes them.
const CANDIDATES: usize = 8;
/// `job/<id>` carries progress at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// A step that takes longer is worth a line in the log.
const SLOW_STEP: Duration = Duration::from_secs(10);

/// How a job ended that could not be written down yet.
pub(super) struct Unwritten {
    ended: Ended,
    pictures: Vec<Vec<u8>>,
}

impl Service {
    /// Acts on what the worker tells.
    pub(in crate::daemon) fn on_worker(&mut self, event: WorkerEvent) -> Result<(), WorkerGone> {
        match event {
            WorkerEvent::Progress { id, progress } => self.on_progress(&id, progress),
            WorkerEvent::Resting { id } => self.on_resting(&id),
            WorkerEvent::Finished { job, outcome } => self.on_finished(&job, outcome),
        }
        self.start_next()
    }

    fn on_progress(&mut self, id: &JobId, progress: Progress) {
        let Some(running) = self.running.as_mut().filter(|running| running.id == *id) else {
            return;
        };
        let now = Instant::now();
        running.heard = now;
        running.loading = matches!(progress, Progress::VaeEncoder | Progress::TextEncoder);
        if let Progress::Preview(latents) = &progress {
            let (id, size) = (running.id.clone(), running.size);
            return self.show(&id, latents, size);
        }
        trace(running, &progress, self.heat.celsius());
        running.at_progress = now;
        if let Progress::Step { step, steps } = progress {
            running.step_done(step, steps, now);
            if self.connected && now - running.told >= PROGRESS_EVERY {
                running.told = now;
                let (status, reply) = (running.status(&self.setup.node), running.reply.clone());
                self.outlets.repeat(status, reply.as_ref());
            }
        }
        self.show_state();
    }

    /// Alive, and slow on purpose.
    fn on_resting(&mut self, id: &JobId) {
        if let Some(running) = self.running.as_mut().filter(|running| running.id == *id) {
            running.heard = Instant::now();
            running.rested = true;
        }
    }

    /// Sends a preview at half the picture's size to whoever is there.
    fn show(&self, id: &JobId, latents: &RgbImage, (width, height): (usize, usize)) {
        if !self.connected && !self.outlets.news.has_listeners() {
            return;
        }
        match display::encode_preview(latents, width.div_ceil(2), height.div_ceil(2)) {
            Ok(jpeg) => self.outlets.preview(id, jpeg.into(), self.connected),
            Err(error) => tracing::warn!(job_id = %id, %error, "no preview"),
        }
    }

    fn on_finished(&mut self, job: &Job, outcome: Result<Vec<Finished>, GenerateError>) {
        // Abandoned on the way down: its end has been told already.
        let Some(running) = self.running.take_if(|running| running.id == job.id) else { return };
        let (reply, fleet, renditions) = (running.reply.clone(), running.fleet, running.renditions.clone());
        let node = &self.setup.node;
        let (ended, pictures) = match outcome {
            Err(GenerateError::Interrupted) => {
                self.ledger.leave_running();
                let status = JobStatus::queued(&job.id, node, 1, None);
                return self.tell(status, reply.as_ref());
            }
            Ok(finished) => {
                self.troubles.clear(troubles::MODEL);
                self.troubles.clear(troubles::STORE_DAMAGED);
                let total = running.since.elapsed();
                self.last_duration = Some(total);
                if let Some(stepping) = running.stepped.filter(|_| !running.rested) {
                    self.pace.learn(&running.cost, stepping, total);
                    // Lost after a crash, learnt again by the next job.
                    let _ = self.ledger.store().set(PACE, &self.pace, true);
                }
                self.succeeded(job, finished)
            }
            Err(error) => {
                if let GenerateError::Failed { code, message } = &error {
                    let (message_id, temp_c) = (messages::JOB_FAILED, self.heat.celsius());
                    let duration_ms = running.since.elapsed().as_millis() as u64;
                    tracing::error!(message_id, job_id = %job.id, code, duration_ms, temp_c, "job failed: {message}");
                }
                if let GenerateError::Failed { code: troubles::MODEL, message } = &error {
                    self.troubles.set(troubles::MODEL, message);
                }
                (self.without_picture(&job.id, error), Vec::new())
            }
        };
        if let Some(png) = pictures.last() {
            self.setup.screens.iter().for_each(|screen| screen.show(png.clone()));
        }
        self.conclude(Ended { reply, fleet, renditions, ..ended }, pictures);
        self.show_state();
    }

    fn without_picture(&self, id: &JobId, error: GenerateError) -> Ended {
        Ended::new(JobStatus::ended(id, &self.setup.node, error))
    }

    fn succeeded(&self, job: &Job, finished: Vec<Finished>) -> (Ended, Vec<Vec<u8>>) {
        let count = finished.len();
        let created = rfc3339(SystemTime::now());
        let prompt = self.setup.embed_parameters.then(|| job.request.prompt.clone());
        let (mut files, mut metas) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (index, Finished { picture, sha256 }) in finished.into_iter().enumerate() {
            metas.push(ImageMeta {
                api: API,
                id: job.id.clone(),
                bytes: picture.png.len(),
                sha256,
                width: picture.width,
                height: picture.height,
                content_type: PNG.to_owned(),
                prompt: prompt.clone(),
                index,
                count,
                seed: picture.seed,
                similarity: picture.similarity,
                steps: job.request.num_inference_steps,
                model: job.request.model.clone(),
                created: created.clone(),
            });
            files.push(picture.png);
        }
        let topic = self.setup.topics.image();
        let images = metas.iter().map(|meta| ImageBody::of(meta, &topic)).collect();
        let status = JobStatus::succeeded(&job.id, &self.setup.node, images);
        (Ended { pictures: metas, ..Ended::new(status) }, files)
    }

    /// Writes how the running job ended. What cannot be written waits, and everything else with it: nothing is said that a
    /// crash could undo.
    fn conclude(&mut self, ended: Ended, pictures: Vec<Vec<u8>>) {
        match durably(|| self.ledger.end_running(&ended, &pictures)) {
            Ok(()) => {
                self.troubles.clear(troubles::STORAGE);
                self.outlets.tell_end(&ended);
            }
            Err(error) => {
                self.troubles.set(troubles::STORAGE, error.to_string());
                self.unwritten = Some(Unwritten { ended, pictures });
            }
        }
    }

    /// Tries again what could not be written.
    pub(super) fn write_again(&mut self) {
        if let Some(Unwritten { ended, pictures }) = self.unwritten.take() {
            self.conclude(ended, pictures);
        }
    }

    /// Jobs whose deadline has passed end: waiting ones now, the running one when it notices.
    pub(super) fn end_overdue(&mut self) {
        let now = Instant::now().into_std();
        let overdue = self.ledger.overdue(now);
        self.end_withdrawn(overdue, &GenerateError::late());
        let late = self.ledger.running().and_then(|running| running.due).is_some_and(|due| due <= now);
        if let Some(running) = self.running.as_ref().filter(|_| late) {
            running.stop.set(Stop::Late);
        }
    }

    /// Ends jobs that never ran. They go back to their place where that cannot be written.
    pub(super) fn end_withdrawn(&mut self, jobs: Vec<Waiting>, error: &GenerateError) {
        let node = self.setup.node.clone();
        self.end_withdrawn_as(jobs, |job| JobStatus::ended(&job.id, &node, error.clone()));
    }

    /// The same with a status for each.
    pub(super) fn end_withdrawn_as(&mut self, jobs: Vec<Waiting>, status: impl Fn(&Waiting) -> JobStatus) {
        if jobs.is_empty() {
            return;
        }
        let store = self.ledger.store().clone();
        let ends: Vec<_> = (jobs.iter())
            .map(|job| {
                let reply = store.accepted(job.number).ok().flatten().and_then(|accepted| accepted.reply);
                (job.number, Ended { reply, fleet: job.fleet, ..Ended::new(status(job)) })
            })
            .collect();
        let borrowed: Vec<_> = ends.iter().map(|(number, ended)| (*number, ended)).collect();
        match durably(|| self.ledger.end_waiting(&borrowed)) {
            Ok(()) => ends.iter().for_each(|(_, ended)| self.outlets.tell_end(ended)),
            Err(error) => {
                self.troubles.set(troubles::STORAGE, error.to_string());
                self.ledger.put_back(jobs);
            }
        }
    }

    pub(super) fn start_next(&mut self) -> Result<(), WorkerGone> {
        let willing = !self.stopping && !self.is_paused() && self.heat.may_start();
        while willing && self.running.is_none() && self.unwritten.is_none() {
            self.show_outbox();
            let ready: Vec<bool> = self.candidates().iter().map(|job| self.may_start(job)).collect();
            let Some(first) = ready.iter().position(|ready| *ready) else { return Ok(()) };
            let Some(waiting) = self.ledger.start(first).cloned() else { return Ok(()) };
            self.start(&waiting)?;
        }
        Ok(())
    }

    /// Waiting jobs from the first to the first that is our own: only jobs of the fleet may be passed over.
    fn candidates(&self) -> Vec<Waiting> {
        let mut own = false;
        let waiting = self.ledger.waiting().iter();
        waiting.take_while(|job| !std::mem::replace(&mut own, !job.fleet)).take(CANDIDATES).cloned().collect()
    }

    fn show_outbox(&mut self) {
        if self.ledger.outbox_is_full() {
            let message =
                "pictures wait for the broker; none is made until it has taken some ([jobs] outbox_bytes)";
            self.troubles.set(troubles::OUTBOX_FULL, message);
        } else {
            self.troubles.clear(troubles::OUTBOX_FULL);
        }
    }

    /// Hands a job to the worker, or ends it here where it cannot be made any more.
    fn start(&mut self, waiting: &Waiting) -> Result<(), WorkerGone> {
        let record = self.ledger.store().accepted(waiting.number);
        let accepted = match record {
            Ok(Some(accepted)) => accepted,
            Ok(None) => {
                self.give_up(waiting, None, "internal", "its request is not in the store");
                return Ok(());
            }
            Err(error) => {
                self.give_up(waiting, None, troubles::STORAGE, &error.to_string());
                return Ok(());
            }
        };
        if accepted.attempts >= self.setup.attempts {
            let message = format!("the process died {} times while it made this picture", accepted.attempts);
            self.give_up(waiting, Some(&accepted), "crashed", &message);
            return Ok(());
        }
        let (request, terms) = match self.reread(&accepted) {
            Ok(both) => both,
            Err(error) => {
                self.refuse_late(waiting, &accepted, error);
                return Ok(());
            }
        };
        let stop = StopFlag::default();
        let pack_hash = self.pack_hash(&request.model);
        let every = self.setup.checkpoint_every;
        let store = self.ledger.store().clone();
        let checkpoints = JobCheckpoints::new(store, waiting.number, &pack_hash, every, stop.clone());
        let mut running = Running::new(waiting, &request, accepted.reply, stop.clone());
        running.renditions = terms.renditions;
        let id = waiting.id.clone();
        tracing::info!(job_id = %id, phase = "start", steps = request.num_inference_steps, temp_c = self.heat.celsius(), "job started");
        self.worker.start(Job { number: waiting.number, id, request, stop, checkpoints })?;
        self.tell(running.status(&self.setup.node), running.reply.as_ref());
        self.running = Some(running);
        self.show_state();
        Ok(())
    }

    fn give_up(&mut self, waiting: &Waiting, accepted: Option<&Accepted>, code: &'static str, message: &str) {
        let error = GenerateError::Failed { code, message: message.to_owned() };
        let reply = accepted.and_then(|accepted| accepted.reply.clone());
        let ended = self.without_picture(&waiting.id, error);
        self.conclude(Ended { reply, fleet: waiting.fleet, ..ended }, Vec::new());
    }

    /// What was fine when it was accepted is not any more: another pack, other limits.
    fn refuse_late(&mut self, waiting: &Waiting, accepted: &Accepted, error: FieldError) {
        let status = JobStatus {
            error: Some(ErrorBody::from(error)),
            ..JobStatus::new(&waiting.id, &self.setup.node, crate::jobs::status::Phase::Failed)
        };
        let reply = accepted.reply.clone();
        self.conclude(Ended { reply, fleet: waiting.fleet, ..Ended::new(status) }, Vec::new());
    }

    /// No more jobs. The running one is asked to stop and goes on at the next start, as do those that wait; where nothing
    /// outlives the process they are cancelled.
    pub(in crate::daemon) fn begin_stop(&mut self) {
        self.stopping = true;
        if self.setup.durable {
            if let Some(running) = &self.running {
                running.stop.set(Stop::Interrupted);
            }
        } else {
            self.cancel_all();
        }
        self.show_state();
    }

    /// The running job did not notice in time. Its request is in the store; where nothing is, its requester hears what will be
    /// true when the process is gone.
    pub(in crate::daemon) fn abandon_running(&mut self) {
        let Some(running) = self.running.take() else { return };
        tracing::warn!(job_id = %running.id, "the running job is abandoned");
        if !self.setup.durable {
            let ended = self.without_picture(&running.id, GenerateError::Cancelled);
            self.conclude(Ended { reply: running.reply, fleet: running.fleet, ..ended }, Vec::new());
        }
    }
}

/// A line for the journal: which part of the job begins, and how long the last one took. Steps of a slow board are for everybody.
fn trace(running: &Running, progress: &Progress, temp_c: Option<f64>) {
    let (phase, step) = match progress {
        Progress::VaeEncoder => ("vae_encoder", None),
        Progress::TextEncoder => ("text_encoder", None),
        Progress::Step { step, .. } => ("unet", Some(*step)),
        Progress::Preview(_) => ("preview", None),
        Progress::VaeDecoder => ("vae_decoder", None),
        Progress::ImageEncoder => ("image_encoder", None),
        Progress::Upscaler => ("upscaler", None),
    };
    let last = running.at_progress.elapsed();
    let (job_id, duration_ms) = (&running.id, last.as_millis() as u64);
    if last >= SLOW_STEP {
        tracing::info!(%job_id, phase, step, duration_ms, temp_c, "job goes on");
    } else {
        tracing::debug!(%job_id, phase, step, duration_ms, temp_c, "job goes on");
    }
}
