//! `piccolo-master backup ...`, which `piccolo backup` runs.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use piccolo_core::state_manager::keys;
use piccolo_store::{EmbeddedOptions, EmbeddedStore, Store};
use tokio::runtime::Handle;

use super::{
    create::{Made, Source},
    now_ms, passphrase,
    progress::Progress,
    restore::{self, Restored},
    survey::{self, Survey},
};
use crate::{
    config::{
        Config, StoreConfig,
        cli::{BackupCommand, CreateArgs, OutputFormat, ReadArgs, RebuildArgs, RestoreArgs},
    },
    startup,
};

const READING: &str = "reading the backup";
/// For etcd to answer somebody who waits at a prompt.
pub(super) const ETCD_WITHIN: Duration = Duration::from_secs(10);

/// Does it, and returns what to print.
pub(crate) async fn run(config: Config, command: BackupCommand) -> anyhow::Result<String> {
    let runtime = Handle::current();
    // reads files, asks at the terminal, and makes a key that is slow on purpose
    let work = move || match command {
        BackupCommand::Create(args) => create(&config, &args, &runtime),
        BackupCommand::Inspect(args) => inspect(&args),
        BackupCommand::Verify(args) => verify(&args),
        BackupCommand::Restore(args) => restore(&config, &args, &runtime),
        BackupCommand::Rebuild(args) => rebuild(&config, &args, &runtime),
    };
    tokio::task::spawn_blocking(work).await?
}

fn create(config: &Config, args: &CreateArgs, runtime: &Handle) -> anyhow::Result<String> {
    let store = open(config, runtime)?;
    let passphrase = passphrase::read(args.passphrase.passphrase_file.as_deref(), true)?;
    // a machine without a clock thinks that it is 1970, and its master knows better
    let (heard, _) = runtime.block_on(piccolo_store::list(store.as_ref(), keys::HEARTBEATS))?;
    let floor = i64::try_from(startup::clock_floor(&heard)).unwrap_or(0) * 1000;
    let source = Source {
        store,
        state_dir: config.state_dir.clone(),
        configuration: config.written.clone(),
        at_ms: now_ms().max(floor),
        host: startup::host_name(),
    };
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("."));
    let _shown = Progress::of("writing the backup");
    let Made { path, bytes, revision, items } = source.write(&out, &passphrase, runtime)?;
    Ok(format!(
        "{}: {items} keys at revision {revision}, {bytes} bytes\n\
         next: piccolo backup verify {0}, and keep it, and the passphrase, on another machine\n",
        path.display()
    ))
}

/// Beside the master where one runs.
fn open(config: &Config, runtime: &Handle) -> anyhow::Result<Arc<dyn Store>> {
    match &config.store {
        StoreConfig::Etcd(etcd) => {
            runtime.block_on(startup::open_etcd(etcd, &config.state_dir, false, Some(ETCD_WITHIN)))
        }
        StoreConfig::Embedded => {
            super::finish(&config.state_dir).context("a restore cannot be finished")?;
            let path = config.store_file();
            match EmbeddedStore::open(EmbeddedOptions::new(&path)) {
                Ok(store) => Ok(Arc::new(store)),
                Err(piccolo_store::Error::Locked { .. }) => {
                    let options = EmbeddedOptions::new(path).beside_master();
                    Ok(Arc::new(EmbeddedStore::open(options)?))
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

fn inspect(args: &ReadArgs) -> anyhow::Result<String> {
    let passphrase = passphrase::read(args.passphrase.passphrase_file.as_deref(), false)?;
    let _shown = Progress::of(READING);
    shown(&survey::inspect(&args.file, &passphrase)?, args.output)
}

fn verify(args: &ReadArgs) -> anyhow::Result<String> {
    let passphrase = passphrase::read(args.passphrase.passphrase_file.as_deref(), false)?;
    let _shown = Progress::of(READING);
    let survey = survey::verify(&args.file, &passphrase)?;
    Ok(match args.output {
        OutputFormat::Table => format!(
            "{} is whole and can be restored: {}; the audit log is intact\n",
            survey.file,
            summary(&survey)
        ),
        OutputFormat::Json | OutputFormat::Yaml => shown(&survey, args.output)?,
    })
}

fn restore(config: &Config, args: &RestoreArgs, runtime: &Handle) -> anyhow::Result<String> {
    let passphrase = passphrase::read(args.passphrase.passphrase_file.as_deref(), false)?;
    let _shown = Progress::of("restoring the backup");
    let restored = restore::restore(config, &args.file, &passphrase, args.force, runtime)?;
    Ok(told(config, &restored))
}

fn rebuild(config: &Config, args: &RebuildArgs, runtime: &Handle) -> anyhow::Result<String> {
    let _shown = Progress::of("making the new master");
    let restored = restore::rebuild(config, &args.authority, args.force, runtime)?;
    Ok(told(config, &restored))
}

fn told(config: &Config, restored: &Restored) -> String {
    let folder = config.state_dir.display();
    let mut text = match &restored.survey {
        Some(survey) => format!(
            "restored into {folder}: cluster {}, as it was at {}: {}\n\
             not restored: {} join tokens; make new ones\n\
             forgotten: whatever was changed since then; look at nodes and users that were removed in the meantime\n",
            survey.cluster_id,
            survey.created_at,
            summary(survey),
            survey.tokens
        ),
        None => format!(
            "a new master of the same certificate authority is ready in {folder}; nodes that the authority knows are \
             taken in as they come\n"
        ),
    };
    if let Some(old) = &restored.old {
        writeln!(text, "the old state is kept in {}", old.display()).ok();
    }
    if let Some(path) = &restored.configuration {
        writeln!(text, "the old master's configuration is in {}", path.display()).ok();
    }
    text + "next: start the master (systemctl start piccolo-master), then piccolo doctor\n"
}

fn summary(survey: &Survey) -> String {
    let Survey { nodes, users, events, audit_entries, .. } = survey;
    format!("{nodes} nodes, {users} users, {events} events, {audit_entries} audit entries")
}

fn shown(survey: &Survey, format: OutputFormat) -> anyhow::Result<String> {
    Ok(match format {
        OutputFormat::Json => serde_json::to_string_pretty(survey)? + "\n",
        OutputFormat::Yaml => serde_saphyr::to_string(survey)?,
        OutputFormat::Table => table(survey),
    })
}

fn table(survey: &Survey) -> String {
    let Survey { cluster_name, cluster_id, .. } = survey;
    let rows = [
        ("Cluster", format!("{cluster_name} ({cluster_id})")),
        (
            "Made",
            format!("{} on {}, by version {}", survey.created_at, survey.host, survey.version),
        ),
        ("Format", survey.format.to_string()),
        ("Store", format!("{}, revision {}", survey.store, survey.revision)),
        ("Generation", survey.generation.to_string()),
        ("Nodes", survey.nodes.to_string()),
        ("Users", survey.users.to_string()),
        ("Tokens", format!("{} (are not restored)", survey.tokens)),
        ("Events", survey.events.to_string()),
        ("Audit", format!("{} entries", survey.audit_entries)),
        ("Files", survey.files.join(", ")),
        ("Size", format!("{} bytes", survey.size_bytes)),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        writeln!(text, "{:<12}{value}", format!("{name}:")).ok();
    }
    text
}
