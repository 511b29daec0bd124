//! Reading logs through the master, with agents that are spoken by hand (HLD §11.2; docs/protocol.md).

use std::time::Duration;

use piccolo_rpc::v1::{
    self, agent_message::Message as Say, log_order::Order, master_message::Message as Heard,
    read_logs_response::Item,
};
use prost_types::Timestamp;
use tokio_stream::StreamExt;
use tonic::{Code, Streaming};

use crate::{
    harness::{Agent, Cluster, PATIENCE, Session, eventually, hello, refused},
    rest::Watch,
};

type Answers = Streaming<v1::ReadLogsResponse>;

/// An agent that takes orders about logs, with a container `web`.
async fn reading(cluster: &Cluster, id: &str) -> (Agent, Session) {
    let identity = cluster.join(id).await;
    let mut agent = cluster.agent(&identity).await;
    let session = open(cluster, &mut agent, id).await;
    (agent, session)
}

async fn open(cluster: &Cluster, agent: &mut Agent, id: &str) -> Session {
    let hello = v1::Hello { reads_logs: true, ..hello(id) };
    let mut session = Session::open(agent, hello).await;
    session.configure().await;
    let web = v1::ContainerStatus {
        id: format!("{id}-web"),
        name: "web".to_owned(),
        state: "running".to_owned(),
        ..Default::default()
    };
    let report = v1::StatusReport { containers: vec![web], ..Default::default() };
    session.say(Say::Status(report)).await;
    eventually("its container is known", async || !cluster.node(id).await.containers.is_empty())
        .await;
    session
}

/// The next order about a log; beats while it waits.
async fn order(session: &mut Session) -> (u64, Order) {
    loop {
        session.say(Say::Beat(v1::Beat {})).await;
        let next = tokio::time::timeout(Duration::from_millis(500), session.next_that(ordered));
        if let Ok(found) = next.await {
            return found;
        }
    }
}

fn ordered(message: Heard) -> Option<(u64, Order)> {
    match message {
        Heard::Logs(order) => Some((order.id, order.order.unwrap())),
        _ => None,
    }
}

async fn opened(session: &mut Session) -> (u64, v1::LogOpen) {
    match order(session).await {
        (id, Order::Open(open)) => (id, open),
        (_, other) => panic!("nothing was opened: {other:?}"),
    }
}

async fn tell(session: &mut Session, id: u64, times: &[i64], end: Option<&str>) {
    let line = |at: &i64| v1::LogLine {
        at: Some(Timestamp { seconds: *at, nanos: 0 }),
        level: 6,
        message: format!("line {at}"),
        ..Default::default()
    };
    let end = end.map(|problem| v1::LogEnd { problem: problem.to_owned() });
    let lines = times.iter().map(line).collect();
    session.say(Say::Logs(v1::LogChunk { id, lines, dropped: 0, end })).await;
}

fn request(targets: &[&str]) -> v1::ReadLogsRequest {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    v1::ReadLogsRequest { targets, ..Default::default() }
}

/// The next answer, in short: lines by source and time, or the reason of a notice.
async fn next(answers: &mut Answers) -> String {
    let answer = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap().unwrap();
    match answer.item.unwrap() {
        Item::Sources(sources) => {
            sources.sources.into_iter().map(|source| source.name).collect::<Vec<_>>().join(" ")
        }
        Item::Lines(lines) => {
            let one = |line: v1::LogLineOf| {
                format!("{}:{}", line.source, line.line.unwrap().at.unwrap().seconds)
            };
            lines.lines.into_iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Item::Notice(notice) => format!("{} {} {}", notice.source, notice.reason, notice.message),
        Item::Over(v1::LogsOver {}) => "over".to_owned(),
    }
}

#[tokio::test]
async fn lines_of_two_nodes_come_in_the_order_of_their_times_and_then_the_end() {
    let cluster = Cluster::start().await;
    let (_one, mut first) = reading(&cluster, "n1").await;
    let (_two, mut second) = reading(&cluster, "n2").await;
    let mut admin = cluster.admin().await;
    let mut asked = request(&["host-n1", "host-n2/web"]);
    asked.filter = Some(v1::LogFilter { lines: 7, level: Some(4), ..Default::default() });
    let mut answers = admin.read_logs(asked).await.unwrap().into_inner();
    let (id, open) = opened(&mut first).await;
    assert_eq!((open.unit.as_str(), open.container.as_str(), open.follow), ("", "", false));
    assert_eq!(open.filter.map(|filter| (filter.lines, filter.level)), Some((7, Some(4))));
    tell(&mut first, id, &[1, 4], None).await;
    let (other, open) = opened(&mut second).await;
    assert_eq!(open.container, "web");
    tell(&mut second, other, &[2, 3], Some("the disk is full")).await;
    tell(&mut first, id, &[5], Some("")).await;
    assert_eq!(next(&mut answers).await, "host-n1 host-n2/web");
    let (mut lines, mut rest) = (Vec::new(), Vec::new());
    while rest.last().is_none_or(|last| last != "over") {
        let text = next(&mut answers).await;
        if text.contains(':') { lines.push(text) } else { rest.push(text) }
    }
    assert_eq!(lines.join(" "), "0:1 1:2 1:3 0:4 0:5");
    assert_eq!(rest, ["1 Failed the disk is full", "over"]);
    assert!(answers.next().await.is_none());
    let entry = cluster.audited(|entry| entry.call == "ReadContainerLogs").await;
    assert_eq!(entry.target, "host-n2/web");
}

#[tokio::test]
async fn lines_are_for_programs_too_and_those_of_a_container_not_for_viewers() {
    let cluster = Cluster::start().await;
    let (_agent, mut session) = reading(&cluster, "n1").await;
    let admin = cluster.admin_identity();
    let path = "/api/v1/watch/logs?target=host-n1/web&lines=7&level=4&since=2030-01-31T12:00:00Z";
    let mut watch = Watch::open(&cluster, &admin, path, "").await;
    let (id, open) = opened(&mut session).await;
    assert_eq!((open.container.as_str(), open.follow), ("web", false));
    let filter = open.filter.unwrap_or_default();
    let since = filter.since.map(|since| since.seconds);
    assert_eq!((filter.lines, filter.level, since), (7, Some(4), Some(1_896_091_200)));
    tell(&mut session, id, &[1, 2], Some("the disk is full")).await;
    for message in ["line 1", "line 2"] {
        let (name, _, data) = watch.next().await;
        assert_eq!(name, "line");
        assert_eq!(
            (&data["line"]["message"], &data["line"]["level"]),
            (&message.into(), &"info".into())
        );
        assert_eq!(data["line"]["source"], "host-n1/web");
    }
    let (name, _, data) = watch.next().await;
    assert_eq!((name.as_str(), &data["message"]), ("notice", &"the disk is full".into()));
    assert_eq!(watch.next().await.0, "over");

    let viewer = crate::people::user(&cluster, "vera", v1::UserRole::Viewer).await;
    let refused = crate::rest::get(&cluster, Some(&viewer), path).await;
    assert_eq!((refused.status, refused.reason().as_str()), (403, "RoleNotAllowed"));
}

#[tokio::test]
async fn a_reader_that_does_not_read_gets_no_more_than_was_allowed_and_holds_nobody_up() {
    let cluster = Cluster::start().await;
    let (_agent, mut session) = reading(&cluster, "n1").await;
    let mut admin = cluster.admin().await;
    let mut asked = request(&["host-n1"]);
    asked.follow = true;
    let frozen = admin.read_logs(asked.clone()).await.unwrap().into_inner();
    let (id, open) = opened(&mut session).await;
    // as fast as the master allows: that ends, because nobody reads
    let (mut allowed, mut sent) = (open.chunks, 0);
    let big = vec![v1::LogLine { message: "x".repeat(4096), ..Default::default() }; 4];
    loop {
        while allowed > 0 {
            let chunk = v1::LogChunk { id, lines: big.clone(), ..Default::default() };
            session.say(Say::Logs(chunk)).await;
            (allowed, sent) = (allowed - 1, sent + 1);
        }
        session.say(Say::Beat(v1::Beat {})).await;
        let wait = tokio::time::timeout(Duration::from_secs(2), session.next_that(ordered));
        match wait.await {
            Ok((_, Order::More(more))) => allowed += more,
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
        assert!(sent < 1000, "what waits for a reader is bounded");
    }
    // another reader of the same node is served meanwhile, and the session goes on
    let mut answers = admin.read_logs(asked).await.unwrap().into_inner();
    let (other, _) = opened(&mut session).await;
    tell(&mut session, other, &[1], None).await;
    assert_eq!([next(&mut answers).await, next(&mut answers).await], ["host-n1", "0:1"]);
    assert_eq!(cluster.status_of("n1").await, v1::NodeStatus::Ready);
    drop(answers);
    let closed = order(&mut session).await;
    assert_eq!(closed, (other, Order::More(1)), "its chunk was read");
    assert_eq!(order(&mut session).await, (other, Order::Close(v1::LogClose {})));
    drop(frozen);
    eventually("the frozen one is closed too", async || {
        order(&mut session).await == (id, Order::Close(v1::LogClose {}))
    })
    .await;
}

#[tokio::test]
async fn a_chunk_that_was_not_allowed_is_a_breach() {
    let cluster = Cluster::start().await;
    let (_agent, mut session) = reading(&cluster, "n1").await;
    let mut admin = cluster.admin().await;
    let mut asked = request(&["host-n1"]);
    asked.follow = true;
    // nobody reads it, so nothing more is allowed than at first, and what the way to the reader holds
    let _frozen = admin.read_logs(asked).await.unwrap().into_inner();
    let (id, _) = opened(&mut session).await;
    let big = vec![v1::LogLine { message: "x".repeat(4096), ..Default::default() }; 4];
    for _ in 0..200 {
        let chunk = v1::LogChunk { id, lines: big.clone(), ..Default::default() };
        session.say(Say::Logs(chunk)).await;
    }
    let farewell = session.next_that(crate::harness::goodbye).await;
    assert_eq!(
        (farewell.reason.as_str(), farewell.message.contains("allowed")),
        ("Protocol", true)
    );
}

#[tokio::test]
async fn who_follows_goes_on_where_it_was_when_the_node_is_back() {
    let cluster = Cluster::start().await;
    let (mut agent, mut session) = reading(&cluster, "n1").await;
    let mut admin = cluster.admin().await;
    let mut asked = request(&["web"]);
    asked.follow = true;
    let mut answers = admin.read_logs(asked).await.unwrap().into_inner();
    let (id, _) = opened(&mut session).await;
    tell(&mut session, id, &[1, 2, 2], None).await;
    assert_eq!(
        [next(&mut answers).await, next(&mut answers).await],
        ["host-n1/web", "0:1 0:2 0:2"]
    );
    drop(session);
    assert!(next(&mut answers).await.starts_with("0 Lost "));
    let mut session = open(&cluster, &mut agent, "n1").await;
    let (id, open) = opened(&mut session).await;
    let after = open.after.unwrap();
    assert_eq!((after.at, after.lines), (Some(Timestamp { seconds: 2, nanos: 0 }), 2));
    assert!(next(&mut answers).await.starts_with("0 Back "));
    tell(&mut session, id, &[3], None).await;
    assert_eq!(next(&mut answers).await, "0:3");
}

#[tokio::test]
async fn who_may_not_or_cannot_read_is_told_at_once() {
    let cluster = Cluster::start().await;
    let mut session = cluster.session("old").await;
    session.configure().await;
    let _beating = session.keep_beating();
    cluster.wait_for("old", v1::NodeStatus::Ready).await;
    cluster.join("away").await;
    let (_agent, mut session) = reading(&cluster, "n1").await;
    let mut admin = cluster.admin().await;
    for (targets, code, reason) in [
        (&["host-old"][..], Code::FailedPrecondition, "AgentTooOld"),
        (&["host-away"], Code::Unavailable, "NotConnected"),
        (&["nobody"], Code::NotFound, "NoSuchNode"),
        (&["host-n1/db"], Code::NotFound, "NoSuchContainer"),
        (&[], Code::InvalidArgument, "InvalidField"),
    ] {
        let status = admin.read_logs(request(targets)).await.unwrap_err();
        assert_eq!(status.code(), code, "{targets:?}");
        assert_eq!(refused::<()>(Err(status)).reason, reason);
    }
    let view = refused(admin.read_logs(request(&["host-away"])).await);
    assert_eq!(view.message, "node host-away is not connected");
    assert!(view.help.unwrap_or_default().contains("--kept"));
    let mut bad = request(&["host-n1"]);
    bad.filter = Some(v1::LogFilter { lines: 10_001, ..Default::default() });
    assert_eq!(refused(admin.read_logs(bad).await).field.as_deref(), Some("filter.lines"));

    let viewer = crate::people::user(&cluster, "eve", v1::UserRole::Viewer).await;
    let viewer = cluster.user(&viewer).await;
    let status = viewer.clone().read_logs(request(&["host-n1/web"])).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut unit = request(&["host-n1"]);
    unit.unit = "sshd.service".to_owned();
    assert_eq!(viewer.clone().read_logs(unit).await.unwrap_err().code(), Code::PermissionDenied);
    let mut own = viewer.clone().read_logs(request(&["host-n1"])).await.unwrap().into_inner();
    assert_eq!(next(&mut own).await, "host-n1");
    let (id, _) = opened(&mut session).await;
    tell(&mut session, id, &[], Some("")).await;
    assert_eq!(next(&mut own).await, "over");
}

#[tokio::test]
async fn a_viewer_who_asks_for_all_logs_is_given_those_of_agents_and_told_what_is_left_out() {
    let cluster = Cluster::start().await;
    let (_agent, mut session) = reading(&cluster, "n1").await;
    let viewer = crate::people::user(&cluster, "eve", v1::UserRole::Viewer).await;
    let mut viewer = cluster.user(&viewer).await;
    let all = v1::ReadLogsRequest { all: true, ..request(&[]) };
    let mut answers = viewer.read_logs(all.clone()).await.unwrap().into_inner();
    assert_eq!(next(&mut answers).await, "host-n1");
    let told = next(&mut answers).await;
    assert!(told.starts_with("0 LeftOut 1 containers are not read"), "{told}");
    let (id, _) = opened(&mut session).await;
    tell(&mut session, id, &[], Some("")).await;
    assert_eq!(next(&mut answers).await, "over");
    for wider in [
        v1::ReadLogsRequest { unit: "sshd.service".to_owned(), ..all.clone() },
        v1::ReadLogsRequest { kept: true, ..all.clone() },
    ] {
        let status = viewer.read_logs(wider).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "none of it is for a viewer");
    }
    let mut admin = cluster.admin().await;
    let mut answers = admin.read_logs(all).await.unwrap().into_inner();
    assert_eq!(next(&mut answers).await, "host-n1 host-n1/web");
}
