//! The outbox: notifications that are to be delivered, at least once.
//!
//! A notification is stored in the commit of what it tells, and deleted once its channel has taken it. In between it
//! is tried again, ever less often; one of each channel at a time, so that a server that hangs keeps only its own
//! waiting. What cannot be delivered at all is kept for people to see, who may send it again or clear it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Out,
    alert::Id,
    channel::{Channel, Notice, NoticeKind},
};
use crate::{
    model::{EventKind, Severity},
    mutant::mutant,
    time::{Now, Timestamp, WallTime},
};

pub const DELIVERIES: &str = "/piccolo/v1/alerts/outbox/";
/// Waiting for one channel at most; what is missed least gives way, and is counted.
const WAITING_PER_CHANNEL_MAX: usize = 200;
/// Kept for people to see, of all channels.
const DEAD_LETTERS_MAX: usize = 100;
/// Between two attempts.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// After so long nobody needs to hear it any more.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(86_400);
/// Beyond a channel's own time limit an attempt counts as lost: whoever was at it is gone.
const LOST_AFTER: Duration = Duration::from_secs(30);
const ERROR_BYTES_MAX: usize = 300;

/// A notification on its way to one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: Id,
    pub channel: String,
    pub notice: Notice,
    pub created_at: WallTime,
    /// When it was given up, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<DeadLetter>,
    /// When a person had it sent again: from then on it has as long as a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resent_at: Option<WallTime>,
    #[serde(skip)]
    pub attempts: u32,
    #[serde(skip)]
    pub error: String,
    #[serde(skip)]
    next_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub at: WallTime,
    pub why: String,
}

/// For the shell to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    pub delivery: Id,
    pub channel: Channel,
    pub notice: Notice,
    /// The store is away: what tells of it must not wait for it.
    pub at_once: bool,
}

/// Why an attempt has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryError {
    /// Without secrets.
    pub problem: String,
    /// Another attempt would be answered the same.
    pub is_final: bool,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    deliveries: BTreeMap<Id, Delivery>,
    /// Those that were given up.
    dead: BTreeSet<Id>,
    lanes: BTreeMap<String, Lane>,
    /// Became dead letters, since the start.
    given_up: u64,
    /// Given way to newer ones, since the start.
    dropped: u64,
}

/// What is under way to one channel.
#[derive(Debug, Default)]
struct Lane {
    under_way: Option<(Id, Timestamp)>,
    /// Of the last minute.
    sent: VecDeque<Timestamp>,
}

pub(super) fn key(id: Id) -> String {
    format!("{DELIVERIES}{:020}", id.0)
}

/// How much there is, for figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxExtent {
    pub waiting: usize,
    /// Dead letters that are kept, and all of them since the start.
    pub dead: usize,
    pub given_up: u64,
    /// Given way to newer ones, since the start.
    pub dropped: u64,
}

impl Outbox {
    pub(super) fn restore(stored: Vec<Delivery>) -> Self {
        let dead = stored.iter().filter(|d| d.dead.is_some()).map(|d| d.id).collect();
        let deliveries = stored.into_iter().map(|delivery| (delivery.id, delivery)).collect();
        Self { deliveries, dead, ..Self::default() }
    }

    pub(super) fn extent(&self) -> OutboxExtent {
        let (dead, given_up, dropped) = (self.dead.len(), self.given_up, self.dropped);
        OutboxExtent { waiting: self.deliveries.len() - dead, dead, given_up, dropped }
    }

    pub(super) fn add(&mut self, now: Now, id: Id, channel: &str, notice: Notice, out: &mut Out) {
        let delivery = Delivery {
            id,
            channel: channel.to_owned(),
            notice,
            created_at: now.wall,
            dead: None,
            resent_at: None,
            attempts: 0,
            error: String::new(),
            next_at: now.at,
        };
        if self.waiting(channel) >= WAITING_PER_CHANNEL_MAX {
            for id in self.missed_least(channel) {
                self.forget(id, out);
                self.dropped += 1;
            }
        }
        if !mutant!("a notification is not stored") {
            out.put(key(id), &delivery);
        }
        self.deliveries.insert(id, delivery);
    }

    /// All of the oldest alert that is over before anybody heard of it; or else the oldest.
    fn missed_least(&self, channel: &str) -> Vec<Id> {
        let waiting = || self.waiting_for(channel);
        let ends: BTreeSet<Id> = waiting()
            .filter(|delivery| delivery.notice.kind == NoticeKind::Resolved)
            .map(|delivery| delivery.notice.alert.id)
            .collect();
        let unheard = waiting().find(|delivery| {
            let begins = delivery.notice.kind == NoticeKind::Firing && delivery.attempts == 0;
            begins && ends.contains(&delivery.notice.alert.id)
        });
        match unheard.filter(|_| !mutant!("the oldest gives way whatever it is")) {
            Some(Delivery { notice, .. }) => waiting()
                .filter(|delivery| delivery.notice.alert.id == notice.alert.id)
                .map(|delivery| delivery.id)
                .collect(),
            None => waiting().map(|delivery| delivery.id).take(1).collect(),
        }
    }

    pub(super) fn forget(&mut self, id: Id, out: &mut Out) {
        self.deliveries.remove(&id);
        self.dead.remove(&id);
        out.delete(key(id));
    }

    /// Its channel is gone, and with it what waits for it.
    pub(super) fn forget_channel(&mut self, channel: &str, out: &mut Out) {
        let ids: Vec<_> =
            self.deliveries.values().filter(|d| d.channel == channel).map(|d| d.id).collect();
        ids.into_iter().for_each(|id| self.forget(id, out));
        self.lanes.remove(channel);
    }

    /// What is due, one for each channel that is not at something.
    pub(super) fn dispatch(
        &mut self,
        now: Now,
        channels: &BTreeMap<String, Channel>,
        at_once: bool,
        out: &mut Out,
    ) {
        self.give_up_old(now, out);
        for (name, channel) in channels {
            let lane = self.lanes.entry(name.clone()).or_default();
            lane.expire(now.at, channel);
            if channel.disabled || lane.under_way.is_some() || lane.free_at(channel).is_some() {
                continue;
            }
            let due = self.deliveries.values_mut().find(|delivery| {
                delivery.channel == *name && delivery.dead.is_none() && delivery.next_at <= now.at
            });
            let Some(delivery) = due else { continue };
            delivery.attempts += 1;
            lane.under_way = Some((delivery.id, now.at));
            lane.sent.push_back(now.at);
            out.dispatches.push(Dispatch {
                delivery: delivery.id,
                channel: channel.clone(),
                notice: delivery.notice.clone(),
                at_once,
            });
        }
    }

    pub(super) fn ended(
        &mut self,
        now: Now,
        id: Id,
        result: Result<(), DeliveryError>,
        out: &mut Out,
    ) {
        for lane in self.lanes.values_mut() {
            lane.under_way = lane.under_way.filter(|(under_way, _)| *under_way != id);
        }
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        match result {
            Ok(()) if mutant!("what was taken is told again") => {}
            Ok(()) => self.forget(id, out),
            Err(_) if mutant!("a notification is lost with its first attempt") => {
                self.forget(id, out)
            }
            Err(error) => {
                let problem = super::template::line(&error.problem);
                delivery.error = problem.chars().take(ERROR_BYTES_MAX).collect();
                delivery.next_at = now.at + back_off(delivery.attempts);
                if error.is_final && !mutant!("what was given up is tried again") {
                    self.bury(now, id, out);
                }
            }
        }
    }

    fn give_up_old(&mut self, now: Now, out: &mut Out) {
        let old = self.deliveries.values().find(|delivery| {
            let since = delivery.resent_at.unwrap_or(delivery.created_at);
            delivery.dead.is_none() && now.wall.since(since) > GIVEN_UP_AFTER
        });
        if let Some(id) = old.map(|delivery| delivery.id) {
            self.bury(now, id, out);
        }
    }

    /// It becomes a dead letter.
    fn bury(&mut self, now: Now, id: Id, out: &mut Out) {
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        let why = if delivery.error.is_empty() { "its time is over" } else { &delivery.error };
        delivery.dead = Some(DeadLetter { at: now.wall, why: why.to_owned() });
        self.dead.insert(id);
        self.given_up += 1;
        let message = format!(
            "a notification of alert {} could not be delivered by channel {}: {why}",
            delivery.notice.alert.id, delivery.channel
        );
        if !mutant!("a dead letter is not stored") {
            out.put(key(id), &*delivery);
        }
        out.tell(Severity::Warning, EventKind::NotificationFailed, None, message);
        if self.dead.len() > DEAD_LETTERS_MAX
            && let Some(oldest) = self.dead.first().copied()
        {
            self.forget(oldest, out);
        }
    }

    /// A dead letter waits for its channel again, as it was: its receiver knows it by the key that it had.
    pub(super) fn resend(&mut self, now: Now, id: Id, out: &mut Out) {
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        if mutant!("a dead letter is not sent again") {
            return;
        }
        self.dead.remove(&id);
        delivery.dead = None;
        delivery.resent_at = Some(now.wall);
        delivery.attempts = 0;
        delivery.error.clear();
        delivery.next_at = now.at;
        out.put(key(id), &*delivery);
    }

    pub(super) fn is_dead(&self, id: Id) -> bool {
        self.dead.contains(&id)
    }

    pub(super) fn dead_letters(&self) -> impl Iterator<Item = &Delivery> {
        self.dead.iter().filter_map(|id| self.deliveries.get(id))
    }

    pub(super) fn waiting(&self, channel: &str) -> usize {
        self.waiting_for(channel).count()
    }

    fn waiting_for(&self, channel: &str) -> impl Iterator<Item = &Delivery> {
        self.deliveries.values().filter(move |d| d.dead.is_none() && d.channel == channel)
    }

    /// Of the newest attempt that failed and is to be made again.
    pub(super) fn problem(&self, channel: &str) -> Option<&str> {
        let failed = |delivery: &&Delivery| {
            delivery.channel == channel && delivery.dead.is_none() && !delivery.error.is_empty()
        };
        self.deliveries.values().rfind(failed).map(|delivery| delivery.error.as_str())
    }

    /// When something can be sent.
    pub(super) fn next_at(&self, channels: &BTreeMap<String, Channel>) -> Option<Timestamp> {
        let next = |(name, channel): (&String, &Channel)| {
            let lane = self.lanes.get(name);
            if let Some((_, since)) = lane.and_then(|lane| lane.under_way) {
                return Some(since + channel_limit(channel));
            }
            let waiting = self.deliveries.values().filter(|delivery| {
                delivery.channel == *name && delivery.dead.is_none() && !channel.disabled
            });
            let due = waiting.map(|delivery| delivery.next_at).min()?;
            Some(due.max(lane.and_then(|lane| lane.free_at(channel)).unwrap_or(due)))
        };
        channels.iter().filter_map(next).min()
    }
}

impl Lane {
    fn expire(&mut self, now: Timestamp, channel: &Channel) {
        if mutant!("a lost attempt is waited for") {
            return;
        }
        self.under_way =
            self.under_way.filter(|(_, since)| now.since(*since) < channel_limit(channel));
        while self.sent.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(60)) {
            self.sent.pop_front();
        }
    }

    /// When its rate allows another one; `None`: now.
    fn free_at(&self, channel: &Channel) -> Option<Timestamp> {
        if mutant!("a channel is told faster than it bears") {
            return None;
        }
        let per_minute = usize::try_from(channel.per_minute).unwrap_or(usize::MAX);
        let over = self.sent.len().checked_sub(per_minute)?;
        self.sent.get(over).map(|first| *first + Duration::from_secs(60))
    }
}

fn channel_limit(channel: &Channel) -> Duration {
    Duration::from_secs(channel.timeout_s.into()) + LOST_AFTER
}

/// Twice as long each time.
fn back_off(attempts: u32) -> Duration {
    let doubled = BACK_OFF_MIN * 2_u32.saturating_pow(attempts.saturating_sub(1).min(16));
    doubled.min(BACK_OFF_MAX)
}
