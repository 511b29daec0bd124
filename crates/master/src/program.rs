//! The program `piccolo-master`: its commands and its end.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Master,
    config::{
        Config, EtcdConfig, StoreConfig,
        cli::{BackupCommand, Cli, Command, Flags, MigrateArgs, StoreCommand},
    },
    logging, startup,
};

/// Threads that serve. One would do for a handful of boards; the second keeps beats on time while thousands of
/// agents come back at once and want their handshakes done.
const WORKERS: usize = 2;
/// Threads for what blocks: name look-ups and opening the store.
const BLOCKING_THREADS_MAX: usize = 2;
/// Bytes of stack of each thread.
const STACK_BYTES: usize = 1024 * 1024;
/// For what still blocks, at the end.
const BLOCKED_END_WITHIN: Duration = Duration::from_secs(2);
/// For etcd to answer somebody who waits at a prompt.
const ETCD_WITHIN: Duration = Duration::from_secs(10);

/// What `main` does.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_piccolo = matches!(cli.command, Some(Command::Backup { .. } | Command::Store { .. }));
    let result = match cli.command.unwrap_or(Command::Run) {
        Command::Run => in_runtime(run(&cli.flags)),
        Command::CheckConfig => in_runtime(check_config(&cli.flags)),
        Command::Store { command: StoreCommand::Migrate(args) } => {
            in_runtime(migrate(&cli.flags, &args))
        }
        Command::Backup { command } => in_runtime(backup(&cli.flags, command)),
        Command::Version => say(&format!("piccolo-master {}\n", env!("CARGO_PKG_VERSION"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = String::new();
            let mut told = String::new();
            for cause in error.chain().map(ToString::to_string) {
                // some sentences end with their cause
                if !told.ends_with(&cause) {
                    let word = if told.is_empty() { "error" } else { "cause" };
                    text += &format!("{word}: {cause}\n");
                }
                told = cause;
            }
            // where nobody reads stderr there is nobody to tell
            std::io::stderr().write_all(text.as_bytes()).ok();
            if as_piccolo { ExitCode::from(exit_of(&error)) } else { ExitCode::FAILURE }
        }
    }
}

/// As `piccolo` ends, which becomes this program for these commands (docs/operations/cli.md).
fn exit_of(error: &anyhow::Error) -> u8 {
    use std::io::ErrorKind;
    const FAILED: u8 = 1;
    const USAGE: u8 = 2;
    const NOT_FOUND: u8 = 3;
    const UNREACHABLE: u8 = 4;
    const DENIED: u8 = 5;
    let of_file = |error: &std::io::Error| {
        let codes = [(ErrorKind::NotFound, NOT_FOUND), (ErrorKind::PermissionDenied, DENIED)];
        codes.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, code)| *code)
    };
    let of_cause = |cause: &(dyn std::error::Error + 'static)| {
        match cause.downcast_ref::<piccolo_store::Error>() {
            Some(piccolo_store::Error::Unavailable { .. }) => return Some(UNREACHABLE),
            Some(piccolo_store::Error::Denied { .. }) => return Some(DENIED),
            Some(piccolo_store::Error::Io { source, .. }) => return of_file(source.as_ref()),
            Some(_) | None => {}
        }
        cause.downcast_ref::<std::io::Error>().and_then(of_file)
    };
    let usage = || error.is::<crate::config::Error>().then_some(USAGE);
    error.chain().find_map(of_cause).or_else(usage).unwrap_or(FAILED)
}

fn in_runtime(future: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(future);
    // what blocks still, such as a question to a name server that is away, was given up by whoever asked it
    runtime.shutdown_timeout(BLOCKED_END_WITHIN);
    ended
}

async fn run(flags: &Flags) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    let log_level = logging::start(&config.log_filter).map_err(anyhow::Error::msg)?;
    allow_many_files();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut master = tokio::select! {
        started = Master::start_with(config, log_level) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let https = master.https_address().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(grpc = %master.address(), https, "the master serves");
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
    tokio::select! {
        error = master.failure() => return Err(error),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
    tracing::info!("the master stops");
    master.stop().await;
    Ok(())
}

/// A session is a file: the usual soft limit of 1024 is not enough for a thousand boards, and the hard one is ours
/// to use.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, limit = limit.current, "the limit of open files stays as it is");
    }
}

async fn check_config(flags: &Flags) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    startup::check(&config)?;
    say(&format!("# the configuration is good; in force is\n{}\n", Config::in_force(flags)?))
}

async fn migrate(flags: &Flags, args: &MigrateArgs) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    if args.wipe {
        let target = open(&config, &args.to, false, true).await.context("the target")?;
        let removed = piccolo_store::wipe_incomplete(target.as_ref()).await?;
        return say(&format!("{removed} keys of an unfinished migration were removed\n"));
    }
    let source = open(&config, &args.from, false, false).await.context("the source")?;
    let target = open(&config, &args.to, true, true).await.context("the target")?;
    let report = piccolo_store::migrate(source.as_ref(), target.as_ref()).await?;
    say(&format!(
        "{} keys, {} bytes were copied and compared\n\
         next: set store.kind in the configuration, and start the master\n",
        report.keys, report.bytes
    ))
}

async fn backup(flags: &Flags, command: BackupCommand) -> anyhow::Result<()> {
    say(&crate::backup::commands::run(Config::load(flags)?, command).await?)
}

async fn open(
    config: &Config,
    store: &str,
    create: bool,
    incomplete: bool,
) -> anyhow::Result<std::sync::Arc<dyn piccolo_store::Store>> {
    let configured = match &config.store {
        StoreConfig::Etcd(etcd) => etcd.clone(),
        StoreConfig::Embedded => EtcdConfig::default(),
    };
    match store.split_once(':').unwrap_or((store, "")) {
        ("embedded", "") => {
            if create {
                startup::make_state_dir(&config.state_dir)?;
            }
            startup::open_embedded(config.store_file(), create, incomplete).await
        }
        ("embedded", file) => startup::open_embedded(file.into(), create, incomplete).await,
        ("etcd", "") => {
            startup::open_etcd(&configured, &config.state_dir, incomplete, Some(ETCD_WITHIN)).await
        }
        ("etcd", urls) => {
            let endpoints = urls.split(',').map(str::to_owned).collect();
            let etcd = EtcdConfig { endpoints, ..configured };
            startup::open_etcd(&etcd, &config.state_dir, incomplete, Some(ETCD_WITHIN)).await
        }
        _ => anyhow::bail!(
            "{store:?} is no store; expected embedded, embedded:FILE, etcd or etcd:URL[,URL...]"
        ),
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::io::{Error as Io, ErrorKind};

    use piccolo_store::Error as Store;

    use super::*;

    #[test]
    fn the_exit_code_says_what_kept_it_from_being_done_however_deep_that_lies() {
        let store = || "etcd".to_owned();
        let io = |kind| anyhow::Error::new(Io::from(kind)).context("the backup cannot be read");
        for (error, code) in [
            (anyhow::anyhow!("the passphrase is wrong"), 1),
            (io(ErrorKind::AddrInUse), 1),
            (io(ErrorKind::NotFound), 3),
            (Store::Unavailable { store: store(), cause: String::new() }.into(), 4),
            (anyhow::Error::new(Store::Denied { problem: String::new() }).context("etcd"), 5),
            (io(ErrorKind::PermissionDenied), 5),
        ] {
            assert_eq!(exit_of(&error), code, "{error:#}");
        }
    }
}
