//! The HTTPS port, as a scraper or a browser sees it: open health, closed figures (HLD §9.1.3). And what both
//! ports think of old versions of TLS.

use std::{
    collections::HashMap,
    io::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
};

use piccolo_core::monitoring_server::ROUND_TRIP;
use piccolo_rpc::{
    tls::{MASTER_SERVER_NAME, MinVersion, identity::Identity, provider},
    v1,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::harness::Cluster;

/// A connection with one of these versions, by a client that is rustls as it comes.
pub(crate) async fn connect(
    cluster: &Cluster,
    address: SocketAddr,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(cluster.admin_identity().ca()[0].clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivatePkcs8KeyDer::from(identity.key().pkcs8().to_vec());
            let chain = identity.chain().to_vec();
            builder.with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key)).unwrap()
        }
    };
    let is_https = cluster.master.https_address() == Some(address);
    config.alpn_protocols = vec![if is_https { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(MASTER_SERVER_NAME).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Status and body of a GET over HTTP/1.1.
pub(crate) async fn get(
    cluster: &Cluster,
    identity: Option<&Identity>,
    path: &str,
) -> (u16, String) {
    let address = cluster.master.https_address().unwrap();
    let mut tls = connect(cluster, address, identity, &[&TLS13]).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // the server may end the connection without a farewell of TLS
    tls.read_to_end(&mut answer).await.ok();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn a_client_that_speaks_tls_1_2_alone_is_let_in_only_where_the_configuration_says_so() {
    let strict = Cluster::start().await;
    let lenient = Cluster::start_with(|config| config.tls_min_version = MinVersion::Tls12).await;
    let ports =
        |cluster: &Cluster| [cluster.master.address(), cluster.master.https_address().unwrap()];
    for port in ports(&strict) {
        let error = connect(&strict, port, None, &[&TLS12]).await.unwrap_err();
        assert_eq!(error.to_string(), "received fatal alert: ProtocolVersion", "{port}");
        assert!(connect(&strict, port, None, &[&TLS13, &TLS12]).await.is_ok(), "{port}");
    }
    for port in ports(&lenient) {
        assert!(connect(&lenient, port, None, &[&TLS12]).await.is_ok(), "{port}");
    }
}

#[tokio::test]
async fn health_is_open_and_figures_are_for_readers() {
    let cluster = Cluster::start().await;
    assert_eq!(get(&cluster, None, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&cluster, None, "/metrics").await.0, 401);
    assert_eq!(get(&cluster, None, "/nothing").await.0, 404);
    let node = cluster.join("n1").await;
    assert_eq!(get(&cluster, Some(&node), "/metrics").await.0, 403);
    let viewer = crate::people::user(&cluster, "vera", v1::UserRole::Viewer).await;
    assert_eq!(get(&cluster, Some(&viewer), "/metrics").await.0, 200);
}

#[tokio::test]
async fn figures_are_of_the_master_and_of_every_node() {
    let cluster = Cluster::start().await;
    let report = v1::StatusReport {
        metrics: as_an_agent_reports(),
        containers: vec![v1::ContainerStatus { state: "running".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let _session = cluster.reporting("n1", report).await;
    let admin = cluster.admin_identity();
    crate::harness::eventually("the report has arrived", async || {
        !cluster.node("n1").await.containers.is_empty()
    })
    .await;
    let (_, page) = get(&cluster, Some(&admin), "/metrics").await;
    for line in [
        "piccolo_node_up{node=\"host-n1\"} 1",
        "piccolo_node_status{node=\"host-n1\",status=\"Ready\"} 1",
        "piccolo_node_status{node=\"host-n1\",status=\"NotReady\"} 0",
        "piccolo_node_containers_running{node=\"host-n1\"} 1",
        "piccolo_node_cpu_ratio{node=\"host-n1\"} 0.25",
        "piccolo_node_network_rx_bytes_per_second{node=\"host-n1\"} 2",
        "piccolo_node_round_trip_seconds{node=\"host-n1\"} 0.000314",
        "piccolo_sessions 1",
        "piccolo_store_up 1",
        "piccolo_alerts{severity=\"critical\",state=\"acknowledged\"} 0",
        "piccolo_notifications_waiting 0",
        "piccolo_calls_total{call=\"RegisterNode\",code=\"Ok\"} 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
    let commits = page.lines().find_map(|l| l.strip_prefix("piccolo_store_commit_seconds_count "));
    assert!(commits.unwrap().parse::<f64>().unwrap() >= 3.0);
    well_formed(&page);
    whatever_is_deployed_asks_for_what_is_there(&page);
}

/// The rules and the dashboard in `deploy/` name no figure that is not on the page.
fn whatever_is_deployed_asks_for_what_is_there(page: &str) {
    let files = [
        include_str!("../../../../deploy/prometheus/piccolo.rules.yml"),
        include_str!("../../../../deploy/grafana/piccolo.json"),
    ];
    let is_of_a_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let names: Vec<&str> = files
        .iter()
        .flat_map(|file| file.split(|c| !is_of_a_name(c)))
        .filter(|name| name.starts_with("piccolo_"))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let family = name.strip_suffix("_bucket").unwrap_or(name);
        // a backup's figures are there once there are backups
        let is_there = page.contains(&format!("# TYPE {family} "));
        assert!(is_there || name.starts_with("piccolo_backup_"), "{name} is not on the page");
    }
}

/// Every name that an agent sends, read where it is sent, so that a new one is on the page that is checked.
fn as_an_agent_reports() -> HashMap<String, String> {
    let agent = include_str!("../../../nodeagent/src/agent/observe.rs");
    let names = agent.split("put(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let mut metrics: HashMap<_, _> = names.map(|n| (n.to_owned(), "2".to_owned())).collect();
    assert!(metrics.len() >= 12, "the agent's names are not where they were: {metrics:?}");
    metrics.insert("cpu_percent".to_owned(), "25".to_owned());
    metrics.insert(ROUND_TRIP.to_owned(), "0.000314".to_owned());
    metrics
}

/// What Prometheus' own tool says of the page: nothing.
fn well_formed(page: &str) {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (Debian: prometheus)");
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}\n{page}");
}

#[tokio::test]
async fn a_client_that_sends_too_much_over_http_2_is_shown_why_it_was_refused() {
    let cluster = Cluster::start().await;
    let token = crate::rest::api_token(&cluster, "ci", "admin").await;
    let address = cluster.master.https_address().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    for (mebibytes, who, status, reason) in [
        (2, token.as_str(), 413, "TooManyBytes"),
        (20, token.as_str(), 413, "TooManyBytes"),
        (20, "piccolo_api_guess", 401, "ApiTokenNotGood"),
    ] {
        std::fs::write(&body, vec![b' '; mebibytes * 1024 * 1024]).unwrap();
        let told = tokio::process::Command::new("curl")
            .args(["--silent", "--show-error", "--insecure", "--http2", "--request", "PUT"])
            .args(["--header", &format!("Authorization: Bearer {who}")])
            .args(["--header", "Content-Type: application/json"])
            .args(["--data-binary", &format!("@{}", body.display())])
            .args(["--write-out", " %{http_version} %{http_code}"])
            .arg(format!("https://{address}/api/v1/log-level/master"))
            .output();
        let told = told.await.expect("curl is installed");
        let (shown, errors) = (String::from_utf8_lossy(&told.stdout), &told.stderr);
        let errors = String::from_utf8_lossy(errors);
        assert!(told.status.success(), "{mebibytes} MiB: {shown} {errors}");
        assert!(shown.ends_with(&format!(" 2 {status}")), "{mebibytes} MiB: {shown} {errors}");
        assert!(shown.contains(reason), "{mebibytes} MiB: {shown}");
    }
}
