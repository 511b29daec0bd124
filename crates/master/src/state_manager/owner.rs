//! The one task that owns the machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use piccolo_core::{
    api_server::{Call, Caller},
    monitoring_server::alerts::outbox::OutboxExtent,
    session::ToAgent,
    state_manager::{Answer, Effect, Input, StateManager},
    time::Now,
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Check, Identify, Replies, ToOwner,
    queue::{EffectQueue, Overflow},
};
use crate::{alerts::Notifier, api_server::sessions::Sessions, clock::MasterClock};

/// The longest sleep without a look at the machine.
const IDLE_MAX: Duration = Duration::from_secs(3600);

pub(crate) struct Owner {
    pub(crate) manager: StateManager,
    pub(crate) inputs: mpsc::Receiver<ToOwner>,
    pub(crate) clock: MasterClock,
    pub(crate) queue: Arc<EffectQueue>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) replies: Arc<Replies>,
    pub(crate) notifier: Notifier,
    pub(crate) published: Arc<Published>,
    /// Between two signs of life for systemd, where it asks for them.
    pub(crate) watchdog: Option<Duration>,
}

/// Figures of the machine that others read without asking it.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) first_event: AtomicU64,
    /// Of the audit log; decided, so never behind what is stored.
    pub(crate) first_audit: AtomicU64,
    pub(crate) last_audit: AtomicU64,
    pub(crate) inputs: AtomicU64,
    /// Notifications of alerts.
    pub(crate) notifications_waiting: AtomicU64,
    pub(crate) notifications_dead: AtomicU64,
    pub(crate) notifications_given_up: AtomicU64,
    pub(crate) notifications_dropped: AtomicU64,
}

impl Owner {
    /// Runs until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) -> Result<(), Overflow> {
        let mut sign_of_life = self.watchdog.map(|period| {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        });
        self.publish();
        loop {
            let sleep = self.until_deadline();
            // inputs before deadlines: after a stall the beats that wait are heard before anybody is
            // declared lost
            let effects = tokio::select! {
                biased;
                input = self.inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(sleep) => {
                    self.manager.handle_deadline(self.clock.now())
                }
                () = tick(&mut sign_of_life) => {
                    sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).ok();
                    continue;
                }
            };
            self.publish();
            self.hand_on(effects)?;
        }
    }

    fn until_deadline(&self) -> Duration {
        let Now { at, .. } = self.clock.now();
        let deadline = self.manager.deadline();
        deadline.map_or(IDLE_MAX, |deadline| deadline.at.since(at)).min(IDLE_MAX)
    }

    fn take(&mut self, input: ToOwner) -> Vec<Effect> {
        let now = self.clock.now();
        self.published.inputs.fetch_add(1, Ordering::Relaxed);
        match input {
            ToOwner::Input(input) => self.manager.handle(now, input),
            ToOwner::Check(check) => {
                let Check { by, call, reply } = *check;
                match by.check(call).and_then(|()| self.manager.standing(&by)) {
                    Ok(()) => {
                        reply.send(Ok(())).ok();
                        Vec::new()
                    }
                    Err(refusal) => {
                        reply.send(Err(refusal.clone())).ok();
                        self.manager.handle(now, Input::Refused { by, call, refusal })
                    }
                }
            }
            ToOwner::Identify(identify) => {
                let Identify { kind, hash, from, reply } = *identify;
                match self.manager.identify(now, kind, &hash, &from) {
                    Ok(caller) => {
                        reply.send(Ok(caller)).ok();
                        Vec::new()
                    }
                    Err(refusal) => {
                        reply.send(Err(refusal.clone())).ok();
                        let (by, call) = (Caller::anonymous(from), Call::OpenSession);
                        self.manager.handle(now, Input::Refused { by, call, refusal })
                    }
                }
            }
        }
    }

    /// To the performer, in order; but what reveals nothing goes past it.
    fn hand_on(&self, effects: Vec<Effect>) -> Result<(), Overflow> {
        let mut in_order = Vec::with_capacity(effects.len());
        for effect in effects {
            if let Effect::Send { session, message: ToAgent::Beat, .. } = &effect {
                self.sessions.send(session, ToAgent::Beat);
            } else if let Effect::Dispatch(dispatch) = &effect
                && dispatch.at_once
            {
                // the store is away: that is told without it, and told again if it was not stored
                self.notifier.dispatch(dispatch.as_ref().clone());
            } else if let Effect::Reply { request, result: Ok(Answer::ClusterStatus(status)) } =
                effect
            {
                // figures of the cluster: that the store is away is one of them
                self.replies.complete(request, Ok(Answer::ClusterStatus(status)));
            } else {
                in_order.push(effect);
            }
        }
        if in_order.is_empty() { Ok(()) } else { self.queue.push(in_order) }
    }

    fn publish(&self) {
        let published = &self.published;
        published.first_event.store(self.manager.events_kept().0, Ordering::Relaxed);
        let audit = self.manager.audit_ends();
        published.first_audit.store(audit.first, Ordering::Relaxed);
        published.last_audit.store(audit.last, Ordering::Relaxed);
        let OutboxExtent { waiting, dead, given_up, dropped } = self.manager.notifications();
        published.notifications_waiting.store(waiting as u64, Ordering::Relaxed);
        published.notifications_dead.store(dead as u64, Ordering::Relaxed);
        published.notifications_given_up.store(given_up, Ordering::Relaxed);
        published.notifications_dropped.store(dropped, Ordering::Relaxed);
    }
}

/// The next tick; never where there is none.
async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => drop::<Instant>(interval.tick().await),
        None => std::future::pending().await,
    }
}
