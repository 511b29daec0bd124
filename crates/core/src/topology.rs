//! Topologies and the desired configuration that follows from them (HLD §5.2).
//!
//! Members are always derived from the registry: an update may carry them back, as a Get gave them, but
//! they change nothing. The configuration has a generation; every node confirms the one it applied.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    failure_detector::Timing,
    model::{FieldError, NodeId, NodeName, NodeView, check_text},
};

/// Entries of a topology's configuration at most, and bytes of a value.
pub const CONFIG_ENTRIES_MAX: usize = 128;
pub const CONFIG_VALUE_BYTES_MAX: usize = 4096;
/// Bytes of all its keys and values at most: the whole is one value in the store.
pub const CONFIG_BYTES_MAX: usize = 128 * 1024;

/// What begins a key of the configuration whose value is a secret: it is stored sealed, sent to the nodes,
/// and never shown (HLD §9.3).
pub const SECRET_PREFIX: &str = "secret.";
/// What is shown in place of a secret. An update that carries it keeps the secret as it is.
pub const MASK: &str = "<sealed>";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopologyType {
    BasicEmbedded,
    EdgeCloudHybrid,
    MultiEmbedded,
    GeoDistributed,
}

/// What becomes of a node whose system check has errors (HLD §4.1 (4)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readiness {
    /// It stays out of Ready until the check is good.
    Enforce,
    /// It is told, and keeps nobody out.
    #[default]
    Warn,
}

impl Readiness {
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Enforce, Self::Warn].into_iter().find(|readiness| readiness.name() == name)
    }
}

/// What is stored of a topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyRecord {
    pub id: String,
    pub name: NodeName,
    pub kind: TopologyType,
    pub parent_cluster: Option<String>,
    pub config: BTreeMap<String, String>,
    /// From 1.
    pub generation: u64,
}

/// What readers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyView {
    pub record: TopologyRecord,
    pub masters: Vec<NodeView>,
    pub subs: Vec<NodeView>,
    /// How many nodes have confirmed the newest generation.
    pub applied_by: u32,
}

/// What an administrator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyUpdate {
    pub id: String,
    pub name: String,
    pub kind: TopologyType,
    pub parent_cluster: String,
    pub config: BTreeMap<String, String>,
    /// The one it was read at; 0 means any.
    pub generation: u64,
    pub members: Vec<String>,
}

/// The desired configuration of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    pub cluster: String,
    pub cluster_name: String,
    pub kind: TopologyType,
    pub config: BTreeMap<String, String>,
    /// What the master's own configuration and `config` together ask for.
    pub timing: Timing,
}

/// The keys that mean something to PICCOLO itself; others are handed to the nodes as they are.
const BEAT_INTERVAL: &str = "beat_interval_ms";
const BEAT_SILENCE: &str = "beat_silence_ms";
const SESSION_GRACE: &str = "session_grace_ms";
const HEARTBEAT_INTERVAL: &str = "heartbeat_interval_seconds";
const HEARTBEATS_MISSED: &str = "heartbeats_missed";
const READINESS: &str = "readiness";

impl TopologyRecord {
    /// Of a cluster that has just been made.
    pub fn first(cluster: &str, name: NodeName) -> Self {
        Self {
            id: cluster.to_owned(),
            name,
            kind: TopologyType::BasicEmbedded,
            parent_cluster: None,
            config: BTreeMap::new(),
            generation: 1,
        }
    }

    pub fn node_config(&self, base: Timing) -> NodeConfig {
        NodeConfig {
            timing: self.timing(base),
            cluster: self.id.clone(),
            cluster_name: self.name.to_string(),
            kind: self.kind,
            config: self.config.clone(),
        }
    }

    /// What may be stored in the clear.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let mut open = self.clone();
        open.config.retain(|key, _| !key.starts_with(SECRET_PREFIX));
        open
    }

    /// What must be sealed before it is stored.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<String, String> {
        let mut secrets = self.config.clone();
        secrets.retain(|key, _| key.starts_with(SECRET_PREFIX));
        secrets
    }

    /// What may be shown.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mut masked = self.clone();
        for (key, value) in &mut masked.config {
            if key.starts_with(SECRET_PREFIX) {
                MASK.clone_into(value);
            }
        }
        masked
    }

    /// Puts the secrets that are held in place of their masks.
    fn unmask(&self, config: &mut BTreeMap<String, String>) -> Result<(), FieldError> {
        for (key, value) in config.iter_mut() {
            if key.starts_with(SECRET_PREFIX) && value == MASK {
                let held = self.config.get(key).ok_or_else(|| {
                    FieldError::new(
                        format!("topology.config[{key}]"),
                        "there is no such secret yet that could be kept: give its value",
                    )
                })?;
                value.clone_from(held);
            }
        }
        Ok(())
    }

    /// The record after `update`, or what is wrong with it.
    pub fn updated(
        &self,
        mut update: TopologyUpdate,
        base: Timing,
        known: impl Fn(&NodeId) -> bool,
    ) -> Result<Self, FieldError> {
        let fail = |field: &str, problem: String| Err(FieldError::new(field, problem));
        if !update.id.is_empty() && update.id != self.id {
            return fail(
                "topology.id",
                format!("this cluster is {}; an id cannot change", self.id),
            );
        }
        for (i, member) in update.members.iter().enumerate() {
            let id = NodeId::parse(&format!("topology.members[{i}].id"), member)?;
            if !known(&id) {
                return fail(
                    &format!("topology.members[{i}].id"),
                    format!("there is no node {id}; members come from registration alone"),
                );
            }
        }
        let name = NodeName::parse("topology.name", &update.name)?;
        check_text("topology.parent_cluster", &update.parent_cluster, 64)?;
        self.unmask(&mut update.config)?;
        check_config(&update.config, base)?;
        check_type(update.kind, &update.parent_cluster)?;
        Ok(Self {
            id: self.id.clone(),
            name,
            kind: update.kind,
            parent_cluster: Some(update.parent_cluster).filter(|p| !p.is_empty()),
            config: update.config,
            generation: self.generation + 1,
        })
    }

    /// The timing that the configuration asks for, on top of `base`.
    pub fn timing(&self, base: Timing) -> Timing {
        timing(&self.config, base).unwrap_or(base)
    }

    /// The policy that the configuration asks for, or else `base`.
    pub fn readiness(&self, base: Readiness) -> Readiness {
        self.config.get(READINESS).and_then(|name| Readiness::from_name(name)).unwrap_or(base)
    }
}

fn check_type(kind: TopologyType, parent: &str) -> Result<(), FieldError> {
    match kind {
        TopologyType::BasicEmbedded if !parent.is_empty() => Err(FieldError::new(
            "topology.parent_cluster",
            "a basic embedded topology has no parent cluster (HLD §5.2.2)",
        )),
        TopologyType::BasicEmbedded => Ok(()),
        TopologyType::EdgeCloudHybrid
        | TopologyType::MultiEmbedded
        | TopologyType::GeoDistributed => Err(FieldError::new(
            "topology.type",
            "this version runs the basic embedded topology only (HLD §5.2.2)",
        )),
    }
}

fn check_config(config: &BTreeMap<String, String>, base: Timing) -> Result<(), FieldError> {
    if config.len() > CONFIG_ENTRIES_MAX {
        return Err(FieldError::new(
            "topology.config",
            format!("has {} entries, more than {CONFIG_ENTRIES_MAX}", config.len()),
        ));
    }
    let bytes: usize = config.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > CONFIG_BYTES_MAX {
        return Err(FieldError::new(
            "topology.config",
            format!("has {bytes} bytes, more than {CONFIG_BYTES_MAX}"),
        ));
    }
    for (key, value) in config {
        let word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if key.is_empty() || key.len() > 63 || !key.chars().all(word) {
            return Err(FieldError::new(
                "topology.config",
                "a key has 1 to 63 letters, digits, '-', '_', '.' or '/'",
            ));
        }
        check_text(format_args!("topology.config[{key}]"), value, CONFIG_VALUE_BYTES_MAX)?;
    }
    if let Some(name) = config.get(READINESS).filter(|name| Readiness::from_name(name).is_none()) {
        return Err(FieldError::new(
            format!("topology.config[{READINESS}]"),
            format!("{name:?} is neither \"enforce\" nor \"warn\""),
        ));
    }
    timing(config, base).map(|_| ())
}

fn timing(config: &BTreeMap<String, String>, base: Timing) -> Result<Timing, FieldError> {
    let number = |key: &str, min: u64, max: u64| -> Result<Option<u64>, FieldError> {
        let Some(text) = config.get(key) else { return Ok(None) };
        let value = text.parse::<u64>().ok().filter(|value| (min..=max).contains(value));
        value.map(Some).ok_or_else(|| {
            FieldError::new(
                format!("topology.config[{key}]"),
                format!("{text:?} is not a whole number from {min} to {max}"),
            )
        })
    };
    let ms = |value: Option<u64>, or: Duration| value.map_or(or, Duration::from_millis);
    let heartbeat_min = Timing::HEARTBEAT_INTERVAL_MIN.as_secs();
    let timing = Timing {
        beat_interval: ms(number(BEAT_INTERVAL, 100, 60_000)?, base.beat_interval),
        beat_silence: ms(number(BEAT_SILENCE, 200, 300_000)?, base.beat_silence),
        session_grace: ms(number(SESSION_GRACE, 0, 300_000)?, base.session_grace),
        heartbeat_interval: number(HEARTBEAT_INTERVAL, heartbeat_min, 3600)?
            .map_or(base.heartbeat_interval, Duration::from_secs),
        heartbeats_missed: number(HEARTBEATS_MISSED, 1, 100)?
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(base.heartbeats_missed),
    };
    if timing.beat_silence < timing.beat_interval * 2 {
        return Err(FieldError::new(
            format!("topology.config[{BEAT_SILENCE}]"),
            "must be at least twice the beat interval, or every session would break",
        ));
    }
    if timing.heartbeat_timeout() <= timing.beat_silence + timing.session_grace {
        return Err(FieldError::new(
            format!("topology.config[{HEARTBEATS_MISSED}]"),
            "missed heartbeats must take longer than a lost session (silence and grace)",
        ));
    }
    Ok(timing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> TopologyRecord {
        TopologyRecord::first("c1", NodeName::parse("name", "robot").unwrap())
    }

    fn update() -> TopologyUpdate {
        TopologyUpdate {
            id: "c1".to_owned(),
            name: "robot".to_owned(),
            kind: TopologyType::BasicEmbedded,
            parent_cluster: String::new(),
            config: BTreeMap::new(),
            generation: 1,
            members: vec![],
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut TopologyUpdate), expect: Result<u64, &str>) {
        let mut update = update();
        change(&mut update);
        let got = record()
            .updated(update, Timing::default(), |id| id.as_str() == "n1")
            .map(|r| r.generation);
        match (got, expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect),
            (Err(got), Err(field)) => assert_eq!(got.field, field, "{got}"),
            (got, expect) => panic!("got {got:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn an_update_is_checked_field_by_field() {
        let set = |key: &'static str, value: &'static str| {
            move |u: &mut TopologyUpdate| drop(u.config.insert(key.to_owned(), value.to_owned()))
        };
        check(|_| {}, Ok(2));
        check(|u| u.members = vec!["n1".to_owned()], Ok(2));
        check(|u| u.members = vec!["ghost".to_owned()], Err("topology.members[0].id"));
        check(|u| u.id = "other".to_owned(), Err("topology.id"));
        check(|u| u.name = String::new(), Err("topology.name"));
        check(|u| u.parent_cluster = "up".to_owned(), Err("topology.parent_cluster"));
        check(|u| u.kind = TopologyType::GeoDistributed, Err("topology.type"));
        check(set("any.key", "any value"), Ok(2));
        check(set("", "x"), Err("topology.config"));
        check(set("heartbeat_interval_seconds", "5"), Ok(2));
        let field = "topology.config[heartbeat_interval_seconds]";
        check(set("heartbeat_interval_seconds", "4"), Err(field));
        check(set("heartbeat_interval_seconds", "soon"), Err(field));
        check(set("readiness", "enforce"), Ok(2));
        check(set("readiness", "perhaps"), Err("topology.config[readiness]"));
        check(set("beat_silence_ms", "1000"), Err("topology.config[beat_silence_ms]"));
        check(set("beat_silence_ms", "30000"), Err("topology.config[heartbeats_missed]"));
    }

    #[test]
    fn a_secret_is_stored_apart_shown_masked_and_kept_by_a_round_trip() {
        let mut record = record();
        record.config.insert("secret.registry".to_owned(), "hunter2".to_owned());
        record.config.insert("site".to_owned(), "seoul".to_owned());
        assert!(!record.without_secrets().config.contains_key("secret.registry"));
        assert_eq!(record.secrets().len(), 1);
        let shown = record.masked();
        assert_eq!(shown.config["secret.registry"], MASK);
        let again = TopologyUpdate { config: shown.config, ..update() };
        let after = record.updated(again, Timing::default(), |_| true).unwrap();
        assert_eq!(after.config, record.config);
        let unknown = [("secret.new".to_owned(), MASK.to_owned())].into();
        let unknown = TopologyUpdate { config: unknown, ..update() };
        assert!(record.updated(unknown, Timing::default(), |_| true).is_err());
    }

    #[test]
    fn the_configuration_sets_the_pace() {
        let mut record = record();
        record.config.insert(HEARTBEAT_INTERVAL.to_owned(), "20".to_owned());
        let timing = record.timing(Timing::default());
        assert_eq!(timing.heartbeat_timeout(), Duration::from_secs(60));
        assert_eq!(timing.beat_interval, Duration::from_secs(1));
    }

    #[test]
    fn the_configuration_outweighs_the_masters_own_policy() {
        let mut record = record();
        assert_eq!(record.readiness(Readiness::Enforce), Readiness::Enforce);
        record.config.insert(READINESS.to_owned(), "warn".to_owned());
        assert_eq!(record.readiness(Readiness::Enforce), Readiness::Warn);
    }
}
