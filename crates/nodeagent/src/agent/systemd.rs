//! What systemd is told, where it runs us. The watchdog is fed by the loop that does the work: one that
//! hangs is started again.

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Fed twice as often as systemd asks.
#[derive(Debug)]
pub(super) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// Says that the agent is up.
    pub(super) fn ready() -> Self {
        tell(NotifyState::Ready);
        Self(sd_notify::watchdog_enabled().map(|every| {
            let mut interval = interval(every / 2);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Never, where there is no watchdog.
    pub(super) async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }

    pub(super) fn feed(&self) {
        tell(NotifyState::Watchdog);
    }
}

pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
