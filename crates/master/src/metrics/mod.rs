//! What the master counts and what the nodes told last, as one list of figures: `/metrics` shows it and the exporter
//! sends it.
//!
//! Everything is read at the moment of the look. A figure is a family (a name, a sentence, a kind) and then its samples.
//!
//! - [`text`]: the list as Prometheus reads it; [`otlp`]: as OpenTelemetry does
//! - [`export`]: sends the latter to where the settings say

pub(crate) mod export;
mod otlp;
mod process;
mod text;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use piccolo_core::{
    api_server::Selector,
    model::{ContainerReport, NodeStatus, NodeView, Severity},
    monitoring_server::alerts::alert::{AlertState, severity_name},
    time::WallTime,
};

use self::process::Process;
pub(crate) use self::text::page;
use crate::{api_server::Api, figures::Commits, kept_logs::Extent};

/// Figures that are older are said to be: every node tells them more often.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// What a node without a session told last is shown for so long, and then it is not there any more.
const SHOWN_FOR: Duration = Duration::from_secs(300);

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    /// It began at zero with this process.
    Counter,
    /// It began at zero elsewhere, or before this process.
    OlderCounter,
}

/// Labels of a sample, in their order.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// Where the list is written to.
trait Sink {
    fn family(&mut self, name: &str, help: &str, kind: Kind);

    /// Of the family that was begun last.
    fn sample(&mut self, labels: Labels<'_>, value: f64);

    /// How long commits took so far: a family of its own.
    fn histogram(&mut self, name: &str, help: &str, commits: &Commits);

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, Kind::Gauge);
        self.sample(&[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, Kind::Counter);
        self.sample(&[], value);
    }
}

/// The whole list.
fn list(page: &mut dyn Sink, api: &Api) {
    process(page);
    own(page, api);
    let (nodes, _) = api.board.nodes(&Selector::default());
    by_node(page, &nodes, api.clock.now().wall);
}

fn process(page: &mut dyn Sink) {
    let process = Process::read();
    let bytes = process.resident_bytes as f64;
    page.gauge("process_resident_memory_bytes", "Memory of this process in RAM.", bytes);
    page.counter("process_cpu_seconds_total", "CPU time of this process.", process.cpu_seconds);
    page.gauge("process_open_fds", "Open files of this process.", process.open_fds as f64);
    page.gauge("process_threads", "Threads of this process.", process.threads as f64);
}

fn own(page: &mut dyn Sink, api: &Api) {
    page.family("piccolo_master_info", "Which master this is.", Kind::Gauge);
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let gauges = [
        ("piccolo_sessions", "Open sessions of agents.", api.sessions.count() as u64),
        ("piccolo_watchers", "Open watches.", api.watchers.count() as u64),
        ("piccolo_connections", "Open TLS connections.", api.connections.count() as u64),
        ("piccolo_inputs_waiting", "Inputs that wait for the state's owner.", backlog(api)),
        ("piccolo_effects_waiting", "Decisions that wait for the store.", api.queue.len() as u64),
        ("piccolo_last_event_id", "Newest event in the log.", api.board.last_event()),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value as f64);
    }
    let up = u8::from(api.health.get() == "ok");
    page.gauge("piccolo_store_up", "Whether the store takes commits.", up.into());
    if let Some(backup) = api.backup.get() {
        let failing = u8::from(!backup.problem.is_empty());
        page.gauge(
            "piccolo_backup_failing",
            "Whether the last backup was not made.",
            failing.into(),
        );
        let at = backup.newest.map_or(0.0, |(at, _)| at.0 as f64 / 1000.0);
        let help = "When the newest backup was made, since 1970; 0 for none.";
        page.gauge("piccolo_backup_timestamp_seconds", help, at);
    }
    let counters = [
        (
            "piccolo_inputs_total",
            "Inputs that the state's owner has handled.",
            api.published.inputs.load(Ordering::Relaxed),
        ),
        (
            "piccolo_sessions_dropped_total",
            "Sessions that ended because their agent did not read.",
            api.figures.sessions_dropped.load(Ordering::Relaxed),
        ),
        (
            "piccolo_watchers_dropped_total",
            "Watches that ended because their watcher did not read.",
            api.figures.watchers_dropped.load(Ordering::Relaxed),
        ),
    ];
    for (name, help, value) in counters {
        page.counter(name, help, value as f64);
    }
    history(page, api);
    kept_log(page, api);
    alerts(page, api);
    exports(page, api);
    calls(page, api);
    let help = "How long commits took until they were durable.";
    page.histogram("piccolo_store_commit_seconds", help, &api.figures.commits());
}

/// What the MonitoringServer remembers.
fn history(page: &mut dyn Sink, api: &Api) {
    let extent = api.monitoring.extent();
    let gauges = [
        ("piccolo_history_series", "Figures that are remembered over time.", extent.series),
        ("piccolo_history_bytes", "Memory that they take.", extent.bytes),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value as f64);
    }
    let help = "Samples for which there was no room.";
    page.counter("piccolo_history_refused_total", help, extent.refused as f64);
}

/// Important lines of the nodes' units.
fn kept_log(page: &mut dyn Sink, api: &Api) {
    let Extent { bytes, lines, dropped } = api.sessions.kept.extent();
    page.gauge("piccolo_kept_log_bytes", "Disk that the kept log takes.", bytes as f64);
    page.counter("piccolo_kept_log_lines_total", "Lines that were kept.", lines as f64);
    let help = "Lines that their nodes left out: they came too fast, or waited for too long.";
    page.counter("piccolo_kept_log_dropped_total", help, dropped as f64);
}

/// What fires, and whether it is told.
fn alerts(page: &mut dyn Sink, api: &Api) {
    let name = "piccolo_alerts";
    let counts = api.alerts.counts();
    page.family(name, "Alerts that fire, and those that were over lately.", Kind::Gauge);
    for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
        // what is pending is no alert yet
        for state in [AlertState::Firing, AlertState::Acknowledged, AlertState::Resolved] {
            let labels = [("severity", severity_name(severity)), ("state", state.name())];
            let count = counts.get(&(severity, state)).copied().unwrap_or_default();
            page.sample(&labels, count as f64);
        }
    }
    let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed) as f64;
    let published = &api.published;
    let help = "Notifications that wait for their channel to take them.";
    page.gauge("piccolo_notifications_waiting", help, read(&published.notifications_waiting));
    let help = "Notifications that were given up and are kept.";
    page.gauge("piccolo_notifications_dead", help, read(&published.notifications_dead));
    let help = "Notifications that were given up.";
    let given_up = read(&published.notifications_given_up);
    page.counter("piccolo_notifications_given_up_total", help, given_up);
    let help = "Notifications that gave way to newer ones of their channel.";
    let dropped = read(&published.notifications_dropped);
    page.counter("piccolo_notifications_dropped_total", help, dropped);
    let name = "piccolo_notifications_total";
    page.family(name, "Attempts to deliver a notification, by how they ended.", Kind::Counter);
    for ((channel, result), count) in api.figures.notifications() {
        page.sample(&[("channel", &channel), ("result", result)], count as f64);
    }
}

/// Whether this very list gets to where it is sent.
fn exports(page: &mut dyn Sink, api: &Api) {
    let Some(export) = api.export.get() else { return };
    let failing = u8::from(!export.problem.is_empty());
    page.gauge("piccolo_otlp_failing", "Whether the last export failed.", failing.into());
    let help = "Exports by OTLP, by how they ended.";
    page.family("piccolo_otlp_exports_total", help, Kind::Counter);
    for (result, count) in
        [("delivered", export.delivered), ("failed", export.failed), ("refused", export.refused)]
    {
        page.sample(&[("result", result)], count as f64);
    }
}

fn backlog(api: &Api) -> u64 {
    api.state.backlog() as u64
}

fn calls(page: &mut dyn Sink, api: &Api) {
    let name = "piccolo_calls_total";
    page.family(name, "Calls that were answered, by gRPC status.", Kind::Counter);
    for ((call, code), count) in api.figures.calls() {
        let code = format!("{:?}", tonic::Code::from_i32(code));
        page.sample(&[("call", call), ("code", &code)], count as f64);
    }
}

fn by_node(page: &mut dyn Sink, nodes: &[Arc<NodeView>], now: WallTime) {
    let mut each = |name: &str, help: &str, value: &dyn Fn(&NodeView) -> Option<f64>| {
        page.family(name, help, Kind::Gauge);
        for node in nodes {
            if let Some(value) = value(node) {
                page.sample(&[of(node)], value);
            }
        }
    };
    each("piccolo_node_up", "Whether the node is Ready.", &|node| {
        Some(f64::from(u8::from(node.record.status == NodeStatus::Ready)))
    });
    each("piccolo_node_connected", "Whether the node has a session.", &|node| {
        Some(f64::from(u8::from(node.connected)))
    });
    each("piccolo_node_heartbeat_age_seconds", "Time since the node was heard.", &|node| {
        node.last_heartbeat.map(|at| now.since(at).as_secs_f64())
    });
    each("piccolo_node_containers", "Containers on the node.", &|node| {
        Some(node.containers.len() as f64)
    });
    each("piccolo_node_containers_running", "Running containers on the node.", &|node| {
        Some(node.containers.iter().filter(|c| c.is_running()).count() as f64)
    });
    each("piccolo_node_applied_generation", "Configuration that the node confirmed.", &|node| {
        Some(node.record.applied_generation as f64)
    });
    each(
        "piccolo_node_certificate_expiry_timestamp_seconds",
        "End of the node's certificate, since 1970.",
        &|node| node.record.certificate_expires_at.map(|at| at.0 as f64 / 1000.0),
    );
    each("piccolo_node_figures_stale", "Whether the node's figures are old.", &|node| {
        let age = now.since(node.sampled_at?);
        Some(f64::from(u8::from(!node.connected || age >= STALE_AFTER)))
    });
    page.family("piccolo_node_status", "1 for the status that the node has.", Kind::Gauge);
    for node in nodes {
        for status in NodeStatus::ALL {
            let is = u8::from(node.record.status == status);
            page.sample(&[of(node), ("status", &status.to_string())], is.into());
        }
    }
    let heard = |node: &&Arc<NodeView>| {
        node.sampled_at.is_some_and(|at| node.connected || now.since(at) < SHOWN_FOR)
    };
    let heard: Vec<&NodeView> = nodes.iter().filter(heard).map(Arc::as_ref).collect();
    reported(page, &heard);
    by_container(page, &heard);
}

/// What the agents report as numbers, each under its own name: `cpu_percent` is `piccolo_node_cpu_ratio`.
fn reported(page: &mut dyn Sink, nodes: &[&NodeView]) {
    let mut families: BTreeMap<String, Vec<(&NodeView, f64)>> = BTreeMap::new();
    for node in nodes {
        for (key, text) in &node.metrics {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            if let (Some(number), Some(name)) = (number, base_name(key)) {
                let (name, number) = match name.strip_suffix("_percent") {
                    Some(name) => (format!("{name}_ratio"), number / 100.0),
                    None => (name, number),
                };
                families.entry(name).or_default().push((*node, number));
            }
        }
    }
    for (name, samples) in families {
        page.family(&name, "As the node reports it.", Kind::Gauge);
        for (node, number) in samples {
            page.sample(&[of(node)], number);
        }
    }
}

fn by_container(page: &mut dyn Sink, nodes: &[&NodeView]) {
    let mut each = |name: &str, help: &str, kind: Kind, value: &dyn Fn(&ContainerReport) -> f64| {
        page.family(name, help, kind);
        for node in nodes {
            for container in &node.containers {
                page.sample(&[of(node), ("container", &container.name)], value(container));
            }
        }
    };
    each("piccolo_container_running", "Whether the container runs.", Kind::Gauge, &|container| {
        f64::from(u8::from(container.is_running()))
    });
    each(
        "piccolo_container_restarts_total",
        "How often it was restarted.",
        Kind::OlderCounter,
        &|c| c.restarts.into(),
    );
    each(
        "piccolo_container_cpu_ratio",
        "CPU that it uses; 1 is a core.",
        Kind::Gauge,
        &|container| f64::from(container.cpu_basis_points) / 10_000.0,
    );
    each("piccolo_container_memory_bytes", "Memory that it uses.", Kind::Gauge, &|container| {
        container.memory_bytes as f64
    });
}

/// A name that Prometheus takes, without abbreviated units; keys that cannot be one are left out.
fn base_name(key: &str) -> Option<String> {
    let key = key.strip_suffix("_total").unwrap_or(key);
    let spelled_out = key.strip_suffix("_per_s").map(|rate| format!("{rate}_per_second"));
    let key = spelled_out.as_deref().unwrap_or(key);
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let good = key.len() <= 64 && key.starts_with(|c: char| c.is_ascii_lowercase());
    (good && key.chars().all(word)).then(|| format!("piccolo_node_{key}"))
}

fn of(node: &NodeView) -> (&str, &str) {
    ("node", node.record.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_good_names_become_metrics() {
        assert_eq!(base_name("cpu_percent").as_deref(), Some("piccolo_node_cpu_percent"));
        assert_eq!(base_name("net_rx_bytes_total").as_deref(), Some("piccolo_node_net_rx_bytes"));
        let rate = base_name("network_rx_bytes_per_s");
        assert_eq!(rate.as_deref(), Some("piccolo_node_network_rx_bytes_per_second"));
        for bad in ["", "Cpu", "a b", "1st", "{x}"] {
            assert_eq!(base_name(bad), None, "{bad}");
        }
    }
}
