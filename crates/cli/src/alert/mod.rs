//! `piccolo alert`: what people should know of, what it is told by, and how it is told.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand};
use piccolo_rpc::v1::{self, watch_alerts_response::Item};

pub mod channel;
pub mod letters;
pub mod rules;
pub mod view;

use crate::{
    args::Globals,
    connection::{Client, Cluster, each, follow},
    failure::{Exit, Failure},
    live::{self, Moment},
    output::{Format, Look, OutputArgs, document, print, say, streamed},
    text::{clean, parse_duration},
    token::whole_seconds,
};

pub const EXAMPLES: &str = "Examples:
  piccolo alert list                              # what fires now
  piccolo alert ack 3-12 --comment \"on my way\"
  piccolo alert silence label.site=north --for 2h
  piccolo alert rules check -f alerts.yaml
  piccolo alert channel test pager";
const LIST_EXAMPLES: &str = "Examples:
  piccolo alert list
  piccolo alert list --all                        # also what is over
  piccolo alert list --only severity=critical,label.site=north
  piccolo alert list --watch -o json";
const DESCRIBE_EXAMPLES: &str = "Examples:
  piccolo alert describe 3-12";
const ACK_EXAMPLES: &str = "Examples:
  piccolo alert ack 3-12
  piccolo alert ack 3-12 3-14 --comment \"a new disk is ordered\"";
const SILENCE_EXAMPLES: &str = "Examples:
  piccolo alert silence node=board-7 --for 2h --comment \"it is being moved\"
  piccolo alert silence rule=TemperatureHigh,label.site=north --for 1d";
const UNSILENCE_EXAMPLES: &str = "Examples:
  piccolo alert unsilence 3-15";

#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// List alerts, and silences
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show everything about an alert
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe(DescribeArgs),
    /// Acknowledge alerts: somebody looks after them, and they do not escalate
    #[command(after_help = ACK_EXAMPLES)]
    Ack(AckArgs),
    /// Have nobody told of some alerts for a time
    ///
    /// They are still listed. What still fires when the silence ends is told then.
    #[command(after_help = SILENCE_EXAMPLES)]
    Silence(SilenceArgs),
    /// End a silence
    #[command(after_help = UNSILENCE_EXAMPLES)]
    Unsilence(UnsilenceArgs),
    /// See, check and change the rules
    #[command(subcommand, after_help = rules::EXAMPLES)]
    Rules(rules::RulesCommand),
    /// See, change and test where alerts are told
    #[command(subcommand, after_help = channel::EXAMPLES, visible_alias = "channels")]
    Channel(channel::ChannelCommand),
    /// See what could not be delivered, send it again, or clear it
    #[command(subcommand, after_help = letters::EXAMPLES)]
    DeadLetters(letters::LettersCommand),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those for which all terms hold: KEY=VALUE, KEY!=VALUE, KEY~PART, joined by commas. Keys: rule, severity,
    /// node, container, group, and labels
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    only: String,
    /// Those that are over too
    #[arg(short, long)]
    all: bool,
    /// Go on, and show every change
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[arg(value_name = "ALERT")]
    id: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct AckArgs {
    #[arg(value_name = "ALERT", required = true)]
    ids: Vec<String>,
    /// For others to read
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
}

#[derive(Debug, Args)]
pub struct SilenceArgs {
    /// Which alerts: as `piccolo alert list --only`
    #[arg(value_name = "FILTER")]
    only: String,
    /// For how long; 90 days at most
    #[arg(long = "for", value_parser = parse_duration, value_name = "TIME")]
    span: Duration,
    /// For others to read
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
}

#[derive(Debug, Args)]
pub struct UnsilenceArgs {
    #[arg(value_name = "SILENCE", required = true)]
    ids: Vec<String>,
}

/// # Errors
/// As the master answers, or if a file cannot be read.
pub async fn run(globals: &Globals, command: &AlertCommand) -> Result<(), Failure> {
    if let AlertCommand::Rules(rules::RulesCommand::Check(args)) = command {
        return rules::check(args);
    }
    let cluster = Cluster::new(globals)?;
    match command {
        AlertCommand::List(args) => list(&cluster, args).await,
        AlertCommand::Describe(args) => describe(&cluster, args).await,
        AlertCommand::Ack(args) => acknowledge(&cluster, args).await,
        AlertCommand::Silence(args) => silence(&cluster, args).await,
        AlertCommand::Unsilence(args) => unsilence(&cluster, args).await,
        AlertCommand::Rules(command) => rules::run(&cluster, command).await,
        AlertCommand::Channel(command) => channel::run(&cluster, command).await,
        AlertCommand::DeadLetters(command) => letters::run(&cluster, command).await,
    }
}

/// # Errors
/// As the master answers.
pub async fn fetch(
    client: &mut Client<'_>,
    only: &str,
    resolved: bool,
) -> Result<v1::ListAlertsResponse, Failure> {
    let request = v1::ListAlertsRequest { only: only.to_owned(), resolved };
    client.call("cannot list alerts", request, async |api, r| api.list_alerts(r).await).await
}

async fn list(cluster: &Cluster, args: &ListArgs) -> Result<(), Failure> {
    if args.watch {
        return watch(cluster, args.output.format, args.all).await;
    }
    let listed = fetch(&mut cluster.connect().await?, &args.only, args.all).await?;
    if listed.refused > 0 {
        let refused = listed.refused;
        say(&format!("{refused} more did not fire, because there are too many at once"));
    }
    print(&match args.output.format {
        format @ (Format::Table | Format::Wide) => view::table(&listed, format, &Look::of_stdout()),
        format @ (Format::Json | Format::Yaml) => {
            document(&view::AlertsView::from(&listed), format)?
        }
    })
}

/// What of a watch is news: a new connection begins with everything again.
struct Watched {
    /// By alert, with its revision.
    shown: BTreeMap<String, u64>,
    /// What there was at the begin is told.
    begun: bool,
    /// What was over at the begin is news too.
    all: bool,
}

impl Watched {
    fn news(&mut self, item: Item) -> Option<v1::Alert> {
        match item {
            Item::Changed(alert) => {
                let before = self.shown.insert(alert.id.clone(), alert.revision);
                let was_over = !self.begun && !self.all && alert.state == "resolved";
                (before != Some(alert.revision) && !was_over).then_some(alert)
            }
            Item::Forgotten(id) => {
                self.shown.remove(&id);
                None
            }
            Item::Told(_) => {
                self.begun = true;
                None
            }
        }
    }
}

/// What is there, and then each change, a line each.
async fn watch(cluster: &Cluster, format: Format, all: bool) -> Result<(), Failure> {
    let look = Look::of_stdout();
    let mut watched = Watched { shown: BTreeMap::new(), begun: false, all };
    let steps = follow(cluster, "cannot watch alerts", async |api| {
        api.watch_alerts(v1::WatchAlertsRequest {}).await
    });
    live::run(steps, |moment: Moment<v1::WatchAlertsResponse>| match moment {
        Moment::Item(message) => match message.item.and_then(|item| watched.news(item)) {
            Some(alert) => print(&line(&alert, format, &look)?),
            None => Ok(()),
        },
        Moment::Lost(text) | Moment::Back(text) => {
            say(&text);
            Ok(())
        }
        Moment::Tick => Ok(()),
    })
    .await
}

fn line(alert: &v1::Alert, format: Format, look: &Look) -> Result<String, Failure> {
    match format {
        Format::Json | Format::Yaml => streamed(&view::AlertView::from(alert), format),
        Format::Table | Format::Wide => Ok(view::line(alert, look)),
    }
}

async fn describe(cluster: &Cluster, args: &DescribeArgs) -> Result<(), Failure> {
    let listed = fetch(&mut cluster.connect().await?, "", true).await?;
    let found = listed.alerts.iter().find(|alert| !alert.id.is_empty() && alert.id == args.id);
    let Some(alert) = found else {
        return Err(Failure::new(Exit::NotFound, format!("there is no alert {}", args.id))
            .help("piccolo alert list --all"));
    };
    print(&match args.output.format {
        Format::Table | Format::Wide => view::describe(alert, &Look::of_stdout()),
        format @ (Format::Json | Format::Yaml) => document(&view::AlertView::from(alert), format)?,
    })
}

async fn acknowledge(cluster: &Cluster, args: &AckArgs) -> Result<(), Failure> {
    let request =
        v1::AcknowledgeAlertsRequest { ids: args.ids.clone(), comment: args.comment.clone() };
    let mut client = cluster.connect().await?;
    let what = "no alert was acknowledged";
    let answer = client.call(what, request, async |api, r| api.acknowledge_alerts(r).await).await?;
    for alert in answer.alerts {
        print(&format!("alert {} acknowledged: {}\n", clean(&alert.id), clean(&alert.message)))?;
    }
    Ok(())
}

async fn silence(cluster: &Cluster, args: &SilenceArgs) -> Result<(), Failure> {
    let request = v1::SilenceAlertsRequest {
        only: args.only.clone(),
        span_seconds: whole_seconds(args.span),
        comment: args.comment.clone(),
    };
    let mut client = cluster.connect().await?;
    let what = "nothing was silenced";
    let answer = client.call(what, request, async |api, r| api.silence_alerts(r).await).await?;
    let silence = answer.silence.unwrap_or_default();
    let until = crate::text::moment(silence.until.as_ref());
    print(&format!("silence {} of {} until {until}\n", clean(&silence.id), clean(&silence.only)))?;
    // it may be made ahead of what it silences: no failure
    if fetch(&mut client, &silence.only, false).await.is_ok_and(|now| now.alerts.is_empty()) {
        say(
            "it matches no alert now; its keys are rule, severity, node, container, group and labels",
        );
    }
    Ok(())
}

async fn unsilence(cluster: &Cluster, args: &UnsilenceArgs) -> Result<(), Failure> {
    each(cluster, &args.ids, async |client, id| {
        let what = format!("cannot end silence {id}");
        let request = v1::UnsilenceAlertsRequest { id: id.to_owned() };
        client.call(&what, request, async |api, r| api.unsilence_alerts(r).await).await?;
        Ok(format!("silence {} ended\n", clean(id)))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_begins_with_what_is_not_over_and_shows_nothing_twice() {
        let changed = |id: &str, state: &str, revision| {
            let (id, state) = (id.to_owned(), state.to_owned());
            Item::Changed(v1::Alert { id, state, revision, ..Default::default() })
        };
        let told = || Item::Told(Default::default());
        let items = || {
            [
                changed("1", "resolved", 1),
                changed("2", "firing", 2),
                told(),
                changed("2", "resolved", 3),
                changed("2", "resolved", 3),
                told(),
                changed("4", "resolved", 4),
            ]
        };
        for (all, expect) in [(false, &[2, 3, 4][..]), (true, &[1, 2, 3, 4])] {
            let mut watched = Watched { shown: BTreeMap::new(), begun: false, all };
            let news = items().into_iter().filter_map(|item| watched.news(item));
            assert_eq!(news.map(|alert| alert.revision).collect::<Vec<_>>(), expect, "{all}");
        }
    }
}
