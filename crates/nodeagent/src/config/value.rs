//! Readers for single values, the same for file, environment and flags.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use piccolo_core::model::{NodeKind, NodeName, NodeRole};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::podman::watcher::Method;

/// The gRPC port of a master. HLD §7.1.
pub const MASTER_PORT: u16 = 47098;
const SHOWN_CHARS_MAX: usize = 80;

/// A kind of value that is written as text.
pub trait Value: Sized {
    /// What is expected, as in `expected ...`.
    fn expected() -> String;
    /// The value, or `None` if the text is not one.
    fn read(text: &str) -> Option<Self>;
}

/// Reads a value.
///
/// # Errors
/// A sentence with what was expected and what was found.
pub fn read<T: Value>(text: &str) -> Result<T, String> {
    T::read(text.trim()).ok_or_else(|| {
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        format!("expected {}, found `{}`", T::expected(), shown.escape_debug())
    })
}

/// A value that serde reads by the same rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read<T>(pub(super) T);

impl<'de, T: Value> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);
        impl<T: Value> Visitor<'_> for Text<T> {
            type Value = Read<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&T::expected())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                read(text).map(Read).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// `HOST:PORT` of a master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterAddress {
    /// A host name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Value for MasterAddress {
    fn expected() -> String {
        "HOST:PORT, such as `master.example.org:47098` or `[fd00::1]:47098`".into()
    }

    fn read(text: &str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|&port| port != 0)?,
            None if rest.is_empty() => MASTER_PORT,
            None => return None,
        };
        let valid = if text.starts_with('[') {
            host.parse::<Ipv6Addr>().is_ok()
        } else {
            NodeName::parse("host", host).is_ok()
        };
        valid.then(|| Self { host: host.to_owned(), port })
    }
}

/// A path that begins with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsolutePath(pub PathBuf);

impl Value for AbsolutePath {
    fn expected() -> String {
        "a path that begins with `/`".into()
    }

    fn read(text: &str) -> Option<Self> {
        let valid = text.starts_with('/') && text.len() < 4096 && !text.contains('\0');
        valid.then(|| Self(text.into()))
    }
}

/// Podman's socket; `None` for a node without containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanSocket(pub Option<PathBuf>);

impl Value for PodmanSocket {
    fn expected() -> String {
        "the path of a socket, such as `/run/podman/podman.sock`, or `none`".into()
    }

    fn read(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self(None));
        }
        let path = text.strip_prefix("unix://").unwrap_or(text);
        AbsolutePath::read(path).map(|path| Self(Some(path.0)))
    }
}

/// Where the system check is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemCheckProgram {
    /// That of the release which the agent is from, if it is from one.
    Auto,
    At(PathBuf),
    None,
}

impl Value for SystemCheckProgram {
    fn expected() -> String {
        "`auto`, `none`, or the path of a program".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "none" => Some(Self::None),
            path => AbsolutePath::read(path).map(|path| Self::At(path.0)),
        }
    }
}

/// A whole number within limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Value for Whole<MIN, MAX> {
    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn read(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok())??;
        (MIN..=MAX).contains(&number).then_some(Self(number))
    }
}

impl Value for NodeName {
    fn expected() -> String {
        "a host name (letters, digits, `-` and `.`)".into()
    }

    fn read(text: &str) -> Option<Self> {
        Self::parse("name", text).ok()
    }
}

impl Value for IpAddr {
    fn expected() -> String {
        "an IP address".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// One of a few words.
macro_rules! words {
    ($type:ty, $($word:literal => $value:expr),+) => {
        impl Value for $type {
            fn expected() -> String {
                [$($word),+].map(|word| format!("`{word}`")).join(" or ")
            }

            fn read(text: &str) -> Option<Self> {
                match text {
                    $($word => Some($value),)+
                    _ => None,
                }
            }
        }
    };
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

words!(LogLevel, "off" => Self::Off, "error" => Self::Error, "warn" => Self::Warn,
    "info" => Self::Info, "debug" => Self::Debug, "trace" => Self::Trace);
words!(NodeRole, "sub" => Self::Sub, "master" => Self::Master);
words!(NodeKind, "embedded" => Self::Embedded, "cloud" => Self::Cloud);
words!(Method, "auto" => Self::Auto, "events" => Self::Events);

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
