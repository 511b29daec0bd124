//! The configuration of a master: file, environment, flags, in this order of increasing weight.
//!
//! A wrong key or value names the file, the line and the column, what was found and what was expected, and
//! nothing is started. `config/master.yaml` is the commented template.

pub mod cli;
mod file;
mod show;
#[cfg(test)]
mod tests;
mod value;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::CommandFactory as _;
use piccolo_core::{
    failure_detector::Timing, model::NodeName, state_manager::Approval, topology::Readiness,
};
use piccolo_rpc::tls::{MinVersion, limits::Limits};

pub(crate) use self::value::{Advertised, ClusterId, Endpoint, LogFilter, Span, StoreName, Switch};
use self::{cli::Flags, file::Layer};

/// Where the file is, where nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/piccolo/master.yaml";
/// Every variable that begins so must be a setting.
pub const ENVIRONMENT_PREFIX: &str = "PICCOLO_MASTER_";
/// gRPC and HTTPS (design §6).
pub const GRPC_PORT: u16 = 47098;
pub const HTTPS_PORT: u16 = 47099;

/// Why there is no configuration. Nothing was started or changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge { path: PathBuf, limit_bytes: u64 },
    #[error("{}:{line}:{column}: {problem}", path.display())]
    File { path: PathBuf, line: u64, column: u64, problem: String },
    /// Values that are right each by itself.
    #[error("{0}")]
    Together(String),
    #[error("{name} in the environment: unknown setting; expected one of {expected}")]
    Environment { name: String, expected: String },
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
    pub store: StoreConfig,
    pub timing: Timing,
    pub nodes_max: usize,
    pub events_max: usize,
    pub events_age_max: Duration,
    pub audit_max: usize,
    pub tls_min_version: MinVersion,
    pub limits: Limits,
    pub log_filter: String,
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
    /// Reads the file that the flags name, or the default one if it is there; the flags (and the environment, which clap
    /// has read into them) weigh more.
    ///
    /// # Errors
    /// [`ConfigError`], with the place.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        check_environment(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
        let default = || Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists());
        let (file, source) = match flags.config.as_deref().or_else(default) {
            Some(path) => Layer::from_file(path).map(|(file, source)| (file, Some(source)))?,
            None => (Layer::default(), None),
        };
        file.under(flags).into_config().map_err(|clash| clash.at(source.as_ref()))
    }

    /// Everything at its default.
    ///
    /// # Errors
    /// None: the defaults go together.
    pub fn defaults() -> Result<Self, ConfigError> {
        Layer::default().into_config().map_err(|clash| clash.at(None))
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

/// A misspelt variable would leave its setting at another value, and nobody would know.
fn check_environment(names: impl Iterator<Item = String>) -> Result<(), ConfigError> {
    let command = cli::Cli::command();
    let known = command.get_arguments().filter_map(|a| a.get_env()?.to_str());
    let known: Vec<&str> = known.collect();
    let ours = |name: &String| name.starts_with(ENVIRONMENT_PREFIX);
    match names.filter(ours).find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(ConfigError::Environment { name, expected: known.join(", ") }),
    }
}
