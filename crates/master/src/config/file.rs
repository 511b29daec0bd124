//! The configuration file, and how flags and defaults go with it.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use piccolo_core::{
    failure_detector::Timing,
    model::NodeName,
    state_manager::{Approval, Settings},
    topology::Readiness,
};
use piccolo_rpc::tls::{MinVersion, limits::Limits};
use serde::{Deserialize, Deserializer};

use super::{
    Advertised, ClusterId, Config, ConfigError, Endpoint, EtcdConfig, GRPC_PORT, HTTPS_PORT,
    LogFilter, Span, StoreConfig, StoreName, Switch,
    cli::Flags,
    value::{Read, Whole},
};

/// A configuration with every comment takes 6 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Nodes at most: when each of them was heard last is one value in the store, and that has 512 KiB.
const NODES_MAX: u64 = 6_000;

/// One source of settings: each value may be there or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Layer {
    state_dir: Option<Read<PathBuf>>,
    listen: Option<Read<SocketAddr>>,
    https_listen: Option<Read<Switch>>,
    advertise: Option<Vec<Read<Advertised>>>,
    names: Option<Vec<Read<Endpoint>>>,
    cluster_id: Option<Read<ClusterId>>,
    cluster_name: Option<Read<NodeName>>,
    approval: Option<Read<Approval>>,
    readiness: Option<Read<Readiness>>,
    certificate_lifetime: Option<Read<Span>>,
    #[serde(deserialize_with = "null_is_empty")]
    store: StoreLayer,
    #[serde(deserialize_with = "null_is_empty")]
    timing: TimingLayer,
    #[serde(deserialize_with = "null_is_empty")]
    limits: LimitsLayer,
    tls_min_version: Option<Read<MinVersion>>,
    log: Option<Read<LogFilter>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StoreLayer {
    kind: Option<Read<StoreName>>,
    endpoints: Option<Vec<String>>,
    ca: Option<Read<PathBuf>>,
    certificate: Option<Read<PathBuf>>,
    key: Option<Read<PathBuf>>,
    user: Option<String>,
    password_file: Option<Read<PathBuf>>,
    allow_plaintext: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TimingLayer {
    beat_interval: Option<Read<Span>>,
    beat_silence: Option<Read<Span>>,
    session_grace: Option<Read<Span>>,
    heartbeat_interval: Option<Read<Span>>,
    heartbeats_missed: Option<Read<Whole<1, 100>>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsLayer {
    nodes: Option<Read<Whole<1, NODES_MAX>>>,
    events: Option<Read<Whole<100, 100_000>>>,
    events_age: Option<Read<Span>>,
    audit: Option<Read<Whole<100, 100_000>>>,
    connections: Option<Read<Whole<16, 65_536>>>,
    connections_per_address: Option<Read<Whole<1, 65_536>>>,
    connections_per_address_per_second: Option<Read<Whole<1, 65_536>>>,
}

/// Where settings were read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Values that are right each by itself, but not together.
#[derive(Debug)]
pub(super) struct Clash {
    /// `section.key` of those that may be the wrong ones, the likeliest first.
    keys: &'static [&'static str],
    problem: String,
}

impl Clash {
    /// With the place, as far as it is known.
    pub(super) fn at(self, source: Option<&Source>) -> ConfigError {
        let Self { keys, problem } = self;
        let Some(Source { path, text }) = source else { return ConfigError::Together(problem) };
        let path = path.display();
        ConfigError::Together(match keys.iter().find_map(|key| line_of(text, key)) {
            Some(line) => format!("{path}:{line}: {problem}"),
            None => format!("{path}, with the flags and the environment over it: {problem}"),
        })
    }
}

/// The line of `key` or `section.key` in a file as people write it.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let mut within = "";
    for (line, number) in text.lines().zip(1..) {
        let Some((word, _)) = line.split_once(':') else { continue };
        let is_inside = word.starts_with([' ', '\t']);
        if word.trim() == name && (if is_inside { within } else { "" }) == section {
            return Some(number);
        }
        if !is_inside && !word.starts_with('#') {
            within = word;
        }
    }
    None
}

impl Layer {
    pub(super) fn from_file(path: &Path) -> Result<(Self, Source), ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
                limit_bytes: FILE_BYTES_MAX,
            });
        }
        Ok((Self::from_yaml(path, &text)?, Source { path: path.to_owned(), text }))
    }

    pub(super) fn from_yaml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let parsed: Result<Option<Self>, _> = serde_saphyr::from_str(text);
        parsed.map(Option::unwrap_or_default).map_err(|error| {
            let error = error.without_snippet();
            let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            ConfigError::File { path: path.to_owned(), line, column, problem: problem_of(error) }
        })
    }

    /// What the flags say goes before what is here.
    pub(super) fn under(mut self, flags: &Flags) -> Self {
        fn over<T: Clone>(flag: &Option<T>, file: &mut Option<Read<T>>) {
            if let Some(value) = flag {
                *file = Some(Read(value.clone()));
            }
        }
        over(&flags.state_dir, &mut self.state_dir);
        over(&flags.listen, &mut self.listen);
        over(&flags.https_listen, &mut self.https_listen);
        over(&flags.cluster_id, &mut self.cluster_id);
        over(&flags.cluster_name, &mut self.cluster_name);
        over(&flags.approval, &mut self.approval);
        over(&flags.readiness, &mut self.readiness);
        over(&flags.certificate_lifetime, &mut self.certificate_lifetime);
        over(&flags.tls_min_version, &mut self.tls_min_version);
        over(&flags.log, &mut self.log);
        over(&flags.store, &mut self.store.kind);
        over(&flags.store_ca, &mut self.store.ca);
        over(&flags.store_certificate, &mut self.store.certificate);
        over(&flags.store_key, &mut self.store.key);
        over(&flags.store_password_file, &mut self.store.password_file);
        if !flags.advertise.is_empty() {
            self.advertise = Some(flags.advertise.iter().cloned().map(Read).collect());
        }
        if !flags.store_endpoints.is_empty() {
            self.store.endpoints = Some(flags.store_endpoints.clone());
        }
        if let Some(user) = &flags.store_user {
            self.store.user = Some(user.clone());
        }
        self
    }

    pub(super) fn into_config(self) -> Result<Config, Clash> {
        let settings = Settings::default();
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let advertise: Vec<_> =
            self.advertise.unwrap_or_default().into_iter().map(|Read(host)| host).collect();
        let names = self.names.unwrap_or_default().into_iter().map(|Read(Endpoint(name))| name);
        let mut names: Vec<_> = names.collect();
        for host in advertise.iter().map(|advertised| &advertised.host) {
            if !names.contains(host) {
                names.push(host.clone());
            }
        }
        let default_name = || NodeName::parse("cluster_name", "piccolo");
        let cluster_name = match self.cluster_name {
            Some(Read(name)) => name,
            None => default_name().map_err(|error| clash(&["cluster_name"], error.to_string()))?,
        };
        let limits = &self.limits;
        Ok(Config {
            state_dir: value(self.state_dir, || "/var/lib/piccolo/master".into()),
            listen: value(self.listen, || any(GRPC_PORT)),
            https_listen: value(self.https_listen, || Switch(Some(any(HTTPS_PORT)))).0,
            names,
            advertise: advertise.iter().map(ToString::to_string).collect(),
            cluster_id: self.cluster_id.map(|Read(ClusterId(id))| id),
            cluster_name,
            approval: value(self.approval, || settings.approval),
            readiness: value(self.readiness, || settings.readiness),
            certificate_lifetime: lifetime(self.certificate_lifetime, &settings)?,
            store: self.store.into_config()?,
            timing: self.timing.over(settings.timing)?,
            nodes_max: value(limits.nodes.clone(), || Whole(NODES_MAX)).usize(),
            events_max: value(limits.events.clone(), || Whole(settings.events_max as u64)).usize(),
            events_age_max: value(limits.events_age.clone(), || Span(settings.events_age_max)).0,
            audit_max: value(limits.audit.clone(), || Whole(settings.audit_max as u64)).usize(),
            tls_min_version: value(self.tls_min_version, MinVersion::default),
            limits: self.limits.over(Limits::default()),
            log_filter: value(self.log, || LogFilter(crate::logging::DEFAULT_FILTER.into())).0,
        })
    }
}

impl StoreLayer {
    fn into_config(self) -> Result<StoreConfig, Clash> {
        let endpoints = self.endpoints.unwrap_or_default();
        match value(self.kind, || StoreName::Embedded) {
            StoreName::Embedded if !endpoints.is_empty() => {
                Err(clash(&["store.endpoints"], "store.endpoints needs store.kind etcd"))
            }
            StoreName::Embedded => Ok(StoreConfig::Embedded),
            StoreName::Etcd if endpoints.is_empty() => Err(clash(
                &["store.kind"],
                "store.kind etcd needs store.endpoints, such as https://192.0.2.10:2379",
            )),
            StoreName::Etcd => {
                let client = match (self.certificate, self.key) {
                    (Some(Read(certificate)), Some(Read(key))) => Some((certificate, key)),
                    (None, None) => None,
                    (Some(_), None) | (None, Some(_)) => {
                        let keys = &["store.certificate", "store.key"];
                        return Err(clash(keys, "store.certificate and store.key go together"));
                    }
                };
                Ok(StoreConfig::Etcd(EtcdConfig {
                    endpoints,
                    ca: self.ca.map(|Read(path)| path),
                    client,
                    user: self.user,
                    password_file: self.password_file.map(|Read(path)| path),
                    allow_plaintext: self.allow_plaintext.unwrap_or(false),
                }))
            }
        }
    }
}

impl TimingLayer {
    fn over(self, base: Timing) -> Result<Timing, Clash> {
        let span = |value: Option<Read<Span>>, or: Duration| value.map_or(or, |Read(Span(d))| d);
        let timing = Timing {
            beat_interval: span(self.beat_interval, base.beat_interval),
            beat_silence: span(self.beat_silence, base.beat_silence),
            session_grace: span(self.session_grace, base.session_grace),
            heartbeat_interval: span(self.heartbeat_interval, base.heartbeat_interval),
            heartbeats_missed: self
                .heartbeats_missed
                .map_or(base.heartbeats_missed, |Read(count)| count.u32()),
        };
        if timing.beat_silence < timing.beat_interval * 2 {
            return Err(clash(
                &["timing.beat_silence", "timing.beat_interval"],
                "timing.beat_silence must be twice timing.beat_interval at least",
            ));
        }
        if timing.heartbeat_interval < Timing::HEARTBEAT_INTERVAL_MIN {
            let min = Timing::HEARTBEAT_INTERVAL_MIN.as_secs();
            return Err(clash(
                &["timing.heartbeat_interval"],
                format!("timing.heartbeat_interval must be {min}s at least (HLD §8.1.1)"),
            ));
        }
        Ok(timing)
    }
}

impl LimitsLayer {
    fn over(self, base: Limits) -> Limits {
        let per_second = self
            .connections_per_address_per_second
            .map_or(base.connections_per_address_per_second, |Read(n)| n.u32());
        Limits {
            connections_max: self.connections.map_or(base.connections_max, |Read(n)| n.usize()),
            connections_per_address_max: self
                .connections_per_address
                .map_or(base.connections_per_address_max, |Read(n)| n.usize()),
            connections_per_address_per_second: per_second,
            connections_per_address_burst: base
                .connections_per_address_burst
                .max(per_second.saturating_mul(2)),
            ..base
        }
    }
}

fn clash(keys: &'static [&'static str], problem: impl Into<String>) -> Clash {
    Clash { keys, problem: problem.into() }
}

fn value<T>(read: Option<Read<T>>, default: impl FnOnce() -> T) -> T {
    read.map_or_else(default, |Read(value)| value)
}

fn lifetime(read: Option<Read<Span>>, settings: &Settings) -> Result<Duration, Clash> {
    const MIN: Duration = Duration::from_secs(2);
    let Span(life) = value(read, || Span(settings.certificate_lifetime));
    if life < MIN {
        return Err(clash(&["certificate_lifetime"], "certificate_lifetime must be 2s at least"));
    }
    Ok(life)
}

/// A key with nothing after it, as a template has where everything under it is commented out.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// In our words, without the place, which is said before it.
fn problem_of(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Yaml;
    if let Yaml::SerdeUnknownField { field, expected, .. } = error {
        let field: String = field.chars().take(80).collect();
        return format!("unknown key `{field}`; expected one of {}", expected.join(", "));
    }
    if let Yaml::SerdeInvalidType { unexpected, expected, .. } = error {
        return format!("expected {expected}, found {unexpected}");
    }
    if let Yaml::DuplicateMappingKey { key, .. } = error {
        return format!("`{}` is given twice", key.as_deref().unwrap_or("?"));
    }
    let text = error.to_string();
    let place = text.find(" at line ").or_else(|| text.find('\n'));
    text[..place.unwrap_or(text.len())].trim().to_owned()
}
