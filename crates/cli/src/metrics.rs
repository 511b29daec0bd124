//! `piccolo metrics`: what nodes and containers have told of themselves, over time.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use piccolo_core::monitoring_server::ROUND_TRIP;
use piccolo_rpc::v1;
pub use piccolo_rpc::view::metrics::{FiguresView, SeriesView};
use prost_types::Timestamp;

use crate::{
    args::Globals,
    connection::{Client, Cluster},
    events::{Since, since},
    failure::{Exit, Failure},
    output::{
        Cell, Format, Look, OutputArgs, Table, document, figure, now, print, say, text, word,
    },
    text::{bytes, clean, closest, or_nothing, parse_duration, short},
    token::whole_seconds,
};

pub const EXAMPLES: &str = "Examples:
  piccolo metrics list                            # which figures there are
  piccolo metrics query cpu_percent               # the last hour, node by node
  piccolo metrics query memory_bytes --containers --since 1d";
const LIST_EXAMPLES: &str = "Examples:
  piccolo metrics list
  piccolo metrics list --containers";
const QUERY_EXAMPLES: &str = "Examples:
  piccolo metrics query cpu_percent
  piccolo metrics query cpu_percent --node zone-a --since 24h --step 15m
  piccolo metrics query cpu_percent --by board --across max
  piccolo metrics query memory_bytes --container web --since 7d -o json
  piccolo metrics query temperature_celsius --filter label.site=north --by cluster";
/// Bars of a trend, from the lowest to the highest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of a trend at most.
const TREND_MAX: usize = 24;
/// What stands for one row of everything.
const WHOLE: &str = "cluster";

#[derive(Debug, Subcommand)]
pub enum MetricsCommand {
    /// List the figures that are remembered
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show a figure over time
    ///
    /// The master keeps steps of 10 s for an hour, of a minute for a day and of a quarter of an hour for 30 days;
    /// with many nodes less far back.
    #[command(after_help = QUERY_EXAMPLES)]
    Query(QueryArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of containers, instead of nodes
    #[arg(long)]
    containers: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct QueryArgs {
    /// Which figure: `piccolo metrics list` names them
    #[arg(value_name = "FIGURE")]
    figure: String,
    /// Only of this node, by name
    #[arg(long, value_name = "NODE", conflicts_with = "filter")]
    node: Option<String>,
    /// Only of the nodes that a filter selects, as `piccolo node list --filter`
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Of the containers of this name, instead of the nodes
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Of every container, instead of the nodes
    #[arg(long, conflicts_with = "container")]
    containers: bool,
    /// From when on: 10m, 7d, 2026-11-23T18:00:00Z
    #[arg(long, value_parser = since, value_name = "TIME", default_value = "1h")]
    since: Since,
    /// Until when [default: now]
    #[arg(long, value_parser = since, value_name = "TIME")]
    until: Option<Since>,
    /// The time that one point stands for; 10s at least [default: so that there are about 60]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    step: Option<Duration>,
    /// A row for each: node, container, or a label of nodes; `cluster` is one row for all
    /// [default: node, and container]
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    by: Vec<String>,
    /// What becomes of many in one row
    #[arg(long, value_enum, value_name = "HOW", default_value = "mean")]
    across: Across,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Across {
    Mean,
    Min,
    Max,
    Sum,
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, command: &MetricsCommand) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    let mut client = cluster.connect().await?;
    match command {
        MetricsCommand::List(args) => list(&mut client, args).await,
        MetricsCommand::Query(args) => query(&mut client, args).await,
    }
}

async fn list(client: &mut Client<'_>, args: &ListArgs) -> Result<(), Failure> {
    let container = args.containers.then(String::new);
    let request = v1::QueryMetricsRequest { container, ..Default::default() };
    let figures = ask(client, request).await?.figures;
    print(&match args.output.format {
        Format::Table | Format::Wide if figures.is_empty() => "no figures yet\n".to_owned(),
        Format::Table | Format::Wide => {
            figures.iter().map(|figure| format!("{}\n", clean(figure))).collect()
        }
        format @ (Format::Json | Format::Yaml) => document(&FiguresView { figures }, format)?,
    })
}

async fn query(client: &mut Client<'_>, args: &QueryArgs) -> Result<(), Failure> {
    let asked = ask(client, args.request(now())).await;
    let is_missing = asked.as_ref().is_err_and(|refused| refused.exit == Exit::NotFound);
    if is_missing || asked.as_ref().is_ok_and(|answer| answer.rows.is_empty()) {
        // the master names what there is; of that one may have been meant
        names(client, args).await?;
    }
    let answer = asked?;
    if answer.rows.is_empty() {
        say("nothing is remembered of it in that time; piccolo metrics list names the figures");
    }
    if answer.truncated {
        say(
            "there is more than can be shown: choose nodes with --filter, or fewer labels with --by",
        );
    }
    let view = SeriesView::of(&args.figure, answer);
    print(&match args.output.format {
        Format::Table | Format::Wide => table(&view, &args.labels(), &Look::of_stdout()),
        format @ (Format::Json | Format::Yaml) => document(&view, format)?,
    })
}

/// Where there is nothing to show: whether what was named is there at all.
async fn names(client: &mut Client<'_>, args: &QueryArgs) -> Result<(), Failure> {
    if let Some(node) = &args.node {
        known_node(client, node).await?;
    }
    let of_containers = args.containers || args.container.is_some();
    let mut known = [Vec::new(), Vec::new()];
    for (figures, container) in known.iter_mut().zip([None, Some(String::new())]) {
        let request = v1::QueryMetricsRequest { container, ..Default::default() };
        *figures = ask(client, request).await?.figures;
    }
    let [of_nodes, others] = known;
    let (own, others) = if of_containers { (others, of_nodes) } else { (of_nodes, others) };
    if own.contains(&args.figure) || own.is_empty() {
        return Ok(());
    }
    let failure =
        Failure::new(Exit::NotFound, format!("there is no figure {}", clean(&args.figure)));
    Err(if others.contains(&args.figure) {
        let whose =
            if of_containers { "nodes, not containers" } else { "containers: --containers" };
        failure.help(format!("it is one of {whose}"))
    } else {
        let help = "piccolo metrics list names the figures";
        match closest(&args.figure, own.iter().map(String::as_str)) {
            Some(figure) => failure.help(format!("did you mean {}? {help}", clean(figure))),
            None => failure.help(help),
        }
    })
}

/// # Errors
/// There is no node of that name.
pub async fn known_node(client: &mut Client<'_>, name: &str) -> Result<(), Failure> {
    let request = v1::GetNodesRequest::default();
    let what = "cannot list nodes";
    let nodes = client.call(what, request, async |api, r| api.get_nodes(r).await).await?.nodes;
    if nodes.iter().any(|node| node.name == name) {
        return Ok(());
    }
    let failure = Failure::new(Exit::NotFound, format!("there is no node {}", clean(name)));
    Err(match closest(name, nodes.iter().map(|node| node.name.as_str())) {
        Some(near) => failure.help(format!("did you mean {}?", clean(near))),
        None => failure.help("piccolo node list"),
    })
}

/// # Errors
/// As the master answers.
pub async fn ask(
    client: &mut Client<'_>,
    request: v1::QueryMetricsRequest,
) -> Result<v1::QueryMetricsResponse, Failure> {
    client.call("cannot ask for figures", request, async |api, r| api.query_metrics(r).await).await
}

impl QueryArgs {
    fn request(&self, now: Timestamp) -> v1::QueryMetricsRequest {
        let node = self.node.as_ref().map(|node| format!("name={node}"));
        let container = self.container.clone().or(self.containers.then(String::new));
        let across = self.across.to_possible_value().map(|value| value.get_name().to_owned());
        v1::QueryMetricsRequest {
            figure: self.figure.clone(),
            filter: node.or_else(|| self.filter.clone()).unwrap_or_default(),
            container,
            from: Some(self.since.moment(now)),
            until: self.until.map(|until| until.moment(now)),
            step_seconds: self.step.map_or(0, whole_seconds),
            by: self.labels(),
            across: across.unwrap_or_default(),
            live: false,
        }
    }

    fn labels(&self) -> Vec<String> {
        let of_containers = self.containers || self.container.is_some();
        match &self.by[..] {
            [] if of_containers => vec!["node".to_owned(), "container".to_owned()],
            [] => vec!["node".to_owned()],
            by => by.iter().filter(|label| *label != WHOLE).cloned().collect(),
        }
    }
}

/// A row for each series: the newest value, what it ranges over, and its trend.
pub fn table(view: &SeriesView, labels: &[String], look: &Look) -> String {
    let columns = [text("OF"), figure("LAST"), figure("MIN"), figure("MEAN"), figure("MAX")];
    let mut table = Table::new(columns.into_iter().chain([word("TREND").spare()]));
    for row in &view.rows {
        let known: Vec<f32> = row.points.iter().flatten().copied().collect();
        // `-` for a label that nodes do not have
        let of: Vec<_> = labels
            .iter()
            .map(|label| or_nothing(row.labels.get(label).map_or("", String::as_str)))
            .collect();
        let of = if of.is_empty() { WHOLE.to_owned() } else { of.join(" / ") };
        let show = |value: Option<f32>| {
            Cell::or_nothing(&value.map(|value| shown(&view.figure, value)).unwrap_or_default())
        };
        let mean = known.iter().sum::<f32>() / known.len() as f32;
        table.row([
            Cell::or_nothing(&of),
            show(row.points.iter().rev().find_map(|point| *point)),
            show(known.iter().copied().reduce(f32::min)),
            show(Some(mean).filter(|mean| mean.is_finite())),
            show(known.iter().copied().reduce(f32::max)),
            Cell::new(trend(&view.figure, &row.points)),
        ]);
    }
    if table.is_empty() { String::new() } else { table.render(look) }
}

/// In the unit that the figure's name ends with.
pub fn shown(figure: &str, value: f32) -> String {
    if figure.ends_with("_bytes") {
        return bytes(value.max(0.0) as u64);
    }
    if figure.ends_with("_bytes_per_s") {
        return format!("{}/s", bytes(value.max(0.0) as u64));
    }
    if figure.ends_with("_percent") {
        return format!("{value:.1} %");
    }
    if figure.ends_with("_celsius") {
        return format!("{value:.1} °C");
    }
    if figure == ROUND_TRIP {
        return short(value.into());
    }
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A line of bars, of percents from 0 to 100, of others between the least and the most of them. A gap is blank.
pub fn trend(figure: &str, points: &[Option<f32>]) -> String {
    let per_bar = points.len().div_ceil(TREND_MAX).max(1);
    let bars: Vec<Option<f32>> = points
        .chunks(per_bar)
        .map(|chunk| chunk.iter().flatten().copied().reduce(f32::max))
        .collect();
    let known = || bars.iter().flatten().copied();
    let (Some(least), Some(most)) = (known().reduce(f32::min), known().reduce(f32::max)) else {
        return String::new();
    };
    let (least, most) =
        if figure.ends_with("_percent") { (0.0, most.max(100.0)) } else { (least, most) };
    let bar = |value: f32| {
        let share = if most > least { (value - least) / (most - least) } else { 0.0 };
        let index = (share * (BARS.len() - 1) as f32).round() as usize;
        BARS.get(index).copied().unwrap_or(' ')
    };
    bars.iter().map(|value| value.map_or(' ', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_stretches_from_the_least_to_the_most_and_percents_from_none_to_all() {
        let trend = |points: &[Option<f32>]| trend("load1", points);
        let some = |values: &[f32]| values.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(trend(&some(&[0.0, 50.0, 100.0])), "▁▅█");
        assert_eq!(trend(&[Some(1.0), None, Some(2.0)]), "▁ █");
        assert_eq!(trend(&some(&[7.0, 7.0])), "▁▁", "nothing moves");
        assert_eq!(trend(&[None, None]), "");
        let many: Vec<_> = (0..100_u16).map(|value| Some(f32::from(value))).collect();
        assert_eq!(trend(&many).chars().count(), 20, "five points to a bar");
        assert_eq!(super::trend("cpu_percent", &some(&[0.0, 50.0, 60.0, 400.0])), "▁▂▂█");
        assert_eq!(super::trend("cpu_percent", &some(&[1.0, 50.0])), "▁▅");
    }

    #[test]
    fn figures_are_shown_in_the_unit_of_their_name() {
        for (figure, value, text) in [
            ("cpu_percent", 12.34, "12.3 %"),
            ("memory_available_bytes", 1_048_576.0, "1.0 MiB"),
            ("network_rx_bytes_per_s", 100.0, "100 B/s"),
            ("temperature_celsius", 45.06, "45.1 °C"),
            ("load1", 0.25, "0.25"),
            ("uptime_seconds", 3.0, "3"),
            ("round_trip_seconds", 0.000_314, "0.31 ms"),
        ] {
            assert_eq!(shown(figure, value), text);
        }
    }
}
