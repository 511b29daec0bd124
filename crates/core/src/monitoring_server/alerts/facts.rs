//! What expressions can speak of: one table of fields, with their types, and how each is read.

use std::{fmt, time::Duration};

use super::{expression::Value, rule::On};
use crate::{
    model::{CheckLevel, ContainerReport, NodeStatus, NodeView},
    near::closest,
    time::WallTime,
};

/// The type of a part of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Number,
    Text,
    Texts,
    TextMap,
    NumberMap,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Texts => "a list of texts",
            Self::TextMap => "a map of texts",
            Self::NumberMap => "a map of numbers",
        })
    }
}

/// Facts of the whole that no node tells: the shell does, every now and then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterFacts {
    pub name: String,
    /// "ok", or what is wrong.
    pub store: String,
    /// Where the master keeps its state; absent where that cannot be told.
    pub disk_free_basis_points: Option<u32>,
    /// Of the newest backup; absent where the master makes none by itself, or has not made one yet.
    pub backup_age_s: Option<u64>,
    /// Why the last was not made; empty where it was.
    pub backup_problem: String,
    pub ca_expires_at: Option<WallTime>,
}

/// The whole, as rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClusterNow<'a> {
    pub(crate) facts: &'a ClusterFacts,
    pub(crate) nodes: usize,
    pub(crate) nodes_ready: usize,
    pub(crate) dead_letters: usize,
}

/// What an expression is evaluated with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub(crate) now: WallTime,
    pub(crate) node: Option<&'a NodeView>,
    pub(crate) container: Option<&'a ContainerReport>,
    pub(crate) cluster: Option<ClusterNow<'a>>,
    /// How often it became NotReady lately, or, of a container, how often it started.
    pub(crate) often: usize,
    /// Of the certificates of nodes, when they are new.
    pub(crate) certificate_lifetime: Duration,
}

macro_rules! fields {
    ($($variant:ident, $path:literal, $kind:ident, $meaning:literal;)*) => {
        /// A name in an expression.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Field { $($variant),* }

        impl Field {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub fn path(self) -> &'static str {
                match self { $(Self::$variant => $path),* }
            }

            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),* }
            }

            /// For people.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

fields! {
    NodeId, "node.id", Text, "its id";
    NodeName, "node.name", Text, "its name";
    NodeIp, "node.ip", Text, "its address";
    NodeRole, "node.role", Text, "master or sub";
    NodeKind, "node.kind", Text, "embedded or cloud";
    NodeStatus, "node.status", Text, "Pending, Initializing, Ready, NotReady, Maintenance or Terminating";
    NodeStatusSeconds, "node.status_seconds", Number, "for how long it has had that status";
    NodeConnected, "node.connected", Bool, "whether its session is open";
    NodeHeardSeconds, "node.heard_seconds", Number, "since its last heartbeat";
    NodeConditions, "node.conditions", Texts, "the conditions that hold, e.g. \"Suspect\" in node.conditions";
    NodeLabels, "node.labels", TextMap, "its labels";
    NodeMetrics, "node.metrics", NumberMap, "its figures, as `piccolo metrics list` names them";
    NodeVersion, "node.version", Text, "of its agent";
    NodeCertificateSeconds, "node.certificate_seconds_left", Number, "until its certificate ends";
    NodeCertificateLeft, "node.certificate_left", Number, "the part of its certificate's time that is left, 1 to 0";
    NodeLosses, "node.losses_15m", Number, "how often it became NotReady within 15 minutes";
    NodeCheckErrors, "node.check_errors", Number, "errors of its system check";
    NodeEventsDropped, "node.events_dropped", Number, "events that its journal had no room for";
    NodeMemoryTotal, "node.memory_mb", Number, "its memory, MB";
    ContainerName, "container.name", Text, "its name";
    ContainerImage, "container.image", Text, "its image";
    ContainerState, "container.state", Text, "as Podman has it: running, exited, ...";
    ContainerHealth, "container.health", Text, "healthy, unhealthy, starting, or empty without a check";
    ContainerExitCode, "container.exit_code", Number, "of the last run, once it has ended";
    ContainerRestarts, "container.restarts", Number, "as Podman counts them";
    ContainerStarts, "container.starts_15m", Number, "how often it started within 15 minutes";
    ContainerRestartPolicy, "container.restart", Text, "what is asked of recovery: no, on-failure or always";
    ContainerCpu, "container.cpu_percent", Number, "of one core";
    ContainerMemory, "container.memory_bytes", Number, "its memory";
    ClusterName, "cluster.name", Text, "its name";
    ClusterNodes, "cluster.nodes", Number, "nodes that there are";
    ClusterReady, "cluster.nodes_ready", Number, "of them, those that are Ready";
    ClusterStore, "cluster.store", Text, "ok, or what is wrong with the store";
    ClusterDisk, "cluster.disk_free_percent", Number, "free where the master keeps its state";
    ClusterBackupAge, "cluster.backup_age_seconds", Number, "of the newest backup, where the master makes them";
    ClusterBackupProblem, "cluster.backup_problem", Text, "why the last backup was not made; empty where it was";
    ClusterCaSeconds, "cluster.ca_seconds_left", Number, "until the certificate authority ends";
    ClusterDeadLetters, "cluster.dead_letters", Number, "notifications that could not be delivered";
}

impl Field {
    pub fn find(path: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.path() == path)
    }

    /// What somebody may have meant, of the same subject.
    pub fn near(path: &str) -> Option<&'static str> {
        let subject = path.get(..=path.find('.')?)?;
        let paths = Self::ALL.iter().map(|field| field.path());
        closest(path, paths.filter(|known| known.starts_with(subject)))
    }

    /// All that it can be, where that is known here.
    pub fn words(self) -> Option<Vec<String>> {
        (self == Self::NodeStatus).then(|| NodeStatus::ALL.map(|status| status.to_string()).into())
    }

    /// Whether a rule on such subjects can speak of it.
    pub fn is_of(self, on: On) -> bool {
        let path = self.path();
        match on {
            On::Node => path.starts_with("node."),
            On::Container => path.starts_with("node.") || path.starts_with("container."),
            On::Cluster => path.starts_with("cluster."),
        }
    }

    /// `None` where it is not known.
    pub fn value<'a>(self, facts: &Facts<'a>) -> Option<Value<'a>> {
        let of_node = self.of_node(facts);
        of_node.or_else(|| self.of_container(facts)).or_else(|| self.of_cluster(facts))
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are of other subjects")]
    fn of_node<'a>(self, facts: &Facts<'a>) -> Option<Value<'a>> {
        let node = facts.node?;
        let record = &node.record;
        Some(match self {
            Self::NodeId => text(record.id.as_str()),
            Self::NodeName => text(record.name.as_str()),
            Self::NodeIp => text(&record.ip),
            Self::NodeRole => text(record.role.name()),
            Self::NodeKind => text(record.kind.name()),
            Self::NodeStatus => text(record.status.name()),
            Self::NodeStatusSeconds => since(facts.now, record.status_since),
            Self::NodeConnected => Value::Bool(node.connected),
            Self::NodeHeardSeconds => since(facts.now, node.last_heartbeat?),
            Self::NodeConditions => {
                Value::Texts(record.conditions.iter().map(|held| held.kind.name()).collect())
            }
            Self::NodeLabels => Value::TextMap(&record.labels),
            Self::NodeMetrics => Value::NumberMap(&node.metrics),
            Self::NodeVersion => text(&record.system.agent_version),
            Self::NodeCertificateSeconds => left(facts.now, record.certificate_expires_at?),
            Self::NodeCertificateLeft => {
                let left = record.certificate_expires_at?.since(facts.now).as_secs_f64();
                Value::Number(left / facts.certificate_lifetime.as_secs_f64().max(1.0))
            }
            Self::NodeLosses => count(facts.often),
            Self::NodeCheckErrors => {
                let findings = &node.system_check.as_ref()?.findings;
                count(findings.iter().filter(|found| found.level == CheckLevel::Error).count())
            }
            Self::NodeEventsDropped => large(record.events_dropped),
            Self::NodeMemoryTotal => large(record.resources.memory),
            _ => return None,
        })
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are of other subjects")]
    fn of_container<'a>(self, facts: &Facts<'a>) -> Option<Value<'a>> {
        let container = facts.container?;
        Some(match self {
            Self::ContainerName => text(&container.name),
            Self::ContainerImage => text(&container.image),
            Self::ContainerState => text(&container.state),
            Self::ContainerHealth => text(&container.health),
            Self::ContainerExitCode => Value::Number(container.exit_code?.into()),
            Self::ContainerRestarts => Value::Number(container.restarts.into()),
            Self::ContainerStarts => count(facts.often),
            Self::ContainerRestartPolicy => text(container.restart.name()),
            Self::ContainerCpu => Value::Number(f64::from(container.cpu_basis_points) / 100.0),
            Self::ContainerMemory => large(container.memory_bytes),
            _ => return None,
        })
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are of other subjects")]
    fn of_cluster<'a>(self, facts: &Facts<'a>) -> Option<Value<'a>> {
        let cluster = facts.cluster?;
        let told = cluster.facts;
        Some(match self {
            Self::ClusterName => text(&told.name),
            Self::ClusterNodes => count(cluster.nodes),
            Self::ClusterReady => count(cluster.nodes_ready),
            Self::ClusterStore => text(&told.store),
            Self::ClusterDisk => Value::Number(f64::from(told.disk_free_basis_points?) / 100.0),
            Self::ClusterBackupAge => large(told.backup_age_s?),
            Self::ClusterBackupProblem => text(&told.backup_problem),
            Self::ClusterCaSeconds => left(facts.now, told.ca_expires_at?),
            Self::ClusterDeadLetters => count(cluster.dead_letters),
            _ => return None,
        })
    }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text)
}

fn count(count: usize) -> Value<'static> {
    Value::Number(f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
}

#[allow(clippy::cast_precision_loss, reason = "fifteen digits are enough for a threshold")]
fn large(number: u64) -> Value<'static> {
    Value::Number(number as f64)
}

fn since(now: WallTime, then: WallTime) -> Value<'static> {
    Value::Number(now.since(then).as_secs_f64())
}

/// Negative once it is over.
fn left(now: WallTime, until: WallTime) -> Value<'static> {
    Value::Number(until.since(now).as_secs_f64() - now.since(until).as_secs_f64())
}
