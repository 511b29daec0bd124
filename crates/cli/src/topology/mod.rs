//! `piccolo topology`: the shape of the cluster and the configuration of all nodes (HLD §5.2).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use piccolo_rpc::v1;
pub use piccolo_rpc::view::topology::TopologyView;

pub mod graph;
pub mod picture;
pub mod scene;
pub mod svg;

use crate::{
    alert,
    args::Globals,
    connection::{Client, Cluster},
    failure::Failure,
    input::read_text,
    node::wait::{Goal, wait},
    output::{Format, Look, OutputArgs, Tone, document, fields, print},
    text::{clean, or_nothing, parse_duration},
    words,
};
use scene::{GROUP_BY, Scene, Told};

pub const EXAMPLES: &str = "Examples:
  piccolo topology graph
  piccolo topology get -o yaml
  piccolo topology apply -f topology.yaml --wait";
const GET_EXAMPLES: &str = "Examples:
  piccolo topology get
  piccolo topology get -o yaml                    # edit it, then: piccolo topology apply -f FILE";
const APPLY_EXAMPLES: &str = "Examples:
  piccolo topology apply -f topology.yaml
  piccolo topology apply -f topology.yaml --wait  # until every node has applied it
  piccolo topology apply -f -                     # from stdin";
const GRAPH_EXAMPLES: &str = "Examples:
  piccolo topology graph
  piccolo topology graph --group-by rack          # in place of site
  piccolo topology graph -o svg                   # for browsers and documents
  piccolo topology graph -o dot                   # for: dot -Tsvg
  piccolo topology graph -o mermaid               # for Markdown";

/// A topology file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub enum TopologyCommand {
    /// Show the topology and its configuration
    #[command(after_help = GET_EXAMPLES)]
    Get(OutputArgs),
    /// Change the topology: its name, type and configuration
    ///
    /// The file is what `piccolo topology get -o yaml` writes (JSON works too). Members come from
    /// registration alone: what the file says of them must be true and changes nothing. The file's
    /// generation must be the one in force, so that nobody's change is overwritten; leave it out to
    /// overwrite.
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(ApplyArgs),
    /// Draw the cluster: the master, nodes and their links, containers, alerts, and how all are
    ///
    /// Nodes are grouped by a label. Up to 24 of them are shown with each of their containers, more with less; in the
    /// terminal those of more than 72 that are well stand side by side.
    #[command(after_help = GRAPH_EXAMPLES)]
    Graph(GraphArgs),
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// YAML or JSON; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Wait until every node has applied it
    #[arg(long)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    wait_timeout: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct GraphArgs {
    /// How to draw
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value = "picture",
        value_name = "FORMAT"
    )]
    format: GraphFormat,
    /// The label that groups nodes
    #[arg(long, default_value = GROUP_BY, value_name = "LABEL")]
    group_by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Lines and signs, for the terminal
    Picture,
    /// A picture for browsers and documents
    Svg,
    /// Graphviz
    Dot,
    /// Mermaid, as Markdown renders it
    Mermaid,
}

/// # Errors
/// As the master answers, or if the file cannot be used.
pub async fn run(globals: &Globals, command: &TopologyCommand) -> Result<(), Failure> {
    match command {
        TopologyCommand::Get(output) => get(&Cluster::new(globals)?, output.format).await,
        TopologyCommand::Apply(args) => apply(globals, args).await,
        TopologyCommand::Graph(args) => draw(&Cluster::new(globals)?, args).await,
    }
}

async fn draw(cluster: &Cluster, args: &GraphArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let topology = fetch(&mut client).await?;
    let what = "cannot get the cluster's status";
    let request = v1::GetClusterStatusRequest {};
    let status = client.call(what, request, async |api, r| api.get_cluster_status(r).await).await?;
    let alerts = alert::fetch(&mut client, "", false).await?.alerts;
    let told = Told { topology: &topology, status: &status, alerts: &alerts };
    let scene = Scene::of(told, &args.group_by);
    print(&match args.format {
        GraphFormat::Picture => picture::picture(&scene, &Look::of_stdout()),
        GraphFormat::Svg => svg::svg(&scene),
        GraphFormat::Dot => graph::dot(&scene),
        GraphFormat::Mermaid => graph::mermaid(&scene),
    })
}

async fn fetch(client: &mut Client<'_>) -> Result<v1::ClusterTopology, Failure> {
    let what = "cannot get the topology";
    let answer = client
        .call(what, v1::GetTopologyRequest {}, async |api, r| api.get_topology(r).await)
        .await?;
    answer
        .topology
        .ok_or_else(|| Failure::failed(what).cause("the master's answer has no topology"))
}

async fn get(cluster: &Cluster, format: Format) -> Result<(), Failure> {
    let topology = fetch(&mut cluster.connect().await?).await?;
    print(&match format {
        Format::Table | Format::Wide => render(&topology, &Look::of_stdout()),
        Format::Json | Format::Yaml => document(&TopologyView::from(&topology), format)?,
    })
}

async fn apply(globals: &Globals, args: &ApplyArgs) -> Result<(), Failure> {
    let view = read(&args.file)?;
    let topology = view.to_wire().map_err(|problem| not_a_topology(&args.file).cause(problem))?;
    let cluster = Cluster::new(globals)?;
    let mut client = cluster.connect().await?;
    let request = v1::UpdateTopologyRequest { topology: Some(topology) };
    let what = "cannot change the topology";
    let answer = client.call(what, request, async |api, r| api.update_topology(r).await).await?;
    let updated = answer.updated_topology.unwrap_or_default();
    let format = args.output.format;
    if matches!(format, Format::Json | Format::Yaml) {
        // It is changed, also where the wait ends without success.
        let goal = Goal::Applied(updated.generation);
        let (waited, updated) = if args.wait {
            (wait(&cluster, &goal, args.wait_timeout).await, fetch(&mut client).await?)
        } else {
            (Ok(()), updated)
        };
        print(&document(&TopologyView::from(&updated), format)?)?;
        return waited;
    }
    let name = clean(&updated.name).into_owned();
    print(&format!("topology {name}: generation {}\n", updated.generation))?;
    if args.wait {
        wait(&cluster, &Goal::Applied(updated.generation), args.wait_timeout).await?;
        print(&format!("topology {name}: applied by every node\n"))?;
    }
    Ok(())
}

fn not_a_topology(file: &Path) -> Failure {
    Failure::usage(format!("{} is not a topology", file.display()))
}

fn read(file: &Path) -> Result<TopologyView, Failure> {
    let text = read_text(file, FILE_BYTES_MAX)?;
    serde_saphyr::from_str(&text).map_err(|error| {
        not_a_topology(file)
            .cause(error.to_string())
            .help("piccolo topology get -o yaml shows how one is written")
    })
}

/// `piccolo topology get` for people.
pub fn render(topology: &v1::ClusterTopology, look: &Look) -> String {
    let members = |nodes: &[v1::Node]| {
        let mut names: Vec<_> = nodes.iter().map(|node| clean(&node.name).into_owned()).collect();
        names.sort();
        or_nothing(&names.join(", "))
    };
    let mut out = fields(
        look,
        [
            ("Name", or_nothing(&topology.name)),
            ("Id", or_nothing(&topology.id)),
            ("Type", words::topology(topology.r#type)),
            ("Parent", or_nothing(&topology.parent_cluster)),
            ("Generation", format!("{}, {}", topology.generation, applied(topology))),
            ("Masters", members(&topology.master_nodes)),
            ("Sub nodes", members(&topology.sub_nodes)),
        ],
    );
    out.push_str(&look.paint(Tone::Strong, "Configuration:"));
    out.push('\n');
    let config: BTreeMap<_, _> = topology.config.iter().collect();
    if config.is_empty() {
        out.push_str("  none: everything is as by default\n");
    }
    for (key, value) in config {
        out.push_str(&format!("  {}: {}\n", clean(key), clean(value)));
    }
    out
}

/// `applied by 3 of 3 nodes`.
fn applied(topology: &v1::ClusterTopology) -> String {
    let members = topology.master_nodes.len() + topology.sub_nodes.len();
    format!("applied by {} of {members} nodes", topology.applied_by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<(&str, u64), &str>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("topology.yaml");
        std::fs::write(&file, text).unwrap();
        let got = read(&file).map_err(|failure| failure.to_string());
        let got = got.and_then(|view| view.to_wire());
        match (got, expect) {
            (Ok(got), Ok(expect)) => assert_eq!((got.name.as_str(), got.generation), expect),
            (Err(got), Err(part)) => assert!(got.contains(part), "{got:?} lacks {part:?}"),
            (got, expect) => panic!("{text:?}: got {got:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn a_file_is_read_or_the_wrong_place_named() {
        check("name: robot\ntype: basic-embedded\n", Ok(("robot", 0)));
        check(
            "{\"name\": \"robot\", \"type\": \"BasicEmbedded\", \"generation\": 3}",
            Ok(("robot", 3)),
        );
        check("name: robot\ntype: ring\n", Err("type: \"ring\" is not a topology type"));
        check("name: robot\ntyp: ring\n", Err("line 2"));
        check("name: robot\n", Err("type"));
        check("name: robot\ntype: BasicEmbedded\nconfig:\n  a: [1]\n", Err("line 4"));
    }

    #[test]
    fn what_get_writes_apply_reads() {
        let topology = v1::ClusterTopology {
            id: "c1".to_owned(),
            name: "robot".to_owned(),
            r#type: v1::TopologyType::BasicEmbedded as i32,
            sub_nodes: vec![v1::Node {
                id: "n1".to_owned(),
                name: "zone-a".to_owned(),
                role: v1::NodeRole::Sub as i32,
                ..v1::Node::default()
            }],
            config: [("heartbeat_interval_seconds".to_owned(), "10".to_owned())].into(),
            generation: 4,
            ..v1::ClusterTopology::default()
        };
        for format in [Format::Json, Format::Yaml] {
            let text = document(&TopologyView::from(&topology), format).unwrap();
            let read: TopologyView = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read.to_wire().unwrap(), topology);
        }
    }
}
