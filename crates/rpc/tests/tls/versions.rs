//! Old protocol versions, no TLS at all, and sessions that nobody resumes.

use std::error::Error;
use std::sync::Arc;

use piccolo_rpc::tls::MinVersion;
use piccolo_rpc::tls::acceptor::Protocol;
use piccolo_rpc::tls::identity::PrivateKey;
use piccolo_rpc::tls::provider;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Authority, Server, ask, drained, openssl};

/// A client that is rustls as it comes, with its session cache: none of our own code.
pub(crate) struct PlainClient {
    roots: Arc<RootCertStore>,
    certificate: Option<(Vec<u8>, CertificateDer<'static>)>,
    pub(crate) alpn: Vec<Vec<u8>>,
}

pub(crate) fn plain_client(
    authority: &Authority,
    certificate: Option<(&PrivateKey, CertificateDer<'static>)>,
) -> PlainClient {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let certificate = certificate.map(|(key, der)| (key.pkcs8().to_vec(), der));
    PlainClient { roots: Arc::new(roots), certificate, alpn: vec![b"h2".to_vec()] }
}

impl PlainClient {
    /// Asks the server once; its answer and how the handshake went.
    pub(crate) async fn ask(
        &self,
        server: &Server,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<(String, HandshakeKind), Box<dyn Error>> {
        self.ask_with(server, &self.config(versions)).await
    }

    fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((key, certificate)) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
                builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    async fn ask_with(
        &self,
        server: &Server,
        config: &Arc<ClientConfig>,
    ) -> Result<(String, HandshakeKind), Box<dyn Error>> {
        let tcp = TcpStream::connect(server.address).await?;
        let name = ServerName::try_from("piccolo-master")?;
        let mut tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?;
        let answer = ask(&mut tls).await?;
        let kind = tls.get_ref().1.handshake_kind().ok_or("no handshake")?;
        Ok((answer, kind))
    }
}

#[tokio::test]
async fn tls_1_2_is_refused_unless_it_is_allowed() {
    let authority = Authority::new();
    let client = plain_client(&authority, None);
    let strict = Server::start(&authority.master()).await;
    let error = client.ask(&strict, &[&rustls::version::TLS12]).await.unwrap_err();
    assert_eq!(error.to_string(), "received fatal alert: ProtocolVersion");
    let lenient =
        Server::with(&authority.master(), |options| options.min_version = MinVersion::Tls12).await;
    assert!(client.ask(&lenient, &[&rustls::version::TLS12]).await.is_ok());
    assert!(client.ask(&lenient, &[&rustls::version::TLS13]).await.is_ok());
}

/// What openssl says to connecting with one version switch.
async fn openssl_says(server: &Server, version: &str) -> String {
    let mut arguments: Vec<String> =
        ["s_client", "-connect", &server.address.to_string(), "-alpn", "h2", version, "-cipher"]
            .map(str::to_owned)
            .to_vec();
    // Debian's openssl leaves 1.1 out unless asked like this.
    arguments.push("ALL:@SECLEVEL=0".to_owned());
    let output = openssl(arguments).await;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn tls_1_1_is_always_refused() {
    let authority = Authority::new();
    let lenient =
        Server::with(&authority.master(), |options| options.min_version = MinVersion::Tls12).await;
    let said = openssl_says(&lenient, "-tls1_1").await;
    assert!(said.contains("SSL alert number") && said.contains("Cipher is (NONE)"), "{said}");
    let said = openssl_says(&lenient, "-tls1_2").await;
    assert!(said.contains("New, TLSv1.2"), "{said}");
}

#[tokio::test]
async fn plain_http_is_closed_without_an_answer_in_http() {
    let server = Server::start(&Authority::new().master()).await;
    for greeting in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(greeting.as_bytes()).await.unwrap();
        // At most a TLS alert record: 5 bytes of head, 2 of alert.
        assert!(drained(&mut tcp).await <= 7);
    }
}

#[tokio::test]
async fn a_session_is_never_resumed() {
    let authority = Authority::new();
    let key = PrivateKey::generate().unwrap();
    let certificate = authority.sign(&key, &crate::support::Spec::dialler("sub", "hpc-1"));
    let client = plain_client(&authority, Some((&key, certificate)));
    let server =
        Server::with(&authority.master(), |options| options.min_version = MinVersion::Tls12).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        // One configuration, so one session cache, as a client would keep it.
        let config = client.config(&[version]);
        for _ in 0..3 {
            let (answer, kind) = client.ask_with(&server, &config).await.unwrap();
            assert!(answer.starts_with("piccolo://vehicle-7/sub/hpc-1"), "{answer}");
            assert_eq!(kind, HandshakeKind::Full);
        }
    }
}

#[tokio::test]
async fn each_port_speaks_its_own_protocols() {
    let authority = Authority::new();
    let grpc = Server::start(&authority.master()).await;
    let https =
        Server::with(&authority.master(), |options| options.protocol = Protocol::Https).await;
    let mut client = plain_client(&authority, None);
    client.alpn = vec![b"http/1.1".to_vec()];
    assert!(client.ask(&https, &[&rustls::version::TLS13]).await.is_ok());
    let error = client.ask(&grpc, &[&rustls::version::TLS13]).await.unwrap_err();
    assert_eq!(error.to_string(), "received fatal alert: NoApplicationProtocol");
}
