//! Wrong input of every kind: a precise status with the field named, nothing stored, the process alive.

use piccolo_rpc::{
    tls::identity::PrivateKey,
    v1::{self, agent_message::Message as Say, master_message::Message as Heard},
};
use tonic::Code;

use crate::harness::{Agent, Cluster, Session, eventually, goodbye, hello, refused, registration};

/// Registers with one field changed; it must be refused, with that field named.
struct Joining {
    agent: Agent,
    token: String,
}

impl Joining {
    async fn check(&mut self, field: &str, change: impl FnOnce(&mut v1::NodeRegistrationRequest)) {
        let mut request = registration("n1", &self.token, &PrivateKey::generate().unwrap());
        change(&mut request);
        let view = refused(self.agent.register_node(request).await);
        assert_eq!(view.code, Code::InvalidArgument, "{field}: {view:?}");
        assert_eq!(view.field.as_deref(), Some(field), "{}", view.message);
    }
}

#[tokio::test]
async fn every_field_of_a_registration_is_checked() {
    let cluster = Cluster::start().await;
    let token = cluster.token(|_| {}).await;
    let agent = cluster.stranger(&token).await;
    let mut joining = Joining { agent, token };
    joining.check("node_id", |r| r.node_id = String::new()).await;
    joining.check("node_id", |r| r.node_id = "../../etc".to_owned()).await;
    joining.check("node_id", |r| r.node_id = "x".repeat(65)).await;
    joining.check("node_id", |r| r.node_id = "ends-with-".to_owned()).await;
    joining.check("hostname", |r| r.hostname = String::new()).await;
    joining.check("hostname", |r| r.hostname = "under_score".to_owned()).await;
    joining.check("hostname", |r| r.hostname = "-dash".to_owned()).await;
    joining.check("ip_address", |r| r.ip_address = String::new()).await;
    joining.check("ip_address", |r| r.ip_address = "300.1.1.1".to_owned()).await;
    joining.check("role", |r| r.role = 0).await;
    joining.check("role", |r| r.role = 42).await;
    joining.check("kind", |r| r.kind = -1).await;
    let many = || (0..65).map(|i| (format!("k{i}"), String::new())).collect();
    joining.check("labels", |r| r.labels = many()).await;
    let label = |k: &str, v: &str| [(k.to_owned(), v.to_owned())].into();
    joining.check("labels[a b]", |r| r.labels = label("a b", "x")).await;
    joining.check("labels[a]", |r| r.labels = label("a", "\u{1b}[2J")).await;
    let csr = "credentials.certificate_signing_request";
    joining.check(csr, |r| r.credentials = None).await;
    // the limit of failed attempts of one address is 20 a minute
    let resources = |cpu, memory, disk| Some(v1::ResourceInfo { cpu, memory, disk });
    joining.check("resources.cpu", |r| r.resources = resources(u32::MAX, 1, 1)).await;
    joining.check("resources.disk", |r| r.resources = resources(1, 1, u64::MAX)).await;
    joining
        .check(csr, |r| {
            r.credentials.as_mut().unwrap().certificate_signing_request = b"nonsense".to_vec();
        })
        .await;

    let mut admin = cluster.admin().await;
    let nodes = admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner().nodes;
    assert_eq!(nodes, []);
    let refusals = async || {
        let audit = cluster.audit().await;
        audit.iter().filter(|entry| entry.call == "RegisterNode").count()
    };
    eventually("each was audited", async || refusals().await >= 19).await;
    assert_eq!(refusals().await, 19, "and once");
}

#[track_caller]
fn invalid<T: std::fmt::Debug>(result: Result<T, tonic::Status>, field: &str) {
    let view = refused(result);
    assert_eq!(
        (view.code, view.field.as_deref()),
        (Code::InvalidArgument, Some(field)),
        "{view:?}"
    );
}

#[tokio::test]
async fn every_field_that_people_send_is_checked() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let mut admin = cluster.admin().await;
    let node = |node_id: &str| v1::GetNodeRequest { node_id: node_id.to_owned() };
    invalid(admin.get_node(node("")).await, "node_id");
    invalid(admin.get_node(node("\u{7}")).await, "node_id");
    let view = refused(admin.get_node(node("host-n2")).await);
    assert_eq!(view.code, Code::NotFound);
    assert!(view.message.contains("did you mean host-n1?"), "{}", view.message);

    let token = |role, ttl_seconds, uses, node_name: &str| v1::CreateTokenRequest {
        role,
        ttl_seconds,
        uses,
        node_name: node_name.to_owned(),
    };
    invalid(admin.create_token(token(0, 0, 0, "")).await, "role");
    invalid(admin.create_token(token(9, 0, 0, "")).await, "role");
    invalid(admin.create_token(token(2, u32::MAX, 0, "")).await, "ttl_seconds");
    invalid(admin.create_token(token(2, 0, 5000, "")).await, "uses");
    invalid(admin.create_token(token(2, 0, 0, "a b")).await, "node_name");

    let user = |name: &str, role, request: &[u8]| v1::CreateUserRequest {
        name: name.to_owned(),
        role,
        ttl_seconds: 0,
        certificate_signing_request: request.to_vec(),
    };
    let good = PrivateKey::generate().unwrap().signing_request().unwrap();
    invalid(admin.create_user(user("", 1, &good)).await, "name");
    invalid(admin.create_user(user("a/b", 1, &good)).await, "name");
    invalid(admin.create_user(user("eve", 0, &good)).await, "role");
    invalid(admin.create_user(user("eve", 1, b"x")).await, "certificate_signing_request");
    let mut too_long = user("eve", 1, &good);
    too_long.ttl_seconds = u32::MAX;
    invalid(admin.create_user(too_long).await, "ttl_seconds");

    invalid(admin.update_topology(v1::UpdateTopologyRequest::default()).await, "topology");
    let restart = v1::RestartContainerRequest { node_id: "n1".to_owned(), ..Default::default() };
    invalid(admin.restart_container(restart).await, "container");
    let events = v1::ListEventsRequest { limit: 1001, ..Default::default() };
    invalid(admin.list_events(events).await, "limit");
    let events = v1::ListEventsRequest { minimum_severity: 7, ..Default::default() };
    invalid(admin.list_events(events).await, "minimum_severity");
    let audit = v1::ListAuditRequest { limit: u32::MAX, ..Default::default() };
    invalid(admin.list_audit(audit).await, "limit");
    let watch = v1::WatchEventsRequest { after_id: u64::MAX, ..Default::default() };
    invalid(admin.watch_events(watch).await.map(drop), "after_id");
    let level = v1::SetLogLevelRequest { target: "master".to_owned(), ..Default::default() };
    invalid(admin.set_log_level(level).await, "filter");
    let (target, filter) = ("master".to_owned(), "debug".to_owned());
    let level = v1::SetLogLevelRequest { target, filter, for_seconds: 86_401 };
    invalid(admin.set_log_level(level).await, "for_seconds");
}

#[tokio::test]
async fn a_report_with_hostile_text_is_refused_whole() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let mut report = v1::StatusReport {
        node_id: "n1".to_owned(),
        metrics: [("good".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    report.containers.push(v1::ContainerStatus::default());
    report.containers.push(v1::ContainerStatus { name: "a\nb".to_owned(), ..Default::default() });
    invalid(agent.report_status(report).await, "containers[1].name");
    let absurd = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    let report = v1::StatusReport {
        node_id: "n1".to_owned(),
        containers: vec![v1::ContainerStatus { started_at: Some(absurd), ..Default::default() }],
        ..Default::default()
    };
    invalid(agent.report_status(report).await, "containers[0].started_at");
    let node = cluster.node("n1").await;
    assert!(node.metrics.is_empty() && node.containers.is_empty(), "nothing of it was taken");
}

#[tokio::test]
async fn what_is_wrong_in_a_hello_changes_nothing_of_its_node() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    cluster.join("n2").await;
    let before = cluster.node("n1").await;
    let absurd = v1::ResourceInfo { cpu: u32::MAX, memory: u64::MAX, disk: u64::MAX };
    let system = v1::SystemInfo { os: "\u{1b}[2J".to_owned(), ..Default::default() };
    let mut agent = cluster.agent(&identity).await;
    for hostname in ["", "under_score", "-dash", &"x".repeat(64), "보드", "host-n2"] {
        let wrong = v1::Hello {
            hostname: hostname.to_owned(),
            ip_address: "300.1.1.1".to_owned(),
            resources: Some(absurd),
            system: Some(system.clone()),
            ..hello("n1")
        };
        let mut session = Session::open(&mut agent, wrong).await;
        session.configure().await;
        drop(session);
        eventually("its session is over", async || !cluster.node("n1").await.connected).await;
        let v1::Node { name, ip, resources, os, .. } = cluster.node("n1").await;
        assert_eq!(
            (&name, &ip, resources, &os),
            (&before.name, &before.ip, before.resources, &before.os),
            "{hostname:?}"
        );
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_nobody_else_notices() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let metrics = [("big".to_owned(), "x".repeat(2 * 1024 * 1024))].into();
    let report = v1::StatusReport { node_id: "n1".to_owned(), metrics, ..Default::default() };
    assert!(agent.report_status(report).await.is_err());
    let beat = v1::HeartbeatRequest { node_id: "n1".to_owned(), sent_at: None };
    agent.heartbeat(beat).await.unwrap();
}

#[tokio::test]
async fn what_is_too_large_for_the_store_is_refused_before_it_gets_there() {
    let cluster = Cluster::start_with(|config| config.events_max = 100).await;
    let mut session = cluster.session("n1").await;
    let fields = |n: usize| (0..n).map(|i| (format!("f{i}"), "\"".repeat(1000))).collect();
    let event =
        |node_sequence, n| v1::Event { node_sequence, fields: fields(n), ..Default::default() };
    // the most that is taken, and the most that is retired with it
    for first in [1, 49, 97, 145] {
        let events = (first..first + 48).map(|sequence| event(sequence, 5)).collect();
        session.say(Say::Events(v1::EventBatch { events })).await;
        session
            .next_that(|message| match message {
                Heard::EventAck(ack) => Some(ack.sequence),
                _ => None,
            })
            .await;
    }
    let events = (1000..1048).map(|sequence| event(sequence, 16)).collect();
    session.say(Say::Events(v1::EventBatch { events })).await;
    assert_eq!(session.next_that(goodbye).await.message, "a batch of events is too large");

    let config = (0..128).map(|i| (format!("key{i}"), "x".repeat(4096))).collect();
    let topology = v1::ClusterTopology {
        name: "piccolo".to_owned(),
        r#type: v1::TopologyType::BasicEmbedded.into(),
        config,
        ..Default::default()
    };
    let update = v1::UpdateTopologyRequest { topology: Some(topology) };
    invalid(cluster.admin().await.update_topology(update).await, "topology.config");
}

#[tokio::test]
async fn fewer_events_are_kept_as_soon_as_the_limit_is_lowered() {
    let mut cluster = Cluster::start_with(|config| config.events_max = 400).await;
    let identity = cluster.join("n1").await;
    let batch = |first: u64| {
        let event = |node_sequence| v1::Event { node_sequence, ..Default::default() };
        Say::Events(v1::EventBatch { events: (first..first + 48).map(event).collect() })
    };
    let send = async |cluster: &Cluster, firsts: &[u64]| {
        let mut agent = cluster.agent(&identity).await;
        let mut session = Session::open(&mut agent, hello("n1")).await;
        for first in firsts {
            session.say(batch(*first)).await;
            let acknowledged = session
                .next_that(|message| match message {
                    Heard::EventAck(ack) => Some(ack.sequence),
                    _ => None,
                })
                .await;
            assert_eq!(acknowledged, first + 47);
        }
    };
    send(&cluster, &[1, 49, 97, 145, 193]).await;
    cluster.config.events_max = 100;
    let cluster = cluster.restart().await;
    send(&cluster, &[241, 289, 337]).await;
    assert!(cluster.events().await.len() <= 200);
}

#[tokio::test]
async fn a_batch_of_events_that_no_store_takes_ends_its_session_alone() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    // below 1 MiB on the wire, and twice that as JSON
    let quotes = "\"".repeat(1024);
    let fields = (0..16).map(|i| (format!("f{i}"), quotes.clone())).collect();
    let event = v1::Event { severity: 1, kind: "Alert".to_owned(), fields, ..Default::default() };
    let events = (1..=48).map(|sequence| v1::Event { node_sequence: sequence, ..event.clone() });
    session.say(Say::Events(v1::EventBatch { events: events.collect() })).await;
    assert_eq!(session.next_that(goodbye).await.reason, "Protocol");
    let kept = cluster.events().await;
    assert!(kept.iter().all(|event| event.kind != "Alert"), "nothing of it was stored");
    let mut again = Session::open(&mut agent, hello("n1")).await;
    again.configure().await;
}
