//! `piccolo status`: is the cluster well, and if not, what is wrong?

use clap::Args;
use piccolo_rpc::v1;
pub use piccolo_rpc::view::cluster::{StatusView, is_well, reasons};
use prost_types::Timestamp;

use crate::{
    args::Globals,
    connection::Cluster,
    failure::Failure,
    node::table,
    output::{
        Cell, Format, Look, OutputArgs, Table, Tone, document, fields, figure, print, text, word,
    },
    text::{NOTHING, age, bytes, clean, moment, or_nothing, span, until},
    words,
};

pub const EXAMPLES: &str = "Examples:
  piccolo status
  piccolo status -o json
  piccolo --context ./bench.context.yaml status";

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, args: &StatusArgs) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    let mut client = cluster.connect().await?;
    let status = client
        .call("cannot get the cluster's status", v1::GetClusterStatusRequest {}, async |api, r| {
            api.get_cluster_status(r).await
        })
        .await?;
    let request = v1::GetNodesRequest::default();
    let mut nodes = client
        .call("cannot list nodes", request, async |api, r| api.get_nodes(r).await)
        .await?
        .nodes;
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let format = args.output.format;
    print(&match format {
        Format::Table | Format::Wide => render(&status, &nodes, &Look::of_stdout()),
        Format::Json | Format::Yaml => document(&StatusView::new(&status, &nodes), format)?,
    })
}

/// `piccolo status` for people.
pub fn render(status: &v1::GetClusterStatusResponse, nodes: &[v1::Node], look: &Look) -> String {
    let well = nodes.iter().filter(|node| is_well(node)).count();
    let store_tone = if status.store_health == "ok" { Tone::Good } else { Tone::Bad };
    let store = format!(
        "{}, {}, {}",
        or_nothing(&status.store_kind),
        look.paint(store_tone, &or_nothing(&status.store_health)),
        bytes(status.store_size_bytes)
    );
    let master = format!(
        "{} (version {}, up {})",
        or_nothing(&status.master_address),
        or_nothing(&status.master_version),
        age(look.now, status.started_at.as_ref())
    );
    let ca = match status.ca_expires_at.as_ref() {
        Some(at) => format!("{} left ({})", until(look.now, Some(at)), moment(Some(at))),
        None => NOTHING.to_owned(),
    };
    let name = format!("{} ({})", or_nothing(&status.cluster_name), clean(&status.cluster_id));
    let mut out = fields(
        look,
        [
            ("Cluster", name),
            ("Master", master),
            ("Store", store),
            ("Nodes", by_status(status, look)),
            (
                "Containers",
                format!("{} of {} running", status.containers_running, status.containers_total),
            ),
            ("Sessions", status.sessions.to_string()),
            ("Watchers", status.watchers.to_string()),
            ("Generation", status.generation.to_string()),
            ("Events", format!("{} kept", status.events_kept)),
            ("Approval", or_nothing(&status.approval)),
            ("CA", ca),
        ]
        .into_iter()
        .chain(status.backup.as_ref().map(|newest| ("Backup", backup(newest, look))))
        .chain(status.otlp.as_ref().map(|export| ("OTLP", exported(export, look)))),
    );
    out.push('\n');
    let troubles = masters_troubles(status);
    if !troubles.is_empty() {
        let troubles = format!("Not well: {}.", troubles.join(", "));
        out.push_str(&format!("{} Why: piccolo doctor\n", look.paint(Tone::Bad, &troubles)));
    }
    if nodes.is_empty() {
        out.push_str("No board has joined yet: piccolo token create --role sub\n");
    } else if well < nodes.len() {
        out.push_str(&problems(nodes, look));
    } else if troubles.is_empty() {
        out.push_str(&look.paint(Tone::Good, "Everything is well."));
        out.push('\n');
    }
    out
}

/// What is wrong with the master itself; the lines above say more.
fn masters_troubles(status: &v1::GetClusterStatusResponse) -> Vec<&'static str> {
    let backup = status.backup.as_ref().is_some_and(|backup| !backup.problem.is_empty());
    let export = status.otlp.as_ref().is_some_and(|export| !export.problem.is_empty());
    let troubles = [
        ("the master's store", status.store_health != "ok"),
        ("scheduled backups", backup),
        ("the export of figures", export),
    ];
    troubles.into_iter().filter_map(|(what, is_bad)| is_bad.then_some(what)).collect()
}

fn backup(status: &v1::BackupStatus, look: &Look) -> String {
    repeated(status.last_at.as_ref(), status.every_seconds, &status.problem, look)
}

fn exported(status: &v1::ExportStatus, look: &Look) -> String {
    repeated(status.last_at.as_ref(), status.every_seconds, &status.problem, look)
}

/// `3h ago, every 1d`, or why there is none.
fn repeated(last_at: Option<&Timestamp>, every_seconds: u64, problem: &str, look: &Look) -> String {
    let every = span(every_seconds);
    let newest = match last_at {
        Some(at) => format!("{} ago, every {every}", age(look.now, Some(at))),
        None => format!("none yet, every {every}"),
    };
    if problem.is_empty() {
        return newest;
    }
    look.paint(Tone::Bad, &format!("{newest}; failing: {}", clean(problem)))
}

/// `2 Ready, 1 NotReady`, in the order of the lifecycle.
fn by_status(status: &v1::GetClusterStatusResponse, look: &Look) -> String {
    let order = piccolo_core::model::NodeStatus::ALL.map(|status| status.to_string());
    let mut counts: Vec<_> =
        status.nodes_by_status.iter().filter(|(_, count)| **count > 0).collect();
    counts.sort_by_key(|(word, _)| {
        (order.iter().position(|known| known == *word).unwrap_or(order.len()), (*word).clone())
    });
    let total: u32 = counts.iter().map(|(_, count)| **count).sum();
    let parts: Vec<_> = counts
        .into_iter()
        .map(|(word, count)| {
            let tone = match word.as_str() {
                "Ready" => Tone::Good,
                "NotReady" | "Terminating" => Tone::Bad,
                _ => Tone::Warning,
            };
            look.paint(tone, &format!("{count} {}", clean(word)))
        })
        .collect();
    if parts.is_empty() { "none".to_owned() } else { format!("{total}: {}", parts.join(", ")) }
}

fn problems(nodes: &[v1::Node], look: &Look) -> String {
    let mut table = Table::new([word("NODE"), word("STATUS"), figure("SINCE"), text("WHY")]);
    for node in nodes.iter().filter(|node| !is_well(node)) {
        table.row([
            Cell::toned(Tone::Strong, &node.name),
            Cell::toned(table::status_tone(node), words::status(node.status)),
            Cell::new(age(look.now, node.status_since.as_ref())),
            Cell::or_nothing(&reasons(node).join("; ")),
        ]);
    }
    table.render(look)
}
