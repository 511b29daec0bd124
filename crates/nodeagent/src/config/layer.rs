//! One source of settings: each value may be there or not.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use piccolo_core::model::{Labels, NodeKind, NodeName, NodeRole, check_labels};
use serde::Deserialize;

use super::error::{Error, unknown};
use super::value::{
    AbsolutePath, LogLevel, MasterAddress, PodmanSocket, Read, SystemCheckProgram, Value, Whole,
    read,
};
use super::{ENVIRONMENT_PREFIX, FILE_BYTES_MAX};
use crate::podman::watcher::Method;

pub(super) type Seconds = Whole<1, 3600>;
pub(super) type Percent = Whole<1, 100>;
pub(super) type Celsius = Whole<1, 200>;

/// Variables that are no settings and are read elsewhere.
const OTHER_VARIABLES: [&str; 2] = ["CONFIG", "TOKEN"];

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Layer {
    pub(super) masters: Option<Vec<Read<MasterAddress>>>,
    pub(super) name: Option<Read<NodeName>>,
    pub(super) address: Option<Read<IpAddr>>,
    pub(super) bind_address: Option<Read<IpAddr>>,
    pub(super) role: Option<Read<NodeRole>>,
    pub(super) kind: Option<Read<NodeKind>>,
    pub(super) labels: Option<Labels>,
    pub(super) state_dir: Option<Read<AbsolutePath>>,
    pub(super) control_socket: Option<Read<AbsolutePath>>,
    pub(super) log_level: Option<Read<LogLevel>>,
    pub(super) sampling_interval_s: Option<Read<Seconds>>,
    pub(super) disks: Option<Vec<Read<AbsolutePath>>>,
    pub(super) reconnect_max_s: Option<Read<Seconds>>,
    pub(super) system_check: Option<Read<SystemCheckProgram>>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) podman: Podman,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) thresholds: Thresholds,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) journal: Journal,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Podman {
    pub(super) socket: Option<Read<PodmanSocket>>,
    pub(super) watch: Option<Read<Method>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Thresholds {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) cpu: Pair,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) memory: Pair,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) disk: Pair,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) temperature: Degrees,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pair {
    pub(super) raise_percent: Option<Read<Percent>>,
    pub(super) clear_percent: Option<Read<Percent>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Degrees {
    pub(super) raise_celsius: Option<Read<Celsius>>,
    pub(super) clear_celsius: Option<Read<Celsius>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Journal {
    pub(super) entries_max: Option<Read<Whole<10, 1_000_000>>>,
    pub(super) size_max_mib: Option<Read<Whole<1, 1024>>>,
}

/// `upper` where it says something, else `lower`, for each of the fields.
macro_rules! over {
    ($upper:expr, $lower:expr, $($field:ident).+) => {
        if $upper.$($field).+.is_none() {
            $upper.$($field).+ = $lower.$($field).+;
        }
    };
}

/// What is in the file.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned(), limit_bytes: FILE_BYTES_MAX });
    }
    Ok(text)
}

impl Layer {
    /// Reads a file. A missing one is empty unless it was asked for by name.
    pub(super) fn from_file(path: &Path, must_exist: bool) -> Result<Self, Error> {
        match text(path) {
            Err(Error::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && !must_exist =>
            {
                Ok(Self::default())
            }
            text => Self::from_yaml(path, &text?),
        }
    }

    pub(super) fn from_yaml(path: &Path, text: &str) -> Result<Self, Error> {
        let parsed: Result<Option<Self>, _> = serde_saphyr::from_str(text);
        parsed.map(Option::unwrap_or_default).map_err(|error| {
            let error = error.without_snippet();
            let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            Error::File { path: path.to_owned(), line, column, problem: problem_of(error) }
        })
    }

    /// Reads `PICCOLO_AGENT_...`; returns the file that `PICCOLO_AGENT_CONFIG` names too.
    pub(super) fn from_environment(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Option<PathBuf>), Error> {
        let mut layer = Self::default();
        let mut file = None;
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            if name == "CONFIG" {
                file = Some(text.into());
                continue;
            }
            if OTHER_VARIABLES.contains(&name) {
                continue;
            }
            let set = VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, set)| set);
            let result = match set {
                Some(set) => set(&mut layer, &text),
                None => {
                    let known = VARIABLES.iter().map(|(known, _)| *known).chain(OTHER_VARIABLES);
                    Err(unknown("setting", name, known))
                }
            };
            result.map_err(|problem| Error::Environment { variable: variable.clone(), problem })?;
        }
        Ok((layer, file))
    }

    /// This layer where it says something, else `lower`.
    pub(super) fn over(mut self, lower: Self) -> Self {
        over!(self, lower, masters);
        over!(self, lower, name);
        over!(self, lower, address);
        over!(self, lower, bind_address);
        over!(self, lower, role);
        over!(self, lower, kind);
        over!(self, lower, labels);
        over!(self, lower, state_dir);
        over!(self, lower, control_socket);
        over!(self, lower, log_level);
        over!(self, lower, sampling_interval_s);
        over!(self, lower, disks);
        over!(self, lower, reconnect_max_s);
        over!(self, lower, system_check);
        over!(self, lower, podman.socket);
        over!(self, lower, podman.watch);
        over!(self, lower, thresholds.cpu.raise_percent);
        over!(self, lower, thresholds.cpu.clear_percent);
        over!(self, lower, thresholds.memory.raise_percent);
        over!(self, lower, thresholds.memory.clear_percent);
        over!(self, lower, thresholds.disk.raise_percent);
        over!(self, lower, thresholds.disk.clear_percent);
        over!(self, lower, thresholds.temperature.raise_celsius);
        over!(self, lower, thresholds.temperature.clear_celsius);
        over!(self, lower, journal.entries_max);
        over!(self, lower, journal.size_max_mib);
        self
    }
}

impl Pair {
    pub(super) fn raise(&self) -> Option<u32> {
        self.raise_percent.as_ref().and_then(|v| u32::try_from(v.0.0).ok())
    }

    pub(super) fn clear(&self) -> Option<u32> {
        self.clear_percent.as_ref().and_then(|v| u32::try_from(v.0.0).ok())
    }
}

impl Degrees {
    pub(super) fn pair(&self) -> Pair {
        let value = |v: &Option<Read<Celsius>>| v.as_ref().map(|v| Read(Whole(v.0.0)));
        Pair {
            raise_percent: value(&self.raise_celsius),
            clear_percent: value(&self.clear_celsius),
        }
    }
}

type Set = fn(&mut Layer, &str) -> Result<(), String>;

/// What can be set through the environment, without the prefix.
const VARIABLES: [(&str, Set); 26] = [
    ("MASTERS", |l, t| list(&mut l.masters, t)),
    ("NAME", |l, t| one(&mut l.name, t)),
    ("ADDRESS", |l, t| one(&mut l.address, t)),
    ("BIND_ADDRESS", |l, t| one(&mut l.bind_address, t)),
    ("ROLE", |l, t| one(&mut l.role, t)),
    ("KIND", |l, t| one(&mut l.kind, t)),
    ("LABELS", |l, t| {
        let pairs = t.split(',').filter(|pair| !pair.trim().is_empty());
        l.labels = Some(pairs.map(label).collect::<Result<_, _>>()?);
        Ok(())
    }),
    ("STATE_DIR", |l, t| one(&mut l.state_dir, t)),
    ("CONTROL_SOCKET", |l, t| one(&mut l.control_socket, t)),
    ("LOG_LEVEL", |l, t| one(&mut l.log_level, t)),
    ("SAMPLING_INTERVAL_S", |l, t| one(&mut l.sampling_interval_s, t)),
    ("DISKS", |l, t| list(&mut l.disks, t)),
    ("RECONNECT_MAX_S", |l, t| one(&mut l.reconnect_max_s, t)),
    ("SYSTEM_CHECK", |l, t| one(&mut l.system_check, t)),
    ("PODMAN_SOCKET", |l, t| one(&mut l.podman.socket, t)),
    ("PODMAN_WATCH", |l, t| one(&mut l.podman.watch, t)),
    ("THRESHOLDS_CPU_RAISE_PERCENT", |l, t| one(&mut l.thresholds.cpu.raise_percent, t)),
    ("THRESHOLDS_CPU_CLEAR_PERCENT", |l, t| one(&mut l.thresholds.cpu.clear_percent, t)),
    ("THRESHOLDS_MEMORY_RAISE_PERCENT", |l, t| one(&mut l.thresholds.memory.raise_percent, t)),
    ("THRESHOLDS_MEMORY_CLEAR_PERCENT", |l, t| one(&mut l.thresholds.memory.clear_percent, t)),
    ("THRESHOLDS_DISK_RAISE_PERCENT", |l, t| one(&mut l.thresholds.disk.raise_percent, t)),
    ("THRESHOLDS_DISK_CLEAR_PERCENT", |l, t| one(&mut l.thresholds.disk.clear_percent, t)),
    ("THRESHOLDS_TEMPERATURE_RAISE_CELSIUS", |l, t| {
        one(&mut l.thresholds.temperature.raise_celsius, t)
    }),
    ("THRESHOLDS_TEMPERATURE_CLEAR_CELSIUS", |l, t| {
        one(&mut l.thresholds.temperature.clear_celsius, t)
    }),
    ("JOURNAL_ENTRIES_MAX", |l, t| one(&mut l.journal.entries_max, t)),
    ("JOURNAL_SIZE_MAX_MIB", |l, t| one(&mut l.journal.size_max_mib, t)),
];

/// For `--help`.
pub(super) fn environment_help() -> String {
    let names = OTHER_VARIABLES.into_iter().chain(VARIABLES.iter().map(|(name, _)| *name));
    let lines: String = names.map(|name| format!("\n  {ENVIRONMENT_PREFIX}{name}")).collect();
    format!("Environment (below flags, above the file; lists are separated by commas):{lines}")
}

fn one<T: Value>(place: &mut Option<Read<T>>, text: &str) -> Result<(), String> {
    *place = Some(Read(read(text)?));
    Ok(())
}

/// Separated by commas.
fn list<T: Value>(place: &mut Option<Vec<Read<T>>>, text: &str) -> Result<(), String> {
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    *place = Some(parts.map(|part| read(part).map(Read)).collect::<Result<_, _>>()?);
    Ok(())
}

/// `KEY=VALUE`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = match text.trim().split_once('=') {
        Some((key, value)) if !key.is_empty() => (key.to_owned(), value.to_owned()),
        _ => return Err(format!("expected KEY=VALUE, found `{}`", text.trim().escape_debug())),
    };
    check_labels("label", &Labels::from([(key.clone(), value.clone())]))
        .map_err(|error| error.to_string())?;
    Ok((key, value))
}

/// `podman:` with nothing below it is as if it were not there.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// In our words, without the place, which is said before it.
fn problem_of(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Yaml;
    if let Yaml::SerdeUnknownField { field, expected, .. } = error {
        return unknown("key", field, expected.iter().copied());
    }
    if let Yaml::SerdeInvalidType { unexpected, expected, .. } = error {
        return format!("expected {expected}, found {unexpected}");
    }
    if let Yaml::DuplicateMappingKey { key, .. } = error {
        return format!("`{}` is given twice", key.as_deref().unwrap_or("?"));
    }
    let text = error.to_string();
    let place = text.find(" at line ").or_else(|| text.find("\n"));
    text[..place.unwrap_or(text.len())].trim().to_owned()
}
