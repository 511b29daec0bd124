//! What `piccolo-nodeagent` does from the command line; everything but `run` works on the board alone.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what the user reads")]

use std::{io, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use piccolo_rpc::tls::{
    clock::Clock,
    connector::{ClientOptions, Connector, Trust},
    token::JoinToken,
};
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    agent::{self, Files, LocalRequest, StateLock, Taken, ask},
    config::{Config, JoinArguments, OutputFormat, RunArguments, StatusArguments, token},
    logging,
    podman::Client,
};

/// For each master to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// The agent cannot start, or another one runs in this state folder.
pub fn run(config: Config, arguments: &RunArguments) -> Result<ExitCode> {
    let files = Files::open(&config.state_dir)?;
    let lock = StateLock::take(&config.state_dir)?;
    if let Some(file) = &arguments.token_file {
        // on the second start the node has joined, and the token is no longer needed
        if files.identity()?.is_none() {
            files.save_token(&parse(&token::read(Some(file))?)?)?;
        }
    }
    let filter = tracing::level_filters::LevelFilter::from(config.log_level).to_string();
    let level = logging::start(&filter)?;
    runtime()?.block_on(async move {
        let (stop, stopped) = mpsc::channel(1);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = stop.send(()).await;
        });
        agent::run(config, &lock, Box::new(move |filter| level.set(filter)), stopped).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the running agent says of itself.
///
/// # Errors
/// No agent answers.
pub fn status(config: &Config, arguments: &StatusArguments) -> Result<ExitCode> {
    let status = runtime()?.block_on(ask(&config.control_socket, &LocalRequest::Status))?;
    print(&status, arguments.output);
    Ok(ExitCode::SUCCESS)
}

/// Leaves the cluster for good; containers go on. Only a free lock says that no agent runs: one that does
/// not answer may go on any moment, and nothing is taken away beneath it.
///
/// # Errors
/// An agent runs and does not answer, or the state folder cannot be changed.
pub fn leave(config: &Config) -> Result<ExitCode> {
    let files = Files::open(&config.state_dir)?;
    match StateLock::ask(&config.state_dir)? {
        Taken::HeldBy(owner) => {
            runtime()?
                .block_on(ask(&config.control_socket, &LocalRequest::Leave))
                .with_context(|| {
                    format!(
                        "the agent ({owner}) runs and was not heard to leave; nothing was removed: stop it \
                         (systemctl stop piccolo-nodeagent) and try again"
                    )
                })?;
            println!("the node has left its cluster; its containers go on");
        }
        Taken::Ours(_lock) => {
            files.forget_membership()?;
            println!("no agent is running: the identity of this node was removed");
            println!("the master still lists it: piccolo node remove NODE");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a token where the agent finds it.
///
/// # Errors
/// There is no token, or the node has joined already.
pub fn join(config: &Config, arguments: &JoinArguments) -> Result<ExitCode> {
    let token = parse(&token::read(arguments.token_file.as_deref())?)?;
    let files = Files::open(&config.state_dir)?;
    if let Some(identity) = files.identity()? {
        anyhow::bail!(
            "this node is {} of cluster {} already; leave it first: piccolo-nodeagent leave",
            identity.name().id,
            identity.name().cluster_id
        );
    }
    files.save_token(&token)?;
    match StateLock::ask(&config.state_dir)? {
        Taken::Ours(_lock) => println!("the token is in place; the agent joins when it is started"),
        Taken::HeldBy(owner) => {
            runtime()?
                .block_on(ask(&config.control_socket, &LocalRequest::TokenArrived))
                .with_context(|| {
                    format!(
                        "the token is in place, but the agent ({owner}) was not told: start it again \
                         (systemctl restart piccolo-nodeagent)"
                    )
                })?;
            println!("the agent joins now: piccolo-nodeagent status");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the agent could work here; 0 where all is well, 1 with warnings, 2 with errors.
///
/// # Errors
/// A runtime cannot be made.
pub fn check(config: &Config, arguments: &StatusArguments) -> Result<ExitCode> {
    let findings = runtime()?.block_on(findings(config));
    match arguments.output {
        OutputFormat::Json => print(&json!({ "findings": findings }), OutputFormat::Json),
        OutputFormat::Text => {
            for finding in &findings {
                let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
                println!("{:<8} {:<16} {}", text("level"), text("what"), text("found"));
            }
        }
    }
    let has = |level: &str| findings.iter().any(|finding| finding["level"] == level);
    Ok(ExitCode::from(if has("error") { 2 } else { u8::from(has("warning")) }))
}

/// # Errors
/// Never.
pub fn version() -> Result<ExitCode> {
    println!("piccolo-nodeagent {}", env!("CARGO_PKG_VERSION"));
    Ok(ExitCode::SUCCESS)
}

/// `error: ... / cause: ...`, and exit code 1.
#[must_use]
pub fn complain(error: &anyhow::Error) -> ExitCode {
    let mut chain = error.chain();
    if let Some(first) = chain.next() {
        eprintln!("error: {first}");
    }
    for cause in chain {
        eprintln!("cause: {cause}");
    }
    ExitCode::FAILURE
}

async fn findings(config: &Config) -> Vec<Value> {
    let mut findings = Vec::new();
    let mut add = |level: &str, what: &str, found: String| {
        findings.push(json!({ "level": level, "what": what, "found": found }));
    };
    let identity =
        Files::open(&config.state_dir).and_then(|files| Ok((files.identity()?, files.token()?)));
    let clock = Clock::default();
    let mut trust = None;
    match identity {
        Err(error) => add("error", "state folder", format!("{error:#}")),
        Ok((Some(identity), _)) if identity.name().expired_at(clock.now()) => {
            add(
                "warning",
                "identity",
                "the certificate has expired; it is issued again at the next contact".to_owned(),
            );
            trust = Some(Trust::of(&identity));
        }
        Ok((Some(identity), _)) => {
            let name = identity.name();
            add("ok", "identity", format!("{} of cluster {}", name.id, name.cluster_id));
            trust = Some(Trust::of(&identity));
        }
        Ok((None, Some(token))) => {
            add("ok", "identity", "none yet; there is a token to join with".to_owned());
            trust = Some(Trust::Pinned(token.ca_digest()));
        }
        Ok((None, None)) => add(
            "error",
            "identity",
            "neither a certificate nor a token: piccolo-nodeagent join".to_owned(),
        ),
    }
    match &config.podman.socket {
        None => add("ok", "podman", "not used on this node".to_owned()),
        Some(socket) => match Client::new(socket).with_call_limit(CHECK_TIMEOUT).ping().await {
            Ok(version) => add("ok", "podman", format!("version {version}")),
            Err(error) => add("warning", "podman", error.to_string()),
        },
    }
    if config.masters.is_empty() {
        add("error", "masters", "none is configured: set `masters`".to_owned());
    }
    for master in &config.masters {
        let what = format!("master {master}");
        // a master that is away is normal, and no reason not to start
        match (&trust, reach(config, trust.as_ref(), &clock, &master.host, master.port).await) {
            (None, _) => add("warning", &what, "not tried: nothing to know it by".to_owned()),
            (Some(_), Ok(ms)) => add("ok", &what, format!("answers over TLS, {ms} ms")),
            (Some(_), Err(error)) => add("warning", &what, format!("{error:#}")),
        }
    }
    let (level, found) = last_problem(config).await;
    add(level, "agent", found);
    findings
}

/// What went wrong last for the running agent. That none runs is no fault: perhaps it is not started yet.
async fn last_problem(config: &Config) -> (&'static str, String) {
    match ask(&config.control_socket, &LocalRequest::Problem).await {
        Ok(answer) => match (answer["problem"].as_str(), answer["refused"] == true) {
            (None, _) => ("ok", "runs, and nothing is wrong".to_owned()),
            (Some(why), true) => ("error", format!("was refused by the master: {why}")),
            (Some(why), false) => ("warning", format!("its last problem: {why}")),
        },
        Err(error) => match error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                ("ok", error.to_string())
            }
            Some(_) | None => ("error", format!("{error:#}")),
        },
    }
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
        connect_timeout: CHECK_TIMEOUT,
        ..ClientOptions::new(clock.clone())
    };
    let begun = std::time::Instant::now();
    Connector::with_trust(trust, None, options)?.connect(host, port).await?;
    Ok(begun.elapsed().as_millis())
}

fn parse(token: &token::Token) -> Result<JoinToken> {
    Ok(token.reveal().parse::<JoinToken>()?)
}

fn print(value: &Value, format: OutputFormat) {
    match (format, value) {
        (OutputFormat::Text, Value::Object(map)) => {
            for (key, value) in map {
                println!("{:<18} {}", format!("{}:", key.replace('_', " ")), text(value));
            }
        }
        (OutputFormat::Text | OutputFormat::Json, value) => println!("{value:#}"),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| format!("\n  {}", text(item))).collect(),
        Value::Object(map) => {
            let items: Vec<_> = map.iter().map(|(k, v)| format!("{k}={}", text(v))).collect();
            items.join("  ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// One thread: a board pays for each.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .context("the runtime cannot be started")
}
