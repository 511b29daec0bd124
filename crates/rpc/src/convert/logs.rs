//! Lines of logs, and who asks for which (HLD §11.2).

use std::collections::BTreeMap;

use piccolo_core::{
    logs::{
        CHUNK_LINES_MAX, Chunk, DEBUG, End, FROM_BYTES_MAX, Filter, LINE_BYTES_MAX, LogLine, Order,
        OrderKind, Query, SOURCES_MAX, Source,
        kept::{BATCH_LINES_MAX, KeptLine, UNIT_BYTES_MAX},
        place::Place,
    },
    model::{FieldError, check_text},
    session::TEXT_BYTES_MAX,
};
use prost_types::Timestamp;

use super::{non_empty, within};
use crate::v1;

const NANOS: i64 = 1_000_000_000;

/// A time with all of its digits, within the years that a number of 64 bits can count.
fn unix_ns(field: &str, wire: &Timestamp) -> Result<i64, FieldError> {
    let nanos = i64::from(wire.nanos);
    let ns = wire.seconds.checked_mul(NANOS).and_then(|ns| ns.checked_add(nanos));
    match ns {
        Some(ns) if (0..NANOS).contains(&nanos) => Ok(ns),
        Some(_) | None => Err(FieldError::new(field, "is no time of the years 1678 to 2262")),
    }
}

fn timestamp_ns(ns: i64) -> Timestamp {
    let nanos = i32::try_from(ns.rem_euclid(NANOS)).unwrap_or_default();
    Timestamp { seconds: ns.div_euclid(NANOS), nanos }
}

/// Which lines a reader wants.
///
/// # Errors
/// Names the field that is wrong.
pub fn log_filter(wire: Option<v1::LogFilter>) -> Result<Filter, FieldError> {
    let v1::LogFilter { since, until, lines, level, grep } = wire.unwrap_or_default();
    let time =
        |field: &str, wire: Option<Timestamp>| wire.map(|wire| unix_ns(field, &wire)).transpose();
    let filter = Filter {
        since_ns: time("filter.since", since)?,
        until_ns: time("filter.until", until)?,
        lines,
        level: level.map(|level| u8::try_from(level).unwrap_or(u8::MAX)),
        grep,
    };
    filter.check()?;
    Ok(filter)
}

/// How far an earlier call has come, by the name of the source.
///
/// # Errors
/// Names the field that is wrong.
pub fn log_places(wire: Vec<v1::LogPlaceOf>) -> Result<BTreeMap<String, Place>, FieldError> {
    if wire.len() > SOURCES_MAX {
        return Err(FieldError::new("after", format!("has more than {SOURCES_MAX} entries")));
    }
    let each = wire.into_iter().enumerate().map(|(i, v1::LogPlaceOf { source, place })| {
        check_text(format_args!("after[{i}].source"), &source, TEXT_BYTES_MAX)?;
        let place = place.unwrap_or_default().try_into().map_err(within(&format!("after[{i}]")))?;
        Ok((source, place))
    });
    each.collect()
}

impl From<Filter> for v1::LogFilter {
    fn from(Filter { since_ns, until_ns, lines, level, grep }: Filter) -> Self {
        Self {
            since: since_ns.map(timestamp_ns),
            until: until_ns.map(timestamp_ns),
            lines,
            level: level.map(u32::from),
            grep,
        }
    }
}

impl From<Place> for v1::LogPlace {
    fn from(Place { at_ns, lines }: Place) -> Self {
        Self { at: Some(timestamp_ns(at_ns)), lines }
    }
}

impl TryFrom<v1::LogPlace> for Place {
    type Error = FieldError;

    fn try_from(wire: v1::LogPlace) -> Result<Self, FieldError> {
        Ok(Self { at_ns: unix_ns("at", &wire.at.unwrap_or_default())?, lines: wire.lines })
    }
}

impl From<LogLine> for v1::LogLine {
    fn from(LogLine { at_ns, level, from, message, cut }: LogLine) -> Self {
        Self { at: Some(timestamp_ns(at_ns)), level: level.into(), from, message, cut }
    }
}

impl TryFrom<v1::LogLine> for LogLine {
    type Error = FieldError;

    fn try_from(wire: v1::LogLine) -> Result<Self, FieldError> {
        let v1::LogLine { at, level, from, message, cut } = wire;
        if message.len() > LINE_BYTES_MAX || from.len() > FROM_BYTES_MAX {
            return Err(FieldError::new("message", "is too long"));
        }
        let level = u8::try_from(level).ok().filter(|level| *level <= DEBUG);
        let level = level.ok_or_else(|| FieldError::new("level", "must be 0 to 7"))?;
        Ok(Self { at_ns: unix_ns("at", &at.unwrap_or_default())?, level, from, message, cut })
    }
}

impl From<Chunk> for v1::LogChunk {
    fn from(Chunk { id, lines, dropped, end }: Chunk) -> Self {
        let end = end.map(|End { problem }| v1::LogEnd { problem: problem.unwrap_or_default() });
        Self { id, lines: lines.into_iter().map(Into::into).collect(), dropped, end }
    }
}

impl TryFrom<v1::LogChunk> for Chunk {
    type Error = FieldError;

    fn try_from(wire: v1::LogChunk) -> Result<Self, FieldError> {
        let v1::LogChunk { id, lines, dropped, end } = wire;
        if lines.len() > CHUNK_LINES_MAX {
            return Err(FieldError::new("lines", format!("has more than {CHUNK_LINES_MAX}")));
        }
        let each = lines.into_iter().enumerate();
        let each = each.map(|(i, line)| line.try_into().map_err(within(&format!("lines[{i}]"))));
        let lines = each.collect::<Result<_, _>>()?;
        let end = match end {
            None => None,
            Some(v1::LogEnd { problem }) => {
                check_text("end.problem", &problem, TEXT_BYTES_MAX)?;
                Some(End { problem: non_empty(problem) })
            }
        };
        Ok(Self { id, lines, dropped, end })
    }
}

impl From<KeptLine> for v1::KeptLine {
    fn from(KeptLine { sequence, unit, line, dropped }: KeptLine) -> Self {
        Self { sequence, unit, line: Some(line.into()), dropped }
    }
}

impl TryFrom<v1::KeptLine> for KeptLine {
    type Error = FieldError;

    fn try_from(wire: v1::KeptLine) -> Result<Self, FieldError> {
        let v1::KeptLine { sequence, unit, line, dropped } = wire;
        check_text("unit", &unit, UNIT_BYTES_MAX)?;
        let line = line.unwrap_or_default().try_into().map_err(within("line"))?;
        Ok(Self { sequence, unit, line, dropped })
    }
}

/// One batch for the kept log.
///
/// # Errors
/// Names the field that is wrong, or says that it is too much.
pub fn kept_lines(wire: v1::KeptLines) -> Result<Vec<KeptLine>, FieldError> {
    if wire.lines.len() > BATCH_LINES_MAX {
        return Err(FieldError::new("lines", format!("has more than {BATCH_LINES_MAX}")));
    }
    let each = wire.lines.into_iter().enumerate();
    each.map(|(i, line)| line.try_into().map_err(within(&format!("lines[{i}]")))).collect()
}

impl From<Order> for v1::MasterMessage {
    fn from(order: Order) -> Self {
        Self { message: Some(v1::master_message::Message::Logs(order.into())) }
    }
}

impl From<Order> for v1::LogOrder {
    fn from(Order { id, what }: Order) -> Self {
        use v1::log_order::Order as Wire;
        let order = match what {
            OrderKind::Open(query, chunks) => Wire::Open(opened(*query, chunks)),
            OrderKind::More(chunks) => Wire::More(chunks),
            OrderKind::Close => Wire::Close(v1::LogClose {}),
        };
        Self { id, order: Some(order) }
    }
}

fn opened(Query { source, filter, follow, after }: Query, chunks: u32) -> v1::LogOpen {
    let (unit, container) = match source {
        Source::Agent => Default::default(),
        Source::Unit(unit) => (unit, String::new()),
        Source::Container(container) => (String::new(), container),
    };
    let (filter, after) = (Some(filter.into()), after.map(Into::into));
    v1::LogOpen { unit, container, filter, follow, after, chunks }
}

impl TryFrom<v1::LogOrder> for Order {
    type Error = FieldError;

    fn try_from(wire: v1::LogOrder) -> Result<Self, FieldError> {
        use v1::log_order::Order as Wire;
        let what = match wire.order.ok_or_else(|| FieldError::new("order", "must be set"))? {
            Wire::Open(open) => {
                let chunks = open.chunks;
                OrderKind::Open(Box::new(open.try_into().map_err(within("open"))?), chunks)
            }
            Wire::More(chunks) => OrderKind::More(chunks),
            Wire::Close(v1::LogClose {}) => OrderKind::Close,
        };
        Ok(Self { id: wire.id, what })
    }
}

impl TryFrom<v1::LogOpen> for Query {
    type Error = FieldError;

    fn try_from(wire: v1::LogOpen) -> Result<Self, FieldError> {
        check_text("unit", &wire.unit, TEXT_BYTES_MAX)?;
        check_text("container", &wire.container, TEXT_BYTES_MAX)?;
        let source = match (non_empty(wire.unit), non_empty(wire.container)) {
            (None, None) => Source::Agent,
            (Some(unit), None) => Source::Unit(unit),
            (None, Some(container)) => Source::Container(container),
            (Some(_), Some(_)) => return Err(FieldError::new("unit", "and a container are two")),
        };
        let after =
            wire.after.map(|place| place.try_into().map_err(within("after"))).transpose()?;
        Ok(Self { source, filter: log_filter(wire.filter)?, follow: wire.follow, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_orders_come_back_as_they_went() {
        let line = LogLine::new(-1, 3, "stderr", "a\tb\u{1b}[1m\nc");
        let chunk = Chunk {
            id: 7,
            lines: vec![line, LogLine::new(i64::MAX, 0, "", "")],
            dropped: 9,
            end: Some(End { problem: Some("gone".into()) }),
        };
        assert_eq!(Chunk::try_from(v1::LogChunk::from(chunk.clone())), Ok(chunk));
        for source in
            [Source::Agent, Source::Unit("a.service".into()), Source::Container("web".into())]
        {
            let filter =
                Filter { lines: 5, level: Some(0), since_ns: Some(-5), ..Filter::default() };
            let after = Some(Place { at_ns: 4, lines: 2 });
            let query = Query { source, filter, follow: true, after };
            let what = OrderKind::Open(Box::new(query), 4);
            let order = Order { id: 1, what };
            assert_eq!(Order::try_from(v1::LogOrder::from(order.clone())), Ok(order));
        }
    }

    #[test]
    fn a_chunk_that_is_too_much_is_refused() {
        let line = v1::LogLine { at: Some(Timestamp::default()), ..Default::default() };
        let chunk = |change: &dyn Fn(&mut v1::LogLine), count: usize| {
            let mut line = line.clone();
            change(&mut line);
            Chunk::try_from(v1::LogChunk { lines: vec![line; count], ..Default::default() })
        };
        assert!(chunk(&|_| {}, CHUNK_LINES_MAX).is_ok());
        let refused = |result: Result<Chunk, FieldError>| result.unwrap_err().field;
        assert_eq!(refused(chunk(&|_| {}, CHUNK_LINES_MAX + 1)), "lines");
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        assert_eq!(refused(chunk(&|line| line.message.clone_from(&long), 1)), "lines[0].message");
        assert_eq!(refused(chunk(&|line| line.level = 8, 1)), "lines[0].level");
        let far = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
        assert_eq!(refused(chunk(&|line| line.at = far, 1)), "lines[0].at");
    }
}
