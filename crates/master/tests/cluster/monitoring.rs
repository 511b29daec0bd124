//! Figures over time, as they are asked for on the wire (HLD §11.1).

use piccolo_rpc::v1::{self, agent_message::Message as Say, master_message::Message as Hear};

use crate::harness::{Admin, Cluster, Session, eventually, hello, refused};

fn report(cpu: &str) -> v1::StatusReport {
    let web = v1::ContainerStatus {
        id: "c1".to_owned(),
        name: "web".to_owned(),
        image: "localhost/web:1".to_owned(),
        state: "running".to_owned(),
        // long ago, by whatever clock
        started_at: Some(prost_types::Timestamp::default()),
        memory_bytes: 1 << 20,
        ..Default::default()
    };
    v1::StatusReport {
        metrics: [("cpu_percent".to_owned(), cpu.to_owned())].into(),
        containers: vec![web],
        ..Default::default()
    }
}

async fn ask(admin: &mut Admin, query: v1::QueryMetricsRequest) -> v1::QueryMetricsResponse {
    admin.query_metrics(query).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_nodes_tell_is_remembered_and_can_be_asked_for() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let mut beating = Vec::new();
    for (id, cpu) in [("n1", "10.0"), ("n2", "30.0")] {
        let identity = cluster.join(id).await;
        let mut agent = cluster.agent(&identity).await;
        let mut session = Session::open(&mut agent, hello(id)).await;
        session.say(Say::Status(report(cpu))).await;
        beating.push((agent, session.keep_beating()));
    }
    let cpu = v1::QueryMetricsRequest { figure: "cpu_percent".to_owned(), ..Default::default() };
    eventually("both nodes are remembered", async || {
        let by = vec!["node".to_owned()];
        ask(&mut admin, v1::QueryMetricsRequest { by, ..cpu.clone() }).await.rows.len() == 2
    })
    .await;
    let all = ask(&mut admin, cpu.clone()).await;
    let seen: Vec<_> = all.rows[0].points.iter().filter(|point| !point.is_nan()).collect();
    assert_eq!((seen, all.step_seconds), (vec![&20.0], 60), "the mean of both");
    let named = v1::QueryMetricsRequest {
        figure: "memory_bytes".to_owned(),
        container: Some(String::new()),
        filter: "id=n1".to_owned(),
        by: vec!["node".to_owned(), "container".to_owned()],
        ..Default::default()
    };
    let rows = ask(&mut admin, named).await.rows;
    assert_eq!(
        (rows.len(), &rows[0].labels["node"], &rows[0].labels["container"]),
        (1, &"host-n1".to_owned(), &"web".to_owned())
    );
    let figures = |container| v1::QueryMetricsRequest { container, ..Default::default() };
    assert_eq!(ask(&mut admin, figures(None)).await.figures, ["cpu_percent"]);
    let of_containers = ask(&mut admin, figures(Some(String::new()))).await.figures;
    assert_eq!(of_containers, ["cpu_percent", "memory_bytes"]);
    for (change, field) in [
        (v1::QueryMetricsRequest { step_seconds: 1, ..cpu.clone() }, "step"),
        (v1::QueryMetricsRequest { across: "most".to_owned(), ..cpu.clone() }, "across"),
        (v1::QueryMetricsRequest { by: vec![String::new()], ..cpu.clone() }, "by[0]"),
    ] {
        assert_eq!(refused(admin.query_metrics(change).await).field.as_deref(), Some(field));
    }
}

#[tokio::test]
async fn while_somebody_looks_the_node_is_told_to_tell_more_often() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let can_be_watched = v1::Hello { can_be_watched: true, ..hello("n1") };
    let mut session = Session::open(&mut agent, can_be_watched).await;
    welcome(&mut session).await;
    let cpu = v1::QueryMetricsRequest { figure: "cpu_percent".to_owned(), ..Default::default() };
    let looks = v1::QueryMetricsRequest { live: true, filter: "name=host-n1".to_owned(), ..cpu };
    ask(&mut admin, looks).await;
    let watched = session.next_that(|message| match message {
        Hear::Watched(watched) => Some(watched.for_seconds),
        _ => None,
    });
    assert_eq!(watched.await, 15);
}

async fn welcome(session: &mut Session) -> v1::Welcome {
    let is = |message| match message {
        Hear::Welcome(welcome) => Some(welcome),
        _ => None,
    };
    session.next_that(is).await
}

#[tokio::test]
async fn figures_of_a_time_alone_fill_the_gap() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let mut session = cluster.session("n1").await;
    assert!(welcome(&mut session).await.takes_missed);
    let series = v1::MissedSeries {
        figure: "cpu_percent".to_owned(),
        mean: vec![40.0, 60.0],
        min: vec![40.0, 60.0],
        max: vec![40.0, 60.0],
        count: vec![6, 6],
        ..Default::default()
    };
    let missed = v1::MissedFigures { age_ms: 600_000, series: vec![series] };
    session.say(Say::Missed(missed)).await;
    let cpu = v1::QueryMetricsRequest { figure: "cpu_percent".to_owned(), ..Default::default() };
    eventually("the gap is filled", async || {
        let rows = ask(&mut admin, cpu.clone()).await.rows;
        let seen = rows.iter().flat_map(|row| &row.points).filter(|point| !point.is_nan());
        seen.copied().eq([40.0, 60.0])
    })
    .await;
}

#[tokio::test]
async fn a_restart_keeps_what_was_seen_and_a_removed_node_is_forgotten() {
    let cluster = Cluster::start().await;
    for id in ["n1", "n2"] {
        let mut session = cluster.session(id).await;
        session.say(Say::Status(report("50.0"))).await;
        let mut admin = cluster.admin().await;
        eventually("it is remembered", async || seen(&mut admin).await.contains(&host(id))).await;
    }
    let cluster = cluster.restart().await;
    let mut admin = cluster.admin().await;
    eventually("both are remembered", async || seen(&mut admin).await.len() == 2).await;
    let request = v1::RemoveNodeRequest { node_id: "n2".to_owned() };
    admin.remove_node(request).await.unwrap();
    eventually("it is gone", async || seen(&mut admin).await == [host("n1")]).await;
    let cluster = cluster.restart().await;
    let mut admin = cluster.admin().await;
    eventually("one is remembered", async || seen(&mut admin).await == [host("n1")]).await;
}

fn host(id: &str) -> String {
    format!("host-{id}")
}

/// The nodes of which a CPU of 50 % was seen within the hour.
async fn seen(admin: &mut Admin) -> Vec<String> {
    let by = vec!["node".to_owned()];
    let figure = "cpu_percent".to_owned();
    let rows = ask(admin, v1::QueryMetricsRequest { figure, by, ..Default::default() }).await.rows;
    let is_there = |row: &v1::MetricRow| row.points.contains(&50.0);
    rows.into_iter().filter(is_there).map(|row| row.labels["node"].clone()).collect()
}
