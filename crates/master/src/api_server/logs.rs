//! Reading logs (HLD §11.2): one task for each reader, which opens a stream for each source, puts their lines in order,
//! and goes on when a node is back.
//!
//! What its reader does not take is not asked for, so a reader that is slow holds up its own sources and nobody else.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use piccolo_core::{
    api_server::{Call, Caller, Refusal, Selector},
    logs::{
        Chunk, End, Filter, LogLine, Query, Source,
        merge::Merger,
        place::Place,
        target::{Known, Target, resolve},
    },
    model::{FieldError, check_text},
    state_manager::Request,
};
use piccolo_rpc::{
    convert::{log_filter, log_places},
    status,
    tls::acceptor::peer_of,
    v1::{self, read_logs_response::Item},
};
use tokio::time::{Instant, sleep_until};
use tonic::{Request as Asked, Response, Status};

use super::{
    Answered, Api, Streamed,
    caller::DEADLINE,
    kept::read_kept,
    watches::{Over, Watcher},
};
use crate::logs::{Arrival, Arrivals, LogStreams, Opened, Opening, arrivals};

/// Bytes of the name of a target or a unit.
const NAME_BYTES_MAX: usize = 512;
/// Targets of one call.
const TARGETS_MAX: usize = 64;
/// Lines of one answer, and about how many bytes.
pub(super) const ANSWER_LINES_MAX: usize = 256;
pub(super) const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// Between two looks for the session of a node that is away.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn read_logs(
    api: &Api,
    request: Asked<v1::ReadLogsRequest>,
) -> Answered<Streamed<v1::ReadLogsResponse>> {
    let by = api.admit_read(&request, Call::ReadLogs).await?;
    let connection = peer_of(&request).map(|peer| peer.connection);
    let wire = request.into_inner();
    if wire.kept {
        return read_kept(api, by, connection, wire).await;
    }
    let mut wanted = match Wanted::of(wire, api) {
        Ok(wanted) => wanted,
        Err(refusal) => return Err(api.refuse(by, Call::ReadLogs, refusal).await),
    };
    // who asks for all of them means all that their role may read
    if wanted.all && by.check(Call::ReadContainerLogs).is_err() {
        wanted.leave_out_containers();
    }
    let beyond: Vec<_> = wanted.targets.iter().filter(|t| t.source != Source::Agent).collect();
    if !beyond.is_empty() {
        let names: Vec<_> = beyond.iter().map(|target| target.name.as_str()).collect();
        let (call, target) = (Call::ReadContainerLogs, names.join(" "));
        api.ask(by.clone(), call, Request::Allow { call, target }, DEADLINE).await?;
    }
    let (watcher, stream) = Watcher::new(api, &by, connection)?;
    let left_out = wanted.left_out;
    let mut reader = Reader::open(api, &by, wanted)?;
    if left_out > 0 {
        let message =
            format!("{left_out} containers are not read: their logs take the role operator");
        reader.notice(0, "LeftOut", message);
    }
    tokio::spawn(watcher.follow(move |watcher| Box::pin(reader.run(watcher))));
    Ok(Response::new(stream))
}

pub(super) fn check_names(targets: &[String], unit: &str) -> Result<(), FieldError> {
    check_text("unit", unit, NAME_BYTES_MAX)?;
    if targets.len() > TARGETS_MAX {
        let problem = format!("has more than {TARGETS_MAX} entries");
        return Err(FieldError::new("targets", problem));
    }
    targets.iter().try_for_each(|text| check_text("targets", text, NAME_BYTES_MAX))
}

/// What a call asks for.
struct Wanted {
    targets: Vec<Target>,
    /// The agents of all nodes, and all containers.
    all: bool,
    /// Containers that are not read after all.
    left_out: usize,
    filter: Filter,
    follow: bool,
    after: BTreeMap<String, Place>,
}

impl Wanted {
    fn of(wire: v1::ReadLogsRequest, api: &Api) -> Result<Self, Refusal> {
        let v1::ReadLogsRequest { targets, all, unit, filter, follow, after, kept: _ } = wire;
        check_names(&targets, &unit)?;
        let (nodes, _) = api.board.nodes(&Selector::default());
        let known = nodes.iter().map(|view| Known {
            id: &view.record.id,
            name: view.record.name.as_str(),
            containers: view.containers.iter().map(|c| c.name.as_str()).collect(),
        });
        let known: Vec<_> = known.collect();
        Ok(Self {
            targets: resolve(&targets, all, &unit, &known)?,
            all: all && unit.is_empty(),
            left_out: 0,
            filter: log_filter(filter)?,
            follow,
            after: log_places(after)?,
        })
    }

    fn leave_out_containers(&mut self) {
        let all = self.targets.len();
        self.targets.retain(|target| target.source == Source::Agent);
        self.left_out = all - self.targets.len();
    }
}

/// One reader.
struct Reader {
    api: Api,
    who: String,
    filter: Filter,
    follow: bool,
    sources: Vec<Read>,
    merger: Merger,
    arrivals: Arrivals,
    arriving: tokio::sync::mpsc::Receiver<(usize, Arrival)>,
    /// What the reader has to know besides lines.
    notices: VecDeque<v1::LogNotice>,
    started: Instant,
}

/// One of its sources.
struct Read {
    target: Target,
    stream: Option<Opened>,
    /// Lines of each chunk that is here; the last of one allows another.
    chunks: VecDeque<usize>,
    place: Option<Place>,
    /// Its node is away, and is waited for.
    away: bool,
}

impl Reader {
    /// Opens every source. A single one that cannot be read is an error; of several the reader is told.
    fn open(api: &Api, by: &Caller, wanted: Wanted) -> Result<Self, Status> {
        let (sender, arriving) = arrivals(wanted.targets.len());
        let started = Instant::now();
        let mut after = wanted.after;
        let read = |target: Target| Read {
            place: after.remove(&target.name),
            target,
            stream: None,
            chunks: VecDeque::new(),
            away: false,
        };
        let sources: Vec<_> = wanted.targets.into_iter().map(read).collect();
        let mut reader = Self {
            api: api.clone(),
            who: by.who(),
            filter: wanted.filter,
            follow: wanted.follow,
            merger: Merger::new(sources.len(), wanted.follow, Default::default()),
            sources,
            arrivals: sender,
            arriving,
            notices: VecDeque::new(),
            started,
        };
        for source in 0..reader.sources.len() {
            if let Err(refusal) = reader.open_one(source) {
                if reader.sources.len() == 1 && reader.sources[source].place.is_none() {
                    return Err(status::status(&refusal));
                }
                reader.failed(source, &refusal);
            }
        }
        Ok(reader)
    }

    fn open_one(&mut self, source: usize) -> Result<(), Refusal> {
        let read = &mut self.sources[source];
        let query = Query {
            source: read.target.source.clone(),
            filter: self.filter.clone(),
            follow: self.follow,
            after: read.place,
        };
        let node = &read.target.node;
        let view = self.api.board.find(node.as_str());
        let name = view.as_ref().map_or(node.as_str(), |view| view.record.name.as_str());
        let (who, arrivals) = (self.who.as_str(), &self.arrivals);
        let opening = Opening { node, name, who, source, arrivals };
        read.stream = Some(LogStreams::open(&self.api.sessions, &opening, query)?);
        read.away = false;
        Ok(())
    }

    /// Of a node that is away more may come later; of others nothing will.
    fn failed(&mut self, source: usize, refusal: &Refusal) {
        self.merger.end(source);
        let away = refusal.reason == "NotConnected" && self.follow;
        self.sources[source].away = away;
        let reason = if away { "Lost" } else { "Failed" };
        self.notice(source, reason, refusal.message.clone());
    }

    fn notice(&mut self, source: usize, reason: &str, message: String) {
        let source = u32::try_from(source).unwrap_or(u32::MAX);
        let reason = reason.to_owned();
        self.notices.push_back(v1::LogNotice { source, reason, message, dropped: 0 });
    }

    async fn run(mut self, watcher: &mut Watcher<v1::ReadLogsResponse>) -> Result<(), Over> {
        let named = |read: &Read| v1::LogSource {
            name: read.target.name.clone(),
            node_id: read.target.node.to_string(),
        };
        let sources = self.sources.iter().map(named).collect();
        send(watcher, Item::Sources(v1::LogSources { sources })).await?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.tell(watcher).await?;
            if self.is_over() {
                return send(watcher, Item::Over(v1::LogsOver {})).await;
            }
            let due = self.merger.deadline().map(|at| self.started + micros(at.0));
            tokio::select! {
                biased;
                over = watcher.over() => return Err(over),
                Some((source, arrival)) = self.arriving.recv() => self.arrived(source, arrival),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = look.tick(), if self.sources.iter().any(|read| read.away) => self.look_again(),
            }
        }
    }

    /// Sends everything whose turn it is.
    async fn tell(&mut self, watcher: &mut Watcher<v1::ReadLogsResponse>) -> Result<(), Over> {
        loop {
            let lines = self.next_lines();
            if lines.is_empty() {
                break;
            }
            send(watcher, Item::Lines(v1::LogLines { lines })).await?;
            // what has come while this reader took its time may be older
            while let Ok((source, arrival)) = self.arriving.try_recv() {
                self.arrived(source, arrival);
            }
        }
        while let Some(notice) = self.notices.pop_front() {
            send(watcher, Item::Notice(notice)).await?;
        }
        Ok(())
    }

    fn next_lines(&mut self) -> Vec<v1::LogLineOf> {
        let now = self.now();
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.len() < ANSWER_LINES_MAX
            && bytes < ANSWER_BYTES_MAX
            && let Some((source, line)) = self.merger.next(now)
        {
            bytes += line.bytes();
            self.taken(source, &line);
            let source = u32::try_from(source).unwrap_or(u32::MAX);
            lines.push(v1::LogLineOf { source, line: Some(line.into()) });
        }
        lines
    }

    fn taken(&mut self, source: usize, line: &LogLine) {
        let read = &mut self.sources[source];
        read.place.get_or_insert_default().note(line.at_ns);
        if let Some(left) = read.chunks.front_mut() {
            *left -= 1;
        }
        read.allow();
    }

    fn arrived(&mut self, source: usize, arrival: Arrival) {
        let now = self.now();
        match arrival {
            Arrival::Chunk(Chunk { lines, dropped, end, .. }) => {
                self.sources[source].chunks.push_back(lines.len());
                self.merger.push(now, source, lines);
                if dropped > 0 {
                    self.notice(source, "Dropped", String::new());
                    if let Some(notice) = self.notices.back_mut() {
                        notice.dropped = dropped;
                    }
                }
                if let Some(End { problem }) = end {
                    self.merger.end(source);
                    self.sources[source].stream = None;
                    if let Some(problem) = problem {
                        self.notice(source, "Failed", problem);
                    }
                }
                self.sources[source].allow();
            }
            Arrival::Lost => {
                self.merger.end(source);
                let read = &mut self.sources[source];
                (read.stream, read.away) = (None, self.follow);
                let reason = if self.follow { "Lost" } else { "Failed" };
                self.notice(source, reason, "the connection to the node is lost".to_owned());
            }
        }
    }

    /// For nodes that are back. What is here of before is older than what comes, and is told first.
    fn look_again(&mut self) {
        for source in 0..self.sources.len() {
            if !self.sources[source].away || self.merger.waiting(source) > 0 {
                continue;
            }
            match self.open_one(source) {
                Ok(()) => {
                    self.sources[source].chunks.clear();
                    self.merger.reopen(self.now(), source);
                    self.notice(source, "Back", "the node is connected again".to_owned());
                }
                Err(refusal) if refusal.reason == "NotConnected" => {}
                Err(refusal) => self.failed(source, &refusal),
            }
        }
    }

    fn is_over(&self) -> bool {
        let done = |(source, read): (usize, &Read)| {
            read.stream.is_none() && !read.away && self.merger.waiting(source) == 0
        };
        self.sources.iter().enumerate().all(done)
    }

    fn now(&self) -> piccolo_core::time::Timestamp {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        piccolo_core::time::Timestamp(micros)
    }
}

impl Read {
    /// Chunks that were read whole make room for others.
    fn allow(&mut self) {
        while self.chunks.front() == Some(&0) {
            self.chunks.pop_front();
            if let Some(stream) = &self.stream {
                stream.allow_one();
            }
        }
    }
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

pub(super) async fn send(
    watcher: &mut Watcher<v1::ReadLogsResponse>,
    item: Item,
) -> Result<(), Over> {
    watcher.send(v1::ReadLogsResponse { item: Some(item) }).await
}
