//! What happens, told to all listeners at once: one piece of text for everybody, and one for what happens at about the same time.
//!
//! Server-sent events (WHATWG HTML, section 9.2). What a listener must not miss (how jobs begin and end, pictures that go) is kept for
//! those that come back with `Last-Event-ID`; states and previews are only worth something when they are new, and of several that
//! wait the newest goes out alone.
//!
//! Nearly all that an event costs is a write to each listener's socket. So what is told rests after each batch, the longer the more
//! listen: all of them together take the same small share of one core, however many they are and however much happens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Notify, broadcast};
use tokio::time::sleep;

use super::view::JobView;
use crate::jobs::JobId;
use crate::jobs::status::Phase;

/// Events that a slow listener may be behind; with more it is told to look anew.
const BEHIND: usize = 64;
/// What happens within this time goes out together,
const TOGETHER: Duration = Duration::from_millis(50);
/// and after each batch nothing does for so long for each listener: a write to one takes some 15 microseconds of a core, so that
/// telling them all takes at most about a 70th of one.
const REST_EACH: Duration = Duration::from_millis(1);
/// Events kept for listeners that come back.
const KEPT: usize = 256;

/// One event.
#[derive(Debug)]
pub(super) struct Frame {
    number: u64,
    /// As it goes out.
    pub(super) text: Bytes,
    /// The job that has ended with it.
    ended: Option<JobId>,
    /// Its kind, if a newer one of the same kind takes its place.
    passing: Option<&'static str>,
}

/// Events that go out together.
#[derive(Debug)]
pub(super) struct Batch {
    /// All of them.
    pub(super) text: Bytes,
    /// Jobs that have ended with them.
    pub(super) ended: Vec<JobId>,
}

/// What is sent to a listener at first.
#[derive(Debug)]
pub(super) struct Subscription {
    /// What it has missed, in order.
    pub(super) missed: Vec<Arc<Frame>>,
    /// It has missed nothing else.
    pub(super) complete: bool,
    /// What comes.
    pub(super) receiver: broadcast::Receiver<Arc<Batch>>,
}

/// See the module.
#[derive(Debug)]
pub struct News {
    /// Tells this process from earlier ones in event ids.
    start: String,
    inner: Mutex<Inner>,
    /// Rung when something waits to be told.
    bell: Notify,
}

#[derive(Debug)]
struct Inner {
    /// `None` once the daemon stops.
    sender: Option<broadcast::Sender<Arc<Batch>>>,
    /// What has happened since the last batch.
    pending: Vec<Arc<Frame>>,
    next: u64,
    kept: VecDeque<Arc<Frame>>,
    preview: Option<(JobId, Bytes)>,
    ends: Ends,
}

/// How many jobs ended how, for `/metrics`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) pictures: u64,
    pub(super) picture_bytes: u64,
}

impl Default for News {
    fn default() -> Self {
        Self::new()
    }
}

impl News {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        let (sender, _) = broadcast::channel(BEHIND);
        let inner = Inner {
            sender: Some(sender),
            pending: Vec::new(),
            next: 1,
            kept: VecDeque::new(),
            preview: None,
            ends: Ends::default(),
        };
        Self {
            start: JobId::generate().as_str()[..13].to_owned(),
            inner: Mutex::new(inner),
            bell: Notify::new(),
        }
    }

    /// Whether anybody listens: previews are drawn only then.
    pub fn has_listeners(&self) -> bool {
        self.lock().sender.as_ref().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// How many listen.
    pub(super) fn listeners(&self) -> u32 {
        let count = self.lock().sender.as_ref().map_or(0, broadcast::Sender::receiver_count);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How a job stands. Rejected requests are told to those alone who made them.
    pub fn job(&self, view: &JobView) {
        if view.status == Phase::Rejected {
            return;
        }
        let ended = view.status.is_terminal().then(|| view.id.clone());
        if ended.is_some() {
            self.count(view);
        }
        self.say("job", view, true, ended);
        for picture in &view.images {
            self.say("image", picture, true, None);
        }
    }

    fn count(&self, view: &JobView) {
        let mut inner = self.lock();
        if inner.preview.as_ref().is_some_and(|(id, _)| *id == view.id) {
            inner.preview = None;
        }
        let ends = &mut inner.ends;
        match view.status {
            Phase::Succeeded => ends.succeeded += 1,
            Phase::Cancelled => ends.cancelled += 1,
            _ => ends.failed += 1,
        }
        ends.pictures += view.images.len() as u64;
        ends.picture_bytes += view.images.iter().map(|picture| picture.meta.bytes as u64).sum::<u64>();
    }

    /// What the picture of a running job looks like now.
    pub fn preview(&self, id: &JobId, jpeg: Bytes) {
        let url = {
            let mut inner = self.lock();
            inner.preview = Some((id.clone(), jpeg));
            format!("/api/jobs/{id}/preview?n={}", inner.next)
        };
        self.say("preview", &json!({"id": id, "url": url}), false, None);
    }

    /// The pictures of a job are gone.
    pub fn deleted(&self, id: &JobId) {
        self.say("deleted", &json!({ "id": id }), true, None);
    }

    /// Ends all listeners.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.tell();
        inner.sender = None;
        self.bell.notify_one();
    }

    /// The newest preview of the job, if it is that one which runs.
    pub(super) fn newest_preview(&self, id: &JobId) -> Option<Bytes> {
        self.lock().preview.as_ref().filter(|(of, _)| of == id).map(|(_, jpeg)| jpeg.clone())
    }

    /// See [`Ends`].
    pub(super) fn ends(&self) -> Ends {
        self.lock().ends
    }

    /// An event that is only worth something while it is new.
    pub(super) fn passing(&self, kind: &'static str, body: &impl Serialize) {
        self.say(kind, body, false, None);
    }

    fn say(&self, kind: &'static str, body: &impl Serialize, keep: bool, ended: Option<JobId>) {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        let text = event(kind, Some(&format!("{}-{number}", self.start)), body);
        let passing = (!keep).then_some(kind);
        let frame = Arc::new(Frame { number, text, ended, passing });
        if keep {
            if inner.kept.len() == KEPT {
                inner.kept.pop_front();
            }
            inner.kept.push_back(frame.clone());
        }
        let heard = inner.sender.as_ref().is_some_and(|sender| sender.receiver_count() > 0);
        if heard {
            inner.pending.retain(|waiting| waiting.passing.is_none() || waiting.passing != passing);
            inner.pending.push(frame);
            self.bell.notify_one();
        }
    }

    /// Tells what happens, batch by batch, until the daemon stops.
    pub(super) async fn tell(self: Arc<Self>) {
        loop {
            self.bell.notified().await;
            sleep(TOGETHER).await;
            {
                let mut inner = self.lock();
                if inner.sender.is_none() {
                    return;
                }
                inner.tell();
            }
            sleep(REST_EACH * self.listeners()).await;
        }
    }

    /// From the next batch on, and from `last` on as far as that is kept; `None` once the daemon stops.
    pub(super) fn subscribe(&self, last: Option<&str>) -> Option<Subscription> {
        let inner = self.lock();
        let receiver = inner.sender.as_ref()?.subscribe();
        let last =
            last.and_then(|last| last.strip_prefix(&self.start)?.strip_prefix('-')?.parse::<u64>().ok());
        let Some(last) = last.filter(|last| *last < inner.next) else {
            return Some(Subscription { missed: Vec::new(), complete: false, receiver });
        };
        let forgotten =
            inner.kept.len() == KEPT && inner.kept.front().is_some_and(|first| first.number > last + 1);
        // What waits is in the next batch.
        let told = inner.pending.first().map_or(inner.next, |frame| frame.number);
        let missed = inner.kept.iter().filter(|frame| frame.number > last && frame.number < told).cloned();
        let missed = if forgotten { Vec::new() } else { missed.collect() };
        Some(Subscription { missed, complete: !forgotten, receiver })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in between leaves it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Sends what waits.
    fn tell(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let frames = std::mem::take(&mut self.pending);
        let text = match &frames[..] {
            [one] => one.text.clone(),
            several => several.iter().flat_map(|frame| frame.text.iter().copied()).collect(),
        };
        let ended = frames.iter().filter_map(|frame| frame.ended.clone()).collect();
        if let Some(sender) = &self.sender {
            // Nobody may listen any more.
            let _ = sender.send(Arc::new(Batch { text, ended }));
        }
    }
}

/// An event as it goes out. JSON has no line breaks of its own, so one `data` line is enough.
pub(super) fn event(kind: &str, id: Option<&str>, body: &impl Serialize) -> Bytes {
    let body = serde_json::to_string(body).expect("an event is plain data");
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    format!("{id}event: {kind}\ndata: {body}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::parse(text).expect("valid")
    }

    fn first_id(batch: &Batch) -> String {
        let text = String::from_utf8(batch.text.to_vec()).expect("text");
        text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned()
    }

    #[tokio::test]
    async fn who_comes_back_hears_what_it_missed_and_no_more() {
        let news = News::new();
        let mut first = news.subscribe(None).expect("open");
        assert!(!first.complete && news.has_listeners());
        news.deleted(&id("a"));
        news.passing("state", &json!({}));
        news.lock().tell();
        let heard = first.receiver.recv().await.expect("a batch");
        assert_eq!(
            String::from_utf8_lossy(&heard.text).matches("event: ").count(),
            2,
            "they go out together"
        );
        assert!(first.receiver.is_empty());
        drop(first);
        assert!(!news.has_listeners());
        news.passing("state", &json!({}));
        news.deleted(&id("b"));
        let back = news.subscribe(Some(&first_id(&heard))).expect("open");
        assert!(back.complete);
        let missed: Vec<_> =
            back.missed.iter().map(|frame| String::from_utf8_lossy(&frame.text).into_owned()).collect();
        assert!(
            missed.len() == 1 && missed[0].contains("event: deleted\ndata: {\"id\":\"b\"}\n\n"),
            "{missed:?}"
        );
        for _ in 0..=KEPT {
            news.deleted(&id("c"));
        }
        let late = news.subscribe(Some(&first_id(&heard))).expect("open");
        assert!(!late.complete && late.missed.is_empty());
        for strange in ["", "x", "9-9", &format!("{}-99999", news.start), &format!("{}-x", news.start)] {
            assert!(!news.subscribe(Some(strange)).expect("open").complete, "{strange}");
        }
        news.close();
        assert!(news.subscribe(None).is_none());
    }

    #[tokio::test]
    async fn of_what_passes_the_newest_goes_out_and_who_comes_meanwhile_hears_it_once() {
        let news = News::new();
        let mut first = news.subscribe(None).expect("open");
        news.passing("state", &json!({"step": 1}));
        news.deleted(&id("a"));
        news.preview(&id("j"), Bytes::new());
        news.passing("state", &json!({"step": 2}));
        let mut second = news.subscribe(Some(&format!("{}-1", news.start))).expect("open");
        assert!(second.missed.is_empty() && second.complete, "it comes with the batch");
        news.lock().tell();
        for listener in [&mut first, &mut second] {
            let heard = listener.receiver.recv().await.expect("a batch");
            let text = String::from_utf8_lossy(&heard.text).into_owned();
            let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
            assert_eq!(kinds, ["deleted", "preview", "state"]);
            assert!(text.contains("\"step\":2") && listener.receiver.is_empty());
        }
    }

    #[tokio::test]
    async fn the_more_listen_the_more_rarely_they_are_told() {
        let news = Arc::new(News::new());
        let mut crowd: Vec<_> = (0..300).map(|_| news.subscribe(None).expect("open").receiver).collect();
        let telling = tokio::spawn(news.clone().tell());
        let began = tokio::time::Instant::now();
        for _ in 0..3 {
            news.passing("state", &json!({}));
            crowd[0].recv().await.expect("a batch");
        }
        let took = began.elapsed();
        assert!(took >= 3 * TOGETHER + 2 * 300 * REST_EACH, "{took:?}");
        telling.abort();
    }

    #[test]
    fn only_the_newest_preview_of_the_running_job_is_kept() {
        let news = News::new();
        news.preview(&id("a"), Bytes::from_static(b"1"));
        news.preview(&id("a"), Bytes::from_static(b"2"));
        assert_eq!(news.newest_preview(&id("a")), Some(Bytes::from_static(b"2")));
        assert_eq!(news.newest_preview(&id("b")), None);
        let status = crate::jobs::status::JobStatus::new(&id("a"), "desk", Phase::Cancelled);
        news.job(&JobView::new(status, None));
        assert_eq!(news.newest_preview(&id("a")), None);
        assert_eq!(news.ends().cancelled, 1);
    }
}
