//! `tests/long fleet`: three nodes share 200 jobs, and are killed, restarted and paused at random; the sender sends again by id.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

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

fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

#[test]
#[ignore = "long: tests/long fleet"]
fn fleet() {
    let total = count("EASELD_JOBS", 200);
    let mut random = Random(count("EASELD_SEED", 11) as u64);
    let broker = Mosquitto::start();
    let mut observer = Observer::start(broker.port(), "sender", &["easel/#"]);
    let mut members: Vec<ScriptedDaemon> = NODES
        .iter()
        .map(|node| {
            let environment = [
                ("EASELD__FLEET__GROUP", "pictures"),
                ("EASELD__JOBS__ATTEMPTS", "1000"),
                ("EASELD__MQTT__KEEP_ALIVE_S", "5"),
                ("EASELD__LIMITS__REQUESTS_PER_MINUTE", "0"),
                ("EASELD__LIMITS__REQUESTS_PER_CLIENT", "0"),
            ];
            ScriptedDaemon::start(&broker.url(), node, &environment)
        })
        .collect();
    let mut results = Results::default();
    // By id: who began it, in the broker's order.
    let mut begun: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut claims: BTreeMap<String, String> = BTreeMap::new();
    let (mut open, mut done) = (BTreeMap::<String, Instant>::new(), BTreeSet::new());
    let (mut sent, mut repeated, mut troubles) = (0, 0, [0; 3]);
    let mut next_trouble = Instant::now() + Duration::from_secs(5);
    let mut paused: Option<(usize, Instant)> = None;
    let started = Instant::now();
    while done.len() < total {
        assert!(
            started.elapsed() < Duration::from_secs(1800),
            "{} of {total} done, open: {open:?}",
            done.len()
        );
        while open.len() < OPEN && sent < total {
            let id = format!("f{sent}");
            observer.publish(
                "easel/fleet/generate",
                format!(r#"{{"id":"{id}","prompt":"a fox","seed":{sent},"steps":8}}"#),
            );
            open.insert(id, Instant::now());
            sent += 1;
        }
        let late: Vec<String> =
            open.iter().filter(|(_, at)| at.elapsed() > AGAIN).map(|(id, _)| id.clone()).collect();
        for id in late {
            let seed = &id[1..];
            observer.publish(
                "easel/fleet/generate",
                format!(r#"{{"id":"{id}","prompt":"a fox","seed":{seed},"steps":8}}"#),
            );
            open.insert(id, Instant::now());
            repeated += 1;
        }
        if let Some(message) = observer.next(Duration::from_millis(50)) {
            results.hear(&message);
            let (status, levels) = (json(&message), message.topic.split('/').collect::<Vec<_>>());
            match levels[..] {
                [_, "fleet", "claim", id] if status["node"].is_string() => {
                    claims.insert(id.to_owned(), status["node"].as_str().unwrap().to_owned());
                }
                [_, node, "job", id] if status["status"] == "running" => {
                    begun.entry(id.to_owned()).or_default().insert(node.to_owned());
                }
                [_, _, "job", id] if status["status"] == "succeeded" => {
                    open.remove(id);
                    done.insert(id.to_owned());
                }
                _ => {}
            }
        }
        if let Some((member, until)) = paused
            && Instant::now() >= until
        {
            signal("CONT", members[member].pid());
            paused = None;
        }
        if Instant::now() >= next_trouble {
            next_trouble = Instant::now() + Duration::from_millis(3000 + random.below(6000));
            let member = random.below(3) as usize;
            let kind = random.below(3) as usize;
            // A stopped process does not end in an orderly way.
            let kind =
                if kind == 1 && paused.is_some_and(|(stopped, _)| stopped == member) { 0 } else { kind };
            troubles[kind] += 1;
            match kind {
                0 => members[member].again(),
                1 => {
                    members[member].terminate();
                    members[member].again();
                }
                _ if paused.is_none() => {
                    signal("STOP", members[member].pid());
                    paused =
                        Some((member, Instant::now() + Duration::from_millis(1000 + random.below(12_000))));
                }
                _ => {}
            }
        }
    }
    if let Some((member, _)) = paused {
        signal("CONT", members[member].pid());
    }
    while let Some(message) = observer.next(Duration::from_secs(3)) {
        results.hear(&message);
    }
    let twice: Vec<_> =
        begun.iter().filter(|(_, nodes)| nodes.len() > 1).map(|(id, nodes)| (id, nodes)).collect();
    let share = 100.0 * twice.len() as f64 / total as f64;
    eprintln!(
        "{total} jobs in {:.0} s: all succeeded; {} kills, {} restarts, {} pauses; {repeated} sent again; {} begun by two nodes \
         ({share:.1} %): {twice:?}; {} claims",
        started.elapsed().as_secs_f64(),
        troubles[0],
        troubles[1],
        troubles[2],
        twice.len(),
        claims.len(),
    );
    assert_eq!(results.without_picture(), Vec::<&String>::new());
    assert!(claims.len() >= total, "every job has a node whose picture counts");
    assert!(share <= 2.0, "{share} % twice");
}
