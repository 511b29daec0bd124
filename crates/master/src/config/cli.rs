//! The command line of `piccolo-master`. Every setting here may be in the environment too.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use piccolo_core::{model::NodeName, state_manager::Approval, topology::Readiness};
use piccolo_rpc::tls::MinVersion;

use super::{Advertised, ClusterId, LogFilter, Span, StoreName, Switch, value::read};

/// The PICCOLO master: one process with everything that a cluster needs.
#[derive(Debug, Clone, Parser)]
#[command(name = "piccolo-master", version, disable_help_subcommand = true)]
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

/// Settings of the command line and the environment. They weigh more than the file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// The configuration file [default: /etc/piccolo/master.yaml]
    #[arg(long, global = true, value_name = "FILE", env = "PICCOLO_MASTER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Keys, certificates and the embedded store [default: /var/lib/piccolo/master]
    #[arg(long, global = true, value_name = "DIR", env = "PICCOLO_MASTER_STATE_DIR", value_parser = read::<PathBuf>)]
    pub state_dir: Option<PathBuf>,
    /// Where agents and people connect [default: 0.0.0.0:47098]
    #[arg(long, global = true, value_name = "ADDRESS:PORT", env = "PICCOLO_MASTER_LISTEN", value_parser = read::<SocketAddr>)]
    pub listen: Option<SocketAddr>,
    /// For /metrics and /healthz; `none` for no such port [default: 0.0.0.0:47099]
    #[arg(long, global = true, value_name = "ADDRESS:PORT", env = "PICCOLO_MASTER_HTTPS_LISTEN", value_parser = read::<Switch>)]
    pub https_listen: Option<Switch>,
    /// Where others reach this master; may be given several times.
    #[arg(long, global = true, value_name = "HOST[:PORT]", env = "PICCOLO_MASTER_ADVERTISE", value_delimiter = ',', value_parser = read::<Advertised>)]
    pub advertise: Vec<Advertised>,
    /// The id of a new cluster [default: a random one]
    #[arg(long, global = true, value_name = "ID", env = "PICCOLO_MASTER_CLUSTER_ID", value_parser = read::<ClusterId>)]
    pub cluster_id: Option<ClusterId>,
    /// The name of a new cluster [default: piccolo]
    #[arg(long, global = true, value_name = "NAME", env = "PICCOLO_MASTER_CLUSTER_NAME", value_parser = read::<NodeName>)]
    pub cluster_name: Option<NodeName>,
    /// Whether a valid token is enough to join: `auto` or `manual` [default: auto]
    #[arg(long, global = true, env = "PICCOLO_MASTER_APPROVAL", value_parser = read::<Approval>)]
    pub approval: Option<Approval>,
    /// What becomes of a node whose system check has errors: `enforce` or `warn` [default: warn]
    #[arg(long, global = true, env = "PICCOLO_MASTER_READINESS", value_parser = read::<Readiness>)]
    pub readiness: Option<Readiness>,
    /// Of the nodes' certificates [default: 90d]
    #[arg(long, global = true, value_name = "SPAN", env = "PICCOLO_MASTER_CERTIFICATE_LIFETIME", value_parser = read::<Span>)]
    pub certificate_lifetime: Option<Span>,
    /// The oldest TLS that is spoken: `1.2` or `1.3` [default: 1.3]
    #[arg(long, global = true, value_name = "VERSION", env = "PICCOLO_MASTER_TLS_MIN_VERSION", value_parser = read::<MinVersion>)]
    pub tls_min_version: Option<MinVersion>,
    /// What is logged, such as `info` or `info,piccolo_master=debug` [default: info]
    #[arg(long, global = true, value_name = "FILTER", env = "PICCOLO_MASTER_LOG", value_parser = read::<LogFilter>)]
    pub log: Option<LogFilter>,
    /// `embedded` or `etcd` [default: embedded]
    #[arg(long, global = true, value_name = "KIND", env = "PICCOLO_MASTER_STORE", value_parser = read::<StoreName>)]
    pub store: Option<StoreName>,
    /// Of etcd; may be given several times.
    #[arg(
        long = "store-endpoint",
        global = true,
        value_name = "URL",
        env = "PICCOLO_MASTER_STORE_ENDPOINTS",
        value_delimiter = ','
    )]
    pub store_endpoints: Vec<String>,
    /// The CA of etcd's certificates.
    #[arg(long, global = true, value_name = "FILE", env = "PICCOLO_MASTER_STORE_CA", value_parser = read::<PathBuf>)]
    pub store_ca: Option<PathBuf>,
    /// Our certificate for etcd.
    #[arg(long, global = true, value_name = "FILE", env = "PICCOLO_MASTER_STORE_CERTIFICATE", value_parser = read::<PathBuf>)]
    pub store_certificate: Option<PathBuf>,
    /// Our key for etcd.
    #[arg(long, global = true, value_name = "FILE", env = "PICCOLO_MASTER_STORE_KEY", value_parser = read::<PathBuf>)]
    pub store_key: Option<PathBuf>,
    /// Our user of etcd.
    #[arg(long, global = true, value_name = "NAME", env = "PICCOLO_MASTER_STORE_USER")]
    pub store_user: Option<String>,
    /// A file with the user's password.
    #[arg(long, global = true, value_name = "FILE", env = "PICCOLO_MASTER_STORE_PASSWORD_FILE", value_parser = read::<PathBuf>)]
    pub store_password_file: Option<PathBuf>,
}
