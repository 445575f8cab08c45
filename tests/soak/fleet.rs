//! `tests/long fleet`: three nodes share 200 jobs, and are killed, restarted and paused at random; the sender sends again by id.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use easeld::mqtt::Incoming;

use crate::count;
use crate::mosquitto::Mosquitto;
use crate::observer::{Observer, json};
use crate::random::Random;
use crate::results::Results;
use crate::scripted::ScriptedDaemon;

const NODES: [&str; 3] = ["one", "two", "three"];
/// Jobs that the sender has open at a time.
const OPEN: usize = 6;
/// After so long without an end the sender asks again.
const AGAIN: Duration = Duration::from_secs(15);
/// The whole run.
const PATIENCE: Duration = Duration::from_secs(1800);

fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

/// Who asks, and what it has heard.
#[derive(Default)]
struct Sender {
    results: Results,
    /// By id: who began it.
    begun: BTreeMap<String, BTreeSet<String>>,
    /// By id: whose picture counts.
    claims: BTreeMap<String, String>,
    open: BTreeMap<String, Instant>,
    done: BTreeSet<String>,
    sent: usize,
    repeated: usize,
}

impl Sender {
    fn ask(&mut self, observer: &Observer, id: String) {
        let seed = &id[1..];
        let request = format!(r#"{{"id":"{id}","prompt":"a fox","seed":{seed},"steps":8}}"#);
        observer.publish("easel/fleet/generate", request);
        self.open.insert(id, Instant::now());
    }

    /// Keeps some jobs open, and asks again for those that have been for long.
    fn ask_on(&mut self, observer: &Observer, total: usize) {
        while self.open.len() < OPEN && self.sent < total {
            self.ask(observer, format!("f{}", self.sent));
            self.sent += 1;
        }
        let late = self.open.iter().filter(|(_, at)| at.elapsed() > AGAIN).map(|(id, _)| id.clone());
        for id in late.collect::<Vec<_>>() {
            self.ask(observer, id);
            self.repeated += 1;
        }
    }

    fn hear(&mut self, message: &Incoming) {
        self.results.hear(message);
        let (status, levels) = (json(message), message.topic.split('/').collect::<Vec<_>>());
        match levels[..] {
            [_, "fleet", "claim", id] => {
                if let Some(node) = status["node"].as_str() {
                    self.claims.insert(id.to_owned(), node.to_owned());
                }
            }
            [_, node, "job", id] if status["status"] == "running" => {
                self.begun.entry(id.to_owned()).or_default().insert(node.to_owned());
            }
            [_, _, "job", id] if status["status"] == "succeeded" => {
                self.open.remove(id);
                self.done.insert(id.to_owned());
            }
            _ => {}
        }
    }
}

/// What goes wrong with members, and when.
struct Troubles {
    random: Random,
    next: Instant,
    paused: Option<(usize, Instant)>,
    /// Kills, restarts, pauses.
    counts: [usize; 3],
}

impl Troubles {
    fn go_on(&mut self, members: &mut [ScriptedDaemon]) {
        if let Some((member, _)) = self.paused.take_if(|(_, until)| Instant::now() >= *until) {
            signal("CONT", members[member].pid());
        }
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + Duration::from_millis(3000 + self.random.below(6000));
        let (member, kind) = (self.random.below(3) as usize, self.random.below(3) as usize);
        match kind {
            // A stopped process does not end in an orderly way.
            1 if self.paused.is_none_or(|(stopped, _)| stopped != member) => {
                members[member].terminate();
                members[member].again();
            }
            2 if self.paused.is_none() => {
                signal("STOP", members[member].pid());
                self.paused =
                    Some((member, Instant::now() + Duration::from_millis(1000 + self.random.below(12_000))));
            }
            _ => {
                members[member].again();
                self.counts[0] += 1;
                return;
            }
        }
        self.counts[kind] += 1;
    }
}

#[test]
#[ignore = "long: tests/long fleet"]
fn fleet() {
    let total = count("EASELD_JOBS", 200);
    let broker = Mosquitto::start();
    let mut observer = Observer::start(broker.port(), "sender", &["easel/#"]);
    let environment = [
        ("EASELD__FLEET__GROUP", "pictures"),
        ("EASELD__JOBS__ATTEMPTS", "1000"),
        ("EASELD__MQTT__KEEP_ALIVE_S", "5"),
        ("EASELD__LIMITS__REQUESTS_PER_MINUTE", "0"),
        ("EASELD__LIMITS__REQUESTS_PER_CLIENT", "0"),
    ];
    let mut members = NODES.map(|node| ScriptedDaemon::start(&broker.url(), node, &environment));
    let mut sender = Sender::default();
    let random = Random(count("EASELD_SEED", 11) as u64);
    let next = Instant::now() + Duration::from_secs(5);
    let mut troubles = Troubles { random, next, paused: None, counts: [0; 3] };
    let started = Instant::now();
    while sender.done.len() < total {
        assert!(
            started.elapsed() < PATIENCE,
            "{} of {total} done, open: {:?}",
            sender.done.len(),
            sender.open
        );
        sender.ask_on(&observer, total);
        if let Some(message) = observer.next(Duration::from_millis(50)) {
            sender.hear(&message);
        }
        troubles.go_on(&mut members);
    }
    while let Some(message) = observer.next(Duration::from_secs(3)) {
        sender.hear(&message);
    }
    let twice: Vec<_> = sender.begun.iter().filter(|(_, nodes)| nodes.len() > 1).collect();
    let share = 100.0 * twice.len() as f64 / total as f64;
    let [kills, restarts, pauses] = troubles.counts;
    eprintln!(
        "{total} jobs in {:.0} s: all succeeded; {kills} kills, {restarts} restarts, {pauses} pauses; {} sent again; {} begun by \
         two nodes ({share:.1} %): {twice:?}; {} claims",
        started.elapsed().as_secs_f64(),
        sender.repeated,
        twice.len(),
        sender.claims.len(),
    );
    assert_eq!(sender.results.without_picture(), Vec::<&String>::new());
    assert!(sender.claims.len() >= total, "every job has a node whose picture counts");
    assert!(share <= 2.0, "{share} % twice");
}
