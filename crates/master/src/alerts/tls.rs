//! Whom to believe at the other end: an authority that is named, or those that the system knows.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Failed;

/// Where distributions keep the authorities that they know.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Bytes of such a file at most.
const SYSTEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// `ca` is PEM; empty: the system's.
async fn client(ca: &str) -> Result<Arc<ClientConfig>, Failed> {
    let pem = if ca.is_empty() { system().await? } else { ca.as_bytes().to_vec() };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| {
            Failed::now(format!("the authority's certificate cannot be read: {error}"))
        })?;
        // the system may know some that are too odd for us
        let added = roots.add(certificate);
        if !ca.is_empty() {
            added.map_err(|error| Failed::now(format!("the authority cannot be used: {error}")))?;
        }
    }
    if roots.is_empty() {
        return Err(Failed::now("there is no authority to check the server's certificate with"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Failed::now)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The server proves that it is `host`, and nothing is said in the clear any more.
pub(super) async fn wrap<S>(stream: S, host: &str, ca: &str) -> Result<TlsStream<S>, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(Failed::now)?;
    let connector = TlsConnector::from(client(ca).await?);
    let wrapped = connector.connect(name, stream).await;
    wrapped.map_err(|error| Failed::now(format!("TLS with {host}: {error}")))
}

async fn system() -> Result<Vec<u8>, Failed> {
    for path in SYSTEM {
        let known = tokio::fs::metadata(path).await;
        if known.is_ok_and(|found| found.len() <= SYSTEM_BYTES_MAX) {
            return tokio::fs::read(path).await.map_err(Failed::now);
        }
    }
    Err(Failed::now(
        "this machine knows no authorities (ca-certificates is not installed); name one with `ca_file`",
    ))
}
