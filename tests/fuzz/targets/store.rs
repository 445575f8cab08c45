//! The store of jobs, cut, flipped and overwritten: opened with what is left, or moved aside with an empty one in its place.
//! What it then gives is used as the daemon uses it.
//!
//! The input is a list of changes to a store with jobs in all their states: a kind, a place, a byte (6 bytes each).

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use easeld::jobs::JobId;
use easeld::jobs::store::{Accepted, Store};
use libfuzzer_sys::fuzz_target;

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = place();
    let (store, _) = Store::open(&directory).expect("an empty directory");
    for number in 0..40 {
        store.accept(number, &job(number)).expect("a sound store");
    }
    store.save_checkpoint(3, &[7; 5000]).expect("a sound store");
    store.drop_jobs(&[1, 2]).expect("a sound store");
    store.set("defaults", &"a fox", false).expect("a sound store");
    drop(store);
    fs::read(directory.join("jobs.redb")).expect("the store's file")
});

static PLACE: LazyLock<PathBuf> = LazyLock::new(place);

fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).expect("a temporary directory").keep()
}

fn job(number: u64) -> Accepted {
    let text = format!(r#"{{"id": "job-{number}", "request": "{{\"prompt\": \"a fox {number}\"}}", "accepted_ms": {number}}}"#);
    serde_json::from_str(&text).expect("an accepted job")
}

fn changed(changes: &[u8]) -> Vec<u8> {
    let mut file = SOUND.clone();
    for change in changes.chunks_exact(6) {
        let at = u32::from_le_bytes([change[1], change[2], change[3], 0]) as usize % file.len().max(1);
        match change[0] % 4 {
            0 => file.truncate(at),
            1 => file[at..].fill(change[4]),
            2 => file.extend_from_slice(&[change[4]; 512]),
            _ if file.is_empty() => {}
            _ => file[at] ^= change[5].max(1),
        }
        if file.is_empty() {
            break;
        }
    }
    file
}

fuzz_target!(|changes: &[u8]| {
    // libFuzzer's hook ends the process before the store can catch what redb makes of a damaged page.
    std::panic::set_hook(Box::new(|_| {}));
    for entry in fs::read_dir(&*PLACE).expect("our directory") {
        let _ = fs::remove_file(entry.expect("an entry").path());
    }
    fs::write(PLACE.join("jobs.redb"), changed(changes)).expect("room for a small file");
    let (store, opened) = Store::open(&PLACE).expect("a damaged store is moved aside");
    if let Some((reason, aside)) = &opened.damaged {
        assert!(!reason.is_empty() && aside.is_file());
    }
    let contents = store.load().expect("what was opened is read");
    for (number, accepted) in &contents.jobs {
        assert!(accepted.request.len() < 1 << 20, "{number}");
    }
    let next = contents.jobs.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
    store.accept(next, &job(next)).expect("there is room");
    let id = JobId::parse(&format!("job-{next}")).expect("an id");
    assert_eq!(store.accepted(next).expect("it was just written").map(|accepted| accepted.id), Some(id));
});
