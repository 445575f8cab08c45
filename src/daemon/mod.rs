//! The composition root: builds everything, owns the one select loop, ends in an orderly way.
//!
//! `service` decides what a message or a worker's event means; `deliver` carries results to the broker in order;
//! `presence` keeps the retained `status`, `info` and `state` fresh. The loop itself never waits for inference or
//! for the broker.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::config::{ConfigError, Problem, Settings};
use crate::device::notify::Notifier;
use crate::jobs::report::{InfoReport, NodeState, StateReport};
use crate::jobs::status::JobStatus;
use crate::jobs::worker::{Worker, WorkerEvent, WorkerGone};
use crate::jobs::{GeneratePictures, PackInfo};
use crate::mqtt::{Client, ClientSettings, MqttEvent, Publication, Topics};

mod activity;
mod connect;
mod deliver;
mod presence;
mod service;

use presence::Presence;
use service::Service;

/// Events of the worker that may wait for the loop. More than one step's worth, so that none is lost in practice.
const WORKER_EVENTS: usize = 64;
/// Deliveries that may wait for the broker: a full queue's statuses several times over.
const DELIVERIES: usize = 1024;
/// The way down: how long the running job may take to notice...
const WORKER_GRACE: Duration = Duration::from_secs(4);
/// ...how long last statuses may take to the broker...
const DELIVERY_GRACE: Duration = Duration::from_secs(3);
/// ...and how long the farewell may. Together below the 10 seconds that a stop is promised to take.
const FAREWELL_GRACE: Duration = Duration::from_secs(2);
/// A worker that is silent for longer hangs: the watchdog is no longer fed and systemd starts us anew. One step of a
/// large model takes minutes on a small board, and loading one from a slow card as long.
const SILENCE_MAX: Duration = Duration::from_secs(30 * 60);

/// The daemon cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The settings contradict the machine: the process exits 78.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refuses a thread.
    #[error("cannot start the worker thread: {0}")]
    Thread(std::io::Error),
    /// The broker inside the process does not start.
    #[error("cannot start the embedded broker: {0}")]
    Broker(String),
    /// The worker thread has ended; only a restart brings it back.
    #[error(transparent)]
    Worker(#[from] WorkerGone),
}

/// Runs the daemon until `shutdown` completes: prompts in over MQTT, pictures from `generator` out. Requests may name one of
/// `packs`; the first, of which there has to be one, makes the pictures of those that name none.
///
/// Needs a multi-threaded tokio runtime. Inference runs on one thread of its own. After `shutdown` no job is
/// accepted, the running one is cancelled between steps, waiting ones at once, `offline` is published; all within
/// 10 seconds.
///
/// # Errors
/// [`DaemonError`]. A broker that is absent or refuses us is none: the client keeps trying.
pub async fn run(
    settings: Settings,
    generator: Box<dyn GeneratePictures>,
    packs: Vec<PackInfo>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let notifier = Notifier::from_env();
    let topics = Topics::new(&settings.mqtt.prefix, &settings.node.name)
        .map_err(|error| connect::config_error("mqtt.prefix", &settings.mqtt.prefix, error))?;
    // The broker inside the process, if there is one, lives until the farewell is out: it is dropped last.
    let connect::Connection { client, embedded: _embedded } = connect::prepare(&settings, &topics)?;

    let (worker_sender, worker_events) = mpsc::channel(WORKER_EVENTS);
    let worker = Worker::spawn(generator, worker_sender).map_err(DaemonError::Thread)?;
    let (state, state_changes) = watch::channel(StateReport::new(NodeState::Starting, 0));
    let limits = settings.limits.for_requests();
    let capacity = settings.limits.queue_capacity;
    let info = InfoReport::new(&settings.node.name, &packs, &limits, capacity);
    let broker = Broker::start(client, &topics, &info, state_changes);
    let service = Service::new(
        service::Setup { node: settings.node.name, topics: topics.clone(), limits, capacity, packs },
        worker,
        broker.deliveries.clone(),
        state,
        notifier.clone(),
    );
    tracing::info!(node = %info.node, model = info.models.first().map(|model| &model.name), "ready for prompts");
    notifier.ready("idle");
    let mut daemon = Daemon { service, broker, worker_events, notifier };
    let outcome = daemon.serve(shutdown).await;
    daemon.stop(&topics).await;
    outcome
}

/// Everything the loop listens to and ends.
struct Daemon {
    service: Service,
    broker: Broker,
    worker_events: mpsc::Receiver<WorkerEvent>,
    notifier: Notifier,
}

impl Daemon {
    /// The loop: every reason to wake up is an arm.
    async fn serve(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let watchdog_every = self.notifier.watchdog_interval();
        let mut watchdog = interval(watchdog_every.unwrap_or(Duration::from_secs(3600)));
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                Some(event) = self.broker.events.recv() => self.on_mqtt(event)?,
                event = self.worker_events.recv() => {
                    self.service.on_worker(event.ok_or(WorkerGone)?)?;
                }
                Some(status) = self.broker.delivered.recv() => self.service.on_delivered(status),
                _ = watchdog.tick() => {
                    if self.service.silence() < SILENCE_MAX {
                        self.notifier.watchdog();
                    }
                }
            }
        }
    }

    fn on_mqtt(&mut self, event: MqttEvent) -> Result<(), WorkerGone> {
        if matches!(event, MqttEvent::Connected { .. }) {
            self.broker.presence.connected();
        }
        self.service.on_mqtt(event)
    }

    /// The way down. Every wait is bounded.
    async fn stop(mut self, topics: &Topics) {
        self.notifier.stopping("stopping");
        tracing::info!("stopping");
        self.service.begin_stop();
        let deadline = Instant::now() + WORKER_GRACE;
        while self.service.is_running() {
            tokio::select! {
                event = self.worker_events.recv() => match event {
                    // An error can only say that the worker is gone; then nothing runs any more either.
                    Some(event) => { let _ = self.service.on_worker(event); }
                    None => break,
                },
                Some(event) = self.broker.events.recv() => { let _ = self.on_mqtt(event); }
                Some(status) = self.broker.delivered.recv() => self.service.on_delivered(status),
                () = sleep_until(deadline) => break,
            }
        }
        self.service.abandon_running();
        // Dropping the service closes the channels of deliveries and state: their tasks end when all is out.
        drop(self.service);
        self.broker.stop(topics).await;
        tracing::info!("stopped");
    }
}

/// The broker's side of the daemon: the client, the two tasks that publish, and what they report.
struct Broker {
    client: Option<Client>,
    events: mpsc::Receiver<MqttEvent>,
    deliveries: mpsc::Sender<deliver::Delivery>,
    delivered: mpsc::Receiver<JobStatus>,
    presence: Presence,
    tasks: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Starts the client and the publishing tasks; without `settings` (`url = "none"`) nothing is ever heard.
    fn start(
        settings: Option<ClientSettings>,
        topics: &Topics,
        info: &InfoReport,
        state: watch::Receiver<StateReport>,
    ) -> Self {
        let (deliveries, inbox) = mpsc::channel(DELIVERIES);
        let (delivered_sender, delivered) = mpsc::channel(DELIVERIES);
        let presence = Presence::default();
        let Some(settings) = settings else {
            let (_, events) = mpsc::channel(1);
            return Self { client: None, events, deliveries, delivered, presence, tasks: Vec::new() };
        };
        let (client, events) = Client::start(settings);
        let info = Bytes::from(serde_json::to_vec(info).expect("a report is plain data"));
        let announcing = presence.clone().announce(client.clone(), topics.clone(), info, state);
        let delivering = deliver::run(client.clone(), topics.clone(), inbox, delivered_sender);
        let tasks = vec![tokio::spawn(announcing), tokio::spawn(delivering)];
        Self { client: Some(client), events, deliveries, delivered, presence, tasks }
    }

    /// Lets last statuses out, says `offline` and disconnects.
    async fn stop(self, topics: &Topics) {
        let Self { client, mut events, deliveries, mut delivered, tasks, .. } = self;
        drop(deliveries);
        let flushed = async {
            // Keep both channels moving: a task that waits for their room would never end.
            let drain = async { while delivered.recv().await.is_some() {} };
            let listen = async { while events.recv().await.is_some() {} };
            let tasks = async {
                for task in tasks {
                    let _ = task.await;
                }
            };
            tokio::select! { () = tasks => {}, ((), ()) = async { tokio::join!(drain, listen) } => {} }
        };
        if timeout(DELIVERY_GRACE, flushed).await.is_err() {
            tracing::warn!("stopping without the broker having taken everything");
        }
        let Some(client) = client else { return };
        let farewell = client.stop(presence::availability(topics, "offline"));
        match timeout(2 * FAREWELL_GRACE, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "could not say offline; the last will does"),
            Err(_) => tracing::warn!("the broker did not answer the farewell"),
        }
    }
}

/// A JSON message.
fn json(topic: String, body: &impl serde::Serialize) -> Publication {
    Publication {
        topic,
        payload: serde_json::to_vec(body).expect("a report is plain data").into(),
        content_type: Some("application/json".to_owned()),
        ..Publication::default()
    }
}
