//! The table of the master's settings, how each is written, and how they go together.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use hyper::Uri;
use piccolo_core::{
    failure_detector::Timing,
    logs::kept::Retention,
    model::NodeName,
    state_manager::{Approval, Settings},
    topology::Readiness,
};
use piccolo_rpc::tls::{MinVersion, limits::Limits, names::check_id};
use piccolo_settings::{
    Clash, Field, List, Loaded, Maybe, One, Schema, Setting,
    value::{
        AnyPath, HostAndPort, HostPort, Name, OrNone, Parsed, Reader, Span, Whole, Words,
        YES_OR_NO, is_host,
    },
};

use super::{
    BackupConfig, Config, Error, EtcdConfig, GRPC_PORT, HTTPS_PORT, OtlpConfig, Said, StoreConfig,
};

/// Nodes at most: when each of them was heard last is one value in the store, and that has 512 KiB.
const NODES_MAX: u64 = 6_000;
const CERTIFICATE_LIFETIME_MIN: Duration = Duration::from_secs(2);
const PROBE_INTERVAL_MIN: Duration = Duration::from_secs(10);

pub(super) const ADDRESS: Parsed<SocketAddr> =
    Parsed::expecting("ADDRESS:PORT, such as `0.0.0.0:47098` or `[::]:47098`");
pub(super) const APPROVAL: Words<Approval> =
    Words(&[("auto", Approval::Auto), ("manual", Approval::Manual)]);
pub(super) const READINESS: Words<Readiness> =
    Words(&[("enforce", Readiness::Enforce), ("warn", Readiness::Warn)]);
pub(super) const TLS_VERSION: Words<MinVersion> =
    Words(&[("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)]);
pub(super) const STORE: Words<StoreKind> =
    Words(&[("embedded", StoreKind::Embedded), ("etcd", StoreKind::Etcd)]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Embedded,
    Etcd,
}

/// The settings as they are written: those of the file's sections side by side.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) state_dir: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) https_listen: Option<SocketAddr>,
    pub(super) advertise: Vec<HostPort>,
    names: Vec<String>,
    pub(super) cluster_id: Option<String>,
    pub(super) cluster_name: Option<NodeName>,
    pub(super) approval: Approval,
    pub(super) readiness: Readiness,
    pub(super) certificate_lifetime: Duration,
    probe_interval: Duration,
    pub(super) tls_min_version: MinVersion,
    pub(super) log_filter: String,
    pub(super) store: Store,
    timing: Timing,
    nodes_max: usize,
    events_max: usize,
    events_age_max: Duration,
    audit_max: usize,
    kept_logs: Retention,
    limits: Limits,
    backup: Backup,
    otlp: Otlp,
}

#[derive(Debug, Clone)]
struct Backup {
    folder: Option<PathBuf>,
    every: Duration,
    keep: usize,
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Otlp {
    endpoint: Option<Uri>,
    interval: Duration,
    headers_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    allow_plaintext: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) kind: StoreKind,
    pub(super) endpoints: Vec<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    allow_plaintext: bool,
}

impl Default for Written {
    fn default() -> Self {
        let settings = Settings::default();
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self {
            state_dir: "/var/lib/piccolo/master".into(),
            listen: any(GRPC_PORT),
            https_listen: Some(any(HTTPS_PORT)),
            advertise: Vec::new(),
            names: Vec::new(),
            cluster_id: None,
            cluster_name: NodeName::parse("cluster_name", "piccolo").ok(),
            approval: settings.approval,
            readiness: settings.readiness,
            certificate_lifetime: settings.certificate_lifetime,
            probe_interval: settings.probe_interval,
            tls_min_version: MinVersion::default(),
            log_filter: crate::logging::DEFAULT_FILTER.into(),
            store: Store {
                kind: StoreKind::Embedded,
                endpoints: Vec::new(),
                ca: None,
                certificate: None,
                key: None,
                user: None,
                password_file: None,
                allow_plaintext: false,
            },
            timing: settings.timing,
            nodes_max: usize::try_from(NODES_MAX).unwrap_or(usize::MAX),
            events_max: settings.events_max,
            events_age_max: settings.events_age_max,
            audit_max: settings.audit_max,
            kept_logs: Retention::default(),
            limits: Limits::default(),
            backup: Backup {
                folder: None,
                every: Duration::from_secs(86_400),
                keep: 7,
                passphrase_file: None,
            },
            otlp: Otlp {
                endpoint: None,
                interval: Duration::from_secs(30),
                headers_file: None,
                ca: None,
                allow_plaintext: false,
            },
        }
    }
}

/// Of the file and the environment.
pub(super) const SCHEMA: Schema<Written> = Schema {
    settings: SETTINGS,
    default_file: "/etc/piccolo/master.yaml",
    prefix: "PICCOLO_MASTER_",
    other_variables: &[],
};

const SETTINGS: &[Setting<Written>] = &[
    Setting { key: "state_dir", field: |c| Box::new(One(&mut c.state_dir, AnyPath)) },
    Setting { key: "listen", field: |c| Box::new(One(&mut c.listen, ADDRESS)) },
    Setting { key: "https_listen", field: |c| Box::new(One(&mut c.https_listen, OrNone(ADDRESS))) },
    Setting { key: "advertise", field: |c| Box::new(List(&mut c.advertise, Advertised)) },
    Setting { key: "names", field: |c| Box::new(List(&mut c.names, Endpoint)) },
    Setting { key: "cluster_id", field: |c| Box::new(Maybe(&mut c.cluster_id, ClusterId)) },
    Setting { key: "cluster_name", field: |c| Box::new(Maybe(&mut c.cluster_name, Name)) },
    Setting { key: "approval", field: |c| Box::new(One(&mut c.approval, APPROVAL)) },
    Setting { key: "readiness", field: |c| Box::new(One(&mut c.readiness, READINESS)) },
    Setting { key: "certificate_lifetime", field: |c| span(&mut c.certificate_lifetime) },
    Setting { key: "probe_interval", field: |c| span(&mut c.probe_interval) },
    Setting {
        key: "tls_min_version",
        field: |c| Box::new(One(&mut c.tls_min_version, TLS_VERSION)),
    },
    Setting { key: "log", field: |c| Box::new(One(&mut c.log_filter, LogFilter)) },
    Setting { key: "store.kind", field: |c| Box::new(One(&mut c.store.kind, STORE)) },
    Setting { key: "store.endpoints", field: |c| Box::new(List(&mut c.store.endpoints, TEXT)) },
    Setting { key: "store.ca", field: |c| file(&mut c.store.ca) },
    Setting { key: "store.certificate", field: |c| file(&mut c.store.certificate) },
    Setting { key: "store.key", field: |c| file(&mut c.store.key) },
    Setting { key: "store.user", field: |c| Box::new(Maybe(&mut c.store.user, TEXT)) },
    Setting { key: "store.password_file", field: |c| file(&mut c.store.password_file) },
    Setting {
        key: "store.allow_plaintext",
        field: |c| Box::new(One(&mut c.store.allow_plaintext, YES_OR_NO)),
    },
    Setting { key: "timing.beat_interval", field: |c| span(&mut c.timing.beat_interval) },
    Setting { key: "timing.beat_silence", field: |c| span(&mut c.timing.beat_silence) },
    Setting { key: "timing.session_grace", field: |c| span(&mut c.timing.session_grace) },
    Setting { key: "timing.heartbeat_interval", field: |c| span(&mut c.timing.heartbeat_interval) },
    Setting {
        key: "timing.heartbeats_missed",
        field: |c| whole(&mut c.timing.heartbeats_missed, 1, 100),
    },
    Setting { key: "limits.nodes", field: |c| whole(&mut c.nodes_max, 1, NODES_MAX) },
    Setting { key: "limits.events", field: |c| whole(&mut c.events_max, 100, 100_000) },
    Setting { key: "limits.events_age", field: |c| span(&mut c.events_age_max) },
    Setting { key: "limits.audit", field: |c| whole(&mut c.audit_max, 100, 100_000) },
    Setting {
        key: "limits.connections",
        field: |c| whole(&mut c.limits.connections_max, 16, 65_536),
    },
    Setting {
        key: "limits.connections_per_address",
        field: |c| whole(&mut c.limits.connections_per_address_max, 1, 65_536),
    },
    Setting {
        key: "limits.connections_per_address_per_second",
        field: |c| whole(&mut c.limits.connections_per_address_per_second, 1, 65_536),
    },
    Setting {
        key: "kept_logs.size_max_mib",
        field: |c| {
            let mebibytes = Whole::within(1, 4096).in_units_of(1 << 20);
            Box::new(One(&mut c.kept_logs.bytes_max, mebibytes))
        },
    },
    Setting { key: "kept_logs.age_max", field: |c| span(&mut c.kept_logs.age_max) },
    Setting { key: "backup.folder", field: |c| file(&mut c.backup.folder) },
    Setting { key: "backup.every", field: |c| span(&mut c.backup.every) },
    Setting { key: "backup.keep", field: |c| whole(&mut c.backup.keep, 1, 1_000) },
    Setting { key: "backup.passphrase_file", field: |c| file(&mut c.backup.passphrase_file) },
    Setting {
        key: "otlp.endpoint",
        field: |c| Box::new(Maybe(&mut c.otlp.endpoint, OtlpEndpoint)),
    },
    Setting { key: "otlp.interval", field: |c| span(&mut c.otlp.interval) },
    Setting { key: "otlp.headers_file", field: |c| file(&mut c.otlp.headers_file) },
    Setting { key: "otlp.ca", field: |c| file(&mut c.otlp.ca) },
    Setting {
        key: "otlp.allow_plaintext",
        field: |c| Box::new(One(&mut c.otlp.allow_plaintext, YES_OR_NO)),
    },
];

const TEXT: Parsed<String> = Parsed::expecting("a text");

fn span(value: &mut Duration) -> Box<dyn Field + '_> {
    Box::new(One(value, Span))
}

fn file(value: &mut Option<PathBuf>) -> Box<dyn Field + '_> {
    Box::new(Maybe(value, AnyPath))
}

fn whole<T>(value: &mut T, min: u64, max: u64) -> Box<dyn Field + '_>
where
    T: TryFrom<u64> + TryInto<u64> + Copy,
{
    Box::new(One(value, Whole::within(min, max)))
}

/// What follows from the settings.
pub(super) fn config_of(loaded: Loaded<Written>) -> Result<Config, Error> {
    let mut loaded = loaded;
    let written = SCHEMA.to_yaml(&mut loaded);
    let said = SCHEMA.show(&mut loaded).into_iter().map(|(key, value, by)| Said {
        key,
        value: value.to_string(),
        by: by.map(|origin| origin.to_string()),
    });
    let said = said.collect();
    let Loaded { config, origins } = loaded;
    let config = config.into_config().map_err(|clash| origins.blame(clash))?;
    Ok(Config { written, said, ..config })
}

impl Written {
    fn into_config(self) -> Result<Config, Clash> {
        let mut names = self.names;
        for host in self.advertise.iter().map(|advertised| &advertised.host) {
            if !names.contains(host) {
                names.push(host.clone());
            }
        }
        let cluster_name = self.cluster_name;
        let cluster_name =
            cluster_name.ok_or_else(|| Clash::new(["cluster_name"], "cluster_name is missing"))?;
        if self.certificate_lifetime < CERTIFICATE_LIFETIME_MIN {
            let problem = "certificate_lifetime must be 2s at least";
            return Err(Clash::new(["certificate_lifetime"], problem));
        }
        if self.probe_interval < PROBE_INTERVAL_MIN {
            let problem = "probe_interval must be 10s at least";
            return Err(Clash::new(["probe_interval"], problem));
        }
        check_timing(&self.timing)?;
        let base = Limits::default();
        let per_second = self.limits.connections_per_address_per_second;
        let burst = base.connections_per_address_burst.max(per_second.saturating_mul(2));
        Ok(Config {
            state_dir: self.state_dir,
            listen: self.listen,
            https_listen: self.https_listen,
            advertise: self.advertise.iter().map(ToString::to_string).collect(),
            names,
            cluster_id: self.cluster_id,
            cluster_name,
            approval: self.approval,
            readiness: self.readiness,
            certificate_lifetime: self.certificate_lifetime,
            probe_interval: self.probe_interval,
            store: self.store.into_config()?,
            timing: self.timing,
            nodes_max: self.nodes_max,
            events_max: self.events_max,
            events_age_max: self.events_age_max,
            audit_max: self.audit_max,
            kept_logs: self.kept_logs,
            tls_min_version: self.tls_min_version,
            limits: Limits { connections_per_address_burst: burst, ..self.limits },
            log_filter: self.log_filter,
            backup: self.backup.into_config()?,
            otlp: self.otlp.into_config()?,
            written: String::new(),
            said: Vec::new(),
        })
    }
}

impl Store {
    fn into_config(self) -> Result<StoreConfig, Clash> {
        match self.kind {
            StoreKind::Embedded if !self.endpoints.is_empty() => {
                Err(Clash::new(["store.endpoints"], "store.endpoints needs store.kind etcd"))
            }
            StoreKind::Embedded => Ok(StoreConfig::Embedded),
            StoreKind::Etcd if self.endpoints.is_empty() => Err(Clash::new(
                ["store.kind"],
                "store.kind etcd needs store.endpoints, such as https://192.0.2.10:2379",
            )),
            StoreKind::Etcd => {
                let client = match (self.certificate, self.key) {
                    (Some(certificate), Some(key)) => Some((certificate, key)),
                    (None, None) => None,
                    (Some(_), None) | (None, Some(_)) => {
                        let keys = ["store.certificate", "store.key"];
                        return Err(Clash::new(
                            keys,
                            "store.certificate and store.key go together",
                        ));
                    }
                };
                Ok(StoreConfig::Etcd(EtcdConfig {
                    endpoints: self.endpoints,
                    ca: self.ca,
                    client,
                    user: self.user,
                    password_file: self.password_file,
                    allow_plaintext: self.allow_plaintext,
                }))
            }
        }
    }
}

impl Backup {
    fn into_config(self) -> Result<Option<BackupConfig>, Clash> {
        /// The time in their names has seconds.
        const EVERY_MIN: Duration = Duration::from_secs(2);
        let Self { folder, every, keep, passphrase_file } = self;
        if every < EVERY_MIN {
            let problem = format!("backup.every must be {}s at least", EVERY_MIN.as_secs());
            return Err(Clash::new(["backup.every"], problem));
        }
        match (folder, passphrase_file) {
            (Some(folder), Some(passphrase_file)) => {
                Ok(Some(BackupConfig { folder, every, keep, passphrase_file }))
            }
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => {
                let keys = ["backup.folder", "backup.passphrase_file"];
                Err(Clash::new(keys, "backup.folder and backup.passphrase_file go together"))
            }
        }
    }
}

impl Otlp {
    fn into_config(self) -> Result<Option<OtlpConfig>, Clash> {
        const INTERVAL_MIN: Duration = Duration::from_secs(1);
        const INTERVAL_MAX: Duration = Duration::from_secs(3600);
        let Self { endpoint, interval, headers_file, ca, allow_plaintext } = self;
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
            let (min, max) = (INTERVAL_MIN.as_secs(), INTERVAL_MAX.as_secs());
            let problem = format!("otlp.interval must be {min}s to {max}s");
            return Err(Clash::new(["otlp.interval"], problem));
        }
        let Some(endpoint) = endpoint else {
            return match (headers_file, ca) {
                (None, None) => Ok(None),
                (Some(_), _) => {
                    Err(Clash::new(["otlp.headers_file"], "otlp.headers_file needs otlp.endpoint"))
                }
                (None, Some(_)) => Err(Clash::new(["otlp.ca"], "otlp.ca needs otlp.endpoint")),
            };
        };
        let is_secure = endpoint.scheme_str() == Some("https");
        if !is_secure && !allow_plaintext && !is_loopback(endpoint.host().unwrap_or_default()) {
            let problem = "otlp.endpoint would carry everything unencrypted over the network; use https://, or set \
                           otlp.allow_plaintext";
            return Err(Clash::new(["otlp.endpoint"], problem));
        }
        Ok(Some(OtlpConfig { endpoint, interval, headers_file, ca }))
    }
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    ip.map_or(host == "localhost", |ip| ip.is_loopback())
}

fn check_timing(timing: &Timing) -> Result<(), Clash> {
    if timing.beat_silence < timing.beat_interval * 2 {
        return Err(Clash::new(
            ["timing.beat_silence", "timing.beat_interval"],
            "timing.beat_silence must be twice timing.beat_interval at least",
        ));
    }
    if timing.heartbeat_interval < Timing::HEARTBEAT_INTERVAL_MIN {
        let min = Timing::HEARTBEAT_INTERVAL_MIN.as_secs();
        return Err(Clash::new(
            ["timing.heartbeat_interval"],
            format!("timing.heartbeat_interval must be {min}s at least (HLD §8.1.1)"),
        ));
    }
    Ok(())
}

/// Where others reach this master. An address of version 6 without a port needs no brackets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Advertised;

impl Reader for Advertised {
    type Value = HostPort;

    fn expected(&self) -> String {
        format!("HOST or HOST:PORT, such as `192.0.2.10` or `master.example.org:{GRPC_PORT}`")
    }

    fn read(&self, text: &str) -> Option<HostPort> {
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Some(HostPort { host: ip.to_string(), port: GRPC_PORT });
        }
        HostAndPort(GRPC_PORT).read(text)
    }

    fn show(&self, value: &HostPort) -> String {
        value.to_string()
    }
}

/// Where a receiver of OpenTelemetry listens. What is secret has no place in it: settings are shown to operators.
#[derive(Debug, Clone, Copy)]
struct OtlpEndpoint;

impl Reader for OtlpEndpoint {
    type Value = Uri;

    fn expected(&self) -> String {
        "an address such as `https://otel.example.org:4318/v1/metrics`, without user, password and query"
            .into()
    }

    fn read(&self, text: &str) -> Option<Uri> {
        let uri: Uri = text.parse().ok()?;
        let has_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        if !has_scheme || uri.query().is_some() || text.contains(['@', '#']) {
            return None;
        }
        uri.host().filter(|host| !host.is_empty())?;
        if uri.path() == "/" {
            return format!("{}/v1/metrics", text.trim_end_matches('/')).parse().ok();
        }
        Some(uri)
    }

    fn show(&self, value: &Uri) -> String {
        value.to_string()
    }
}

/// A name or an address for the certificate.
#[derive(Debug, Clone, Copy)]
struct Endpoint;

impl Reader for Endpoint {
    type Value = String;

    fn expected(&self) -> String {
        "a host name or an address".into()
    }

    fn read(&self, text: &str) -> Option<String> {
        let valid = text.parse::<IpAddr>().is_ok() || is_host(text, false);
        valid.then(|| text.to_owned())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterId;

impl Reader for ClusterId {
    type Value = String;

    fn expected(&self) -> String {
        "1 to 63 letters, digits, `.`, `_` and `-`".into()
    }

    fn read(&self, text: &str) -> Option<String> {
        check_id("cluster id", text).is_ok().then(|| text.to_owned())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }
}

/// A filter for log lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogFilter;

impl Reader for LogFilter {
    type Value = String;

    fn expected(&self) -> String {
        "a level (off, error, warn, info, debug, trace) or a list such as `info,piccolo_master=debug`"
            .into()
    }

    fn read(&self, text: &str) -> Option<String> {
        crate::logging::check(text).is_ok().then(|| text.to_owned())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }
}
