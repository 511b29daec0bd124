//! Clients that do not read, and much to be read: nobody else notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use piccolo_rpc::v1::{
    self, agent_message::Message as Say, master_message::Message as Heard,
    watch_nodes_response::Item,
};
use tokio::time::Instant;
use tokio_stream::StreamExt;

use crate::harness::{Cluster, PATIENCE, Session, hello};

/// Watchers and sessions that never read.
const FROZEN_WATCHERS: usize = 40;
const FROZEN_SESSIONS: usize = 10;
/// Bytes of one report, and how many there are: 100 MB together.
const REPORT_BYTES: usize = 200 * 1024;
const REPORTS: u64 = 512;
/// Of the beats, each way, all the while.
const BEAT_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_frozen_clients_and_100_mb_of_changes_disturb_nobody() {
    let cluster = Cluster::start().await;
    let frozen = freeze(&cluster).await;
    let beats = beat(&cluster).await;
    let seen = watch(&cluster).await;

    let mut loud = cluster.session("loud").await;
    loud.configure().await;
    let filling = "x".repeat(1000);
    for number in 1..=REPORTS {
        let mut metrics: std::collections::HashMap<_, _> =
            (0..REPORT_BYTES / 1000).map(|i| (format!("m{i}"), filling.clone())).collect();
        metrics.insert("number".to_owned(), number.to_string());
        let report = v1::StatusReport { metrics, ..Default::default() };
        loud.say(Say::Status(report)).await;
        // the good watcher paces the changes: it shall see each of them
        let deadline = Instant::now() + PATIENCE;
        while seen.load(Ordering::Relaxed) < number {
            assert!(Instant::now() < deadline, "the good watcher has seen {seen:?} of {number}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let worst = beats.load(Ordering::Relaxed);
    assert!(worst < 1000, "a beat was answered after {worst} ms");
    assert_eq!(cluster.status_of("calm").await, v1::NodeStatus::Ready);
    drop(frozen);
}

/// Clients that have asked for everything and read nothing.
async fn freeze(cluster: &Cluster) -> (Vec<impl Sized>, Vec<Session>) {
    let admin = cluster.admin_identity();
    let mut watchers = Vec::new();
    for _ in 0..FROZEN_WATCHERS {
        let mut user = cluster.user(&admin).await;
        let watch = user.watch_nodes(v1::WatchNodesRequest::default()).await.unwrap().into_inner();
        watchers.push((user, watch));
    }
    let mut sessions = Vec::new();
    for i in 0..FROZEN_SESSIONS {
        let id = format!("frozen{i}");
        let identity = cluster.join(&id).await;
        let mut agent = cluster.agent(&identity).await;
        sessions.push(Session::open(&mut agent, hello(&id)).await);
    }
    (watchers, sessions)
}

/// A node that beats ten times a second; gives the longest wait for an answer, in milliseconds.
async fn beat(cluster: &Cluster) -> Arc<AtomicU64> {
    let mut session = cluster.ready("calm").await;
    let worst = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&worst);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let sent = Instant::now();
            session.say(Say::Beat(v1::Beat {})).await;
            let answered =
                async { while !matches!(session.next().await, None | Some(Heard::Beat(_))) {} };
            let late = tokio::time::timeout(BEAT_WITHIN, answered).await.is_err();
            let took = if late { BEAT_WITHIN } else { sent.elapsed() };
            let took = u64::try_from(took.as_millis()).unwrap();
            shared.fetch_max(took, Ordering::Relaxed);
        }
    });
    worst
}

/// A watcher that reads; gives the newest number that it has seen, and skips none.
async fn watch(cluster: &Cluster) -> Arc<AtomicU64> {
    let request = v1::WatchNodesRequest::default();
    let mut watch = cluster.admin().await.watch_nodes(request).await.unwrap().into_inner();
    let seen = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Some(Ok(change)) = watch.next().await {
            let Some(Item::Changed(node)) = change.item else { continue };
            let number = node.metrics.get("number").and_then(|n| n.parse::<u64>().ok());
            if let Some(number) = number {
                let before = shared.swap(number, Ordering::Relaxed);
                assert!(number <= before + 1, "{before} was followed by {number}");
            }
        }
    });
    seen
}
