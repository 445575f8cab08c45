//! `tests/long crash`: kill -9 at random moments, with jobs flowing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::count;
use crate::mosquitto::Mosquitto;
use crate::observer::Observer;
use crate::random::Random;
use crate::results::Results;
use crate::scripted::ScriptedDaemon;

/// After the last kill, everything has to end.
const LAST_PATIENCE: Duration = Duration::from_secs(300);

#[test]
#[ignore = "long: tests/long crash"]
fn crash() {
    let rounds = count("EASELD_ROUNDS", 200);
    let seed = count("EASELD_SEED", 7) as u64;
    let mut random = Random(seed);
    let broker = Mosquitto::start();
    let mut observer = Observer::start(broker.port(), "observer", &["easel/#"]);
    let environment = [
        ("EASELD__JOBS__ATTEMPTS", "1000"),
        ("EASELD__LIMITS__REQUESTS_PER_MINUTE", "0"),
        ("EASELD__LIMITS__REQUESTS_PER_CLIENT", "0"),
    ];
    let mut daemon = ScriptedDaemon::start(&broker.url(), "desk", &environment);
    let (mut results, mut ids) = (Results::default(), BTreeSet::<String>::new());
    let mut accepted_unheard = 0;
    for round in 0..rounds {
        // Somebody who hears nothing asks again under the same id; whoever heard `queued` need not.
        let unheard: Vec<String> = ids.iter().filter(|id| results.is_unheard(id)).cloned().collect();
        accepted_unheard += unheard.len();
        let fresh = (0..1 + random.below(4)).map(|n| format!("r{round}-{n}"));
        for id in unheard.into_iter().chain(fresh) {
            let request =
                format!(r#"{{"id":"{id}","prompt":"a fox","seed":{},"steps":2}}"#, random.below(1000));
            observer.publish("easel/desk/generate", request);
            ids.insert(id);
        }
        listen(&mut observer, &mut results, &mut random);
        daemon.again(); // kills it first
        if round % 20 == 19 {
            eprintln!(
                "{} rounds, {} jobs, {} ended",
                round + 1,
                ids.len(),
                ids.len() - results.open(&ids).count()
            );
        }
    }
    let_all_end(&mut observer, &mut results, &ids);
    let told: usize = results.jobs.values().map(|outcome| outcome.told).sum();
    let lost: Vec<_> = results.open(&ids).collect();
    let failed = results
        .jobs
        .values()
        .filter(|outcome| outcome.ends.iter().any(|end| !end.contains("succeeded")))
        .count();
    eprintln!(
        "seed {seed}: {rounds} kills, {} jobs ({accepted_unheard} sent again), {} lost, {} with two outcomes, {} without their \
         picture, {failed} failed, {} terminal messages repeated",
        ids.len(),
        lost.len(),
        results.contradicted().len(),
        results.without_picture().len(),
        told - ids.len().min(told),
    );
    assert!(lost.is_empty(), "{lost:?}\n{}", daemon.log());
    assert_eq!(results.contradicted(), Vec::<&String>::new());
    assert_eq!(results.without_picture(), Vec::<&String>::new());
    daemon.terminate();
    assert_eq!(left_files(daemon.state()), ["jobs.redb", "log"], "files of nobody");
}

/// For a while that ends at a random moment: some daemons die while they start, most when they are at work.
fn listen(observer: &mut Observer, results: &mut Results, random: &mut Random) {
    let until = Instant::now() + Duration::from_millis(random.below(1500));
    let mut online = random.below(5) == 0;
    let give_up = Instant::now() + Duration::from_secs(60);
    while !(online && Instant::now() >= until) && Instant::now() < give_up {
        if let Some(message) = observer.next(Duration::from_millis(10)) {
            online |= message.topic == "easel/desk/status" && &message.payload[..] == b"online";
            results.hear(&message);
        }
    }
}

/// Until nothing is open, or patience is; whatever was never accepted is asked for again.
fn let_all_end(observer: &mut Observer, results: &mut Results, ids: &BTreeSet<String>) {
    let until = Instant::now() + LAST_PATIENCE;
    while Instant::now() < until && results.open(ids).count() > 0 {
        match observer.next(Duration::from_secs(2)) {
            Some(message) => results.hear(&message),
            None => {
                let lost: Vec<String> = results
                    .open(ids)
                    .filter(|id| results.jobs.get(*id).is_none_or(|outcome| !outcome.accepted))
                    .cloned()
                    .collect();
                for id in lost {
                    let request = format!(r#"{{"id":"{id}","prompt":"a fox","seed":1,"steps":2}}"#);
                    observer.publish("easel/desk/generate", request);
                }
            }
        }
    }
    while let Some(message) = observer.next(Duration::from_secs(2)) {
        results.hear(&message);
    }
}

fn left_files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut left: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    left
}
