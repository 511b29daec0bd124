//! Alerts, their rules and channels (HLD §11.3). Secrets come in, and never go out.

use std::time::Duration;

use piccolo_core::{
    model::{FieldError, NodeId},
    monitoring_server::alerts::{
        alert::{Alert, Id, Member, Subject},
        channel::{Body, Channel, PER_MINUTE_DEFAULT, Protection, Secret, TIMEOUT_S_DEFAULT, Way},
        matcher::Matcher,
        outbox::Delivery,
        requests::{AlertRequest, ChannelView},
        rule::{Compiled, On, Rule},
        silence::Silence,
    },
    time::WallTime,
};

use super::{severity, severity_to_wire, timestamp, within};
use crate::v1;

/// # Errors
/// It is no id as the master gives them out.
pub fn alert_id(field: &str, text: &str) -> Result<Id, FieldError> {
    Id::parse(text).ok_or_else(|| FieldError::new(field, "is no number of one, as 3-12"))
}

/// A silence that is asked for.
///
/// # Errors
/// Names the field.
pub fn alert_silence(wire: v1::SilenceAlertsRequest) -> Result<AlertRequest, FieldError> {
    Ok(AlertRequest::Silence {
        matcher: Matcher::parse("only", &wire.only)?,
        span: Duration::from_secs(wire.span_seconds.into()),
        comment: wire.comment,
    })
}

/// A rule as it is wanted; whether it makes sense, `Rule::check` says.
///
/// # Errors
/// Names the field.
pub fn alert_rule(field: &str, wire: v1::AlertRule) -> Result<Rule, FieldError> {
    let place = |name: &str| format!("{field}.{name}");
    let on = match wire.on.as_str() {
        "" => On::default(),
        name => On::from_name(name)
            .ok_or_else(|| FieldError::new(place("on"), "must be node, container or cluster"))?,
    };
    Ok(Rule {
        name: wire.name,
        on,
        expression: wire.when,
        clear: wire.clear,
        for_s: wire.for_seconds,
        keep_s: wire.keep_firing_seconds,
        severity: severity(&place("severity"), wire.severity)?,
        labels: wire.labels.into_iter().collect(),
        message: wire.message,
        group_min: wire.group_min,
        group_by: wire.group_by,
        escalate_s: wire.escalate_seconds,
        in_maintenance: wire.in_maintenance,
        disabled: wire.disabled,
    })
}

impl From<Rule> for v1::AlertRule {
    fn from(rule: Rule) -> Self {
        Self {
            name: rule.name,
            on: rule.on.name().to_owned(),
            when: rule.expression,
            clear: rule.clear,
            for_seconds: rule.for_s,
            keep_firing_seconds: rule.keep_s,
            severity: severity_to_wire(rule.severity).into(),
            labels: rule.labels.into_iter().collect(),
            message: rule.message,
            group_min: rule.group_min,
            group_by: rule.group_by,
            escalate_seconds: rule.escalate_s,
            in_maintenance: rule.in_maintenance,
            disabled: rule.disabled,
            builtin: false,
            problem: String::new(),
        }
    }
}

impl From<Compiled> for v1::AlertRule {
    fn from(compiled: Compiled) -> Self {
        let problem = compiled.problem().unwrap_or_default().to_owned();
        Self { builtin: compiled.builtin, problem, ..compiled.rule.into() }
    }
}

/// A channel as it is wanted; whether it makes sense, `Channel::check` says.
///
/// # Errors
/// Names the field.
pub fn alert_channel(field: &str, wire: v1::AlertChannel) -> Result<Channel, FieldError> {
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let place = |name: &str| format!("{field}.{name}");
    let way = wire.way.ok_or_else(|| {
        FieldError::new(place("way"), "is missing: webhook, command, smtp or mqtt")
    })?;
    Ok(Channel {
        name: wire.name,
        way: way_of(way).map_err(within(field))?,
        severity: severity(&place("severity"), wire.severity)?,
        only: Matcher::parse(&place("only"), &wire.only)?,
        escalations: wire.escalations,
        no_resolved: wire.no_resolved,
        timeout_s: or(wire.timeout_seconds, TIMEOUT_S_DEFAULT),
        per_minute: or(wire.per_minute, PER_MINUTE_DEFAULT),
        disabled: wire.disabled,
        changed_at: WallTime::default(),
    })
}

fn way_of(wire: v1::alert_channel::Way) -> Result<Way, FieldError> {
    use v1::alert_channel::Way as Wire;
    Ok(match wire {
        Wire::Webhook(w) => Way::Webhook {
            url: Secret::new(w.url),
            body: match w.body.as_str() {
                "" | "json" => Body::Json,
                "slack" => Body::Slack,
                "mattermost" => Body::Mattermost,
                _ => {
                    return Err(FieldError::new(
                        "webhook.body",
                        "must be json, slack or mattermost",
                    ));
                }
            },
            key: Secret::new(w.key),
            ca: w.ca_certificate,
        },
        Wire::Command(w) => Way::Command { argv: w.argv },
        Wire::Smtp(w) => Way::Smtp {
            host: w.host,
            port: port("smtp.port", w.port)?,
            protection: protection("smtp.protection", &w.protection)?,
            user: w.user,
            password: Secret::new(w.password),
            from: w.from,
            to: w.to,
            ca: w.ca_certificate,
        },
        Wire::Mqtt(w) => Way::Mqtt {
            host: w.host,
            port: port("mqtt.port", w.port)?,
            protection: protection("mqtt.protection", &w.protection)?,
            topic: w.topic,
            user: w.user,
            password: Secret::new(w.password),
            ca: w.ca_certificate,
        },
    })
}

fn port(field: &str, number: u32) -> Result<u16, FieldError> {
    u16::try_from(number).map_err(|_| FieldError::new(field, "must be 1 to 65535"))
}

fn protection(field: &str, name: &str) -> Result<Protection, FieldError> {
    match name {
        "" | "tls" => Ok(Protection::Tls),
        "starttls" => Ok(Protection::StartTls),
        "none" => Ok(Protection::None),
        _ => Err(FieldError::new(field, "must be tls, starttls or none")),
    }
}

impl From<Alert> for v1::Alert {
    fn from(alert: Alert) -> Self {
        let id = if alert.id == Id(0) { String::new() } else { alert.id.to_string() };
        let acknowledgement = alert.acknowledged.map(|ack| v1::AlertAcknowledgement {
            by: ack.by,
            at: Some(timestamp(ack.at)),
            comment: ack.comment,
        });
        Self {
            id,
            rule: alert.rule,
            severity: severity_to_wire(alert.severity).into(),
            state: alert.state.name().to_owned(),
            labels: alert.labels.into_iter().collect(),
            message: alert.message,
            group: alert.group.unwrap_or_default(),
            members: alert.members.into_iter().map(Into::into).collect(),
            since: Some(timestamp(alert.since)),
            fired_at: Some(timestamp(alert.fired_at)),
            acknowledgement,
            escalated_at: alert.escalated_at.map(timestamp),
            resolved_at: alert.resolved_at.map(timestamp),
            resolved_why: alert.resolved_why,
            silenced_by: alert.silenced_by.map(|id| id.to_string()).unwrap_or_default(),
            revision: alert.revision,
        }
    }
}

impl From<Member> for v1::AlertMember {
    fn from(member: Member) -> Self {
        let container = match &member.subject {
            Subject::Container(_, name) => name.clone(),
            Subject::Node(_) | Subject::Cluster => String::new(),
        };
        Self {
            node_id: member.subject.node().map(NodeId::to_string).unwrap_or_default(),
            node_name: member.node.map(|name| name.to_string()).unwrap_or_default(),
            container,
            since: Some(timestamp(member.since)),
            cleared_at: member.cleared_at.map(timestamp),
        }
    }
}

impl From<Silence> for v1::AlertSilence {
    fn from(silence: Silence) -> Self {
        Self {
            id: silence.id.to_string(),
            only: silence.matcher.as_str().to_owned(),
            created_at: Some(timestamp(silence.created_at)),
            until: Some(timestamp(silence.until)),
            by: silence.by,
            comment: silence.comment,
        }
    }
}

impl From<ChannelView> for v1::AlertChannelStatus {
    fn from(view: ChannelView) -> Self {
        let ChannelView { channel, waiting, problem } = view;
        Self {
            kind: channel.way.kind().to_owned(),
            target: channel.way.target(),
            name: channel.name,
            severity: severity_to_wire(channel.severity).into(),
            only: channel.only.as_str().to_owned(),
            escalations: channel.escalations,
            disabled: channel.disabled,
            per_minute: channel.per_minute,
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
            problem,
            changed_at: Some(timestamp(channel.changed_at)),
        }
    }
}

impl From<Delivery> for v1::DeadLetter {
    fn from(delivery: Delivery) -> Self {
        let dead = delivery.dead;
        Self {
            id: delivery.id.to_string(),
            channel: delivery.channel,
            kind: delivery.notice.kind.name().to_owned(),
            alert_id: delivery.notice.alert.id.to_string(),
            message: delivery.notice.alert.message,
            created_at: Some(timestamp(delivery.created_at)),
            given_up_at: dead.as_ref().map(|dead| timestamp(dead.at)),
            why: dead.map(|dead| dead.why).unwrap_or_default(),
        }
    }
}
