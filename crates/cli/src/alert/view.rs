//! Alerts as people and programs see them.

use std::collections::BTreeMap;

use piccolo_rpc::v1;
pub use piccolo_rpc::view::alert::{AlertView, AlertsView, SilenceView, subject};

use crate::{
    output::{Cell, Format, Look, Table, Tone, fields, figure, text, word},
    text::{age, clean, moment, or_nothing, until},
    words,
};

/// Subjects that are named in a table at most.
const SUBJECTS_SHOWN_MAX: usize = 3;

fn subjects(alert: &v1::Alert) -> String {
    let names: Vec<_> = alert.members.iter().take(SUBJECTS_SHOWN_MAX).map(subject).collect();
    let more = alert.members.len().saturating_sub(names.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", names.join(", "))
}

fn tone(alert: &v1::Alert) -> Tone {
    match (&alert.state[..], v1::Severity::try_from(alert.severity)) {
        ("resolved" | "pending", _) => Tone::Faint,
        (_, Ok(v1::Severity::Critical)) => Tone::Bad,
        (_, Ok(v1::Severity::Warning)) => Tone::Warning,
        (_, Ok(v1::Severity::Unspecified | v1::Severity::Info) | Err(_)) => Tone::Plain,
    }
}

fn state(alert: &v1::Alert) -> String {
    let silenced = if alert.silenced_by.is_empty() { "" } else { " (silenced)" };
    format!("{}{silenced}", alert.state)
}

/// `piccolo alert list` for people.
pub fn table(listed: &v1::ListAlertsResponse, format: Format, look: &Look) -> String {
    if listed.alerts.is_empty() && listed.silences.is_empty() {
        return "no alerts\n".to_owned();
    }
    let wide = format == Format::Wide;
    let columns = [
        word("ID"),
        word("SEVERITY"),
        word("STATE"),
        figure("AGE"),
        word("RULE").spare(),
        text("SUBJECTS").spare_at_last(),
        text("MESSAGE"),
    ];
    let more = [text("ACKNOWLEDGED BY"), word("GROUP")].into_iter().filter(|_| wide);
    let mut table = Table::new(columns.into_iter().chain(more));
    for alert in &listed.alerts {
        let by = alert.acknowledgement.as_ref().map_or("", |ack| &ack.by);
        let cells = [
            Cell::or_nothing(&alert.id),
            Cell::toned(tone(alert), words::severity(alert.severity)),
            Cell::new(state(alert)),
            Cell::new(age(look.now, alert.fired_at.as_ref())),
            Cell::new(&alert.rule),
            Cell::or_nothing(&subjects(alert)),
            Cell::new(&alert.message),
        ];
        let more = [Cell::or_nothing(by), Cell::or_nothing(&alert.group)];
        table.row(cells.into_iter().chain(more.into_iter().filter(|_| wide)));
    }
    let alerts = if table.is_empty() { "no alerts\n".to_owned() } else { table.render(look) };
    format!("{alerts}{}", silences(&listed.silences, look))
}

fn silences(silences: &[v1::AlertSilence], look: &Look) -> String {
    if silences.is_empty() {
        return String::new();
    }
    let columns =
        [word("SILENCE"), figure("ENDS"), word("BY").spare(), text("OF"), text("COMMENT")];
    let mut table = Table::new(columns);
    for silence in silences {
        table.row([
            Cell::new(&silence.id),
            Cell::new(until(look.now, silence.until.as_ref())),
            Cell::new(&silence.by),
            Cell::new(&silence.only),
            Cell::or_nothing(&silence.comment),
        ]);
    }
    format!("\n{}", table.render(look))
}

/// One line of `--watch`.
pub fn line(alert: &v1::Alert, look: &Look) -> String {
    let at = alert.resolved_at.as_ref().or(alert.fired_at.as_ref());
    let severity = look.paint(tone(alert), &format!("{:<8}", words::severity(alert.severity)));
    let (id, state) = (clean(&alert.id), state(alert));
    let message = clean(&alert.message);
    format!("{}  {id:<8}  {severity}  {state:<12}  {message}\n", moment(at))
}

/// `piccolo alert describe` for people.
pub fn describe(alert: &v1::Alert, look: &Look) -> String {
    let labels: BTreeMap<_, _> = alert.labels.iter().collect();
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let acknowledged = alert.acknowledgement.as_ref().map_or_else(String::new, |ack| {
        let comment =
            if ack.comment.is_empty() { String::new() } else { format!(": {}", ack.comment) };
        format!("by {} at {}{comment}", ack.by, moment(ack.at.as_ref()))
    });
    let at =
        |time: Option<&prost_types::Timestamp>| time.map_or_else(String::new, |t| moment(Some(t)));
    let why = if alert.resolved_why.is_empty() {
        String::new()
    } else {
        format!(": {}", alert.resolved_why)
    };
    let resolved = alert
        .resolved_at
        .as_ref()
        .map_or_else(String::new, |t| format!("{}{why}", moment(Some(t))));
    let mut out = fields(
        look,
        [
            ("Alert", or_nothing(&alert.id)),
            ("Rule", or_nothing(&alert.rule)),
            ("Severity", words::severity(alert.severity)),
            ("State", state(alert)),
            ("Message", or_nothing(&alert.message)),
            ("Labels", or_nothing(&labels.join(", "))),
            ("Group", or_nothing(&alert.group)),
            ("Since", at(alert.since.as_ref())),
            ("Fired", at(alert.fired_at.as_ref())),
            ("Acknowledged", or_nothing(&acknowledged)),
            ("Escalated", or_nothing(&at(alert.escalated_at.as_ref()))),
            ("Over", or_nothing(&resolved)),
            ("Silenced by", or_nothing(&alert.silenced_by)),
        ],
    );
    let mut table = Table::new([word("SUBJECT"), figure("SINCE"), figure("OVER")]);
    for member in &alert.members {
        let over = member.cleared_at.as_ref();
        table.row([
            Cell::new(subject(member)),
            Cell::new(age(look.now, member.since.as_ref())),
            Cell::or_nothing(&over.map(|at| age(look.now, Some(at))).unwrap_or_default()),
        ]);
    }
    out.push('\n');
    out.push_str(&table.render(look));
    out
}
