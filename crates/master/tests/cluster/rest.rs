//! The REST API, as programs and browsers see it (HLD §7.1).

use std::collections::BTreeMap;

use piccolo_rpc::{tls::identity::Identity, v1};
use rustls::version::TLS13;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    harness::{Cluster, Session, hello},
    https::connect,
};

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The word for programs of a problem, whose form is checked.
    pub(crate) fn reason(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        problem["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// One request over HTTP/1.1, on a connection of its own.
pub(crate) async fn ask(
    cluster: &Cluster,
    identity: Option<&Identity>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let address = cluster.master.https_address().unwrap();
    let mut tls = connect(cluster, address, identity, &[&TLS13]).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    tls.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // the server may end the connection without a farewell of TLS
    tls.read_to_end(&mut answer).await.ok();
    read(&String::from_utf8(answer).unwrap())
}

fn read(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), body: body.to_owned() }
}

pub(crate) async fn get(cluster: &Cluster, identity: Option<&Identity>, path: &str) -> Answer {
    ask(cluster, identity, "GET", path, &[], "").await
}

/// A cluster with some nodes that are Ready.
async fn cluster_of(names: &[&str]) -> (Cluster, Vec<Session>) {
    let cluster = Cluster::start().await;
    let mut sessions = Vec::new();
    for name in names {
        let identity = cluster.join(name).await;
        let mut agent = cluster.agent(&identity).await;
        let mut session = Session::open(&mut agent, hello(name)).await;
        session.configure().await;
        cluster.wait_for(name, v1::NodeStatus::Ready).await;
        sessions.push(session);
    }
    (cluster, sessions)
}

#[tokio::test]
async fn nodes_are_read_page_by_page_and_one_by_one() {
    let (cluster, _sessions) = cluster_of(&["n1", "n2", "n3"]).await;
    let admin = cluster.admin_identity();
    let page = get(&cluster, Some(&admin), "/api/v1/nodes?limit=2").await;
    assert_eq!(page.status, 200, "{page:?}");
    let list = page.json();
    let ids = |list: &Value| {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|node| node["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&list), ["n1", "n2"]);
    assert!(list["revision"].as_u64().unwrap() > 0);
    let next = format!("/api/v1/nodes?limit=2&continue={}", list["continue"].as_str().unwrap());
    let list = get(&cluster, Some(&admin), &next).await.json();
    assert_eq!(ids(&list), ["n3"]);
    assert_eq!(list.get("continue"), None);
    let list = get(&cluster, Some(&admin), "/api/v1/nodes?filter=name%3Dhost-n2").await.json();
    assert_eq!(ids(&list), ["n2"]);

    let node = get(&cluster, Some(&admin), "/api/v1/nodes/host-n1").await;
    assert_eq!((node.status, &node.json()["status"]), (200, &Value::from("Ready")), "{node:?}");
    let status = get(&cluster, Some(&admin), "/api/v1/status").await.json();
    assert_eq!(status["nodes_by_status"]["Ready"], 3);
    let topology = get(&cluster, Some(&admin), "/api/v1/topology").await;
    assert_eq!(topology.headers["etag"], "\"1\"");
    assert_eq!(topology.json()["sub_nodes"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn events_are_the_newest_or_those_after_one() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    let newest = get(&cluster, Some(&admin), "/api/v1/events?limit=1").await.json();
    let last = &newest["items"][0]["id"];
    assert_eq!(last, &newest["revision"]);
    let first = get(&cluster, Some(&admin), "/api/v1/events?after=0&limit=1").await.json();
    assert_eq!(first["items"][0]["id"], 1);
    assert_eq!(first["continue"], 1);
    let node = get(&cluster, Some(&admin), "/api/v1/events?after=0&node=host-n1").await.json();
    assert!(node["items"].as_array().unwrap().iter().all(|event| event["node_id"] == "n1"));
}

#[tokio::test]
async fn what_cannot_be_read_is_a_problem_with_its_code() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin_identity();
    let node = cluster.join("n1").await;
    let viewer = crate::people::user(&cluster, "vera", v1::UserRole::Viewer).await;
    for (who, path, status, reason) in [
        (None, "/api/v1/nodes", 401, "CertificateRequired"),
        (Some(&node), "/api/v1/nodes", 403, "RoleNotAllowed"),
        (Some(&node), "/api/v1/events", 403, "RoleNotAllowed"),
        (Some(&admin), "/api/v1/nodes?filter=colour%3Dred", 400, "BadFilter"),
        (Some(&admin), "/api/v1/nodes?limit=0", 400, "InvalidField"),
        (Some(&admin), "/api/v1/nodes?limit=many", 400, "BadParameters"),
        (Some(&admin), "/api/v1/nodes/%FF", 400, "BadPath"),
        (Some(&admin), "/api/v1/nodes/..%2F..%2Fetc%2Fpasswd", 404, "NoSuchNode"),
        (Some(&admin), "/api/v1/nodes/../../etc/passwd", 404, "NoSuchPath"),
        (Some(&admin), "/api/v1/nodes/a%0d%0aSet-Cookie:%20x", 400, "InvalidField"),
        (Some(&viewer), "/api/v1/nodes/zone-x", 404, "NoSuchNode"),
        (Some(&viewer), "/api/v2/nodes", 404, "NoSuchPath"),
    ] {
        let answer = get(&cluster, who, path).await;
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (status, reason),
            "{path}: {answer:?}"
        );
    }
    let answer = ask(&cluster, Some(&admin), "PATCH", "/api/v1/status", &[], "").await;
    assert_eq!((answer.status, answer.reason().as_str()), (405, "MethodNotAllowed"));
    assert_eq!(answer.headers["allow"], "GET,HEAD");
}
