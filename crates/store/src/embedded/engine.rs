//! The SQL: every change of a key is one row of `history`, and what a key is now is its newest row.
//!
//! The row id is `revision * 1024 + place in the transaction`, so the history is in the order it
//! happened and a watch is a scan of the table's end. A delete is a row without a value. Compaction
//! removes rows that a newer one has replaced. Each row has a checksum, since SQLite itself does
//! not notice a flipped bit in a value.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, TransactionBehavior, params};
use tokio::sync::watch;

use crate::{
    Change, EmbeddedOptions, Error, Health, KeyValue, LEASE_TTL_SECONDS_MAX, LeaseId, Operation,
    Page, RANGE_PAGE_BYTES_MAX, Range, Result, Revision, StoreKind, StoreStatus, Transaction,
    embedded::file::{self, StoreFile, damaged, explain},
    migrate::INCOMPLETE,
};

/// Row ids per revision. More than [`crate::TXN_OPERATIONS_MAX`].
const IDS_PER_REVISION: u64 = 1024;
/// Keys deleted in one revision when a lease ends; a lease with more ends in several.
const LEASE_KEYS_PER_REVISION: usize = 128;
/// Rows one step of a watch reads.
const CHANGES_PER_STEP_MAX: usize = 512;
/// Fill of the file from which the store calls itself degraded, in percent.
const FILL_DEGRADED_PERCENT: u64 = 80;

/// How long to wait before deleting the keys of an ended lease is tried again.
const LEASE_END_RETRY: Duration = Duration::from_secs(1);

/// What one step of a watch found: changes by revision, and where to go on.
pub(super) type Step = (Vec<(Revision, Vec<Change>)>, Revision);

/// The connection and what is known besides it.
#[derive(Debug)]
pub(super) struct Engine {
    file: StoreFile,
    options: EmbeddedOptions,
    instance: String,
    revision: watch::Sender<Revision>,
    /// When each lease ends. After a restart every lease has its whole time again, as after a
    /// change of etcd's leader.
    leases: BTreeMap<LeaseId, Lease>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    ttl: Duration,
    ends_at: Instant,
}

impl Engine {
    pub(super) fn open(
        options: EmbeddedOptions,
        revision: watch::Sender<Revision>,
    ) -> Result<Self> {
        let file = file::open(&options)?;
        let sql = |e: rusqlite::Error| explain(&options.path, &e);
        let instance = file
            .connection
            .query_row("SELECT instance FROM meta", [], |row| row.get(0))
            .map_err(sql)?;
        // to end one is the master's business
        let leases = if options.beside_master {
            BTreeMap::new()
        } else {
            load_leases(&file.connection, Instant::now()).map_err(sql)?
        };
        let engine = Self { file, options, instance, revision, leases };
        engine.check_rows()?;
        engine.refuse_incomplete()?;
        engine.revision.send_replace(engine.current()?);
        Ok(engine)
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        let newest = self.newest(key)?;
        Ok(newest.and_then(Record::live))
    }

    pub(super) fn range(&self, range: &Range) -> Result<Page> {
        let current = self.current()?;
        let revision = range.revision.unwrap_or(current);
        if revision > current {
            return Err(Error::FutureRevision { asked: revision, current });
        }
        let compact_revision = self.compact_revision()?;
        if revision < compact_revision {
            return Err(Error::Compacted { asked: revision, compact_revision });
        }
        // Two statements, so that rows come one by one and nothing is sorted or held in memory.
        let mut newest = self.prepare(
            "SELECT max(id) FROM history WHERE key >= ?1 AND key < ?2 AND id < ?3 GROUP BY key ORDER BY key",
        )?;
        let mut one = self.prepare(&format!("{SELECT_RECORD} WHERE id = ?1"))?;
        let bounds = params![range.first_key(), end_of(&range.prefix), first_id(revision + 1)];
        let mut ids = newest.query(bounds).map_err(|e| self.explain(&e))?;
        let mut page = Page { items: Vec::new(), revision, next: None };
        let mut bytes = 0;
        while let Some(row) = ids.next().map_err(|e| self.explain(&e))? {
            let id: i64 = row.get(0).map_err(|e| self.explain(&e))?;
            let raw = one.query_row([id], RawRecord::read).map_err(|e| self.explain(&e))?;
            let Some(item) = self.check(raw)?.live() else { continue };
            bytes += item.key.len() + item.value.len();
            let full = bytes > RANGE_PAGE_BYTES_MAX && !page.items.is_empty();
            if full || page.items.len() == range.limit {
                page.next = Some(item.key);
                break;
            }
            page.items.push(item);
        }
        Ok(page)
    }

    pub(super) fn txn(&mut self, transaction: &Transaction) -> Result<Revision> {
        let open = self.begin()?;
        let current = self.current()?;
        for compare in &transaction.compares {
            let found = self.get(&compare.key)?.map_or(0, |item| item.mod_revision);
            if found != compare.mod_revision {
                let (key, expected) = (compare.key.clone(), compare.mod_revision);
                return Err(Error::CompareFailed { key, expected, found });
            }
        }
        let changed = self.apply(&transaction.operations, current + 1)?;
        if changed == 0 {
            return Ok(current);
        }
        open.commit().map_err(|e| self.explain(&e))?;
        self.revision.send_replace(current + 1);
        Ok(current + 1)
    }

    /// Changes under a prefix from a revision on: some whole revisions, and the revision to go on
    /// from.
    pub(super) fn changes(&self, prefix: &str, from: Revision) -> Result<Step> {
        let compact_revision = self.compact_revision()?;
        if from <= compact_revision {
            return Err(Error::Compacted { asked: from, compact_revision });
        }
        let mut found: Vec<(Revision, Vec<Change>)> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        let mut statement = self.prepare(&format!("{SELECT_RECORD} WHERE id >= ?1 ORDER BY id"))?;
        let mut rows = statement.query([first_id(from)]).map_err(|e| self.explain(&e))?;
        while let Some(row) = rows.next().map_err(|e| self.explain(&e))? {
            let raw = RawRecord::read(row).map_err(|e| self.explain(&e))?;
            let revision = revision_of(raw.id);
            let new_revision = found.last().is_none_or(|(last, _)| *last != revision);
            if new_revision && (count >= CHANGES_PER_STEP_MAX || bytes > RANGE_PAGE_BYTES_MAX) {
                return Ok((without_empty(found), revision));
            }
            if new_revision {
                found.push((revision, Vec::new()));
            }
            count += 1;
            if !raw.key.starts_with(prefix) {
                continue;
            }
            bytes += raw.value.as_ref().map_or(0, Vec::len);
            if let Some((_, changes)) = found.last_mut() {
                changes.push(self.check(raw)?.into_change());
            }
        }
        Ok((without_empty(found), from.max(self.current()? + 1)))
    }

    pub(super) fn grant(&mut self, ttl_s: u64, now: Instant) -> Result<LeaseId> {
        self.prepare("INSERT INTO lease (ttl_s) VALUES (?1)")?
            .execute([ttl_s.cast_signed()])
            .map_err(|e| self.explain(&e))?;
        let lease = LeaseId(self.connection().last_insert_rowid());
        self.leases.insert(lease, Lease::starting(ttl_s, now));
        Ok(lease)
    }

    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Result<Duration> {
        let known = self.leases.get_mut(&lease).ok_or(Error::LeaseNotFound { lease })?;
        known.ends_at = now + known.ttl;
        Ok(known.ttl)
    }

    pub(super) fn revoke(&mut self, lease: LeaseId) -> Result<()> {
        if !self.leases.contains_key(&lease) {
            return Err(Error::LeaseNotFound { lease });
        }
        while self.end_some_of(lease)? {}
        self.leases.remove(&lease);
        Ok(())
    }

    pub(super) fn next_lease_end(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.ends_at).min()
    }

    /// Deletes the keys of every lease whose time is over.
    pub(super) fn end_leases(&mut self, now: Instant) {
        let over: Vec<LeaseId> =
            self.leases.iter().filter(|(_, l)| l.ends_at <= now).map(|(id, _)| *id).collect();
        for lease in over {
            if let Err(error) = self.revoke(lease) {
                tracing::warn!(%lease, %error, "a lease is over but its keys could not be deleted, trying again");
                if let Some(lease) = self.leases.get_mut(&lease) {
                    lease.ends_at = now + LEASE_END_RETRY;
                }
            }
        }
    }

    pub(super) fn compact(&mut self, revision: Revision) -> Result<()> {
        let current = self.current()?;
        if revision > current {
            return Err(Error::FutureRevision { asked: revision, current });
        }
        if revision <= self.compact_revision()? {
            return Ok(());
        }
        let open = self.begin()?;
        self.compact_to(revision, current).map_err(|e| self.explain(&e))?;
        open.commit().map_err(|e| self.explain(&e))
    }

    pub(super) fn status(&self) -> Result<StoreStatus> {
        let pages: u64 = self.pragma("page_count")?;
        let free: u64 = self.pragma("freelist_count")?;
        let page_bytes: u64 = self.pragma("page_size")?;
        let used = pages.saturating_sub(free) * page_bytes;
        let limit = self.options.file_bytes_max;
        let health = if used > limit / 100 * FILL_DEGRADED_PERCENT {
            Health::Degraded(format!(
                "{used} of {limit} bytes are used; compact history or raise the limit"
            ))
        } else {
            Health::Good
        };
        Ok(StoreStatus {
            kind: StoreKind::Embedded,
            version: format!("SQLite {}", rusqlite::version()),
            instance: self.instance.clone(),
            location: self.options.path.display().to_string(),
            revision: self.current()?,
            size_bytes: pages * page_bytes,
            health,
        })
    }

    pub(super) fn backup(&self, target: &Path) -> Result<()> {
        file::new_private_file(target)?;
        let text =
            target.to_str().ok_or_else(|| Error::invalid("a backup path that is not UTF-8"))?;
        self.connection().execute("VACUUM INTO ?1", [text]).map_err(|e| explain(target, &e))?;
        file::sync(target)
    }

    fn connection(&self) -> &Connection {
        &self.file.connection
    }

    fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection().prepare_cached(sql).map_err(|e| self.explain(&e))
    }

    fn begin(&self) -> Result<rusqlite::Transaction<'_>> {
        rusqlite::Transaction::new_unchecked(self.connection(), TransactionBehavior::Immediate)
            .map_err(|e| self.explain(&e))
    }

    fn pragma(&self, name: &str) -> Result<u64> {
        let value: i64 = self
            .connection()
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(|e| self.explain(&e))?;
        Ok(value.cast_unsigned())
    }

    fn explain(&self, error: &rusqlite::Error) -> Error {
        explain(&self.options.path, error)
    }

    /// The newest row says which revision we are at; the floor counts only when compaction took
    /// that row away.
    fn current(&self) -> Result<Revision> {
        let (newest, floor): (i64, i64) = self
            .prepare("SELECT ifnull((SELECT max(id) FROM history), 0), revision_floor FROM meta")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| self.explain(&e))?;
        Ok(revision_of(newest).max(floor.cast_unsigned()))
    }

    fn compact_revision(&self) -> Result<Revision> {
        let revision: i64 = self
            .prepare("SELECT compact_revision FROM meta")?
            .query_row([], |row| row.get(0))
            .map_err(|e| self.explain(&e))?;
        Ok(revision.cast_unsigned())
    }

    fn newest(&self, key: &str) -> Result<Option<Record>> {
        let sql = format!("{SELECT_RECORD} WHERE key = ?1 ORDER BY id DESC LIMIT 1");
        let raw = self.prepare(&sql)?.query_row([key], RawRecord::read).optional();
        raw.map_err(|e| self.explain(&e))?.map(|raw| self.check(raw)).transpose()
    }

    /// Writes the rows of one revision; returns how many.
    fn apply(&self, operations: &[Operation], revision: Revision) -> Result<usize> {
        let mut place = 0;
        for operation in operations {
            let before = self.newest(operation.key())?.filter(|record| record.value.is_some());
            let (value, lease) = match operation {
                Operation::Put { value, lease, .. } => (Some(value.as_slice()), *lease),
                Operation::Delete { .. } if before.is_none() => continue,
                Operation::Delete { .. } => (None, None),
            };
            if let Some(lease) = lease
                && !self.leases.contains_key(&lease)
            {
                return Err(Error::LeaseNotFound { lease });
            }
            let record = NewRecord {
                id: first_id(revision) + i64::try_from(place).unwrap_or(i64::MAX),
                key: operation.key(),
                value,
                create_revision: before.as_ref().map_or(revision, |record| record.create_revision),
                version: before.as_ref().map_or(1, |record| record.version + 1),
                lease,
            };
            self.insert(&record)?;
            place += 1;
        }
        Ok(place)
    }

    fn insert(&self, record: &NewRecord<'_>) -> Result<()> {
        self.prepare("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                record.id,
                record.key,
                record.value,
                record.create_revision.cast_signed(),
                record.version.cast_signed(),
                record.lease.map(|lease| lease.0),
                i64::from(record.crc()),
            ])
            .map_err(|e| self.explain(&e))?;
        Ok(())
    }

    /// Deletes up to [`LEASE_KEYS_PER_REVISION`] keys of a lease; the last time, the lease itself.
    /// Returns whether keys are left.
    fn end_some_of(&mut self, lease: LeaseId) -> Result<bool> {
        let open = self.begin()?;
        let mut operations = self.keys_of(lease)?;
        let more = operations.len() > LEASE_KEYS_PER_REVISION;
        operations.truncate(LEASE_KEYS_PER_REVISION);
        let revision = self.current()? + 1;
        let changed = self.apply(&operations, revision)?;
        if !more {
            self.prepare("DELETE FROM lease WHERE id = ?1")?
                .execute([lease.0])
                .map_err(|e| self.explain(&e))?;
        }
        open.commit().map_err(|e| self.explain(&e))?;
        if changed > 0 {
            self.revision.send_replace(revision);
        }
        Ok(more)
    }

    fn keys_of(&self, lease: LeaseId) -> Result<Vec<Operation>> {
        let limit = i64::try_from(LEASE_KEYS_PER_REVISION + 1).unwrap_or(i64::MAX);
        let mut statement = self.prepare(
            "SELECT key FROM history AS row WHERE lease = ?1 AND id = \
             (SELECT max(id) FROM history WHERE key = row.key) ORDER BY key LIMIT ?2",
        )?;
        let keys = statement
            .query_map([lease.0, limit], |row| Ok(Operation::Delete { key: row.get(0)? }))
            .and_then(Iterator::collect)
            .map_err(|e| self.explain(&e))?;
        Ok(keys)
    }

    fn compact_to(&self, revision: Revision, current: Revision) -> rusqlite::Result<()> {
        let after = first_id(revision + 1);
        let connection = self.connection();
        connection.execute(
            "DELETE FROM history WHERE id < ?1 AND EXISTS (SELECT 1 FROM history AS newer \
             WHERE newer.key = history.key AND newer.id > history.id AND newer.id < ?1)",
            [after],
        )?;
        connection.execute("DELETE FROM history WHERE id < ?1 AND value IS NULL", [after])?;
        connection.execute(
            "UPDATE meta SET compact_revision = ?1, revision_floor = ?2",
            [revision.cast_signed(), current.cast_signed()],
        )?;
        Ok(())
    }

    /// Reads every row once: what SQLite does not notice, the checksums do.
    fn check_rows(&self) -> Result<()> {
        let mut statement = self.prepare(&format!("{SELECT_RECORD} ORDER BY id"))?;
        let mut rows = statement.query([]).map_err(|e| self.explain(&e))?;
        while let Some(row) = rows.next().map_err(|e| self.explain(&e))? {
            self.check(RawRecord::read(row).map_err(|e| self.explain(&e))?)?;
        }
        Ok(())
    }

    fn refuse_incomplete(&self) -> Result<()> {
        if self.options.allow_incomplete {
            return Ok(());
        }
        let Some(marker) = self.get(INCOMPLETE)? else { return Ok(()) };
        let store = self.options.path.display().to_string();
        Err(Error::Incomplete {
            store,
            detail: String::from_utf8_lossy(&marker.value).into_owned(),
        })
    }

    fn check(&self, raw: RawRecord) -> Result<Record> {
        let RawRecord { id, key, value, create_revision, version, lease, crc } = raw;
        let record = Record {
            key,
            value,
            create_revision: create_revision.cast_unsigned(),
            mod_revision: revision_of(id),
            version: version.cast_unsigned(),
            lease: lease.map(LeaseId),
        };
        let expected = NewRecord {
            id,
            key: &record.key,
            value: record.value.as_deref(),
            create_revision: record.create_revision,
            version: record.version,
            lease: record.lease,
        };
        if i64::from(expected.crc()) != crc {
            let problem =
                format!("the checksum of key {} does not match", record.key.escape_debug());
            return Err(damaged(&self.options.path, problem));
        }
        Ok(record)
    }
}

const SELECT_RECORD: &str =
    "SELECT id, key, value, create_revision, version, lease, crc FROM history";

/// A row as it is in the file.
struct RawRecord {
    id: i64,
    key: String,
    value: Option<Vec<u8>>,
    create_revision: i64,
    version: i64,
    lease: Option<i64>,
    crc: i64,
}

impl RawRecord {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            key: row.get(1)?,
            value: row.get(2)?,
            create_revision: row.get(3)?,
            version: row.get(4)?,
            lease: row.get(5)?,
            crc: row.get(6)?,
        })
    }
}

/// A row whose checksum was right. Without a value it says that the key was deleted.
struct Record {
    key: String,
    value: Option<Vec<u8>>,
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
    lease: Option<LeaseId>,
}

impl Record {
    fn live(self) -> Option<KeyValue> {
        let Self { key, value, create_revision, mod_revision, version, lease } = self;
        value.map(|value| KeyValue { key, value, create_revision, mod_revision, version, lease })
    }

    fn into_change(self) -> Change {
        let key = self.key.clone();
        self.live().map_or(Change::Delete { key }, Change::Put)
    }
}

/// A row to write, or to compute a checksum of.
struct NewRecord<'a> {
    id: i64,
    key: &'a str,
    value: Option<&'a [u8]>,
    create_revision: Revision,
    version: u64,
    lease: Option<LeaseId>,
}

impl NewRecord<'_> {
    fn crc(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.id.to_le_bytes());
        hasher.update(&self.create_revision.to_le_bytes());
        hasher.update(&self.version.to_le_bytes());
        hasher.update(&self.lease.map_or(0, |lease| lease.0).to_le_bytes());
        hasher.update(&self.key.len().to_le_bytes());
        hasher.update(self.key.as_bytes());
        hasher.update(&[u8::from(self.value.is_some())]);
        hasher.update(self.value.unwrap_or_default());
        hasher.finalize()
    }
}

impl Lease {
    fn starting(ttl_s: u64, now: Instant) -> Self {
        let ttl = Duration::from_secs(ttl_s);
        Self { ttl, ends_at: now + ttl }
    }
}

fn load_leases(
    connection: &Connection,
    now: Instant,
) -> rusqlite::Result<BTreeMap<LeaseId, Lease>> {
    let mut statement = connection.prepare("SELECT id, ttl_s FROM lease")?;
    let rows = statement.query_map([], |row| {
        let ttl_s: i64 = row.get(1)?;
        Ok((
            LeaseId(row.get(0)?),
            Lease::starting(ttl_s.cast_unsigned().min(LEASE_TTL_SECONDS_MAX), now),
        ))
    })?;
    rows.collect()
}

fn without_empty(mut found: Vec<(Revision, Vec<Change>)>) -> Vec<(Revision, Vec<Change>)> {
    found.retain(|(_, changes)| !changes.is_empty());
    found
}

/// The first row id of a revision. Revisions stay far below 2^53: a thousand a second for 280,000
/// years.
fn first_id(revision: Revision) -> i64 {
    revision.saturating_mul(IDS_PER_REVISION).min(i64::MAX as u64).cast_signed()
}

fn revision_of(id: i64) -> Revision {
    id.cast_unsigned() / IDS_PER_REVISION
}

/// The first key after all keys with this prefix; no key contains U+10FFFF.
fn end_of(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}
