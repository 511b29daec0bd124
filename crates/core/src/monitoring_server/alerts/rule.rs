//! Rules: what is worth telling of, after how long, and how it is said.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    expression::{Expression, ExpressionError},
    facts::Facts,
    template::Template,
};
use crate::model::{FieldError, Labels, Severity, check_labels, check_text};

const NAME_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 512;
/// Of `for` and the other times of a rule.
const SECONDS_MAX: u32 = 7 * 86_400;

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    #[default]
    Node,
    Container,
    Cluster,
}

impl On {
    pub const ALL: [Self; 3] = [Self::Node, Self::Container, Self::Cluster];

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Container => "container",
            Self::Cluster => "cluster",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|on| on.name() == name)
    }

    pub(super) fn speaks_of(self) -> &'static str {
        match self {
            Self::Node => "node.*",
            Self::Container => "container.* and node.*",
            Self::Cluster => "cluster.*",
        }
    }
}

/// As an administrator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    #[serde(default)]
    pub on: On,
    /// What must hold.
    #[serde(rename = "when")]
    pub expression: String,
    /// What ends it; absent: that `when` holds no more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub clear: String,
    /// For how long `when` must hold before anybody is told.
    #[serde(default, rename = "for_seconds")]
    pub for_s: u32,
    /// For how long it must be clear before it is over.
    #[serde(default, rename = "keep_firing_seconds")]
    pub keep_s: u32,
    pub severity: Severity,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// With `{{ expressions }}`.
    pub message: String,
    /// So many subjects at once are one alert; 0: each is its own.
    #[serde(default)]
    pub group_min: u32,
    /// The label of nodes by which they belong together; empty: all do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group_by: String,
    /// Not acknowledged for so long: told again, to everybody. 0: never.
    #[serde(default, rename = "escalate_seconds")]
    pub escalate_s: u32,
    /// Also of nodes in Maintenance.
    #[serde(default)]
    pub in_maintenance: bool,
    #[serde(default)]
    pub disabled: bool,
}

/// A rule that can be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    pub rule: Rule,
    /// Comes with this version, and is not stored.
    pub builtin: bool,
    /// `Err` where a stored rule is not understood by this version.
    program: Result<Arc<Program>, String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Program {
    when: Expression,
    clear: Option<Expression>,
    message: Template,
}

impl Rule {
    /// # Errors
    /// Names the field, and the place in an expression.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        let place = |name: &str| format!("{field}.{name}");
        let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty()
            || self.name.len() > NAME_BYTES_MAX
            || !self.name.chars().all(word)
            || !self.name.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            let problem = "has 1 to 64 letters, digits, '-', '_' and '.'";
            return Err(FieldError::new(place("name"), problem));
        }
        check_text(place("group_by"), &self.group_by, NAME_BYTES_MAX)?;
        check_text(place("message"), &self.message, TEXT_BYTES_MAX)?;
        if self.message.trim().is_empty() {
            return Err(FieldError::new(place("message"), "is empty: what is to be said?"));
        }
        check_labels(&place("labels"), &self.labels)?;
        let times = [
            ("for_seconds", self.for_s),
            ("keep_firing_seconds", self.keep_s),
            ("escalate_seconds", self.escalate_s),
        ];
        if let Some((name, _)) = times.into_iter().find(|(_, seconds)| *seconds > SECONDS_MAX) {
            return Err(FieldError::new(place(name), "is more than seven days"));
        }
        self.program(field).map(drop)
    }

    fn program(&self, field: &str) -> Result<Program, FieldError> {
        let wrong = |name: &str| {
            let place = format!("{field}.{name}");
            move |error: ExpressionError| FieldError::new(place, error.to_string())
        };
        let on = self.on;
        let clear = Some(&self.clear).filter(|text| !text.is_empty());
        Ok(Program {
            when: Expression::condition(&self.expression, on).map_err(wrong("when"))?,
            clear: match clear {
                Some(text) => Some(Expression::condition(text, on).map_err(wrong("clear"))?),
                None => None,
            },
            message: Template::parse(&self.message, on).map_err(wrong("message"))?,
        })
    }
}

impl Compiled {
    pub fn new(rule: Rule, builtin: bool) -> Self {
        let program = rule.program("rule").map(Arc::new).map_err(|error| error.to_string());
        Self { rule, builtin, program }
    }

    /// Why it is not evaluated; `None` where it is.
    pub fn problem(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }

    pub(super) fn is_on(&self, on: On) -> bool {
        self.rule.on == on && !self.rule.disabled && self.program.is_ok()
    }

    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        self.program.as_ref().is_ok_and(|program| program.when.holds(facts))
    }

    /// Whether what fires is over, by what is known now.
    pub(super) fn is_clear(&self, facts: &Facts<'_>) -> bool {
        match self.program.as_ref().map(|program| program.clear.as_ref()) {
            Ok(Some(clear)) => clear.holds(facts),
            Ok(None) | Err(_) => !self.holds(facts),
        }
    }

    pub(super) fn message(&self, facts: &Facts<'_>) -> String {
        self.program.as_ref().map(|program| program.message.render(facts)).unwrap_or_default()
    }

    pub(super) fn pending(&self) -> Duration {
        Duration::from_secs(self.rule.for_s.into())
    }

    pub(super) fn keep(&self) -> Duration {
        Duration::from_secs(self.rule.keep_s.into())
    }

    pub(super) fn escalate(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.rule.escalate_s.into())).filter(|after| !after.is_zero())
    }
}

/// Rules that come with this version; one of the same name that an administrator applies takes the place.
pub fn builtin() -> BTreeMap<String, Compiled> {
    // read once, whoever asks
    static RULES: LazyLock<BTreeMap<String, Compiled>> = LazyLock::new(compiled);
    RULES.clone()
}

fn compiled() -> BTreeMap<String, Compiled> {
    let rules = BUILTIN.iter().map(|(name, on, severity, for_s, when, clear, message)| {
        let rule = Rule {
            name: (*name).to_owned(),
            on: *on,
            expression: (*when).to_owned(),
            clear: (*clear).to_owned(),
            for_s: *for_s,
            keep_s: 0,
            severity: *severity,
            labels: Labels::new(),
            message: (*message).to_owned(),
            group_min: if *name == "NodeNotReady" { 3 } else { 0 },
            group_by: if *name == "NodeNotReady" { "site".to_owned() } else { String::new() },
            escalate_s: if *severity == Severity::Critical { 900 } else { 0 },
            in_maintenance: false,
            disabled: false,
        };
        ((*name).to_owned(), Compiled::new(rule, true))
    });
    rules.collect()
}

type Builtin = (&'static str, On, Severity, u32, &'static str, &'static str, &'static str);

/// Name, subject, severity, `for`, `when`, `clear`, message.
const BUILTIN: [Builtin; 18] = [
    (
        "NodeNotReady",
        On::Node,
        Severity::Critical,
        30,
        r#"node.status == "NotReady""#,
        "",
        "node {{ node.name }} is NotReady: {{ node.conditions }}",
    ),
    (
        "NodeFlapping",
        On::Node,
        Severity::Warning,
        0,
        "node.losses_15m >= 3",
        "node.losses_15m == 0",
        "node {{ node.name }} became NotReady {{ node.losses_15m }} times within 15 minutes",
    ),
    (
        "NodeSuspect",
        On::Node,
        Severity::Warning,
        120,
        r#""Suspect" in node.conditions"#,
        "",
        "node {{ node.name }}: its session breaks and does not come back well",
    ),
    (
        "DiskNearlyFull",
        On::Node,
        Severity::Warning,
        60,
        "node.metrics.disk_free_bytes < 0.1 * node.metrics.disk_total_bytes",
        "node.metrics.disk_free_bytes > 0.15 * node.metrics.disk_total_bytes",
        "node {{ node.name }}: {{ 100 * node.metrics.disk_free_bytes / node.metrics.disk_total_bytes }} % of its disk are free",
    ),
    (
        "MemoryLow",
        On::Node,
        Severity::Warning,
        120,
        "node.metrics.memory_available_bytes < 0.08 * node.metrics.memory_total_bytes",
        "node.metrics.memory_available_bytes > 0.12 * node.metrics.memory_total_bytes",
        "node {{ node.name }}: {{ 100 * node.metrics.memory_available_bytes / node.metrics.memory_total_bytes }} % of its memory are available",
    ),
    (
        "TemperatureHigh",
        On::Node,
        Severity::Warning,
        60,
        "node.metrics.temperature_celsius > 85",
        "node.metrics.temperature_celsius < 80",
        "node {{ node.name }} is {{ node.metrics.temperature_celsius }} °C hot",
    ),
    (
        "ResourcePressure",
        On::Node,
        Severity::Warning,
        60,
        r#""ResourcePressure" in node.conditions"#,
        "",
        "node {{ node.name }} is over the limits that its agent watches",
    ),
    (
        "PodmanUnavailable",
        On::Node,
        Severity::Critical,
        60,
        r#""PodmanUnavailable" in node.conditions"#,
        "",
        "node {{ node.name }}: its Podman does not answer",
    ),
    (
        "HardwareDegraded",
        On::Node,
        Severity::Warning,
        60,
        r#""HardwareDegraded" in node.conditions || "PowerLow" in node.conditions"#,
        "",
        "node {{ node.name }}: a part of the board is worn, fails, is too hot or has too little power",
    ),
    (
        "SystemCheckFailed",
        On::Node,
        Severity::Warning,
        60,
        r#""SystemCheckFailed" in node.conditions"#,
        "",
        "node {{ node.name }} is kept out: its system check has errors",
    ),
    (
        "ClockDrift",
        On::Node,
        Severity::Warning,
        60,
        r#""ClockSkew" in node.conditions"#,
        "",
        "node {{ node.name }}: its clock differs from the master's",
    ),
    (
        "CertificateNearExpiry",
        On::Node,
        Severity::Warning,
        60,
        "node.certificate_left < 0.1",
        "node.certificate_left > 0.2",
        "node {{ node.name }}: its certificate ends in {{ node.certificate_seconds_left / 86400 }} days and was not renewed",
    ),
    (
        "ContainerCrashLooping",
        On::Container,
        Severity::Warning,
        0,
        "container.starts_15m >= 4",
        "container.starts_15m <= 1",
        "container {{ container.name }} on {{ node.name }} started {{ container.starts_15m }} times within 15 minutes",
    ),
    (
        "ContainerStopped",
        On::Container,
        Severity::Warning,
        60,
        r#"(container.restart == "always" && container.state in ["exited", "stopped", "dead"]) || (container.restart == "on-failure" && container.state in ["exited", "stopped", "dead"] && container.exit_code != 0)"#,
        r#"container.state == "running""#,
        "container {{ container.name }} on {{ node.name }} has ended and is to run: exit code {{ container.exit_code }}",
    ),
    (
        "ContainerUnhealthy",
        On::Container,
        Severity::Warning,
        60,
        r#"container.health == "unhealthy""#,
        "",
        "container {{ container.name }} on {{ node.name }} is unhealthy",
    ),
    (
        "StoreUnwell",
        On::Cluster,
        Severity::Critical,
        30,
        r#"cluster.store != "ok""#,
        "",
        "the master's store: {{ cluster.store }}",
    ),
    (
        "MasterDiskNearlyFull",
        On::Cluster,
        Severity::Critical,
        60,
        "cluster.disk_free_percent < 5",
        "cluster.disk_free_percent > 8",
        "{{ cluster.disk_free_percent }} % are free where the master keeps its state",
    ),
    (
        "BackupOverdue",
        On::Cluster,
        Severity::Warning,
        300,
        r#"cluster.backup_problem != "" || cluster.backup_age_seconds > 172800"#,
        "",
        "the newest backup is {{ cluster.backup_age_seconds / 3600 }} hours old: {{ cluster.backup_problem }}",
    ),
];
