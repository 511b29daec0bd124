//! The shell of the alerts: what the core decides to tell is told here, each notification by a task of its own.
//!
//! The core gives out one notification for each channel at a time and hears what became of it; retries, rates and
//! dead letters are its business. What hangs ends at the channel's time limit, and keeps nobody else waiting.
//!
//! - `board`: what watchers see
//! - `http`, `command`, `smtp`, `mqtt`: the ways that a notification goes; `message`: how it reads
//! - `lines`: how much to hear of a mail server

pub(crate) mod board;
mod command;
mod http;
mod lines;
mod message;
mod mqtt;
mod smtp;

use std::{path::PathBuf, sync::Arc, time::Duration};

use piccolo_core::{
    monitoring_server::alerts::{
        channel::{Protection, Way},
        facts::ClusterFacts,
        outbox::{DeliveryError, Dispatch},
    },
    state_manager::Input,
    time::WallTime,
};
use tokio::{net::TcpStream, sync::watch};

use crate::{
    backup::schedule::BackupHealth,
    certificate_authority::CertificateAuthority,
    clock::MasterClock,
    figures::Figures,
    outbound::{Failed, tls},
    state_manager::{StateHandle, writer::StoreHealth},
};

/// Between two looks at what no node tells.
const FACTS_EVERY: Duration = Duration::from_secs(10);
/// Programs of command channels, below the folder of the state: only who may write there decides what the master
/// runs.
const COMMANDS: &str = "alert-commands";

/// Characters of what went wrong.
const PROBLEM_CHARS_MAX: usize = 512;

/// Where a server is, and how the way there is protected.
struct Server<'a> {
    host: &'a str,
    port: u16,
    protection: Protection,
    /// PEM; empty: the system's authorities.
    ca: &'a str,
}

/// None where the user is empty.
struct Login<'a> {
    user: &'a str,
    password: &'a str,
}

impl Server<'_> {
    async fn connect(&self) -> Result<TcpStream, Failed> {
        let Self { host, port, .. } = self;
        let stream = TcpStream::connect((*host, *port))
            .await
            .map_err(|error| Failed::now(format!("no connection to {host}:{port}: {error}")))?;
        // the end of a letter is a packet of its own, and would wait for an answer to the one before
        stream.set_nodelay(true).map_err(Failed::now)?;
        Ok(stream)
    }
}

/// What a server says goes into the log with each attempt.
fn bounded(problem: &str) -> String {
    problem.chars().take(PROBLEM_CHARS_MAX).collect()
}

/// Carries notifications out.
#[derive(Debug, Clone)]
pub(crate) struct Notifier {
    state: StateHandle,
    commands: PathBuf,
    figures: Arc<Figures>,
}

impl Notifier {
    pub(crate) fn new(
        state: StateHandle,
        state_dir: &std::path::Path,
        figures: Arc<Figures>,
    ) -> Self {
        Self { state, commands: state_dir.join(COMMANDS), figures }
    }

    /// Begins; what becomes of it is told to the owner.
    pub(crate) fn dispatch(&self, dispatch: Dispatch) {
        let notifier = self.clone();
        tokio::spawn(async move {
            let limit = Duration::from_secs(dispatch.channel.timeout_s.into());
            let sent = tokio::time::timeout(limit, notifier.send(&dispatch)).await;
            let result = sent.unwrap_or_else(|_| {
                Err(Failed::now(format!("no answer within {} s", limit.as_secs())))
            });
            let channel = dispatch.channel.name;
            let ended = match result {
                Ok(()) => "delivered",
                Err(Failed::ForNow(_)) => "failed",
                Err(Failed::ForGood(_)) => "refused",
            };
            notifier.figures.notified(&channel, ended);
            let result = result.map_err(|failed| {
                let (problem, is_final) = match failed {
                    Failed::ForNow(problem) => (problem, false),
                    Failed::ForGood(problem) => (problem, true),
                };
                let problem = bounded(&problem);
                tracing::warn!(channel, problem, is_final, "a notification was not delivered");
                DeliveryError { problem, is_final }
            });
            notifier.state.tell(Input::Delivered { delivery: dispatch.delivery, result }).await;
        });
    }

    async fn send(&self, dispatch: &Dispatch) -> Result<(), Failed> {
        let notice = &dispatch.notice;
        match &dispatch.channel.way {
            Way::Webhook { url, body, key, ca } => {
                http::send(notice, url.expose(), *body, key.expose(), ca).await
            }
            Way::Command { argv } => command::run(notice, &self.commands, argv).await,
            Way::Smtp { host, port, protection, user, password, from, to, ca } => {
                let server = Server { host, port: *port, protection: *protection, ca };
                let login = Login { user, password: password.expose() };
                smtp::send(notice, &server, &login, from, to).await
            }
            Way::Mqtt { host, port, protection, topic, user, password, ca } => {
                let server = Server { host, port: *port, protection: *protection, ca };
                mqtt::publish(notice, &server, &Login { user, password: password.expose() }, topic)
                    .await
            }
        }
    }
}

/// What the shell knows of the whole, for rules.
pub(crate) struct Facts {
    pub(crate) state: StateHandle,
    pub(crate) health: Arc<StoreHealth>,
    pub(crate) backup: Arc<BackupHealth>,
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) state_dir: PathBuf,
    pub(crate) clock: MasterClock,
}

impl Facts {
    /// Tells them until the master stops.
    pub(crate) async fn tell(self, mut stop: watch::Receiver<bool>) {
        loop {
            self.state.tell(Input::ClusterFacts(Box::new(self.now()))).await;
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(FACTS_EVERY) => {}
            }
        }
    }

    fn now(&self) -> ClusterFacts {
        let backup = self.backup.get().unwrap_or_default();
        let now = self.clock.now().wall;
        let expiry = i64::try_from(self.authority.not_after()).unwrap_or(i64::MAX);
        ClusterFacts {
            name: String::new(),
            store: self.health.get(),
            disk_free_basis_points: free(&self.state_dir),
            backup_age_s: backup.newest.map(|(at, _)| now.since(at).as_secs()),
            backup_problem: backup.problem,
            ca_expires_at: Some(WallTime::from_secs(expiry)),
        }
    }
}

/// Ten-thousandths of the disk that are free.
fn free(folder: &std::path::Path) -> Option<u32> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let parts = u128::from(disk.f_bavail) * 10_000;
    u32::try_from(parts.checked_div(u128::from(disk.f_blocks))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_cut_before_it_is_logged() {
        assert_eq!(bounded("550 no such mailbox"), "550 no such mailbox");
        assert_eq!(bounded(&"ü".repeat(100_000)).chars().count(), PROBLEM_CHARS_MAX);
    }
}
