//! An alert: something that people should know of, from when it fires until it is over.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    model::{Labels, NodeId, NodeName, Severity},
    time::WallTime,
};

/// Names of members in a message.
const NAMES_SHOWN_MAX: usize = 12;
/// Numbers of one start of the master: 2^30. The rest of an id is which start.
const START_BITS: u32 = 30;

/// Of an alert, a silence or a notification: which start of the master, and which of that start. A restored master's
/// starts are all later, so that none is given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(pub u64);

impl Id {
    pub(super) fn first_of(start: u64) -> Self {
        Self((start << START_BITS) + 1)
    }

    /// As people write it: `3-12`.
    pub fn parse(text: &str) -> Option<Self> {
        let (start, number) = text.split_once('-')?;
        let (start, number) = (start.parse::<u64>().ok()?, number.parse::<u64>().ok()?);
        (start < 1 << (63 - START_BITS) && number < 1 << START_BITS)
            .then_some(Self((start << START_BITS) + number))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0 >> START_BITS, self.0 & ((1 << START_BITS) - 1))
    }
}

/// What a rule looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    Cluster,
    Node(NodeId),
    Container(NodeId, String),
}

impl Subject {
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Cluster => None,
            Self::Node(node) | Self::Container(node, _) => Some(node),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The condition holds, but not for long enough yet. Nobody was told, and it is not stored.
    Pending,
    Firing,
    Acknowledged,
    Resolved,
}

impl AlertState {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Firing, Self::Acknowledged, Self::Resolved];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// One subject of an alert; an alert of a group has many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub subject: Subject,
    /// As it was called when it came in; absent of the cluster.
    pub node: Option<NodeName>,
    pub since: WallTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_at: Option<WallTime>,
}

impl Member {
    /// `board-1`, `board-1/web`, `cluster`.
    pub fn name(&self) -> String {
        let node = self.node.as_ref().map_or("cluster", NodeName::as_str);
        match &self.subject {
            Subject::Container(_, container) => format!("{node}/{container}"),
            Subject::Node(_) | Subject::Cluster => node.to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub by: String,
    pub at: WallTime,
    #[serde(default)]
    pub comment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub id: Id,
    pub rule: String,
    pub severity: Severity,
    pub state: AlertState,
    /// Of the rule, and of the node where it is about one.
    #[serde(default)]
    pub labels: Labels,
    pub message: String,
    /// What many subjects have in common, as `site=seoul`, or `cluster`; absent of an alert about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub members: Vec<Member>,
    /// When the condition began to hold.
    pub since: WallTime,
    pub fired_at: WallTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated_at: Option<WallTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<WallTime>,
    /// Why it is over, where that is not that all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resolved_why: String,
    /// The silence that keeps it from being told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_by: Option<Id>,
    /// Until then one did: only since then somebody can be expected to acknowledge it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_until: Option<WallTime>,
    /// Channels were asked to tell of it: they are to be told of its end too.
    #[serde(default)]
    pub notified: bool,
    /// Of its newest change, or of the start of the master after that.
    #[serde(skip)]
    pub revision: u64,
}

impl Alert {
    /// One that begins, of which nobody knows yet.
    pub(super) fn begun(
        id: Id,
        rule: &str,
        (severity, state): (Severity, AlertState),
        message: String,
        at: WallTime,
    ) -> Self {
        Self {
            id,
            rule: rule.to_owned(),
            severity,
            state,
            labels: Labels::new(),
            message,
            group: None,
            members: Vec::new(),
            since: at,
            fired_at: at,
            acknowledged: None,
            escalated_at: None,
            resolved_at: None,
            resolved_why: String::new(),
            silenced_by: None,
            silenced_until: None,
            notified: false,
            revision: 0,
        }
    }

    pub fn is_over(&self) -> bool {
        self.state == AlertState::Resolved
    }

    /// Which silence keeps it from being told from now on; `None`: it is told.
    pub(super) fn set_silence(&mut self, by: Option<Id>, now: WallTime) {
        if self.silenced_by.is_some() && by.is_none() {
            self.silenced_until = Some(now);
        }
        self.silenced_by = by;
    }

    /// Those for whom it is not over.
    pub fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.cleared_at.is_none())
    }

    pub(super) fn member(&mut self, subject: &Subject) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.subject == *subject)
    }

    /// Of a group: who they are, and how many.
    pub(super) fn name_members(&mut self) {
        let Some(group) = &self.group else { return };
        let names: Vec<_> = self.members.iter().take(NAMES_SHOWN_MAX).map(Member::name).collect();
        let more = self.members.len().saturating_sub(names.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (count, rule) = (self.members.len(), &self.rule);
        self.message = format!("{rule}, {count} at once in {group}: {}{rest}", names.join(", "));
    }

    /// Those it speaks of: for whom it is not over, and at its end all of them.
    pub(super) fn spoken_of(&self) -> impl Iterator<Item = &Member> {
        let ended = self.active().next().is_none();
        self.members.iter().filter(move |member| ended || member.cleared_at.is_none())
    }

    /// For matchers: an alert of a group has a node for each of its members.
    pub(super) fn values<'a>(&'a self, key: &str) -> Vec<&'a str> {
        self.values_of(&self.members, key)
    }

    /// The same, as if it were about these alone.
    pub(super) fn values_of<'a>(&'a self, members: &'a [Member], key: &str) -> Vec<&'a str> {
        match key {
            "rule" => vec![&self.rule],
            "severity" => vec![severity_name(self.severity)],
            "group" => self.group.as_deref().into_iter().collect(),
            "node" => {
                members.iter().filter_map(|m| m.node.as_ref()).map(NodeName::as_str).collect()
            }
            "container" => {
                let container = |member: &'a Member| match &member.subject {
                    Subject::Container(_, name) => Some(name.as_str()),
                    Subject::Node(_) | Subject::Cluster => None,
                };
                members.iter().filter_map(container).collect()
            }
            label => {
                let label = label.strip_prefix("label.").unwrap_or(label);
                self.labels.get(label).map(String::as_str).into_iter().collect()
            }
        }
    }
}

pub fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}
