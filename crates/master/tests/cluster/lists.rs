//! Lists of the REST API: what is asked of them, and what is not known there.

use serde_json::Value;

use crate::rest::{api_token, ask, cluster_of, get};

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
        ("topology?foo=1", "no fields"),
        ("nodes/n1?foo=1", "no fields"),
        ("alert-rules?foo=1", "no fields"),
    ] {
        let answer = get(&cluster, Some(&admin), &format!("/api/v1/{path}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "BadParameters"), "{path}");
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains("`foo`") && detail.contains(known), "{path}: {detail}");
    }
    let cut = get(&cluster, Some(&admin), "/api/v1/nodes?limit=1&continue=zzz").await;
    assert_eq!((cut.status, cut.reason().as_str()), (400, "InvalidField"));
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
