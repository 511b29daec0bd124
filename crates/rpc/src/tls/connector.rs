//! The dialling side: from an address to a tonic channel whose other end is proven to be a master.
//!
//! A master is recognised by its certificate and not by its address: issued by the cluster's
//! authority, for the name `piccolo-master`, for the role master, of the right cluster. A board
//! that joins knows only the digest of the authority's certificate, and checks the same with
//! that. In both cases the check comes before the first byte of the application.
//!
//! The connector is a tower service for tonic's `Endpoint`, whose address is then always written
//! `http://`: with `https://` tonic would want to do TLS itself.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::clock::Clock;
use super::identity::Identity;
use super::token::CaDigest;
use super::verify::{MasterVerifier, PeerError, PinnedVerifier};
use super::{MASTER_SERVER_NAME, MinVersion, TlsError, provider, socket};

/// HTTP/2 flow-control window of one stream, bytes.
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// HTTP/2 flow-control window of the connection, bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;
/// Requests that may wait for the connection.
const BUFFERED_REQUESTS_MAX: usize = 64;

/// How the master is recognised.
#[derive(Clone)]
pub enum Trust {
    /// By the cluster's authority.
    Cluster {
        /// Roots (DER); at least one.
        ca: Vec<CertificateDer<'static>>,
        cluster_id: String,
    },
    /// By the digest in a join token: for the first connection only.
    Pinned(CaDigest),
}

impl Trust {
    /// Trust in the cluster that issued the identity.
    #[must_use]
    pub fn of(identity: &Identity) -> Trust {
        Trust::Cluster {
            ca: identity.ca().to_vec(),
            cluster_id: identity.name().cluster_id.clone(),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trust::Cluster { cluster_id, .. } => {
                f.debug_struct("Cluster").field("cluster_id", cluster_id).finish_non_exhaustive()
            }
            Trust::Pinned(digest) => f.debug_tuple("Pinned").field(digest).finish(),
        }
    }
}

/// How to dial.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub clock: Clock,
    pub min_version: MinVersion,
    /// The local address to dial from, where a machine has several.
    pub source: Option<IpAddr>,
    /// For the network to answer the first packet. A lost one is better sent anew than waited for.
    pub dial_timeout: Duration,
    /// From the start of the connection to the end of the handshake.
    pub connect_timeout: Duration,
}

impl ClientOptions {
    #[must_use]
    pub fn new(clock: Clock) -> ClientOptions {
        ClientOptions {
            clock,
            min_version: MinVersion::default(),
            source: None,
            dial_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Dials masters. Clones share their configuration.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ArcSwap<ClientConfig>>,
    options: Arc<ClientOptions>,
}

impl Connector {
    /// For a board or user with an identity: presents it, and trusts its cluster.
    ///
    /// # Errors
    /// [`TlsError`] if the identity has no CA to check masters with.
    pub fn new(identity: &Identity, options: ClientOptions) -> Result<Connector, TlsError> {
        Connector::with_trust(&Trust::of(identity), Some(identity), options)
    }

    /// For a board that joins, with nothing but the digest in its token. Whoever answers without
    /// that authority gets no byte of the application.
    ///
    /// # Errors
    /// [`TlsError`] if the configuration is refused.
    pub fn joining(ca: CaDigest, options: ClientOptions) -> Result<Connector, TlsError> {
        Connector::with_trust(&Trust::Pinned(ca), None, options)
    }

    /// # Errors
    /// [`TlsError`] if there is no CA to check masters with.
    pub fn with_trust(
        trust: &Trust,
        identity: Option<&Identity>,
        options: ClientOptions,
    ) -> Result<Connector, TlsError> {
        let config = client_config(trust, identity, &options)?;
        Ok(Connector {
            config: Arc::new(ArcSwap::from_pointee(config)),
            options: Arc::new(options),
        })
    }

    /// Presents another certificate, and trusts its authorities, from the next connection on.
    /// Connections that exist go on.
    ///
    /// # Errors
    /// [`TlsError`] if the identity cannot be used; the old one stays in force.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), TlsError> {
        let config = client_config(&Trust::of(identity), Some(identity), &self.options)?;
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// Dials and does the handshake. `host` is an address or a name.
    ///
    /// With TLS 1.3 a master that refuses *our* certificate says so only after this returned, at
    /// the first read.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing of the application was sent.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let dial = async {
            let limit = self.options.dial_timeout;
            let stream = tokio::time::timeout(limit, dial(host, port, self.options.source))
                .await
                .map_err(|_| ConnectError::Timeout(limit))??;
            socket::tune(&stream).map_err(ConnectError::Io)?;
            self.handshake(stream).await
        };
        let limit = self.options.connect_timeout;
        tokio::time::timeout(limit, dial).await.map_err(|_| ConnectError::Timeout(limit))?
    }

    /// Does the handshake over any stream.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing of the application was sent.
    pub async fn handshake<S>(&self, stream: S) -> Result<TlsStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(MASTER_SERVER_NAME)
            .map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        TlsConnector::from(self.config.load_full()).connect(name, stream).await.map_err(|error| {
            match PeerError::find(&error) {
                Some(reason) => ConnectError::Peer(reason),
                None => ConnectError::Tls(error),
            }
        })
    }

    /// A channel to `address` (`host:port`), connected.
    ///
    /// # Errors
    /// [`ChannelError`]; nothing of the application was sent.
    pub async fn channel(&self, address: &str) -> Result<Channel, ChannelError> {
        let endpoint = endpoint(address)?;
        Ok(endpoint.connect_with_connector(self.clone()).await?)
    }

    /// A channel to `address` (`host:port`) that connects at its first call and again whenever the
    /// connection is lost.
    ///
    /// # Errors
    /// [`ChannelError::Address`] if the address cannot be read.
    pub fn lazy_channel(&self, address: &str) -> Result<Channel, ChannelError> {
        Ok(endpoint(address)?.connect_with_connector_lazy(self.clone()))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("options", &self.options).finish_non_exhaustive()
    }
}

/// tonic's settings for a channel of ours to `address` (`host:port`).
///
/// # Errors
/// [`ChannelError::Address`] if the address cannot be read.
pub fn endpoint(address: &str) -> Result<Endpoint, ChannelError> {
    let malformed = || ChannelError::Address(address.to_owned());
    let uri: Uri = format!("http://{address}").parse().map_err(|_| malformed())?;
    let whole = uri.path() == "/" && uri.query().is_none();
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none_or(|port| port == 0) || !whole
    {
        return Err(malformed());
    }
    // No HTTP/2 keepalive: sessions have their own beats, and the kernel watches idle sockets.
    Ok(Endpoint::from(uri)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .buffer_size(BUFFERED_REQUESTS_MAX)
        .tcp_nodelay(true))
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
                return Err(ConnectError::NoAddress(uri.to_string()));
            };
            // An IPv6 address stands in brackets in a URI.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            connector.connect(host, port).await.map(TokioIo::new)
        })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0} names no host and port")]
    NoAddress(String),
    #[error("{host} has no address that can be reached from {}", source_name(*from))]
    NoRoute { host: String, from: Option<IpAddr> },
    #[error("no connection within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("the connection could not be made")]
    Io(#[source] io::Error),
    #[error("the other side is not accepted as a master of this cluster")]
    Peer(#[source] PeerError),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("{0:?} is no address of the form host:port")]
    Address(String),
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

fn source_name(source: Option<IpAddr>) -> String {
    source.map_or_else(|| "here".to_owned(), |address| address.to_string())
}

/// Tries the host's addresses in turn; the last failure is the one told.
async fn dial(host: &str, port: u16, source: Option<IpAddr>) -> Result<TcpStream, ConnectError> {
    let mut failure = ConnectError::NoRoute { host: host.to_owned(), from: source };
    for address in addresses_of(host, port).await? {
        if source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
            continue;
        }
        match connect_from(source, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = ConnectError::Io(error),
        }
    }
    Err(failure)
}

/// Asks the resolver only for names: it costs a thread.
async fn addresses_of(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    Ok(tokio::net::lookup_host((host, port)).await.map_err(ConnectError::Io)?.collect())
}

async fn connect_from(source: Option<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

fn client_config(
    trust: &Trust,
    identity: Option<&Identity>,
    options: &ClientOptions,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(options.clock.clone()))
        .with_protocol_versions(options.min_version.versions())?
        .dangerous()
        .with_custom_certificate_verifier(verifier(trust)?);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // The master resumes nothing; keeping tickets would only cost memory.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn verifier(trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let (ca, cluster_id) = match trust {
        Trust::Pinned(digest) => return Ok(Arc::new(PinnedVerifier { ca: *digest })),
        Trust::Cluster { ca, cluster_id } => (ca, cluster_id),
    };
    let mut roots = RootCertStore::empty();
    for certificate in ca {
        roots.add(certificate.clone())?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCa);
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    Ok(Arc::new(MasterVerifier { inner, cluster_id: cluster_id.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_and_nothing_else() {
        for good in ["10.0.0.1:47098", "master.local:1", "[::1]:47098"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        let bad =
            ["", "host", "host:0", ":47098", "host:99999", "http://host:1", "host:1/x", "a b:1"];
        for bad in bad {
            let message = endpoint(bad).unwrap_err().to_string();
            assert_eq!(message, format!("{bad:?} is no address of the form host:port"));
        }
    }
}
