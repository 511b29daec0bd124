//! TLS to etcd, done here so that a refusal can be told.
//!
//! With TLS 1.3 a server that does not like our certificate says so only after the handshake looks
//! finished to us, and an HTTP/2 client then sees no more than a closed connection. So we wait for
//! the server's first bytes (HTTP/2 servers speak at once) before the connection counts as made: a
//! refusal becomes an error that names its reason, and certain not to have carried any request.

use std::{io, io::Cursor, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, join, split},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;
use tower::{Service, service_fn};

use crate::{Error, EtcdTls, Result};

/// Bytes that the first read takes; the others follow as usual.
const FIRST_READ_BYTES: usize = 1024;
/// A proxy that waits for us to speak first is given up on after this, and used all the same.
const FIRST_READ_WAIT: Duration = Duration::from_millis(500);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens TLS connections that have proved to work.
#[derive(Clone)]
pub(crate) struct TlsDialer {
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl TlsDialer {
    pub(crate) fn new(tls: &EtcdTls, host: &str) -> Result<Self> {
        let name = tls.server_name.as_deref().unwrap_or(host);
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name = ServerName::try_from(name.clone()).map_err(|_| {
            Error::invalid(format!("{name:?} is no name to expect in a certificate"))
        })?;
        let connector = TlsConnector::from(Arc::new(config(tls)?));
        Ok(Self { connector, server_name })
    }

    /// As the service that tonic asks for connections.
    pub(crate) fn connector(
        self,
    ) -> impl Service<
        Uri,
        Response = TokioIo<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>,
        Error = io::Error,
        Future: Send,
    > + Send
    + 'static {
        service_fn(move |uri: Uri| {
            let dialer = self.clone();
            async move { dialer.dial(&uri).await.map(TokioIo::new) }
        })
    }

    async fn dial(&self, uri: &Uri) -> io::Result<Box<dyn Io>> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(2379))).await?;
        tcp.set_nodelay(true)?;
        let mut stream = self.connector.connect(self.server_name.clone(), tcp).await?;
        let mut first = vec![0; FIRST_READ_BYTES];
        let length = match timeout(FIRST_READ_WAIT, stream.read(&mut first)).await {
            Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(read) => read?,
            Err(_) => 0,
        };
        first.truncate(length);
        let (reader, writer) = split(stream);
        Ok(Box::new(join(Cursor::new(first).chain(reader), writer)))
    }
}

fn config(tls: &EtcdTls) -> Result<ClientConfig> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| Error::Denied {
        problem: format!("the {what} for etcd cannot be used: {error}"),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&tls.ca_pem) {
        let certificate = certificate.map_err(|e| unusable("CA certificate", &e))?;
        roots.add(certificate).map_err(|e| unusable("CA certificate", &e))?;
    }
    if roots.is_empty() {
        return Err(unusable("CA certificate", &"there is none in the file"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable("TLS versions", &e))?
        .with_root_certificates(roots);
    let mut config = match &tls.client_pem {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificates)
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(|e| unusable("client certificate", &e))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| unusable("client key", &e))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| unusable("client certificate", &e))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
