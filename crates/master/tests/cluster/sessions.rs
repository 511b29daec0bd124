//! Sessions: beats, and what their end means.

use piccolo_rpc::v1::{self, watch_nodes_response::Item};
use tokio_stream::StreamExt;

use crate::harness::{Cluster, PATIENCE, Session, hello};

#[tokio::test]
async fn a_watcher_sees_a_killed_agent_suspect_and_then_not_ready() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    session.configure().await;
    let beating = session.keep_beating();
    cluster.wait_for("n1", v1::NodeStatus::Ready).await;

    let mut watch = cluster
        .admin()
        .await
        .watch_nodes(v1::WatchNodesRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut next = async || -> v1::WatchNodesResponse {
        tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap()
    };
    assert!(matches!(next().await.item, Some(Item::SnapshotBegin(_))));
    assert!(matches!(next().await.item, Some(Item::Changed(node)) if node.id == "n1"));
    assert!(matches!(next().await.item, Some(Item::SnapshotEnd(_))));
    drop((beating, agent));
    let mut kinds = Vec::new();
    loop {
        if let Some(Item::Changed(node)) = next().await.item {
            kinds.extend(node.conditions.iter().map(|condition| condition.kind.clone()));
            if node.status() == v1::NodeStatus::NotReady {
                break;
            }
        }
    }
    kinds.dedup();
    assert_eq!(kinds, ["Suspect", "SessionLost"]);
}
