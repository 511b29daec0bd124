//! Alerts, their rules and channels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    time,
    words::{self, parse_duration, whole_seconds},
};
use crate::v1;

/// `piccolo alert list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Alerts))]
pub struct AlertsView {
    pub alerts: Vec<AlertView>,
    pub silences: Vec<SilenceView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Alert))]
pub struct AlertView {
    /// Absent of one that is pending.
    pub id: Option<String>,
    pub rule: String,
    pub severity: String,
    pub state: String,
    pub message: String,
    pub labels: BTreeMap<String, String>,
    /// What many subjects have in common; absent of an alert about one.
    pub group: Option<String>,
    pub subjects: Vec<SubjectView>,
    pub since: Option<String>,
    pub fired_at: Option<String>,
    pub acknowledged_by: Option<String>,
    pub acknowledged_at: Option<String>,
    pub comment: Option<String>,
    pub escalated_at: Option<String>,
    pub resolved_at: Option<String>,
    pub resolved_why: Option<String>,
    pub silenced_by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AlertSubject))]
pub struct SubjectView {
    /// `board-1`, `board-1/web`, `cluster`.
    pub name: String,
    pub since: Option<String>,
    pub cleared_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Silence))]
pub struct SilenceView {
    pub id: String,
    pub only: String,
    pub until: Option<String>,
    pub by: String,
    pub comment: Option<String>,
}

fn known(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

impl From<&v1::ListAlertsResponse> for AlertsView {
    fn from(listed: &v1::ListAlertsResponse) -> Self {
        Self {
            alerts: listed.alerts.iter().map(AlertView::from).collect(),
            silences: listed.silences.iter().map(SilenceView::from).collect(),
        }
    }
}

impl From<&v1::Alert> for AlertView {
    fn from(alert: &v1::Alert) -> Self {
        let acknowledged = alert.acknowledgement.as_ref();
        let subject = |member: &v1::AlertMember| SubjectView {
            name: subject(member),
            since: time(member.since.as_ref()),
            cleared_at: time(member.cleared_at.as_ref()),
        };
        Self {
            id: known(&alert.id),
            rule: alert.rule.clone(),
            severity: words::severity(alert.severity),
            state: alert.state.clone(),
            message: alert.message.clone(),
            labels: alert.labels.clone().into_iter().collect(),
            group: known(&alert.group),
            subjects: alert.members.iter().map(subject).collect(),
            since: time(alert.since.as_ref()),
            fired_at: time(alert.fired_at.as_ref()),
            acknowledged_by: acknowledged.map(|ack| ack.by.clone()),
            acknowledged_at: acknowledged.and_then(|ack| time(ack.at.as_ref())),
            comment: acknowledged.and_then(|ack| known(&ack.comment)),
            escalated_at: time(alert.escalated_at.as_ref()),
            resolved_at: time(alert.resolved_at.as_ref()),
            resolved_why: known(&alert.resolved_why),
            silenced_by: known(&alert.silenced_by),
        }
    }
}

impl From<&v1::AlertSilence> for SilenceView {
    fn from(silence: &v1::AlertSilence) -> Self {
        Self {
            id: silence.id.clone(),
            only: silence.only.clone(),
            until: time(silence.until.as_ref()),
            by: silence.by.clone(),
            comment: known(&silence.comment),
        }
    }
}

/// `board-1`, `board-1/web`, or `cluster`.
#[must_use]
pub fn subject(member: &v1::AlertMember) -> String {
    match (&member.node_name[..], &member.container[..]) {
        ("", _) => "cluster".to_owned(),
        (node, "") => node.to_owned(),
        (node, container) => format!("{node}/{container}"),
    }
}

/// One event of `watch/alerts`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = WatchAlert))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WatchAlertView {
    Changed {
        alert: Box<AlertView>,
    },
    /// It is over, and not kept any more.
    Forgotten {
        id: String,
    },
    /// What is known now is the whole.
    Told,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AlertRule))]
pub struct RuleFile {
    // what is missing is empty, and refused by whoever checks the rule: he can name it
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub name: String,
    #[serde(default = "node")]
    pub on: String,
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub when: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub clear: String,
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_firing: Option<String>,
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub severity: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_maintenance: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AlertRuleGroup))]
pub struct GroupFile {
    pub min: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

fn node() -> String {
    "node".to_owned()
}

impl RuleFile {
    /// `field` is where it was found.
    ///
    /// # Errors
    /// A time or the severity is not one; the place is told.
    pub fn to_wire(&self, field: &str) -> Result<v1::AlertRule, String> {
        let seconds = |name: &str, time: &Option<String>| match time {
            Some(time) => parse_duration(time)
                .map(whole_seconds)
                .map_err(|problem| format!("{field}.{name}: {problem}")),
            None => Ok(0),
        };
        let severity = severity(&self.severity)
            .ok_or_else(|| format!("{field}.severity: must be info, warning or critical"))?;
        Ok(v1::AlertRule {
            name: self.name.clone(),
            on: self.on.clone(),
            when: self.when.clone(),
            clear: self.clear.clone(),
            for_seconds: seconds("for", &self.pending)?,
            keep_firing_seconds: seconds("keep_firing", &self.keep_firing)?,
            severity: severity.into(),
            labels: self.labels.clone().into_iter().collect(),
            message: self.message.clone(),
            group_min: self.group.as_ref().map_or(0, |group| group.min),
            group_by: self.group.as_ref().map(|group| group.by.clone()).unwrap_or_default(),
            escalate_seconds: seconds("escalate", &self.escalate)?,
            in_maintenance: self.in_maintenance,
            disabled: self.disabled,
            builtin: false,
            problem: String::new(),
        })
    }
}

/// `warning` and the others.
#[must_use]
pub fn severity(word: &str) -> Option<v1::Severity> {
    match word {
        "info" => Some(v1::Severity::Info),
        "warning" => Some(v1::Severity::Warning),
        "critical" => Some(v1::Severity::Critical),
        _ => None,
    }
}

fn length(seconds: u32) -> Option<String> {
    (seconds > 0).then(|| format!("{seconds}s"))
}

impl From<&v1::AlertRule> for RuleFile {
    fn from(rule: &v1::AlertRule) -> Self {
        let group = GroupFile { min: rule.group_min, by: rule.group_by.clone() };
        Self {
            name: rule.name.clone(),
            on: rule.on.clone(),
            when: rule.when.clone(),
            clear: rule.clear.clone(),
            pending: length(rule.for_seconds),
            keep_firing: length(rule.keep_firing_seconds),
            severity: words::severity(rule.severity),
            labels: rule.labels.clone().into_iter().collect(),
            message: rule.message.clone(),
            group: Some(group).filter(|group| group.min > 0),
            escalate: length(rule.escalate_seconds),
            in_maintenance: rule.in_maintenance,
            disabled: rule.disabled,
        }
    }
}

/// `piccolo alert rules list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AlertRules))]
pub struct RulesView {
    pub rules: Vec<RuleView>,
    pub generation: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AlertRuleTold))]
pub struct RuleView {
    /// And all that is in the rule itself.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub rule: RuleFile,
    /// Comes with this version.
    pub builtin: bool,
    /// Why it is not evaluated.
    pub problem: Option<String>,
}

impl From<&v1::ListAlertRulesResponse> for RulesView {
    fn from(listed: &v1::ListAlertRulesResponse) -> Self {
        let rule = |rule: &v1::AlertRule| RuleView {
            rule: rule.into(),
            builtin: rule.builtin,
            problem: Some(rule.problem.clone()).filter(|problem| !problem.is_empty()),
        };
        Self { rules: listed.rules.iter().map(rule).collect(), generation: listed.generation }
    }
}

/// `piccolo alert channel list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AlertChannels))]
pub struct ChannelsView {
    pub channels: Vec<ChannelView>,
    pub dead_letters: Vec<DeadLetterView>,
}

/// `piccolo alert dead-letters list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLettersView {
    pub dead_letters: Vec<DeadLetterView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = AlertChannel))]
pub struct ChannelView {
    pub name: String,
    pub kind: String,
    /// Without secrets.
    pub target: String,
    pub severity: String,
    pub only: String,
    pub escalations: bool,
    pub disabled: bool,
    pub per_minute: u32,
    /// Notifications on their way.
    pub waiting: u32,
    /// Why the newest attempt failed.
    pub problem: Option<String>,
    pub changed_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = DeadLetter))]
pub struct DeadLetterView {
    pub id: String,
    pub channel: String,
    pub kind: String,
    pub alert: String,
    pub message: String,
    pub created_at: Option<String>,
    pub given_up_at: Option<String>,
    pub why: String,
}

impl From<&v1::ListAlertChannelsResponse> for ChannelsView {
    fn from(listed: &v1::ListAlertChannelsResponse) -> Self {
        let channel = |channel: &v1::AlertChannelStatus| ChannelView {
            name: channel.name.clone(),
            kind: channel.kind.clone(),
            target: channel.target.clone(),
            severity: words::severity(channel.severity),
            only: channel.only.clone(),
            escalations: channel.escalations,
            disabled: channel.disabled,
            per_minute: channel.per_minute,
            waiting: channel.waiting,
            problem: Some(channel.problem.clone()).filter(|problem| !problem.is_empty()),
            changed_at: time(channel.changed_at.as_ref()),
        };
        let letter = |letter: &v1::DeadLetter| DeadLetterView {
            id: letter.id.clone(),
            channel: letter.channel.clone(),
            kind: letter.kind.clone(),
            alert: letter.alert_id.clone(),
            message: letter.message.clone(),
            created_at: time(letter.created_at.as_ref()),
            given_up_at: time(letter.given_up_at.as_ref()),
            why: letter.why.clone(),
        };
        Self {
            channels: listed.channels.iter().map(channel).collect(),
            dead_letters: listed.dead_letters.iter().map(letter).collect(),
        }
    }
}
