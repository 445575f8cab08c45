//! The composition root: builds everything, owns the one select loop, ends in an orderly way.
//!
//! `service` decides what a message, a question over HTTP or a worker's event means; `outlets` tells both doors what happens; `deliver` and `outbox` carry results to the broker in order;
//! `presence` keeps the retained `status`, `info`, `state` and `config` fresh; `home_assistant` describes the node to Home
//! Assistant, `fleet` joins and leaves the share of a fleet's work, `schedule` paints without being asked. The loop itself never waits for inference or
//! for the broker.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::config::{ConfigError, JobStore, Problem, Settings};
use crate::device::messages;
use crate::device::notify::Notifier;
use crate::http::{Ask, Door, News, Server};
use crate::jobs::GeneratePictures;
use crate::jobs::ledger::Ledger;
use crate::jobs::rate::{RateLimit, Rates};
use crate::jobs::report::{ConfigReport, NodeState, StateReport};
use crate::jobs::store::Store;
use crate::jobs::throttle::Throttle;
use crate::jobs::worker::{Worker, WorkerEvent, WorkerGone};
use crate::mqtt::{Client, ClientSettings, MqttEvent, Publication, Topics};

mod activity;
mod claims;
mod connect;
mod deliver;
mod fleet;
mod heat;
pub mod home_assistant;
mod offer;
mod outbox;
mod outlets;
mod panel;
mod presence;
mod reload;
mod renditions;
mod schedule;
mod screen;
mod service;
mod setup;
mod troubles;
mod web;

use fleet::Share;
use heat::Heat;
use home_assistant::Discovery;
use offer::Offering;
pub use offer::{Look, Packs};
use presence::Presence;
use reload::Reload;
use renditions::Renditions;
use schedule::Schedule;
use service::{Service, durably};

/// How often what is due by the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
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
/// started, the running one stops between steps and goes on at the next start, as do those that wait or still come (with `[state]
/// jobs = "memory"` all are cancelled, and what comes is rejected), `offline` is published; all within 10 seconds.
///
/// # Errors
/// [`DaemonError`]. A broker that is absent or refuses us is none: the client keeps trying.
pub async fn run(
    settings: Settings,
    generator: Box<dyn GeneratePictures>,
    packs: impl Into<Packs>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    run_reloadable(settings, generator, packs, shutdown, mpsc::channel(1).1).await
}

/// As [`run`]; what comes over `reloads` takes the place of the settings as far as it can while the daemon runs (`reload`).
///
/// # Errors
/// As [`run`]. Settings that cannot be used change nothing.
pub async fn run_reloadable(
    settings: Settings,
    generator: Box<dyn GeneratePictures>,
    packs: impl Into<Packs>,
    shutdown: impl Future<Output = ()>,
    reloads: mpsc::Receiver<Result<Settings, ConfigError>>,
) -> Result<(), DaemonError> {
    let notifier = Notifier::from_env();
    let topics = Topics::new(&settings.mqtt.prefix, &settings.node.name)
        .map_err(|error| connect::config_error("mqtt.prefix", &settings.mqtt.prefix, error))?;
    let schedule = Schedule::new(settings.schedule.clone());
    let mut subscriptions = topics.subscriptions();
    subscriptions.extend(schedule.subscriptions().cloned());
    subscriptions.extend(settings.power.panel.topic.clone());
    let in_fleet = !settings.fleet.group.is_empty();
    let mut retained = Vec::new();
    if in_fleet {
        subscriptions.push(topics.fleet_cancel());
        retained = vec![topics.fleet_claim("+"), topics.every_status()];
    }
    if settings.home_assistant.discovery {
        subscriptions.push(home_assistant::birth_topic(&settings.home_assistant.prefix));
    }
    // The broker inside the process, if there is one, lives until the farewell is out: it is dropped last.
    let connect::Connection { client, embedded: _embedded } =
        connect::prepare(&settings, &topics, subscriptions, retained)?;

    let (store, damage) = open_store(&settings)?;
    let (worker_sender, worker_events) = mpsc::channel(WORKER_EVENTS);
    let throttle = Throttle::default();
    let idle = Some(Duration::from_secs(settings.models.idle_s)).filter(|idle| !idle.is_zero());
    let heat = Heat::new(&settings.power, settings.inference.thread_count(), throttle.clone());
    let worker = Worker::spawn(generator, worker_sender, throttle, idle).map_err(DaemonError::Thread)?;
    let (state, state_changes) = watch::channel(StateReport::new(NodeState::Starting, 0));
    let (config, config_changes) = watch::channel(ConfigReport::default());
    let limits = settings.limits.for_requests();
    let offering = Offering::new(packs.into(), &settings, &limits);
    let (offer, node) = (offering.subscribe(), settings.node.name.clone());
    let model = offer.borrow().packs.first().map(|pack| pack.name.clone());
    let ledger = Ledger::new(store.clone(), setup::bounds(&settings), client.is_some());
    let discovery = presence::discovery(&settings, &topics, &limits);
    let says =
        presence::Says { offer: offer.clone(), state: state_changes, config: config_changes, discovery };
    let Door { asks, news, drawings, server } =
        web::open(&settings, offer, state.subscribe(), store.clone())?;
    let ended = Arc::new(Notify::new());
    let panels = (Renditions::new(&settings, drawings), web::pictures_url(&settings));
    let broker = Broker::start(client, &topics, says, store, panels, (ended.clone(), heat.gate()));
    let setup = setup::setup(&settings, topics.clone(), limits, offering)?;
    let outlets = outlets::Outlets {
        deliveries: broker.deliveries.clone(),
        ended,
        news: news.clone(),
        state,
        config,
        notifier: notifier.clone(),
    };
    let rates =
        Rates { all: settings.limits.requests_per_minute, client: settings.limits.requests_per_client };
    let mut service = Service::new(setup, ledger, worker, outlets, RateLimit::new(rates), schedule, heat);
    if let Some(damage) = damage {
        service.tell_damage(damage);
    }
    tracing::info!(message_id = messages::READY, node, model, "ready for prompts");
    notifier.ready("idle");
    let share = Share::new(broker.client.clone(), &topics, &settings.fleet.group);
    let web = Web { asks, news, server };
    let reload = Reload { reloads, settings };
    let mut daemon = Daemon { service, broker, web, worker_events, notifier, share, reload };
    let outcome = daemon.serve(shutdown).await;
    daemon.stop(&topics).await;
    outcome
}

/// The store of this node, and what there is to say about the one that was there.
fn open_store(settings: &Settings) -> Result<(Arc<Store>, Option<String>), DaemonError> {
    if settings.state.jobs == JobStore::Memory {
        return Ok((Arc::new(Store::in_memory()), None));
    }
    let (store, opened) = Store::open(&settings.state.dir).map_err(|error| {
        connect::config_error("state.dir", &settings.state.dir.display().to_string(), error)
    })?;
    let damage = opened.damaged.map(|(why, aside)| {
        format!("the jobs of an earlier process are lost: {why}; the file is kept as {}", aside.display())
    });
    Ok((Arc::new(store), damage))
}

/// Everything the loop listens to and ends.
struct Daemon {
    service: Service,
    broker: Broker,
    web: Web,
    worker_events: mpsc::Receiver<WorkerEvent>,
    notifier: Notifier,
    share: Share,
    reload: Reload,
}

impl Daemon {
    /// The loop: every reason to wake up is an arm.
    async fn serve(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let watchdog_every = self.notifier.watchdog_interval();
        let mut watchdog = interval(watchdog_every.unwrap_or(Duration::from_secs(3600)));
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = std::pin::pin!(shutdown);
        self.service.tick()?;
        loop {
            self.share.follow(self.service.has_room());
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                Some(event) = self.broker.events.recv() => self.on_mqtt(event)?,
                event = self.worker_events.recv() => {
                    self.service.on_worker(event.ok_or(WorkerGone)?)?;
                }
                Some(end) = self.broker.delivered.recv() => {
                    self.service.on_delivered(end.number, &end.status, end.bytes)?;
                }
                Some(ask) = self.web.asks.recv() => self.service.on_ask(ask)?,
                Some(read) = self.reload.reloads.recv() => self.reload.act(read, &mut self.service, &self.notifier),
                _ = tick.tick() => self.service.tick()?,
                _ = watchdog.tick() => {
                    if !self.service.hangs() {
                        self.notifier.watchdog();
                    }
                }
            }
        }
    }

    fn on_mqtt(&mut self, event: MqttEvent) -> Result<(), WorkerGone> {
        match &event {
            MqttEvent::Connected { .. } => self.broker.presence.connected(),
            MqttEvent::Message(message) if self.broker.presence.is_birth(message) => {
                self.broker.presence.connected();
                return Ok(());
            }
            _ => {}
        }
        self.service.on_mqtt(event)
    }

    /// The way down. Every wait is bounded.
    async fn stop(mut self, topics: &Topics) {
        self.notifier.stopping("stopping");
        tracing::info!("stopping");
        self.web.deaf();
        self.share.follow(false);
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
                Some(end) = self.broker.delivered.recv() => {
                    let _ = self.service.on_delivered(end.number, &end.status, end.bytes);
                }
                () = sleep_until(deadline) => break,
            }
        }
        self.service.abandon_running();
        // Dropping the service closes the channels of deliveries and state: their tasks end when all is out.
        drop(self.service);
        tokio::join!(self.broker.stop(topics), self.web.stop());
        tracing::info!("stopped");
    }
}

/// HTTP's side of the daemon.
struct Web {
    asks: mpsc::Receiver<Ask>,
    news: Arc<News>,
    server: Option<Server>,
}

impl Web {
    /// No further question is answered: handlers say that the node stops.
    fn deaf(&mut self) {
        self.asks.close();
        while self.asks.try_recv().is_ok() {}
    }

    async fn stop(self) {
        self.news.close();
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// The broker's side of the daemon: the client, the two tasks that publish, and what they report.
struct Broker {
    client: Option<Client>,
    events: mpsc::Receiver<MqttEvent>,
    deliveries: mpsc::Sender<deliver::Delivery>,
    delivered: mpsc::Receiver<deliver::Delivered>,
    store: Arc<Store>,
    presence: Presence,
    tasks: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Starts the client and the publishing tasks; without `settings` (`url = "none"`) nothing is ever heard.
    fn start(
        settings: Option<ClientSettings>,
        topics: &Topics,
        says: presence::Says,
        store: Arc<Store>,
        (renditions, url): (Renditions, Option<String>),
        (ended, gate): (Arc<Notify>, panel::Gate),
    ) -> Self {
        let (deliveries, inbox) = mpsc::channel(DELIVERIES);
        let (delivered_sender, delivered) = mpsc::channel(DELIVERIES);
        let presence = Presence::new(says.discovery().as_ref().map(Discovery::birth_topic));
        let Some(settings) = settings else {
            let (_, events) = mpsc::channel(1);
            return Self { client: None, events, deliveries, delivered, store, presence, tasks: Vec::new() };
        };
        let (client, events) = Client::start(settings);
        let announcing = presence.clone().announce(client.clone(), topics.clone(), says);
        let channels = deliver::Channels { inbox, ended, delivered: delivered_sender, gate };
        let delivering =
            deliver::run(client.clone(), topics.clone(), store.clone(), renditions, url, channels);
        let tasks = vec![tokio::spawn(announcing), tokio::spawn(delivering)];
        Self { client: Some(client), events, deliveries, delivered, store, presence, tasks }
    }

    /// Lets last statuses out, says `offline` and disconnects.
    async fn stop(self, topics: &Topics) {
        // Messages that nobody took up stay in `_events` until the client is gone: dropped now, they would be acknowledged. So
        // the broker keeps them for the session's next connection.
        let Self { client, events: _events, deliveries, mut delivered, store, tasks, .. } = self;
        drop(deliveries);
        let flushed = async {
            // Keep the channel moving: a task that waits for its room would never end.
            let drain = async { while delivered.recv().await.is_some() {} };
            let tasks = async {
                for task in tasks {
                    let _ = task.await;
                }
            };
            tokio::join!(tasks, drain);
        };
        if timeout(DELIVERY_GRACE, flushed).await.is_err() {
            tracing::warn!("stopping without the broker having taken everything");
        }
        if let Err(error) = durably(|| store.flush()) {
            tracing::warn!(%error, "what was delivered last may be delivered once more");
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

fn json_bytes(body: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(body).expect("a report is plain data").into()
}

/// A JSON message.
fn json(topic: String, body: &impl serde::Serialize) -> Publication {
    Publication {
        topic,
        payload: json_bytes(body),
        content_type: Some("application/json".to_owned()),
        ..Publication::default()
    }
}
