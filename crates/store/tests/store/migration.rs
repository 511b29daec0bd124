//! Moving between stores: all or visibly unfinished, in both directions, with real etcd on one
//! side.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use piccolo_store::{
    EmbeddedOptions, EmbeddedStore, Error, EtcdStore, KeyValue, LeaseId, Page, Range, Reply,
    Revision, Store, StoreStatus, TXN_BYTES_MAX, Transaction, Watch, list, migrate, testing::Etcd,
    wipe_incomplete,
};
use tokio::sync::Notify;

use crate::{
    contract::{keys, put},
    embedded::{Folder, create},
    etcd::connect,
};

const ROOT: &str = "/piccolo/v1/";

#[tokio::test]
async fn everything_arrives_in_both_directions() {
    let (folder, back, etcd) = (Folder::new(), Folder::new(), Etcd::start());
    let embedded = create(&folder.path);
    fill(&embedded).await;
    let lease = embedded.grant(Duration::from_secs(60)).await.unwrap();
    let leader = Transaction::new().put_leased("/piccolo/v1/leader", "me", lease);
    embedded.txn(&leader).await.unwrap();
    let before = content(&embedded).await;

    let report = migrate(&embedded, &*connect(&etcd)).await.unwrap();
    assert_eq!(report.keys, before.len() - 1, "all but the leased key");
    assert_eq!(report.leased_keys_left_out, 1);
    let bytes: usize = before.iter().map(|(k, v)| k.len() + v.len()).sum();
    assert_eq!(report.bytes, bytes as u64 - "/piccolo/v1/leader".len() as u64 - 2);
    assert_eq!(report.source_revision, embedded.status().await.unwrap().revision);
    assert_eq!(content(&embedded).await, before, "the source is only read");

    let target = create(&back.path);
    let again = migrate(&*connect(&etcd), &target).await.unwrap();
    assert_eq!((again.keys, again.bytes), (report.keys, report.bytes));
    let mut expected = before;
    expected.remove("/piccolo/v1/leader");
    assert_eq!(content(&target).await, expected);
    drop(target);
    EmbeddedStore::open(EmbeddedOptions::new(&back.path)).unwrap();
}

#[tokio::test]
async fn a_target_that_is_not_empty_is_left_alone() {
    let (from, to) = (Folder::new(), Folder::new());
    let (source, target) = (create(&from.path), create(&to.path));
    fill(&source).await;
    put(&target, "/piccolo/v1/nodes/mine", b"").await;
    let error = migrate(&source, &target).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("/piccolo/v1/nodes/mine"), "{error}");
    let (left, _) = list(&target, ROOT).await.unwrap();
    assert_eq!(keys(&left), ["/piccolo/v1/nodes/mine"]);
    drop(target);
    EmbeddedStore::open(EmbeddedOptions::new(&to.path)).unwrap();
}

#[tokio::test]
async fn a_store_is_not_moved_onto_itself() {
    let etcd = Etcd::start();
    let error = migrate(&*connect(&etcd), &*connect(&etcd)).await.unwrap_err();
    assert!(error.to_string().contains("source and target at once"), "{error}");
}

/// At every point where a crash can be.
#[tokio::test]
async fn an_unfinished_embedded_target_is_refused_until_finished() {
    let from = Folder::new();
    let source = create(&from.path);
    fill(&source).await;
    let before = content(&source).await;
    let mut points = 0;
    loop {
        let to = Folder::new();
        let under_way = stop_after(points, &source, &create(&to.path)).await;
        let opened = EmbeddedStore::open(EmbeddedOptions::new(&to.path));
        if points == 0 {
            assert!(content(&opened.unwrap()).await.is_empty(), "nothing was begun");
        } else if under_way {
            refusal_helps(&opened.unwrap_err(), &from.path);
            migrate(&source, &incomplete(&to.path)).await.unwrap();
            let target = EmbeddedStore::open(EmbeddedOptions::new(&to.path)).unwrap();
            assert_eq!(content(&target).await, before);
        } else {
            assert_eq!(content(&opened.unwrap()).await, before);
            break;
        }
        points += 1;
    }
    assert!(points > 10, "only {points} transactions");
    assert_eq!(content(&source).await, before);
}

#[tokio::test]
async fn state_in_use_is_never_wiped() {
    let folder = Folder::new();
    let store = create(&folder.path);
    fill(&store).await;
    let before = content(&store).await;
    let error = wipe_incomplete(&store).await.unwrap_err();
    assert!(error.to_string().contains("no unfinished migration"), "{error}");
    assert_eq!(content(&store).await, before);
}

#[tokio::test]
async fn an_unfinished_etcd_target_is_refused_until_finished_or_wiped() {
    let (from, etcd) = (Folder::new(), Etcd::start());
    let source = create(&from.path);
    fill(&source).await;
    assert!(stop_after(5, &source, &*connect(&etcd)).await);

    let master = connect(&etcd);
    refusal_helps(&master.get("/piccolo/v1/nodes/0").await.unwrap_err(), &from.path);
    refusal_helps(
        &master.txn(&Transaction::new().put("/piccolo/v1/a", "")).await.unwrap_err(),
        &from.path,
    );
    let target = Arc::new(EtcdStore::new(etcd.options("migrate").allow_incomplete()).unwrap());
    let removed = wipe_incomplete(&*target).await.unwrap();
    assert!(removed > 0);
    assert!(content(&*master).await.is_empty());
    migrate(&source, &*target).await.unwrap();
    assert_eq!(content(&*master).await, content(&source).await);
}

#[tokio::test]
async fn a_source_that_changes_meanwhile_is_noticed() {
    let (from, to) = (Folder::new(), Folder::new());
    let source = Arc::new(create(&from.path));
    let target = create(&to.path);
    fill(&*source).await;
    let writer = tokio::spawn({
        let source = Arc::clone(&source);
        async move {
            loop {
                put(&*source, "/piccolo/v1/nodes/0", b"changed").await;
            }
        }
    });
    let error = migrate(&*source, &target).await.unwrap_err();
    writer.abort();
    assert!(
        matches!(error, Error::Invalid { .. }) && error.to_string().contains("stop the master"),
        "{error}"
    );
    drop(target);
    let refused = EmbeddedStore::open(EmbeddedOptions::new(&to.path));
    assert!(matches!(refused, Err(Error::Incomplete { .. })), "{refused:?}");
}

/// Breaks a migration off after its target took some transactions, as a crash would. Returns
/// whether it was still under way.
async fn stop_after(transactions: usize, source: &dyn Store, target: &dyn Store) -> bool {
    let target = Crashing { target, left: AtomicUsize::new(transactions), crashed: Notify::new() };
    tokio::select! {
        done = migrate(source, &target) => done.map(|_| false).unwrap(),
        () = target.crashed.notified() => true,
    }
}

/// A real store whose user crashes before a certain transaction.
#[derive(Debug)]
struct Crashing<'a> {
    target: &'a dyn Store,
    left: AtomicUsize,
    crashed: Notify,
}

impl Store for Crashing<'_> {
    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<KeyValue>> {
        self.target.get(key)
    }

    fn range<'a>(&'a self, range: &'a Range) -> Reply<'a, Page> {
        self.target.range(range)
    }

    fn txn<'a>(&'a self, transaction: &'a Transaction) -> Reply<'a, Revision> {
        let left = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            self.crashed.notify_one();
            return Box::pin(std::future::pending());
        }
        self.target.txn(transaction)
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Reply<'a, Watch> {
        self.target.watch(prefix, from)
    }

    fn grant(&self, ttl: Duration) -> Reply<'_, LeaseId> {
        self.target.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> Reply<'_, Duration> {
        self.target.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Reply<'_, ()> {
        self.target.revoke(lease)
    }

    fn compact(&self, revision: Revision) -> Reply<'_, ()> {
        self.target.compact(revision)
    }

    fn status(&self) -> Reply<'_, StoreStatus> {
        self.target.status()
    }
}

fn refusal_helps(error: &Error, source: &Path) {
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
    for part in [&source.display().to_string(), "--wipe", "again", "source is untouched"] {
        assert!(error.to_string().contains(part), "{error} does not say {part}");
    }
}

fn incomplete(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(EmbeddedOptions::new(path).allow_incomplete()).unwrap()
}

async fn content(store: &dyn Store) -> BTreeMap<String, Vec<u8>> {
    let (items, _) = list(store, ROOT).await.unwrap();
    items.into_iter().map(|item| (item.key, item.value)).collect()
}

/// More than a page of small keys, and more than one transaction of large ones.
async fn fill(store: &dyn Store) {
    for batch in 0..12 {
        let transaction = (0..100).fold(Transaction::new(), |txn, i| {
            txn.put(format!("/piccolo/v1/nodes/{}", batch * 100 + i), format!("node {i}"))
        });
        store.txn(&transaction).await.unwrap();
    }
    for i in 0..8 {
        put(store, &format!("/piccolo/v1/artifacts/{i}"), &vec![i; TXN_BYTES_MAX / 3]).await;
    }
    put(store, "/piccolo/v1/empty", b"").await;
    put(store, "/piccolo/v1/한국어", &[0, 255]).await;
}
