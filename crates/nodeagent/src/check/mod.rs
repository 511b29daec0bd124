//! `piccolo-nodeagent check`: what the agent needs, and what the release's system check finds, in one list.

pub mod script;

use std::{io, time::Duration};

use anyhow::{Context, Result};
use piccolo_core::model::{CheckLevel, Finding};
use piccolo_rpc::tls::{
    clock::Clock,
    connector::{ClientOptions, Connector, Trust},
};

use crate::{
    agent::{Files, LocalRequest, ask},
    config::Config,
    podman::Client,
};

/// For each master to answer.
const MASTER_TIMEOUT: Duration = Duration::from_secs(3);

/// Everything that can be found on this board.
pub async fn findings(config: &Config) -> Vec<Finding> {
    let clock = Clock::default();
    let mut findings = Vec::new();
    let (found, trust) = identity(config, &clock);
    findings.push(found);
    findings.push(podman(config).await);
    findings.extend(masters(config, trust.as_ref(), &clock).await);
    findings.push(last_problem(config).await);
    findings.extend(system(config).await);
    findings
}

fn finding(level: CheckLevel, name: &str, value: String, remedy: &str) -> Finding {
    let (name, limit, remedy) = (name.to_owned(), String::new(), remedy.to_owned());
    Finding { name, level, value, limit, remedy }
}

/// And by what a master can be known.
fn identity(config: &Config, clock: &Clock) -> (Finding, Option<Trust>) {
    let files =
        Files::open(&config.state_dir).and_then(|files| Ok((files.identity()?, files.token()?)));
    match files {
        Err(error) => {
            let remedy = "look at its owner and mode, or run this as root";
            (finding(CheckLevel::Error, "state folder", format!("{error:#}"), remedy), None)
        }
        Ok((Some(identity), _)) => {
            let name = identity.name();
            let member = format!("{} of cluster {}", name.id, name.cluster_id);
            let found = if name.expired_at(clock.now()) {
                let value = format!("{member}; the certificate has expired");
                let remedy = "none is needed: it is issued again at the next contact";
                finding(CheckLevel::Warning, "identity", value, remedy)
            } else {
                finding(CheckLevel::Ok, "identity", member, "")
            };
            (found, Some(Trust::of(&identity)))
        }
        Ok((None, Some(token))) => {
            let value = "none yet; there is a token to join with".to_owned();
            let trust = Trust::Pinned(token.ca_digest());
            (finding(CheckLevel::Ok, "identity", value, ""), Some(trust))
        }
        Ok((None, None)) => {
            let value = "neither a certificate nor a token".to_owned();
            (finding(CheckLevel::Error, "identity", value, "piccolo-nodeagent join"), None)
        }
    }
}

async fn podman(config: &Config) -> Finding {
    let name = "podman service";
    let Some(socket) = &config.podman.socket else {
        return finding(CheckLevel::Ok, name, "not used on this node".to_owned(), "");
    };
    match Client::new(socket).with_call_limit(MASTER_TIMEOUT).ping().await {
        Ok(version) => finding(CheckLevel::Ok, name, format!("version {version}"), ""),
        Err(error) => {
            let remedy = "systemctl enable --now podman.socket";
            finding(CheckLevel::Warning, name, error.to_string(), remedy)
        }
    }
}

async fn masters(config: &Config, trust: Option<&Trust>, clock: &Clock) -> Vec<Finding> {
    if config.masters.is_empty() {
        let value = "none is configured".to_owned();
        return vec![finding(CheckLevel::Error, "masters", value, "set `masters`")];
    }
    let mut findings = Vec::new();
    for master in &config.masters {
        let name = format!("master {master} over TLS");
        // a master that is away is normal, and no reason not to start
        findings.push(
            match (trust, reach(config, trust, clock, &master.host, master.port).await) {
                (None, _) => {
                    let value = "not tried: nothing to know it by".to_owned();
                    finding(CheckLevel::Warning, &name, value, "piccolo-nodeagent join")
                }
                (Some(_), Ok(ms)) => {
                    finding(CheckLevel::Ok, &name, format!("answers, {ms} ms"), "")
                }
                (Some(_), Err(error)) => {
                    let remedy = "the agent tries again by itself; see docs/operations";
                    finding(CheckLevel::Warning, &name, format!("{error:#}"), remedy)
                }
            },
        );
    }
    findings
}

async fn reach(
    config: &Config,
    trust: Option<&Trust>,
    clock: &Clock,
    host: &str,
    port: u16,
) -> Result<u128> {
    let trust = trust.context("nothing to know it by")?;
    let options = ClientOptions {
        source: config.bind_address,
        connect_timeout: MASTER_TIMEOUT,
        ..ClientOptions::new(clock.clone())
    };
    let begun = std::time::Instant::now();
    Connector::with_trust(trust, None, options)?.connect(host, port).await?;
    Ok(begun.elapsed().as_millis())
}

/// What went wrong last for the running agent. That none runs is no fault: perhaps it is not started yet.
async fn last_problem(config: &Config) -> Finding {
    let name = "agent";
    match ask(&config.control_socket, &LocalRequest::Problem).await {
        Ok(answer) => match (answer["problem"].as_str(), answer["refused"] == true) {
            (None, _) => finding(CheckLevel::Ok, name, "runs, and nothing is wrong".to_owned(), ""),
            (Some(why), true) => {
                let value = format!("was refused by the master: {why}");
                finding(CheckLevel::Error, name, value, "see docs/operations/troubleshooting.md")
            }
            (Some(why), false) => {
                let remedy = "the agent tries again by itself; see docs/operations";
                finding(CheckLevel::Warning, name, format!("its last problem: {why}"), remedy)
            }
        },
        Err(error) => match error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                finding(CheckLevel::Ok, name, error.to_string(), "")
            }
            Some(_) | None => {
                let remedy = "run this as root, and see journalctl -u piccolo-nodeagent";
                finding(CheckLevel::Error, name, format!("{error:#}"), remedy)
            }
        },
    }
}

/// That there is no system check is no fault: an agent may be run without being installed.
async fn system(config: &Config) -> Vec<Finding> {
    match script::find(config) {
        Some(program) => script::run(&program, &script::arguments(config, true)).await.findings,
        None => {
            let value = "not there: only the agent's own checks were made".to_owned();
            vec![finding(CheckLevel::Ok, "system_check", value, "")]
        }
    }
}
