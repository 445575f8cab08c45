//! The task behind [`Client`](super::Client): connects, serves the connection until it breaks, rests,
//! connects again.
//!
//! It never awaits anything but its one select, so publications, acknowledgements and a stop are
//! taken up while the library is connecting or writing. The library's `poll` is never dropped halfway
//! unless the connection is given up with it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, SubAck};
use rumqttc::v5::{ConnectionError, Event, EventLoop};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::backlog::Backlog;
use super::client::{Outcome, Request};
use super::link::Link;
use super::outbox::Outbox;
use super::reasons::{self, Loss, LossKind};
use super::receipt::{Receipt, Returned};
use super::{ClientSettings, MqttEvent, PublishError};

/// This many connections closed without a word, each within this time, look like two clients that
/// throw each other out.
const MANY_HANG_UPS: u32 = 3;
const SHORT_LIFE: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    settings: ClientSettings,
    requests: mpsc::UnboundedReceiver<Request>,
    events: mpsc::Sender<MqttEvent>,
    outbox: Outbox,
    backlog: Backlog,
    farewell: Option<Farewell>,
    /// Attempts that failed or broke early, in a row.
    failures: u32,
    /// Connections in a row that the broker closed soon and without a word.
    hang_ups: u32,
    /// The reason last told, so that each is told once.
    told: Option<String>,
    /// Counts connections, so that no message of an earlier one is acknowledged on a later one.
    number: u64,
    /// Messages that were dealt with.
    returned: mpsc::UnboundedReceiver<Returned>,
    /// Goes into receipts.
    give_back: mpsc::UnboundedSender<Returned>,
    /// Filters asked for whose answer has not come, a list for each packet.
    asked: VecDeque<Vec<String>>,
}

/// A stop under way.
#[derive(Debug)]
struct Farewell {
    deadline: Instant,
    /// How the last publication fared.
    last: oneshot::Receiver<Outcome>,
    done: oneshot::Sender<Outcome>,
}

/// Why a connection is over.
#[derive(Debug)]
enum End {
    Lost(Loss),
    Stopped,
}

impl From<Loss> for End {
    fn from(loss: Loss) -> End {
        End::Lost(loss)
    }
}

impl Connection {
    pub(super) fn new(
        settings: ClientSettings,
        requests: mpsc::UnboundedReceiver<Request>,
        events: mpsc::Sender<MqttEvent>,
    ) -> Connection {
        // At most the receive maximum lies in it.
        let (give_back, returned) = mpsc::unbounded_channel();
        Connection {
            settings,
            requests,
            events,
            outbox: Outbox::default(),
            backlog: Backlog::default(),
            farewell: None,
            failures: 0,
            hang_ups: 0,
            told: None,
            number: 0,
            returned,
            give_back,
            asked: VecDeque::new(),
        }
    }

    /// Runs until the client stops or every handle is gone.
    pub(super) async fn run(mut self) {
        loop {
            let (mut link, mut eventloop) = Link::open(&self.settings);
            self.number += 1;
            self.asked.clear();
            let End::Lost(loss) = self.serve(&mut link, &mut eventloop).await else {
                break;
            };
            drop(eventloop); // closes the socket before the rest
            let delay = self.lost(&link, loss);
            if self.farewell.is_some() || self.rest(delay).await.is_break() {
                break;
            }
        }
        self.outbox.stop();
        if let Some(mut farewell) = self.farewell {
            let _ = farewell.done.send(farewell.last.try_recv().unwrap_or(Err(PublishError::Stopped)));
        }
    }

    /// One connection, from the first packet to the last.
    async fn serve(&mut self, link: &mut Link, eventloop: &mut EventLoop) -> End {
        loop {
            let event = match self.poll(link, eventloop).await {
                Ok(event) => event,
                Err(end) => return end,
            };
            if let Err(end) = self.handle(event, link, eventloop) {
                return end;
            }
            link.send(&mut self.outbox);
            if self.farewell.is_some() && self.outbox.is_empty() && link.is_online() {
                link.close();
            }
        }
    }

    /// The library's next event. Meanwhile takes requests and hands out events.
    async fn poll(&mut self, link: &mut Link, eventloop: &mut EventLoop) -> Result<Event, End> {
        let polled = Instant::now();
        let events = self.events.clone();
        let poll = eventloop.poll();
        tokio::pin!(poll);
        loop {
            let mut deadline = link.deadline(polled, self.outbox.bytes_in_flight());
            if let Some(farewell) = &self.farewell {
                deadline = deadline.min(farewell.deadline);
            }
            tokio::select! {
                event = &mut poll => return event.map_err(|error| self.broke(link, &error)),
                () = sleep_until(deadline) => {
                    // A farewell that takes too long ends; a connection that is stuck is lost.
                    let stopping = self.farewell.is_some();
                    return Err(if stopping { End::Stopped } else { Loss::of(link.overdue()).into() });
                }
                request = self.requests.recv() => {
                    self.accept(request, Some(link))?;
                    link.send(&mut self.outbox);
                }
                Some((number, packet_id)) = self.returned.recv() => {
                    if number == self.number {
                        link.acknowledge(packet_id);
                    }
                }
                permit = events.reserve(), if !self.backlog.is_empty() => {
                    let Some((mut event, packet_id)) = self.backlog.pop() else { continue };
                    if let (MqttEvent::Message(message), Some(packet_id)) = (&mut event, packet_id) {
                        message.receipt = Receipt::new(self.number, packet_id, self.give_back.clone());
                    }
                    // Nobody listens: the event goes nowhere, which acknowledges it, and the broker is not kept waiting.
                    if let Ok(permit) = permit {
                        permit.send(event);
                    }
                }
            }
        }
    }

    /// What an error of the library ends. After our DISCONNECT the broker closes: no loss.
    fn broke(&self, link: &Link, error: &ConnectionError) -> End {
        if link.is_closing() {
            return End::Stopped;
        }
        reasons::loss(error, &self.settings, link.is_connecting()).into()
    }

    /// Takes up what a handle asks.
    fn accept(&mut self, request: Option<Request>, link: Option<&Link>) -> Result<(), End> {
        let open = link.filter(|link| !link.is_connecting() && !link.is_closing());
        let online = link.filter(|link| link.is_online());
        match request {
            None => return Err(End::Stopped), // every handle is gone
            Some(Request::Publish { done, .. } | Request::Stop { done, .. }) if self.farewell.is_some() => {
                let _ = done.send(Err(PublishError::Stopped));
            }
            Some(Request::Publish { publication, done }) => self.outbox.push(publication, done),
            Some(Request::Subscribe { filter }) => {
                if !self.settings.subscriptions.contains(&filter) {
                    self.settings.subscriptions.push(filter.clone());
                    if let Some(link) = open {
                        link.subscribe(&filter);
                        self.asked.push_back(vec![filter]);
                    }
                }
            }
            Some(Request::Unsubscribe { filter }) => {
                self.settings.subscriptions.retain(|known| *known != filter);
                // Asked for even when it stands in the broker's session only.
                if let Some(link) = open {
                    link.unsubscribe(&filter);
                }
            }
            Some(Request::Stop { last, done }) => {
                let (last_done, last_outcome) = oneshot::channel();
                self.outbox.push_last(last, last_done);
                let deadline = Instant::now() + self.settings.stop_limit;
                self.farewell = Some(Farewell { deadline, last: last_outcome, done });
                if online.is_none() {
                    return Err(End::Stopped);
                }
            }
        }
        Ok(())
    }

    /// What an event of the library means to us.
    fn handle(&mut self, event: Event, link: &mut Link, eventloop: &mut EventLoop) -> Result<(), End> {
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => {
                tracing::debug!(
                    session_present = connack.session_present,
                    "the broker accepted the connection"
                );
                link.connected(&connack, &self.settings, eventloop).map_err(Loss::of)?;
                let ClientSettings { subscriptions, retained_subscriptions, .. } = &self.settings;
                self.asked.push_back([&subscriptions[..], retained_subscriptions].concat());
                self.backlog.connection_up(connack.session_present);
                if link.is_online() {
                    self.online(link);
                }
            }
            Event::Incoming(Packet::SubAck(suback)) => {
                self.report_refused_subscriptions(&suback);
                if link.subscribed() {
                    self.online(link);
                }
            }
            Event::Incoming(Packet::Publish(publish)) => self.backlog.push_message(publish),
            Event::Incoming(Packet::PubAck(puback)) => self.acknowledged(&puback),
            Event::Outgoing(Outgoing::Publish(packet_id)) => self.outbox.written(packet_id),
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
        Ok(())
    }

    fn online(&mut self, link: &Link) {
        tracing::info!(
            broker = self.settings.address(),
            client_id = self.settings.client_id,
            max_packet_size = link.max_packet_size,
            "connected to the broker"
        );
        self.told = None;
        self.backlog.push_event(MqttEvent::Connected { max_packet_size: link.max_packet_size });
    }

    fn report_refused_subscriptions(&mut self, suback: &SubAck) {
        let asked = self.asked.pop_front().unwrap_or_default();
        for (filter, code) in asked.iter().zip(&suback.return_codes) {
            if let Some(reason) = reasons::refused_subscription(*code) {
                tracing::error!(filter, reason, "the broker refused a subscription");
                let filter = filter.clone();
                self.backlog.push_event(MqttEvent::SubscriptionRefused { filter, reason: reason.to_owned() });
            }
        }
    }

    fn acknowledged(&mut self, puback: &PubAck) {
        let outcome = match reasons::refused_publication(puback) {
            None => Ok(()),
            Some(reason) => Err(PublishError::Refused { reason }),
        };
        if !self.outbox.acknowledged(puback.pkid, outcome) {
            tracing::warn!(packet_id = puback.pkid, "the broker acknowledged what is not on its way");
        }
    }

    /// Takes note of a loss and says how long to rest.
    fn lost(&mut self, link: &Link, loss: Loss) -> Duration {
        let Loss { mut reason, kind } = loss;
        if kind == LossKind::CalledTooLarge {
            self.outbox.refuse_if_alone("packet too large (0x95)");
        }
        self.outbox.connection_lost();
        let online_for = link.online_for();
        if online_for >= self.settings.backoff.stable_after {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let hung_up = kind == LossKind::HungUp && link.is_online() && online_for < SHORT_LIFE;
        self.hang_ups = if hung_up { self.hang_ups + 1 } else { 0 };
        let mut delay = self.settings.backoff.delay(self.failures);
        let shared_id = kind == LossKind::TakenOver || self.hang_ups >= MANY_HANG_UPS;
        if shared_id {
            reason = reasons::shared_client_id(&self.settings);
            delay = delay.max(self.settings.backoff.taken_over);
        }
        self.tell(reason, delay, shared_id);
        delay
    }

    /// Logs a loss and hands it to the daemon, unless it is the one told last.
    fn tell(&mut self, reason: String, delay: Duration, serious: bool) {
        let broker = self.settings.address();
        let wait = format!("{:.1} s", delay.as_secs_f64());
        if self.told.as_ref() == Some(&reason) {
            tracing::debug!(broker, reason, wait, "still no connection to the broker");
            return;
        }
        if serious {
            tracing::error!(broker, reason, wait, "thrown out by the broker");
        } else {
            tracing::warn!(broker, reason, wait, "no connection to the broker");
        }
        self.backlog.connection_lost(MqttEvent::Disconnected { reason: reason.clone(), wait: delay });
        self.told = Some(reason);
    }

    /// Waits between two attempts; requests and events go on.
    async fn rest(&mut self, delay: Duration) -> ControlFlow<()> {
        let until = Instant::now() + delay;
        let events = self.events.clone();
        loop {
            tokio::select! {
                () = sleep_until(until) => return ControlFlow::Continue(()),
                request = self.requests.recv() => {
                    if self.accept(request, None).is_err() {
                        return ControlFlow::Break(());
                    }
                }
                // Dealt with after its connection was lost: the broker sends it again.
                Some(_) = self.returned.recv() => {}
                permit = events.reserve(), if !self.backlog.is_empty() => {
                    if let (Some((event, _)), Ok(permit)) = (self.backlog.pop(), permit) {
                        permit.send(event);
                    }
                }
            }
        }
    }
}
