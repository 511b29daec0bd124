//! `piccolo logs`: lines of nodes and containers, in the order of their times (HLD §11.2).

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write as _},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use piccolo_rpc::{
    v1::{self, read_logs_response::Item},
    view::log::LineView,
};
use prost_types::Timestamp;

use crate::{
    args::Globals,
    connection::{Cluster, follow},
    events::{Since, since},
    failure::{Exit, Failure},
    live::{self, Moment},
    output::{Format, Look, OutputArgs, Tone, now, print, say, streamed},
    text::{clean, counted, precise_moment},
    words,
};

pub const EXAMPLES: &str = "Examples:
  piccolo logs zone-a                             # what the agent of a node says
  piccolo logs zone-a/web                         # a container
  piccolo logs web -f                             # the same, where one node alone has it; and go on
  piccolo logs zone-a zone-b/db --since 10m       # several, in the order of their times
  piccolo logs --all -f --level warning
  piccolo logs master-node --unit piccolo-master.service -n 500
  piccolo logs zone-a/web --since 1h --grep 'out of memory' -o json
  piccolo logs --all --since 1d --output-file cluster.log
  piccolo logs --kept --since 7d --level err      # what the master keeps, of every node
  piccolo logs --kept zone-a:podman.service       # also while the node is away";

/// Where nobody says how many.
const LINES: u32 = 100;
/// Of a search where nobody says how many: so many are looked through.
const LINES_SEARCHED: u32 = 10_000;
/// Columns of the name of a source at most; a longer one moves its lines.
const NAME_MAX: usize = 32;
/// Of sources, in turn.
const COLOURS: [&str; 10] = ["36", "35", "34", "32", "96", "95", "94", "92", "33", "93"];

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// NODE, NODE/CONTAINER, or CONTAINER where one node alone has it
    #[arg(value_name = "TARGET", required_unless_present_any = ["all", "kept"],
          conflicts_with = "all")]
    targets: Vec<String>,
    /// Of every node and every container
    #[arg(long)]
    all: bool,
    /// Important lines of units that the master keeps: of NODE, NODE:UNIT, or every node
    #[arg(long, conflicts_with = "follow")]
    kept: bool,
    /// Of another unit of systemd on the nodes; what may be read is in their configuration
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Go on with what is logged from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only lines after a time, or within a length of time: 10m, 2026-11-23T18:00:00Z
    #[arg(long, value_parser = since, value_name = "TIME")]
    since: Option<Since>,
    /// Only lines before a time
    #[arg(long, value_parser = since, value_name = "TIME")]
    until: Option<Since>,
    /// The newest lines of each source, 10000 at most [default: 100; with --since: all; with --grep: 10000]
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<u32>,
    /// Only lines that are at least so severe; of containers, stderr counts as err and stdout as info
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<Level>,
    /// Only lines, of those, that have this text in them, as it is written
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Write into a file that is not there yet, instead of stdout
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// As syslog and journald name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    Emerg,
    Alert,
    Crit,
    #[value(alias = "error")]
    Err,
    #[value(alias = "warn")]
    Warning,
    Notice,
    Info,
    Debug,
}

impl Level {
    fn number(self) -> u32 {
        self as u32
    }
}

/// # Errors
/// As the master answers, or a source could not be read.
pub async fn run(globals: &Globals, args: &LogsArgs) -> Result<(), Failure> {
    let cluster = Cluster::new(globals)?;
    let out = Out::open(args)?;
    let begun = now();
    let shown = RefCell::new(Shown::new(args.output.format, out));
    shown.borrow_mut().is_none_wanted = args.lines == Some(0) && !args.follow;
    if args.follow {
        let steps = follow(&cluster, "cannot follow the logs", async |api| {
            let request = request(args, begun, &shown.borrow().places);
            api.read_logs(request).await
        });
        let ended = live::run(steps, |moment: Moment<v1::ReadLogsResponse>| match moment {
            Moment::Item(answer) => shown.borrow_mut().take(answer),
            Moment::Lost(text) | Moment::Back(text) => {
                say(&text);
                Ok(())
            }
            Moment::Tick => Ok(()),
        });
        match ended.await {
            Err(failure) if shown.borrow().over && failure.silent => {}
            ended => ended?,
        }
    } else {
        let mut client = cluster.connect().await?;
        let request = request(args, begun, &BTreeMap::new());
        let what = "cannot read the logs";
        let mut stream =
            client.call(what, request, async |api, request| api.read_logs(request).await).await?;
        while !shown.borrow().over {
            match stream.message().await {
                Ok(Some(answer)) => match shown.borrow_mut().take(answer) {
                    Err(failure) if failure.silent => break,
                    taken => taken?,
                },
                Ok(None) => break,
                Err(status) => return Err(client.failure(what, &status)),
            }
        }
    }
    shown.into_inner().end(args)
}

/// `begun`: when the command was given.
fn request(
    args: &LogsArgs,
    begun: Timestamp,
    places: &BTreeMap<String, v1::LogPlace>,
) -> v1::ReadLogsRequest {
    let now = now();
    let mut since = args.since.map(|since| since.moment(now));
    let lines = match (args.lines, args.since, &args.grep) {
        // to the master 0 is all of them: none of them is those from now on, or one that is not shown
        (Some(0), ..) if args.follow => {
            since = Some(begun);
            0
        }
        (Some(0), ..) => 1,
        (Some(lines), ..) => lines,
        (None, Some(_), _) => 0,
        (None, None, Some(_)) => LINES_SEARCHED,
        (None, None, None) => LINES,
    };
    let filter = v1::LogFilter {
        since,
        until: args.until.map(|until| until.moment(now)),
        lines,
        level: args.level.map(Level::number),
        grep: args.grep.clone().unwrap_or_default(),
    };
    let after = places
        .iter()
        .map(|(source, place)| v1::LogPlaceOf { source: source.clone(), place: Some(*place) });
    v1::ReadLogsRequest {
        targets: args.targets.clone(),
        all: args.all || (args.kept && args.targets.is_empty()),
        kept: args.kept,
        unit: args.unit.clone().unwrap_or_default(),
        filter: Some(filter),
        follow: args.follow,
        after: after.collect(),
    }
}

/// Where the lines go.
#[derive(Debug)]
enum Out {
    Stdout,
    File(BufWriter<File>),
}

impl Out {
    fn open(args: &LogsArgs) -> Result<Self, Failure> {
        let Some(path) = &args.output_file else { return Ok(Self::Stdout) };
        let file = File::options().write(true).create_new(true).open(path).map_err(|error| {
            Failure::failed(format!("{} cannot be written", path.display())).because(&error)
        })?;
        Ok(Self::File(BufWriter::new(file)))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Stdout => print(text),
            Self::File(file) => Ok(file.write_all(text.as_bytes())?),
        }
    }
}

/// What was shown, and how far.
#[derive(Debug)]
struct Shown {
    format: Format,
    look: Look,
    out: Out,
    sources: Vec<String>,
    /// By source, for a connection that is lost.
    places: BTreeMap<String, v1::LogPlace>,
    lines: u64,
    failures: Vec<String>,
    over: bool,
    /// Of the lines: only whether they could be had.
    is_none_wanted: bool,
}

impl Shown {
    fn new(format: Format, out: Out) -> Self {
        let look = match out {
            Out::Stdout => Look::of_stdout(),
            Out::File(_) => Look { width: None, colour: false, now: now() },
        };
        let (sources, failures) = (Vec::new(), Vec::new());
        Self {
            format,
            look,
            out,
            sources,
            places: BTreeMap::new(),
            lines: 0,
            failures,
            over: false,
            is_none_wanted: false,
        }
    }

    fn take(&mut self, answer: v1::ReadLogsResponse) -> Result<(), Failure> {
        match answer.item {
            Some(Item::Sources(v1::LogSources { sources })) => {
                self.sources = sources.into_iter().map(|source| source.name).collect();
                Ok(())
            }
            Some(Item::Lines(v1::LogLines { lines })) => {
                let mut text = String::new();
                for v1::LogLineOf { source, line } in lines {
                    if self.is_none_wanted {
                        continue;
                    }
                    let line = line.unwrap_or_default();
                    text += &self.line(source, &line)?;
                    self.note(source, &line);
                }
                self.out.write(&text)
            }
            Some(Item::Notice(notice)) => {
                self.notice(&notice);
                Ok(())
            }
            Some(Item::Over(v1::LogsOver {})) => {
                self.over = true;
                // ends a watch, which otherwise would ask again
                Err(Failure::silent(Exit::Done))
            }
            // an item of a newer master
            None => Ok(()),
        }
    }

    fn name(&self, source: u32) -> &str {
        let name = usize::try_from(source).ok().and_then(|source| self.sources.get(source));
        name.map_or("?", String::as_str)
    }

    fn note(&mut self, source: u32, line: &v1::LogLine) {
        self.lines += 1;
        let name = self.name(source).to_owned();
        let place = self.places.entry(name).or_default();
        if place.at != line.at {
            *place = v1::LogPlace { at: line.at, lines: 0 };
        }
        place.lines = place.lines.saturating_add(1);
    }

    fn notice(&mut self, notice: &v1::LogNotice) {
        let name = clean(self.name(notice.source)).into_owned();
        let text = match notice.reason.as_str() {
            "Dropped" => format!(
                "{name}: {} left out: they came faster than they were read",
                counted(notice.dropped, "line was", "lines were")
            ),
            "Back" | "NotKept" | "Bounded" => format!("{name}: {}", clean(&notice.message)),
            "Lost" => format!("{name}: {}; waiting for it", clean(&notice.message)),
            // of the whole, and not of a source
            "LeftOut" => clean(&notice.message).into_owned(),
            // also what a newer master may say
            _ => {
                self.failures.push(format!("{name}: {}", clean(&notice.message)));
                return;
            }
        };
        say(&text);
    }

    /// Sources of which nothing was shown, and nothing else is said.
    fn quiet(&self) -> impl Iterator<Item = &String> {
        let is_failed = |name: &str| {
            let name = format!("{}: ", clean(name));
            self.failures.iter().any(|failure| failure.starts_with(&name))
        };
        let all = self.sources.iter();
        all.filter(move |name| !self.is_told(name) && !is_failed(name))
    }

    /// Of a node as a whole lines of its units are told, each under a name of its own.
    fn is_told(&self, name: &str) -> bool {
        let is_of = |place: &str| {
            place.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        self.places.keys().any(|place| is_of(place))
    }

    fn line(&self, source: u32, line: &v1::LogLine) -> Result<String, Failure> {
        match self.format {
            Format::Json | Format::Yaml => {
                streamed(&LineView::new(self.name(source), line), self.format)
            }
            Format::Table | Format::Wide => {
                let width = self.sources.iter().map(|name| name.chars().count()).max();
                let width = width.unwrap_or_default().min(NAME_MAX);
                let name = format!("{:<width$}", clean(self.name(source)));
                Ok(text(&name, source, line, self.format == Format::Wide, &self.look))
            }
        }
    }

    fn end(mut self, args: &LogsArgs) -> Result<(), Failure> {
        if let Out::File(file) = &mut self.out {
            file.flush()?;
            let path = args.output_file.as_deref().unwrap_or(std::path::Path::new("")).display();
            say(&format!("{} in {path}", counted(self.lines, "line is", "lines are")));
        }
        for quiet in self.quiet().filter(|_| !self.is_none_wanted) {
            say(&format!("{}: no lines", clean(quiet)));
        }
        if self.failures.is_empty() {
            return Ok(());
        }
        let failure = Failure::failed("not every log could be read");
        Err(self.failures.into_iter().fold(failure, Failure::cause))
    }
}

/// One line, or several with the same beginning: `2026-11-23T18:00:00.250Z zone-a/web  message`.
fn text(name: &str, source: u32, line: &v1::LogLine, wide: bool, look: &Look) -> String {
    let at = line.at.as_ref().map(precise_moment).unwrap_or_default();
    let name = match COLOURS.get(source as usize % COLOURS.len()) {
        Some(code) if look.colour => format!("\u{1b}[{code}m{name}\u{1b}[0m"),
        Some(_) | None => name.to_owned(),
    };
    let more = if wide {
        format!("{:<7}  {}  ", words::log_level(line.level), clean(&line.from))
    } else {
        String::new()
    };
    let tone = match line.level {
        0..=3 => Tone::Bad,
        4 => Tone::Warning,
        _ => Tone::Plain,
    };
    let message = without_colours(&line.message).replace('\t', "    ");
    let cut = if line.cut { " …" } else { "" };
    let mut shown = String::new();
    for part in message.split('\n') {
        let part = look.paint(tone, &clean(part.trim_end_matches('\r')));
        shown += &format!("{at} {name}  {more}{part}");
        shown.truncate(shown.trim_end().len());
        shown.push('\n');
    }
    shown.truncate(shown.len() - 1);
    format!("{shown}{cut}\n")
}

/// Many programs colour what they print, terminal or not. All else that is not text is shown as what it is.
fn without_colours(message: &str) -> String {
    let mut parts = message.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.find(|c: char| !c.is_ascii_digit() && c != ';') {
            Some(end) if part[end..].starts_with('m') => plain += &part[end + 1..],
            Some(_) | None => plain.extend(["\u{1b}[", part]),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: u32, message: &str) -> v1::LogLine {
        let at = Some(Timestamp { seconds: 0, nanos: 250_000_000 });
        v1::LogLine { at, level, message: message.to_owned(), ..Default::default() }
    }

    fn check(line: &v1::LogLine, colour: bool, expected: &str) {
        let look = Look { width: None, colour, now: Timestamp::default() };
        assert_eq!(text("a/web ", 1, line, false, &look), expected);
    }

    #[test]
    fn a_line_is_shown_with_its_time_and_its_source() {
        check(&line(6, "hi"), false, "1970-01-01T00:00:00.250Z a/web   hi\n");
        let expected = "1970-01-01T00:00:00.250Z a/web   a\n1970-01-01T00:00:00.250Z a/web     b\n";
        check(&line(6, "a\n\u{20}\u{20}b"), false, expected);
        let cut = v1::LogLine { cut: true, ..line(6, "long") };
        check(&cut, false, "1970-01-01T00:00:00.250Z a/web   long …\n");
        let painted =
            "1970-01-01T00:00:00.250Z \u{1b}[35ma/web \u{1b}[0m  \u{1b}[31mbad\u{1b}[0m\n";
        check(&line(3, "bad"), true, painted);
    }

    #[test]
    fn what_a_program_prints_cannot_command_the_terminal() {
        let message = "\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}\u{1b}[2J\tend";
        check(
            &line(6, message),
            false,
            "1970-01-01T00:00:00.250Z a/web   red \\u{1b}]0;title\\u{7}\\u{1b}[2J    end\n",
        );
    }

    #[test]
    fn no_lines_are_none_and_a_node_is_told_by_its_units() {
        let with = |words: &[&str]| {
            use clap::Parser as _;
            #[derive(clap::Parser)]
            struct Only {
                #[command(flatten)]
                args: LogsArgs,
            }
            Only::parse_from([&["logs"][..], words].concat()).args
        };
        let begun = Timestamp { seconds: 7, nanos: 0 };
        let asked = |words: &[&str]| {
            let filter = request(&with(words), begun, &BTreeMap::new()).filter.unwrap_or_default();
            (filter.lines, filter.since)
        };
        assert_eq!(asked(&["a", "-f", "-n", "0"]), (0, Some(begun)));
        assert_eq!(asked(&["a", "-n", "0"]), (1, None));
        assert_eq!(asked(&["a", "-n", "5"]), (5, None));
        assert_eq!(asked(&["a"]), (LINES, None));
        let mut shown = Shown::new(Format::Table, Out::Stdout);
        shown.sources = ["a", "a:x.service", "b", "ab"].map(str::to_owned).into();
        shown.note(1, &line(6, "hi"));
        assert_eq!(shown.quiet().collect::<Vec<_>>(), ["b", "ab"]);
    }

    #[test]
    fn levels_have_the_names_of_syslog() {
        for level in Level::value_variants() {
            let name = level.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(Some(words::log_level(level.number())), name);
        }
        assert_eq!(words::log_level(9), "9");
        assert_eq!(Level::from_str("warn", true).map(Level::number), Ok(4));
    }
}
