//! A test authority, a server that tells clients who they are, and waiting with a deadline.

use std::error::Error;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use piccolo_rpc::tls::acceptor::{Acceptor, Connection, Protocol, ServerOptions};
use piccolo_rpc::tls::clock::Clock;
use piccolo_rpc::tls::connector::{ClientOptions, ConnectError, Connector};
use piccolo_rpc::tls::identity::{Identity, PrivateKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const CLUSTER: &str = "vehicle-7";
pub(crate) const HOUR: i64 = 3600;
/// Longest that anything here may take, on however slow a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// What is to stand in a certificate.
pub(crate) struct Spec {
    pub(crate) uris: Vec<String>,
    pub(crate) dns: Vec<&'static str>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    /// Seconds from now.
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) serial: u64,
    pub(crate) is_ca: bool,
}

impl Spec {
    /// As the real authority would sign it for one who only dials.
    pub(crate) fn dialler(role: &str, id: &str) -> Spec {
        Spec {
            uris: vec![format!("piccolo://{CLUSTER}/{role}/{id}")],
            dns: vec![],
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            from: -HOUR,
            until: HOUR,
            serial: 7,
            is_ca: false,
        }
    }

    /// As the real authority would sign it for a master.
    pub(crate) fn master() -> Spec {
        Spec {
            dns: vec!["piccolo-master", "localhost"],
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            ..Spec::dialler("master", "m1")
        }
    }
}

/// A certificate authority that signs whatever it is asked to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        Authority::named("test authority")
    }

    pub(crate) fn named(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().into();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn sign(&self, key: &PrivateKey, spec: &Spec) -> CertificateDer<'static> {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.pkcs8())).unwrap();
        let date = |seconds| OffsetDateTime::from_unix_timestamp(now() + seconds).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "for people only");
        params.is_ca =
            if spec.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        let uris = spec.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
        let dns = spec.dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names = uris.chain(dns).collect();
        params.extended_key_usages = spec.usages.clone();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(SerialNumber::from(spec.serial));
        params.not_before = date(spec.from);
        params.not_after = date(spec.until);
        params.signed_by(&key, &self.issuer).unwrap().into()
    }

    /// An identity as a holder of the certificate would have it, trusting this authority.
    pub(crate) fn identity(&self, spec: &Spec) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let certificate = self.sign(&key, spec);
        Identity::new(key, vec![certificate, self.certificate.clone()]).unwrap()
    }

    pub(crate) fn dialler(&self, role: &str, id: &str) -> Identity {
        self.identity(&Spec::dialler(role, id))
    }

    pub(crate) fn master(&self) -> Identity {
        self.identity(&Spec::master())
    }
}

/// A server that answers every line with who sent it, until the test ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) acceptor: Arc<Acceptor>,
}

impl Server {
    pub(crate) async fn start(identity: &Identity) -> Server {
        Server::with(identity, |_| {}).await
    }

    pub(crate) async fn with(
        identity: &Identity,
        adjust: impl FnOnce(&mut ServerOptions),
    ) -> Server {
        let mut options = ServerOptions::new(Protocol::Grpc, Clock::default());
        adjust(&mut options);
        let acceptor = Acceptor::new(identity, options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = acceptor.listen(listener);
        tokio::spawn(async move {
            while let Some(connection) = incoming.accept().await {
                tokio::spawn(tell(connection));
            }
        });
        Server { address, acceptor }
    }

    /// Connects and asks who the server thinks this is.
    pub(crate) async fn who(&self, connector: &Connector) -> Result<String, Box<dyn Error>> {
        let mut connection = self.connect(connector).await?;
        ask(&mut connection).await
    }

    pub(crate) async fn connect(
        &self,
        connector: &Connector,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
        connector.connect("127.0.0.1", self.address.port()).await
    }
}

/// Asks on an open connection; an error if the server ends it instead of answering.
pub(crate) async fn ask(
    connection: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<String, Box<dyn Error>> {
    say(connection, "who").await
}

/// The same with a word of its own; `token` shows who this is by other means than a certificate.
pub(crate) async fn say(
    connection: &mut (impl AsyncRead + AsyncWrite + Unpin),
    word: &str,
) -> Result<String, Box<dyn Error>> {
    connection.write_all(format!("{word}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer).await?;
    if answer.is_empty() {
        return Err("closed without an answer".into());
    }
    Ok(answer.trim_end().to_owned())
}

pub(crate) fn connector(identity: &Identity) -> Connector {
    Connector::new(identity, ClientOptions::new(Clock::default())).unwrap()
}

/// The whole chain of an error as one text.
pub(crate) fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let poll = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, poll).await.is_ok(), "never: {what}");
}

/// Reads until the other end closes; how many bytes came. Being reset is being closed.
pub(crate) async fn drained(stream: &mut (impl AsyncRead + Unpin)) -> usize {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes));
    let _ = read.await.expect("the server did not close the connection");
    bytes.len()
}

/// Runs the openssl command line with no input. It is part of Debian's base; without it these tests
/// cannot say anything, so they fail.
pub(crate) async fn openssl(arguments: Vec<String>) -> Output {
    let run = move || {
        Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the openssl command is needed for this test (Debian: apt install openssl)")
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn tell(connection: Connection<TcpStream>) {
    let peer = match &connection.peer().identity {
        None => "nobody".to_owned(),
        Some(peer) => {
            let expired = if peer.expired { " expired" } else { "" };
            format!("{} serial {}{expired}", peer.principal(), peer.serial)
        }
    };
    let known = connection.peer().clone();
    let answer = format!("{peer} from {}\n", connection.peer().address.ip());
    let mut lines = BufReader::new(connection);
    let mut line = String::new();
    while lines.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
        if line == "token\n" {
            known.vouch();
        }
        if lines.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}
