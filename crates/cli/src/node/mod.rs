//! `piccolo node`: see and operate nodes.

use std::{cell::RefCell, collections::HashMap, io::IsTerminal as _, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use piccolo_core::api_server::Selector;
use piccolo_rpc::v1;
use prost_types::Timestamp;

pub mod check;
pub mod deploy;
pub mod describe;
pub mod recovery;
pub mod table;
pub mod view;
pub mod wait;
pub mod watch;

use crate::{
    args::Globals,
    ask::YesArgs,
    connection::{Client, Cluster, each, follow},
    events::{Since, since},
    failure::{Exit, Failure},
    live::{self, Moment, Screen},
    output::{Format, Look, OutputArgs, Tone, document, now, print, say, streamed},
    text::{age, clean, counted, moment, parse_duration, precise_moment},
    words,
};
use deploy::{DeployArgs, undeploy::UndeployArgs};
use view::{DescribedNodesView, DescribedView, NodeView, NodesView, WatchView};
use wait::{Goal, wait};
use watch::{Change, Picture};

pub const EXAMPLES: &str = "Examples:
  piccolo node list -o wide
  piccolo node describe zone-a
  piccolo node maintenance on zone-a --reason \"new fan\"";
const LIST_EXAMPLES: &str = "Examples:
  piccolo node list
  piccolo node list -o wide
  piccolo node list -l status=NotReady            # which boards need a hand?
  piccolo node list -l role=sub,name~zone,label.site=seoul
  piccolo node list --at 2h                       # as they were two hours ago
  piccolo node list --watch                       # a live table; lines with times on a pipe
  piccolo node list --watch -o json               # one JSON document per change and line";
const GET_EXAMPLES: &str = "Examples:
  piccolo node get zone-a
  piccolo node get zone-a -o json";
const DESCRIBE_EXAMPLES: &str = "Examples:
  piccolo node describe zone-a
  piccolo node describe zone-a zone-b -o json";
const APPROVE_EXAMPLES: &str = "Examples:
  piccolo node approve zone-a
  piccolo node approve zone-a zone-b --wait       # until both are Ready";
const REJECT_EXAMPLES: &str = "Examples:
  piccolo node reject unknown-board --reason \"not ours\"";
const MAINTENANCE_EXAMPLES: &str = "Examples:
  piccolo node maintenance on zone-a --reason \"new fan\"
  piccolo node maintenance off zone-a --wait      # until it is Ready again";
const REMOVE_EXAMPLES: &str = "Examples:
  piccolo node remove zone-a
  piccolo node remove zone-a --yes                # asks nothing, for scripts
  piccolo node remove zone-a --yes --wait         # until the master has forgotten it";
const LABEL_EXAMPLES: &str = "Examples:
  piccolo node label zone-a site=seoul soc=a78
  piccolo node label zone-a site-                 # removes the label site";
const RESET_EXAMPLES: &str = "Examples:
  piccolo node reset-identity zone-a              # the board was re-flashed";
const RESTART_EXAMPLES: &str = "Examples:
  piccolo node restart-container zone-a camera";

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List nodes, or watch them
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one node
    #[command(after_help = GET_EXAMPLES)]
    Get(GetArgs),
    /// Show everything about nodes: conditions, system, metrics, containers, recent events
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe(DescribeArgs),
    /// Let pending nodes into the cluster
    #[command(after_help = APPROVE_EXAMPLES)]
    Approve(ApproveArgs),
    /// Turn pending nodes away
    #[command(after_help = REJECT_EXAMPLES)]
    Reject(RejectArgs),
    /// Begin or end maintenance
    ///
    /// A node in maintenance is watched, and nothing is done because of what it does. When it ends
    /// the node is Ready as soon as it is heard.
    #[command(after_help = MAINTENANCE_EXAMPLES)]
    Maintenance(MaintenanceArgs),
    /// Remove nodes from the cluster
    ///
    /// Their certificates are revoked and their sessions closed at once; their labels and what the master knows of
    /// them are forgotten. Their containers go on. Asks for each, naming what will be lost.
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
    /// Set and remove labels of a node
    #[command(after_help = LABEL_EXAMPLES)]
    Label(LabelArgs),
    /// Let a re-flashed board join again under its name, with any valid token
    #[command(after_help = RESET_EXAMPLES)]
    ResetIdentity(NodesArg),
    /// Restart a container of a node
    #[command(after_help = RESTART_EXAMPLES)]
    RestartContainer(RestartArgs),
    /// Install PICCOLO on hosts over SSH, and wait until they are Ready
    ///
    /// Connects, checks the host, copies the release, installs it, joins it with a token for this
    /// host alone, and waits. A host that is a member and well with the same release is left as it
    /// is; one that fails is left as it was, unless it has joined. ssh finds hosts and keys by its
    /// own configuration, checks hosts' keys, and asks for nothing.
    #[command(after_help = deploy::DEPLOY_EXAMPLES)]
    Deploy(Box<DeployArgs>),
    /// Take nodes out of the cluster, and PICCOLO off their hosts
    ///
    /// Their containers go on.
    #[command(after_help = deploy::undeploy::EXAMPLES)]
    Undeploy(Box<UndeployArgs>),
    /// Have a node check its system now, and show what it found
    ///
    /// It checks itself at its start and now and then; `piccolo node describe` shows the newest result.
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Show what is done about what fails on a node, and why nothing is; pause it, or force a step
    ///
    /// Each failure has a ladder of steps, the mildest first; at its end a person is told, once.
    #[command(after_help = recovery::RECOVERY_EXAMPLES)]
    Recovery(recovery::RecoveryArgs),
    /// Have a node prove that its loop, its Podman and its disk work
    ///
    /// The master asks by itself every few minutes; `piccolo node recovery` shows the newest answer.
    #[command(after_help = recovery::PROBE_EXAMPLES)]
    Probe(recovery::ProbeArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only nodes for which all terms hold: key=value, key!=value or key~part, joined by commas
    ///
    /// Keys: id, name, ip, role, kind, status, label.KEY. Case does not matter.
    #[arg(short = 'l', long, value_name = "TERMS", value_parser = selector)]
    selector: Option<String>,
    /// As they were at a time, or so long ago: as far as kept events and present nodes tell
    ///
    /// Known of then are status, conditions and containers; what nothing tells is Unknown or left out.
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with_all = ["selector", "watch"])]
    at: Option<Since>,
    /// Go on showing changes until interrupted
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Checked before anything is sent, by the same code that the master uses.
fn selector(text: &str) -> Result<String, String> {
    Selector::parse(text).map(|_| text.to_owned()).map_err(|refusal| refusal.message)
}

#[derive(Debug, Args)]
pub struct GetArgs {
    /// Name or id
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct NodesArg {
    /// Names or ids
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    nodes: NodesArg,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Wait until it has taken effect
    #[arg(long)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    wait_timeout: Duration,
}

#[derive(Debug, Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    nodes: NodesArg,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct RejectArgs {
    #[command(flatten)]
    nodes: NodesArg,
    /// Why; the board and the events show it
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
pub struct MaintenanceArgs {
    #[arg(value_enum)]
    switch: Switch,
    #[command(flatten)]
    nodes: NodesArg,
    /// Why; the events show it
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    nodes: NodesArg,
    #[command(flatten)]
    yes: YesArgs,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Name or id
    #[arg(value_name = "NODE")]
    node: String,
    /// KEY=VALUE sets a label, KEY- removes it
    #[arg(value_name = "LABEL", required = true, value_parser = label)]
    labels: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    Set(String, String),
    Remove(String),
}

fn label(text: &str) -> Result<Label, String> {
    let word = |key: &str| !key.is_empty();
    if let Some((key, value)) = text.split_once('=').filter(|(key, _)| word(key)) {
        return Ok(Label::Set(key.to_owned(), value.to_owned()));
    }
    match text.strip_suffix('-').filter(|key| word(key)) {
        Some(key) => Ok(Label::Remove(key.to_owned())),
        None => Err("expected KEY=VALUE to set a label or KEY- to remove it".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Name or id
    #[arg(value_name = "NODE")]
    node: String,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, command: &NodeCommand) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    match command {
        NodeCommand::List(args) if args.watch => follow_nodes(&cluster, args).await,
        NodeCommand::List(args) => list(&cluster, args).await,
        NodeCommand::Get(args) => get(&cluster, args).await,
        NodeCommand::Describe(args) => describe_nodes(&cluster, args).await,
        NodeCommand::Approve(args) => approve(&cluster, args).await,
        NodeCommand::Reject(args) => reject(&cluster, args).await,
        NodeCommand::Maintenance(args) => maintenance(&cluster, args).await,
        NodeCommand::Remove(args) => remove(&cluster, args).await,
        NodeCommand::Label(args) => set_labels(&cluster, args).await,
        NodeCommand::ResetIdentity(args) => reset_identity(&cluster, args).await,
        NodeCommand::RestartContainer(args) => restart_container(&cluster, args).await,
        NodeCommand::Deploy(args) => deploy::deploy(&cluster, args).await,
        NodeCommand::Undeploy(args) => deploy::undeploy::undeploy(&cluster, args).await,
        NodeCommand::Check(args) => check::run(&cluster, args).await,
        NodeCommand::Recovery(args) => recovery::run(&cluster, args).await,
        NodeCommand::Probe(args) => recovery::probe(&cluster, args).await,
    }
}

async fn list(cluster: &Cluster, args: &ListArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let at = args.at.map(|at| at.moment(now()));
    let request = v1::GetNodesRequest { filter: args.selector.clone(), at };
    let answer =
        client.call("cannot list nodes", request, async |api, r| api.get_nodes(r).await).await?;
    if let Some(past) = &answer.past {
        tell_limits(past);
    }
    let format = args.output.format;
    let look = Look::of_stdout();
    print(&match format {
        // ages are those of then
        Format::Table | Format::Wide => {
            table::nodes(&answer.nodes, format, &Look { now: at.unwrap_or(look.now), ..look })
        }
        Format::Json | Format::Yaml => {
            let nodes = answer.nodes.iter().map(NodeView::from).collect();
            document(&NodesView { nodes, revision: answer.revision }, format)?
        }
    })
}

/// What is not known of a past moment.
fn tell_limits(past: &v1::Past) {
    if !past.whole {
        let since = moment(past.kept_since.as_ref());
        say(&format!(
            "events are kept since {since}: nodes that were removed before are missing, and of others only what has not changed is known"
        ));
    }
    if past.in_gap {
        say(
            "a master was restored later from an earlier backup: what happened between is not known",
        );
    }
}

async fn get(cluster: &Cluster, args: &GetArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let node = fetch(&mut client, &args.node).await?;
    let format = args.output.format;
    print(&match format {
        Format::Table | Format::Wide => table::nodes([&node], format, &Look::of_stdout()),
        Format::Json | Format::Yaml => document(&NodeView::from(&node), format)?,
    })
}

/// By name or id.
///
/// # Errors
/// As the master answers.
pub async fn fetch(client: &mut Client<'_>, node: &str) -> Result<v1::Node, Failure> {
    let request = v1::GetNodeRequest { node_id: node.to_owned() };
    let what = format!("cannot get node {node}");
    let answer = client.call(&what, request, async |api, r| api.get_node(r).await).await?;
    answer.node.ok_or_else(|| Failure::failed(what).cause("the master's answer has no node"))
}

/// How many of its events a description shows.
const EVENTS_DESCRIBED: u32 = 10;

async fn describe_nodes(cluster: &Cluster, args: &DescribeArgs) -> Result<(), Failure> {
    let format = args.output.format;
    let mut views = Vec::new();
    let mut first = true;
    let done = each(cluster, &args.nodes.nodes, async |client, name| {
        let node = fetch(client, name).await?;
        let request = v1::ListEventsRequest {
            node: node.id.clone(),
            newest: true,
            limit: EVENTS_DESCRIBED,
            ..v1::ListEventsRequest::default()
        };
        let events = client
            .call("cannot list its events", request, async |api, r| api.list_events(r).await)
            .await?
            .events;
        let status = client
            .call(
                "cannot get the cluster's status",
                v1::GetClusterStatusRequest {},
                async |api, r| api.get_cluster_status(r).await,
            )
            .await?;
        if matches!(format, Format::Json | Format::Yaml) {
            views.push(DescribedView::new(&node, &events, status.generation));
            return Ok(String::new());
        }
        let look = Look::of_stdout();
        let text = describe::node(&node, &events, Some(status.generation), &look);
        let gap = if std::mem::take(&mut first) { "" } else { "\n" };
        Ok(format!("{gap}{text}"))
    })
    .await;
    if !views.is_empty() {
        print(&document(&DescribedNodesView { nodes: views }, format)?)?;
    }
    done
}

/// The id and the name, for the lines that say what was done.
fn named(node: Option<v1::Node>, asked_for: &str) -> (String, String) {
    let node = node.unwrap_or_default();
    let known = |text: String| if text.is_empty() { asked_for.to_owned() } else { text };
    (known(node.id), clean(&known(node.name)).into_owned())
}

async fn approve(cluster: &Cluster, args: &ApproveArgs) -> Result<(), Failure> {
    let mut ids = Vec::new();
    let done = each(cluster, &args.nodes.nodes, async |client, node| {
        let request = v1::ApproveNodeRequest { node_id: node.to_owned() };
        let what = format!("cannot approve node {node}");
        let answer = client.call(&what, request, async |api, r| api.approve_node(r).await).await?;
        let (id, name) = named(answer.node, node);
        ids.push(id);
        Ok(format!("node {name} approved\n"))
    })
    .await;
    then_wait(cluster, &args.wait, Goal::Ready(ids), done).await
}

/// Waits for those with which it worked, also when it did not with others.
async fn then_wait(
    cluster: &Cluster,
    args: &WaitArgs,
    goal: Goal,
    done: Result<(), Failure>,
) -> Result<(), Failure> {
    if args.wait && !goal.is_empty() {
        wait(cluster, &goal, args.wait_timeout).await?;
    }
    done
}

async fn reject(cluster: &Cluster, args: &RejectArgs) -> Result<(), Failure> {
    each(cluster, &args.nodes.nodes, async |client, node| {
        let request =
            v1::RejectNodeRequest { node_id: node.to_owned(), reason: args.reason.clone() };
        let what = format!("cannot reject node {node}");
        client.call(&what, request, async |api, r| api.reject_node(r).await).await?;
        Ok(format!("node {node} rejected\n"))
    })
    .await
}

async fn maintenance(cluster: &Cluster, args: &MaintenanceArgs) -> Result<(), Failure> {
    let on = args.switch == Switch::On;
    let mut ids = Vec::new();
    let done = each(cluster, &args.nodes.nodes, async |client, node| {
        let request =
            v1::SetMaintenanceRequest { node_id: node.to_owned(), on, reason: args.reason.clone() };
        let verb = if on { "begin" } else { "end" };
        let what = format!("cannot {verb} maintenance of node {node}");
        let answer =
            client.call(&what, request, async |api, r| api.set_maintenance(r).await).await?;
        let (id, name) = named(answer.node, node);
        ids.push(id);
        Ok(format!("node {name}: maintenance {}\n", if on { "on" } else { "off" }))
    })
    .await;
    // The answer itself says that maintenance has begun: there is nothing to wait for.
    let goal = Goal::Ready(if on { vec![] } else { ids });
    then_wait(cluster, &args.wait, goal, done).await
}

async fn remove(cluster: &Cluster, args: &RemoveArgs) -> Result<(), Failure> {
    args.yes.can_ask("the nodes are to be removed")?;
    let mut ids = Vec::new();
    let done = each(cluster, &args.nodes.nodes, async |client, node| {
        // The id first: afterwards nobody knows the name.
        let found = fetch(client, node).await?;
        if !args.yes.agreed(&removal(&found))? {
            let kept = format!("node {} was not removed", clean(&found.name));
            return Err(Failure::new(Exit::Failed, kept));
        }
        let request = v1::RemoveNodeRequest { node_id: found.id.clone() };
        let what = format!("cannot remove node {node}");
        client.call(&what, request, async |api, r| api.remove_node(r).await).await?;
        ids.push(found.id);
        Ok(format!("node {} removed\n", clean(&found.name)))
    })
    .await;
    then_wait(cluster, &args.wait, Goal::Gone(ids), done).await
}

/// What will be lost, and whether that is meant.
fn removal(node: &v1::Node) -> String {
    let name = clean(&node.name);
    let containers = counted(node.containers.len() as u64, "container", "containers");
    let labels = match node.labels.is_empty() {
        true => "It has no labels".to_owned(),
        false => format!("Its labels ({}) are lost", table::labels(node)),
    };
    format!(
        "node {name} ({}, {}, {containers}): its certificate is revoked at once, and it comes back only with a new \
         join token.\n{labels}, and what the master knows of it is forgotten. Its containers go on.\n\
         Remove node {name}?",
        words::role(node.role),
        words::status(node.status),
    )
}

async fn set_labels(cluster: &Cluster, args: &LabelArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let mut set = HashMap::new();
    let mut remove = Vec::new();
    for label in &args.labels {
        match label {
            Label::Set(key, value) => drop(set.insert(key.clone(), value.clone())),
            Label::Remove(key) => remove.push(key.clone()),
        }
    }
    let request = v1::LabelNodeRequest { node_id: args.node.clone(), set, remove };
    let what = format!("cannot label node {}", args.node);
    let answer = client.call(&what, request, async |api, r| api.label_node(r).await).await?;
    let labels = answer.node.as_ref().map(table::labels).unwrap_or_default();
    let (_, name) = named(answer.node, &args.node);
    print(&format!("node {name} labelled: {labels}\n"))
}

async fn reset_identity(cluster: &Cluster, args: &NodesArg) -> Result<(), Failure> {
    each(cluster, &args.nodes, async |client, node| {
        let request = v1::ResetNodeIdentityRequest { node_id: node.to_owned() };
        let what = format!("cannot reset the identity of node {node}");
        client.call(&what, request, async |api, r| api.reset_node_identity(r).await).await?;
        Ok(format!("node {node}: a board may join again under this name, with any valid token\n"))
    })
    .await
}

async fn restart_container(cluster: &Cluster, args: &RestartArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let request = v1::RestartContainerRequest {
        node_id: args.node.clone(),
        container: args.container.clone(),
    };
    let what = format!("cannot restart container {} of node {}", args.container, args.node);
    let answer = client.call(&what, request, async |api, r| api.restart_container(r).await).await?;
    let message = match answer.message.as_str() {
        "" => "restarted".to_owned(),
        message => clean(message).into_owned(),
    };
    print(&format!("container {} of node {}: {message}\n", args.container, args.node))
}

/// `piccolo node list --watch`: a live table on a terminal, a line per change elsewhere.
async fn follow_nodes(cluster: &Cluster, args: &ListArgs) -> Result<(), Failure> {
    let picture = RefCell::new(Picture::default());
    let steps = follow(cluster, "cannot watch nodes", async |api| {
        let from_revision = picture.borrow().resume_from();
        let filter = args.selector.clone();
        api.watch_nodes(v1::WatchNodesRequest { filter, from_revision }).await
    });
    let format = args.output.format;
    match format {
        Format::Json | Format::Yaml => {
            live::run(steps, |moment| stream_documents(&picture, moment, format)).await
        }
        Format::Table | Format::Wide if std::io::stdout().is_terminal() => {
            let mut live = Live { screen: Screen::default(), lost_at: None, format };
            live::run(steps, |moment| live.tell(&picture, moment)).await
        }
        Format::Table | Format::Wide => {
            live::run(steps, |moment| stream_lines(&picture, moment)).await
        }
    }
}

type NodesMoment = Moment<v1::WatchNodesResponse>;

fn stream_documents(
    picture: &RefCell<Picture>,
    moment: NodesMoment,
    format: Format,
) -> Result<(), Failure> {
    match moment {
        Moment::Item(message) => {
            let view = WatchView::of(&message);
            picture.borrow_mut().apply(message);
            view.map_or(Ok(()), |view| print(&streamed(&view, format)?))
        }
        Moment::Lost(text) | Moment::Back(text) => {
            say(&text);
            Ok(())
        }
        Moment::Tick => Ok(()),
    }
}

fn stream_lines(picture: &RefCell<Picture>, moment: NodesMoment) -> Result<(), Failure> {
    match moment {
        Moment::Item(message) => {
            let at = precise_moment(&now());
            for change in picture.borrow_mut().apply(message) {
                if let Change::Resync(why) = &change {
                    say(&resynchronised(why));
                }
                for line in watch::lines(&change) {
                    print(&format!("{at}  {line}\n"))?;
                }
            }
        }
        Moment::Lost(text) | Moment::Back(text) => say(&text),
        Moment::Tick => {}
    }
    Ok(())
}

/// The live table.
struct Live {
    screen: Screen,
    lost_at: Option<Timestamp>,
    format: Format,
}

impl Live {
    fn tell(&mut self, picture: &RefCell<Picture>, moment: NodesMoment) -> Result<(), Failure> {
        match moment {
            Moment::Item(message) => {
                for change in picture.borrow_mut().apply(message) {
                    if let Change::Resync(why) = change {
                        self.screen.say(&resynchronised(&why))?;
                    }
                }
            }
            Moment::Lost(text) => {
                self.lost_at = Some(now());
                self.screen.say(&text)?;
            }
            Moment::Back(text) => {
                self.lost_at = None;
                self.screen.say(&text)?;
            }
            Moment::Tick => {}
        }
        let picture = picture.borrow();
        if !picture.is_complete() {
            return Ok(());
        }
        let look = Look::of_stdout();
        let mut text = table::nodes(picture.nodes(), self.format, &look);
        if let Some(lost_at) = &self.lost_at {
            let line =
                format!("not connected: this is how it was {} ago", age(look.now, Some(lost_at)));
            text.push_str(&look.paint(Tone::Bad, &line));
            text.push('\n');
        }
        self.screen.draw(&text)
    }
}

fn resynchronised(why: &str) -> String {
    format!("the master sends everything again: {}", clean(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed() {
        assert_eq!(label("a=b=c"), Ok(Label::Set("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a="), Ok(Label::Set("a".to_owned(), String::new())));
        assert_eq!(label("a-"), Ok(Label::Remove("a".to_owned())));
        for text in ["", "a", "-", "=x"] {
            assert!(label(text).unwrap_err().contains("KEY-"), "{text}");
        }
    }
}
