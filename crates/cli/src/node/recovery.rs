//! `piccolo node recovery` and `piccolo node probe`: what is done about what fails, and why nothing is.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use piccolo_core::action_controller::recovery::Step;
use piccolo_rpc::v1;
pub use piccolo_rpc::view::recovery::{ProbeView, RecoveryView, paused_until};

use super::fetch;
use crate::{
    connection::Cluster,
    failure::Failure,
    output::{Cell, Format, Look, OutputArgs, Table, Tone, document, figure, print, text, word},
    text::{NOTHING, age, clean, parse_duration, until},
};

pub const RECOVERY_EXAMPLES: &str = "Examples:
  piccolo node recovery zone-a
  piccolo node recovery zone-a -o json
  piccolo node recovery zone-a --pause --for 2h   # nothing is done for so long
  piccolo node recovery zone-a --resume
  piccolo node recovery zone-a --force restart-podman
  piccolo node recovery zone-a --force restart-container --container camera";
pub const PROBE_EXAMPLES: &str = "Examples:
  piccolo node probe zone-a
  piccolo node probe zone-a -o json";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("word").args(["pause", "resume", "force"]))]
pub struct RecoveryArgs {
    /// Name or id
    #[arg(value_name = "NODE")]
    node: String,
    /// Do nothing for a while, whatever fails
    #[arg(long)]
    pause: bool,
    /// How long; seven days at most
    #[arg(long = "for", default_value = "1h", value_parser = pause_span, value_name = "TIME", requires = "pause")]
    span: Duration,
    /// End a pause
    #[arg(long)]
    resume: bool,
    /// Take a step now, whatever the plan says; it takes nothing from the budget
    #[arg(long, value_enum, value_name = "STEP")]
    force: Option<ForcedStep>,
    /// The container of restart-container
    #[arg(long, value_name = "NAME", requires = "force")]
    container: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a person can ask for; the other steps happen by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForcedStep {
    RestartContainer,
    RestartPodman,
    /// Only where the node's configuration allows it
    Reboot,
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Name or id
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    output: OutputArgs,
}

fn pause_span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text)?;
    let days = Duration::from_secs(7 * 86_400);
    if span < Duration::from_secs(1) || span > days {
        return Err("expected one second to seven days".to_owned());
    }
    Ok(span)
}

/// # Errors
/// As the master answers.
pub async fn run(cluster: &Cluster, args: &RecoveryArgs) -> Result<(), Failure> {
    if let Some(step) = args.force {
        return force(cluster, args, step).await;
    }
    let node = if args.pause || args.resume {
        let seconds = if args.pause { args.span.as_secs() } else { 0 };
        pause(cluster, args, u32::try_from(seconds).unwrap_or(u32::MAX)).await?
    } else {
        fetch(&mut cluster.connect().await?, &args.node).await?
    };
    let look = Look::of_stdout();
    print(&match args.output.format {
        Format::Table | Format::Wide => overview(&node, args.output.format, &look),
        format @ (Format::Json | Format::Yaml) => {
            document(&RecoveryView::of(&node, &look.now), format)?
        }
    })
}

/// All that recovery may do of it by itself has been done.
pub fn has_given_up(line: &v1::RecoveryLine) -> bool {
    matches!(line.waits.as_str(), "Person" | "Budget" | "Reboots")
}

async fn pause(cluster: &Cluster, args: &RecoveryArgs, seconds: u32) -> Result<v1::Node, Failure> {
    let mut client = cluster.connect().await?;
    let verb = if args.pause { "pause" } else { "resume" };
    let what = format!("cannot {verb} the recovery of node {}", args.node);
    let request = v1::PauseRecoveryRequest { node_id: args.node.clone(), pause_seconds: seconds };
    let answer = client.call(&what, request, async |api, r| api.pause_recovery(r).await).await?;
    answer.node.ok_or_else(|| Failure::failed(what).cause("the master's answer has no node"))
}

async fn force(cluster: &Cluster, args: &RecoveryArgs, step: ForcedStep) -> Result<(), Failure> {
    let step = match step {
        ForcedStep::RestartContainer => Step::RestartContainer,
        ForcedStep::RestartPodman => Step::RestartPodman,
        ForcedStep::Reboot => Step::Reboot,
    };
    let container = args.container.clone().unwrap_or_default();
    step.check_forced(&container).map_err(|wrong| {
        Failure::usage(format!("--{} {}; nothing was done", wrong.field, wrong.problem)).help(
            "piccolo node recovery NODE --force restart-container --container NAME\n\
             which there are: piccolo node describe NODE",
        )
    })?;
    let step = step.name();
    let mut client = cluster.connect().await?;
    let what = format!("cannot force {step} of node {}", args.node);
    let request =
        v1::ForceRecoveryRequest { node_id: args.node.clone(), step: step.to_owned(), container };
    let answer = client.call(&what, request, async |api, r| api.force_recovery(r).await).await?;
    print(&format!(
        "node {}: {}; piccolo events shows what becomes of it\n",
        args.node,
        clean(&answer.message)
    ))
}

/// # Errors
/// As the master answers; something that the node could not prove.
pub async fn probe(cluster: &Cluster, args: &ProbeArgs) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let what = format!("cannot probe node {}", args.node);
    let request = v1::ProbeNodeRequest { node_id: args.node.clone() };
    let answer = client.call(&what, request, async |api, r| api.probe_node(r).await).await?;
    let Some(probe) = answer.node.as_ref().and_then(|node| node.probe.as_ref()) else {
        return Err(Failure::failed(what).cause("the master's answer has no probe"));
    };
    print(&match args.output.format {
        Format::Table | Format::Wide => parts(probe, &Look::of_stdout()),
        format @ (Format::Json | Format::Yaml) => document(&ProbeView::from(probe), format)?,
    })?;
    let bad: Vec<_> = probe.parts.iter().filter(|part| !part.ok).map(|p| p.name.as_str()).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("node {} is not well", args.node))
        .cause(format!("it could not prove: {}", clean(&bad.join(", ")))))
}

/// For people.
pub fn overview(node: &v1::Node, format: Format, look: &Look) -> String {
    let recovery = node.recovery.clone().unwrap_or_default();
    let mut out = format!(
        "node {}: {} of {} attempts used within the hour\n",
        clean(&node.name),
        recovery.spent,
        recovery.spent_max,
    );
    if let Some(at) = paused_until(node, &look.now) {
        let line = format!("paused by an operator, for {} more", until(look.now, Some(at)));
        out += &look.paint(Tone::Warning, &line);
        out.push('\n');
    }
    out += &if recovery.lines.is_empty() {
        "nothing fails\n".to_owned()
    } else {
        failures(&recovery.lines, format, look)
    };
    if let Some(probe) = &node.probe {
        out += &format!("probed {} ago:\n{}", age(look.now, probe.at.as_ref()), parts(probe, look));
    }
    out
}

fn failures(lines: &[v1::RecoveryLine], format: Format, look: &Look) -> String {
    let wide = format == Format::Wide;
    let columns = [
        word("FAILURE"),
        word("STEP"),
        figure("ATTEMPTS"),
        figure("SINCE"),
        figure("NEXT"),
        text("WHY NOT NOW"),
    ];
    let mut table = Table::new(columns.into_iter().chain(wide.then(|| text("LADDER"))));
    for line in lines {
        let tone = match line.waits.as_str() {
            _ if has_given_up(line) => Tone::Bad,
            "Well" => Tone::Good,
            _ => Tone::Warning,
        };
        let next = match &line.next_at {
            Some(at) if at.seconds <= look.now.seconds => "now".to_owned(),
            Some(at) => until(look.now, Some(at)),
            None => NOTHING.to_owned(),
        };
        let cells = [
            Cell::toned(tone, &line.failure),
            Cell::or_nothing(&line.step),
            Cell::new(line.attempts.to_string()),
            Cell::new(age(look.now, line.since.as_ref())),
            Cell::new(next),
            Cell::or_nothing(&line.why),
        ];
        table.row(cells.into_iter().chain(wide.then(|| Cell::or_nothing(&line.ladder))));
    }
    table.render(look)
}

fn parts(probe: &v1::Probe, look: &Look) -> String {
    let mut table = Table::new([word("PROOF"), word("RESULT"), figure("TOOK"), text("PROBLEM")]);
    for part in &probe.parts {
        let (tone, result) = if part.ok { (Tone::Good, "ok") } else { (Tone::Bad, "failed") };
        table.row([
            Cell::or_nothing(&part.name),
            Cell::toned(tone, result),
            Cell::new(format!("{} ms", part.took_ms)),
            Cell::or_nothing(&part.problem),
        ]);
    }
    table.render(look)
}
