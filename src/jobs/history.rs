//! Ended jobs, newest last: the answers to ids that come again. A ring, bounded in count and in bytes of pictures.

use std::collections::{HashMap, VecDeque};

use super::JobId;
use super::status::JobStatus;
use super::store::{Ended, Evicted};

/// Bounds on what is kept of ended jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Ended jobs whose ids are known.
    pub count: usize,
    /// Bytes of their pictures.
    pub bytes: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    status: JobStatus,
    bytes: u64,
    /// The broker has not heard of it in full: it stays whatever the bounds say.
    waits: bool,
}

/// See the module. A picture in here that waits for the broker counts as outbox, any other as history.
#[derive(Debug)]
pub struct History {
    bounds: HistoryBounds,
    entries: VecDeque<Entry>,
    numbers: HashMap<JobId, u64>,
}

impl History {
    /// An empty one.
    pub fn new(bounds: HistoryBounds) -> Self {
        Self { bounds, entries: VecDeque::new(), numbers: HashMap::new() }
    }

    /// Adds the end numbered `number`, the highest so far.
    pub fn push(&mut self, number: u64, ended: &Ended, waits: bool) {
        self.numbers.insert(ended.id().clone(), number);
        let entry = Entry { number, status: ended.status.clone(), bytes: ended.bytes(), waits };
        self.entries.push_back(entry);
    }

    /// What has to go so that `count` more with `bytes` of pictures fit: pictures of the oldest first, then the oldest whole.
    /// It is gone in here when this returns; the store still has to hear of it.
    pub fn make_room(&mut self, count: usize, bytes: u64) -> Vec<Evicted> {
        let mut evicted = Vec::new();
        let mut kept: u64 = self.entries.iter().filter(|entry| !entry.waits).map(|entry| entry.bytes).sum();
        for entry in &mut self.entries {
            if kept + bytes <= self.bounds.bytes {
                break;
            }
            if !entry.waits && entry.bytes > 0 {
                kept -= std::mem::take(&mut entry.bytes);
                evicted.push(Evicted::Pictures(entry.number));
            }
        }
        let mut too_many = (self.entries.len() + count).saturating_sub(self.bounds.count);
        let numbers = &mut self.numbers;
        self.entries.retain(|entry| {
            let goes = too_many > 0 && !entry.waits;
            if goes {
                too_many -= 1;
                evicted.retain(|evicted| *evicted != Evicted::Pictures(entry.number));
                evicted.push(Evicted::Whole(entry.number));
                if numbers.get(&entry.status.id) == Some(&entry.number) {
                    numbers.remove(&entry.status.id);
                }
            }
            !goes
        });
        evicted
    }

    /// How `id` ended, and whether the broker still has to hear of it.
    pub fn find(&self, id: &JobId) -> Option<(u64, &JobStatus, bool)> {
        let number = *self.numbers.get(id)?;
        let entry = self.entry(number)?;
        Some((number, &entry.status, entry.waits))
    }

    /// The broker has everything of `number`; this is what it heard.
    pub fn delivered(&mut self, number: u64, status: &JobStatus, bytes: u64) {
        let place = self.entries.binary_search_by_key(&number, |entry| entry.number);
        if let Some(entry) = place.ok().and_then(|place| self.entries.get_mut(place)) {
            entry.waits = false;
            entry.bytes = bytes;
            entry.status.clone_from(status);
        }
    }

    /// The pictures of `number` are gone.
    pub fn forget_pictures(&mut self, number: u64) {
        let place = self.entries.binary_search_by_key(&number, |entry| entry.number);
        if let Some(entry) = place.ok().and_then(|place| self.entries.get_mut(place)) {
            entry.bytes = 0;
        }
    }

    /// Bytes of pictures that wait for the broker.
    pub fn waiting_bytes(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.waits).map(|entry| entry.bytes).sum()
    }

    /// The highest number so far.
    pub fn last(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.number)
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        let place = self.entries.binary_search_by_key(&number, |entry| entry.number).ok()?;
        self.entries.get(place)
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
