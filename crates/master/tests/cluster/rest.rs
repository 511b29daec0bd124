//! The REST API, as programs and browsers see it (HLD §7.1).

use std::collections::BTreeMap;

use piccolo_rpc::{tls::identity::Identity, v1};
use rustls::version::TLS13;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    harness::{Cluster, Session, refused},
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
pub(crate) async fn cluster_of(names: &[&str]) -> (Cluster, Vec<Session>) {
    let cluster = Cluster::start().await;
    let mut sessions = Vec::new();
    for name in names {
        let session = cluster.ready(name).await;
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

    // once more, and from what was kept: for those who may, and until something changes
    assert_eq!(
        get(&cluster, Some(&admin), &next).await.json(),
        get(&cluster, Some(&admin), &next).await.json()
    );
    assert_eq!(get(&cluster, None, &next).await.status, 401);

    let node = get(&cluster, Some(&admin), "/api/v1/nodes/host-n1").await;
    assert_eq!((node.status, &node.json()["status"]), (200, &Value::from("Ready")), "{node:?}");
    let status = get(&cluster, Some(&admin), "/api/v1/status").await.json();
    assert_eq!(status["nodes_by_status"]["Ready"], 3);
    let topology = get(&cluster, Some(&admin), "/api/v1/topology").await;
    assert_eq!(topology.headers["etag"], "\"1\"");
    assert_eq!(topology.json()["sub_nodes"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_cluster_is_told_as_it_was_at_a_moment() {
    let (cluster, _sessions) = cluster_of(&["n1", "n2"]).await;
    let admin = cluster.admin_identity();
    let events = get(&cluster, Some(&admin), "/api/v1/events?after=0").await.json();
    let events = events["items"].as_array().unwrap();
    let first = |kind: &str| {
        let found = events.iter().find(|event| event["kind"] == kind).unwrap();
        found["at"].as_str().unwrap().to_owned()
    };
    let names = async |at: &str| {
        let past = get(&cluster, Some(&admin), &format!("/api/v1/history?at={at}")).await.json();
        let told = |node: &Value| format!("{} {}", node["name"], node["status"]).replace('"', "");
        let nodes: Vec<_> = past["nodes"].as_array().unwrap().iter().map(told).collect();
        (past["whole"].as_bool(), nodes.join(", "))
    };
    let (before, ready) = (first("ClusterCreated"), events.last().unwrap()["at"].clone());
    assert_eq!(names("2020-01-01T00:00:00Z").await, (Some(false), String::new()));
    assert_eq!(names(&before).await.0, Some(true));
    let after = names(ready.as_str().unwrap()).await;
    assert_eq!(after, (Some(true), "host-n1 Ready, host-n2 Ready".to_owned()));
    let at = |text: &str| Some(text.parse().unwrap());
    let mut admin = cluster.admin().await;
    let request = v1::GetNodesRequest { at: at(ready.as_str().unwrap()), filter: None };
    let told = admin.get_nodes(request).await.unwrap().into_inner();
    let nodes = told.nodes.iter().map(|node| (node.name.as_str(), node.status(), node.role()));
    let was = |name| (name, v1::NodeStatus::Ready, v1::NodeRole::Sub);
    assert_eq!(nodes.collect::<Vec<_>>(), [was("host-n1"), was("host-n2")]);
    assert!(told.past.unwrap().whole);
    for (request, field) in [
        (v1::GetNodesRequest { at: at("9000-01-01T00:00:00Z"), filter: None }, "at"),
        (v1::GetNodesRequest { at: at(&before), filter: Some("role=sub".to_owned()) }, "filter"),
    ] {
        assert!(refused(admin.get_nodes(request).await).message.starts_with(field));
    }
}

#[tokio::test]
async fn the_settings_in_force_are_told() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin_identity();
    let told = get(&cluster, Some(&admin), "/api/v1/settings").await.json();
    let settings = told["settings"].as_array().unwrap();
    let kept = settings.iter().find(|setting| setting["key"] == "limits.events");
    assert_eq!(kept.unwrap()["value"], "10000", "{told}");
    assert_eq!(kept.unwrap()["said_by"], Value::Null);
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
        (Some(&viewer), "/api/v1/watch/logs?target=zone-x/web", 404, "NoSuchNode"),
        (Some(&viewer), "/api/v1/watch/logs?target=n1&since=yesterday", 400, "InvalidField"),
        (Some(&viewer), "/api/v1/watch/logs?target=n1&level=9", 400, "InvalidField"),
        (Some(&viewer), "/api/v1/watch/logs", 400, "InvalidField"),
        (Some(&viewer), "/api/v1/history", 400, "InvalidField"),
        (Some(&viewer), "/api/v1/history?at=yesterday", 400, "InvalidField"),
        (Some(&viewer), "/api/v1/history?at=2999-01-01T00:00:00Z", 400, "InvalidField"),
        (Some(&node), "/api/v1/history?at=2020-01-01T00:00:00Z", 403, "RoleNotAllowed"),
        (Some(&viewer), "/api/v1/settings", 403, "RoleNotAllowed"),
        (Some(&viewer), "/api/v1/alert-channels", 403, "RoleNotAllowed"),
        (Some(&viewer), "/api/v1/alerts?only=x", 400, "InvalidField"),
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

/// An API token of that role.
pub(crate) async fn api_token(cluster: &Cluster, name: &str, role: &str) -> String {
    let body = format!("{{\"name\":\"{name}\",\"role\":\"{role}\"}}");
    let admin = cluster.admin_identity();
    let answer = post(cluster, Some(&admin), "/api/v1/api-tokens", &[], &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

pub(crate) async fn post(
    cluster: &Cluster,
    identity: Option<&Identity>,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let headers: Vec<_> =
        [("Content-Type", "application/json")].iter().chain(headers).copied().collect();
    ask(cluster, identity, "POST", path, &headers, body).await
}

#[tokio::test]
async fn an_api_token_is_shown_once_speaks_by_its_name_and_ends() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let token = api_token(&cluster, "ci", "operator").await;
    let bearer = format!("Bearer {token}");
    let with = [("Authorization", bearer.as_str())];
    let me = ask(&cluster, None, "GET", "/api/v1/session", &with, "").await;
    assert_eq!(me.json()["who"], "operator:token/ci", "{me:?}");
    let made = get(&cluster, Some(&cluster.admin_identity()), "/api/v1/api-tokens").await.json();
    let end = &made["items"][0]["expires_at"];
    assert!(end.is_string() && *end == me.json()["expires_at"], "{made} {me:?}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let path = "/api/v1/nodes/n1/maintenance";
    let on =
        ask(&cluster, None, "PUT", path, &headers, "{\"on\":true,\"reason\":\"new fan\"}").await;
    assert_eq!((on.status, &on.json()["status"]), (200, &Value::from("Maintenance")), "{on:?}");
    let audit = cluster.audit().await;
    let entry = audit.iter().find(|entry| entry.call == "SetMaintenance").unwrap();
    assert_eq!((entry.who.as_str(), entry.target.as_str()), ("operator:token/ci", "n1: new fan"));
    let remove = ask(&cluster, None, "DELETE", "/api/v1/nodes/n1", &with, "").await;
    assert_eq!((remove.status, remove.reason().as_str()), (403, "RoleNotAllowed"));

    let admin = cluster.admin_identity();
    let list = get(&cluster, Some(&admin), "/api/v1/api-tokens").await;
    assert_eq!(list.json()["items"][0]["name"], "ci");
    assert!(!list.body.contains(&token));
    assert_eq!(
        ask(&cluster, None, "GET", "/metrics", &with, "").await.status,
        200,
        "for Prometheus"
    );
    let gone = ask(&cluster, Some(&admin), "DELETE", "/api/v1/api-tokens/ci", &[], "").await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let late = ask(&cluster, None, "GET", "/api/v1/nodes", &with, "").await;
    assert_eq!((late.status, late.reason().as_str()), (401, "ApiTokenNotGood"));
}

#[tokio::test]
async fn the_large_body_of_a_stranger_is_not_waited_for() {
    let cluster = Cluster::start().await;
    let node = cluster.join("n1").await;
    for who in [None, Some(&node)] {
        // the head says that more comes, and nothing does
        let headers = [("Content-Type", "application/json"), ("Content-Length", "100000")];
        let refused = ask(&cluster, who, "PUT", "/api/v1/topology", &headers, "").await;
        assert_eq!((refused.status, refused.reason().as_str()), (401, "CertificateRequired"));
    }
}

#[tokio::test]
async fn what_may_not_be_changed_is_a_problem_with_its_code() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    let json = ("Content-Type", "application/json");
    let huge = format!("{{\"filter\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));
    let new = "{\"name\":\"ci\",\"role\":\"viewer\"}";
    for (method, path, headers, body, expect) in [
        ("POST", "/api/v1/nodes/n1/approve", vec![], "", (409, "WrongStatus")),
        ("POST", "/api/v1/nodes/zone-x/approve", vec![], "", (404, "NoSuchNode")),
        (
            "POST",
            "/api/v1/nodes/n1/containers/web/restart",
            vec![("Origin", "null")],
            "",
            (403, "ForeignOrigin"),
        ),
        ("PUT", "/api/v1/log-level/master", vec![], "{\"filter\":\"info\"}", (415, "NotJson")),
        (
            "PUT",
            "/api/v1/log-level/master",
            vec![json, ("Content-Encoding", "gzip")],
            "{}",
            (415, "NotJson"),
        ),
        ("PUT", "/api/v1/log-level/master", vec![json], "{\"filter\":", (400, "MalformedJson")),
        ("PUT", "/api/v1/log-level/master", vec![json], "{\"filter\":7}", (422, "WrongShape")),
        (
            "PUT",
            "/api/v1/log-level/master",
            vec![json],
            "{\"filter\":\"x\",\"y\":1}",
            (422, "WrongShape"),
        ),
        ("PUT", "/api/v1/log-level/master", vec![json], "{\"filter\":\"\"}", (400, "InvalidField")),
        (
            "PUT",
            "/api/v1/log-level/master",
            vec![json],
            "{\"filter\":\"\u{7f}\u{0}\"}",
            (400, "MalformedJson"),
        ),
        ("PUT", "/api/v1/log-level/master", vec![json], &huge, (413, "TooManyBytes")),
        ("DELETE", "/api/v1/users/first", vec![], "", (409, "LastAdmin")),
        ("DELETE", "/api/v1/tokens/ffffffffffff", vec![], "", (404, "NoSuchToken")),
        ("DELETE", "/api/v1/session", vec![], "", (409, "NotInSession")),
        (
            "POST",
            "/api/v1/api-tokens",
            vec![json, ("Idempotency-Key", "")],
            new,
            (400, "InvalidField"),
        ),
        (
            "POST",
            "/api/v1/nodes/n1/recovery/force",
            vec![json],
            "{\"step\":\"dance\"}",
            (400, "InvalidField"),
        ),
        (
            "POST",
            "/api/v1/nodes/n1/recovery/force",
            vec![json],
            "{\"step\":\"restart-container\"}",
            (400, "InvalidField"),
        ),
    ] {
        let answer = ask(&cluster, Some(&admin), method, path, &headers, body).await;
        assert_eq!((answer.status, answer.reason().as_str()), expect, "{method} {path} {answer:?}");
    }
}

#[tokio::test]
async fn the_topology_is_changed_only_as_it_was_read() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin_identity();
    let path = "/api/v1/topology";
    let mut topology = get(&cluster, Some(&admin), path).await.json();
    topology["name"] = "other".into();
    let topology = topology.to_string();
    let put = async |tag: &str| {
        let headers = [("Content-Type", "application/json"), ("If-Match", tag)];
        ask(&cluster, Some(&admin), "PUT", path, &headers, &topology).await
    };
    for tag in ["\"7\"", "\"0\"", "x", ""] {
        let answer = put(tag).await;
        assert_eq!((answer.status, answer.reason().as_str()), (412, "GenerationOutdated"), "{tag}");
    }
    let good = put("\"1\"").await;
    assert_eq!((good.status, good.headers["etag"].as_str()), (200, "\"2\""), "{good:?}");
    assert_eq!(put("\"1\"").await.status, 412, "somebody was faster");
}

#[tokio::test]
async fn what_was_made_under_a_key_is_not_made_again() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin_identity();
    let make = async |key: &str, role: &str| {
        let body = format!("{{\"role\":\"{role}\"}}");
        post(&cluster, Some(&admin), "/api/v1/tokens", &[("Idempotency-Key", key)], &body).await
    };
    let (first, again) = (make("k1", "sub").await, make("k1", "sub").await);
    assert_eq!((first.status, again.status, &first.body), (201, 201, &again.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = make("k1", "master").await;
    assert_eq!((other.status, other.reason().as_str()), (422, "KeyReused"));
    assert_eq!(make("k2", "sub").await.status, 201);
    let list = get(&cluster, Some(&admin), "/api/v1/tokens").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_made_under_a_key_is_shown_again_only_to_one_who_may_make_it() {
    let cluster = Cluster::start().await;
    let anna = crate::people::user(&cluster, "anna", v1::UserRole::Admin).await;
    let make = async |role: &str| {
        let body = format!("{{\"role\":\"{role}\"}}");
        post(&cluster, Some(&anna), "/api/v1/tokens", &[("Idempotency-Key", "k1")], &body).await
    };
    let first = make("sub").await;
    assert_eq!((first.status, &make("sub").await.body), (201, &first.body));
    let name = "anna".to_owned();
    cluster.admin().await.revoke_user(v1::RevokeUserRequest { name }).await.unwrap();
    // neither the token that was made nor that the key was used
    for role in ["sub", "master"] {
        let late = make(role).await;
        assert_eq!((late.status, late.reason().as_str()), (401, "CertificateRevoked"), "{late:?}");
        assert!(!late.body.contains(first.json()["token"].as_str().unwrap()));
    }
    let refused = |entry: &&v1::AuditEntry| entry.who == "admin:anna" && entry.outcome != "ok";
    crate::harness::eventually("both are in the audit log", async || {
        cluster.audit().await.iter().filter(refused).count() == 2
    })
    .await;
}

#[tokio::test]
async fn an_alert_of_a_rule_that_was_applied_is_watched_acknowledged_and_silenced() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin_identity();
    let rules = r#"{"rules":[{"name":"Lonely","on":"cluster","when":"cluster.nodes < 9","severity":"critical","message":"few","escalate":"1h"}]}"#;
    let checked = post(&cluster, Some(&admin), "/api/v1/alert-rules/check", &[], rules).await;
    assert_eq!(checked.status, 200, "{checked:?}");
    let old = ("If-Match", "\"77\"");
    let refused = post(&cluster, Some(&admin), "/api/v1/alert-rules", &[old], rules).await;
    assert_eq!((refused.status, refused.reason().as_str()), (412, "GenerationOutdated"));
    let none = get(&cluster, Some(&admin), "/api/v1/alert-rules").await.json();
    let named = |list: &Value| {
        let all = list["rules"].as_array().unwrap().iter();
        all.filter(|rule| rule["name"] == "Lonely").cloned().collect::<Vec<_>>()
    };
    assert_eq!(named(&none), [] as [Value; 0], "nothing was changed yet");
    let wrong = rules.replace("1h", "1 fortnight");
    let refused = post(&cluster, Some(&admin), "/api/v1/alert-rules", &[], &wrong).await;
    assert_eq!((refused.status, refused.json()["field"].as_str()), (422, Some("rules[0]")));

    let mut watch = Watch::open(&cluster, &admin, "/api/v1/watch/alerts", "").await;
    assert_eq!(post(&cluster, Some(&admin), "/api/v1/alert-rules", &[], rules).await.status, 200);
    let listed = get(&cluster, Some(&admin), "/api/v1/alert-rules").await;
    assert!(listed.headers.contains_key("etag"), "{listed:?}");
    let rule = named(&listed.json());
    assert_eq!((&rule[0]["escalate"], &rule[0]["builtin"]), (&"3600s".into(), &false.into()));
    let mut names = Vec::new();
    let id = loop {
        let (name, _, data) = watch.next().await;
        names.push(name);
        if data["alert"]["rule"] == "Lonely" {
            break data["alert"]["id"].as_str().unwrap().to_owned();
        }
    };
    assert!(names.contains(&"told".to_owned()), "what came before is told to be whole: {names:?}");
    let path = format!("/api/v1/alerts/{id}/acknowledge");
    let body = r#"{"comment":"on my way"}"#;
    let mine = post(&cluster, Some(&admin), &path, &[], body).await.json();
    assert_eq!((&mine["state"], &mine["comment"]), (&"acknowledged".into(), &"on my way".into()));
    let found = get(&cluster, Some(&admin), &format!("/api/v1/alerts/{id}")).await.json();
    assert_eq!(found["acknowledged_by"], mine["acknowledged_by"]);
    let several = "/api/v1/alerts/acknowledge";
    let body = format!(r#"{{"ids":["{id}","9-9"],"comment":"both"}}"#);
    let refused = post(&cluster, Some(&admin), several, &[], &body).await;
    assert_eq!((refused.status, refused.reason().as_str()), (404, "NoSuchAlert"));
    let found = get(&cluster, Some(&admin), &format!("/api/v1/alerts/{id}")).await.json();
    assert_eq!(found["comment"], "on my way", "all of them, or none");
    let body = body.replace(r#","9-9""#, "");
    let all = post(&cluster, Some(&admin), several, &[], &body).await.json();
    assert_eq!(
        (&all["alerts"][0]["id"], &all["alerts"][0]["comment"]),
        (&id.into(), &"both".into())
    );
    let other = get(&cluster, Some(&admin), "/api/v1/alerts/9-9").await;
    assert_eq!((other.status, other.reason().as_str()), (404, "NoSuchAlert"));

    let body = r#"{"only":"rule=Lonely","seconds":3600}"#;
    let key = [("Idempotency-Key", "s1")];
    let silence = post(&cluster, Some(&admin), "/api/v1/silences", &key, body).await;
    let again = post(&cluster, Some(&admin), "/api/v1/silences", &key, body).await;
    assert_eq!((silence.status, again.status, &again.body), (201, 201, &silence.body));
    let listed = get(&cluster, Some(&admin), "/api/v1/alerts?only=rule%3DLonely").await.json();
    assert_eq!(listed["silences"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["alerts"][0]["silenced_by"], silence.json()["id"]);
    let path = format!("/api/v1/silences/{}", silence.json()["id"].as_str().unwrap());
    assert_eq!(ask(&cluster, Some(&admin), "DELETE", &path, &[], "").await.status, 200);
    let path = "/api/v1/alert-rules/Lonely";
    assert_eq!(ask(&cluster, Some(&admin), "DELETE", path, &[], "").await.status, 200);
}

#[tokio::test]
async fn a_channel_is_made_and_tested_and_no_secret_of_it_comes_back() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin_identity();
    let channels = r#"{"channels":[{"name":"pager","webhook":{"url":"http://127.0.0.1:9/hidden","key":"hidden"},"timeout":"1s"}]}"#;
    let made = post(&cluster, Some(&admin), "/api/v1/alert-channels", &[], channels).await;
    let listed = get(&cluster, Some(&admin), "/api/v1/alert-channels").await;
    assert_eq!((made.status, listed.status), (200, 200), "{made:?}");
    assert_eq!(listed.json()["channels"][0]["name"], "pager");
    assert!(!format!("{made:?}{listed:?}").contains("hidden"), "{made:?} {listed:?}");
    let two = channels.replace("\"timeout\"", "\"command\":[\"true\"],\"timeout\"");
    let refused = post(&cluster, Some(&admin), "/api/v1/alert-channels", &[], &two).await;
    assert_eq!((refused.status, refused.json()["field"].as_str()), (422, Some("channels[0]")));
    let path = "/api/v1/alert-channels/pager";
    for (body, disabled) in [(r#"{"disabled":true}"#, true), (r#"{"disabled":false}"#, false)] {
        let switched = post(&cluster, Some(&admin), &format!("{path}/switch"), &[], body).await;
        assert_eq!(switched.status, 200, "{switched:?}");
        let listed = get(&cluster, Some(&admin), "/api/v1/alert-channels").await.json();
        assert_eq!(listed["channels"][0]["disabled"], disabled);
    }
    let nobody = "/api/v1/alert-channels/nobody/switch";
    let nobody = post(&cluster, Some(&admin), nobody, &[], r#"{"disabled":true}"#).await;
    assert_eq!((nobody.status, nobody.reason().as_str()), (404, "NoSuchChannel"));
    let test = post(&cluster, Some(&admin), &format!("{path}/test"), &[], "").await;
    assert!(test.status >= 400 && !test.reason().is_empty(), "nobody listens there: {test:?}");
    assert_eq!(ask(&cluster, Some(&admin), "DELETE", path, &[], "").await.status, 200);
}

#[tokio::test]
async fn every_documented_route_is_there_and_asks_who_asks() {
    let cluster = Cluster::start().await;
    let document = get(&cluster, None, "/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut routes = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.replace(['{', '}'], "x");
            let headers = [("Content-Type", "application/json")];
            let method = method.to_uppercase();
            let answer = ask(&cluster, None, &method, &path, &headers, "{\"x\":1}").await;
            let open = path == "/api/v1/session" && method == "POST";
            // what is malformed may be seen before who asks; what is well-formed may not
            assert!([401, 422].contains(&answer.status), "{method} {path} {answer:?}");
            assert!(operation["responses"].get(answer.status.to_string()).is_some(), "{path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
            routes += usize::from(!open);
        }
    }
    assert!(routes >= 50, "{routes}");
    let size = document.to_string().len();
    assert!(size < 150_000, "what is alike is said once: {size} bytes");
    for (path, kind) in [
        ("/api/docs", "text/html; charset=utf-8"),
        ("/api/docs/page.js", "text/javascript; charset=utf-8"),
        ("/api/docs/page.css", "text/css; charset=utf-8"),
    ] {
        let page = get(&cluster, None, path).await;
        assert_eq!((page.status, page.headers["content-type"].as_str()), (200, kind));
        assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    }
}

/// The events of a watch, one after the other.
pub(crate) struct Watch(
    tokio::io::BufReader<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
);

impl Watch {
    pub(crate) async fn open(
        cluster: &Cluster,
        identity: &Identity,
        path: &str,
        headers: &str,
    ) -> Self {
        let address = cluster.master.https_address().unwrap();
        let mut tls = connect(cluster, address, Some(identity), &[&TLS13]).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        tls.write_all(request.as_bytes()).await.unwrap();
        Self(tokio::io::BufReader::new(tls))
    }

    /// Whether the answer is a watch.
    pub(crate) async fn begins(&mut self) -> bool {
        use tokio::io::AsyncBufReadExt as _;
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.starts_with("HTTP/1.1 200")
    }

    /// The next event's name, id and data.
    pub(crate) async fn next(&mut self) -> (String, String, Value) {
        use tokio::io::AsyncBufReadExt as _;
        let (mut name, mut id) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).await.unwrap(), 0, "the watch is over");
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut name);
            } else if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, id, serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_watch_of_nodes_begins_with_all_and_goes_on_where_it_was() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    let mut watch = Watch::open(&cluster, &admin, "/api/v1/watch/nodes", "").await;
    assert_eq!(watch.next().await.0, "snapshot_begin");
    let (name, _, data) = watch.next().await;
    assert_eq!((name.as_str(), &data["node"]["id"]), ("changed", &Value::from("n1")));
    let (name, id, _) = watch.next().await;
    assert_eq!(name, "snapshot_end");
    drop(watch);
    let body = "{\"labels\":{\"zone\":\"a\"}}";
    let headers = [("Content-Type", "application/json")];
    let path = "/api/v1/nodes/n1/labels";
    let labelled = ask(&cluster, Some(&admin), "PATCH", path, &headers, body).await;
    assert_eq!(labelled.json()["labels"]["zone"], "a", "{labelled:?}");
    let last = format!("Last-Event-ID: {id}\r\n");
    let mut watch = Watch::open(&cluster, &admin, "/api/v1/watch/nodes", &last).await;
    loop {
        let (name, _, data) = watch.next().await;
        assert_eq!(name, "changed", "no snapshot: nothing was missed");
        if data["node"]["labels"]["zone"] == "a" {
            break;
        }
    }
}

#[tokio::test]
async fn a_watch_of_events_misses_nothing_in_between() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin_identity();
    let mut watch = Watch::open(&cluster, &admin, "/api/v1/watch/events?after=0", "").await;
    let (_, id, first) = watch.next().await;
    assert_eq!((id.as_str(), &first["event"]["id"]), ("1", &Value::from(1)));
    drop(watch);
    let mut watch =
        Watch::open(&cluster, &admin, "/api/v1/watch/events", "Last-Event-ID: 1\r\n").await;
    assert_eq!(watch.next().await.1, "2");
    let bad =
        ask(&cluster, Some(&admin), "GET", "/api/v1/watch/events", &[("Last-Event-ID", "x")], "");
    assert_eq!(bad.await.status, 400);
    let ahead = get(&cluster, Some(&admin), "/api/v1/watch/events?after=99999").await;
    assert_eq!((ahead.status, ahead.reason().as_str()), (400, "InvalidField"));
}

#[tokio::test]
async fn watches_of_one_caller_are_bounded_and_a_slow_request_slows_nobody() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin_identity();
    let mut watches = Vec::new();
    for _ in 0..64 {
        let mut watch = Watch::open(&cluster, &admin, "/api/v1/watch/nodes", "").await;
        watch.next().await;
        watches.push(watch);
    }
    let more = get(&cluster, Some(&admin), "/api/v1/watch/nodes").await;
    assert_eq!((more.status, more.reason().as_str()), (429, "TooManyWatchers"));
    // heads that never end, and bodies that never come
    let address = cluster.master.https_address().unwrap();
    let mut slow = Vec::new();
    for request in [
        "GET /api/v1/nodes HTTP/1.1\r\nHost: x\r\nX-A: ",
        "PUT /api/v1/log-level/master HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n{",
    ] {
        for _ in 0..20 {
            let mut tls = connect(&cluster, address, Some(&admin), &[&TLS13]).await.unwrap();
            tls.write_all(request.as_bytes()).await.unwrap();
            slow.push(tls);
        }
    }
    let viewer = crate::people::user(&cluster, "vera", v1::UserRole::Viewer).await;
    assert_eq!(get(&cluster, Some(&viewer), "/api/v1/nodes").await.status, 200);
    let small = "{\"role\":\"sub\"}";
    assert_eq!(post(&cluster, Some(&admin), "/api/v1/tokens", &[], small).await.status, 201);
    // the watches go on, and are free again when they are closed
    drop(watches);
    crate::harness::eventually("a watch may be opened again", async || {
        let mut watch = Watch::open(&cluster, &viewer, "/api/v1/watch/nodes", "").await;
        watch.next().await.0 == "snapshot_begin"
    })
    .await;
}
