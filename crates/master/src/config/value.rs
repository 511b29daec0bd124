//! Readers for single values, the same for file, environment and flags.

use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use piccolo_core::{model::NodeName, state_manager::Approval, topology::Readiness};
use piccolo_rpc::tls::{MinVersion, names::check_id};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::GRPC_PORT;

const SHOWN_CHARS_MAX: usize = 80;

/// A kind of value that is written as text.
pub(crate) trait Value: Sized {
    /// What is expected, as in `expected ...`.
    fn expected() -> String;
    /// The value, or `None` if the text is not one.
    fn read(text: &str) -> Option<Self>;
}

/// Reads a value, or says what was expected and what was found.
pub(crate) fn read<T: Value>(text: &str) -> Result<T, String> {
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

impl Value for PathBuf {
    fn expected() -> String {
        "a path".into()
    }

    fn read(text: &str) -> Option<Self> {
        let valid = !text.is_empty() && text.len() < 4096 && !text.contains('\0');
        valid.then(|| text.into())
    }
}

impl Value for SocketAddr {
    fn expected() -> String {
        "ADDRESS:PORT, such as `0.0.0.0:47098` or `[::]:47098`".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A port to listen on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch(pub Option<SocketAddr>);

impl Value for Switch {
    fn expected() -> String {
        "ADDRESS:PORT, such as `0.0.0.0:47099`, or `none`".into()
    }

    fn read(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self(None));
        }
        SocketAddr::read(text).map(|address| Self(Some(address)))
    }
}

/// Where others reach this master: `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Value for Advertised {
    fn expected() -> String {
        format!("HOST or HOST:PORT, such as `192.0.2.10` or `master.example.org:{GRPC_PORT}`")
    }

    fn read(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Some(Self { host: ip.to_string(), port: GRPC_PORT });
        }
        let (host, rest) = match text.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|&port| port != 0)?,
            None if rest.is_empty() => GRPC_PORT,
            None => return None,
        };
        is_host(host, text.starts_with('[')).then(|| Self { host: host.to_owned(), port })
    }
}

/// A name or an address for the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(pub String);

impl Value for Endpoint {
    fn expected() -> String {
        "a host name or an address".into()
    }

    fn read(text: &str) -> Option<Self> {
        let valid = text.parse::<IpAddr>().is_ok() || is_host(text, false);
        valid.then(|| Self(text.to_owned()))
    }
}

fn is_host(text: &str, in_brackets: bool) -> bool {
    if in_brackets {
        text.parse::<Ipv6Addr>().is_ok()
    } else {
        NodeName::parse("host", text).is_ok()
    }
}

impl Value for NodeName {
    fn expected() -> String {
        "a name of letters, digits and `-`".into()
    }

    fn read(text: &str) -> Option<Self> {
        NodeName::parse("cluster_name", text).ok()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterId(pub String);

impl Value for ClusterId {
    fn expected() -> String {
        "1 to 63 letters, digits, `.`, `_` and `-`".into()
    }

    fn read(text: &str) -> Option<Self> {
        check_id("cluster id", text).is_ok().then(|| Self(text.to_owned()))
    }
}

impl Value for Approval {
    fn expected() -> String {
        "`auto` or `manual`".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "manual" => Some(Self::Manual),
            _ => None,
        }
    }
}

impl Value for Readiness {
    fn expected() -> String {
        "`enforce` or `warn`".into()
    }

    fn read(text: &str) -> Option<Self> {
        Self::from_name(text)
    }
}

impl Value for MinVersion {
    fn expected() -> String {
        "`1.2` or `1.3`".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A span of time: `90d`, `12h`, `30m`, `20s`, `500ms`, or seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Value for Span {
    fn expected() -> String {
        "a span of time, such as `90d`, `12h`, `30m`, `20s` or `500ms`".into()
    }

    fn read(text: &str) -> Option<Self> {
        const YEARS_100: u64 = 100 * 366 * 86_400 * 1000;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let ms = match unit.trim() {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let ms = number.parse::<u64>().ok()?.checked_mul(ms)?;
        (1..=YEARS_100).contains(&ms).then(|| Self(Duration::from_millis(ms)))
    }
}

/// A filter for log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Value for LogFilter {
    fn expected() -> String {
        "a level (off, error, warn, info, debug, trace) or a list such as `info,piccolo_master=debug`"
            .into()
    }

    fn read(text: &str) -> Option<Self> {
        crate::logging::check(text).is_ok().then(|| Self(text.to_owned()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreName {
    Embedded,
    Etcd,
}

impl Value for StoreName {
    fn expected() -> String {
        "`embedded` or `etcd`".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "embedded" => Some(Self::Embedded),
            "etcd" => Some(Self::Etcd),
            _ => None,
        }
    }
}

/// A whole number within limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Value for Whole<MIN, MAX> {
    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|n| (MIN..=MAX).contains(n)).map(Self)
    }
}

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    pub(super) fn usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub(super) fn u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}
