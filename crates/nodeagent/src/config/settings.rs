//! The table of the agent's settings, and how each is written.

use std::net::IpAddr;
use std::path::PathBuf;

use piccolo_core::model::{Labels, NodeKind, NodeRole, RestartPolicy, check_labels};
use piccolo_core::node_agent::local_alerts::When;
use piccolo_core::node_agent::pressure::Threshold;
use piccolo_settings::value::{
    AbsolutePath, HostAndPort, Name, OrNone, Parsed, Reader, Seconds, Whole, Words, YES_OR_NO, path,
};
use piccolo_settings::{Field, List, Maybe, One, Pairs, Schema, Setting};

use super::{Config, LogLevel, SystemCheckProgram};
use crate::podman::watcher::Method;

/// The gRPC port of a master. HLD §7.1.
const MASTER_PORT: u16 = 47098;
/// Of limits for what is counted.
const PER_HOUR_MAX: u64 = 1_000_000;

pub(super) const MASTER: HostAndPort = HostAndPort(MASTER_PORT);
pub(super) const IP: Parsed<IpAddr> = Parsed::expecting("an IP address");
pub(super) const SECONDS: Seconds = Seconds(1, 3600);
pub(super) const ROLE: Words<NodeRole> =
    Words(&[("sub", NodeRole::Sub), ("master", NodeRole::Master)]);
pub(super) const KIND: Words<NodeKind> =
    Words(&[("embedded", NodeKind::Embedded), ("cloud", NodeKind::Cloud)]);
pub(super) const WATCH: Words<Method> =
    Words(&[("auto", Method::Auto), ("events", Method::Events)]);
pub(super) const LOG_LEVEL: Words<LogLevel> = Words(&[
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
]);

/// As syslog counts.
const KEEP_LEVEL: Words<Option<u8>> = Words(&[
    ("none", None),
    ("crit", Some(2)),
    ("error", Some(3)),
    ("warning", Some(4)),
    ("notice", Some(5)),
]);
const WHEN: Words<When> = Words(&[("offline", When::Offline), ("always", When::Always)]);

const RESTART: Words<RestartPolicy> = Words(&[
    ("no", RestartPolicy::No),
    ("on-failure", RestartPolicy::OnFailure),
    ("always", RestartPolicy::Always),
]);

/// Of the file and the environment.
pub const SCHEMA: Schema<Config> = Schema {
    settings: SETTINGS,
    default_file: "/etc/piccolo/nodeagent.yaml",
    prefix: "PICCOLO_AGENT_",
    other_variables: &["TOKEN"],
};

const SETTINGS: &[Setting<Config>] = &[
    Setting { key: "masters", field: |c| Box::new(List(&mut c.masters, MASTER)) },
    Setting { key: "name", field: |c| Box::new(Maybe(&mut c.name, Name)) },
    Setting { key: "address", field: |c| Box::new(Maybe(&mut c.address, IP)) },
    Setting { key: "bind_address", field: |c| Box::new(Maybe(&mut c.bind_address, IP)) },
    Setting { key: "role", field: |c| Box::new(One(&mut c.role, ROLE)) },
    Setting { key: "kind", field: |c| Box::new(One(&mut c.kind, KIND)) },
    Setting { key: "labels", field: |c| Box::new(Pairs(&mut c.labels, check_label)) },
    Setting { key: "state_dir", field: |c| Box::new(One(&mut c.state_dir, AbsolutePath)) },
    Setting {
        key: "control_socket",
        field: |c| Box::new(One(&mut c.control_socket, AbsolutePath)),
    },
    Setting { key: "log_level", field: |c| Box::new(One(&mut c.log_level, LOG_LEVEL)) },
    Setting {
        key: "sampling_interval_s",
        field: |c| Box::new(One(&mut c.sampling_interval, SECONDS)),
    },
    Setting { key: "disks", field: |c| Box::new(List(&mut c.disks, AbsolutePath)) },
    Setting { key: "reconnect_max_s", field: |c| Box::new(One(&mut c.reconnect_max, SECONDS)) },
    Setting { key: "system_check", field: |c| Box::new(One(&mut c.system_check, SystemCheckPath)) },
    Setting {
        key: "recovery.containers",
        field: |c| Box::new(One(&mut c.recovery.containers, RESTART)),
    },
    Setting {
        key: "recovery.podman_units",
        field: |c| Box::new(List(&mut c.recovery.podman_units, UnitName)),
    },
    Setting { key: "recovery.reboot", field: |c| Box::new(One(&mut c.recovery.reboot, YES_OR_NO)) },
    Setting {
        key: "recovery.attempts_per_hour",
        field: |c| Box::new(One(&mut c.recovery.attempts_per_hour_max, Whole::within(1, 120))),
    },
    Setting {
        key: "recovery.back_off_max_s",
        field: |c| Box::new(One(&mut c.recovery.back_off_max, SECONDS)),
    },
    Setting { key: "podman.socket", field: |c| Box::new(One(&mut c.podman.socket, PodmanSocket)) },
    Setting { key: "podman.watch", field: |c| Box::new(One(&mut c.podman.watch, WATCH)) },
    Setting {
        key: "thresholds.cpu.raise_percent",
        field: |c| raised_at(&mut c.thresholds.cpu.raise, PERCENT_MAX),
    },
    Setting {
        key: "thresholds.cpu.clear_percent",
        field: |c| cleared_at(&mut c.thresholds.cpu.clear, PERCENT_MAX),
    },
    Setting {
        key: "thresholds.memory.raise_percent",
        field: |c| raised_at(&mut c.thresholds.memory.raise, PERCENT_MAX),
    },
    Setting {
        key: "thresholds.memory.clear_percent",
        field: |c| cleared_at(&mut c.thresholds.memory.clear, PERCENT_MAX),
    },
    Setting {
        key: "thresholds.disk.raise_percent",
        field: |c| raised_at(&mut c.thresholds.disk.raise, PERCENT_MAX),
    },
    Setting {
        key: "thresholds.disk.clear_percent",
        field: |c| cleared_at(&mut c.thresholds.disk.clear, PERCENT_MAX),
    },
    Setting {
        key: "thresholds.temperature.raise_celsius",
        field: |c| raised_at(&mut c.thresholds.temperature.raise, CELSIUS_MAX),
    },
    Setting {
        key: "thresholds.temperature.clear_celsius",
        field: |c| cleared_at(&mut c.thresholds.temperature.clear, CELSIUS_MAX),
    },
    Setting {
        key: "hardware.flash_life_percent",
        field: |c| or_none(&mut c.hardware.flash_life_percent, 100),
    },
    Setting {
        key: "hardware.battery_percent",
        field: |c| or_none(&mut c.hardware.battery_percent, 100),
    },
    Setting {
        key: "hardware.disk_errors_per_hour",
        field: |c| or_none(&mut c.hardware.disk_errors_per_hour, PER_HOUR_MAX),
    },
    Setting {
        key: "hardware.ecc_errors_per_hour",
        field: |c| or_none(&mut c.hardware.ecc_errors_per_hour, PER_HOUR_MAX),
    },
    Setting {
        key: "hardware.throttles_per_hour",
        field: |c| or_none(&mut c.hardware.throttles_per_hour, PER_HOUR_MAX),
    },
    Setting {
        key: "hardware.watchdog_required",
        field: |c| Box::new(One(&mut c.hardware.watchdog_required, YES_OR_NO)),
    },
    Setting {
        key: "hardware.ignore",
        field: |c| Box::new(List(&mut c.hardware.ignore, Parsed::expecting("the name of a part"))),
    },
    Setting {
        key: "journal.entries_max",
        field: |c| Box::new(One(&mut c.journal.entries_max, Whole::within(10, 1_000_000))),
    },
    Setting {
        key: "journal.size_max_mib",
        field: |c| {
            let mebibytes = Whole::within(1, 1024).in_units_of(1024 * 1024);
            Box::new(One(&mut c.journal.bytes_max, mebibytes))
        },
    },
    Setting { key: "logs.units", field: |c| Box::new(List(&mut c.logs.units, UnitName)) },
    Setting {
        key: "logs.keep_level",
        field: |c| Box::new(One(&mut c.logs.keep_level, KEEP_LEVEL)),
    },
    Setting {
        key: "logs.keep_size_max_mib",
        field: |c| {
            let mebibytes = Whole::within(1, 64).in_units_of(1 << 20);
            Box::new(One(&mut c.logs.keep_bytes_max, mebibytes))
        },
    },
    Setting {
        key: "alerts.command",
        field: |c| Box::new(One(&mut c.alerts.command, OrNone(AbsolutePath))),
    },
    Setting { key: "alerts.when", field: |c| Box::new(One(&mut c.alerts.when, WHEN)) },
    Setting { key: "alerts.for_s", field: |c| Box::new(One(&mut c.alerts.after, SECONDS)) },
    Setting {
        key: "alerts.clear_for_s",
        field: |c| Box::new(One(&mut c.alerts.clear_after, SECONDS)),
    },
];

const PERCENT_MAX: u64 = 100;
const CELSIUS_MAX: u64 = 200;

fn raised_at(value: &mut Option<u32>, max: u64) -> Box<dyn Field + '_> {
    Box::new(One(value, OrNone(Whole::within(1, max))))
}

fn cleared_at(value: &mut u32, max: u64) -> Box<dyn Field + '_> {
    Box::new(One(value, Whole::within(1, max)))
}

fn or_none(value: &mut Option<u32>, max: u64) -> Box<dyn Field + '_> {
    Box::new(One(value, OrNone(Whole::within(0, max))))
}

/// The thresholds with the name of each and the unit in its keys.
pub(super) fn thresholds(config: &mut Config) -> [(&'static str, &'static str, &mut Threshold); 4] {
    let thresholds = &mut config.thresholds;
    [
        ("cpu", "percent", &mut thresholds.cpu),
        ("memory", "percent", &mut thresholds.memory),
        ("disk", "percent", &mut thresholds.disk),
        ("temperature", "celsius", &mut thresholds.temperature),
    ]
}

/// By itself; how many there may be is for all of them together.
pub(super) fn check_label(key: &str, value: &str) -> Result<(), String> {
    let one = Labels::from([(key.to_owned(), value.to_owned())]);
    check_labels("labels", &one).map_err(|error| error.to_string())
}

/// Podman's socket; `None` for a node without containers.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodmanSocket;

impl Reader for PodmanSocket {
    type Value = Option<PathBuf>;

    fn expected(&self) -> String {
        "the path of a socket, such as `/run/podman/podman.sock`, or `none`".into()
    }

    fn read(&self, text: &str) -> Option<Self::Value> {
        if text == "none" {
            return Some(None);
        }
        AbsolutePath.read(text.strip_prefix("unix://").unwrap_or(text)).map(Some)
    }

    fn show(&self, value: &Self::Value) -> String {
        value.as_deref().map_or_else(|| "none".into(), path)
    }
}

/// A unit of systemd.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnitName;

impl Reader for UnitName {
    type Value = String;

    fn expected(&self) -> String {
        "a unit of systemd, such as `podman.service`".into()
    }

    fn read(&self, text: &str) -> Option<String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._@:-".contains(c);
        let valid = text.len() <= 255 && !text.starts_with('-') && text.contains('.');
        (valid && text.chars().all(allowed)).then(|| text.to_owned())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }
}

/// Where the system check is.
#[derive(Debug, Clone, Copy)]
pub(super) struct SystemCheckPath;

impl Reader for SystemCheckPath {
    type Value = SystemCheckProgram;

    fn expected(&self) -> String {
        "`auto`, `none`, or the path of a program".into()
    }

    fn read(&self, text: &str) -> Option<Self::Value> {
        match text {
            "auto" => Some(SystemCheckProgram::Auto),
            "none" => Some(SystemCheckProgram::None),
            path => AbsolutePath.read(path).map(SystemCheckProgram::At),
        }
    }

    fn show(&self, value: &Self::Value) -> String {
        match value {
            SystemCheckProgram::Auto => "auto".into(),
            SystemCheckProgram::None => "none".into(),
            SystemCheckProgram::At(program) => path(program),
        }
    }
}
