//! Every setting in force, as a configuration file that says the same.

use std::{path::Path, time::Duration};

use piccolo_core::state_manager::Approval;
use piccolo_rpc::tls::MinVersion;
use serde::Serialize;

use super::{Config, EtcdConfig, StoreConfig};

/// The keys of the file, in its order. What is not set has no line.
#[derive(Debug, Serialize)]
struct InForce<'a> {
    state_dir: &'a Path,
    listen: String,
    https_listen: String,
    advertise: &'a [String],
    names: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<&'a str>,
    cluster_name: &'a str,
    approval: &'static str,
    readiness: &'static str,
    certificate_lifetime: String,
    tls_min_version: &'static str,
    log: &'a str,
    store: Store<'a>,
    timing: Timing,
    limits: Limits,
}

#[derive(Debug, Default, Serialize)]
struct Store<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_plaintext: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Timing {
    beat_interval: String,
    beat_silence: String,
    session_grace: String,
    heartbeat_interval: String,
    heartbeats_missed: u32,
}

#[derive(Debug, Serialize)]
struct Limits {
    nodes: usize,
    events: usize,
    events_age: String,
    audit: usize,
    connections: usize,
    connections_per_address: usize,
    connections_per_address_per_second: u32,
}

impl Config {
    /// As YAML.
    ///
    /// # Errors
    /// A path that is no text.
    pub fn in_force(&self) -> anyhow::Result<String> {
        let Self { state_dir, listen, https_listen, advertise, names, cluster_id, .. } = self;
        let Self { cluster_name, approval, certificate_lifetime, store, timing, .. } = self;
        let Self { readiness, tls_min_version, limits, log_filter, .. } = self;
        let Self { nodes_max, events_max, events_age_max, audit_max, .. } = self;
        let in_force = InForce {
            state_dir,
            listen: listen.to_string(),
            https_listen: https_listen.map_or("none".to_owned(), |address| address.to_string()),
            advertise,
            names,
            cluster_id: cluster_id.as_deref(),
            cluster_name: cluster_name.as_str(),
            approval: match approval {
                Approval::Auto => "auto",
                Approval::Manual => "manual",
            },
            readiness: readiness.name(),
            certificate_lifetime: span(*certificate_lifetime),
            tls_min_version: match tls_min_version {
                MinVersion::Tls12 => "1.2",
                MinVersion::Tls13 => "1.3",
            },
            log: log_filter,
            store: match store {
                StoreConfig::Embedded => Store { kind: "embedded", ..Store::default() },
                StoreConfig::Etcd(etcd) => Store::of(etcd),
            },
            timing: Timing {
                beat_interval: span(timing.beat_interval),
                beat_silence: span(timing.beat_silence),
                session_grace: span(timing.session_grace),
                heartbeat_interval: span(timing.heartbeat_interval),
                heartbeats_missed: timing.heartbeats_missed,
            },
            limits: Limits {
                nodes: *nodes_max,
                events: *events_max,
                events_age: span(*events_age_max),
                audit: *audit_max,
                connections: limits.connections_max,
                connections_per_address: limits.connections_per_address_max,
                connections_per_address_per_second: limits.connections_per_address_per_second,
            },
        };
        Ok(serde_saphyr::to_string(&in_force)?)
    }
}

impl<'a> Store<'a> {
    fn of(etcd: &'a EtcdConfig) -> Self {
        let client = etcd.client.as_ref();
        Self {
            kind: "etcd",
            endpoints: Some(&etcd.endpoints),
            ca: etcd.ca.as_deref(),
            certificate: client.map(|(certificate, _)| certificate.as_path()),
            key: client.map(|(_, key)| key.as_path()),
            user: etcd.user.as_deref(),
            password_file: etcd.password_file.as_deref(),
            allow_plaintext: Some(etcd.allow_plaintext),
        }
    }
}

/// In the largest unit that needs no fraction.
fn span(span: Duration) -> String {
    let ms = span.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let unit = units.into_iter().find(|(_, size)| ms >= *size && ms.is_multiple_of(*size));
    let (unit, size) = unit.unwrap_or(("ms", 1));
    format!("{}{unit}", ms / size)
}
