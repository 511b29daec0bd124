//! The event log and the audit chain, page by page from the store.

use std::sync::atomic::Ordering;

use piccolo_core::{
    api_server::{Call, Refusal, Selector},
    model::{
        AuditEnds, AuditEntry, AuditOutcome, ChainError, Event, FieldError, Severity, check_text,
        verify_chain,
    },
    past::{Fold, Past},
    state_manager::keys,
    time::WallTime,
};
use piccolo_rpc::{convert::severity, v1};
use piccolo_store::Range;
use serde::de::DeserializeOwned;
use tonic::{Request as Asked, Response, Status};

use super::{Answered, Api};

/// Entries of one answer.
const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;
/// Entries that are read from the store at once.
const PAGE: usize = 500;

/// Which events somebody wants to see.
#[derive(Debug, Clone)]
pub(super) struct EventFilter {
    /// Id or name; empty for all.
    node: String,
    minimum: Severity,
}

impl EventFilter {
    pub(super) fn new(node: String, minimum: i32) -> Result<Self, FieldError> {
        check_text("node", &node, 253)?;
        Ok(Self { node, minimum: severity("minimum_severity", minimum)? })
    }

    pub(super) fn selects(&self, event: &Event) -> bool {
        let id = || event.node.as_ref().is_some_and(|id| id.as_str() == self.node);
        let name = || {
            let name = event.node_name.as_ref();
            name.is_some_and(|name| name.as_str().eq_ignore_ascii_case(&self.node))
        };
        event.severity >= self.minimum && (self.node.is_empty() || id() || name())
    }
}

/// Which entries of the audit log somebody wants to see.
#[derive(Debug, Clone)]
struct AuditFilter {
    /// A part of who it was, in small letters.
    who: String,
    /// Whether it was done, where that matters.
    done: Option<bool>,
}

impl AuditFilter {
    fn new(who: &str, outcome: &str) -> Result<Self, FieldError> {
        check_text("who", who, 253)?;
        let done = match outcome {
            "" => None,
            "ok" => Some(true),
            "refused" => Some(false),
            _ => return Err(FieldError::new("outcome", "must be ok or refused")),
        };
        Ok(Self { who: who.to_lowercase(), done })
    }

    fn selects(&self, entry: &AuditEntry) -> bool {
        let done = entry.outcome == AuditOutcome::Done;
        self.done.is_none_or(|wanted| wanted == done)
            && entry.who.to_lowercase().contains(&self.who)
    }
}

/// A log in the store, by the ids of its entries.
struct Log<T> {
    prefix: &'static str,
    key: fn(u64) -> String,
    id: fn(&T) -> u64,
    /// The oldest that is kept.
    first: u64,
}

pub(super) async fn list_events(
    api: &Api,
    request: Asked<v1::ListEventsRequest>,
) -> Answered<v1::ListEventsResponse> {
    let by = api.admit_read(&request, Call::ListEvents).await?;
    let wire = request.into_inner();
    let asked = limit(wire.limit)
        .and_then(|limit| Ok((limit, EventFilter::new(wire.node, wire.minimum_severity)?)));
    let (limit, filter) = match asked {
        Ok(asked) => asked,
        Err(error) => return Err(api.refuse(by, Call::ListEvents, error.into()).await),
    };
    let last_id = api.board.last_event();
    let events = if wire.newest {
        let until = if wire.before_id == 0 { last_id } else { last_id.min(wire.before_id - 1) };
        api.newest(&api.event_log(), until, limit, |event| filter.selects(event)).await?
    } else {
        api.events_between(wire.after_id, last_id, limit, &filter).await?
    };
    Ok(Response::new(v1::ListEventsResponse {
        events: events.into_iter().map(Into::into).collect(),
        first_kept_id: api.published.first_event.load(Ordering::Relaxed),
        last_id,
    }))
}

pub(super) async fn list_audit(
    api: &Api,
    request: Asked<v1::ListAuditRequest>,
) -> Answered<v1::ListAuditResponse> {
    let by = api.admit_read(&request, Call::ListAudit).await?;
    let wire = request.into_inner();
    let asked = limit(wire.limit)
        .and_then(|limit| Ok((limit, AuditFilter::new(&wire.who, &wire.outcome)?)));
    let (limit, filter) = match asked {
        Ok(asked) => asked,
        Err(error) => return Err(api.refuse(by, Call::ListAudit, error.into()).await),
    };
    let last_id = api.audit_ends()?.last;
    let log = api.audit_log();
    let selects = |entry: &AuditEntry| filter.selects(entry);
    let entries = if wire.newest {
        let until = if wire.before_id == 0 { last_id } else { last_id.min(wire.before_id - 1) };
        api.newest(&log, until, limit, selects).await?
    } else {
        api.between(&log, (wire.after_id, last_id), limit, selects).await?
    };
    Ok(Response::new(v1::ListAuditResponse {
        entries: entries.into_iter().map(Into::into).collect(),
        first_kept_id: log.first,
        last_id,
    }))
}

/// Reads the whole chain. What was cut off at one of its ends shows too: they are recorded.
pub(super) async fn verify_audit(
    api: &Api,
    request: Asked<v1::VerifyAuditRequest>,
) -> Answered<v1::VerifyAuditResponse> {
    api.admit_read(&request, Call::VerifyAudit).await?;
    let ends = api.audit_ends()?;
    let (count, problem) = api.walk_audit(&ends).await?;
    let unrecorded = if ends.since > ends.first {
        format!("; what was cut off before entry {} cannot be told", ends.since)
    } else {
        String::new()
    };
    Ok(Response::new(match problem {
        None => v1::VerifyAuditResponse {
            entries: count,
            intact: true,
            first_bad_id: 0,
            message: format!("{count} entries, each links to the one before it{unrecorded}"),
        },
        Some(error) => v1::VerifyAuditResponse {
            entries: count,
            intact: false,
            first_bad_id: error.id,
            message: error.to_string(),
        },
    }))
}

impl Api {
    /// The cluster as the kept events, all of which are read, and the present nodes tell of it.
    pub(crate) async fn past(&self, at: WallTime) -> Result<Past, Status> {
        let _one = self.one_past.lock().await;
        let last_id = self.board.last_event();
        let mut fold = Fold::new(at);
        let mut after = 0;
        while after < last_id {
            let page: Vec<Event> = self.page(keys::EVENTS, keys::event(after + 1), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            page.iter().filter(|event| event.id <= last_id).for_each(|event| fold.push(event));
        }
        let (nodes, _) = self.board.nodes(&Selector::default());
        Ok(fold.finish(nodes.iter().map(AsRef::as_ref)))
    }

    /// Events with ids in `(after, until]`, oldest first.
    pub(super) async fn events_between(
        &self,
        after: u64,
        until: u64,
        limit: usize,
        filter: &EventFilter,
    ) -> Result<Vec<Event>, Status> {
        self.between(&self.event_log(), (after, until), limit, |event| filter.selects(event)).await
    }

    fn event_log(&self) -> Log<Event> {
        Log {
            prefix: keys::EVENTS,
            key: keys::event,
            id: |event| event.id,
            first: self.published.first_event.load(Ordering::Relaxed),
        }
    }

    fn audit_log(&self) -> Log<AuditEntry> {
        Log {
            prefix: keys::AUDIT,
            key: keys::audit,
            id: |entry| entry.id,
            first: self.published.first_audit.load(Ordering::Relaxed),
        }
    }

    /// Entries with ids in `(after, until]`, oldest first.
    async fn between<T: DeserializeOwned>(
        &self,
        log: &Log<T>,
        (mut after, until): (u64, u64),
        limit: usize,
        selects: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Status> {
        let mut found = Vec::new();
        while found.len() < limit && after < until {
            let page: Vec<T> = self.page(log.prefix, (log.key)(after + 1), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = (log.id)(last);
            let wanted = page.into_iter().filter(|e| (log.id)(e) <= until && selects(e));
            found.extend(wanted.take(limit - found.len()));
        }
        Ok(found)
    }

    /// The newest with ids up to `until`, oldest first.
    async fn newest<T: DeserializeOwned>(
        &self,
        log: &Log<T>,
        mut until: u64,
        limit: usize,
        selects: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Status> {
        let mut found: Vec<T> = Vec::new();
        while found.len() < limit && until >= log.first && until > 0 {
            let after = until.saturating_sub(PAGE as u64);
            let mut page: Vec<T> = self.page(log.prefix, (log.key)(after + 1), PAGE).await?;
            page.retain(|entry| (log.id)(entry) <= until);
            until = if page.is_empty() { self.last_before(log, after).await? } else { after };
            page.retain(&selects);
            page.append(&mut found);
            found = page;
        }
        let surplus = found.len().saturating_sub(limit);
        Ok(found.split_off(surplus))
    }

    /// Where there is a gap in the ids: a restored master goes on far above the one before it. 0 for none.
    async fn last_before<T: DeserializeOwned>(
        &self,
        log: &Log<T>,
        until: u64,
    ) -> Result<u64, Status> {
        let mut last = 0;
        loop {
            let page: Vec<T> = self.page(log.prefix, (log.key)(last + 1), PAGE).await?;
            let before = page.iter().rev().find(|entry| (log.id)(entry) <= until);
            match before.map(log.id) {
                Some(id) => last = id,
                None => return Ok(last),
            }
        }
    }

    fn audit_ends(&self) -> Result<AuditEnds, Status> {
        let starting = || Status::unavailable("the master is still starting; ask again");
        self.board.audit_ends().ok_or_else(starting)
    }

    async fn walk_audit(&self, ends: &AuditEnds) -> Result<(u64, Option<ChainError>), Status> {
        let fail = |id, problem| Some(ChainError { id, problem });
        let mut count = 0;
        let mut previous: Option<AuditEntry> = None;
        let mut last_seen = ends.last == 0;
        loop {
            let next = previous.as_ref().map_or(0, |entry| entry.id + 1);
            let page: Vec<AuditEntry> = self.page(keys::AUDIT, keys::audit(next), PAGE).await?;
            // both read after the page: entries may have come and gone meanwhile
            let first = self.published.first_audit.load(Ordering::Relaxed);
            let last = self.published.last_audit.load(Ordering::Relaxed);
            let Some(newest) = page.last() else {
                let problem = "is missing: entries were cut off at the end";
                return Ok((count, if last_seen { None } else { fail(ends.last, problem) }));
            };
            if previous.is_none() && page[0].id > first {
                let problem = "is missing: entries were cut off at the beginning";
                return Ok((count, fail(first, problem)));
            }
            if let Err(error) = verify_chain(previous.iter().chain(&page)) {
                return Ok((count, Some(error)));
            }
            if newest.id > last {
                return Ok((count, fail(last + 1, "was not written by this master")));
            }
            let is_last = |e: &AuditEntry| e.id == ends.last && e.hash == ends.last_hash;
            last_seen = last_seen || page.iter().any(is_last);
            count += page.len() as u64;
            previous = page.into_iter().next_back();
        }
    }

    async fn page<T: DeserializeOwned>(
        &self,
        prefix: &str,
        start: String,
        limit: usize,
    ) -> Result<Vec<T>, Status> {
        let range = Range { start: Some(start), limit, ..Range::prefix(prefix) };
        let page = self.store.range(&range).await.map_err(|error| {
            let refusal = Refusal::new(
                piccolo_core::api_server::Code::Unavailable,
                "StoreUnavailable",
                error.to_string(),
            );
            piccolo_rpc::status::status(&refusal)
        })?;
        let decoded = page.items.iter().map(|item| keys::decode(&item.key, &item.value));
        decoded.collect::<Result<_, _>>().map_err(|error| Status::data_loss(error.to_string()))
    }
}

fn limit(asked: u32) -> Result<usize, FieldError> {
    match asked {
        0 => Ok(LIMIT_DEFAULT as usize),
        1..=LIMIT_MAX => Ok(asked as usize),
        _ => Err(FieldError::new("limit", format!("{asked} is more than {LIMIT_MAX}"))),
    }
}
