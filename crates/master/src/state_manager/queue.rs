//! What the owner has decided and the performer has not done yet, in order.
//!
//! The owner never waits here: while a store is slow it goes on to hear beats and to answer them. What piles up
//! is bounded twice. From [`COALESCE_AT`] on, of the unseen pictures of one node only the newest is
//! kept; at [`QUEUED_MAX`] the process ends, because what it decided can no longer be made true.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use piccolo_core::{model::NodeId, state_manager::Effect};
use tokio::sync::Notify;

/// Effects in the queue from which on older pictures of a node are dropped.
const COALESCE_AT: usize = 1024;
/// Effects in the queue at most.
const QUEUED_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct EffectQueue {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None` where a newer picture has taken the place.
    effects: VecDeque<Option<Effect>>,
    /// Sequence number of the first of `effects`.
    first: u64,
    /// Where each node's newest picture is.
    pictures: HashMap<NodeId, u64>,
    closed: bool,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{QUEUED_MAX} decisions wait for the store: what was decided can no longer be kept in memory"
)]
pub(crate) struct Overflow;

impl EffectQueue {
    pub(crate) fn push(&self, effects: impl IntoIterator<Item = Effect>) -> Result<(), Overflow> {
        let mut inner = self.lock();
        for effect in effects {
            inner.push(effect);
        }
        let overflow = inner.effects.len() > QUEUED_MAX;
        drop(inner);
        self.filled.notify_one();
        if overflow { Err(Overflow) } else { Ok(()) }
    }

    /// The first effects for which `take` says yes, at least one; waits for them. `None` once it is closed
    /// and empty.
    pub(crate) async fn next(&self, mut take: impl FnMut(&Effect) -> bool) -> Option<Vec<Effect>> {
        loop {
            let filled = self.filled.notified();
            {
                let mut inner = self.lock();
                let batch = inner.pop_while(&mut take);
                if !batch.is_empty() {
                    return Some(batch);
                }
                if inner.closed {
                    return None;
                }
            }
            filled.await;
        }
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().effects.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, effect: Effect) {
        let place = self.first + self.effects.len() as u64;
        if let Effect::Changed(view) = &effect {
            let before = self.pictures.insert(view.record.id.clone(), place);
            let before = before.filter(|before| *before >= self.first);
            if let Some(before) = before.filter(|_| self.effects.len() >= COALESCE_AT)
                && let Ok(index) = usize::try_from(before - self.first)
                && let Some(old) = self.effects.get_mut(index)
            {
                *old = None;
            }
        }
        self.effects.push_back(Some(effect));
        while matches!(self.effects.front(), Some(None)) {
            self.effects.pop_front();
            self.first += 1;
        }
    }

    fn pop_while(&mut self, take: &mut impl FnMut(&Effect) -> bool) -> Vec<Effect> {
        let mut batch = Vec::new();
        while let Some(next) = self.effects.front() {
            match next {
                Some(effect) if !batch.is_empty() && !take(effect) => break,
                // the first is always taken, and counted
                Some(effect) if batch.is_empty() => drop(take(effect)),
                Some(_) | None => {}
            }
            self.first += 1;
            batch.extend(self.effects.pop_front().flatten());
        }
        if self.effects.is_empty() {
            self.pictures.clear();
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use piccolo_core::state_manager::{Answer, RequestId, Transaction};

    use super::*;

    fn reply(id: u64) -> Effect {
        Effect::Reply { request: RequestId(id), result: Ok(Answer::Done) }
    }

    #[tokio::test]
    async fn effects_come_out_in_the_order_in_which_they_went_in() {
        let queue = EffectQueue::default();
        queue.push((0..5).map(reply)).unwrap();
        let mut left = 3;
        let batch = queue
            .next(|_| {
                left -= 1;
                left >= 0
            })
            .await;
        assert_eq!(batch, Some((0..3).map(reply).collect()));
        assert_eq!(queue.next(|_| true).await, Some((3..5).map(reply).collect()));
        queue.close();
        assert_eq!(queue.next(|_| true).await, None);
    }

    #[test]
    fn a_full_queue_says_so() {
        let queue = EffectQueue::default();
        let commit = || Effect::Commit(Transaction::default());
        assert_eq!(queue.push((0..QUEUED_MAX).map(|_| commit())), Ok(()));
        assert_eq!(queue.push([commit()]), Err(Overflow));
    }
}
