//! Reading the kept log (HLD §11.2): a bounded answer, in the shape in which logs are read.

use std::collections::BTreeMap;

use piccolo_core::{
    api_server::{Call, Caller, Code, Refusal, Selector},
    logs::{
        Filter, LogLine,
        kept::{Found, Target, targets},
        target::Known,
    },
    state_manager::Request,
};
use piccolo_rpc::{
    convert::log_filter,
    status,
    v1::{self, read_logs_response::Item},
};
use tonic::Response;

use super::{
    Answered, Api, Streamed,
    caller::DEADLINE,
    logs::{ANSWER_BYTES_MAX, ANSWER_LINES_MAX, check_names, send},
    watches::{Over, Watcher},
};

pub(super) async fn read_kept(
    api: &Api,
    by: Caller,
    connection: Option<u64>,
    wire: v1::ReadLogsRequest,
) -> Answered<Streamed<v1::ReadLogsResponse>> {
    let (targets, filter) = match wanted(api, wire) {
        Ok(wanted) => wanted,
        Err(refusal) => return Err(api.refuse(by, Call::ReadLogs, refusal).await),
    };
    let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
    let (call, target) = (Call::ReadContainerLogs, names.join(" "));
    api.ask(by.clone(), call, Request::Allow { call, target }, DEADLINE).await?;
    let (watcher, stream) = Watcher::new(api, &by, connection)?;
    tokio::spawn(watcher.follow(move |watcher| Box::pin(answer(watcher, targets, filter))));
    Ok(Response::new(stream))
}

fn wanted(api: &Api, wire: v1::ReadLogsRequest) -> Result<(Vec<Target>, Filter), Refusal> {
    let v1::ReadLogsRequest { targets: texts, all, unit, filter, follow, after, kept: _ } = wire;
    check_names(&texts, &unit)?;
    if follow || !after.is_empty() {
        let message = "what is kept cannot be followed";
        return Err(Refusal::new(Code::InvalidArgument, "InvalidField", message));
    }
    let (nodes, _) = api.board.nodes(&Selector::default());
    let known = nodes.iter().map(|view| Known {
        id: &view.record.id,
        name: view.record.name.as_str(),
        containers: Vec::new(),
    });
    let known: Vec<_> = known.collect();
    let targets = targets(&texts, all, &unit, &known, &api.sessions.kept.nodes())?;
    Ok((targets, log_filter(filter)?))
}

async fn answer(
    watcher: &mut Watcher<v1::ReadLogsResponse>,
    targets: Vec<Target>,
    filter: Filter,
) -> Result<(), Over> {
    let kept = std::sync::Arc::clone(&watcher.api.sessions.kept);
    let found = kept.read(targets, filter).await;
    let found = found.map_err(|refusal| Over::Failed(status::status(&refusal)))?;
    let mut told = Told::default();
    found.into_iter().for_each(|(target, found)| told.take(&target, found));
    send(watcher, Item::Sources(v1::LogSources { sources: told.sources })).await?;
    for notice in told.notices {
        send(watcher, Item::Notice(notice)).await?;
    }
    told.lines.sort_by_key(|(_, line)| line.at_ns);
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for (source, line) in told.lines {
        bytes += line.bytes();
        lines.push(v1::LogLineOf { source, line: Some(line.into()) });
        if lines.len() >= ANSWER_LINES_MAX || bytes >= ANSWER_BYTES_MAX {
            send(watcher, Item::Lines(v1::LogLines { lines: std::mem::take(&mut lines) })).await?;
            bytes = 0;
        }
    }
    if !lines.is_empty() {
        send(watcher, Item::Lines(v1::LogLines { lines })).await?;
    }
    send(watcher, Item::Over(v1::LogsOver {})).await
}

/// What is to be told: each unit of a node is a source.
#[derive(Default)]
struct Told {
    sources: Vec<v1::LogSource>,
    numbers: BTreeMap<String, u32>,
    lines: Vec<(u32, LogLine)>,
    notices: Vec<v1::LogNotice>,
}

impl Told {
    fn take(&mut self, target: &Target, found: Found) {
        let Found { lines, missing, more } = found;
        for kept in lines {
            let source = self.source(target, format!("{}:{}", target.name, kept.unit));
            self.lines.push((source, kept.line));
        }
        if missing > 0 {
            let message = format!(
                "{missing} lines of that time are not there: they came too fast, or the node was away for too long"
            );
            self.notice(target, "NotKept", message, missing);
        }
        if more {
            let message = "there are older lines too; `until` or a narrower choice shows them";
            self.notice(target, "Bounded", message.to_owned(), 0);
        }
    }

    fn source(&mut self, target: &Target, name: String) -> u32 {
        let next = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(name.clone()).or_insert(next);
        if number == next {
            let node_id = target.node.to_string();
            self.sources.push(v1::LogSource { name, node_id });
        }
        number
    }

    fn notice(&mut self, target: &Target, reason: &str, message: String, dropped: u64) {
        let source = self.source(target, target.name.clone());
        let reason = reason.to_owned();
        self.notices.push(v1::LogNotice { source, reason, message, dropped });
    }
}
