//! Tests of `store`: what was committed is there, all of it or nothing, and damage anywhere is found.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::jobs::JobId;
use crate::jobs::status::{JobStatus, Phase};

fn id(text: &str) -> JobId {
    JobId::parse(text).expect("valid")
}

fn accepted(name: &str) -> Accepted {
    Accepted {
        id: id(name),
        request: format!("{{\"prompt\": \"a {name}\"}}"),
        random: vec![1, 2],
        accepted_ms: 5,
        deadline_s: Some(60.0),
        priority: -1,
        reply: Some(Reply { topic: "easel/reply/a".to_owned(), correlation_data: Some(vec![0, 255]) }),
        fingerprint: Some(Fingerprint { packet_id: 7, sha256: "ab".to_owned() }),
        fleet: false,
        attempts: 0,
    }
}

fn ended(name: &str) -> Ended {
    let status = JobStatus::new(&id(name), "desk", Phase::Succeeded);
    Ended::new(status)
}

fn end<'a>(job: u64, number: u64, ended: &'a Ended, pictures: &'a [Vec<u8>]) -> End<'a> {
    End { job, number, ended, pictures }
}

#[test]
fn a_job_goes_from_accepted_to_delivered_over_reopenings() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path()).unwrap();
    let (store, opened) = open();
    assert_eq!(opened, Opened::default());
    store.accept(1, &accepted("fox")).unwrap();
    store.accept(2, &accepted("cat")).unwrap();
    store.save_checkpoint(1, b"half").unwrap();
    store.save_checkpoint(99, b"of nobody").unwrap();
    drop(store);

    let store = open().0;
    let contents = store.load().unwrap();
    assert_eq!(contents.jobs, [(1, accepted("fox")), (2, accepted("cat"))]);
    assert_eq!(store.checkpoint(1).unwrap().as_deref(), Some(&b"half"[..]));
    assert_eq!(store.checkpoint(99).unwrap(), None, "the job has ended meanwhile");
    let (fox, pictures) = (ended("fox"), [vec![1; 100_000], vec![2; 10]]);
    store.end(&[end(1, 3, &fox, &pictures)], &[], true).unwrap();
    drop(store);

    let store = open().0;
    let contents = store.load().unwrap();
    assert_eq!((contents.jobs.len(), &contents.outbox[..]), (1, &[3][..]));
    assert_eq!(store.undelivered().unwrap(), Some((3, Stage::Pictures, fox.clone())));
    assert_eq!(store.picture(3, 1).unwrap().as_deref(), Some(&[2; 10][..]));
    assert_eq!(store.checkpoint(1).unwrap(), None);
    store.seal(3).unwrap();
    assert_eq!(store.undelivered().unwrap(), Some((3, Stage::Status, fox)));
    store.delivered(3).unwrap();
    assert_eq!(store.undelivered().unwrap(), None);
    store.flush().unwrap();
    drop(store);

    let store = open().0;
    assert!(store.load().unwrap().outbox.is_empty());
    store.end(&[], &[Evicted::Pictures(3)], true).unwrap();
    assert_eq!(store.picture(3, 0).unwrap(), None);
    assert_eq!(store.load().unwrap().history.len(), 1, "the answer stays");
    store.end(&[], &[Evicted::Whole(3)], true).unwrap();
    assert_eq!(store.load().unwrap().history.len(), 0);
}

#[test]
fn a_job_costs_three_fsyncs() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap().0;
    let (fox, picture) = (ended("fox"), [vec![7; 20_000]]);
    let run = |n: u64| {
        store.accept(2 * n, &accepted("fox")).unwrap();
        store.end(&[end(2 * n, 2 * n + 1, &fox, &picture)], &[], true).unwrap();
        store.seal(2 * n + 1).unwrap();
        store.delivered(2 * n + 1).unwrap();
    };
    (0..10).for_each(run); // the file has grown to its size
    let before = store.disk_use();
    (10..30).for_each(run);
    let after = store.disk_use();
    assert_eq!((after.syncs - before.syncs) / 20, 3, "{before:?} {after:?}");
    let kib = (after.bytes - before.bytes) / 20 / 1024;
    eprintln!("a job with a picture of 20 kB: {} writes, {kib} KiB", (after.writes - before.writes) / 20);
    assert!(kib < 200, "{kib} KiB a job");
}

#[test]
fn a_store_in_use_is_not_shared() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)) && error.to_string().contains("[state] dir"), "{error}");
    drop(first);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_store_that_is_no_directorys_says_why_each_time_and_opens_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("state");
    fs::write(&place, "a file in the way").unwrap();
    let (store, opened) = Store::open(&place).unwrap();
    assert!(opened.trouble.unwrap().contains("jobs cannot be stored"));
    assert!(store.accept(1, &accepted("fox")).is_err());
    fs::remove_file(&place).unwrap();
    store.accept(1, &accepted("fox")).unwrap();
    assert_eq!(store.load().unwrap().jobs.len(), 1);
}

/// A store with something in every table, as bytes.
fn sample() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap().0;
    for n in 0..20 {
        store.accept(n, &accepted(&format!("job-{n}"))).unwrap();
    }
    let (fox, pictures) = (ended("fox"), [vec![0xA5; 30_000]]);
    store.end(&[end(0, 100, &fox, &pictures)], &[], true).unwrap();
    store.save_checkpoint(1, &[3; 9000]).unwrap();
    store.set("defaults", &"a value", false).unwrap();
    drop(store);
    fs::read(dir.path().join("jobs.redb")).unwrap()
}

/// Opens a store of these bytes. It comes up whatever they are; what it then holds is the sample, or it says what was
/// damaged and holds nothing.
fn open_damaged(bytes: &[u8], what: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("jobs.redb"), bytes).unwrap();
    let (store, opened) = Store::open(dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(opened.trouble, None, "{what}");
    let contents = store.load().unwrap_or_else(|error| panic!("{what}: {error}"));
    match opened.damaged {
        Some((why, aside)) => {
            assert!(contents.jobs.is_empty() && !why.is_empty(), "{what}");
            assert_eq!(fs::read(aside).unwrap().len(), bytes.len(), "{what}: it is kept as it was");
            store.accept(1, &accepted("fox")).unwrap();
            true
        }
        None => {
            assert_eq!(contents.jobs.len(), 19, "{what}");
            for (number, job) in &contents.jobs {
                assert_eq!(*job, accepted(&format!("job-{number}")), "{what}");
            }
            assert_eq!(store.picture(100, 0).unwrap().as_deref(), Some(&[0xA5; 30_000][..]), "{what}");
            assert_eq!(store.checkpoint(1).unwrap().as_deref(), Some(&[3; 9000][..]), "{what}");
            false
        }
    }
}

#[test]
fn a_file_flipped_at_any_byte_is_read_right_or_moved_aside() {
    let bytes = sample();
    // EASELD_LONG: every byte, an hour of it; otherwise the header whole and a sample of the rest.
    let step = if std::env::var_os("EASELD_LONG").is_some() { 1 } else { bytes.len() / 150 };
    let places = (0..512).step_by(if step == 1 { 1 } else { 3 }).chain((512..bytes.len()).step_by(step));
    let mut found = 0;
    for place in places {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 8);
        found += usize::from(open_damaged(&flipped, &format!("byte {place} of {} flipped", bytes.len())));
    }
    assert!(found > 5, "only {found} flips were noticed");
    assert!(!open_damaged(&bytes, "whole"));
}

#[test]
fn a_file_cut_anywhere_is_moved_aside() {
    let bytes = sample();
    let step = bytes.len() / 60;
    for length in (1..10).chain((10..bytes.len()).step_by(step)) {
        assert!(
            open_damaged(&bytes[..length], &format!("cut to {length} bytes")),
            "cut to {length} unnoticed"
        );
    }
    for junk in [&b"SQLite format 3\0"[..], &[0; 5000], &[0xff; 100_000]] {
        assert!(open_damaged(junk, "not a store"));
    }
}

#[test]
fn damaged_files_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        fs::write(dir.path().join("jobs.redb"), [round; 1000]).unwrap();
        assert!(Store::open(dir.path()).unwrap().1.damaged.is_some());
        fs::remove_file(dir.path().join("jobs.redb")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    let left: Vec<PathBuf> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
