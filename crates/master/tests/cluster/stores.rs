//! A store that fails: beats go on, nothing is shown that is not stored, and one master writes.

use std::time::Duration;

use piccolo_master::{
    Master,
    config::{EtcdConfig, StoreConfig},
};
use piccolo_rpc::v1;
use piccolo_store::testing::Etcd;
use tokio::time::Instant;

use crate::harness::{Cluster, PATIENCE, eventually};

pub(crate) fn in_etcd(etcd: &Etcd) -> StoreConfig {
    let endpoints = vec![etcd.endpoint()];
    StoreConfig::Etcd(EtcdConfig { endpoints, ..EtcdConfig::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_changes_no_nodes_status_and_loses_nothing() {
    let etcd = Etcd::start();
    let cluster = Cluster::start_with(|config| config.store = in_etcd(&etcd)).await;
    let mut session = cluster.session("n1").await;
    session.configure().await;
    let beating = session.keep_beating();
    cluster.wait_for("n1", v1::NodeStatus::Ready).await;
    let since = cluster.node("n1").await.status_since;

    etcd.freeze();
    let mut admin = cluster.admin().await;
    let set = [("site".to_owned(), "seoul".to_owned())].into();
    let label = v1::LabelNodeRequest { node_id: "n1".to_owned(), set, remove: vec![] };
    let labelling = tokio::spawn({
        let mut admin = cluster.admin().await;
        async move { admin.label_node(label).await }
    });
    eventually("the status says that the store is away", async || {
        let status = admin.get_cluster_status(v1::GetClusterStatusRequest {}).await.unwrap();
        let status = status.into_inner();
        status.store_health != "ok" && status.sessions == 1
    })
    .await;
    // longer than silence and grace together: the beats must have gone on
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let nodes = admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner();
        assert_eq!(nodes.nodes[0].status(), v1::NodeStatus::Ready);
        assert!(nodes.nodes[0].labels.is_empty(), "what is not stored is not shown");
        assert!(cluster.node("n1").await.labels.is_empty(), "and one node is shown all the while");
        assert!(!labelling.is_finished());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    etcd.thaw();
    tokio::time::timeout(PATIENCE, labelling).await.unwrap().unwrap().unwrap();
    let node = cluster.node("n1").await;
    assert_eq!((node.labels["site"].as_str(), node.status_since), ("seoul", since));
    drop(beating);
}

#[tokio::test]
async fn a_second_master_on_the_same_store_takes_over_and_the_first_one_ends() {
    let etcd = Etcd::start();
    let mut first = Cluster::start_with(|config| config.store = in_etcd(&etcd)).await;
    first.join("n1").await;
    // the same authority, on another machine so to speak
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::harness::config(folder.path());
    config.store = in_etcd(&etcd);
    std::fs::create_dir_all(&config.state_dir).unwrap();
    for file in ["ca.pem", "seal.key"] {
        std::fs::copy(first.config.state_dir.join(file), config.state_dir.join(file)).unwrap();
    }
    let second = Master::start(config).await.unwrap();
    let set = [("site".to_owned(), "seoul".to_owned())].into();
    let label = v1::LabelNodeRequest { node_id: "n1".to_owned(), set, remove: vec![] };
    let mut admin = first.admin().await;
    let lost = tokio::spawn(async move { admin.label_node(label).await });
    let why = tokio::time::timeout(PATIENCE, first.master.failure()).await.unwrap();
    assert!(why.to_string().starts_with("another master has taken over this store"), "{why}");
    first.master.stop().await;
    assert!(lost.await.unwrap().is_err(), "what the first one could not store it did not confirm");
    second.stop().await;
}

#[tokio::test]
async fn a_store_of_another_cluster_is_refused() {
    let etcd = Etcd::start();
    let first = Cluster::start_with(|config| config.store = in_etcd(&etcd)).await;
    first.join("n1").await;
    first.master.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::harness::config(folder.path());
    config.store = in_etcd(&etcd);
    let error = format!("{:#}", Master::start(config).await.unwrap_err());
    assert!(error.contains("the store holds cluster"), "{error}");
}

#[tokio::test]
async fn a_lost_store_is_noticed_and_no_empty_cluster_takes_its_place() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let config = cluster.config.clone();
    cluster.master.stop().await;
    let kept = config.state_dir.join("elsewhere.db");
    std::fs::rename(config.store_file(), &kept).unwrap();
    for log in ["db-wal", "db-shm"] {
        std::fs::remove_file(config.store_file().with_extension(log)).ok();
    }
    let error = format!("{:#}", Master::start(config.clone()).await.unwrap_err());
    assert!(error.contains("store.db"), "{error}");
    assert!(!config.store_file().exists());

    let etcd = Etcd::start();
    let emptied = piccolo_master::config::Config { store: in_etcd(&etcd), ..config };
    let error = format!("{:#}", Master::start(emptied).await.unwrap_err());
    assert!(error.contains("has served a cluster before"), "{error}");
}
