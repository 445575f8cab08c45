//! What waits and in which order: higher priority first, and first come first served among equals.
//!
//! Only what the order and the estimates need is in memory; the requests themselves are in the store. Owned by the daemon's
//! loop alone, so there is no lock.

use std::time::{Duration, Instant};

use super::JobId;
use super::pace::Cost;

/// One job that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its number in the store, in the order of acceptance.
    pub number: u64,
    /// Its name outside.
    pub id: JobId,
    /// Higher ones run first.
    pub priority: i64,
    /// When its picture is wanted.
    pub due: Option<Instant>,
    /// What it will take.
    pub cost: Cost,
    /// It came over the fleet's topic.
    pub fleet: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Queue {
    /// In the order they will run.
    waiting: Vec<Waiting>,
}

impl Queue {
    /// Lets a job in; its place, 1 is next.
    pub fn push(&mut self, job: Waiting) -> usize {
        let place = self.place(job.priority, job.number);
        self.waiting.insert(place, job);
        place + 1
    }

    fn place(&self, priority: i64, number: u64) -> usize {
        let before = |other: &Waiting| (-other.priority, other.number) < (-priority, number);
        self.waiting.partition_point(before)
    }

    /// Jobs that would run before a new one of this priority.
    pub fn ahead_of(&self, priority: i64) -> &[Waiting] {
        &self.waiting[..self.place(priority, u64::MAX)]
    }

    /// The place of `id`, 1 is next.
    pub fn position(&self, id: &JobId) -> Option<usize> {
        self.waiting.iter().position(|job| job.id == *id).map(|place| place + 1)
    }

    /// The one at `place` from the front, 0 is next; it leaves the queue.
    pub fn take(&mut self, place: usize) -> Option<Waiting> {
        (place < self.waiting.len()).then(|| self.waiting.remove(place))
    }

    /// Takes `id` out.
    pub fn remove(&mut self, id: &JobId) -> Option<Waiting> {
        let place = self.waiting.iter().position(|job| job.id == *id)?;
        Some(self.waiting.remove(place))
    }

    /// Takes out all that `wanted` says.
    pub fn remove_where(&mut self, wanted: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        self.waiting.extract_if(.., |job| wanted(job)).collect()
    }

    /// In the order they will run.
    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The point in time that is `left` from now.
pub fn due(left: Option<Duration>) -> Option<Instant> {
    left.and_then(|left| Instant::now().checked_add(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::parse(text).expect("valid")
    }

    fn push(queue: &mut Queue, number: u64, priority: i64) -> usize {
        let (id, cost) = (id(&format!("j{number}")), Cost::default());
        queue.push(Waiting { number, id, priority, due: None, cost, fleet: false })
    }

    fn order(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.take(0)).map(|job| job.number).collect()
    }

    #[test]
    fn equals_run_in_the_order_they_came_and_higher_priorities_before_them() {
        let mut queue = Queue::default();
        assert_eq!([push(&mut queue, 1, 0), push(&mut queue, 2, 0)], [1, 2]);
        assert_eq!(push(&mut queue, 3, 5), 1);
        assert_eq!(push(&mut queue, 4, -5), 4);
        assert_eq!(push(&mut queue, 5, 5), 2);
        assert_eq!(queue.ahead_of(0).len(), 4);
        assert_eq!(queue.ahead_of(6).len(), 0);
        assert_eq!(queue.position(&id("j2")), Some(4));
        assert_eq!(order(&mut queue), [3, 5, 1, 2, 4]);
    }

    #[test]
    fn a_job_that_ran_when_the_process_died_comes_back_to_its_place() {
        let mut queue = Queue::default();
        for number in [7, 5, 6] {
            push(&mut queue, number, 0);
        }
        assert_eq!(order(&mut queue), [5, 6, 7]);
    }

    #[test]
    fn jobs_leave_by_name_or_by_what_they_are() {
        let mut queue = Queue::default();
        for number in 1..6 {
            push(&mut queue, number, 0);
        }
        assert_eq!(queue.remove(&id("j3")).map(|job| job.number), Some(3));
        assert_eq!(queue.remove(&id("j3")), None);
        let odd = queue.remove_where(|job| job.number % 2 == 1);
        assert_eq!(odd.iter().map(|job| job.number).collect::<Vec<_>>(), [1, 5]);
        assert_eq!((queue.len(), queue.is_empty()), (2, false));
        assert_eq!(order(&mut queue), [2, 4]);
    }
}
