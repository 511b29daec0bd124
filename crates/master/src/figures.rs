//! Figures of this process, counted where things happen and read by `/metrics`.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Upper bounds of the histogram of commit times, in seconds.
pub(crate) const COMMIT_BOUNDS: [f64; 10] =
    [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Channels come and go: counters of those beyond it are one, under a name that no channel has.
const NOTIFICATIONS_MAX: usize = 256;
const OTHER_CHANNELS: &str = "*";

#[derive(Debug, Default)]
pub(crate) struct Figures {
    commits: [AtomicU64; COMMIT_BOUNDS.len() + 1],
    commit_micros: AtomicU64,
    calls: Mutex<BTreeMap<(&'static str, i32), u64>>,
    notifications: Mutex<BTreeMap<(String, &'static str), u64>>,
    pub(crate) sessions_dropped: AtomicU64,
    pub(crate) watchers_dropped: AtomicU64,
}

/// Commits so far: how many took at most each bound, and all together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Commits {
    pub(crate) at_most: [u64; COMMIT_BOUNDS.len()],
    pub(crate) count: u64,
    pub(crate) seconds: f64,
}

impl Figures {
    pub(crate) fn committed(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = COMMIT_BOUNDS.iter().position(|bound| seconds <= *bound);
        let bucket = bucket.unwrap_or(COMMIT_BOUNDS.len());
        if let Some(count) = self.commits.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn commits(&self) -> Commits {
        let mut count = 0;
        let mut at_most = [0; COMMIT_BOUNDS.len()];
        for (i, bucket) in self.commits.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(so_far) = at_most.get_mut(i) {
                *so_far = count;
            }
        }
        let micros = self.commit_micros.load(Ordering::Relaxed);
        Commits { at_most, count, seconds: Duration::from_micros(micros).as_secs_f64() }
    }

    pub(crate) fn called(&self, call: &'static str, code: tonic::Code) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry((call, code.into())).or_insert(0) += 1;
    }

    /// An attempt to tell of an alert has ended.
    pub(crate) fn notified(&self, channel: &str, result: &'static str) {
        let mut ended = self.notifications.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (channel.to_owned(), result);
        let has_room = ended.len() < NOTIFICATIONS_MAX || ended.contains_key(&key);
        let key = if has_room { key } else { (OTHER_CHANNELS.to_owned(), result) };
        *ended.entry(key).or_insert(0) += 1;
    }

    /// Attempts by channel and how they ended.
    pub(crate) fn notifications(&self) -> BTreeMap<(String, &'static str), u64> {
        self.notifications.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls by name and gRPC code.
    pub(crate) fn calls(&self) -> BTreeMap<(&'static str, i32), u64> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
