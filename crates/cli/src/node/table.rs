//! Nodes as a table.

use piccolo_core::monitoring_server::ROUND_TRIP;
use piccolo_rpc::v1;
pub use piccolo_rpc::view::cluster::{is_running, is_unwell};
use v1::NodeStatus;

use crate::{
    output::{Cell, Column, Format, Look, Table, Tone, figure, text, word},
    text::{NOTHING, age, clean, or_nothing, short, until},
    words,
};

const COLUMNS: [Column; 7] = [
    word("NAME"),
    word("STATUS"),
    word("ROLE"),
    word("ADDRESS").spare(),
    figure("CONTAINERS").spare(),
    figure("AGE").spare(),
    text("REASON"),
];
const MORE_COLUMNS: [Column; 16] = [
    figure("SINCE"),
    figure("HEARTBEAT"),
    figure("LATENCY"),
    word("KIND"),
    figure("CPU"),
    figure("MEMORY"),
    figure("DISK"),
    figure("GENERATION"),
    figure("CERTIFICATE"),
    word("AGENT"),
    word("ARCH"),
    text("OS"),
    text("KERNEL"),
    word("PODMAN"),
    text("LABELS"),
    word("ID"),
];

/// `piccolo node list`, in the order of names.
pub fn nodes<'a>(
    nodes: impl IntoIterator<Item = &'a v1::Node>,
    format: Format,
    look: &Look,
) -> String {
    let wide = format == Format::Wide;
    let mut sorted: Vec<_> = nodes.into_iter().collect();
    sorted.sort_by(|a, b| (role_order(a), &a.name, &a.id).cmp(&(role_order(b), &b.name, &b.id)));
    let more = MORE_COLUMNS.into_iter().filter(|_| wide);
    let mut table = Table::new(COLUMNS.into_iter().chain(more));
    for node in sorted {
        let more = wide.then(|| more_cells(node, look)).into_iter().flatten();
        table.row(cells(node, look).into_iter().chain(more));
    }
    if table.is_empty() {
        return "no nodes\n".to_owned();
    }
    table.render(look)
}

fn cells(node: &v1::Node, look: &Look) -> [Cell; 7] {
    [
        Cell::toned(Tone::Strong, &node.name),
        Cell::toned(status_tone(node), words::status(node.status)),
        Cell::new(words::role(node.role)),
        Cell::or_nothing(&node.ip),
        containers_cell(&node.containers),
        Cell::new(age(look.now, node.created_at.as_ref())),
        Cell::new(reason(node)),
    ]
}

fn more_cells(node: &v1::Node, look: &Look) -> [Cell; 16] {
    let resources = node.resources.unwrap_or_default();
    let known = |value: u64, unit: &str| {
        if value == 0 {
            NOTHING.to_owned()
        } else {
            format!("{value} {unit}").trim_end().to_owned()
        }
    };
    [
        Cell::new(age(look.now, node.status_since.as_ref())),
        Cell::new(age(look.now, node.last_heartbeat.as_ref())),
        Cell::or_nothing(&round_trip(node).unwrap_or_default()),
        Cell::new(words::kind(node.kind)),
        Cell::new(known(resources.cpu.into(), "")),
        Cell::new(known(resources.memory, "MB")),
        Cell::new(known(resources.disk, "GB")),
        Cell::new(node.applied_generation.to_string()),
        Cell::new(until(look.now, node.certificate_expires_at.as_ref())),
        Cell::or_nothing(&node.agent_version),
        Cell::or_nothing(&node.architecture),
        Cell::or_nothing(&node.os),
        Cell::or_nothing(&node.kernel),
        Cell::or_nothing(&node.runtime_version),
        Cell::new(labels(node)),
        Cell::new(&node.id),
    ]
}

/// Of its session's beats, where it has one and has told it.
pub fn round_trip(node: &v1::Node) -> Option<String> {
    let seconds = node.metrics.get(ROUND_TRIP).filter(|_| node.connected)?;
    seconds.parse().ok().filter(|seconds| (0.0..=60.0).contains(seconds)).map(short)
}

/// Masters first.
fn role_order(node: &v1::Node) -> u8 {
    u8::from(node.role != v1::NodeRole::Master as i32)
}

/// What a status means for people.
pub fn status_tone(node: &v1::Node) -> Tone {
    match NodeStatus::try_from(node.status) {
        Ok(NodeStatus::Ready) if node.conditions.is_empty() => Tone::Good,
        Ok(NodeStatus::NotReady | NodeStatus::Terminating) => Tone::Bad,
        Ok(
            NodeStatus::Ready
            | NodeStatus::Pending
            | NodeStatus::Initializing
            | NodeStatus::Maintenance,
        ) => Tone::Warning,
        Ok(NodeStatus::Unspecified) | Err(_) => Tone::Plain,
    }
}

/// Why the status is what it is: the conditions' reasons.
pub fn reason(node: &v1::Node) -> String {
    let mut reasons: Vec<String> = Vec::new();
    for condition in &node.conditions {
        let more = !condition.reason.is_empty() && condition.reason != condition.kind;
        let reason = if more {
            format!("{}: {}", condition.kind, condition.reason)
        } else {
            condition.kind.clone()
        };
        reasons.push(clean(&reason).into_owned());
    }
    or_nothing(&reasons.join(", "))
}

/// `site=seoul,soc=a78`.
pub fn labels(node: &v1::Node) -> String {
    let mut pairs: Vec<_> =
        node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    or_nothing(&pairs.join(","))
}

fn containers_cell(containers: &[v1::ContainerStatus]) -> Cell {
    let running = containers.iter().filter(|container| is_running(container)).count();
    let tone = if containers.iter().any(is_unwell) { Tone::Bad } else { Tone::Plain };
    Cell::toned(tone, format!("{running}/{}", containers.len()))
}

/// `running`, `running, healthy`, `exited (1)`.
pub fn container_state(container: &v1::ContainerStatus) -> String {
    let state = or_nothing(&container.state);
    match (is_running(container), container.exit_code, container.health.as_str()) {
        (true, _, "") => state,
        (true, _, health) => format!("{state}, {}", clean(health)),
        (false, Some(code), _) => format!("{state} ({code})"),
        (false, None, _) => state,
    }
}

pub fn container_tone(container: &v1::ContainerStatus) -> Tone {
    match (is_unwell(container), is_running(container)) {
        (true, _) => Tone::Bad,
        (false, true) => Tone::Good,
        (false, false) => Tone::Faint,
    }
}
