//! What every store promises, whatever is behind it. Each case works under its own prefix.

use std::{sync::Arc, time::Duration};

use piccolo_store::{
    Change, Error, KEY_BYTES_MAX, KeyValue, LEASE_TTL_SECONDS_MAX, LeaseId, Range, Revision, Store,
    StoreKind, TXN_BYTES_MAX, TXN_COMPARES_MAX, TXN_OPERATIONS_MAX, Transaction, VALUE_BYTES_MAX,
    WATCH_QUEUE_ITEMS_MAX, Watch, WatchItem, list,
};
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here should take on a slow machine; only a failure waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs every case; a panic names the case in its backtrace and in the line before.
pub(crate) async fn passes_the_contract(store: Arc<dyn Store>) {
    let store = store.as_ref();
    a_key_comes_changes_and_goes(store).await;
    a_transaction_is_all_or_nothing(store).await;
    nothing_changed_is_told_to_nobody(store).await;
    a_prefix_is_exact(store).await;
    pages_show_one_revision(store).await;
    large_pages_end_early(store).await;
    any_bytes_and_any_letters_come_back(store).await;
    limits_are_refused_with_their_names(store).await;
    the_largest_transaction_fits(store).await;
    a_watch_tells_each_revision_whole_and_in_order(store).await;
    a_watch_from_the_past_catches_up(store).await;
    a_watch_catches_up_with_megabytes(store).await;
    a_slow_watcher_misses_nothing(store).await;
    a_watch_from_the_future_waits_for_it(store).await;
    a_lease_takes_its_keys_along(store).await;
    a_lease_kept_alive_stays(store).await;
    an_unknown_lease_is_refused(store).await;
    writers_that_compare_lose_no_update(store).await;
    history_is_kept_until_compacted(store).await;
    status_tells_what_it_is(store).await;
}

async fn a_key_comes_changes_and_goes(store: &dyn Store) {
    let key = "/piccolo/v1/contract/life/key";
    assert_eq!(store.get(key).await.unwrap(), None);
    let first = put(store, key, b"one").await;
    let second = put(store, key, b"two").await;
    assert_eq!(second, first + 1);
    let found = store.get(key).await.unwrap().unwrap();
    let expected = KeyValue {
        key: key.to_owned(),
        value: b"two".to_vec(),
        create_revision: first,
        mod_revision: second,
        version: 2,
        lease: None,
    };
    assert_eq!(found, expected);
    let third = store.txn(&Transaction::new().delete(key)).await.unwrap();
    assert_eq!(third, second + 1);
    assert_eq!(store.get(key).await.unwrap(), None);
    let fourth = put(store, key, b"again").await;
    let again = store.get(key).await.unwrap().unwrap();
    assert_eq!((again.create_revision, again.version), (fourth, 1));
}

async fn a_transaction_is_all_or_nothing(store: &dyn Store) {
    let (a, b) = ("/piccolo/v1/contract/txn/a", "/piccolo/v1/contract/txn/b");
    let made = store.txn(&Transaction::new().when(a, 0).put(a, "1").put(b, "1")).await.unwrap();
    for (transaction, key, expected, found) in [
        (Transaction::new().when(a, 0).put(a, "x").put(b, "x"), a, 0, made),
        (
            Transaction::new().when(a, made).when(b, made + 7).put(a, "x").delete(b),
            b,
            made + 7,
            made,
        ),
        (
            Transaction::new().when(a, made).when("/piccolo/v1/contract/txn/c", 5).put(a, "x"),
            "/piccolo/v1/contract/txn/c",
            5,
            0,
        ),
    ] {
        match store.txn(&transaction).await {
            Err(Error::CompareFailed { key: k, expected: e, found: f }) => {
                assert_eq!((k.as_str(), e, f), (key, expected, found));
            }
            other => panic!("{transaction:?} gave {other:?}"),
        }
        assert_eq!(value(store, a).await, b"1");
        assert_eq!(value(store, b).await, b"1");
    }
    let after = Transaction::new().when(a, made).when(b, made).put(a, "2").delete(b);
    let revision = store.txn(&after).await.unwrap();
    let found = store.get(a).await.unwrap().unwrap();
    assert_eq!((found.value.as_slice(), found.mod_revision), (b"2".as_slice(), revision));
    assert_eq!(store.get(b).await.unwrap(), None);
}

async fn nothing_changed_is_told_to_nobody(store: &dyn Store) {
    let (key, absent) = ("/piccolo/v1/contract/nothing/a", "/piccolo/v1/contract/nothing/b");
    let revision = put(store, key, b"1").await;
    for transaction in [Transaction::new(), Transaction::new().when(key, revision)] {
        assert_eq!(store.txn(&transaction).await.unwrap(), revision, "{transaction:?}");
    }
    let watched = store.watch("/piccolo/v1/contract/nothing/", revision + 1).await;
    for transaction in
        [Transaction::new().delete(absent), Transaction::new().when(absent, 0).delete(absent)]
    {
        assert!(store.txn(&transaction).await.unwrap() >= revision, "{transaction:?}");
    }
    // The same value again is a change all the same, and the first that a watcher hears of.
    let same = put(store, key, b"1").await;
    assert!(same > revision);
    assert_eq!(next(&mut watched.unwrap()).await.0, same);
}

async fn a_prefix_is_exact(store: &dyn Store) {
    let inside = [
        "/piccolo/v1/contract/prefix/n",
        "/piccolo/v1/contract/prefix/n/1",
        "/piccolo/v1/contract/prefix/n\u{10fffd}",
        "/piccolo/v1/contract/prefix/näher",
        "/piccolo/v1/contract/prefix/n한",
    ];
    let outside = [
        "/piccolo/v1/contract/prefix/m",
        "/piccolo/v1/contract/prefix/o",
        "/piccolo/v1/contract/prefix",
        "/piccolo/v1/contract/prefix/N",
    ];
    for key in inside.iter().chain(&outside) {
        put(store, key, b"").await;
    }
    let (found, _) = list(store, "/piccolo/v1/contract/prefix/n").await.unwrap();
    let mut expected = inside.to_vec();
    expected.sort_unstable();
    assert_eq!(keys(&found), expected);
}

async fn pages_show_one_revision(store: &dyn Store) {
    let prefix = "/piccolo/v1/contract/pages/";
    for batch in 0..5 {
        let transaction = (0..50).fold(Transaction::new(), |txn, i| {
            txn.put(format!("{prefix}{:03}", batch * 50 + i), "old")
        });
        store.txn(&transaction).await.unwrap();
    }
    let mut range = Range { limit: 70, ..Range::prefix(prefix) };
    let first = store.range(&range).await.unwrap();
    assert_eq!(first.items.len(), 70);
    assert_eq!(first.next.as_deref(), Some("/piccolo/v1/contract/pages/070"));
    // Changes behind the reader's back do not show at the revision it reads.
    let change = Transaction::new()
        .delete(format!("{prefix}100"))
        .put(format!("{prefix}101"), "new")
        .put(format!("{prefix}1005"), "new");
    store.txn(&change).await.unwrap();
    let mut all = first.items;
    range.revision = Some(first.revision);
    range.start = first.next;
    while range.start.is_some() {
        let page = store.range(&range).await.unwrap();
        assert_eq!(page.revision, first.revision);
        all.extend(page.items);
        range.start = page.next;
    }
    let expected: Vec<String> = (0..250).map(|i| format!("{prefix}{i:03}")).collect();
    assert_eq!(keys(&all), expected);
    assert!(all.iter().all(|item| item.value == b"old"));
    let (now, _) = list(store, prefix).await.unwrap();
    assert_eq!(now.len(), 250);
    assert_eq!(now.iter().filter(|item| item.value == b"new").count(), 2);
}

async fn large_pages_end_early(store: &dyn Store) {
    let prefix = "/piccolo/v1/contract/large/";
    let big = vec![7; VALUE_BYTES_MAX];
    for i in 0..12 {
        put(store, &format!("{prefix}{i:02}"), &big).await;
    }
    let (all, _) = list(store, prefix).await.unwrap();
    assert_eq!(all.len(), 12);
    assert!(all.iter().all(|item| item.value == big));
    for i in 0..12 {
        store.txn(&Transaction::new().delete(format!("{prefix}{i:02}"))).await.unwrap();
    }
}

async fn any_bytes_and_any_letters_come_back(store: &dyn Store) {
    let prefix = "/piccolo/v1/contract/bytes/";
    let every_byte: Vec<u8> = (0..=255).collect();
    let cases = [
        ("empty", vec![]),
        ("every", every_byte),
        ("한국어 키", b"\0\xff".to_vec()),
        ("a b%_'\"\\", vec![0]),
    ];
    for (name, bytes) in &cases {
        put(store, &format!("{prefix}{name}"), bytes).await;
    }
    for (name, bytes) in &cases {
        assert_eq!(&value(store, &format!("{prefix}{name}")).await, bytes, "{name}");
    }
}

async fn limits_are_refused_with_their_names(store: &dyn Store) {
    let key = "/piccolo/v1/contract/limits/k";
    let before = put(store, key, b"1").await;
    let long_key = format!("{key}{}", "x".repeat(KEY_BYTES_MAX));
    let big = vec![0; VALUE_BYTES_MAX];
    let many = |n: usize| (0..n).map(|i| format!("{key}{i}"));
    let cases = [
        (Transaction::new().put("/elsewhere/k", ""), "/elsewhere/k"),
        (Transaction::new().put("/piccolo/v1/", ""), "is a prefix"),
        (Transaction::new().put(format!("{key}\n"), ""), "'\\n'"),
        (Transaction::new().put(format!("{key}\u{10ffff}"), ""), "10ffff"),
        (Transaction::new().put(key, "1").delete(key), "twice"),
        (Transaction::new().put(&long_key, ""), "the limit is 512 bytes"),
        (Transaction::new().when(&long_key, 1), "the limit is 512 bytes"),
        (Transaction::new().put(key, vec![0; VALUE_BYTES_MAX + 1]), "the limit is 524288 bytes"),
        (
            many(2).chain(many(3).skip(2)).fold(Transaction::new(), |t, k| t.put(k, big.clone())),
            "the limit is 1048576 bytes",
        ),
        (
            many(TXN_OPERATIONS_MAX + 1).fold(Transaction::new(), |t, k| t.put(k, "")),
            "the limit is 127 operations",
        ),
        (
            many(TXN_COMPARES_MAX + 1).fold(Transaction::new(), |t, k| t.when(k, 0)),
            "the limit is 127 compares",
        ),
        (Transaction::new().put("/piccolo/v1/sealed/secret", "in the clear"), "must be sealed"),
    ];
    for (transaction, part) in cases {
        let error = store.txn(&transaction).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. } | Error::TooLarge { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error} does not say {part}");
    }
    for range in [
        Range::prefix("/"),
        Range { limit: 0, ..Range::prefix(key) },
        Range { revision: Some(0), ..Range::prefix(key) },
        Range { limit: 1001, ..Range::prefix(key) },
        Range { start: Some("/piccolo/v1/a".into()), ..Range::prefix(key) },
    ] {
        let error = store.range(&range).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. } | Error::TooLarge { .. }), "{error:?}");
    }
    assert!(matches!(store.get("/etc/passwd").await, Err(Error::Invalid { .. })));
    assert!(matches!(store.watch(key, 0).await, Err(Error::Invalid { .. })));
    for ttl in [
        Duration::ZERO,
        Duration::from_millis(1500),
        Duration::from_secs(LEASE_TTL_SECONDS_MAX + 1),
    ] {
        assert!(store.grant(ttl).await.is_err(), "{ttl:?}");
    }
    assert_eq!(store.get(key).await.unwrap().unwrap().mod_revision, before);
}

async fn the_largest_transaction_fits(store: &dyn Store) {
    let prefix = "/piccolo/v1/contract/largest/";
    let each = (TXN_BYTES_MAX / TXN_OPERATIONS_MAX) - 64;
    let transaction = (0..TXN_OPERATIONS_MAX).fold(Transaction::new(), |txn, i| {
        txn.when(format!("{prefix}{i}"), 0).put(format!("{prefix}{i}"), vec![b'x'; each])
    });
    let revision = store.txn(&transaction).await.unwrap();
    let (all, _) = list(store, prefix).await.unwrap();
    assert_eq!(all.len(), TXN_OPERATIONS_MAX);
    assert!(all.iter().all(|item| item.mod_revision == revision && item.value.len() == each));
}

async fn a_watch_tells_each_revision_whole_and_in_order(store: &dyn Store) {
    let prefix = "/piccolo/v1/contract/watch/";
    let key = |name: &str| format!("{prefix}{name}");
    let start = put(store, &key("before"), b"").await;
    let mut watch = store.watch(prefix, start + 1).await.unwrap();
    let one = store.txn(&Transaction::new().put(key("b"), "1").put(key("a"), "1")).await.unwrap();
    put(store, "/piccolo/v1/contract/watch-not", b"").await;
    let mixed = Transaction::new()
        .delete(key("a"))
        .put("/piccolo/v1/contract/other", "")
        .put(key("b"), "2");
    let two = store.txn(&mixed).await.unwrap();
    let (revision, changes) = next(&mut watch).await;
    assert_eq!(revision, one);
    let mut told: Vec<_> = changes.iter().map(describe).collect();
    told.sort();
    assert_eq!(told, [format!("{}=1 v1 @{one}", key("a")), format!("{}=1 v1 @{one}", key("b"))]);
    let (revision, changes) = next(&mut watch).await;
    assert_eq!(revision, two);
    let mut told: Vec<_> = changes.iter().map(describe).collect();
    told.sort();
    assert_eq!(told, [format!("{} deleted", key("a")), format!("{}=2 v2 @{two}", key("b"))]);
}

async fn a_watch_from_the_past_catches_up(store: &dyn Store) {
    let key = "/piccolo/v1/contract/past/k";
    let first = put(store, key, b"0").await;
    for i in 1..=300 {
        put(store, key, i.to_string().as_bytes()).await;
    }
    let mut watch = store.watch(key, first).await.unwrap();
    for i in 0..=300 {
        let (revision, changes) = next(&mut watch).await;
        assert_eq!(revision, first + i);
        let told: Vec<_> = changes.iter().map(describe).collect();
        assert_eq!(told, [format!("{key}={i} v{} @{revision}", i + 1)]);
    }
}

async fn a_watch_catches_up_with_megabytes(store: &dyn Store) {
    let prefix = "/piccolo/v1/contract/megabytes/";
    let half = vec![b'x'; TXN_BYTES_MAX / 2 - 100];
    let mut revisions = Vec::new();
    for _ in 0..6 {
        let both = Transaction::new()
            .put(format!("{prefix}a"), half.clone())
            .put(format!("{prefix}b"), half.clone());
        revisions.push(store.txn(&both).await.unwrap());
    }
    let mut watch = store.watch(prefix, revisions[0]).await.unwrap();
    for revision in revisions {
        let (told, changes) = next(&mut watch).await;
        assert_eq!((told, changes.len()), (revision, 2));
    }
    store
        .txn(&Transaction::new().delete(format!("{prefix}a")).delete(format!("{prefix}b")))
        .await
        .unwrap();
}

async fn a_slow_watcher_misses_nothing(store: &dyn Store) {
    let key = "/piccolo/v1/contract/slow/k";
    let first = put(store, key, b"0").await;
    let mut watch = store.watch(key, first).await.unwrap();
    let changes = WATCH_QUEUE_ITEMS_MAX as u64 * 20;
    for _ in 0..changes {
        put(store, key, &[0; 10_000]).await;
    }
    for i in 0..=changes {
        assert_eq!(next(&mut watch).await.0, first + i);
    }
}

async fn a_watch_from_the_future_waits_for_it(store: &dyn Store) {
    let key = "/piccolo/v1/contract/future/k";
    let now = put(store, key, b"0").await;
    let mut watch = store.watch(key, now + 3).await.unwrap();
    for i in 1..=3 {
        put(store, key, i.to_string().as_bytes()).await;
    }
    assert_eq!(next(&mut watch).await.0, now + 3);
}

async fn a_lease_takes_its_keys_along(store: &dyn Store) {
    let prefix = "/piccolo/v1/contract/lease/";
    let key = |name: &str| format!("{prefix}{name}");
    let short = store.grant(Duration::from_secs(1)).await.unwrap();
    let long = store.grant(Duration::from_secs(600)).await.unwrap();
    let made = store
        .txn(
            &Transaction::new()
                .put_leased(key("a"), "", short)
                .put_leased(key("b"), "", short)
                .put_leased(key("freed"), "", short)
                .put_leased(key("long"), "", long)
                .put(key("plain"), ""),
        )
        .await
        .unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().lease, Some(short));
    // Put again without the lease: the key no longer belongs to it.
    let freed = put(store, &key("freed"), b"").await;
    let mut watch = store.watch(prefix, freed + 1).await.unwrap();
    let (revision, changes) = next(&mut watch).await;
    assert!(revision > made);
    let mut told: Vec<_> = changes.iter().map(describe).collect();
    told.sort();
    assert_eq!(told, [format!("{} deleted", key("a")), format!("{} deleted", key("b"))]);
    assert!(matches!(store.keep_alive(short).await, Err(Error::LeaseNotFound { .. })));
    store.revoke(long).await.unwrap();
    let (left, _) = list(store, prefix).await.unwrap();
    assert_eq!(keys(&left), [key("freed"), key("plain")]);
    assert!(matches!(store.revoke(long).await, Err(Error::LeaseNotFound { .. })));
}

async fn a_lease_kept_alive_stays(store: &dyn Store) {
    let key = "/piccolo/v1/contract/alive/k";
    let lease = store.grant(Duration::from_secs(2)).await.unwrap();
    store.txn(&Transaction::new().put_leased(key, "", lease)).await.unwrap();
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert_eq!(store.keep_alive(lease).await.unwrap(), Duration::from_secs(2));
        assert!(store.get(key).await.unwrap().is_some());
        // The pace of keeping alive is what is tested here, not something waited for.
        sleep(Duration::from_millis(250)).await;
    }
    store.revoke(lease).await.unwrap();
    assert_eq!(store.get(key).await.unwrap(), None);
}

async fn an_unknown_lease_is_refused(store: &dyn Store) {
    let (key, other) = ("/piccolo/v1/contract/unknown/k", "/piccolo/v1/contract/unknown/other");
    let lease = LeaseId(0x7777_7777);
    let transaction = Transaction::new().put(other, "").put_leased(key, "", lease);
    assert!(
        matches!(store.txn(&transaction).await, Err(Error::LeaseNotFound { lease: l }) if l == lease)
    );
    assert!(matches!(store.keep_alive(lease).await, Err(Error::LeaseNotFound { .. })));
    assert_eq!(store.get(key).await.unwrap(), None);
    assert_eq!(store.get(other).await.unwrap(), None);
}

async fn writers_that_compare_lose_no_update(store: &dyn Store) {
    let key = "/piccolo/v1/contract/counter";
    let add_twenty = async || {
        for _ in 0..20 {
            loop {
                let now = store.get(key).await.unwrap();
                let (count, revision) =
                    now.map_or((0, 0), |item| (number(&item.value), item.mod_revision));
                let next = Transaction::new().when(key, revision).put(key, (count + 1).to_string());
                match store.txn(&next).await {
                    Ok(_) => break,
                    Err(Error::CompareFailed { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    tokio::join!(add_twenty(), add_twenty(), add_twenty(), add_twenty());
    assert_eq!(number(&value(store, key).await), 80);
}

async fn history_is_kept_until_compacted(store: &dyn Store) {
    let prefix = "/piccolo/v1/contract/history/";
    let key = |name: &str| format!("{prefix}{name}");
    let at = async |revision| {
        let range = Range { revision: Some(revision), ..Range::prefix(prefix) };
        store.range(&range).await.map(|page| {
            page.items
                .iter()
                .map(|i| String::from_utf8_lossy(&i.value).into_owned())
                .collect::<Vec<_>>()
        })
    };
    let one = put(store, &key("a"), b"a1").await;
    let two = store.txn(&Transaction::new().put(key("a"), "a2").put(key("b"), "b2")).await.unwrap();
    let three = store.txn(&Transaction::new().delete(key("a"))).await.unwrap();
    let four = put(store, &key("b"), b"b4").await;
    assert_eq!(at(one).await.unwrap(), ["a1"]);
    assert_eq!(at(two).await.unwrap(), ["a2", "b2"]);
    assert_eq!(at(three).await.unwrap(), ["b2"]);
    assert_eq!(at(four).await.unwrap(), ["b4"]);
    assert!(matches!(at(four + 1).await, Err(Error::FutureRevision { .. })));
    assert!(matches!(store.compact(four + 1).await, Err(Error::FutureRevision { .. })));

    store.compact(three).await.unwrap();
    store.compact(three).await.unwrap();
    store.compact(one).await.unwrap();
    for gone in [one, two] {
        match at(gone).await {
            Err(Error::Compacted { asked, compact_revision }) => {
                assert_eq!((asked, compact_revision), (gone, three));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at(three).await.unwrap(), ["b2"]);
    for from in [one, two, three] {
        let mut watch = store.watch(prefix, from).await.unwrap();
        match timeout(PATIENCE, watch.next()).await.unwrap() {
            Some(WatchItem::Compacted { compact_revision }) => assert_eq!(compact_revision, three),
            other => panic!("from {from} of {three}: {other:?}"),
        }
        assert!(watch.next().await.is_none());
    }
    let mut watch = store.watch(prefix, four).await.unwrap();
    assert_eq!(next(&mut watch).await.0, four);
    assert_eq!(put(store, &key("b"), b"b5").await, four + 1);
    assert_eq!(next(&mut watch).await.0, four + 1);
}

async fn status_tells_what_it_is(store: &dyn Store) {
    let revision = put(store, "/piccolo/v1/contract/status", b"").await;
    let status = store.status().await.unwrap();
    assert_eq!(status.revision, revision);
    assert!(status.size_bytes >= 4096, "{status:?}");
    assert!(!status.instance.is_empty() && !status.location.is_empty());
    let version = match status.kind {
        StoreKind::Embedded => "SQLite 3.",
        StoreKind::Etcd => "etcd 3.",
    };
    assert!(status.version.starts_with(version), "{status:?}");
}

pub(crate) async fn put(store: &dyn Store, key: &str, value: &[u8]) -> Revision {
    store.txn(&Transaction::new().put(key, value)).await.unwrap()
}

pub(crate) async fn value(store: &dyn Store, key: &str) -> Vec<u8> {
    store.get(key).await.unwrap().unwrap().value
}

/// The next item of a watch, which must be changes.
pub(crate) async fn next(watch: &mut Watch) -> (Revision, Vec<Change>) {
    match timeout(PATIENCE, watch.next()).await.unwrap() {
        Some(WatchItem::Changes { revision, changes }) => (revision, changes),
        other => panic!("{other:?} instead of changes"),
    }
}

pub(crate) fn keys(items: &[KeyValue]) -> Vec<&str> {
    items.iter().map(|item| item.key.as_str()).collect()
}

fn describe(change: &Change) -> String {
    match change {
        Change::Put(item) => {
            let value = String::from_utf8_lossy(&item.value);
            format!("{}={value} v{} @{}", item.key, item.version, item.mod_revision)
        }
        Change::Delete { key } => format!("{key} deleted"),
    }
}

fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}
