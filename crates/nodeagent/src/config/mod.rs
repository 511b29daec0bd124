//! What the agent is told: a YAML file, then the environment, then flags; the later wins.
//!
//! [`Config::load`] gives the settings in force. Each value goes through the same reader whichever
//! way it came ([`value`]), and a wrong one is an error that names the file with line and column,
//! or the variable, what was found there and what was expected. The commented template is
//! `config/nodeagent.yaml`; [`Cli`] has the subcommands.
//!
//! A join token is never taken from the command line, where every user of the board could read
//! it: [`token`] reads it from a file, from the environment or from stdin.

mod cli;
mod error;
mod layer;
mod place;
pub mod token;
pub mod value;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use piccolo_core::model::{FieldError, Labels, NodeKind, NodeName, NodeRole, check_labels};
use piccolo_core::node_agent::pressure::{Threshold, Thresholds};

pub use cli::{Cli, Command, Flags, JoinArguments, OutputFormat, RunArguments, StatusArguments};
pub use error::Error;
use layer::{Layer, Pair};
pub use place::Setting;
pub use value::{LogLevel, MasterAddress, SystemCheckProgram};

use crate::journal;
use crate::podman::watcher::Method;

/// Read if neither `--config` nor `PICCOLO_AGENT_CONFIG` names another one; it may be missing.
pub const DEFAULT_FILE: &str = "/etc/piccolo/nodeagent.yaml";
/// What every variable of the environment begins with.
pub const ENVIRONMENT_PREFIX: &str = "PICCOLO_AGENT_";
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const MASTERS_MAX: usize = 16;
const DISKS_MAX: usize = 32;

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// In the order in which they are tried; may be empty on a node that has joined already.
    pub masters: Vec<MasterAddress>,
    /// `None`: the board's host name.
    pub name: Option<NodeName>,
    /// `None`: the one that the master sees.
    pub address: Option<IpAddr>,
    /// `None`: the kernel chooses.
    pub bind_address: Option<IpAddr>,
    pub role: NodeRole,
    pub kind: NodeKind,
    pub labels: Labels,
    pub state_dir: PathBuf,
    pub control_socket: PathBuf,
    pub log_level: LogLevel,
    pub sampling_interval: Duration,
    pub disks: Vec<PathBuf>,
    /// Between two attempts to reach a master.
    pub reconnect_max: Duration,
    pub podman: Podman,
    pub system_check: SystemCheckProgram,
    /// Per cent, and degrees Celsius for the temperature.
    pub thresholds: Thresholds,
    pub journal: journal::Limits,
}

/// How to reach and watch Podman.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Podman {
    /// `None`: a node without containers.
    pub socket: Option<PathBuf>,
    pub watch: Method,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            masters: Vec::new(),
            name: None,
            address: None,
            bind_address: None,
            role: NodeRole::Sub,
            kind: NodeKind::Embedded,
            labels: Labels::new(),
            state_dir: "/var/lib/piccolo/nodeagent".into(),
            control_socket: "/run/piccolo/nodeagent.sock".into(),
            log_level: LogLevel::Info,
            sampling_interval: Duration::from_secs(5),
            disks: vec!["/".into()],
            // well within the master's allowance after its restart, so that a restart loses nobody
            reconnect_max: Duration::from_secs(3),
            podman: Podman { socket: Some("/run/podman/podman.sock".into()), watch: Method::Auto },
            system_check: SystemCheckProgram::Auto,
            thresholds: Thresholds::default(),
            journal: journal::Limits::default(),
        }
    }
}

impl Config {
    /// The settings of this process: its flags, its environment and its file.
    ///
    /// # Errors
    /// The file cannot be read, or a key or value is wrong: see [`Error`].
    pub fn load(flags: &Flags) -> Result<Self, Error> {
        Self::from_parts(
            flags,
            std::env::vars_os().filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            }),
        )
    }

    /// As [`Self::load`], with an environment of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_parts(
        flags: &Flags,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let (environment, file_of_environment) = Layer::from_environment(environment)?;
        let named = flags.config.clone().or(file_of_environment);
        let path = named.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        let file = Layer::from_file(path, named.is_some())?;
        let upper = flags.layer().over(environment);
        // a list is never put together from both
        let overridden = [
            ("masters", upper.masters.is_some()),
            ("disks", upper.disks.is_some()),
            ("labels", upper.labels.is_some()),
        ];
        Self::of_layers(upper.over(file)).map_err(|error| {
            let is_overridden = matches!(
                &error,
                Error::Together { setting, .. } if overridden.contains(&(setting.name, true))
            );
            if is_overridden { error } else { place::found_in(path, error) }
        })
    }

    fn of_layers(layer: Layer) -> Result<Self, Error> {
        let default = Self::default();
        let config = Self {
            masters: values(layer.masters).unwrap_or(default.masters),
            name: layer.name.map(|v| v.0),
            address: layer.address.map(|v| v.0),
            bind_address: layer.bind_address.map(|v| v.0),
            role: layer.role.map_or(default.role, |v| v.0),
            kind: layer.kind.map_or(default.kind, |v| v.0),
            labels: layer.labels.unwrap_or(default.labels),
            state_dir: layer.state_dir.map_or(default.state_dir, |v| v.0.0),
            control_socket: layer.control_socket.map_or(default.control_socket, |v| v.0.0),
            log_level: layer.log_level.map_or(default.log_level, |v| v.0),
            sampling_interval: layer
                .sampling_interval_s
                .map_or(default.sampling_interval, |v| Duration::from_secs(v.0.0)),
            disks: values(layer.disks)
                .map_or(default.disks, |disks| disks.into_iter().map(|d| d.0).collect()),
            reconnect_max: layer
                .reconnect_max_s
                .map_or(default.reconnect_max, |v| Duration::from_secs(v.0.0)),
            podman: Podman {
                socket: layer.podman.socket.map_or(default.podman.socket, |v| v.0.0),
                watch: layer.podman.watch.map_or(default.podman.watch, |v| v.0),
            },
            system_check: layer.system_check.map_or(default.system_check, |v| v.0),
            thresholds: thresholds(&layer.thresholds, default.thresholds)?,
            journal: journal::Limits {
                entries_max: layer.journal.entries_max.map_or(default.journal.entries_max, |v| {
                    usize::try_from(v.0.0).unwrap_or(usize::MAX)
                }),
                bytes_max: layer
                    .journal
                    .size_max_mib
                    .map_or(default.journal.bytes_max, |v| v.0.0 * 1024 * 1024),
            },
        };
        config.check()?;
        Ok(config)
    }

    /// What no single value shows.
    fn check(&self) -> Result<(), Error> {
        let wrong = |part: Option<&String>, error: FieldError| Error::Together {
            setting: Setting { name: "labels", part: part.cloned() },
            problem: error.to_string(),
        };
        for (key, value) in &self.labels {
            let one = Labels::from([(key.clone(), value.clone())]);
            check_labels("labels", &one).map_err(|error| wrong(Some(key), error))?;
        }
        check_labels("labels", &self.labels).map_err(|error| wrong(None, error))?;
        for (what, length, max) in
            [("masters", self.masters.len(), MASTERS_MAX), ("disks", self.disks.len(), DISKS_MAX)]
        {
            if length > max {
                let problem = format!("{what}: {length} entries, more than {max}");
                return Err(Error::Together {
                    setting: Setting { name: what, part: None },
                    problem,
                });
            }
        }
        Ok(())
    }
}

fn values<T>(list: Option<Vec<value::Read<T>>>) -> Option<Vec<T>> {
    list.map(|list| list.into_iter().map(|value| value.0).collect())
}

fn thresholds(layer: &layer::Thresholds, default: Thresholds) -> Result<Thresholds, Error> {
    Ok(Thresholds {
        cpu: threshold("cpu", &layer.cpu, default.cpu)?,
        memory: threshold("memory", &layer.memory, default.memory)?,
        disk: threshold("disk", &layer.disk, default.disk)?,
        temperature: threshold("temperature", &layer.temperature.pair(), default.temperature)?,
    })
}

/// One may be given without the other; then the other keeps the default's distance if its own
/// default would be on the wrong side.
fn threshold(name: &str, pair: &Pair, default: Threshold) -> Result<Threshold, Error> {
    let distance = default.raise.saturating_sub(default.clear);
    let (raise, clear) = match (pair.raise(), pair.clear()) {
        (Some(raise), Some(clear)) => (raise, clear),
        (Some(raise), None) if default.clear < raise => (raise, default.clear),
        (Some(raise), None) => (raise, raise.saturating_sub(distance)),
        (None, Some(clear)) => (default.raise, clear),
        (None, None) => (default.raise, default.clear),
    };
    if clear < raise {
        return Ok(Threshold { raise, clear });
    }
    let problem = format!(
        "thresholds.{name}: it is cleared at {clear}, which must be below {raise}, where it is raised"
    );
    let setting = Setting { name: "thresholds", part: Some(name.to_owned()) };
    Err(Error::Together { setting, problem })
}

#[cfg(test)]
mod tests;
