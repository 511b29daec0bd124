//! The kept log: important lines that agents tell by themselves, spoken by hand (HLD §11.2; docs/protocol.md).

use piccolo_rpc::v1::{
    self, agent_message::Message as Say, master_message::Message as Heard, read_logs_response::Item,
};
use prost_types::Timestamp;
use tokio_stream::StreamExt;

use crate::{
    harness::{Agent, Cluster, Session, hello, refused},
    https::get,
};

/// A session of an agent that keeps lines, and through which of them the master has them.
async fn open(agent: &mut Agent, id: &str) -> (Session, u64) {
    let hello = v1::Hello { keeps_logs: true, ..hello(id) };
    let mut session = Session::open(agent, hello).await;
    let through = acknowledged(&mut session).await;
    (session, through)
}

async fn acknowledged(session: &mut Session) -> u64 {
    let ack = |message| match message {
        Heard::KeptAck(v1::KeptAck { sequence }) => Some(sequence),
        _ => None,
    };
    session.next_that(ack).await
}

/// Of unit `a.service`; each is as old as its number says, in seconds since 1970.
fn lines(sequences: &[u64]) -> Vec<v1::KeptLine> {
    let line = |sequence: &u64| v1::KeptLine {
        sequence: *sequence,
        unit: "a.service".to_owned(),
        line: Some(v1::LogLine {
            at: Some(Timestamp { seconds: i64::try_from(*sequence).unwrap(), nanos: 0 }),
            level: 4,
            from: "a".to_owned(),
            message: format!("warning {sequence}"),
            cut: false,
        }),
        dropped: 0,
    };
    sequences.iter().map(line).collect()
}

async fn tell(session: &mut Session, lines: Vec<v1::KeptLine>) {
    session.say(Say::Kept(v1::KeptLines { lines })).await;
}

/// What is read, in short: sources, notices, and lines as `source:second`.
async fn read(cluster: &Cluster, request: v1::ReadLogsRequest) -> String {
    let mut admin = cluster.admin().await;
    let mut answers = admin.read_logs(request).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.unwrap().item.unwrap() {
            Item::Sources(sources) => {
                told.extend(sources.sources.into_iter().map(|source| source.name));
            }
            Item::Lines(lines) => {
                told.extend(lines.lines.into_iter().map(|line| {
                    format!("{}:{}", line.source, line.line.unwrap().at.unwrap().seconds)
                }))
            }
            Item::Notice(notice) => told.push(format!("{} {}", notice.reason, notice.dropped)),
            Item::Over(v1::LogsOver {}) => told.push("over".to_owned()),
        }
    }
    told.join(" ")
}

fn request(targets: &[&str]) -> v1::ReadLogsRequest {
    let targets: Vec<_> = targets.iter().map(|target| (*target).to_owned()).collect();
    v1::ReadLogsRequest { kept: true, all: targets.is_empty(), targets, ..Default::default() }
}

#[tokio::test]
async fn what_an_agent_tells_twice_is_kept_once_over_its_sessions_and_those_of_the_master() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let (mut session, through) = open(&mut agent, "n1").await;
    assert_eq!(through, 0);
    tell(&mut session, lines(&[1, 2, 3])).await;
    assert_eq!(acknowledged(&mut session).await, 3);
    drop(session);
    // as if the acknowledgement had been lost, and then the agent's journal had been full
    let (mut session, through) = open(&mut agent, "n1").await;
    assert_eq!(through, 3);
    tell(&mut session, lines(&[2, 3, 4, 7])).await;
    assert_eq!(acknowledged(&mut session).await, 7);
    let flood = v1::KeptLine { dropped: 30, ..lines(&[8]).remove(0) };
    tell(&mut session, vec![flood]).await;
    assert_eq!(acknowledged(&mut session).await, 8);
    let all = "host-n1:a.service host-n1 NotKept 32 0:1 0:2 0:3 0:4 0:7 over";
    assert_eq!(read(&cluster, request(&[])).await, all);
    // 5 and 6 are missing by their numbers, and 30 by the node's own count
    let (_, page) = get(&cluster, Some(&cluster.admin_identity()), "/metrics").await;
    for line in ["piccolo_kept_log_lines_total 5", "piccolo_kept_log_dropped_total 32"] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
    let bytes = page.lines().find_map(|l| l.strip_prefix("piccolo_kept_log_bytes "));
    assert!(bytes.unwrap().parse::<f64>().unwrap() > 100.0, "{page}");
    let cluster = cluster.restart_elsewhere().await;
    assert_eq!(read(&cluster, request(&["host-n1:a.service"])).await, all);
    let mut newest = request(&["n1"]);
    newest.filter = Some(v1::LogFilter {
        lines: 2,
        until: Some(Timestamp { seconds: 4, nanos: 0 }),
        ..Default::default()
    });
    assert_eq!(read(&cluster, newest).await, "host-n1:a.service 0:3 0:4 over");
    assert_eq!(read(&cluster, request(&["n1:b.service"])).await, "host-n1 NotKept 2 over");
    cluster.audited(|entry| entry.call == "ReadContainerLogs").await;
}

#[tokio::test]
async fn lines_of_a_node_come_back_only_as_asked_and_only_as_allowed() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let (mut session, _) = open(&mut agent, "n1").await;
    tell(&mut session, lines(&[1])).await;
    assert_eq!(acknowledged(&mut session).await, 1);
    let mut admin = cluster.admin().await;
    for (request, reason) in [
        (request(&["nobody"]), "NoSuchNode"),
        (v1::ReadLogsRequest { follow: true, ..request(&["n1"]) }, "InvalidField"),
        (v1::ReadLogsRequest { all: true, ..request(&["n1"]) }, "InvalidField"),
    ] {
        assert_eq!(refused(admin.read_logs(request).await).reason, reason);
    }
    tell(&mut session, lines(&[3, 2])).await;
    let why = farewell(&mut session).await;
    assert!(why.contains("ascending"), "{why}");
    // who never said that it keeps any is never allowed to
    let mut agent = cluster.agent(&identity).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    session.configure().await;
    tell(&mut session, lines(&[2])).await;
    let why = farewell(&mut session).await;
    assert!(why.contains("not allowed"), "{why}");
}

async fn farewell(session: &mut Session) -> String {
    let goodbye = |message| match message {
        Heard::Goodbye(goodbye) => Some(goodbye.message),
        _ => None,
    };
    session.next_that(goodbye).await
}
