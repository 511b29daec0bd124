//! What only the etcd store promises: it survives its server, whatever that does. Every server here
//! is a real one.

use std::{sync::Arc, time::Duration};

use piccolo_store::{
    Error, EtcdOptions, EtcdStore, Health, Revision, Store, Transaction, WatchItem, list,
    testing::{Etcd, EtcdSetup, Pki},
};
use tokio::time::{Instant, sleep, timeout};

use crate::contract::{PATIENCE, next, passes_the_contract, put, value};

const KEY: &str = "/piccolo/v1/nodes/a";
const COUNTER: &str = "/piccolo/v1/counter";
/// "Promptly": three calls together take less than the deadline of one (5 s).
/// (5 s).
const PROMPT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_plain_etcd_passes_the_contract() {
    let etcd = Etcd::start();
    passes_the_contract(connect(&etcd)).await;
}

#[tokio::test]
async fn an_etcd_with_client_certificates_passes_the_contract() {
    let etcd = Etcd::start_with(EtcdSetup { tls: true, ..EtcdSetup::default() });
    passes_the_contract(connect(&etcd)).await;
}

#[tokio::test]
async fn an_etcd_with_users_passes_the_contract() {
    let etcd = Etcd::start();
    etcd.require_users("master", "secret");
    passes_the_contract(store(etcd.options("test").user("master", "secret"))).await;
}

#[tokio::test]
async fn a_server_or_client_with_the_wrong_certificate_is_refused() {
    let etcd = Etcd::start_with(EtcdSetup { tls: true, ..EtcdSetup::default() });
    let pki = etcd.pki().unwrap();
    let mut no_certificate = pki.client_tls();
    no_certificate.client_pem = None;
    let mut foreign_client = Pki::new().client_tls();
    foreign_client.ca_pem = pki.ca_pem.clone().into_bytes();
    let mut wrong_name = pki.client_tls();
    wrong_name.server_name = Some("elsewhere".to_owned());
    for (tls, part) in [
        (Pki::new().client_tls(), "invalid peer certificate"),
        (no_certificate, "ertificate"),
        (foreign_client, "ertificate"),
        (wrong_name, "not valid for name"),
    ] {
        let options = EtcdOptions::new([etcd.endpoint()], "test").tls(tls);
        let error = store(options).get(KEY).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error} does not say {part}");
    }
}

#[tokio::test]
async fn a_wrong_user_or_password_or_key_is_refused() {
    let etcd = Etcd::start();
    let with_user = etcd.options("test").user("master", "secret");
    let error = store(with_user.clone()).get(KEY).await.unwrap_err();
    assert!(
        matches!(error, Error::Denied { .. }) && error.to_string().contains("not enabled"),
        "{error}"
    );

    etcd.require_users("master", "secret");
    for (options, part) in [
        (etcd.options("test"), "user name is empty"),
        (etcd.options("test").user("master", "wrong"), "invalid user ID or password"),
        (etcd.options("test").user("nobody", "secret"), "invalid user ID or password"),
    ] {
        let error = store(options.clone()).get(KEY).await.unwrap_err();
        assert!(
            matches!(error, Error::Denied { .. }) && error.to_string().contains(part),
            "{error:?}"
        );
        let error = store(options).txn(&Transaction::new().put(KEY, "")).await.unwrap_err();
        assert!(
            matches!(error, Error::Denied { .. }) && error.to_string().contains(part),
            "{error:?}"
        );
    }
    // A watch without permission ends with the reason instead of waiting for ever.
    let stranger = store(etcd.options("test"));
    let mut watch = stranger.watch(KEY, 1).await.unwrap();
    assert!(matches!(timeout(PATIENCE, watch.next()).await.unwrap(), Some(WatchItem::Failed(_))));
    put(&*store(with_user), KEY, b"1").await;
}

#[tokio::test]
async fn tokens_that_etcd_forgot_are_renewed() {
    let mut etcd = Etcd::start();
    etcd.require_users("master", "secret");
    let store = store(etcd.options("test").user("master", "secret"));
    let before = put(&*store, KEY, b"1").await;
    let mut watch = store.watch(KEY, before + 1).await.unwrap();
    // etcd keeps its simple tokens in memory only: after this ours is "invalid auth token".
    etcd.kill();
    etcd.start_again();
    let after = txn_until_done(&*store, &Transaction::new().put(KEY, "2")).await;
    assert_eq!(value(&*store, KEY).await, b"2");
    assert_eq!(next(&mut watch).await.0, after);
}

#[tokio::test]
async fn an_endpoint_down_at_the_start_is_told_at_once_and_used_when_it_appears() {
    let mut etcd = Etcd::prepare(EtcdSetup::default());
    let store = connect(&etcd);
    let mut watch = store.watch(KEY, 1).await.unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        let error = store.get(KEY).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }) && error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
        let error = store.txn(&Transaction::new().put(KEY, "1")).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(matches!(store.status().await, Err(Error::Unavailable { .. })));
        assert!(begun.elapsed() < PROMPT, "it took {:?} to say so", begun.elapsed());
    }
    etcd.start_again();
    let revision = retry(async || store.txn(&Transaction::new().put(KEY, "1")).await).await;
    assert_eq!(next(&mut watch).await.0, revision);
}

#[tokio::test]
async fn one_of_two_endpoints_is_enough() {
    let mut etcd = Etcd::start();
    let down = Etcd::prepare(EtcdSetup::default());
    let options = EtcdOptions::new([down.endpoint(), etcd.endpoint()], "test");
    let store = store(options);
    let revision = put(&*store, KEY, b"1").await;
    let status = store.status().await.unwrap();
    match status.health {
        Health::Degraded(why) => assert!(why.contains(&down.endpoint()), "{why}"),
        Health::Good => panic!("an endpoint is down, but the status is good"),
    }
    let mut watch = store.watch(KEY, revision + 1).await.unwrap();
    etcd.kill();
    etcd.start_again();
    let after = txn_until_done(&*store, &Transaction::new().put(KEY, "2")).await;
    assert_eq!(next(&mut watch).await.0, after);
}

/// A counter that is added to through compares, over a server that is killed again and again: each
/// addition that was acknowledged counts exactly once, and the watcher sees each.
#[tokio::test]
async fn nothing_is_lost_or_done_twice_while_etcd_is_killed_and_returns() {
    let mut etcd = Etcd::start();
    let store = connect(&etcd);
    let mut revision = put(&*store, COUNTER, b"0").await;
    let mut watch = store.watch(COUNTER, revision).await.unwrap();
    let worker = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for count in 1..=400 {
                let add =
                    Transaction::new().when(COUNTER, revision).put(COUNTER, count.to_string());
                // An equal transaction again and again: a compare that fails would mean it was
                // applied twice.
                revision = txn_until_done(&*store, &add).await;
            }
        }
    });
    let mut expected = 0;
    while expected <= 400 {
        let (_, changes) = next(&mut watch).await;
        for change in changes {
            match change {
                piccolo_store::Change::Put(item) => {
                    assert_eq!(item.value, expected.to_string().into_bytes())
                }
                piccolo_store::Change::Delete { .. } => panic!("nobody deletes the counter"),
            }
            expected += 1;
            if expected % 80 == 0 {
                etcd.kill();
                etcd.start_again();
            }
        }
    }
    worker.await.unwrap();
    assert_eq!(value(&*store, COUNTER).await, b"400");
}

#[tokio::test]
async fn blind_puts_interrupted_by_a_freeze_are_applied_once() {
    let etcd = Etcd::start();
    let store =
        store(EtcdOptions { call_deadline: Duration::from_millis(300), ..etcd.options("test") });
    put(&*store, KEY, b"before").await;
    let mut unknown = 0;
    for round in 0..5 {
        etcd.freeze();
        let add = Transaction::new().put(KEY, round.to_string());
        // The request is in the frozen server's socket: it will be done after the thaw, or not.
        // Nobody can know.
        let error = store.txn(&add).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        unknown += 1;
        etcd.thaw();
        retry(async || store.txn(&add).await).await;
        let found = store.get(KEY).await.unwrap().unwrap();
        assert_eq!(found.value, round.to_string().into_bytes());
        assert_eq!(found.version, unknown + 1, "each of the puts was done exactly once");
    }
}

#[tokio::test]
async fn a_refused_compare_stays_refused_after_a_freeze() {
    let etcd = Etcd::start();
    let store =
        store(EtcdOptions { call_deadline: Duration::from_millis(300), ..etcd.options("test") });
    let revision = put(&*store, KEY, b"other").await;
    etcd.freeze();
    let add = Transaction::new().when(KEY, 0).put(KEY, "mine");
    let error = store.txn(&add).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    etcd.thaw();
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        match store.txn(&add).await.unwrap_err() {
            error if error.is_retryable() => assert!(Instant::now() < deadline, "{error}"),
            error => break error,
        }
    };
    assert!(matches!(error, Error::CompareFailed { found, .. } if found == revision), "{error:?}");
    // Even when the compare would hold now, what was sent before comes too late.
    txn_until_done(&*store, &Transaction::new().delete(KEY)).await;
    assert_eq!(store.get(KEY).await.unwrap(), None);
}

#[tokio::test]
async fn two_processes_with_one_client_name_are_slow_but_right() {
    let etcd = Etcd::start();
    let (one, two) = (connect(&etcd), connect(&etcd));
    let add = async |store: &EtcdStore| {
        for _ in 0..50 {
            let before = store.get(COUNTER).await.unwrap();
            let count = before.as_ref().map_or(0, |item| item.value.len());
            let next = Transaction::new()
                .when(COUNTER, before.map_or(0, |item| item.mod_revision))
                .put(COUNTER, vec![b'+'; count + 1]);
            loop {
                match store.txn(&next).await {
                    Ok(_) | Err(Error::CompareFailed { .. }) => break,
                    // The other was faster too often.
                    Err(error) if error.is_retryable() => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    tokio::join!(add(&one), add(&two));
    let counted = store(etcd.options("reader")).get(COUNTER).await.unwrap().unwrap();
    assert_eq!(counted.value.len() as u64, counted.version, "each addition was done once");
    assert!(counted.version >= 50);
}

#[test]
fn passwords_and_keys_are_not_printed() {
    let etcd = EtcdOptions::new(["https://127.0.0.1:1".to_owned()], "test")
        .user("master", "swordfish")
        .tls(Pki::new().client_tls());
    let printed = format!("{etcd:?}");
    assert!(printed.contains("master"));
    assert!(!printed.contains("swordfish") && !printed.contains("PRIVATE"), "{printed}");
}

#[tokio::test]
async fn a_future_dropped_half_way_and_tried_again_is_one_transaction() {
    let etcd = Etcd::start();
    let store = connect(&etcd);
    put(&*store, KEY, b"0").await;
    let mut dropped = 0;
    for round in 1..=40 {
        let add = Transaction::new().put(KEY, round.to_string());
        // Dropped at different points of its way.
        match timeout(Duration::from_micros(40 * round), store.txn(&add)).await {
            Ok(done) => assert!(done.is_ok(), "{done:?}"),
            Err(_) => {
                dropped += 1;
                store.txn(&add).await.unwrap();
            }
        }
        assert_eq!(store.get(KEY).await.unwrap().unwrap().version, round + 1);
    }
    assert!(dropped > 0, "40 us were always enough");
}

#[tokio::test]
async fn a_frozen_etcd_delays_but_loses_nothing() {
    let etcd = Etcd::start();
    let store = connect(&etcd);
    let revision = put(&*store, KEY, b"0").await;
    let mut watch = store.watch(KEY, revision + 1).await.unwrap();
    etcd.freeze();
    let begun = Instant::now();
    let error = store.get(KEY).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(begun.elapsed() < 2 * etcd.options("").call_deadline, "{:?}", begun.elapsed());
    etcd.thaw();
    let after = retry(async || store.txn(&Transaction::new().put(KEY, "1")).await).await;
    assert_eq!(next(&mut watch).await.0, after);
}

/// A disk that stalls for half of every 400 ms, as slow flash does.
#[tokio::test]
async fn a_slow_disk_slows_but_fails_nothing() {
    let etcd = Arc::new(Etcd::start());
    let store = connect(&etcd);
    let pulses = tokio::spawn({
        let etcd = Arc::clone(&etcd);
        async move {
            loop {
                etcd.freeze();
                sleep(Duration::from_millis(200)).await;
                etcd.thaw();
                sleep(Duration::from_millis(200)).await;
            }
        }
    });
    let mut watch = store.watch(KEY, 1).await.unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    let mut told = Vec::new();
    while Instant::now() < end {
        told.push(put(&*store, KEY, b"x").await);
    }
    pulses.abort();
    pulses.await.unwrap_err();
    etcd.thaw();
    assert!(!told.is_empty());
    for revision in told {
        assert_eq!(next(&mut watch).await.0, revision);
    }
}

#[tokio::test]
async fn a_watcher_that_was_away_during_a_compaction_is_told() {
    let mut etcd = Etcd::start();
    let store = connect(&etcd);
    let revision = put(&*store, KEY, b"0").await;
    let mut watch = store.watch(KEY, revision + 1).await.unwrap();
    // Not read while these are made: they fill the queue, then the connection's window, then wait
    // in etcd.
    let mut last = revision;
    for _ in 0..200 {
        last = put(&*store, KEY, &[b'x'; 20_000]).await;
    }
    store.compact(last).await.unwrap();
    etcd.kill();
    etcd.start_again();
    retry(async || store.get(KEY).await).await;
    // What was on its way comes whole and in order; then the gap is named, never skipped.
    let mut expected = revision + 1;
    loop {
        match timeout(PATIENCE, watch.next()).await.unwrap().unwrap() {
            WatchItem::Changes { revision, .. } => {
                assert_eq!(revision, expected);
                expected += 1;
            }
            WatchItem::Compacted { compact_revision } => {
                assert_eq!(compact_revision, last);
                break;
            }
            WatchItem::Failed(error) => panic!("{error}"),
        }
    }
    assert!(expected <= last, "the watcher had read everything before the compaction");
    let (items, listed) = list(&*store, KEY).await.unwrap();
    assert_eq!(items.len(), 1);
    let mut watch = store.watch(KEY, listed + 1).await.unwrap();
    let after = put(&*store, KEY, b"after").await;
    assert_eq!(next(&mut watch).await.0, after);
}

#[tokio::test]
async fn data_that_went_back_in_time_are_refused() {
    let mut etcd = Etcd::start();
    let store = connect(&etcd);
    for i in 0..10 {
        put(&*store, KEY, &[i]).await;
    }
    let mut watch = store.watch(KEY, 100).await.unwrap();
    etcd.kill();
    etcd.wipe();
    etcd.start_again();
    let error = loop {
        match store.get(KEY).await {
            Err(error) if error.is_retryable() => sleep(Duration::from_millis(20)).await,
            other => break other.unwrap_err(),
        }
    };
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("went back"), "{error}");
    match timeout(PATIENCE, watch.next()).await.unwrap() {
        Some(WatchItem::Failed(Error::Corrupt { .. })) => {}
        other => panic!("{other:?}"),
    }
    // A new start takes what is there.
    assert_eq!(connect(&etcd).get(KEY).await.unwrap(), None);
}

#[tokio::test]
async fn endpoints_of_two_clusters_are_refused() {
    let (mut one, two) = (Etcd::start(), Etcd::start());
    let store = store(EtcdOptions::new([one.endpoint(), two.endpoint()], "test"));
    put(&*store, KEY, b"1").await;
    one.kill();
    let error = loop {
        match store.get(KEY).await {
            Err(error) if error.is_retryable() => sleep(Duration::from_millis(20)).await,
            other => break other.unwrap_err(),
        }
    };
    assert!(
        matches!(error, Error::Corrupt { .. }) && error.to_string().contains("cluster"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_full_etcd_says_so_and_still_reads() {
    // The smallest quota that etcd takes seriously; a few values fill it.
    let etcd = Etcd::start_with(EtcdSetup {
        arguments: vec!["--quota-backend-bytes=2000000".to_owned()],
        ..EtcdSetup::default()
    });
    let store = connect(&etcd);
    put(&*store, KEY, b"1").await;
    let big = Transaction::new().put("/piccolo/v1/big", vec![0; 400_000]);
    let deadline = Instant::now() + PATIENCE;
    // etcd counts what it has written out, which it does ten times a second.
    let error = loop {
        match store.txn(&big).await {
            Ok(_) => assert!(Instant::now() < deadline, "etcd never fills"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("disarm"), "{error}");
    assert_eq!(value(&*store, KEY).await, b"1");
    assert!(matches!(store.status().await.unwrap().health, Health::Degraded(_)));
}

/// Three members, as a cluster of several masters has. The one that leads is killed or frozen again
/// and again: the counter is never wrong, and the watcher misses nothing.
#[tokio::test]
async fn a_cluster_that_loses_its_leader_loses_nothing() {
    let mut cluster = Etcd::start_cluster(3);
    let options = EtcdOptions::new(cluster.iter().map(Etcd::endpoint), "test");
    let store = store(options);
    passes_the_contract(Arc::clone(&store) as Arc<dyn Store>).await;
    let mut revision = put(&*store, COUNTER, b"0").await;
    let mut watch = store.watch(COUNTER, revision + 1).await.unwrap();
    let mut count = 0;
    for round in 0..4 {
        let leader = Etcd::leader(&cluster).unwrap();
        if round % 2 == 0 {
            cluster[leader].kill();
        } else {
            cluster[leader].freeze();
        }
        for _ in 0..10 {
            count += 1;
            let add = Transaction::new().when(COUNTER, revision).put(COUNTER, count.to_string());
            revision = txn_until_done(&*store, &add).await;
            let (told, changes) = next(&mut watch).await;
            assert_eq!((told, changes.len()), (revision, 1));
        }
        let status = store.status().await.unwrap();
        assert!(matches!(status.health, Health::Degraded(_)), "{status:?}");
        if round % 2 == 0 {
            cluster[leader].start_again();
        } else {
            cluster[leader].thaw();
        }
        while Etcd::leader(&cluster).is_none() {
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(value(&*store, COUNTER).await, b"40");
}

#[tokio::test]
async fn a_cluster_without_a_majority_is_unavailable_until_it_returns() {
    let mut cluster = Etcd::start_cluster(3);
    let options = EtcdOptions::new(cluster.iter().map(Etcd::endpoint), "test");
    let store = store(options);
    let revision = put(&*store, KEY, b"1").await;
    let mut watch = store.watch(KEY, revision + 1).await.unwrap();
    cluster[0].kill();
    cluster[1].kill();
    let deadline = Instant::now() + PATIENCE;
    // The last member may answer as long as it takes to notice that it is alone; never afterwards.
    let error = loop {
        match store.get(KEY).await {
            Ok(_) => assert!(Instant::now() < deadline, "answers without a majority"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let error = store.txn(&Transaction::new().put(KEY, "2")).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    cluster[0].start_again();
    let after = txn_until_done(&*store, &Transaction::new().put(KEY, "2")).await;
    assert_eq!(next(&mut watch).await.0, after);
    assert_eq!(value(&*store, KEY).await, b"2");
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_at_once() {
    for (options, part) in [
        (EtcdOptions::new([], "test"), "no etcd endpoint"),
        (EtcdOptions::new(["127.0.0.1:2379".to_owned()], "test"), "127.0.0.1:2379"),
        (EtcdOptions::new(["ftp://127.0.0.1".to_owned()], "test"), "https://"),
        (EtcdOptions::new(["http://10.1.2.3:2379".to_owned()], "test"), "unencrypted"),
        (EtcdOptions::new(["https://10.1.2.3:2379".to_owned()], "test"), "CA certificate"),
        (EtcdOptions::new(["http://127.0.0.1:2379".to_owned()], "a\nb"), "'\\n'"),
    ] {
        let error = EtcdStore::new(options).unwrap_err();
        assert!(error.to_string().contains(part), "{error} does not say {part}");
    }
}

pub(crate) fn connect(etcd: &Etcd) -> Arc<EtcdStore> {
    store(etcd.options("test"))
}

pub(crate) fn store(options: EtcdOptions) -> Arc<EtcdStore> {
    Arc::new(EtcdStore::new(options).unwrap())
}

/// Calls again with the same transaction while the store says that this may help.
async fn txn_until_done(store: &dyn Store, transaction: &Transaction) -> Revision {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.txn(transaction).await {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            other => return other.unwrap(),
        }
    }
}

/// Calls again while the store says that this may help.
async fn retry<T>(call: impl AsyncFn() -> piccolo_store::Result<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            other => return other.unwrap(),
        }
    }
}
