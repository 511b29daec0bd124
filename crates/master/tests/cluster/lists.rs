//! The REST API over all its routes, as its document has them: what is asked of them, what is not known there, and on
//! which condition something is sent again, or changed.

use piccolo_rpc::v1;
use serde_json::Value;

use crate::{
    harness::Cluster,
    rest::{Answer, api_token, ask, cluster_of, get},
};

/// One route of the document.
struct Route {
    method: String,
    path: String,
    said: Value,
}

impl Route {
    /// Whether the document has a parameter of this name for it.
    fn takes(&self, name: &str) -> bool {
        self.parameters().any(|parameter| parameter["name"] == name)
    }

    fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.said["parameters"].as_array().into_iter().flatten()
    }

    fn answers(&self, status: &str) -> bool {
        self.said["responses"].get(status).is_some()
    }
}

/// Every route of the document, with `n1` where its path has a name.
async fn routes(cluster: &Cluster) -> Vec<Route> {
    let document = get(cluster, None, "/api/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let mut routes = Vec::new();
    for (path, methods) in paths {
        let mut named = String::new();
        for part in path.split('/').skip(1) {
            named = format!("{named}/{}", if part.starts_with('{') { "n1" } else { part });
        }
        for (method, said) in methods.as_object().unwrap() {
            let (method, path) = (method.to_uppercase(), named.clone());
            routes.push(Route { method, path, said: said.clone() });
        }
    }
    assert!(routes.len() > 50, "the document has every route");
    routes
}

#[tokio::test]
async fn the_audit_log_is_read_back_from_the_newest_and_by_who_and_outcome() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    api_token(&cluster, "console", "viewer").await;
    assert_eq!(get(&cluster, None, "/api/v1/nodes").await.status, 401);
    let list = async |query: &str| {
        let answer = get(&cluster, Some(&admin), &format!("/api/v1/audit?{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let ids = |page: &Value| {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|entry| entry["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let (mut back, mut more) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("order=desc&limit=2{more}")).await;
        back.extend(ids(&page));
        let Some(before) = page["continue"].as_u64() else { break };
        more = format!("&before={before}");
    }
    back.reverse();
    let all = list("after=0").await;
    assert!(back.len() > 2 && back == ids(&all), "{back:?} {all}");
    let of = |wanted: &dyn Fn(&Value) -> bool| {
        let entries = all["items"].as_array().unwrap().iter();
        entries.filter(|e| wanted(e)).map(|e| e["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let refused = of(&|entry| entry["outcome"] != "ok");
    assert_eq!(ids(&list("outcome=refused").await), refused);
    let by_admin = of(&|entry| entry["who"].as_str().unwrap().starts_with("admin:"));
    assert_eq!(ids(&list("who=ADMIN%3A&after=0").await), by_admin);
    assert!(!refused.is_empty() && !by_admin.is_empty(), "{all}");
    assert_eq!(ids(&list("who=nobody-at-all").await), Vec::<u64>::new());
    for wrong in ["order=desc&after=1", "before=3"] {
        let answer = get(&cluster, Some(&admin), &format!("/api/v1/audit?{wrong}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "InvalidField"), "{wrong}");
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_known_is_named_and_changes_no_meaning() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    for (path, known) in [
        ("nodes?foo=1", "`filter`"),
        ("events?foo=1", "`severity`"),
        ("audit?foo=1", "`after`"),
        ("alerts?foo=1", "`resolved`"),
        ("tokens?foo=1", "`limit`"),
        ("metrics/cpu_percent?foo=1", "`since_seconds`"),
        ("watch/events?foo=1", "`after`"),
    ] {
        let answer = get(&cluster, Some(&admin), &format!("/api/v1/{path}")).await;
        named_as_unknown(&answer, known, path);
    }
    let cut = get(&cluster, Some(&admin), "/api/v1/nodes?limit=1&continue=zzz").await;
    assert_eq!((cut.status, cut.reason().as_str()), (400, "InvalidField"));
}

/// The parameter `foo` is refused by its name.
fn named_as_unknown(answer: &Answer, known: &str, what: &str) {
    assert_eq!((answer.status, answer.reason().as_str()), (400, "BadParameters"), "{what}");
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("`foo`") && detail.contains(known), "{what}: {detail}");
}

#[tokio::test]
async fn every_route_refuses_a_parameter_that_it_does_not_know_and_does_nothing() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    let before = cluster.audit().await.len();
    for route in routes(&cluster).await {
        let headers = [("Content-Type", "application/json")];
        let path = format!("{}?foo=1", route.path);
        let answer = ask(&cluster, Some(&admin), &route.method, &path, &headers, "{}").await;
        let known = if route.parameters().any(|parameter| parameter["in"] == "query") {
            "expected"
        } else {
            "there are no fields"
        };
        named_as_unknown(&answer, known, &format!("{} {path}", route.method));
    }
    assert_eq!(cluster.audit().await.len(), before);
}

#[tokio::test]
async fn every_tag_is_documented_with_what_can_be_asked_on_it() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    let mut tagged = 0;
    for route in routes(&cluster).await {
        let what = format!("{} {}", route.method, route.path);
        if route.method != "GET" || route.path.contains("/watch/") {
            continue;
        }
        let has_tag = get(&cluster, Some(&admin), &route.path).await.headers.contains_key("etag");
        tagged += usize::from(has_tag);
        let conditional = route.takes("If-None-Match");
        assert_eq!(conditional, route.answers("304"), "{what}");
        // one that has nothing to show here may have a tag all the same
        assert!(conditional || !has_tag, "{what}");
    }
    assert_eq!(tagged, 4, "the nodes, one of them, its recovery, the topology");
}

#[tokio::test]
async fn nothing_of_a_node_is_changed_on_a_condition_that_does_not_hold() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    let mut tried = 0;
    for route in routes(&cluster).await {
        if !route.path.starts_with("/api/v1/nodes/n1") || route.method == "GET" {
            continue;
        }
        let what = format!("{} {}", route.method, route.path);
        assert!(route.takes("If-Match") && route.answers("412"), "{what}");
        let body = match route.path.rsplit_once('/').unwrap().1 {
            "maintenance" => "{\"on\":true}",
            "labels" => "{\"labels\":{\"zone\":\"a\"}}",
            "pause" => "{\"seconds\":60}",
            "force" => "{\"step\":\"restart-podman\"}",
            _ => "{}",
        };
        let headers = [("Content-Type", "application/json"), ("If-Match", "\"1\"")];
        let answer = ask(&cluster, Some(&admin), &route.method, &route.path, &headers, body).await;
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (412, "GenerationOutdated"),
            "{what}"
        );
        tried += 1;
    }
    assert_eq!(tried, 12);
    let node = get(&cluster, Some(&admin), "/api/v1/nodes/n1").await.json();
    assert_eq!((&node["status"], &node["labels"]), (&"Ready".into(), &serde_json::json!({})));

    // as it was read, and then as the change has told of it
    let label = async |tag: &str, value: &str| {
        let headers = [("Content-Type", "application/json"), ("If-Match", tag)];
        let body = format!("{{\"labels\":{{\"zone\":\"{value}\"}}}}");
        ask(&cluster, Some(&admin), "PATCH", "/api/v1/nodes/n1/labels", &headers, &body).await
    };
    let tag = |answer: &Answer| answer.headers["etag"].clone();
    let first = tag(&get(&cluster, Some(&admin), "/api/v1/nodes/n1").await);
    let changed = label(&first, "a").await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(label(&first, "b").await.status, 412, "somebody was faster");
    assert_eq!(label(&tag(&changed), "b").await.status, 200);
    assert_eq!(label("*", "c").await.status, 200);
    let newest = get(&cluster, Some(&admin), "/api/v1/nodes/n1").await.json();
    assert_eq!(newest["labels"]["zone"], "c");
}

#[tokio::test]
async fn a_figure_or_a_node_that_is_not_there_is_refused_with_those_that_are() {
    let (cluster, mut sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    let report = v1::StatusReport {
        metrics: [("cpu_percent".to_owned(), "25".to_owned())].into(),
        ..Default::default()
    };
    for session in &mut sessions {
        session.say(v1::agent_message::Message::Status(report.clone())).await;
    }
    crate::harness::eventually("its figure is remembered", async || {
        get(&cluster, Some(&admin), "/api/v1/metrics").await.body.contains("cpu_percent")
    })
    .await;
    for (path, reason, there) in [
        ("nix", "NoSuchFigure", "cpu_percent"),
        ("cpu_percent?filter=name%3Dnix", "NoSuchNode", "host-n1"),
    ] {
        let answer = get(&cluster, Some(&admin), &format!("/api/v1/metrics/{path}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (404, reason), "{answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(there), "{answer:?}");
    }
    let none =
        get(&cluster, Some(&admin), "/api/v1/metrics/cpu_percent?filter=role%3Dmaster").await;
    assert_eq!((none.status, &none.json()["rows"]), (200, &serde_json::json!([])));
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again_and_a_list_of_tags_is_understood() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    for path in ["/api/v1/topology", "/api/v1/nodes"] {
        let first = get(&cluster, Some(&admin), path).await;
        let tag = first.headers["etag"].clone();
        let weak = format!("\"77\", W/{tag}");
        for (known, status) in [(tag.as_str(), 304), (&weak, 304), ("*", 304), ("\"77\"", 200)] {
            let with = [("If-None-Match", known)];
            let answer = ask(&cluster, Some(&admin), "GET", path, &with, "").await;
            assert_eq!((answer.status, &answer.headers["etag"]), (status, &tag), "{path} {known}");
            assert_eq!(answer.body.is_empty(), status == 304, "{path} {known}");
        }
    }
    let topology = get(&cluster, Some(&admin), "/api/v1/topology").await;
    let put = async |tags: &str| {
        let with = [("Content-Type", "application/json"), ("If-Match", tags)];
        ask(&cluster, Some(&admin), "PUT", "/api/v1/topology", &with, &topology.body).await.status
    };
    assert_eq!(put("\"5\", \"6\"").await, 412);
    let both = format!("\"5\", {}", topology.headers["etag"]);
    assert_eq!(put(&both).await, 200);
}

#[tokio::test]
async fn events_are_read_forth_from_one_and_back_from_the_newest() {
    let (cluster, _sessions) = cluster_of(&["n1"]).await;
    let admin = cluster.admin_identity();
    let newest = get(&cluster, Some(&admin), "/api/v1/events?limit=1").await.json();
    let last = &newest["items"][0]["id"];
    assert_eq!(last, &newest["revision"]);
    let first = get(&cluster, Some(&admin), "/api/v1/events?after=0&limit=1").await.json();
    assert_eq!(first["items"][0]["id"], 1);
    assert_eq!(first["continue"], 1);
    let all = get(&cluster, Some(&admin), "/api/v1/events?after=0").await.json();
    let ids = |page: &Value| {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|event| event["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let (mut back, mut more) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/events?order=desc&limit=2{more}");
        let page = get(&cluster, Some(&admin), &path).await.json();
        back.extend(ids(&page));
        let Some(before) = page["continue"].as_u64() else { break };
        more = format!("&before={before}");
    }
    back.reverse();
    assert!(back.len() > 4 && back == ids(&all), "{back:?} {all}");
    for wrong in ["order=desc&after=1", "before=3", "order=desc&before=0"] {
        let path = format!("/api/v1/events?{wrong}");
        let answer = get(&cluster, Some(&admin), &path).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "InvalidField"), "{wrong}");
    }
    let node = get(&cluster, Some(&admin), "/api/v1/events?after=0&node=host-n1").await.json();
    assert!(node["items"].as_array().unwrap().iter().all(|event| event["node_id"] == "n1"));
}
