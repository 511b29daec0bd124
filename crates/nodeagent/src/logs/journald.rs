//! A unit's log, and that of a container that Podman writes into the journal, by `journalctl`: the journal's files have formats of their own, which its own program knows.

use std::{
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use piccolo_core::logs::{
    ERRORS, FROM_BYTES_MAX, LogLine, OUTPUT, Query,
    place::{Place, Resume},
};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
};

use super::stream::Item;

const PROGRAM: &str = "journalctl";
/// Bytes of one entry as it is printed. A longer one is left out, and counted.
const ENTRY_BYTES_MAX: usize = 64 * 1024;
const FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER";
/// What says whose an entry is: of systemd about a unit, and of the unit itself.
const OWNERS: [&str; 4] = ["UNIT", "_SYSTEMD_UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT"];
/// Important lines of before that are of interest.
const NEWEST_MAX: usize = 100;
/// Between two looks for who follows.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Bytes of what it says of its own failure.
const COMPLAINT_BYTES_MAX: u64 = 1024;
/// For it to end once it has closed its output.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// What of the journal is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    Unit(&'a str),
    /// By its name, where Podman writes into the journal.
    Container(&'a str),
}

/// Sends the lines until there are no more; who follows asks again and again from where it was. Within the walls of our
/// unit `journalctl --follow` prints nothing, and one that is done holds no memory while nothing is logged.
pub(super) async fn read(
    of: Of<'_>,
    query: &Query,
    lines: &mpsc::Sender<Item>,
) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
    let started = query.after.map_or(started, |place| place.at_ns);
    let mut query = query.clone();
    // the place of the query is the stream's business: it alone knows which lines were wanted
    let (mut place, mut resume) = (None::<Place>, Resume::after(None));
    loop {
        read_once(of, &query, &mut resume, &mut place, lines).await?;
        if !query.follow {
            return Ok(());
        }
        // where nothing was there, what came since is new
        let place = *place.get_or_insert(Place { at_ns: started, lines: 0 });
        (query.after, resume) = (Some(place), Resume::after(Some(place)));
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// What is there now, after the place where the query begins. Dropping it ends the child.
async fn read_once(
    of: Of<'_>,
    query: &Query,
    resume: &mut Resume,
    place: &mut Option<Place>,
    lines: &mpsc::Sender<Item>,
) -> Result<(), String> {
    let (child, output) = start(&arguments(of, query))?;
    let mut is_new = |at_ns| {
        let new = resume.is_new(at_ns);
        if new {
            place.get_or_insert_default().note(at_ns);
        }
        new
    };
    pass_on(output, of, &mut is_new, lines).await?;
    ended(child).await
}

/// Dropping the child ends it.
fn start(arguments: &[String]) -> Result<(Child, BufReader<ChildStdout>), String> {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{PROGRAM} cannot be started on this node: {error}"))?;
    let output = child.stdout.take().ok_or("the output of journalctl cannot be read")?;
    Ok((child, BufReader::new(output)))
}

/// Waits for the end of one that has said everything.
async fn ended(mut child: Child) -> Result<(), String> {
    let complaints = child.stderr.take();
    let mut complaint = Vec::new();
    if let Some(complaints) = complaints {
        let mut some = complaints.take(COMPLAINT_BYTES_MAX);
        let _ = tokio::time::timeout(ENDS_WITHIN, some.read_to_end(&mut complaint)).await;
    }
    match tokio::time::timeout(ENDS_WITHIN, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => {
            let complaint = String::from_utf8_lossy(&complaint);
            let first = complaint.lines().next().unwrap_or_default();
            Err(format!("{PROGRAM} ended with {status}: {first}"))
        }
        Ok(Err(error)) => Err(format!("{PROGRAM} cannot be waited for: {error}")),
        Err(_) => Err(format!("{PROGRAM} does not end")),
    }
}

/// From where important lines are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Since {
    /// The newest: nothing is known of before.
    Newest,
    /// Nothing was there until then, since 1970.
    Time(Duration),
    /// As journald writes a place.
    Cursor(String),
}

/// Gives what units have said that is so severe, with the unit, as long as `take` goes on; `None` is a line that was
/// too long to be read. Says how far it has come, where anything was there.
pub(super) async fn important(
    units: &[String],
    level: u8,
    since: &Since,
    take: &mut (dyn FnMut(&str, Option<LogLine>) -> bool + Send),
) -> Result<Option<String>, String> {
    let (child, mut output) = start(&important_arguments(units, level, since))?;
    let (mut entry, mut cursor) = (Vec::new(), None);
    loop {
        match next(&mut output, &mut entry).await {
            Ok(Next::Entry) => {
                let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(&entry) else {
                    continue;
                };
                cursor = fields.get("__CURSOR").and_then(text).or(cursor);
                if let (Some(unit), Some(line)) = (unit_of(&fields, units), of_unit(&fields))
                    && !take(unit, Some(line))
                {
                    return Ok(cursor);
                }
            }
            Ok(Next::TooLong) => {
                // of whom nobody knows
                take("", None);
            }
            Ok(Next::End) => break,
            Err(error) => return Err(format!("the output of {PROGRAM} cannot be read: {error}")),
        }
    }
    ended(child).await.map(|()| cursor)
}

fn important_arguments(units: &[String], level: u8, since: &Since) -> Vec<String> {
    let fields = format!("{FIELDS},{}", OWNERS.join(","));
    let mut arguments: Vec<String> =
        ["--no-pager", "--quiet", "--all", "--output=json", &fields].map(Into::into).into();
    arguments.extend(units.iter().map(|unit| format!("--unit={unit}")));
    arguments.push(format!("--priority={level}"));
    arguments.extend(match since {
        Since::Newest => vec![format!("--lines={NEWEST_MAX}")],
        Since::Time(at) => vec![
            format!("--since=@{}.{:06}", at.as_secs(), at.subsec_micros()),
            "--no-tail".to_owned(),
        ],
        Since::Cursor(cursor) => {
            vec![format!("--after-cursor={cursor}"), "--no-tail".to_owned()]
        }
    });
    arguments
}

/// Which of the units an entry is of, or about.
fn unit_of<'a>(fields: &Map<String, Value>, units: &'a [String]) -> Option<&'a str> {
    let named = OWNERS.iter().filter_map(|owner| fields.get(*owner).and_then(text));
    let mut known = named.filter_map(|name| units.iter().find(|unit| **unit == name));
    known.next().map(String::as_str)
}

fn of_unit(fields: &Map<String, Value>) -> Option<LogLine> {
    line_of(Of::Unit(""), fields)
}

fn arguments(of: Of<'_>, query: &Query) -> Vec<String> {
    let filter = &query.filter;
    let seconds = |ns: i64| format!("@{}.{:06}", ns.div_euclid(NANOS), ns.rem_euclid(NANOS) / 1000);
    let mut arguments: Vec<String> =
        ["--no-pager", "--quiet", "--all", "--output=json", FIELDS].map(Into::into).into();
    arguments.push(match of {
        Of::Unit(unit) => format!("--unit={unit}"),
        Of::Container(name) => format!("CONTAINER_NAME={name}"),
    });
    if let Some(since) = query.after.map(|place| place.at_ns).or(filter.since_ns) {
        arguments.push(format!("--since={}", seconds(since)));
    }
    if let Some(until) = filter.until_ns {
        arguments.push(format!("--until={}", seconds(until)));
    }
    if let Some(level) = filter.level {
        arguments.push(format!("--priority={level}"));
    }
    if query.after.is_none() && filter.lines > 0 {
        arguments.push(format!("--lines={}", filter.lines));
    } else {
        arguments.push("--no-tail".into());
    }
    arguments
}

const NANOS: i64 = 1_000_000_000;

async fn pass_on(
    mut output: impl AsyncBufRead + Unpin,
    of: Of<'_>,
    is_new: &mut (dyn FnMut(i64) -> bool + Send),
    lines: &mpsc::Sender<Item>,
) -> Result<(), String> {
    let mut entry = Vec::new();
    loop {
        let item = match next(&mut output, &mut entry).await {
            Ok(Next::Entry) => match line(of, &entry) {
                Some(line) if is_new(line.at_ns) => Item::Line(line),
                Some(_) | None => continue,
            },
            Ok(Next::TooLong) => Item::Dropped,
            Ok(Next::End) => return Ok(()),
            Err(error) => return Err(format!("the output of {PROGRAM} cannot be read: {error}")),
        };
        if lines.send(item).await.is_err() {
            return Ok(());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Entry,
    TooLong,
    End,
}

/// The next line of output, never more of it in memory than is kept.
async fn next(
    output: &mut (impl AsyncBufRead + Unpin),
    entry: &mut Vec<u8>,
) -> std::io::Result<Next> {
    entry.clear();
    let mut too_long = false;
    loop {
        let available = output.fill_buf().await?;
        if available.is_empty() {
            return Ok(Next::End);
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        too_long |= entry.len() + part.len() > ENTRY_BYTES_MAX;
        if !too_long {
            entry.extend_from_slice(part);
        }
        let taken = part.len() + usize::from(end.is_some());
        output.consume(taken);
        if end.is_some() {
            return Ok(if too_long { Next::TooLong } else { Next::Entry });
        }
    }
}

/// An entry without a time or a message is none.
fn line(of: Of<'_>, entry: &[u8]) -> Option<LogLine> {
    line_of(of, &serde_json::from_slice(entry).ok()?)
}

fn line_of(of: Of<'_>, fields: &Map<String, Value>) -> Option<LogLine> {
    let micros: i64 = text(fields.get("__REALTIME_TIMESTAMP")?)?.parse().ok()?;
    let message = text(fields.get("MESSAGE")?)?;
    let level = fields.get("PRIORITY").and_then(text).and_then(|level| level.parse().ok());
    let level = level.unwrap_or(OUTPUT);
    let from = match of {
        Of::Unit(_) => fields.get("SYSLOG_IDENTIFIER").and_then(text).unwrap_or_default(),
        Of::Container(_) if level <= ERRORS => "stderr".to_owned(),
        Of::Container(_) => "stdout".to_owned(),
    };
    let from: String = from.chars().filter(|c| !c.is_control()).take(FROM_BYTES_MAX).collect();
    Some(LogLine::new(micros.checked_mul(1000)?, level, &from, message.trim_end()))
}

/// As journald prints a field: text, bytes that are none, or several of them.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) if parts.first().is_some_and(Value::is_number) => {
            let byte = |part: &Value| u8::try_from(part.as_u64()?).ok();
            let bytes: Option<Vec<u8>> = parts.iter().map(byte).collect();
            Some(String::from_utf8_lossy(&bytes?).into_owned())
        }
        Value::Array(parts) => text(parts.first()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use piccolo_core::logs::{Filter, Source};

    use super::*;

    #[test]
    fn an_entry_is_read_as_journald_prints_it() {
        let at = r#""__REALTIME_TIMESTAMP":"1795457120902193""#;
        for (rest, expected) in [
            (r#","MESSAGE":"hi","PRIORITY":"4","SYSLOG_IDENTIFIER":"web""#, Some((4, "web", "hi"))),
            (r#","MESSAGE":"hi""#, Some((6, "", "hi"))),
            (r#","MESSAGE":[104,105,255]"#, Some((6, "", "hi\u{fffd}"))),
            (r#","MESSAGE":["one","two"],"PRIORITY":"99""#, Some((7, "", "one"))),
            (r#","MESSAGE":"a\nb\n""#, Some((6, "", "a\nb"))),
            (r#","MESSAGE":null"#, None),
            ("", None),
        ] {
            let found = line(Of::Unit("a"), format!("{{{at}{rest}}}").as_bytes());
            let found = found.as_ref().map(|l| (l.level, l.from.as_str(), l.message.as_str()));
            assert_eq!(found, expected, "{rest}");
        }
        assert_eq!(line(Of::Unit("a"), b"-- No entries --"), None);
        let complaint =
            format!(r#"{{{at},"MESSAGE":"hi","PRIORITY":"3","SYSLOG_IDENTIFIER":"ab"}}"#);
        let of_container = line(Of::Container("web"), complaint.as_bytes()).unwrap();
        assert_eq!((of_container.level, of_container.from.as_str()), (3, "stderr"));
        assert_eq!(
            line(Of::Unit("a"), br#"{"__REALTIME_TIMESTAMP":"9223372036854775807","MESSAGE":""}"#),
            None
        );
    }

    #[test]
    fn what_is_asked_is_in_the_arguments() {
        let asked = |query: &Query| arguments(Of::Unit("a.service"), query).split_off(5).join(" ");
        let filter = Filter { lines: 9, level: Some(4), ..Filter::default() };
        let query = Query { source: Source::Agent, filter, follow: false, after: None };
        assert_eq!(asked(&query), "--unit=a.service --priority=4 --lines=9");
        let filter =
            Filter { since_ns: Some(-1), until_ns: Some(1_000_001_000), ..Filter::default() };
        let query = Query { filter, follow: true, ..query };
        let expected = "--unit=a.service --since=@-1.999999 --until=@1.000001 --no-tail";
        assert_eq!(asked(&query), expected);
        let after = Some(Place { at_ns: 7_000_000_000, lines: 1 });
        let query = Query { after, ..query };
        assert!(asked(&query).contains("--since=@7.000000"), "{}", asked(&query));
    }

    #[test]
    fn important_lines_are_asked_for_from_where_they_were_read_to() {
        let units = ["a.service", "b.service"].map(str::to_owned);
        let asked = |since| important_arguments(&units, 4, &since).split_off(5).join(" ");
        let of = "--unit=a.service --unit=b.service --priority=4";
        assert_eq!(asked(Since::Newest), format!("{of} --lines=100"));
        let time = Since::Time(Duration::from_micros(7_000_009));
        assert_eq!(asked(time), format!("{of} --since=@7.000009 --no-tail"));
        let cursor = Since::Cursor("s=1;i=2".to_owned());
        assert_eq!(asked(cursor), format!("{of} --after-cursor=s=1;i=2 --no-tail"));
    }

    #[test]
    fn an_entry_is_of_the_unit_that_it_is_about() {
        let units = ["a.service", "b.service"].map(str::to_owned);
        for (fields, unit) in [
            (r#"{"_SYSTEMD_UNIT":"b.service"}"#, Some("b.service")),
            (r#"{"_SYSTEMD_UNIT":"init.scope","UNIT":"a.service"}"#, Some("a.service")),
            (
                r#"{"_SYSTEMD_UNIT":"c.service","OBJECT_SYSTEMD_UNIT":"b.service"}"#,
                Some("b.service"),
            ),
            (r#"{"_SYSTEMD_UNIT":"c.service"}"#, None),
            (r#"{"UNIT":7}"#, None),
        ] {
            assert_eq!(unit_of(&serde_json::from_str(fields).unwrap(), &units), unit, "{fields}");
        }
    }

    #[test]
    fn an_entry_without_end_is_left_out_and_the_next_is_read() {
        let text = format!("one\n{}\ntwo\n", "x".repeat(ENTRY_BYTES_MAX + 1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut output = BufReader::with_capacity(7, text.as_bytes());
            let mut entry = Vec::new();
            for (expected, kept) in
                [(Next::Entry, "one"), (Next::TooLong, ""), (Next::Entry, "two"), (Next::End, "")]
            {
                let found = next(&mut output, &mut entry).await.unwrap();
                assert_eq!(found, expected);
                if found == Next::Entry {
                    assert_eq!(entry, kept.as_bytes());
                }
                assert!(entry.capacity() <= 2 * ENTRY_BYTES_MAX);
            }
        });
    }
}
