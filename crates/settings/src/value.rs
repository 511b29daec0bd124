//! Readers for single values, the same for file, environment and flags.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use piccolo_core::model::NodeName;

use crate::error::shown;

/// As the kernel has it.
const PATH_BYTES_MAX: usize = 4096;

/// How one kind of value is written.
pub trait Reader {
    type Value;
    /// What is expected, as in `expected ...`.
    fn expected(&self) -> String;
    /// The value, or `None` if the text is not one.
    fn read(&self, text: &str) -> Option<Self::Value>;
    /// A text that is read as the value.
    fn show(&self, value: &Self::Value) -> String;
}

/// Reads a value.
///
/// # Errors
/// A sentence with what was expected and what was found.
pub fn read<R: Reader>(reader: &R, text: &str) -> Result<R::Value, String> {
    let text = text.trim();
    let wrong = || format!("expected {}, found `{}`", reader.expected(), shown(text));
    reader.read(text).ok_or_else(wrong)
}

/// The same for a flag, as clap wants it.
pub fn by<R>(reader: R) -> impl Fn(&str) -> Result<R::Value, String> + Clone + Send + Sync + 'static
where
    R: Reader + Clone + Send + Sync + 'static,
{
    move |text| read(&reader, text)
}

/// `KEY=VALUE`, for flags.
///
/// # Errors
/// A sentence with what was expected and what was found.
pub fn pair(text: &str) -> Result<(String, String), String> {
    crate::field::pair(text)
}

/// One of a few words.
#[derive(Debug, Clone, Copy)]
pub struct Words<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Clone + PartialEq> Reader for Words<T> {
    type Value = T;

    fn expected(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        words.join(" or ")
    }

    fn read(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone())
    }

    fn show(&self, value: &T) -> String {
        let word = self.0.iter().find(|(_, known)| known == value);
        word.map(|(word, _)| (*word).to_owned()).unwrap_or_default()
    }
}

/// What the standard library or a type of ours reads; with what is expected.
#[derive(Debug, Clone, Copy)]
pub struct Parsed<T>(&'static str, PhantomData<fn() -> T>);

impl<T> Parsed<T> {
    #[must_use]
    pub const fn expecting(expected: &'static str) -> Self {
        Self(expected, PhantomData)
    }
}

impl<T: FromStr + Display> Reader for Parsed<T> {
    type Value = T;

    fn expected(&self) -> String {
        self.0.to_owned()
    }

    fn read(&self, text: &str) -> Option<T> {
        text.parse().ok()
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }
}

/// A whole number from the first to the second, in units of so many.
#[derive(Debug, Clone, Copy)]
pub struct Whole<T>(u64, u64, u64, PhantomData<fn() -> T>);

impl<T> Whole<T> {
    #[must_use]
    pub const fn within(min: u64, max: u64) -> Self {
        Self(min, max, 1, PhantomData)
    }

    /// Written in units of `unit`, e.g. of 1024 bytes.
    #[must_use]
    pub const fn in_units_of(self, unit: u64) -> Self {
        Self(self.0, self.1, unit, PhantomData)
    }
}

impl<T: TryFrom<u64> + TryInto<u64> + Copy> Reader for Whole<T> {
    type Value = T;

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.0, self.1)
    }

    fn read(&self, text: &str) -> Option<T> {
        T::try_from(whole(text, &(self.0..=self.1))?.checked_mul(self.2)?).ok()
    }

    fn show(&self, value: &T) -> String {
        (*value).try_into().map(|number: u64| (number / self.2).to_string()).unwrap_or_default()
    }
}

/// Whole seconds.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub u64, pub u64);

impl Reader for Seconds {
    type Value = Duration;

    fn expected(&self) -> String {
        Whole::<u64>::within(self.0, self.1).expected()
    }

    fn read(&self, text: &str) -> Option<Duration> {
        whole(text, &(self.0..=self.1)).map(Duration::from_secs)
    }

    fn show(&self, value: &Duration) -> String {
        value.as_secs().to_string()
    }
}

fn whole(text: &str, range: &RangeInclusive<u64>) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok())??;
    range.contains(&number).then_some(number)
}

/// A span of time: `90d`, `12h`, `30m`, `20s`, `500ms`, or seconds.
#[derive(Debug, Clone, Copy)]
pub struct Span;

/// From the largest to the smallest, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Reader for Span {
    type Value = Duration;

    fn expected(&self) -> String {
        "a span of time, such as `90d`, `12h`, `30m`, `20s` or `500ms`".into()
    }

    fn read(&self, text: &str) -> Option<Duration> {
        const YEARS_100: u64 = 100 * 366 * 86_400 * 1000;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = if unit.is_empty() { "s" } else { unit.trim() };
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let ms = number.parse::<u64>().ok()?.checked_mul(size)?;
        (1..=YEARS_100).contains(&ms).then(|| Duration::from_millis(ms))
    }

    /// In the largest unit that needs no fraction.
    fn show(&self, value: &Duration) -> String {
        let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        let unit = UNITS.into_iter().find(|(_, size)| ms >= *size && ms.is_multiple_of(*size));
        let (unit, size) = unit.unwrap_or(("ms", 1));
        format!("{}{unit}", ms / size)
    }
}

/// What another reads, or `none`.
#[derive(Debug, Clone, Copy)]
pub struct OrNone<R>(pub R);

impl<R: Reader> Reader for OrNone<R> {
    type Value = Option<R::Value>;

    fn expected(&self) -> String {
        format!("{}, or `none`", self.0.expected())
    }

    fn read(&self, text: &str) -> Option<Self::Value> {
        if text == "none" { Some(None) } else { self.0.read(text).map(Some) }
    }

    fn show(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "none".into(), |value| self.0.show(value))
    }
}

/// Any path.
#[derive(Debug, Clone, Copy)]
pub struct AnyPath;

impl Reader for AnyPath {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "a path".into()
    }

    fn read(&self, text: &str) -> Option<PathBuf> {
        let valid = !text.is_empty() && text.len() < PATH_BYTES_MAX && !text.contains('\0');
        valid.then(|| text.into())
    }

    fn show(&self, value: &PathBuf) -> String {
        path(value)
    }
}

/// `true` or `false`.
pub const YES_OR_NO: Words<bool> = Words(&[("true", true), ("false", false)]);

/// A path that begins with `/`.
#[derive(Debug, Clone, Copy)]
pub struct AbsolutePath;

impl Reader for AbsolutePath {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "a path that begins with `/`".into()
    }

    fn read(&self, text: &str) -> Option<PathBuf> {
        AnyPath.read(text).filter(|_| text.starts_with('/'))
    }

    fn show(&self, value: &PathBuf) -> String {
        path(value)
    }
}

#[must_use]
pub fn path(path: &Path) -> String {
    path.display().to_string()
}

/// The name of a node or a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Name;

impl Reader for Name {
    type Value = NodeName;

    fn expected(&self) -> String {
        "a host name (letters, digits, `-` and `.`)".into()
    }

    fn read(&self, text: &str) -> Option<NodeName> {
        NodeName::parse("name", text).ok()
    }

    fn show(&self, value: &NodeName) -> String {
        value.as_str().to_owned()
    }
}

/// Where something is reached: `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A host name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `HOST:PORT`, with this port if none is written.
#[derive(Debug, Clone, Copy)]
pub struct HostAndPort(pub u16);

impl Reader for HostAndPort {
    type Value = HostPort;

    fn expected(&self) -> String {
        format!("HOST:PORT, such as `master.example.org:{0}` or `[fd00::1]:{0}`", self.0)
    }

    fn read(&self, text: &str) -> Option<HostPort> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|&port| port != 0)?,
            None if rest.is_empty() => self.0,
            None => return None,
        };
        is_host(host, text.starts_with('[')).then(|| HostPort { host: host.to_owned(), port })
    }

    fn show(&self, value: &HostPort) -> String {
        value.to_string()
    }
}

/// A host name or an address of version 4, or in brackets one of version 6.
#[must_use]
pub fn is_host(text: &str, in_brackets: bool) -> bool {
    if in_brackets {
        text.parse::<Ipv6Addr>().is_ok()
    } else {
        NodeName::parse("host", text).is_ok()
    }
}
