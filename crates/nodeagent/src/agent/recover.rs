//! Steps of recovery, and what a probe proves: performed beside the loop, each within its time.
//!
//! What is to be done the core has decided. Here it is looked at closely once more, because a picture is a
//! moment old, and because what people or systemd have stopped stays so.

use std::{path::PathBuf, process::Stdio, time::Duration};

use piccolo_core::{
    action_controller::recovery::{Failure, Outcome, Step},
    model::ProbePart,
    node_agent::recover::{Ended, handled_elsewhere, stopped_units, why_no_reboot},
};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{Done, Shell};
use crate::{
    durable, podman,
    system::{Roots, up_for},
};

/// For systemd to have restarted Podman; below the time after which the attempt counts as failed.
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(50);
/// For systemd to end this process too; below the time after which the attempt counts as failed.
const GOES_DOWN_WITHIN: Duration = Duration::from_secs(290);
/// For each part of a probe.
const PROOF_LIMIT: Duration = Duration::from_secs(5);
/// For a container to end by itself before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// From this one on Podman tells who stopped a container.
const TELLS_WHO_STOPPED: u32 = 5;

impl Shell {
    pub(super) fn recover(&mut self, failure: Failure, step: Step, forced: bool) {
        let client = self.podman_client.clone();
        let version = match self.podman.as_ref().map(|podman| podman.current().runtime.clone()) {
            Some(podman::Runtime::Up { version }) => version,
            Some(podman::Runtime::Unknown | podman::Runtime::Down { .. }) | None => String::new(),
        };
        let units = self.config.recovery.podman_units.clone();
        let counted = self.ledger_saved;
        self.tasks.spawn(async move {
            let result = match (step, &failure, client) {
                (Step::RestartContainer, Failure::Container(name), Some(client)) => {
                    restart_container(&client, name, &version, forced).await
                }
                (Step::RestartPodman, ..) => restart_podman(&units, forced).await,
                (Step::Reboot, ..) => reboot(&failure, counted || forced).await,
                (step, ..) => Err(format!("{} cannot be done here", step.name())),
            };
            Done::Recovered { failure, outcome: result.unwrap_or_else(Outcome::Failed) }
        });
    }

    pub(super) fn prove(&mut self, id: String) {
        let client = self.podman_client.clone();
        let file = self.config.state_dir.join("probe");
        self.tasks.spawn(async move {
            let mut parts = Vec::new();
            if let Some(client) = client {
                let client = client.with_call_limit(PROOF_LIMIT);
                let ping =
                    async { client.ping().await.map(drop).map_err(|error| error.to_string()) };
                parts.push(part("podman", ping).await);
            }
            parts.push(part("disk", write(file)).await);
            Done::Proved { id, parts }
        });
    }
}

async fn restart_container(
    client: &podman::Client,
    name: &str,
    version: &str,
    forced: bool,
) -> Result<Outcome, String> {
    let result = if forced {
        client.restart(name, STOP_GRACE).await
    } else {
        let seen = client.inspect(name).await.map_err(|error| error.to_string())?;
        if let Some(why) = handled_elsewhere(&ended(seen, version)) {
            return Ok(Outcome::LeftAlone(why));
        }
        client.start(name).await
    };
    result.map(|()| Outcome::Done).map_err(|error| error.to_string())
}

fn ended(seen: podman::Inspected, version: &str) -> Ended {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    Ended {
        running: seen.pid.is_some(),
        exit_code: seen.exit_code.unwrap_or_default(),
        out_of_memory: seen.oom_killed,
        stopped_by_user: seen.stopped_by_user,
        tells_who_stopped: major.is_some_and(|major| major >= TELLS_WHO_STOPPED),
        podman_policy: seen.restart_policy,
        unit: seen.systemd_unit,
    }
}

async fn restart_podman(units: &[String], forced: bool) -> Result<Outcome, String> {
    let with = |verb| [verb].into_iter().chain(units.iter().map(String::as_str));
    if !forced {
        let show = ["show", "--property=ActiveState", "--value"].into_iter();
        let states = show.chain(units.iter().map(String::as_str)).collect::<Vec<_>>();
        let states = systemctl(&states).await?;
        if let Some(why) = stopped_units(states.split_whitespace()) {
            return Ok(Outcome::LeftAlone(why));
        }
    }
    // one that has failed too often is not started before it is forgiven
    let _ = systemctl(&with("reset-failed").collect::<Vec<_>>()).await;
    systemctl(&with("restart").collect::<Vec<_>>()).await.map(|_| Outcome::Done)
}

/// A reboot that comes about is told of by the agent's next life.
async fn reboot(failure: &Failure, counted: bool) -> Result<Outcome, String> {
    if let Some(why) = why_no_reboot(failure, counted, up_for(&Roots::default())) {
        return Err(why);
    }
    systemctl(&["reboot"]).await?;
    sleep(GOES_DOWN_WITHIN).await;
    Err(format!("the node is still up after {} s", GOES_DOWN_WITHIN.as_secs()))
}

/// What it prints; else its own words.
async fn systemctl(arguments: &[&str]) -> Result<String, String> {
    let child =
        Command::new("systemctl").args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(SYSTEMCTL_LIMIT, child).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("systemctl cannot be started: {error}")),
        Err(_) => return Err(format!("systemctl took more than {} s", SYSTEMCTL_LIMIT.as_secs())),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("systemctl: {}", text(&output.stderr)))
}

async fn part(name: &str, proof: impl Future<Output = Result<(), String>>) -> ProbePart {
    let since = Instant::now();
    let late = || Err(format!("no answer within {} s", PROOF_LIMIT.as_secs()));
    let result = timeout(PROOF_LIMIT, proof).await.unwrap_or_else(|_| late());
    ProbePart {
        name: name.to_owned(),
        ok: result.is_ok(),
        took_ms: u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX),
        problem: result.err().unwrap_or_default(),
    }
}

/// A write that is on the disk when it returns. One that hangs holds up a thread, and nothing else.
async fn write(file: PathBuf) -> Result<(), String> {
    let write = move || durable::replace(&file, &[b"proof\n"]).map_err(|error| error.to_string());
    tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(error.to_string()))
}
