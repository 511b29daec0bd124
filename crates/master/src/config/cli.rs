//! The command line of `piccolo-master`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use piccolo_core::{model::NodeName, state_manager::Approval, topology::Readiness};
use piccolo_rpc::tls::MinVersion;

use piccolo_settings::{
    Loaded, by,
    value::{AnyPath, HostPort, Name, OrNone, Span},
};

use super::settings::{
    ADDRESS, APPROVAL, Advertised, ClusterId, LogFilter, READINESS, SCHEMA, STORE, StoreKind,
    TLS_VERSION, Written,
};

/// The PICCOLO master: one process with everything that a cluster needs.
#[derive(Debug, Clone, Parser)]
#[command(name = "piccolo-master", version, disable_help_subcommand = true)]
#[command(after_long_help = SCHEMA.environment_help())]
pub struct Cli {
    /// What to do; `run` if left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub flags: Flags,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run the master (the default).
    Run,
    /// Check the configuration, and show the settings in force.
    CheckConfig,
    /// Work on the store. Stop the master first.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Back the master up, and put a backup in place.
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Show the version.
    Version,
}

#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Move the cluster's state from one store to another, and compare both afterwards
    ///
    /// A store is `embedded` (the file in the state folder), `embedded:FILE`, `etcd` (as configured), or
    /// `etcd:URL[,URL...]` (with the certificates and the user of the configuration).
    Migrate(MigrateArgs),
}

#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// The store to read; it is not changed.
    #[arg(long, value_name = "STORE")]
    pub from: String,
    /// The store to fill; it must be empty.
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// Empty a target that an unfinished migration has left behind, and copy nothing.
    #[arg(long)]
    pub wipe: bool,
}

const CREATE_EXAMPLES: &str = "Examples:
  piccolo backup create --out /mnt/usb                          # asks for the passphrase
  piccolo backup create --passphrase-file /etc/piccolo/backup.passphrase
  pass show piccolo | piccolo backup create --passphrase-file - --out piccolo.backup";
const READ_EXAMPLES: &str = "Examples:
  piccolo backup inspect piccolo.backup
  piccolo backup verify piccolo.backup --passphrase-file /etc/piccolo/backup.passphrase
  piccolo backup inspect piccolo.backup -o json";
const RESTORE_EXAMPLES: &str = "Examples:
  piccolo backup restore piccolo.backup                         # into an empty state folder
  piccolo backup restore piccolo.backup --force                 # keeps the old state beside it";
const REBUILD_EXAMPLES: &str = "Examples:
  piccolo backup rebuild --authority /mnt/old-disk/ca.pem";

#[derive(Debug, Clone, Subcommand)]
pub enum BackupCommand {
    /// Write state, certificate authority, seal key and configuration into one sealed file
    ///
    /// On the master's machine, as its user or root; the master may run meanwhile. Everything is as it was at one
    /// revision.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// Show what a backup holds
    #[command(after_help = READ_EXAMPLES)]
    Inspect(ReadArgs),
    /// Read a backup from end to end, and check that it could be restored
    ///
    /// Its state is read as a master reads it when it starts, every secret is opened, and the audit log is
    /// verified. Exit code 1 where anything is wrong.
    #[command(after_help = READ_EXAMPLES)]
    Verify(ReadArgs),
    /// Put a backup in place of this machine's master
    ///
    /// The master must not run. Killed at any moment it leaves the old state or the new one. Nodes come back without
    /// a join; join tokens are not restored.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
    /// Begin a new master with nothing but the old one's certificate authority
    ///
    /// Nodes with a certificate of that authority are taken in as they come. Users, labels, tokens, topology and
    /// logs are lost.
    #[command(after_help = REBUILD_EXAMPLES)]
    Rebuild(RebuildArgs),
}

#[derive(Debug, Clone, Args)]
pub struct PassphraseArgs {
    /// A file with the passphrase in its first line, mode 0600; `-` for standard input [default: ask at the terminal]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// The file to write, or the folder to write it into [default: the current folder]
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// How to show it
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Replace a master that is there; its state is kept beside the new one
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

#[derive(Debug, Clone, Args)]
pub struct RebuildArgs {
    /// The old master's ca.pem, with its key
    #[arg(long, value_name = "FILE")]
    pub authority: PathBuf,
    /// Replace a master that is there; its state is kept beside the new one
    #[arg(long)]
    pub force: bool,
}

/// Settings of the command line. They override the environment and the file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// The configuration file [default: /etc/piccolo/master.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keys, certificates and the embedded store [default: /var/lib/piccolo/master]
    #[arg(long, global = true, value_name = "DIR", value_parser = by(AnyPath))]
    pub state_dir: Option<PathBuf>,
    /// Where agents and people connect [default: 0.0.0.0:47098]
    #[arg(long, global = true, value_name = "ADDRESS:PORT", value_parser = by(ADDRESS))]
    pub listen: Option<SocketAddr>,
    /// For /metrics and /healthz; `none` for no such port [default: 0.0.0.0:47099]
    #[arg(long, global = true, value_name = "ADDRESS:PORT", value_parser = by(OrNone(ADDRESS)))]
    pub https_listen: Option<Switch>,
    /// Where others reach this master; may be given several times.
    #[arg(long, global = true, value_name = "HOST[:PORT]", value_delimiter = ',', value_parser = by(Advertised))]
    pub advertise: Vec<HostPort>,
    /// The id of a new cluster [default: a random one]
    #[arg(long, global = true, value_name = "ID", value_parser = by(ClusterId))]
    pub cluster_id: Option<String>,
    /// The name of a new cluster [default: piccolo]
    #[arg(long, global = true, value_name = "NAME", value_parser = by(Name))]
    pub cluster_name: Option<NodeName>,
    /// Whether a valid token is enough to join: `auto` or `manual` [default: auto]
    #[arg(long, global = true, value_parser = by(APPROVAL))]
    pub approval: Option<Approval>,
    /// What becomes of a node whose system check has errors: `enforce` or `warn` [default: warn]
    #[arg(long, global = true, value_parser = by(READINESS))]
    pub readiness: Option<Readiness>,
    /// Of the nodes' certificates [default: 90d]
    #[arg(long, global = true, value_name = "SPAN", value_parser = by(Span))]
    pub certificate_lifetime: Option<Duration>,
    /// The oldest TLS that is spoken: `1.2` or `1.3` [default: 1.3]
    #[arg(long, global = true, value_name = "VERSION", value_parser = by(TLS_VERSION))]
    pub tls_min_version: Option<MinVersion>,
    /// What is logged, such as `info` or `info,piccolo_master=debug` [default: info]
    #[arg(long, global = true, value_name = "FILTER", value_parser = by(LogFilter))]
    pub log: Option<String>,
    /// `embedded` or `etcd` [default: embedded]
    #[arg(long, global = true, value_name = "KIND", value_parser = by(STORE))]
    pub store: Option<StoreKind>,
    /// Of etcd; may be given several times.
    #[arg(long = "store-endpoint", global = true, value_name = "URL", value_delimiter = ',')]
    pub store_endpoints: Vec<String>,
    /// The CA of etcd's certificates.
    #[arg(long, global = true, value_name = "FILE", value_parser = by(AnyPath))]
    pub store_ca: Option<PathBuf>,
    /// Our certificate for etcd.
    #[arg(long, global = true, value_name = "FILE", value_parser = by(AnyPath))]
    pub store_certificate: Option<PathBuf>,
    /// Our key for etcd.
    #[arg(long, global = true, value_name = "FILE", value_parser = by(AnyPath))]
    pub store_key: Option<PathBuf>,
    /// Our user of etcd.
    #[arg(long, global = true, value_name = "NAME")]
    pub store_user: Option<String>,
    /// A file with the user's password.
    #[arg(long, global = true, value_name = "FILE", value_parser = by(AnyPath))]
    pub store_password_file: Option<PathBuf>,
}

/// `none`, or where to listen. Named, because clap would take an option within an option for something else.
type Switch = Option<SocketAddr>;

impl Flags {
    /// Over what is there.
    pub(super) fn apply(&self, loaded: &mut Loaded<Written>) {
        let Loaded { config, origins } = loaded;
        origins.flag("state_dir", &mut config.state_dir, self.state_dir.clone());
        origins.flag("listen", &mut config.listen, self.listen);
        origins.flag("https_listen", &mut config.https_listen, self.https_listen);
        origins.flags("advertise", &mut config.advertise, &self.advertise);
        origins.flag("cluster_id", &mut config.cluster_id, self.cluster_id.clone().map(Some));
        origins.flag("cluster_name", &mut config.cluster_name, self.cluster_name.clone().map(Some));
        origins.flag("approval", &mut config.approval, self.approval);
        origins.flag("readiness", &mut config.readiness, self.readiness);
        let lifetime = self.certificate_lifetime;
        origins.flag("certificate_lifetime", &mut config.certificate_lifetime, lifetime);
        origins.flag("tls_min_version", &mut config.tls_min_version, self.tls_min_version);
        origins.flag("log", &mut config.log_filter, self.log.clone());
        let store = &mut config.store;
        origins.flag("store.kind", &mut store.kind, self.store);
        origins.flags("store.endpoints", &mut store.endpoints, &self.store_endpoints);
        for (key, place, flag) in [
            ("store.ca", &mut store.ca, &self.store_ca),
            ("store.certificate", &mut store.certificate, &self.store_certificate),
            ("store.key", &mut store.key, &self.store_key),
            ("store.password_file", &mut store.password_file, &self.store_password_file),
        ] {
            origins.flag(key, place, flag.clone().map(Some));
        }
        origins.flag("store.user", &mut store.user, self.store_user.clone().map(Some));
    }
}
