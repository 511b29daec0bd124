//! How a notification reads, for programs and for people.

use piccolo_core::{
    monitoring_server::alerts::{
        alert::{Member, severity_name},
        channel::{Body, Notice, NoticeKind},
    },
    time::WallTime,
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The generic shape; docs/operations/alerts.md describes it.
pub(super) fn document(notice: &Notice) -> Value {
    let alert = &notice.alert;
    let members: Vec<_> = alert.members.iter().map(Member::name).collect();
    json!({
        "key": notice.key,
        "kind": notice.kind.name(),
        "at": time(notice.at),
        "cluster": notice.cluster,
        "title": notice.title(),
        "alert": {
            "id": alert.id.to_string(),
            "rule": alert.rule,
            "severity": severity_name(alert.severity),
            "state": alert.state.name(),
            "message": alert.message,
            "labels": alert.labels,
            "group": alert.group,
            "subjects": members,
            "subjects_count": notice.subjects,
            "since": time(alert.since),
            "fired_at": time(alert.fired_at),
            "acknowledged_by": alert.acknowledged.as_ref().map(|ack| &ack.by),
            "escalated_at": alert.escalated_at.map(time),
            "resolved_at": alert.resolved_at.map(time),
        },
    })
}

pub(super) fn webhook(notice: &Notice, body: Body) -> Value {
    match body {
        Body::Json => document(notice),
        // in Slack's text & < > are control characters
        Body::Slack => {
            let text =
                notice.title().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            json!({ "text": format!("{} {text}", sign(notice)) })
        }
        Body::Mattermost => {
            let plain: String = notice
                .title()
                .chars()
                .flat_map(|c| {
                    "\\`*_{}[]()#+-.!|~<>@".contains(c).then_some('\\').into_iter().chain([c])
                })
                .collect();
            json!({ "username": "PICCOLO", "text": format!("{} {plain}", sign(notice)) })
        }
    }
}

/// For a mailbox.
pub(super) fn letter(notice: &Notice) -> String {
    let alert = &notice.alert;
    let mut lines = vec![notice.title(), String::new()];
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("{name}: {value}"));
        }
    };
    line("alert", alert.id.to_string());
    line("rule", alert.rule.clone());
    line("severity", severity_name(alert.severity).to_owned());
    line("state", alert.state.name().to_owned());
    line("fired at", time(alert.fired_at));
    line("over at", alert.resolved_at.map(time).unwrap_or_default());
    line(
        "acknowledged by",
        alert.acknowledged.as_ref().map(|ack| ack.by.clone()).unwrap_or_default(),
    );
    let labels = alert.labels.iter().map(|(key, value)| format!("{key}={value}"));
    line("labels", labels.collect::<Vec<_>>().join(", "));
    lines.push(String::new());
    lines.extend(alert.members.iter().map(|member| format!("- {}", member.name())));
    lines.push(format!("\npiccolo alert describe {0}\npiccolo alert ack {0}\n", alert.id));
    lines.join("\n")
}

fn sign(notice: &Notice) -> &'static str {
    match notice.kind {
        NoticeKind::Resolved => ":white_check_mark:",
        NoticeKind::Test => ":information_source:",
        NoticeKind::Firing | NoticeKind::Updated => ":warning:",
        NoticeKind::Escalated => ":rotating_light:",
    }
}

fn time(at: WallTime) -> String {
    let nanoseconds = i128::from(at.0) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}
