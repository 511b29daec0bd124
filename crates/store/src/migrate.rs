//! Moving all state from one store to another: everything, verified, or a target that nobody can
//! take for complete.
//!
//! The first thing written to the target is a mark outside the state, the last is its removal. A
//! store with the mark is refused by everybody who opens it without `allow_incomplete`, so a crash
//! half-way can be mended in two ways: run the migration again (it empties the marked target and
//! starts over), or [`wipe_incomplete`] the target. The source is only read.
//!
//! Revisions are not moved: they count the transactions of one store. Whoever kept a revision (a
//! watcher's resume token) has to compare [`crate::StoreStatus::instance`] as well and to list
//! again.

use crate::{
    Error, KeyValue, Operation, ROOT, Range, Result, Revision, Store, TXN_BYTES_MAX,
    TXN_OPERATIONS_MAX, Transaction,
};

/// The mark of an unfinished migration. Its value says where from.
pub(crate) const INCOMPLETE: &str = "/piccolo/internal/migration-incomplete";

/// What was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationReport {
    /// Keys copied and compared byte by byte afterwards.
    pub keys: usize,
    /// Bytes of these keys and their values.
    pub bytes: u64,
    /// Keys that belonged to a lease: sessions and locks, which end with their owner and are not
    /// copied.
    pub leased_keys_left_out: usize,
    /// The revision of the source that was copied.
    pub source_revision: Revision,
}

/// Copies everything under [`ROOT`] as it is at one revision, then compares both stores.
///
/// The target must be empty, or hold nothing but an unfinished migration (open it with
/// `allow_incomplete`). Stop the masters that use either store before.
///
/// # Errors
/// [`Error::Invalid`] where the target is not empty, or the source changed meanwhile;
/// [`Error::Corrupt`] where the copy differs. The target then stays marked.
pub async fn migrate(source: &dyn Store, target: &dyn Store) -> Result<MigrationReport> {
    let from = source.status().await?;
    let to = target.status().await?;
    if from.instance == to.instance {
        return Err(Error::invalid(format!("{} is source and target at once", from.location)));
    }
    prepare_target(target, &format!("{} {}", from.kind, from.location), &to.location).await?;
    let mut report =
        MigrationReport { keys: 0, bytes: 0, leased_keys_left_out: 0, source_revision: 0 };
    copy(source, target, &mut report).await?;
    verify(source, target, report).await?;
    target.txn(&Transaction::new().delete(INCOMPLETE)).await?;
    Ok(report)
}

/// Empties a store that holds an unfinished migration. Returns how many keys were removed.
///
/// # Errors
/// [`Error::Invalid`] where it holds none: this never removes state that is in use.
pub async fn wipe_incomplete(target: &dyn Store) -> Result<usize> {
    if target.get(INCOMPLETE).await?.is_none() {
        let location = target.status().await?.location;
        return Err(Error::invalid(format!(
            "{location} holds no unfinished migration; nothing was removed"
        )));
    }
    let removed = remove_all(target).await?;
    target.txn(&Transaction::new().delete(INCOMPLETE)).await?;
    Ok(removed)
}

/// Fills a store from somewhere else than a store: marked as incomplete from the first key to the last.
#[derive(Debug)]
pub struct Import<'a> {
    target: &'a dyn Store,
    batch: Batch,
}

impl<'a> Import<'a> {
    /// Marks the target. `from` says where its content comes from; `replace` empties it first.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not empty and is not to be replaced.
    pub async fn begin(target: &'a dyn Store, from: &str, replace: bool) -> Result<Self> {
        let location = target.status().await?.location;
        if replace {
            target.txn(&Transaction::new().put(INCOMPLETE, format!("from {from}"))).await?;
        }
        prepare_target(target, from, &location).await?;
        Ok(Self { target, batch: Batch::default() })
    }

    /// Goes on with a target that is marked, to finish it.
    #[must_use]
    pub fn resume(target: &'a dyn Store) -> Self {
        Self { target, batch: Batch::default() }
    }

    /// Each key once.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn add(&mut self, key: String, value: Vec<u8>) -> Result<()> {
        self.batch.add(self.target, key, value).await
    }

    /// Everything that was added is in the store; it stays marked.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn flush(&mut self) -> Result<()> {
        std::mem::take(&mut self.batch).flush(self.target).await
    }

    /// Takes the mark away: from now on the store is good.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn finish(mut self) -> Result<()> {
        self.flush().await?;
        self.target.txn(&Transaction::new().delete(INCOMPLETE)).await.map(|_| ())
    }
}

/// Whether a migration or a restore into this store was not finished.
///
/// # Errors
/// Those of the store.
pub async fn is_incomplete(target: &dyn Store) -> Result<bool> {
    Ok(target.get(INCOMPLETE).await?.is_some())
}

async fn prepare_target(target: &dyn Store, from: &str, location: &str) -> Result<()> {
    if target.get(INCOMPLETE).await?.is_some() {
        remove_all(target).await?;
    }
    let first = Range { limit: 1, ..Range::prefix(ROOT) };
    if let Some(found) = target.range(&first).await?.items.first() {
        return Err(Error::invalid(format!(
            "the target {location} is not empty (it has {}); nothing was copied",
            found.key
        )));
    }
    target.txn(&Transaction::new().put(INCOMPLETE, format!("from {from}"))).await?;
    Ok(())
}

async fn copy(source: &dyn Store, target: &dyn Store, report: &mut MigrationReport) -> Result<()> {
    let mut pages = Pages::of(source);
    let mut batch = Batch::default();
    while let Some(items) = pages.next().await? {
        for item in items {
            if item.lease.is_some() {
                report.leased_keys_left_out += 1;
                continue;
            }
            report.keys += 1;
            report.bytes += size(&item) as u64;
            let KeyValue { key, value, .. } = item;
            batch.add(target, key, value).await?;
        }
    }
    report.source_revision = pages.revision();
    batch.flush(target).await
}

/// Both stores side by side, page by page, as they are now.
async fn verify(source: &dyn Store, target: &dyn Store, report: MigrationReport) -> Result<()> {
    let (mut left, mut right) = (Items::of(source), Items::of(target));
    let mut keys = 0;
    loop {
        let expected = loop {
            match left.next().await? {
                Some(item) if item.lease.is_some() => {}
                other => break other,
            }
        };
        if expected.as_ref().is_some_and(|item| item.mod_revision > report.source_revision) {
            return Err(source_changed());
        }
        match (expected, right.next().await?) {
            (None, None) => break,
            (Some(a), Some(b)) if a.key == b.key && a.value == b.value => keys += 1,
            (Some(a), _) => return Err(differs(&a.key)),
            (None, Some(b)) => return Err(differs(&b.key)),
        }
    }
    if keys != report.keys {
        return Err(source_changed());
    }
    Ok(())
}

async fn remove_all(target: &dyn Store) -> Result<usize> {
    let mut removed = 0;
    loop {
        let page =
            target.range(&Range { limit: TXN_OPERATIONS_MAX, ..Range::prefix(ROOT) }).await?;
        if page.items.is_empty() {
            return Ok(removed);
        }
        removed += page.items.len();
        let all = page.items.into_iter().fold(Transaction::new(), |txn, item| txn.delete(item.key));
        target.txn(&all).await?;
    }
}

/// The pages of one store at one revision.
struct Pages<'a> {
    store: &'a dyn Store,
    range: Option<Range>,
    revision: Revision,
}

impl<'a> Pages<'a> {
    fn of(store: &'a dyn Store) -> Self {
        Self { store, range: Some(Range::prefix(ROOT)), revision: 0 }
    }

    async fn next(&mut self) -> Result<Option<Vec<KeyValue>>> {
        let Some(range) = self.range.take() else { return Ok(None) };
        let page = self.store.range(&range).await?;
        self.revision = page.revision;
        self.range = page.next.map(|next| Range {
            start: Some(next),
            revision: Some(page.revision),
            ..range
        });
        Ok(Some(page.items))
    }

    fn revision(&self) -> Revision {
        self.revision
    }
}

/// The keys of one store at one revision, one by one.
struct Items<'a> {
    pages: Pages<'a>,
    page: std::vec::IntoIter<KeyValue>,
}

impl<'a> Items<'a> {
    fn of(store: &'a dyn Store) -> Self {
        Self { pages: Pages::of(store), page: Vec::new().into_iter() }
    }

    async fn next(&mut self) -> Result<Option<KeyValue>> {
        loop {
            if let Some(item) = self.page.next() {
                return Ok(Some(item));
            }
            match self.pages.next().await? {
                Some(items) => self.page = items.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

/// Puts that go to the target in one transaction.
#[derive(Debug, Default)]
struct Batch {
    transaction: Transaction,
    bytes: usize,
}

impl Batch {
    async fn add(&mut self, target: &dyn Store, key: String, value: Vec<u8>) -> Result<()> {
        let bytes = key.len() + value.len();
        if self.transaction.operations.len() == TXN_OPERATIONS_MAX
            || self.bytes + bytes > TXN_BYTES_MAX
        {
            self.flush(target).await?;
        }
        self.bytes += bytes;
        self.transaction.operations.push(Operation::Put { key, value, lease: None });
        Ok(())
    }

    async fn flush(&mut self, target: &dyn Store) -> Result<()> {
        let Self { transaction, .. } = std::mem::take(self);
        target.txn(&transaction).await.map(|_| ())
    }
}

fn size(item: &KeyValue) -> usize {
    item.key.len() + item.value.len()
}

fn source_changed() -> Error {
    Error::invalid(
        "the source changed while it was copied; stop the master that uses it and run the migration again",
    )
}

fn differs(key: &str) -> Error {
    Error::Corrupt {
        what: "the copy".to_owned(),
        problem: format!("key {key} is not the same in source and target"),
        remedy: "nothing in the source was changed; run the migration again with no master running"
            .to_owned(),
    }
}
