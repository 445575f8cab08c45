//! The engine's threads: a fixed number, each with its own contiguous part of every piece of work. Where a throttle allows fewer,
//! fewer of them get parts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tract_core::prelude::multithread::Executor;

use crate::jobs::throttle::Throttle;

/// Threads that share out work in equal parts, the same parts every time.
#[derive(Clone)]
pub(super) struct Pool {
    workers: Option<Arc<rayon::ThreadPool>>,
    threads: usize,
    throttle: Throttle,
    /// How many of them work, until somebody enters again.
    at_work: Arc<AtomicUsize>,
}

impl Pool {
    /// A pool of `threads` threads, of which one is the caller's.
    pub(super) fn new(threads: usize) -> Self {
        let workers = (threads > 1).then(|| {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|at| format!("engine-{at}"));
            Arc::new(pool.build().expect("the system starts a thread"))
        });
        let threads = threads.max(1);
        let at_work = Arc::new(AtomicUsize::new(threads));
        Self { workers, threads, throttle: Throttle::default(), at_work }
    }

    /// The same pool with as many threads at work as `throttle` allows, looked at each time somebody enters. Tract's own
    /// operators use all of them.
    pub(super) fn throttled(self, throttle: Throttle) -> Self {
        Self { throttle, ..self }
    }

    /// How many threads share the work.
    pub(super) fn threads(&self) -> usize {
        self.at_work.load(Ordering::Relaxed)
    }

    /// The same threads for tract, so that the two never compete.
    pub(super) fn executor(&self) -> Executor {
        match &self.workers {
            None => Executor::SingleThread,
            Some(workers) => Executor::MultiThread(workers.clone()),
        }
    }

    /// Runs `task` on one of the threads, so that the work shared out inside needs no wake-up of a first one.
    pub(super) fn enter<R: Send>(&self, task: impl FnOnce() -> R + Send) -> R {
        self.at_work.store(self.threads.min(self.throttle.threads()), Ordering::Relaxed);
        match &self.workers {
            None => task(),
            Some(workers) => workers.install(task),
        }
    }

    /// Cuts `0..count` into one part per thread and runs them at the same time.
    pub(super) fn share(&self, count: usize, task: impl Fn(Range<usize>) + Sync) {
        let parts = self.threads().min(count);
        if parts <= 1 {
            return task(0..count);
        }
        let part = |at: usize| at * count / parts..(at + 1) * count / parts;
        let task = &task;
        rayon::in_place_scope(|scope| {
            for at in 1..parts {
                scope.spawn(move |_| task(part(at)));
            }
            task(part(0));
        });
    }

    /// Runs `task` on every item at the same time; there are at most as many as threads.
    pub(super) fn each<T: Send>(&self, items: Vec<T>, task: impl Fn(T) + Sync) {
        let mut items = items.into_iter();
        let Some(first) = items.next() else {
            return;
        };
        let task = &task;
        rayon::in_place_scope(|scope| {
            for item in items {
                scope.spawn(move |_| task(item));
            }
            task(first);
        });
    }

    /// Copies `from` over `to`, which is as long.
    pub(super) fn copy(&self, from: &[f32], to: &mut [f32]) {
        self.enter(|| {
            self.each(self.rows(to, 1), |(first, part)| part.copy_from_slice(&from[first..][..part.len()]));
        });
    }

    /// Cuts rows of `width` values into one run of rows per thread, each with the number of its first row.
    pub(super) fn rows<'a, T>(&self, values: &'a mut [T], width: usize) -> Vec<(usize, &'a mut [T])> {
        let per_part = (values.len() / width).div_ceil(self.threads()).max(1);
        values.chunks_mut(per_part * width).enumerate().map(|(at, part)| (at * per_part, part)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::jobs::throttle::Allowance;

    #[test]
    fn work_is_cut_into_as_many_parts_as_are_allowed() {
        let throttle = Throttle::default();
        let pool = Pool::new(4).throttled(throttle.clone());
        let parts = |threads| {
            throttle.set(Allowance { threads, ..Allowance::FULL });
            let parts = Mutex::new(Vec::new());
            pool.enter(|| pool.share(100, |part| parts.lock().expect("no panic").push(part)));
            let mut parts = parts.into_inner().expect("no panic");
            parts.sort_by_key(|part| part.start);
            assert_eq!(parts.iter().map(ExactSizeIterator::len).sum::<usize>(), 100);
            parts.len()
        };
        assert_eq!([None, Some(3), Some(1), Some(9)].map(parts), [4, 3, 1, 4]);
        assert_eq!(pool.rows(&mut [0; 8], 1).len(), 4);
    }
}
