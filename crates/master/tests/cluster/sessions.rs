//! Sessions: beats, their rules, and what their end means (HLD §4.2, §8.1; docs/protocol.md).

use piccolo_rpc::v1::{
    self, agent_message::Message as Say, master_message::Message as Heard,
    watch_nodes_response::Item,
};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::harness::{Beating, Cluster, PATIENCE, Session, goodbye, hello, refused};

/// A node that beats and is Ready.
async fn ready(cluster: &Cluster, id: &str) -> Beating {
    let mut session = cluster.session(id).await;
    session.configure().await;
    let beating = session.keep_beating();
    cluster.wait_for(id, v1::NodeStatus::Ready).await;
    beating
}

#[tokio::test]
async fn a_watcher_sees_a_killed_agent_suspect_and_then_not_ready() {
    let cluster = Cluster::start().await;
    let beating = ready(&cluster, "n1").await;
    let request = v1::WatchNodesRequest::default();
    let mut watch = cluster.admin().await.watch_nodes(request).await.unwrap().into_inner();
    let mut next = async || -> v1::WatchNodesResponse {
        tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap()
    };
    assert!(matches!(next().await.item, Some(Item::SnapshotBegin(_))));
    assert!(matches!(next().await.item, Some(Item::Changed(node)) if node.id == "n1"));
    assert!(matches!(next().await.item, Some(Item::SnapshotEnd(_))));
    drop(beating);
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
    let audit = cluster.audit().await;
    assert!(audit.iter().all(|entry| entry.call != "Session"), "a cut is no breach: {audit:?}");
}

#[tokio::test]
async fn a_frozen_agent_loses_its_session_though_its_connection_lives() {
    let cluster = Cluster::start().await;
    let mut session = cluster.ready("n1").await;
    // it says nothing more
    let farewell = session.next_that(goodbye).await;
    assert_eq!(farewell.reason, "Slow");
    cluster.wait_for("n1", v1::NodeStatus::NotReady).await;
    assert_eq!(cluster.node("n1").await.conditions[0].kind, "SessionLost");
}

#[tokio::test]
async fn a_restart_of_the_master_changes_no_status() {
    let cluster = Cluster::start().await;
    let beating = ready(&cluster, "n1").await;
    ready(&cluster, "n2").await;
    cluster.wait_for("n2", v1::NodeStatus::NotReady).await;
    let before = (cluster.node("n1").await, cluster.node("n2").await);
    let cluster = cluster.restart().await;
    drop(beating);
    let after = (cluster.node("n1").await, cluster.node("n2").await);
    assert_eq!(before.0.status_since, after.0.status_since);
    assert_eq!(after.0.status(), v1::NodeStatus::Ready, "not heard yet, and not lost either");
    assert_eq!(before.1.status_since, after.1.status_since);
    assert_eq!(after.1.conditions, before.1.conditions);
    let last = cluster.events().await.pop().unwrap();
    assert_eq!(last.kind, "MasterStarted", "nothing else has happened");
    assert!(last.id > 1 && after.0.revision < after.1.revision + (1 << 20));
}

#[tokio::test]
async fn a_stopping_master_says_goodbye() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    session.configure().await;
    let stopped = tokio::spawn(cluster.master.stop());
    assert_eq!(session.next_that(goodbye).await.reason, "Stopping");
    drop((session, agent));
    tokio::time::timeout(PATIENCE, stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_second_live_session_of_the_same_identity_is_a_clone() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let mut first = Session::open(&mut agent, hello("n1")).await;
    let session_id = first
        .next_that(|message| match message {
            Heard::Welcome(welcome) => Some(welcome.session_id),
            _ => None,
        })
        .await;
    let mut clone = cluster.agent(&identity).await;
    let mut second = Session::open(&mut clone, hello("n1")).await;
    assert_eq!(second.next_that(goodbye).await.reason, "Duplicate");
    let events = cluster.events().await;
    assert!(events.iter().any(|event| event.kind == "DuplicateIdentity"));

    let same = v1::Hello { previous_session: session_id, ..hello("n1") };
    let mut third = Session::open(&mut agent, same).await;
    third.configure().await;
    assert_eq!(first.next_that(goodbye).await.reason, "Replaced");
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_hello_is_refused() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let mut session = Session::silent(&mut agent).await.unwrap();
    session.say(Say::Beat(v1::Beat {})).await;
    let view = refused(session.from.next().await.unwrap());
    assert_eq!((view.code, view.reason.as_str()), (Code::InvalidArgument, "NoHello"));

    let mut silent = Session::silent(&mut agent).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, silent.from.next()).await.unwrap().unwrap();
    assert_eq!(refused(answer).message, "no Hello within 5 s");

    let mut bad = Session::open(&mut agent, hello("bad id")).await;
    let view = refused(bad.from.next().await.unwrap());
    assert_eq!(view.field.as_deref(), Some("hello.node_id"));
    let mut other = Session::open(&mut agent, hello("n2")).await;
    let farewell = other.next_that(goodbye).await;
    assert_eq!(farewell.reason, "Protocol");
    assert!(farewell.message.contains("may not speak for"), "{}", farewell.message);
}

#[tokio::test]
async fn a_breach_of_the_rules_ends_the_session_with_the_fault_named() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let alert = v1::AlertInfo { severity: 99, ..Default::default() };
    let breaches = [
        (Say::Hello(hello("n1")), "a second Hello"),
        (
            Say::Status(v1::StatusReport { alerts: vec![alert], ..Default::default() }),
            "status.alerts[0].severity: 99 is not a value of it",
        ),
    ];
    for (breach, expected) in breaches {
        let mut session = Session::open(&mut agent, hello("n1")).await;
        session.say(breach).await;
        let farewell = session.next_that(goodbye).await;
        assert_eq!((farewell.reason.as_str(), farewell.message.as_str()), ("Protocol", expected));
        assert!(session.next().await.is_none());
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_session_and_is_named() {
    let cluster = Cluster::start().await;
    let mut session = cluster.session("n1").await;
    let metrics = [("big".to_owned(), "x".repeat(2 * 1024 * 1024))].into();
    let report = v1::StatusReport { metrics, ..Default::default() };
    session.say(Say::Status(report)).await;
    let farewell = session.next_that(goodbye).await;
    assert_eq!(farewell.reason, "Protocol");
    assert!(farewell.message.starts_with("a message cannot be read"), "{}", farewell.message);
}

#[tokio::test]
async fn events_are_stored_once_however_often_they_are_sent() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let event = |sequence| v1::Event {
        node_sequence: sequence,
        kind: "ContainerDied".to_owned(),
        severity: v1::Severity::Warning.into(),
        message: format!("container {sequence} died"),
        delivered_late: true,
        ..Default::default()
    };
    for batch in [1..=2_u64, 1..=3] {
        let mut session = Session::open(&mut agent, hello("n1")).await;
        session.configure().await;
        let events = batch.clone().map(event).collect();
        session.say(Say::Events(v1::EventBatch { events })).await;
        let acknowledged = session
            .next_that(|message| match message {
                Heard::EventAck(ack) => Some(ack.sequence),
                _ => None,
            })
            .await;
        assert_eq!(acknowledged, *batch.end());
        drop(session);
        crate::harness::eventually("the session is over", async || {
            !cluster.node("n1").await.connected
        })
        .await;
    }
    let events = cluster.events().await;
    let died: Vec<_> = events.iter().filter(|e| e.kind == "ContainerDied").collect();
    let sequences: Vec<_> = died.iter().map(|e| e.node_sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert!(died.iter().all(|e| e.node_id == "n1" && e.delivered_late));
}

#[tokio::test]
async fn a_command_goes_to_the_agent_and_its_result_comes_back() {
    let cluster = Cluster::start().await;
    let mut session = cluster.ready("n1").await;
    let mut admin = cluster.admin().await;
    let (node_id, container) = ("n1".to_owned(), "web".to_owned());
    let restart = v1::RestartContainerRequest { node_id, container };
    let asking = tokio::spawn(async move { admin.restart_container(restart).await });
    let command = session
        .next_that(|message| match message {
            Heard::Command(command) => Some(command),
            _ => None,
        })
        .await;
    assert!(
        matches!(command.command, Some(v1::command::Command::RestartContainer(c)) if c.container == "web")
    );
    let message = "restarted".to_owned();
    session
        .say(Say::CommandResult(v1::CommandResult { id: command.id, success: true, message }))
        .await;
    assert_eq!(asking.await.unwrap().unwrap().into_inner().message, "restarted");
}

#[tokio::test]
async fn an_agent_that_leaves_is_removed() {
    let cluster = Cluster::start().await;
    let mut session = cluster.session("n1").await;
    session.configure().await;
    let (reason, message) = ("Leaving".to_owned(), String::new());
    session.say(Say::Goodbye(v1::Goodbye { reason, message })).await;
    let mut admin = cluster.admin().await;
    crate::harness::eventually("the node is gone", async || {
        let nodes =
            admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner().nodes;
        nodes.is_empty()
    })
    .await;
}
