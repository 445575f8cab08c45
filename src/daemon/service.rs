//! What each event means: requests are admitted, cancelled, started; results become deliveries and states.
//!
//! No waiting in here. What goes out is handed to channels; what cannot be handed over is logged.

use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::activity::{self, Running, status_line};
use super::deliver::{Delivery, PicturesDelivery};
use crate::device::notify::Notifier;
use crate::diffusion::pipeline::Progress;
use crate::diffusion::postprocess::RgbImage;
use crate::diffusion::request::{FieldError, GenerationRequest, Limits};
use crate::display;
use crate::jobs::message::{RequestBody, parse_body};
use crate::jobs::prompt;
use crate::jobs::queue::{Admission, Cancelled, Job, Queue};
use crate::jobs::report::{ImageMeta, StateReport, rfc3339};
use crate::jobs::status::{API, ErrorBody, ImageBody, JobStatus};
use crate::jobs::worker::{Finished, Worker, WorkerEvent, WorkerGone};
use crate::jobs::{GenerateError, JobId, PackInfo, random_seed};
use crate::mqtt::{Command, Incoming, MqttEvent, Topics};

/// The picture format that is published.
const PNG: &str = "image/png";
/// `job/<id>` carries progress at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The code in `state` when the broker keeps commands from us.
const REFUSED: &str = "subscription_refused";

/// What stays the same while the daemon runs.
pub(super) struct Setup {
    /// `[node] name`.
    pub(super) node: String,
    /// Where messages go.
    pub(super) topics: Topics,
    /// Bounds on requests.
    pub(super) limits: Limits,
    /// `[limits] queue_capacity`.
    pub(super) capacity: usize,
    /// What makes the pictures, the default one first.
    pub(super) packs: Vec<PackInfo>,
}

/// See the module.
pub(super) struct Service {
    setup: Setup,
    queue: Queue,
    worker: Worker,
    running: Option<Running>,
    deliveries: mpsc::Sender<Delivery>,
    state: watch::Sender<StateReport>,
    notifier: Notifier,
    /// While there is no broker, progress is not worth keeping.
    connected: bool,
    stopping: bool,
    /// What keeps the node from working, until a picture succeeds.
    trouble: Option<ErrorBody>,
}

impl Service {
    /// A service with nothing to do.
    pub(super) fn new(
        setup: Setup,
        worker: Worker,
        deliveries: mpsc::Sender<Delivery>,
        state: watch::Sender<StateReport>,
        notifier: Notifier,
    ) -> Self {
        let service = Self {
            queue: Queue::new(setup.capacity),
            setup,
            worker,
            running: None,
            deliveries,
            state,
            notifier,
            connected: false,
            stopping: false,
            trouble: None,
        };
        service.show_state();
        service
    }

    /// Whether a job is on the worker.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// For how long the worker has been at work without a word.
    pub(super) fn silence(&self) -> Duration {
        self.running.as_ref().map_or(Duration::ZERO, |running| running.heard.elapsed())
    }

    /// Acts on what the MQTT client tells.
    pub(super) fn on_mqtt(&mut self, event: MqttEvent) -> Result<(), WorkerGone> {
        match event {
            // The client logs both.
            MqttEvent::Connected { .. } => self.connected = true,
            MqttEvent::Disconnected { .. } => {
                self.connected = false;
                // The next connection is told anew what it may not hear.
                self.trouble.take_if(|error| error.code == REFUSED);
            }
            MqttEvent::SubscriptionRefused { filter, reason } => {
                tracing::error!(filter, "the broker refuses the subscription: {reason}");
                let message = format!("the broker refuses the subscription to {filter}: {reason}");
                self.trouble = Some(ErrorBody::new(REFUSED, message));
            }
            MqttEvent::Message(message) => self.on_message(&message),
        }
        self.show_state();
        self.start_next()
    }

    fn on_message(&mut self, message: &Incoming) {
        let Some(command) = self.setup.topics.parse(&message.topic) else {
            return;
        };
        if message.retain {
            // The broker would repeat it at each start; the sender meant it once.
            tracing::warn!(
                topic = message.topic,
                "a retained command is ignored; publish it without the retain flag"
            );
            return;
        }
        match command {
            Command::Generate => self.on_generate(message),
            Command::Cancel => self.on_cancel(&message.payload),
            Command::Set { .. } => {}
        }
    }

    fn on_generate(&mut self, message: &Incoming) {
        let parsed = parse_body(&message.payload, message.content_type.as_deref());
        let (id, checked) = match parsed {
            Ok(body) => (body.id.clone(), self.check(body)),
            Err(rejection) => (rejection.id, Err(rejection.error)),
        };
        let id = id.unwrap_or_else(JobId::generate);
        match checked {
            Ok(request) => self.admit(id, request),
            Err(error) => self.reject(&id, error.into()),
        }
    }

    fn check(&self, body: RequestBody) -> Result<GenerationRequest, FieldError> {
        let pack = PackInfo::named(&self.setup.packs, body.model.as_deref())?;
        let body = body.probed(display::probe)?;
        prompt::check(body.raw, &self.setup.limits, &pack.defaults, random_seed)
    }

    fn admit(&mut self, id: JobId, request: GenerationRequest) {
        if self.stopping {
            let error = ErrorBody::new("stopping", "the node is stopping; send it again later");
            return self.reject(&id, error);
        }
        let node = &self.setup.node;
        let status = match self.queue.submit(id.clone(), request) {
            Admission::Queued { position } => {
                tracing::info!(job_id = %id, position, "job accepted");
                JobStatus::queued(&id, node, position)
            }
            Admission::AlreadyQueued { position } => JobStatus::queued(&id, node, position),
            Admission::Known(status) => *status,
            Admission::Full { capacity } => {
                let message = format!("{capacity} jobs wait already; send it again later");
                return self.reject(&id, ErrorBody::new("queue_full", message));
            }
        };
        self.tell(status);
    }

    fn reject(&self, id: &JobId, error: ErrorBody) {
        tracing::info!(job_id = %id, code = error.code, field = error.field, "request rejected");
        self.tell(JobStatus::rejected(id, &self.setup.node, error));
    }

    /// Empty: the running job; `all`: everything; else an id.
    fn on_cancel(&mut self, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        let outcomes = match text.trim() {
            "" => self.queue.cancel_running().into_iter().collect(),
            "all" => self.queue.cancel_all(),
            id => {
                let known = JobId::parse(id).and_then(|id| self.queue.cancel(&id));
                if known.is_none() {
                    tracing::info!("asked to cancel a job that is not known");
                }
                known.into_iter().collect()
            }
        };
        for outcome in outcomes {
            self.on_cancelled(outcome);
        }
    }

    fn on_cancelled(&mut self, outcome: Cancelled) {
        match outcome {
            Cancelled::Waiting(id) => {
                tracing::info!(job_id = %id, "job cancelled before it ran");
                self.end(&id, GenerateError::Cancelled);
            }
            Cancelled::Running(id) => tracing::info!(job_id = %id, "cancelling the running job"),
            Cancelled::Ended(status) => self.tell(*status),
        }
    }

    /// Acts on what the worker tells.
    pub(super) fn on_worker(&mut self, event: WorkerEvent) -> Result<(), WorkerGone> {
        match event {
            WorkerEvent::Progress { id, progress } => self.on_progress(&id, progress),
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
            return self.show(id, latents, size);
        }
        if let Progress::Step { step, steps } = progress {
            running.stepping_since.get_or_insert(now);
            (running.step, running.steps) = (step, steps);
            let status = JobStatus::running(id, &self.setup.node, step, steps, running.eta());
            self.queue.remember(status.clone());
            if self.connected && now - running.told >= PROGRESS_EVERY {
                running.told = now;
                self.tell(status);
            }
        }
        self.show_state();
    }

    /// Sends a preview at half the picture's size; a courtesy, so it waits for nobody.
    fn show(&self, id: JobId, latents: &RgbImage, (width, height): (usize, usize)) {
        if !self.connected {
            return;
        }
        match display::encode_preview(latents, width.div_ceil(2), height.div_ceil(2)) {
            Ok(jpeg) => {
                let _ = self.deliveries.try_send(Delivery::Preview { id, jpeg: jpeg.into() });
            }
            Err(error) => tracing::warn!(job_id = %id, %error, "no preview"),
        }
    }

    fn on_finished(&mut self, job: &Job, outcome: Result<Vec<Finished>, GenerateError>) {
        self.queue.finish_running();
        // Abandoned on the way down: its end has been told already.
        if self.running.take().is_none_or(|running| running.id != job.id) {
            return;
        }
        match outcome {
            Ok(finished) => {
                self.trouble = None;
                let pictures = self.delivery(job, finished);
                self.hand_over(Delivery::Pictures(pictures));
            }
            Err(error) => {
                if let GenerateError::Failed { code: "model", message } = &error {
                    self.trouble = Some(ErrorBody::new("model", message));
                }
                self.end(&job.id, error);
            }
        }
        self.show_state();
    }

    fn delivery(&self, job: &Job, finished: Vec<Finished>) -> Box<PicturesDelivery> {
        let count = finished.len();
        let created = rfc3339(SystemTime::now());
        let (mut pictures, mut images) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (index, Finished { picture, sha256 }) in finished.into_iter().enumerate() {
            let meta = ImageMeta {
                api: API,
                id: job.id.clone(),
                bytes: picture.png.len(),
                sha256: sha256.clone(),
                width: picture.width,
                height: picture.height,
                content_type: PNG.to_owned(),
                prompt: job.request.prompt.clone(),
                index,
                count,
                seed: picture.seed,
                similarity: picture.similarity,
                steps: job.request.num_inference_steps,
                model: job.request.model.clone(),
                created: created.clone(),
            };
            images.push(ImageBody {
                topic: self.setup.topics.image(),
                bytes: meta.bytes,
                sha256,
                content_type: PNG.to_owned(),
                width: picture.width,
                height: picture.height,
                seed: picture.seed,
                similarity: picture.similarity,
            });
            pictures.push((picture.png.into(), meta));
        }
        let succeeded = JobStatus::succeeded(&job.id, &self.setup.node, images);
        Box::new(PicturesDelivery { pictures, succeeded })
    }

    /// A job's end as the broker's answer decided it.
    pub(super) fn on_delivered(&mut self, status: JobStatus) {
        tracing::info!(job_id = %status.id, status = ?status.status, "job done");
        self.queue.remember(status);
    }

    fn start_next(&mut self) -> Result<(), WorkerGone> {
        if self.stopping {
            return Ok(());
        }
        let Some(job) = self.queue.start_next() else {
            return Ok(());
        };
        let (id, steps) = (job.id.clone(), job.request.num_inference_steps);
        let size = (job.request.width, job.request.height);
        self.worker.start(job)?;
        let status = JobStatus::running(&id, &self.setup.node, 0, steps, None);
        self.queue.remember(status.clone());
        self.tell(status);
        self.running = Some(Running::new(id, steps, size, Instant::now()));
        self.show_state();
        Ok(())
    }

    /// No more jobs: waiting ones are cancelled, the running one is asked to stop.
    pub(super) fn begin_stop(&mut self) {
        self.stopping = true;
        for outcome in self.queue.cancel_all() {
            self.on_cancelled(outcome);
        }
        self.show_state();
    }

    /// The running job did not notice in time: its requester hears what will be true when the process is gone.
    pub(super) fn abandon_running(&mut self) {
        if let Some(running) = self.running.take() {
            tracing::warn!(job_id = %running.id, "the running job is abandoned");
            self.end(&running.id, GenerateError::Cancelled);
        }
    }

    fn end(&mut self, id: &JobId, error: GenerateError) {
        let status = JobStatus::ended(id, &self.setup.node, error);
        self.queue.remember(status.clone());
        self.tell(status);
    }

    fn tell(&self, status: JobStatus) {
        self.hand_over(Delivery::Status(Box::new(status)));
    }

    fn hand_over(&self, delivery: Delivery) {
        match self.deliveries.try_send(delivery) {
            // Closed: there is no broker by configuration.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::error!("too much waits for the broker; a message is dropped");
            }
        }
    }

    fn show_state(&self) {
        let waiting = self.queue.waiting();
        let report = activity::report(self.running.as_ref(), waiting, self.stopping, self.trouble.as_ref());
        self.notifier.status(&status_line(&report));
        self.state.send_if_modified(|state| {
            let changed = *state != report;
            *state = report;
            changed
        });
    }
}
