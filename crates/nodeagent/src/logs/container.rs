//! A container's log, by Podman.

use piccolo_core::logs::{ERRORS, LogLine, OUTPUT, Query};
use tokio::sync::mpsc;

use super::{
    journald::{self, Of},
    stream::{Item, LINES_WAITING_MAX},
};
use crate::podman::{Client, Error, LogOptions, Written};

/// Sends its lines until there are no more.
pub(super) async fn read(
    podman: &Client,
    container: &str,
    query: &Query,
    lines: &mpsc::Sender<Item>,
) -> Result<(), String> {
    let options = options(query);
    let (sender, mut written) = mpsc::channel(LINES_WAITING_MAX);
    let pass_on = async {
        while let Some(Written { at_unix_ns, to_stderr, text }) = written.recv().await {
            let (level, from) = if to_stderr { (ERRORS, "stderr") } else { (OUTPUT, "stdout") };
            let line = LogLine::new(at_unix_ns, level, from, &text);
            if lines.send(Item::Line(line)).await.is_err() {
                return;
            }
        }
    };
    let read = async move { podman.logs(container, &options, &sender).await };
    let (read, ()) = tokio::join!(read, pass_on);
    match read {
        Ok(()) => Ok(()),
        // Podman cannot follow its own lines in the journal where its events are not there too
        Err(Error::Status { status: 500, message }) if message.contains("journald") => {
            journald::read(Of::Container(container), query, lines).await
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whole seconds: what is too much, the filter of the stream leaves out.
fn options(query: &Query) -> LogOptions {
    let seconds = |ns: i64| ns.div_euclid(1_000_000_000);
    let filter = &query.filter;
    LogOptions {
        follow: query.follow,
        since: query.after.map(|place| place.at_ns).or(filter.since_ns).map(seconds),
        until: filter.until_ns.map(|ns| seconds(ns).saturating_add(1)),
        tail: Some(filter.lines).filter(|lines| *lines > 0 && query.after.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use piccolo_core::logs::{Filter, Source, place::Place};

    use super::*;

    #[test]
    fn who_goes_on_asks_for_all_since_the_place() {
        let filter = Filter { since_ns: Some(5_000_000_000), lines: 7, ..Filter::default() };
        let query =
            Query { source: Source::Container("web".into()), filter, follow: true, after: None };
        let first = LogOptions { follow: true, since: Some(5), until: None, tail: Some(7) };
        assert_eq!(options(&query), first);
        let after = Some(Place { at_ns: 9_900_000_000, lines: 3 });
        let again = LogOptions { since: Some(9), tail: None, ..first };
        assert_eq!(options(&Query { after, ..query }), again);
    }
}
