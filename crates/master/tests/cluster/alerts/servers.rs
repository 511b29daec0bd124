//! Alerts by e-mail and MQTT, against a real mail server and a real broker: `cargo xtask setup` brings both.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use piccolo_rpc::v1::{self, alert_channel::Way};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::{apply, channel, lonely, rule, test};
use crate::harness::{Cluster, PATIENCE, eventually};

const USER: &str = "piccolo";
const PASSWORD: &str = "pass word";

/// A certificate of an authority of its own, for localhost, in files.
pub(crate) struct Certificate {
    folder: TempDir,
    ca: String,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        // another name than the server's: OpenSSL would take it for the same certificate
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), leaf.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { folder, ca: ca.pem() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    line.expect("it said nothing").unwrap().expect("it has ended")
}

/// A server in Python that says on its standard output when it is ready, and then what it was told, a line each.
pub(crate) struct Server {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// `script` is below the repository, and gets the port, `way`, certificate and key, and then the rest.
    pub(crate) async fn start(
        script: &str,
        port: u16,
        way: &str,
        certificate: &Certificate,
        rest: &[&str],
    ) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join("target/tools/python/bin/python");
        assert!(python.exists(), "{script} needs Python packages: cargo xtask setup");
        let mut process = Command::new(python)
            .arg(root.join(script))
            .args([&port.to_string(), way])
            .args([certificate.file("cert.pem"), certificate.file("key.pem")])
            .args(rest)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut server = Self { _process: process, lines };
        assert_eq!(line(&mut server.lines).await, "ready");
        server
    }

    pub(crate) async fn next(&mut self) -> Value {
        serde_json::from_str(&line(&mut self.lines).await).unwrap()
    }
}

async fn mail_server(way: &str, certificate: &Certificate, port: u16) -> Server {
    let script = "crates/master/tests/cluster/alerts/smtpd.py";
    Server::start(script, port, way, certificate, &[USER, PASSWORD]).await
}

fn mail(name: &str, protection: &str, port: u16, ca: &str) -> v1::AlertChannel {
    let way = Way::Smtp(v1::SmtpChannel {
        host: "localhost".to_owned(),
        port: port.into(),
        protection: protection.to_owned(),
        user: USER.to_owned(),
        password: PASSWORD.to_owned(),
        from: "piccolo@example.org".to_owned(),
        to: vec!["ops@example.org".to_owned(), "boss@example.org".to_owned()],
        ca_certificate: ca.to_owned(),
    });
    v1::AlertChannel { timeout_seconds: 5, ..channel(name, way) }
}

#[tokio::test]
async fn an_alert_is_a_letter_by_starttls_and_by_tls_with_a_login() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let certificate = Certificate::new();
    for way in ["starttls", "tls"] {
        let port = free_port();
        let mut server = mail_server(way, &certificate, port).await;
        apply(&mut admin, vec![mail(way, way, port, &certificate.ca)]).await;
        assert_eq!(test(&mut admin, way).await, Ok(()));
        let letter = server.next().await;
        assert_eq!(
            letter["subject"],
            format!("INFO test: this is a test of channel {way} (piccolo)")
        );
        assert_eq!(letter["to"], serde_json::json!(["ops@example.org", "boss@example.org"]));
        assert_eq!(letter["tls"], true);
        let wrong = v1::AlertChannel {
            way: match mail(way, way, port, &certificate.ca).way {
                Some(Way::Smtp(smtp)) => {
                    Some(Way::Smtp(v1::SmtpChannel { password: "wrong".to_owned(), ..smtp }))
                }
                other => other,
            },
            ..mail("wrong", way, port, &certificate.ca)
        };
        let stranger = mail("stranger", way, port, &Certificate::new().ca);
        apply(&mut admin, vec![wrong, stranger]).await;
        let refused = test(&mut admin, "wrong").await.unwrap_err();
        assert!(
            refused.contains("answered the login with 535") && !refused.contains("wrong"),
            "{refused}"
        );
        let refused = test(&mut admin, "stranger").await.unwrap_err();
        assert!(refused.contains("TLS with localhost"), "{refused}");
    }
}

#[tokio::test]
async fn a_letter_waits_for_a_mail_server_that_is_down_and_keeps_its_number() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let (certificate, port) = (Certificate::new(), free_port());
    apply(&mut admin, vec![mail("mail", "starttls", port, &certificate.ca)]).await;
    let hostile = "보드 {{ cluster.nodes }}\\r\\n.\\r\\nQUIT".to_owned();
    rule(&mut admin, v1::AlertRule { message: hostile, ..lonely(1) }).await;
    let mut problem = String::new();
    eventually("an attempt has failed", async || {
        let request = v1::ListAlertChannelsRequest {};
        let listed = admin.list_alert_channels(request).await.unwrap().into_inner();
        problem.clone_from(&listed.channels[0].problem);
        !problem.is_empty()
    })
    .await;
    assert!(problem.starts_with("no connection to localhost"), "{problem}");
    let mut server = mail_server("starttls", &certificate, port).await;
    let letter = server.next().await;
    assert!(letter["subject"].as_str().unwrap().starts_with("CRITICAL firing: 보드 0"), "{letter}");
    assert!(letter["body"].as_str().unwrap().contains("\r\n- cluster\r\n"), "{letter}");
    assert!(letter["id"].as_str().unwrap().ends_with("@example.org>"), "{letter}");
}

#[tokio::test]
async fn what_a_mail_server_says_in_the_clear_behind_starttls_is_not_believed() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let liar = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (heard, mut said) = stream.split();
        let mut heard = BufReader::new(heard).lines();
        said.write_all(b"220 me\r\n").await.unwrap();
        heard.next_line().await.unwrap();
        said.write_all(b"250-me\r\n250 STARTTLS\r\n").await.unwrap();
        heard.next_line().await.unwrap();
        said.write_all(b"220 go ahead\r\n250-me\r\n250 AUTH PLAIN\r\n").await.unwrap();
        // until the other side ends it
        while heard.next_line().await.is_ok_and(|line| line.is_some()) {}
    });
    apply(&mut admin, vec![mail("liar", "starttls", port, &Certificate::new().ca)]).await;
    let refused = test(&mut admin, "liar").await.unwrap_err();
    assert!(refused.contains("TLS with localhost"), "{refused}");
    liar.abort();
}

fn mqtt(protection: &str, port: u16, password: &str, ca: &str) -> v1::AlertChannel {
    let way = Way::Mqtt(v1::MqttChannel {
        host: "localhost".to_owned(),
        port: port.into(),
        protection: protection.to_owned(),
        topic: "site/alerts".to_owned(),
        user: USER.to_owned(),
        password: password.to_owned(),
        ca_certificate: ca.to_owned(),
    });
    v1::AlertChannel { timeout_seconds: 5, ..channel("broker", way) }
}

struct Broker {
    _process: Child,
    port: u16,
}

impl Broker {
    async fn start(certificate: &Certificate, port: u16) -> Self {
        let file = |name| certificate.file(name).display().to_string();
        let passwords = certificate.file("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&passwords)
            .args([USER, PASSWORD])
            .status()
            .await
            .expect("the broker is missing: cargo xtask setup");
        assert!(made.success());
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        let settings = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nallow_anonymous false\n\
             password_file {}\nuser {user}\n",
            file("ca.pem"),
            file("cert.pem"),
            file("key.pem"),
            passwords.display()
        );
        std::fs::write(certificate.file("mosquitto.conf"), settings).unwrap();
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"];
        let program = program.into_iter().find(|path| Path::new(path).exists());
        let process = Command::new(program.expect("the broker is missing: cargo xtask setup"))
            .arg("-c")
            .arg(certificate.file("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("the broker listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self { _process: process, port }
    }

    /// Hears the topic from some moment on; the lines are what came.
    fn subscribe(&self, certificate: &Certificate) -> (Child, Lines<BufReader<ChildStdout>>) {
        let mut process = Command::new("mosquitto_sub")
            .args(["-h", "localhost", "-p", &self.port.to_string(), "-u", USER, "-P", PASSWORD])
            .args(["-t", "site/alerts", "-q", "1", "--cafile"])
            .arg(certificate.file("ca.pem"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        (process, lines)
    }
}

#[tokio::test]
async fn an_alert_is_published_over_tls_and_the_broker_says_that_it_has_it() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let (certificate, port) = (Certificate::new(), free_port());
    apply(&mut admin, vec![mqtt("tls", port, PASSWORD, &certificate.ca)]).await;
    let down = test(&mut admin, "broker").await.unwrap_err();
    assert!(down.contains("no connection to localhost"), "{down}");
    let broker = Broker::start(&certificate, port).await;
    let (_subscriber, mut heard) = broker.subscribe(&certificate);
    // until it hears: it does not say when it begins to
    while tokio::time::timeout(Duration::from_millis(200), heard.next_line()).await.is_err() {
        assert_eq!(test(&mut admin, "broker").await, Ok(()));
    }
    rule(&mut admin, lonely(1)).await;
    let told = loop {
        let told: Value = serde_json::from_str(&line(&mut heard).await).unwrap();
        if told["kind"] != "test" {
            break told;
        }
    };
    assert_eq!((&told["kind"], &told["alert"]["rule"]), (&"firing".into(), &"Lonely".into()));
    apply(&mut admin, vec![mqtt("tls", port, "wrong", &certificate.ca)]).await;
    let refused = test(&mut admin, "broker").await.unwrap_err();
    assert!(refused.contains("the broker refused us"), "{refused}");
    apply(&mut admin, vec![mqtt("tls", port, PASSWORD, &Certificate::new().ca)]).await;
    let refused = test(&mut admin, "broker").await.unwrap_err();
    assert!(refused.contains("TLS with localhost"), "{refused}");
}
