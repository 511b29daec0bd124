//! What `piccolo-nodeagent` does from the command line; everything but `run` works on the board alone.

use std::{
    fmt::Write as _,
    io::{ErrorKind, Write as _},
    process::ExitCode,
    time::Duration,
};

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
    tell(&shown(&status, arguments.output))?;
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
            tell("the node has left its cluster; its containers go on\n")?;
        }
        Taken::Ours(_lock) => {
            let was_member = !matches!(files.identity(), Ok(None));
            files.forget_membership()?;
            tell(if was_member {
                "no agent is running: the identity of this node was removed\n\
                 the master still lists it: piccolo node remove NODE\n"
            } else {
                "no agent is running, and this node belongs to no cluster: it had no identity\n"
            })?;
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
        Taken::Ours(_lock) => tell("the token is in place; the agent joins when it is started\n")?,
        Taken::HeldBy(owner) => {
            runtime()?
                .block_on(ask(&config.control_socket, &LocalRequest::TokenArrived))
                .with_context(|| {
                    format!(
                        "the token is in place, but the agent ({owner}) was not told: start it again \
                         (systemctl restart piccolo-nodeagent)"
                    )
                })?;
            tell("the agent joins now: piccolo-nodeagent status\n")?;
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
            tell(&shown(&all, OutputFormat::Json))?;
        }
        OutputFormat::Text => {
            tell(&(table(&findings) + &settings(loaded)))?;
        }
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(ExitCode::from(match worst {
        None | Some(CheckLevel::Ok) => 0,
        Some(CheckLevel::Warning) => 1,
        Some(CheckLevel::Error) => 2,
    }))
}

/// That it was loaded says that it is good: nothing of the board is looked at.
///
/// # Errors
/// It cannot be written.
pub fn check_config(loaded: &mut Loaded) -> Result<ExitCode> {
    let settings = SCHEMA.to_yaml(loaded);
    tell(&format!("# the configuration is good; in force is\n{settings}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// It cannot be written.
pub fn version() -> Result<ExitCode> {
    tell(concat!("piccolo-nodeagent ", env!("CARGO_PKG_VERSION"), "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// `error: ... / cause: ...`, and exit code 1.
#[must_use]
pub fn complain(error: &anyhow::Error) -> ExitCode {
    let mut chain = error.chain();
    if let Some(first) = chain.next() {
        say(&format!("error: {first}"));
    }
    for cause in chain {
        say(&format!("cause: {cause}"));
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
fn table(findings: &[Finding]) -> String {
    let mut table = format!("{:<8} {:<28} {:<36} LIMIT\n", "LEVEL", "CHECK", "FOUND");
    for Finding { name, level, value, limit, remedy } in findings {
        let [name, value, limit, remedy] =
            [name, value, limit, remedy].map(|text| text.replace(char::is_control, "?"));
        let line = format!("{:<8} {name:<28} {value:<36} {limit}", level.name());
        let _ = writeln!(table, "{}", line.trim_end());
        if !remedy.is_empty() {
            let _ = writeln!(table, "{:<8} remedy: {remedy}", "");
        }
    }
    table
}

fn setting((key, value, from): (&str, Shown, Option<Origin>)) -> Value {
    let from = from.map_or_else(|| "default".into(), |from| from.to_string());
    json!({ "key": key, "value": value.to_string(), "from": from })
}

/// What somebody has set, and that the rest is as it comes.
fn settings(loaded: &mut Loaded) -> String {
    let (given, default): (Vec<_>, Vec<_>) =
        SCHEMA.show(loaded).into_iter().partition(|(.., from)| from.is_some());
    let mut table = format!("\n{:<37} {:<36} FROM\n", "SETTING", "VALUE");
    for (key, value, from) in given {
        let value = value.to_string().replace(char::is_control, "?");
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        let _ = writeln!(table, "{key:<37} {value:<36} {from}");
    }
    let rest = default.len();
    let _ = writeln!(table, "{rest} more are at their defaults; `-o json` shows them too");
    table
}

fn parse(token: &token::Token) -> Result<JoinToken> {
    Ok(token.reveal().parse::<JoinToken>()?)
}

fn shown(value: &Value, format: OutputFormat) -> String {
    match (format, value) {
        (OutputFormat::Text, Value::Object(map)) => {
            let line = |(key, value): (&String, &Value)| {
                format!("{:<18} {}\n", format!("{}:", key.replace('_', " ")), text(value))
            };
            map.iter().map(line).collect()
        }
        (OutputFormat::Text | OutputFormat::Json, value) => format!("{value:#}\n"),
    }
}

/// On stdout. A reader that went away has seen enough.
fn tell(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the output could not be written")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A line on stderr, lost where nobody reads it.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
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
