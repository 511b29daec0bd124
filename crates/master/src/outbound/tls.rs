//! Whom to believe at the other end: an authority that is named, or those that the system knows.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Failed;

/// `ca` is PEM; empty: the system's.
pub(crate) async fn client(ca: &str) -> Result<Arc<ClientConfig>, Failed> {
    let roots = if ca.is_empty() { system().await? } else { named(ca)? };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Failed::now)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The server proves that it is `host`, and nothing is said in the clear any more.
pub(crate) async fn wrap<S>(
    stream: S,
    host: &str,
    trust: Arc<ClientConfig>,
) -> Result<TlsStream<S>, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(Failed::now)?;
    let connector = TlsConnector::from(trust);
    let wrapped = connector.connect(name, stream).await;
    wrapped.map_err(|error| Failed::now(format!("TLS with {host}: {error}")))
}

fn named(ca: &str) -> Result<RootCertStore, Failed> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        let added = roots.add(certificate);
        added.map_err(|error| Failed::now(format!("the authority cannot be used: {error}")))?;
    }
    Ok(roots)
}

/// One at least.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Failed> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| {
        Failed::now(format!("the authority's certificate cannot be read: {error}"))
    })?;
    if read.is_empty() {
        return Err(Failed::now("there is no authority to check the server's certificate with"));
    }
    Ok(read)
}

async fn system() -> Result<RootCertStore, Failed> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    // the system may know some that are too odd for us
    roots.add_parsable_certificates(found.map_err(Failed::now)?.certs);
    if roots.is_empty() {
        return Err(Failed::now(
            "this machine knows no authorities (ca-certificates is not installed); name one with `ca_file`",
        ));
    }
    Ok(roots)
}
