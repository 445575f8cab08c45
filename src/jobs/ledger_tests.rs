//! Tests of `ledger`: order, bounds and answers, over the end of one process and the beginning of the next.

use super::*;
use crate::jobs::status::Phase;

const BOUNDS: Bounds =
    Bounds { queue_capacity: 2, outbox_bytes: 100, history: HistoryBounds { count: 3, bytes: 1000 } };

fn id(text: &str) -> JobId {
    JobId::parse(text).expect("valid")
}

fn accepted(name: &str) -> Accepted {
    Accepted {
        id: id(name),
        request: "{}".to_owned(),
        random: Vec::new(),
        accepted_ms: now_ms(),
        deadline_s: None,
        priority: 0,
        reply: None,
        fingerprint: Some(Fingerprint { packet_id: 1, sha256: name.to_owned() }),
        fleet: false,
        attempts: 0,
    }
}

fn ended(name: &str, phase: Phase) -> Ended {
    Ended::new(JobStatus::new(&id(name), "n", phase))
}

fn ledger(store: &Arc<Store>) -> Ledger {
    let mut ledger = Ledger::new(store.clone(), BOUNDS, true);
    for (number, job) in ledger.load().expect("memory") {
        ledger.enqueue(number, &job, Cost::default());
    }
    ledger
}

fn accept(ledger: &mut Ledger, name: &str) -> Result<usize, Refusal> {
    ledger.accept(&accepted(name), Cost::default())
}

#[test]
fn a_job_is_known_wherever_it_is_and_by_the_next_process_too() {
    let store = Arc::new(Store::in_memory());
    let mut books = ledger(&store);
    assert_eq!(accept(&mut books, "a").expect("room"), 1);
    assert_eq!(books.find(&id("a")), Some(Known::Waiting { position: 1 }));
    assert_eq!(ledger(&store).find(&id("a")), Some(Known::Waiting { position: 1 }));
    assert_eq!(books.start(0).map(|job| job.id.clone()), Some(id("a")));
    assert_eq!(books.find(&id("a")), Some(Known::Underway));
    books.end_running(&ended("a", Phase::Succeeded), &[]).expect("memory");
    let (number, stage, _) = store.undelivered().expect("memory").expect("one waits");
    assert_eq!(stage, Stage::Status, "it has no picture");
    assert!(matches!(books.find(&id("a")), Some(Known::Ended(_))), "its status may be out already");
    store.delivered(number).expect("memory");
    books.delivered(number, &ended("a", Phase::Succeeded).status, 0);
    let Some(Known::Ended(status)) = books.find(&id("a")) else { panic!("it has ended") };
    assert_eq!(status.status, Phase::Succeeded);
    assert_eq!(ledger(&store).find(&id("a")), Some(Known::Ended(status)));
}

#[test]
fn the_queue_is_full_at_its_capacity_and_not_before() {
    let mut books = ledger(&Arc::new(Store::in_memory()));
    accept(&mut books, "running").expect("room");
    books.start(0).expect("it waits");
    accept(&mut books, "a").expect("room");
    accept(&mut books, "b").expect("room");
    assert!(matches!(accept(&mut books, "c"), Err(Refusal::Full { capacity: 2 })));
    assert!(books.start(0).is_none(), "the worker is busy");
    books.withdraw(&id("a")).expect("it waits");
    assert_eq!(accept(&mut books, "c").expect("room"), 2);
}

#[test]
fn a_delivery_that_comes_again_is_told_from_a_request_that_does() {
    let store = Arc::new(Store::in_memory());
    let mut books = ledger(&store);
    accept(&mut books, "a").expect("room");
    let same = Fingerprint { packet_id: 1, sha256: "a".to_owned() };
    let other = Fingerprint { packet_id: 2, sha256: "a".to_owned() };
    for books in [&books, &ledger(&store)] {
        assert_eq!(books.redelivered(&same), Some(&id("a")));
        assert_eq!(books.redelivered(&other), None);
    }
}

#[test]
fn no_job_starts_while_the_outbox_is_full() {
    let store = Arc::new(Store::in_memory());
    let mut books = ledger(&store);
    accept(&mut books, "a").expect("room");
    accept(&mut books, "b").expect("room");
    books.start(0).expect("room");
    let mut big = ended("a", Phase::Succeeded);
    big.pictures =
        serde_json::from_value(serde_json::json!([{"api": 1, "id": "a", "bytes": 100, "sha256": "",
        "width": 1, "height": 1, "content_type": "image/png", "index": 0, "count": 1, "seed": 0, "steps": 1,
        "model": "m", "created": ""}]))
        .expect("a picture");
    books.end_running(&big, &[vec![0; 100]]).expect("memory");
    assert!(books.outbox_is_full() && books.start(0).is_none());
    let (number, ..) = store.undelivered().expect("memory").expect("one waits");
    books.delivered(number, &big.status, 100);
    assert_eq!(books.start(0).map(|job| job.id.clone()), Some(id("b")));
}

#[test]
fn the_wait_is_the_sum_of_what_is_ahead() {
    let mut books = ledger(&Arc::new(Store::in_memory()));
    accept(&mut books, "a").expect("room");
    accept(&mut books, "b").expect("room");
    let ten = |_: &Cost| Some(Duration::from_secs(10));
    let running = Duration::from_secs(3);
    assert_eq!(books.wait_before(0, running, ten), Some(Duration::from_secs(23)));
    assert_eq!(books.wait_before(1, running, ten), Some(running), "before both");
    assert_eq!(books.wait_before(0, running, |_| None), None);
}
