//! An agent that speaks the HLD's unary calls only (HLD §7.1.2).

use piccolo_rpc::v1;
use tonic::Code;

use crate::harness::{Cluster, refused};

#[tokio::test]
async fn a_client_with_unary_calls_only_is_a_node_too() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let beat = v1::HeartbeatRequest { node_id: "n1".to_owned(), sent_at: None };
    let answer = agent.heartbeat(beat).await.unwrap().into_inner();
    assert_eq!((answer.next_interval_seconds, answer.generation), (10, 1));
    let poll = |applied, wait_seconds| v1::ConfigRequest {
        node_id: "n1".to_owned(),
        applied_generation: applied,
        wait_seconds,
        rejected: String::new(),
    };
    let config = agent.receive_config(poll(0, 30)).await.unwrap().into_inner();
    assert_eq!(config.generation, 1);
    assert_eq!(config.config.unwrap().cluster_name, "piccolo");
    let nothing = agent.receive_config(poll(1, 0)).await.unwrap().into_inner();
    assert!(nothing.config.is_none());
    cluster.wait_for("n1", v1::NodeStatus::Ready).await;

    let report = v1::StatusReport {
        node_id: "n1".to_owned(),
        metrics: [("cpu_percent".to_owned(), "12.5".to_owned())].into(),
        containers: vec![v1::ContainerStatus { name: "web".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let ack = agent.report_status(report).await.unwrap().into_inner();
    assert_eq!((ack.node_id.as_str(), ack.status()), ("n1", v1::NodeStatus::Ready));
    let node = cluster.node("n1").await;
    assert_eq!((node.containers[0].name.as_str(), node.connected), ("web", false));
    assert_eq!(node.metrics["cpu_percent"], "12.5");
}

#[tokio::test]
async fn a_long_poll_is_answered_as_soon_as_there_is_something() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let poll = v1::ConfigRequest {
        node_id: "n1".to_owned(),
        applied_generation: 1,
        wait_seconds: 60,
        rejected: String::new(),
    };
    let polling = tokio::spawn(async move { agent.receive_config(poll).await });
    cluster.wait_for("n1", v1::NodeStatus::Ready).await;
    let mut admin = cluster.admin().await;
    let topology =
        admin.get_topology(v1::GetTopologyRequest {}).await.unwrap().into_inner().topology;
    admin.update_topology(v1::UpdateTopologyRequest { topology }).await.unwrap();
    let answer = tokio::time::timeout(crate::harness::PATIENCE, polling).await.unwrap();
    assert_eq!(answer.unwrap().unwrap().into_inner().generation, 2);
}

#[tokio::test]
async fn a_node_speaks_for_itself_alone() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    cluster.join("n2").await;
    let mut agent = cluster.agent(&identity).await;
    let beat = v1::HeartbeatRequest { node_id: "n2".to_owned(), sent_at: None };
    let view = refused(agent.heartbeat(beat).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::PermissionDenied, "NotYourself"));
}
