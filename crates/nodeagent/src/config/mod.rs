//! What the agent is told: a YAML file, then the environment, then flags; the later wins.
//!
//! [`Config::load`] gives the settings in force and who gave each of them. The table [`SCHEMA`] is all that file and
//! environment are read by; the commented template is `config/nodeagent.yaml`; [`Cli`] has the subcommands.
//!
//! A join token is never taken from the command line, where every user of the board could read
//! it: [`token`] reads it from a file, from the environment or from stdin.

mod cli;
mod settings;
pub mod token;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use piccolo_core::action_controller::recovery::Policy;
use piccolo_core::model::{Labels, NodeKind, NodeName, NodeRole, RestartPolicy, check_labels};
use piccolo_core::node_agent::hardware::Limits;
use piccolo_core::node_agent::local_alerts::{Local, When};
use piccolo_core::node_agent::pressure::{Threshold, Thresholds};
use piccolo_settings::value::HostPort;
use piccolo_settings::{Clash, Error, process_environment};

pub use cli::{Cli, Command, Flags, JoinArguments, OutputFormat, RunArguments, StatusArguments};

use crate::journal;
use crate::podman::watcher::Method;
pub use settings::SCHEMA;

const MASTERS_MAX: usize = 16;
const DISKS_MAX: usize = 32;
const IGNORED_PARTS_MAX: usize = 32;
const PODMAN_UNITS_MAX: usize = 8;
const LOG_UNITS_MAX: usize = 64;

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// In the order in which they are tried; may be empty on a node that has joined already.
    pub masters: Vec<HostPort>,
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
    pub recovery: Recovery,
    /// Per cent, and degrees Celsius for the temperature.
    pub thresholds: Thresholds,
    pub hardware: Limits,
    pub journal: journal::Limits,
    pub logs: Logs,
    pub alerts: Alerts,
}

/// What the node tells of by itself. HLD §10.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerts {
    /// `None`: nobody is told; the journal has it anyway.
    pub command: Option<PathBuf>,
    pub when: When,
    /// For how long a problem must hold, and no master be there.
    pub after: Duration,
    /// For how long all must be well until it is over.
    pub clear_after: Duration,
}

/// What of this node's logs may be read through the master. HLD §11.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Of systemd, besides the agent's own.
    pub units: Vec<String>,
    /// So severe at least, as syslog counts, is told to the master, which keeps it; `None`: nothing.
    pub keep_level: Option<u8>,
    /// Of what waits for the master.
    pub keep_bytes_max: u64,
}

/// Where the system check is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemCheckProgram {
    /// That of the release which the agent is from, if it is from one.
    Auto,
    At(PathBuf),
    None,
}

/// The least severe messages that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for tracing::level_filters::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How to reach and watch Podman.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Podman {
    /// `None`: a node without containers.
    pub socket: Option<PathBuf>,
    pub watch: Method,
}

/// What may be done about what fails. HLD §10.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// For containers that do not say so by a label.
    pub containers: RestartPolicy,
    /// Of systemd; empty where Podman is not to be restarted.
    pub podman_units: Vec<String>,
    pub reboot: bool,
    /// Of the node in total.
    pub attempts_per_hour_max: usize,
    /// Between two attempts at the same failure at most.
    pub back_off_max: Duration,
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
            recovery: Recovery {
                containers: RestartPolicy::No,
                podman_units: vec!["podman.socket".to_owned(), "podman.service".to_owned()],
                reboot: false,
                attempts_per_hour_max: Policy::default().attempts_per_hour_max,
                back_off_max: Policy::default().back_off_max,
            },
            thresholds: Thresholds::default(),
            hardware: Limits::default(),
            journal: journal::Limits::default(),
            logs: Logs {
                units: vec!["piccolo-master.service".to_owned()],
                keep_level: Some(4),
                keep_bytes_max: 1 << 20,
            },
            alerts: Alerts {
                command: None,
                when: When::Offline,
                after: Local::default().after,
                clear_after: Local::default().clear_after,
            },
        }
    }
}

/// With who gave each of them.
pub type Loaded = piccolo_settings::Loaded<Config>;

impl Config {
    /// What is logged, as the filter has it.
    pub fn log_filter(&self) -> String {
        tracing::level_filters::LevelFilter::from(self.log_level).to_string()
    }

    /// The settings of this process: its flags, its environment and its file.
    ///
    /// # Errors
    /// The file cannot be read, or a key or value is wrong: see [`Error`].
    pub fn load(flags: &Flags) -> Result<Loaded, Error> {
        Self::from_parts(flags, process_environment())
    }

    /// As [`Self::load`], with an environment of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_parts(flags: &Flags, environment: Vec<(String, String)>) -> Result<Loaded, Error> {
        let mut loaded = SCHEMA.load(flags.config.as_deref(), environment)?;
        flags.apply(&mut loaded);
        judged(loaded)
    }

    fn check(&self) -> Result<(), Clash> {
        check_labels("labels", &self.labels)
            .map_err(|error| Clash::new(["labels"], error.to_string()))?;
        let units = self.recovery.podman_units.len();
        for (what, length, max) in [
            ("masters", self.masters.len(), MASTERS_MAX),
            ("disks", self.disks.len(), DISKS_MAX),
            ("hardware.ignore", self.hardware.ignore.len(), IGNORED_PARTS_MAX),
            ("recovery.podman_units", units, PODMAN_UNITS_MAX),
            ("logs.units", self.logs.units.len(), LOG_UNITS_MAX),
        ] {
            if length > max {
                let problem = format!("{what}: {length} entries, more than {max}");
                return Err(Clash::new([what], problem));
            }
        }
        Ok(())
    }
}

/// What no single value shows.
fn judged(mut loaded: Loaded) -> Result<Loaded, Error> {
    let origins = &loaded.origins;
    let mut default = Config::default();
    let defaults = settings::thresholds(&mut default);
    for ((name, unit, threshold), (.., default)) in
        settings::thresholds(&mut loaded.config).into_iter().zip(defaults)
    {
        let keys = ["raise", "clear"].map(|end| format!("thresholds.{name}.{end}_{unit}"));
        let given = [&keys[0], &keys[1]].map(|key| origins.of(key).is_some());
        *threshold = completed(*threshold, given, *default);
        let Threshold { raise, clear } = *threshold;
        if let Some(raise) = raise.filter(|raise| clear >= *raise) {
            let problem = format!(
                "thresholds.{name}: it is cleared at {clear}, which must be below {raise}, where it is raised"
            );
            return Err(origins.blame(Clash { keys: keys.to_vec(), problem }));
        }
    }
    let units_given = origins.of("recovery.podman_units").is_some();
    if loaded.config.podman.socket != default.podman.socket && !units_given {
        // whose service that is nobody knows
        loaded.config.recovery.podman_units.clear();
    }
    loaded.config.check().map_err(|clash| loaded.origins.blame(clash))?;
    Ok(loaded)
}

/// Where it is raised was given without where it is cleared, and that would be on the wrong side: then it
/// keeps the default's distance.
fn completed(threshold: Threshold, given: [bool; 2], default: Threshold) -> Threshold {
    match (threshold.raise, default.raise) {
        (Some(raise), Some(usual)) if given == [true, false] && threshold.clear >= raise => {
            let distance = usual.saturating_sub(default.clear);
            Threshold { clear: raise.saturating_sub(distance), ..threshold }
        }
        _ => threshold,
    }
}

#[cfg(test)]
mod tests;
