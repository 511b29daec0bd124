//! What `piccolo-nodeagent` does from the command line; everything but `run` works on the board alone.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what the user reads")]

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use piccolo_core::model::{CheckLevel, Finding};
use piccolo_rpc::tls::token::JoinToken;
use piccolo_settings::{Origin, Shown};
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    agent::{self, Files, LocalRequest, StateLock, Taken, ask},
    check,
    config::{
        Config, JoinArguments, Loaded, OutputFormat, RunArguments, SCHEMA, StatusArguments, token,
    },
    logging,
};

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
    let level = logging::start(&config.log_filter())?;
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
pub fn check(loaded: &mut Loaded, arguments: &StatusArguments) -> Result<ExitCode> {
    let findings = runtime()?.block_on(check::findings(&loaded.config));
    match arguments.output {
        OutputFormat::Json => {
            let findings: Vec<_> = findings.iter().map(finding).collect();
            let settings: Vec<_> = SCHEMA.show(loaded).into_iter().map(setting).collect();
            let all = json!({ "findings": findings, "settings": settings });
            print(&all, OutputFormat::Json);
        }
        OutputFormat::Text => {
            table(&findings);
            settings(loaded);
        }
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(ExitCode::from(match worst {
        None | Some(CheckLevel::Ok) => 0,
        Some(CheckLevel::Warning) => 1,
        Some(CheckLevel::Error) => 2,
    }))
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

fn finding(finding: &Finding) -> Value {
    let Finding { name, level, value, limit, remedy } = finding;
    json!({
        "name": name, "level": level.name(), "value": value, "limit": limit, "remedy": remedy,
    })
}

/// A line for each, and below it what to do. What comes from outside must not steer a terminal.
fn table(findings: &[Finding]) {
    println!("{:<8} {:<28} {:<36} LIMIT", "LEVEL", "CHECK", "FOUND");
    for Finding { name, level, value, limit, remedy } in findings {
        let [name, value, limit, remedy] =
            [name, value, limit, remedy].map(|text| text.replace(char::is_control, "?"));
        let line = format!("{:<8} {name:<28} {value:<36} {limit}", level.name());
        println!("{}", line.trim_end());
        if !remedy.is_empty() {
            println!("{:<8} remedy: {remedy}", "");
        }
    }
}

fn setting((key, value, from): (&str, Shown, Option<Origin>)) -> Value {
    let from = from.map_or_else(|| "default".into(), |from| from.to_string());
    json!({ "key": key, "value": value.to_string(), "from": from })
}

/// What somebody has set, and that the rest is as it comes.
fn settings(loaded: &mut Loaded) {
    let (given, default): (Vec<_>, Vec<_>) =
        SCHEMA.show(loaded).into_iter().partition(|(.., from)| from.is_some());
    println!("\n{:<37} {:<36} FROM", "SETTING", "VALUE");
    for (key, value, from) in given {
        let value = value.to_string().replace(char::is_control, "?");
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        println!("{key:<37} {value:<36} {from}");
    }
    println!("{} more are at their defaults; `-o json` shows them too", default.len());
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
