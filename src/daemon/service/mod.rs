//! What each event means: requests are admitted, cancelled, started; results become deliveries and states.
//!
//! Nothing in here waits for the broker or for inference: what goes out is handed to channels. Writing to the store does take as
//! long as the disk does, on purpose: no further message is taken up before the last one is safe.

mod admission;
mod asking;
mod cancelling;
mod defaults;
mod sharing;
mod work;

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use self::work::Unwritten;
use super::activity::{self, Running, status_line};
use super::claims::Claims;
use super::deliver::Delivery;
use super::heat::Heat;
use super::offer::Offering;
use super::outlets::Outlets;
use super::schedule::Schedule;
use super::screen::Screen;
use super::troubles::{self, Troubles};
use crate::config::Settings;
use crate::device::messages;
use crate::diffusion::request::Limits;
use crate::jobs::JobId;
use crate::jobs::ledger::Ledger;
use crate::jobs::pace::Pace;
use crate::jobs::rate::{RateLimit, Rates};
use crate::jobs::status::JobStatus;
use crate::jobs::store::Reply;
use crate::jobs::worker::{Worker, WorkerGone};
use crate::mqtt::{Command, Incoming, MqttEvent, Topics};

/// The name in the store under which the pace is kept.
const PACE: &str = "pace";

/// What stays the same while the daemon runs.
pub(super) struct Setup {
    /// `[node] name`.
    pub(super) node: String,
    /// This machine's own, where it shows pictures.
    pub(super) screens: Vec<Screen>,
    /// Where messages go.
    pub(super) topics: Topics,
    /// Bounds on requests.
    pub(super) limits: Limits,
    /// What makes the pictures, the default one first.
    pub(super) offering: Offering,
    /// Names of renditions that a request may want.
    pub(super) renditions: Vec<String>,
    /// `[mqtt] reply_prefixes`.
    pub(super) reply_prefixes: Vec<String>,
    /// `[jobs] attempts`.
    pub(super) attempts: u32,
    /// `[jobs] checkpoint_s`.
    pub(super) checkpoint_every: Option<Duration>,
    /// Jobs outlive the process.
    pub(super) durable: bool,
    /// It takes part in a fleet.
    pub(super) in_fleet: bool,
    /// Prompts may be published with their pictures.
    pub(super) embed_parameters: bool,
}

/// See the module.
pub(super) struct Service {
    setup: Setup,
    ledger: Ledger,
    worker: Worker,
    running: Option<Running>,
    unwritten: Option<Unwritten>,
    outlets: Outlets,
    pace: Pace,
    rate: RateLimit,
    schedule: Schedule,
    /// While there is no broker, progress is not worth keeping.
    connected: bool,
    stopping: bool,
    troubles: Troubles,
    last_duration: Option<Duration>,
    heat: Heat,
    claims: Claims,
    /// When we claimed which of the fleet's jobs.
    claimed: HashMap<JobId, Instant>,
    /// From when on the claims that the broker has kept are known.
    settled_at: Option<Instant>,
}

impl Service {
    /// A service over `ledger`, whose jobs of earlier processes go on.
    pub(super) fn new(
        setup: Setup,
        ledger: Ledger,
        worker: Worker,
        outlets: Outlets,
        rate: RateLimit,
        schedule: Schedule,
        heat: Heat,
    ) -> Self {
        let mut service = Self {
            claims: Claims::new(&setup.node),
            claimed: HashMap::new(),
            settled_at: None,
            setup,
            ledger,
            worker,
            running: None,
            unwritten: None,
            outlets,
            pace: Pace::default(),
            rate,
            schedule,
            connected: false,
            stopping: false,
            troubles: Troubles::default(),
            last_duration: None,
            heat,
        };
        service.show_config(None);
        service.load();
        service.show_state();
        service
    }

    /// The jobs of the file that was there are lost.
    pub(super) fn tell_damage(&mut self, message: String) {
        self.troubles.set(troubles::STORE_DAMAGED, message);
        self.show_state();
    }

    /// Opens the books, now or when the disk lets us.
    fn load(&mut self) {
        let jobs = match durably(|| self.ledger.load()) {
            Ok(jobs) => jobs,
            Err(error) => return self.troubles.set(troubles::STORAGE, error.to_string()),
        };
        self.troubles.clear(troubles::STORAGE);
        let store = self.ledger.store().clone();
        self.pace = store.setting(PACE).ok().flatten().unwrap_or_default();
        self.load_defaults();
        if !jobs.is_empty() {
            tracing::info!(jobs = jobs.len(), "jobs of an earlier process go on");
        }
        for (number, accepted) in jobs {
            let cost = self.cost_of(&accepted);
            self.ledger.enqueue(number, &accepted, cost);
        }
        self.outlets.ended.notify_one();
    }

    /// Whether a job is on the worker.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the fleet may send requests: there is room, and nothing is wrong.
    pub(super) fn has_room(&self) -> bool {
        let idle_soon = self.waiting_for_us() == 0;
        let willing = !self.is_paused() && self.heat.may_start();
        idle_soon && !self.stopping && willing && !self.troubles.block() && self.ledger.is_loaded()
    }

    /// Whether the worker has been at work without a word for longer than it can take.
    pub(super) fn hangs(&self) -> bool {
        self.running.as_ref().is_some_and(Running::hangs)
    }

    /// Goes by other settings from now on, as far as that is possible while it runs.
    pub(super) fn reload(&mut self, settings: &Settings) {
        self.heat.reload(&settings.power, settings.inference.thread_count());
        self.setup.attempts = settings.jobs.attempts;
        self.setup.limits.blocked_words.clone_from(&settings.limits.blocked_words);
        self.rate = RateLimit::new(Rates {
            all: settings.limits.requests_per_minute,
            client: settings.limits.requests_per_client,
        });
    }

    /// Acts on what the MQTT client tells.
    pub(super) fn on_mqtt(&mut self, event: MqttEvent) -> Result<(), WorkerGone> {
        match event {
            // The client logs both.
            MqttEvent::Connected { .. } => {
                self.connected = true;
                self.fleet_connected();
            }
            MqttEvent::Disconnected { .. } => {
                self.connected = false;
                // The next connection is told anew what it may not hear.
                self.troubles.clear(troubles::REFUSED);
            }
            MqttEvent::SubscriptionRefused { filter, reason } => {
                let message = format!("the broker refuses the subscription to {filter}: {reason}");
                self.troubles.set(troubles::REFUSED, message);
            }
            MqttEvent::Message(message) => self.on_message(&message),
        }
        self.show_state();
        self.start_next()
    }

    /// The message is acknowledged to the broker when the caller drops it.
    fn on_message(&mut self, message: &Incoming) {
        let panel = self.heat.hear(&message.topic, &message.payload);
        if self.schedule.hear(&message.topic, &message.payload) || panel || self.hear_fleet(message) {
            return;
        }
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
            Command::Generate => self.on_generate(message, false),
            Command::FleetGenerate => self.on_generate(message, true),
            Command::Cancel => self.on_cancel(&message.payload),
            Command::FleetCancel => self.on_fleet_cancel(&message.payload),
            Command::Delete => self.on_delete(&message.payload),
            Command::Again => self.on_again(&message.payload),
            Command::Set { key } => self.on_set(&key, &message.payload),
        }
    }

    /// Once a second: what is due by the clock.
    pub(super) fn tick(&mut self) -> Result<(), WorkerGone> {
        self.heat.tick();
        if self.setup.offering.follow() {
            self.show_config(None);
        }
        if !self.ledger.is_loaded() {
            self.load();
        }
        self.write_again();
        self.try_the_disk();
        self.end_overdue();
        self.end_made_elsewhere();
        self.paint_what_is_due();
        self.show_state();
        self.start_next()
    }

    /// A disk that was full or read-only may be fine again without anybody asking for pictures.
    fn try_the_disk(&mut self) {
        let lasts =
            self.troubles.has(troubles::STORAGE) && self.ledger.is_loaded() && self.unwritten.is_none();
        if lasts && durably(|| self.ledger.store().flush()).is_ok() {
            self.troubles.clear(troubles::STORAGE);
        }
    }

    fn tell(&self, status: JobStatus, reply: Option<&Reply>) {
        let prompt = self.outlets.news.has_listeners().then(|| self.prompt_of(&status.id)).flatten();
        self.outlets.tell(status, reply, prompt);
    }

    fn hand_over(&self, delivery: Delivery) {
        self.outlets.hand_over(delivery);
    }

    /// An ended job as the broker heard of it in full.
    pub(super) fn on_delivered(
        &mut self,
        number: u64,
        status: &JobStatus,
        bytes: u64,
    ) -> Result<(), WorkerGone> {
        let message_id = messages::JOB_DONE;
        tracing::info!(message_id, job_id = %status.id, status = ?status.status, "job done");
        self.ledger.delivered(number, status, bytes);
        self.fleet_ended(status);
        self.start_next()
    }

    fn show_state(&self) {
        let waiting = self.ledger.waiting().len();
        let trouble = self.troubles.first();
        let mut report = activity::report(self.running.as_ref(), waiting, self.stopping, trouble);
        report.paused = self.is_paused();
        report.last_duration_s = self.last_duration.map(|time| (time.as_secs_f64() * 10.0).round() / 10.0);
        report.temp_c = self.heat.celsius();
        report.throttle = self.heat.report();
        if report.paused && self.running.is_none() && trouble.is_none() && !self.stopping {
            report.state = crate::jobs::report::NodeState::Paused;
        }
        self.outlets.notifier.status(&status_line(&report));
        self.outlets.state.send_if_modified(|state| {
            let changed = !state.is_like(&report);
            if changed {
                *state = report;
            }
            changed
        });
    }

    /// The hash of the pack `name`; nothing where there is none.
    fn pack_hash(&self, name: &str) -> String {
        let offer = self.setup.offering.now();
        offer.packs.iter().find(|pack| pack.name == name).map_or(String::new(), |pack| pack.pack_hash.clone())
    }

    /// Looks whether a pack that a request names has come since.
    fn find_out(&mut self, model: Option<&str>) {
        let offering = &mut self.setup.offering;
        if model.is_some_and(|model| !offering.has(model)) && durably(|| offering.look()) {
            self.show_config(None);
        }
    }
}

/// Runs what waits for the disk, with the runtime's other tasks moved out of the way.
pub(super) fn durably<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Text of a command; what is not UTF-8 is no id and no value.
fn text(payload: &[u8]) -> &str {
    std::str::from_utf8(payload).unwrap_or("?").trim()
}

fn id_of(payload: &[u8]) -> Option<JobId> {
    JobId::parse(text(payload))
}
