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
    live::{self, Keys, Moment, Screen},
    metrics::{SeriesView, ask, known_node, trend},
    node::table::status_tone,
    output::{
        Cell, Format, Look, OutputArgs, Table, Tone, document, figure, now, print, text, word,
    },
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
    /// Who comes first; on a terminal its first letter is a key that sorts anew, and q ends
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

impl What {
    /// What there are columns of.
    fn sorts(self) -> &'static [Sort] {
        match self {
            Self::Nodes => Sort::value_variants(),
            Self::Containers => &[Sort::Cpu, Sort::Memory, Sort::Name],
        }
    }
}

impl Sort {
    fn key(self) -> char {
        match self {
            Self::Cpu => 'c',
            Self::Memory => 'm',
            Self::Load => 'l',
            Self::Temperature => 't',
            Self::Name => 'n',
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Temperature => "temperature",
            Self::Name => "name",
        }
    }
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
    live_top(&cluster, args).await
}

/// What changes the picture.
enum News {
    Look(Result<TopView, Failure>),
    Key(char),
}

/// Drawn anew at each look, and sorted anew at a key.
async fn live_top(cluster: &Cluster, args: &TopArgs) -> Result<(), Failure> {
    let first = look_at(&mut cluster.connect().await?, args).await?;
    // a master that goes away later is said, and waited for
    let looks = stream::unfold((), |()| async move {
        tokio::time::sleep(args.every).await;
        let look = async { look_at(&mut cluster.connect().await?, args).await };
        Some((News::Look(look.await), ()))
    });
    let looks = stream::once(ready(News::Look(Ok(first)))).chain(looks);
    let (keys, typed) = Keys::listen();
    let news = stream::select(looks, typed.map(News::Key)).map(|news| Ok(Step::Item(news)));
    let mut view = TopView { rows: Vec::new() };
    let mut screen = Screen::default();
    let mut sort = args.sort;
    let draw = |screen: &mut Screen, view: &TopView, sort| {
        let look = Look::of_stdout();
        let hint = if keys.come() { keys_of(args.what, sort, &look) } else { String::new() };
        screen.draw(&(view.render(args.what, &look) + &hint))
    };
    let mut connected = true;
    live::run(news, |moment| match moment {
        Moment::Item(News::Look(Ok(looked))) => {
            connected = true;
            view = looked;
            view.sort(sort);
            draw(&mut screen, &view, sort)
        }
        Moment::Item(News::Look(Err(failure))) if connected => {
            connected = false;
            screen.say(failure.to_string().trim_end())
        }
        Moment::Item(News::Key('q' | 'Q')) => Err(Failure::silent(Exit::Done)),
        Moment::Item(News::Key(key)) => {
            let Some(chosen) = args.what.sorts().iter().find(|sort| sort.key() == key) else {
                return Ok(());
            };
            sort = *chosen;
            view.sort(sort);
            draw(&mut screen, &view, sort)
        }
        Moment::Lost(line) | Moment::Back(line) => screen.say(&line),
        Moment::Item(News::Look(Err(_))) | Moment::Tick => Ok(()),
    })
    .await
}

/// A line below the picture: by what it is sorted, and which keys sort it otherwise.
fn keys_of(what: What, sort: Sort, look: &Look) -> String {
    let shown = |one: &Sort| {
        let tone = if *one == sort { Tone::Strong } else { Tone::Faint };
        look.paint(tone, &format!("{} {}", one.key(), one.title()))
    };
    let sorts: Vec<_> = what.sorts().iter().map(shown).collect();
    format!("\nsort: {}  {}\n", sorts.join("  "), look.paint(Tone::Faint, "q end"))
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
    tone: Tone,
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
        let mut view = Self { rows };
        view.sort(args.sort);
        view
    }

    /// The largest first; what nothing is known of comes last.
    fn sort(&mut self, by: Sort) {
        self.rows.sort_by(|a, b| {
            let names = (&a.node, &a.container).cmp(&(&b.node, &b.container));
            let descending = match by {
                Sort::Cpu => b.cpu_percent.partial_cmp(&a.cpu_percent),
                Sort::Memory => b.memory_bytes.partial_cmp(&a.memory_bytes),
                Sort::Load => b.load1.partial_cmp(&a.load1),
                Sort::Temperature => b.temperature_celsius.partial_cmp(&a.temperature_celsius),
                Sort::Name => None,
            };
            descending.unwrap_or(Ordering::Equal).then(names)
        });
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
            tone: Tone::Plain,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cpu_percent: Option<f32>, memory_bytes: Option<u64>) -> TopRow {
        let node = v1::Node { name: name.to_owned(), ..Default::default() };
        TopRow { cpu_percent, memory_bytes, ..TopRow::node(&node) }
    }

    #[test]
    fn the_largest_comes_first_and_what_is_unknown_last() {
        let rows =
            [row("b", Some(1.0), None), row("a", None, Some(9)), row("c", Some(5.0), Some(2))];
        let mut view = TopView { rows: rows.to_vec() };
        for (by, names) in [(Sort::Cpu, "cba"), (Sort::Memory, "acb"), (Sort::Name, "abc")] {
            view.sort(by);
            assert_eq!(view.rows.iter().map(|row| row.node.as_str()).collect::<String>(), names);
        }
    }
}
