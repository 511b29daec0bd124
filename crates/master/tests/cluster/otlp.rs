//! Figures that are sent to a receiver of OpenTelemetry, which reads them with OpenTelemetry's own messages.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _, time::Duration};

use piccolo_master::config::OtlpConfig;
use piccolo_rpc::v1;

use crate::{
    alerts::servers::{Certificate, Server, free_port},
    harness::{Cluster, eventually},
    https::get,
};

async fn receiver(port: u16, certificate: &Certificate) -> Server {
    Server::start("tests/wire/otlp_receiver.py", port, "Bearer s3cret", certificate, &[]).await
}

/// What the master says of it.
async fn export(cluster: &Cluster) -> v1::ExportStatus {
    let request = v1::GetClusterStatusRequest {};
    let status = cluster.admin().await.get_cluster_status(request).await.unwrap().into_inner();
    status.otlp.expect("figures are sent")
}

/// A master that sends its figures there, and believes who has a certificate of that authority.
async fn sending(port: u16, authority: &Certificate, every_seconds: u64) -> Cluster {
    let headers = authority.file("headers");
    std::fs::write(&headers, "Authorization: Bearer s3cret\n").unwrap();
    std::fs::set_permissions(&headers, std::fs::Permissions::from_mode(0o600)).unwrap();
    Cluster::start_with(|config| {
        config.otlp = Some(OtlpConfig {
            endpoint: format!("https://localhost:{port}/v1/metrics").parse().unwrap(),
            interval: Duration::from_secs(every_seconds),
            headers_file: Some(headers.clone()),
            ca: Some(authority.file("ca.pem")),
        });
    })
    .await
}

/// Names and labels of a page.
fn series(page: &str) -> BTreeSet<&str> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect()
}

#[tokio::test]
async fn a_receiver_is_sent_every_figure_of_the_page_and_proves_who_it_is() {
    let certificate = Certificate::new();
    let port = free_port();
    let mut receiver = receiver(port, &certificate).await;
    let cluster = sending(port, &certificate, 1).await;
    let report = v1::StatusReport {
        metrics: [("cpu_percent".to_owned(), "25".to_owned())].into(),
        containers: vec![v1::ContainerStatus {
            name: "web".to_owned(),
            state: "running".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let _session = cluster.reporting("n1", report).await;

    let admin = cluster.admin_identity();
    let mut told = receiver.next().await;
    eventually("both have the same", async || {
        let (_, page) = get(&cluster, Some(&admin), "/metrics").await;
        told = receiver.next().await;
        let samples = told["samples"].as_object().unwrap();
        page.contains("piccolo_container_running{node=\"host-n1\"")
            && series(&page) == samples.keys().map(String::as_str).collect()
    })
    .await;
    assert_eq!(told["samples"]["piccolo_node_up{node=\"host-n1\"}"], 1.0);
    assert_eq!(told["samples"]["piccolo_node_cpu_ratio{node=\"host-n1\"}"], 0.25);
    let kinds = [
        ("piccolo_sessions", "gauge"),
        ("piccolo_calls_total", "sum"),
        ("piccolo_container_restarts_total", "sum"),
        ("piccolo_store_commit_seconds", "histogram"),
    ];
    assert!(kinds.iter().all(|(name, kind)| told["kinds"][name] == *kind), "{told}");
    assert_eq!(told["resource"]["service.name"], "piccolo-master");
    assert_eq!(told["resource"]["service.version"], env!("CARGO_PKG_VERSION"));
    let status = cluster.admin().await.get_cluster_status(v1::GetClusterStatusRequest {}).await;
    let id = status.unwrap().into_inner().cluster_id;
    assert_eq!(told["resource"]["service.instance.id"], id);
    let state = export(&cluster).await;
    assert_eq!((state.problem.as_str(), state.every_seconds), ("", 1));
    assert!(state.last_at.is_some());
}

#[tokio::test]
async fn a_receiver_with_a_certificate_of_others_hears_nothing() {
    let (port, stranger) = (free_port(), Certificate::new());
    let _receiver = receiver(port, &Certificate::new()).await;
    let cluster = sending(port, &stranger, 1).await;
    eventually("it is not believed", async || {
        export(&cluster).await.problem.starts_with("TLS with localhost: invalid peer certificate")
    })
    .await;
    assert_eq!(export(&cluster).await.last_at, None);
    let (_, page) = get(&cluster, Some(&cluster.admin_identity()), "/metrics").await;
    assert!(page.contains("\npiccolo_otlp_failing 1\n"), "{page}");
    assert!(page.contains("\npiccolo_otlp_exports_total{result=\"delivered\"} 0\n"), "{page}");
}

#[tokio::test]
async fn a_master_that_stops_sends_its_last_figures_first() {
    let certificate = Certificate::new();
    let port = free_port();
    let mut receiver = receiver(port, &certificate).await;
    let cluster = sending(port, &certificate, 3600).await;
    let joined = |told: &serde_json::Value| {
        told["samples"]["piccolo_calls_total{call=\"RegisterNode\",code=\"Ok\"}"].as_f64()
    };
    assert_eq!(joined(&receiver.next().await), None, "nobody has joined");
    cluster.join("n1").await;
    let _cluster = cluster.restart().await;
    assert_eq!(joined(&receiver.next().await), Some(1.0), "an hour before the next is due");
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_keep_the_master_from_stopping() {
    let certificate = Certificate::new();
    // it takes connections, and never says anything
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cluster = sending(hung.local_addr().unwrap().port(), &certificate, 3600).await;
    let (_first, _) = hung.accept().await.unwrap();
    let (_cluster, last) = tokio::join!(cluster.restart(), hung.accept());
    last.unwrap();
}
