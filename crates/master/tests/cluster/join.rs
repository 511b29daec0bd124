//! Joining with a token, and every way to be refused.

use piccolo_rpc::v1;

use crate::harness::{Cluster, Session, hello};

#[tokio::test]
async fn a_board_joins_with_a_token_and_becomes_ready() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    assert_eq!(cluster.status_of("n1").await, v1::NodeStatus::Initializing);
    let mut agent = cluster.agent(&identity).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    session.configure().await;
    cluster.wait_for("n1", v1::NodeStatus::Ready).await;
    let node = cluster.node("host-n1").await;
    assert_eq!(node.id, "n1");
    assert!(node.connected);
}
