//! Everything about one node, for people.

use piccolo_core::monitoring_server::ROUND_TRIP;
use piccolo_rpc::{v1, view::recovery::paused_until};

use super::table::{container_state, container_tone, labels, round_trip, status_tone};
use crate::{
    events,
    output::{Cell, Format, Look, Table, Tone, fields, figure, indented, text, word},
    text::{NOTHING, age, bytes, moment, or_nothing, percent, span, until},
    words,
};

/// `piccolo node describe`. `recent` are its newest events, ascending; `generation` is the newest
/// of the topology, where it is known.
pub fn node(node: &v1::Node, recent: &[v1::Event], generation: Option<u64>, look: &Look) -> String {
    let mut out = fields(look, identity(node, generation, look));
    section(&mut out, look, "Conditions", &conditions(node, look));
    section(&mut out, look, "System check", &system_check(node, look));
    section(&mut out, look, "System", &fields(look, system(node)));
    section(&mut out, look, "Hardware", &hardware(node, look));
    section(&mut out, look, "Metrics", &metrics(node, look));
    section(&mut out, look, &containers_title(node, look), &containers(node, look));
    let narrow = Look { width: look.width.map(|width| width.saturating_sub(2)), ..*look };
    let events = if recent.is_empty() {
        "none\n".to_owned()
    } else {
        events::table(recent, Format::Table, &narrow)
    };
    section(&mut out, look, "Recent events", &events);
    out
}

fn section(out: &mut String, look: &Look, title: &str, body: &str) {
    out.push_str(&look.paint(Tone::Strong, &format!("{title}:")));
    out.push('\n');
    out.push_str(&indented(body));
}

fn identity<'a>(node: &v1::Node, generation: Option<u64>, look: &Look) -> Vec<(&'a str, String)> {
    let status = look.paint(status_tone(node), &words::status(node.status));
    let ago = |at| match at {
        Some(_) => format!("{} ago ({})", age(look.now, at), moment(at)),
        None => NOTHING.to_owned(),
    };
    let status = match node.status_since.as_ref() {
        Some(since) => {
            format!("{status} for {} (since {})", age(look.now, Some(since)), moment(Some(since)))
        }
        None => status,
    };
    let certificate = match node.certificate_expires_at.as_ref() {
        Some(at) => match until(look.now, Some(at)).as_str() {
            "expired" => look.paint(Tone::Bad, &format!("expired ({})", moment(Some(at)))),
            left => format!("expires in {left} ({})", moment(Some(at))),
        },
        None => NOTHING.to_owned(),
    };
    let session = match (node.connected, round_trip(node)) {
        (false, _) => "none".to_owned(),
        (true, None) => "open".to_owned(),
        (true, Some(time)) => format!("open, round trip {time}"),
    };
    let applied = match generation {
        Some(newest) if newest != node.applied_generation => {
            let text = format!("{}, newest is {newest}", node.applied_generation);
            look.paint(Tone::Warning, &text)
        }
        Some(_) | None => node.applied_generation.to_string(),
    };
    let paused = paused_until(node, &look.now).map(|at| {
        let text = format!("paused by an operator, for {} more", until(look.now, Some(at)));
        ("Recovery", look.paint(Tone::Warning, &text))
    });
    let mut all = vec![
        ("Name", or_nothing(&node.name)),
        ("Id", or_nothing(&node.id)),
        ("Status", status),
        ("Role", format!("{}, {}", words::role(node.role), words::kind(node.kind))),
        ("Address", or_nothing(&node.ip)),
        ("Session", session),
        ("Heartbeat", ago(node.last_heartbeat.as_ref())),
        ("Labels", labels(node)),
        ("Generation", applied),
        ("Certificate", certificate),
        ("Joined", ago(node.created_at.as_ref())),
    ];
    all.extend(paused);
    all
}

fn conditions(node: &v1::Node, look: &Look) -> String {
    if node.conditions.is_empty() {
        return "none\n".to_owned();
    }
    let mut table = Table::new([word("KIND"), word("REASON"), figure("SINCE"), text("MESSAGE")]);
    for condition in &node.conditions {
        table.row([
            Cell::toned(Tone::Warning, &condition.kind),
            Cell::or_nothing(&condition.reason),
            Cell::new(age(look.now, condition.since.as_ref())),
            Cell::or_nothing(&condition.message),
        ]);
    }
    table.render(&Look { width: look.width.map(|width| width.saturating_sub(2)), ..*look })
}

fn system_check(node: &v1::Node, look: &Look) -> String {
    let Some(check) = &node.system_check else { return "none told\n".to_owned() };
    let narrow = Look { width: look.width.map(|width| width.saturating_sub(2)), ..*look };
    super::check::summary(check, look) + &super::check::findings(check, &narrow)
}

fn hardware(node: &v1::Node, look: &Look) -> String {
    let narrow = Look { width: look.width.map(|width| width.saturating_sub(2)), ..*look };
    let read = node.hardware.as_ref().map(|read| super::check::findings(read, &narrow));
    read.filter(|table| !table.is_empty()).unwrap_or_else(|| "none told\n".to_owned())
}

fn system<'a>(node: &v1::Node) -> Vec<(&'a str, String)> {
    let resources = node.resources.unwrap_or_default();
    let known = |value: u64, unit: &str| {
        if value == 0 { NOTHING.to_owned() } else { format!("{value} {unit}") }
    };
    vec![
        ("CPU", known(resources.cpu.into(), "cores")),
        ("Memory", known(resources.memory, "MB")),
        ("Disk", known(resources.disk, "GB")),
        ("Architecture", or_nothing(&node.architecture)),
        ("OS", or_nothing(&node.os)),
        ("Kernel", or_nothing(&node.kernel)),
        ("NodeAgent", or_nothing(&node.agent_version)),
        ("Podman", or_nothing(&node.runtime_version)),
    ]
}

fn metrics(node: &v1::Node, look: &Look) -> String {
    // the session's line has it
    let mut keys: Vec<_> = node.metrics.keys().filter(|key| *key != ROUND_TRIP).collect();
    keys.sort();
    if keys.is_empty() {
        return "none\n".to_owned();
    }
    let figures: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let value = node.metrics.get(key).map_or("", String::as_str);
            let (name, value) = metric(key, value);
            (crate::text::clean(&name).into_owned(), value)
        })
        .collect();
    fields(look, figures.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

/// A figure for people. Agents name the unit at the end of the key; a key without a known unit, or
/// a value that is no number, is shown as it is.
fn metric(key: &str, value: &str) -> (String, String) {
    type Humanise = fn(f64) -> String;
    const UNITS: [(&str, Humanise); 9] = [
        ("_bytes_per_second", |value| format!("{}/s", bytes(value as u64))),
        ("_bytes_per_s", |value| format!("{}/s", bytes(value as u64))),
        ("_bytes", |value| bytes(value as u64)),
        ("_basis_points", |value| percent(value as u64)),
        ("_percent", |value| format!("{value:.1} %")),
        ("_millidegrees", |value| format!("{:.1} °C", value / 1000.0)),
        ("_celsius", |value| format!("{value:.1} °C")),
        ("_seconds", |value| span(value as u64)),
        ("_s", |value| span(value as u64)),
    ];
    let unit = UNITS.iter().find_map(|(unit, humanise)| {
        let name = key.strip_suffix(unit).filter(|name| !name.is_empty())?;
        let number: f64 = value.parse().ok().filter(|number: &f64| number.is_finite())?;
        Some((name.to_owned(), humanise(number)))
    });
    unit.unwrap_or_else(|| (key.to_owned(), or_nothing(value)))
}

/// What a node without a session runs now is not known.
fn containers_title(node: &v1::Node, look: &Look) -> String {
    match node.containers_at.as_ref().filter(|_| !node.connected && !node.containers.is_empty()) {
        Some(at) => format!("Containers, last known {} ago", age(look.now, Some(at))),
        None => "Containers".to_owned(),
    }
}

fn containers(node: &v1::Node, look: &Look) -> String {
    if node.containers.is_empty() {
        return "none\n".to_owned();
    }
    let mut table = Table::new([
        word("NAME"),
        word("STATE"),
        figure("FOR"),
        figure("CPU"),
        figure("MEMORY"),
        figure("RESTARTS"),
        text("IMAGE"),
        word("ID"),
    ]);
    let mut sorted: Vec<_> = node.containers.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    for container in sorted {
        let running = super::table::is_running(container);
        let since = if running { &container.started_at } else { &container.finished_at };
        let usage = |text: String| if running { text } else { NOTHING.to_owned() };
        table.row([
            Cell::toned(Tone::Strong, or_nothing(&container.name)),
            Cell::toned(container_tone(container), container_state(container)),
            Cell::new(age(look.now, since.as_ref())),
            Cell::new(usage(percent(container.cpu_basis_points.into()))),
            Cell::new(usage(bytes(container.memory_bytes))),
            Cell::new(container.restarts.to_string()),
            Cell::or_nothing(&container.image),
            Cell::or_nothing(&container.id.chars().take(12).collect::<String>()),
        ]);
    }
    table.render(&Look { width: look.width.map(|width| width.saturating_sub(2)), ..*look })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_for_people_by_the_unit_in_their_name() {
        for (key, value, expect) in [
            ("memory_used_bytes", "1048576", ("memory_used", "1.0 MiB")),
            ("network_rx_bytes_per_s", "2048", ("network_rx", "2.0 KiB/s")),
            ("cpu_basis_points", "1234", ("cpu", "12.3 %")),
            ("temperature_millidegrees", "48312", ("temperature", "48.3 °C")),
            ("uptime_s", "187200", ("uptime", "2d4h")),
            ("load_1m", "0.52", ("load_1m", "0.52")),
            ("memory_bytes", "many", ("memory_bytes", "many")),
            ("cpu_basis_points", "-5", ("cpu", "0.0 %")),
            ("x_bytes", "NaN", ("x_bytes", "NaN")),
            ("_s", "1", ("_s", "1")),
        ] {
            let (name, text) = metric(key, value);
            assert_eq!((name.as_str(), text.as_str()), expect);
        }
    }
}
