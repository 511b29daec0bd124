//! `piccolo events`: what happened, and what happens.

use std::{cell::Cell as Slot, collections::BTreeMap, time::Duration};

use clap::Args;
use piccolo_rpc::v1::{self, watch_events_response::Item};
pub use piccolo_rpc::view::event::{EventView, EventsView, WatchEventView};
use prost_types::Timestamp;

use crate::{
    args::Globals,
    connection::{Client, Cluster, follow},
    failure::{Exit, Failure},
    live::{self, Moment},
    node::fetch,
    output::{
        Cell, Format, Look, OutputArgs, Table, Tone, document, figure, now, print, say, streamed,
        text, word,
    },
    text::{age, clean, moment, parse_duration},
    words::{self, SeverityArg},
};

pub const EXAMPLES: &str = "Examples:
  piccolo events                                  # the newest 50
  piccolo events --watch                          # and then what happens
  piccolo events --watch -n 0 -o json             # only what happens, for programs
  piccolo events --node zone-a --severity warning
  piccolo events --since 10m
  piccolo events --since 2026-11-23T18:00:00Z -o json
  piccolo events --after 1200 -n 100              # what came after event 1200
  piccolo events --before 1200 -n 100             # and what came before it";

/// Events in one answer of the master.
const PAGE: u32 = 1000;

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on showing events until interrupted
    #[arg(short, long)]
    watch: bool,
    /// Only of this node, by name or id
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only events that are at least so severe
    #[arg(long, value_enum, value_name = "SEVERITY")]
    severity: Option<SeverityArg>,
    /// Only events after a time, or within a length of time: 10m, 2026-11-23T18:00:00Z
    #[arg(long, value_parser = since, value_name = "TIME", conflicts_with = "after")]
    since: Option<Since>,
    /// The oldest events after this id, instead of the newest
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// The newest events before this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["after", "watch"], value_parser = clap::value_parser!(u64).range(1..))]
    before: Option<u64>,
    /// How many events at most, of those that are there [default: 50; with --since: all]
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<u32>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Since {
    Ago(Duration),
    At(Timestamp),
}

impl Since {
    pub fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Since::At(at) => at,
            Since::Ago(ago) => {
                let seconds = i64::try_from(ago.as_secs()).unwrap_or(i64::MAX);
                Timestamp { seconds: now.seconds.saturating_sub(seconds), nanos: now.nanos }
            }
        }
    }
}

/// # Errors
/// A sentence that says what is expected.
pub fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    text.parse().map(Since::At).map_err(|_| {
        "expected a length of time such as 10m, or a time such as 2026-11-23T18:00:00Z".to_owned()
    })
}

/// # Errors
/// As the master answers.
pub async fn run(globals: &Globals, args: &EventsArgs) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    let listed = {
        let mut client = cluster.connect().await?;
        let listed = list(&mut client, args).await?;
        // A node that is gone still has its events: only of one without any is it asked.
        if let Some(node) = args.node.as_deref().filter(|_| listed.events.is_empty()) {
            match fetch(&mut client, node).await {
                Ok(_) => {}
                // It may join yet.
                Err(failure) if args.watch && failure.exit == Exit::NotFound => {
                    failure.causes.iter().for_each(|cause| say(&clean(cause)));
                }
                Err(failure) => return Err(failure),
            }
        }
        listed
    };
    let format = args.output.format;
    let look = Look::of_stdout();
    if args.watch {
        for event in &listed.events {
            print(&streamed_event(event, format, &look)?)?;
        }
        return watch(&cluster, args, listed.last_id).await;
    }
    print(&match format {
        Format::Table | Format::Wide if listed.events.is_empty() => "no events\n".to_owned(),
        Format::Table | Format::Wide => table(&listed.events, format, &look),
        Format::Json | Format::Yaml => document(&EventsView::from(&listed), format)?,
    })
}

/// What is there, as the arguments choose; `last_id` is where a watch begins.
async fn list(
    client: &mut Client<'_>,
    args: &EventsArgs,
) -> Result<v1::ListEventsResponse, Failure> {
    let wanted = match (args.lines, args.since) {
        (Some(lines), _) => lines as usize,
        (None, Some(_)) => usize::MAX,
        (None, None) => 50,
    };
    if let Some(after) = args.after {
        return oldest(client, args, after, wanted).await;
    }
    newest(client, args, wanted).await
}

/// Back from the newest, page by page; in the order in which they came.
async fn newest(
    client: &mut Client<'_>,
    args: &EventsArgs,
    wanted: usize,
) -> Result<v1::ListEventsResponse, Failure> {
    let from = args.since.map(|since| since.moment(now()));
    let is_wanted = |event: &v1::Event| from.as_ref().is_none_or(|from| is_since(event, from));
    let mut all = v1::ListEventsResponse::default();
    let mut before = args.before.unwrap_or(0);
    loop {
        let left = u32::try_from(wanted - all.events.len()).unwrap_or(PAGE).clamp(1, PAGE);
        let mut page = ask(client, args, Where::Before(before), left).await?;
        // what came since the first page is for the watch
        all.first_kept_id = page.first_kept_id;
        all.last_id = if all.last_id == 0 { page.last_id } else { all.last_id };
        let full = page.events.len() >= left as usize;
        page.events.retain(|event| before == 0 || event.id < before);
        let Some(oldest) = page.events.first() else { break };
        let enough = !full || !is_wanted(oldest);
        before = oldest.id;
        page.events.append(&mut all.events);
        all.events = page.events;
        if enough || all.events.len() >= wanted {
            break;
        }
    }
    all.events.retain(is_wanted);
    let surplus = all.events.len().saturating_sub(wanted);
    all.events.drain(..surplus);
    Ok(all)
}

/// Ascending from `after`, page by page.
async fn oldest(
    client: &mut Client<'_>,
    args: &EventsArgs,
    after: u64,
    wanted: usize,
) -> Result<v1::ListEventsResponse, Failure> {
    let mut all = v1::ListEventsResponse::default();
    let mut after = after;
    while all.events.len() < wanted {
        let left = u32::try_from(wanted - all.events.len()).unwrap_or(PAGE).min(PAGE);
        let page = ask(client, args, Where::After(after), left).await?;
        (all.first_kept_id, all.last_id) = (page.first_kept_id, page.last_id);
        let Some(last) = page.events.last() else { break };
        after = last.id;
        let full = page.events.len() >= left as usize;
        all.events.extend(page.events);
        if !full {
            break;
        }
    }
    Ok(all)
}

/// Which events of all: the oldest after one, or the newest before one, where 0 is the end.
enum Where {
    After(u64),
    Before(u64),
}

async fn ask(
    client: &mut Client<'_>,
    args: &EventsArgs,
    place: Where,
    limit: u32,
) -> Result<v1::ListEventsResponse, Failure> {
    let (newest, after_id, before_id) = match place {
        Where::After(id) => (false, id, 0),
        Where::Before(id) => (true, 0, id),
    };
    let request = v1::ListEventsRequest {
        after_id,
        limit,
        node: args.node.clone().unwrap_or_default(),
        minimum_severity: minimum(args),
        newest,
        before_id,
    };
    client.call("cannot list events", request, async |api, r| api.list_events(r).await).await
}

fn minimum(args: &EventsArgs) -> i32 {
    args.severity.map_or(v1::Severity::Unspecified, v1::Severity::from) as i32
}

fn is_since(event: &v1::Event, from: &Timestamp) -> bool {
    event.at.as_ref().is_some_and(|at| (at.seconds, at.nanos) >= (from.seconds, from.nanos))
}

/// Goes on from `last_id`: between the list and the watch nothing is lost.
async fn watch(cluster: &Cluster, args: &EventsArgs, last_id: u64) -> Result<(), Failure> {
    let cursor = Slot::new(last_id);
    let steps = follow(cluster, "cannot watch events", async |api| {
        let request = v1::WatchEventsRequest {
            after_id: cursor.get(),
            from_now: false,
            node: args.node.clone().unwrap_or_default(),
            minimum_severity: minimum(args),
        };
        api.watch_events(request).await
    });
    let format = args.output.format;
    let look = Look::of_stdout();
    live::run(steps, |moment: Moment<v1::WatchEventsResponse>| match moment {
        Moment::Item(message) => match message.item {
            Some(Item::Event(event)) => {
                cursor.set(cursor.get().max(event.id));
                print(&streamed_event(&event, format, &look)?)
            }
            Some(Item::Missed(missed)) => {
                cursor.set(cursor.get().max(missed.last_id));
                tell_missed(missed, format)
            }
            // an item of a newer master
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

fn tell_missed(missed: v1::EventsMissed, format: Format) -> Result<(), Failure> {
    let v1::EventsMissed { first_id, last_id } = missed;
    say(&format!("events {first_id} to {last_id} are no longer kept and were missed"));
    match format {
        Format::Json | Format::Yaml => {
            print(&streamed(&WatchEventView::Missed { first_id, last_id }, format)?)
        }
        Format::Table | Format::Wide => Ok(()),
    }
}

/// One event of a stream, its lines ended.
fn streamed_event(event: &v1::Event, format: Format, look: &Look) -> Result<String, Failure> {
    match format {
        Format::Json | Format::Yaml => {
            streamed(&WatchEventView::Event { event: EventView::from(event) }, format)
        }
        Format::Table | Format::Wide => Ok(line(event, format, look)),
    }
}

fn tone(event: &v1::Event) -> Tone {
    match v1::Severity::try_from(event.severity) {
        Ok(v1::Severity::Warning) => Tone::Warning,
        Ok(v1::Severity::Critical) => Tone::Bad,
        Ok(v1::Severity::Unspecified | v1::Severity::Info) | Err(_) => Tone::Plain,
    }
}

fn message(event: &v1::Event) -> String {
    let late = if event.delivered_late { " (late)" } else { "" };
    format!("{}{late}", clean(&event.message))
}

fn fields(event: &v1::Event) -> String {
    let sorted: BTreeMap<_, _> = event.fields.iter().collect();
    let pairs: Vec<_> = sorted.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

/// `piccolo events` for people.
pub fn table(events: &[v1::Event], format: Format, look: &Look) -> String {
    let wide = format == Format::Wide;
    let (first, more): (&[_], &[_]) = if wide {
        (&[figure("ID"), word("TIME")], &[text("FIELDS")])
    } else {
        (&[figure("AGE")], &[])
    };
    let middle = [word("SEVERITY"), word("NODE"), word("KIND"), text("MESSAGE")];
    let mut table = Table::new(first.iter().copied().chain(middle).chain(more.iter().copied()));
    for event in events {
        let first = if wide {
            vec![Cell::new(event.id.to_string()), Cell::new(moment(event.at.as_ref()))]
        } else {
            vec![Cell::new(age(look.now, event.at.as_ref()))]
        };
        let middle = [
            Cell::toned(tone(event), words::severity(event.severity)),
            Cell::or_nothing(&event.node_name),
            Cell::new(&event.kind),
            Cell::new(message(event)),
        ];
        let more = wide.then(|| Cell::or_nothing(&fields(event)));
        table.row(first.into_iter().chain(middle).chain(more));
    }
    table.render(look)
}

/// One line of `--watch`: columns of a fixed width, since nobody knows what comes.
pub fn line(event: &v1::Event, format: Format, look: &Look) -> String {
    let severity = look.paint(tone(event), &format!("{:<8}", words::severity(event.severity)));
    let node = if event.node_name.is_empty() { "-".into() } else { clean(&event.node_name) };
    let mut line = format!(
        "{}  {severity}  {node:<12}  {:<20}  {}",
        moment(event.at.as_ref()),
        clean(&event.kind),
        message(event)
    );
    if format == Format::Wide {
        line = format!("{:>6}  {line}  {}", event.id, clean(&fields(event)));
    }
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_length_of_time_or_a_time() {
        let now = Timestamp { seconds: 1_000, nanos: 5 };
        let ago = since("10m").unwrap().moment(now);
        assert_eq!(ago, Timestamp { seconds: 400, nanos: 5 });
        let at = since("1970-01-01T00:01:00Z").unwrap().moment(now);
        assert_eq!(at, Timestamp { seconds: 60, nanos: 0 });
        assert!(since("yesterday").unwrap_err().contains("10m"));
    }
}
