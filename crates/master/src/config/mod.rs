//! The configuration of a master: file, environment, flags, in this order of increasing weight.
//!
//! A wrong key or value names the file, the line and the column, what was found and what was expected, and
//! nothing is started. `config/master.yaml` is the commented template.

pub mod cli;
mod settings;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use piccolo_core::{
    failure_detector::Timing, logs::kept::Retention, model::NodeName, state_manager::Approval,
    topology::Readiness,
};
use piccolo_rpc::tls::{MinVersion, limits::Limits};
pub use piccolo_settings::Error;
use piccolo_settings::{Loaded, process_environment};

use self::{
    cli::Flags,
    settings::{SCHEMA, Written, config_of},
};

/// gRPC and HTTPS (design §6).
pub const GRPC_PORT: u16 = 47098;
pub const HTTPS_PORT: u16 = 47099;

/// A setting that is in force. None is a secret: where one is needed a file is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub key: &'static str,
    /// On one line; empty where it is not set.
    pub value: String,
    /// A place in a file, a variable or a flag; `None`: its default.
    pub by: Option<String>,
}

/// Every setting, with its default where none was given.
#[derive(Debug, Clone)]
pub struct Config {
    /// Keys, certificates and the embedded store. Belongs to the master alone.
    pub state_dir: PathBuf,
    pub listen: SocketAddr,
    /// `None`: no HTTPS port.
    pub https_listen: Option<SocketAddr>,
    /// Where agents and people reach this master, as `host:port`.
    pub advertise: Vec<String>,
    /// Names and addresses in the master's certificate, beside the advertised ones.
    pub names: Vec<String>,
    /// Of a new cluster; `None` chooses one.
    pub cluster_id: Option<String>,
    /// Of a new cluster; an existing one is renamed by its topology.
    pub cluster_name: NodeName,
    pub approval: Approval,
    /// Whether a node whose system check has errors may be Ready.
    pub readiness: Readiness,
    pub certificate_lifetime: Duration,
    /// Between two probes of a node.
    pub probe_interval: Duration,
    pub store: StoreConfig,
    pub timing: Timing,
    pub nodes_max: usize,
    pub events_max: usize,
    pub events_age_max: Duration,
    pub audit_max: usize,
    /// How much of the nodes' important lines.
    pub kept_logs: Retention,
    pub tls_min_version: MinVersion,
    pub limits: Limits,
    pub log_filter: String,
    /// All of it as a configuration file, for backups.
    pub written: String,
    /// The same for people: each setting, and who said so.
    pub said: Vec<Said>,
    /// `None`: nobody makes backups but people.
    pub backup: Option<BackupConfig>,
    /// `None`: whoever wants figures asks for them.
    pub otlp: Option<OtlpConfig>,
}

/// Figures that the master sends to a receiver of OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// With its path.
    pub endpoint: hyper::Uri,
    pub interval: Duration,
    /// What the receiver asks for, such as `Authorization`: a line for each header.
    pub headers_file: Option<PathBuf>,
    /// Of the receiver's certificate; `None`: the system's.
    pub ca: Option<PathBuf>,
}

/// Backups that the master makes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupConfig {
    pub folder: PathBuf,
    pub every: Duration,
    /// So many; older ones are removed.
    pub keep: usize,
    pub passphrase_file: PathBuf,
}

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// One file in the state folder.
    Embedded,
    Etcd(EtcdConfig),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EtcdConfig {
    pub endpoints: Vec<String>,
    pub ca: Option<PathBuf>,
    /// Certificate chain and key, where etcd asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub allow_plaintext: bool,
}

impl Config {
    /// The settings of this process: its flags, its environment and its file.
    ///
    /// # Errors
    /// [`Error`], with the place.
    pub fn load(flags: &Flags) -> Result<Self, Error> {
        config_of(written(flags)?)
    }

    /// The same as a configuration file.
    ///
    /// # Errors
    /// [`Error`], with the place.
    pub fn in_force(flags: &Flags) -> Result<String, Error> {
        Ok(SCHEMA.to_yaml(&mut written(flags)?))
    }

    /// Everything at its default.
    ///
    /// # Errors
    /// None: the defaults go together.
    pub fn defaults() -> Result<Self, Error> {
        config_of(Loaded::default())
    }

    /// The embedded store's file.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.state_dir.join("store.db")
    }

    /// The first administrator's context, written at the first start.
    #[must_use]
    pub fn admin_context(&self) -> PathBuf {
        self.state_dir.join("admin.context.yaml")
    }

    /// Addresses for people on this very machine, and for others where they are advertised.
    pub(crate) fn servers(&self, listening: SocketAddr) -> Vec<String> {
        let mut servers = self.advertise.clone();
        if servers.is_empty() {
            let ip = match listening.ip() {
                ip if ip.is_unspecified() && ip.is_ipv4() => [127, 0, 0, 1].into(),
                ip if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            servers.push(SocketAddr::new(ip, listening.port()).to_string());
        }
        servers
    }
}

fn written(flags: &Flags) -> Result<Loaded<Written>, Error> {
    let mut loaded = SCHEMA.load(flags.config.as_deref(), process_environment())?;
    flags.apply(&mut loaded);
    Ok(loaded)
}
