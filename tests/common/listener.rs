//! A `mosquitto_sub` that hands every message over as it comes: what a display or a script sees.

#![allow(dead_code)] // each test file uses a part

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::mosquitto::{PATIENCE, client};

/// One message as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    /// Where.
    pub(crate) topic: String,
    /// Whether the broker had kept it.
    pub(crate) retained: bool,
    /// What.
    pub(crate) payload: Vec<u8>,
}

impl Message {
    /// The payload as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{}: {error}: {:?}", self.topic, self.text()))
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// Everything on a topic filter, from the moment [`Listener::start`] returns.
#[derive(Debug)]
pub(crate) struct Listener {
    child: Child,
    messages: Receiver<Message>,
}

impl Listener {
    /// Subscribes to `filter` at the broker on `port`, with `more` options (`["-u", "name"]`).
    pub(crate) fn start(port: u16, filter: &str, more: &[&str]) -> Listener {
        // A probe of our own tells when the subscription stands: mosquitto_sub does not say so.
        let probe = format!("probe/{}/{:?}", std::process::id(), std::thread::current().id());
        let mut command = client("mosquitto_sub", port);
        command.args(["-q", "1", "-t", filter, "-t", &probe, "-F", "%r %t %x"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("mosquitto_sub starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(parse(&line)).is_err() {
                    return;
                }
            }
        });
        // Built before anything can fail: a mosquitto_sub left behind would hold the test's output open.
        let listener = Listener { child, messages };
        let until = Instant::now() + PATIENCE;
        // What comes before the probe (retained messages, and live ones between them) is put back.
        let (sender, replayed) = channel();
        loop {
            assert!(Instant::now() < until, "mosquitto_sub does not hear its probe");
            publish(port, &probe, b"probe", more);
            match listener.messages.recv_timeout(Duration::from_millis(200)) {
                Ok(message) if message.topic == probe => break,
                Ok(message) => sender.send(message).expect("the receiver is here"),
                Err(_) => {}
            }
        }
        listener.prepend(replayed, sender)
    }

    /// A listener that yields what `replayed` holds before what is still to come.
    fn prepend(mut self, replayed: Receiver<Message>, sender: std::sync::mpsc::Sender<Message>) -> Listener {
        let live = std::mem::replace(&mut self.messages, replayed);
        std::thread::spawn(move || {
            for message in live {
                if !message.topic.starts_with("probe/") && sender.send(message).is_err() {
                    return;
                }
            }
        });
        self
    }

    /// The next message that `wanted` takes; others before it are dropped. Panics when none comes.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) if wanted(&message) => return message,
                Ok(message) => seen.push(format!("{} {:.120}", message.topic, message.text())),
                Err(RecvTimeoutError::Timeout) => panic!("no {what}; came:\n{}", seen.join("\n")),
                Err(RecvTimeoutError::Disconnected) => panic!("mosquitto_sub ended before {what}"),
            }
        }
    }

    /// The next message on `topic`.
    pub(crate) fn on(&self, topic: &str) -> Message {
        self.wait(topic, |message| message.topic == topic)
    }

    /// The next message on `topic` whose field `status` or `state` is `word`.
    pub(crate) fn word(&self, topic: &str, word: &str) -> Value {
        let says = |message: &Message| {
            let json = message.json();
            json["status"] == word || json["state"] == word
        };
        self.wait(&format!("{topic} {word}"), |m| m.topic == topic && says(m)).json()
    }

    /// Waits until the node is idle. A listener of its own hears what the broker keeps: with another the word may have
    /// come, and been passed over, while a job's was waited for.
    pub(crate) fn idle(port: u16) {
        Listener::start(port, "easel/desk/state", &[]).word("easel/desk/state", "idle");
    }

    /// Everything that comes within `time`.
    pub(crate) fn during(&self, time: Duration) -> Vec<Message> {
        let until = Instant::now() + time;
        let mut seen = Vec::new();
        while let Ok(message) = self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
            seen.push(message);
        }
        seen
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `mosquitto_pub` at QoS 1.
pub(crate) fn publish(port: u16, topic: &str, payload: &[u8], more: &[&str]) {
    use std::io::Write;
    let mut command: Command = client("mosquitto_pub", port);
    // mosquitto_pub refuses an empty standard input.
    let source = if payload.is_empty() { "-n" } else { "-s" };
    command.args(["-q", "1", "-t", topic, source]).args(more);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("mosquitto_pub starts");
    child.stdin.take().expect("a pipe").write_all(payload).expect("mosquitto_pub reads");
    assert!(child.wait().expect("mosquitto_pub ends").success(), "mosquitto_pub failed on {topic}");
}

/// A line of the format `%r %t %x`.
fn parse(line: &str) -> Message {
    let mut parts = line.splitn(3, ' ');
    let mut next = || parts.next().unwrap_or_default();
    let (retained, topic, hex) = (next() == "1", next().to_owned(), next());
    let payload = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect();
    Message { topic, retained, payload }
}
