//! `piccolo top`: who uses most, as it is now, drawn again and again.

use std::{
    cmp::Ordering, collections::BTreeMap, future::ready, io::IsTerminal as _, time::Duration,
};

use clap::{Args, ValueEnum};
use futures_util::{StreamExt as _, stream};
use piccolo_rpc::v1;
use serde::Serialize;

use crate::{
    args::Globals,
    connection::{Client, Cluster, Step},
    events::Since,
    failure::{Exit, Failure},
    live::{self, Moment, Screen},
    metrics::{SeriesView, ask, known_node, trend},
    node::table::status_tone,
    output::{Cell, Format, Look, OutputArgs, Table, document, figure, now, print, text, word},
    text::{bytes, parse_duration},
    words,
};

pub const EXAMPLES: &str = "Examples:
  piccolo top                                     # nodes, by CPU, until interrupted
  piccolo top containers --sort memory
  piccolo top --once --sort name
  piccolo top containers --node zone-a -o json";
const CPU: &str = "cpu_percent";
/// Of a trend.
const TREND: Since = Since::Ago(Duration::from_secs(600));
const TREND_STEP_SECONDS: u32 = 30;

#[derive(Debug, Args)]
pub struct TopArgs {
    /// Of what
    #[arg(value_enum, default_value = "nodes", value_name = "WHAT")]
    what: What,
    /// Who comes first
    #[arg(long, value_enum, default_value = "cpu", value_name = "FIGURE")]
    sort: Sort,
    /// Only of this node, by name
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Between two looks
    #[arg(long, value_parser = parse_duration, default_value = "2s", value_name = "TIME")]
    every: Duration,
    /// Look once; so it does where the output is no terminal, and with -o json
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    Nodes,
    Containers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    Cpu,
    Memory,
    Load,
    Temperature,
    Name,
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, args: &TopArgs) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    let programs = matches!(args.output.format, Format::Json | Format::Yaml);
    if args.once || programs || !std::io::stdout().is_terminal() {
        let view = look_at(&mut cluster.connect().await?, args).await?;
        return print(&match args.output.format {
            Format::Table | Format::Wide => view.render(args.what, &Look::of_stdout()),
            format @ (Format::Json | Format::Yaml) => document(&view, format)?,
        });
    }
    let cluster = &cluster;
    let first = look_at(&mut cluster.connect().await?, args).await?;
    // a master that goes away later is said, and waited for
    let looks = stream::unfold((), |()| async move {
        tokio::time::sleep(args.every).await;
        let look = async { look_at(&mut cluster.connect().await?, args).await };
        Some((Ok(Step::Item(look.await)), ()))
    });
    let steps = stream::once(ready(Ok(Step::Item(Ok(first))))).chain(looks);
    let mut screen = Screen::default();
    let mut connected = true;
    live::run(steps, |moment| match moment {
        Moment::Item(Ok(view)) => {
            connected = true;
            screen.draw(&view.render(args.what, &Look::of_stdout()))
        }
        Moment::Item(Err(failure)) if connected => {
            connected = false;
            screen.say(failure.to_string().trim_end())
        }
        Moment::Lost(line) | Moment::Back(line) => screen.say(&line),
        Moment::Item(Err(_)) | Moment::Tick => Ok(()),
    })
    .await
}

async fn look_at(client: &mut Client<'_>, args: &TopArgs) -> Result<TopView, Failure> {
    let filter = args.node.as_ref().map(|node| format!("name={node}"));
    let request = v1::GetNodesRequest { filter: filter.clone(), at: None };
    let nodes = client
        .call("cannot list nodes", request, async |api, r| api.get_nodes(r).await)
        .await?
        .nodes;
    if let Some(name) = args.node.as_ref().filter(|_| nodes.is_empty()) {
        known_node(client, name).await?;
    }
    let of_containers = args.what == What::Containers;
    let mut by = vec!["node".to_owned()];
    by.extend(of_containers.then(|| "container".to_owned()));
    let request = v1::QueryMetricsRequest {
        figure: CPU.to_owned(),
        filter: filter.unwrap_or_default(),
        container: of_containers.then(String::new),
        from: Some(TREND.moment(now())),
        step_seconds: TREND_STEP_SECONDS,
        by,
        live: !args.once,
        ..Default::default()
    };
    let told = match ask(client, request).await {
        // nobody has told it yet
        Err(refused) if refused.exit == Exit::NotFound => Default::default(),
        asked => asked?,
    };
    Ok(TopView::new(args, &nodes, &SeriesView::of(CPU, told)))
}

/// `piccolo top`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopView {
    pub rows: Vec<TopRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopRow {
    pub node: String,
    /// Of what is shown of containers alone.
    pub container: Option<String>,
    /// Of the node, or of the container.
    pub state: String,
    /// Of all cores for a node, of one core for a container.
    pub cpu_percent: Option<f32>,
    pub memory_bytes: Option<u64>,
    pub memory_percent: Option<f32>,
    pub load1: Option<f32>,
    pub temperature_celsius: Option<f32>,
    /// The CPU in the last ten minutes.
    pub trend: Vec<Option<f32>>,
    #[serde(skip)]
    tone: crate::output::Tone,
}

impl TopView {
    pub fn new(args: &TopArgs, nodes: &[v1::Node], trends: &SeriesView) -> Self {
        let trends: BTreeMap<_, _> = trends
            .rows
            .iter()
            .map(|row| {
                let label = |name: &str| row.labels.get(name).cloned();
                ((label("node").unwrap_or_default(), label("container")), row.points.clone())
            })
            .collect();
        let mut rows: Vec<_> = match args.what {
            What::Nodes => nodes.iter().map(TopRow::node).collect(),
            What::Containers => nodes.iter().flat_map(TopRow::containers).collect(),
        };
        for row in &mut rows {
            let key = (row.node.clone(), row.container.clone());
            row.trend = trends.get(&key).cloned().unwrap_or_default();
        }
        // the largest first; what nothing is known of comes last
        rows.sort_by(|a: &TopRow, b: &TopRow| {
            let names = (&a.node, &a.container).cmp(&(&b.node, &b.container));
            let descending = match args.sort {
                Sort::Cpu => b.cpu_percent.partial_cmp(&a.cpu_percent),
                Sort::Memory => b.memory_bytes.partial_cmp(&a.memory_bytes),
                Sort::Load => b.load1.partial_cmp(&a.load1),
                Sort::Temperature => b.temperature_celsius.partial_cmp(&a.temperature_celsius),
                Sort::Name => None,
            };
            descending.unwrap_or(Ordering::Equal).then(names)
        });
        Self { rows }
    }

    pub fn render(&self, what: What, look: &Look) -> String {
        if self.rows.is_empty() {
            return match what {
                What::Nodes => "no nodes\n".to_owned(),
                What::Containers => "no containers run\n".to_owned(),
            };
        }
        let mut table = Table::new(match what {
            What::Nodes => vec![
                text("NODE"),
                word("STATUS"),
                figure("CPU"),
                figure("MEMORY"),
                figure("MEM%").spare(),
                figure("LOAD").spare(),
                figure("TEMP").spare(),
                word("CPU, 10 MIN").spare(),
            ],
            What::Containers => vec![
                text("NODE"),
                text("CONTAINER"),
                figure("CPU"),
                figure("MEMORY"),
                word("CPU, 10 MIN").spare(),
            ],
        });
        for row in &self.rows {
            table.row(row.cells(what));
        }
        table.render(look)
    }
}

impl TopRow {
    fn node(node: &v1::Node) -> Self {
        let number = |name: &str| -> Option<f32> {
            // what a node said that is away is no news
            node.metrics.get(name).filter(|_| node.connected)?.parse().ok()
        };
        let (total, free) = (number("memory_total_bytes"), number("memory_available_bytes"));
        let used = total.zip(free).map(|(total, free)| (total - free).max(0.0));
        Self {
            node: node.name.clone(),
            container: None,
            state: words::status(node.status),
            cpu_percent: number(CPU),
            memory_bytes: used.map(|used| used as u64),
            memory_percent: used.zip(total).map(|(used, total)| used / total * 100.0),
            load1: number("load1"),
            temperature_celsius: number("temperature_celsius"),
            trend: Vec::new(),
            tone: status_tone(node),
        }
    }

    fn containers(node: &v1::Node) -> impl Iterator<Item = Self> {
        let running = node.containers.iter().filter(|c| node.connected && c.state == "running");
        running.map(|container| Self {
            node: node.name.clone(),
            container: Some(container.name.clone()),
            state: container.state.clone(),
            cpu_percent: Some(container.cpu_basis_points as f32 / 100.0),
            memory_bytes: Some(container.memory_bytes),
            memory_percent: None,
            load1: None,
            temperature_celsius: None,
            trend: Vec::new(),
            tone: crate::output::Tone::Plain,
        })
    }

    fn cells(&self, what: What) -> Vec<Cell> {
        let show = |value: Option<String>| Cell::or_nothing(&value.unwrap_or_default());
        let percent = |value: Option<f32>| show(value.map(|value| format!("{value:.1} %")));
        let mut cells = vec![Cell::or_nothing(&self.node)];
        match what {
            What::Nodes => cells.push(Cell::toned(self.tone, &self.state)),
            What::Containers => {
                cells.push(Cell::or_nothing(self.container.as_deref().unwrap_or_default()));
            }
        }
        cells.push(percent(self.cpu_percent));
        cells.push(show(self.memory_bytes.map(bytes)));
        if what == What::Nodes {
            cells.push(percent(self.memory_percent));
            cells.push(show(self.load1.map(|load| format!("{load:.2}"))));
            cells.push(show(self.temperature_celsius.map(|degrees| format!("{degrees:.0} °C"))));
        }
        cells.push(Cell::new(trend(CPU, &self.trend)));
        cells
    }
}
