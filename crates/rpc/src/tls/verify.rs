//! The checks that both ends make of each other's certificates during the handshake.
//!
//! rustls' own verifiers check chain, signature and usage; these wrap them with what is PICCOLO's:
//! the name in the certificate, and what to think of its dates. A certificate that is not valid
//! *yet* says that this board's clock is behind (the authority backdates what it signs), so it is
//! checked as of its first second. What runs out is different on the two sides, see each.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::{CertificateError as TlsCertificateError, Error, OtherError};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::names::{CertificateError, PeerIdentity, Role};
#[cfg(feature = "client")]
pub(super) use client::{MasterVerifier, PinnedVerifier};
#[cfg(feature = "server")]
pub(super) use server::ClientVerifier;

/// Why a peer was turned away although its certificate may be sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the peer belongs to cluster {found:?}, not to {expected:?}")]
    OtherCluster { found: String, expected: String },
    #[error("the peer's certificate is for role {0}, and only a master may serve")]
    NotAMaster(Role),
    #[error(
        "the master's CA is not the one that the join token names: it is another cluster's \
         master, or someone pretends to be it; nothing was sent"
    )]
    OtherCa,
    #[error("the certificate that the join token names is no CA; nothing was sent")]
    PinnedNotCa,
    #[error("the peer's certificate was issued by another authority than this cluster's")]
    OtherAuthority,
    #[error("the peer's certificate is not for this use: a master serves, all others only dial")]
    OtherUse,
    #[error("the peer's certificate has expired; if it has not, this machine's clock is wrong")]
    Expired,
    #[error(
        "the peer does not accept our certificate ({0}): it was issued by another authority, for \
         another cluster, or is damaged"
    )]
    RefusedByPeer(String),
}

impl PeerError {
    /// Finds the reason in an error of ours, of tonic or of tokio, however deep; `None` if the
    /// failure was not about who the peer is.
    #[must_use]
    pub fn find(error: &(dyn StdError + 'static)) -> Option<PeerError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<PeerError>() {
                return Some(found.clone());
            }
            if let Some(found) = error.downcast_ref::<Error>() {
                return PeerError::from_tls(found);
            }
            if let Some(alert) = certificate_alert_in(&error.to_string()) {
                return Some(PeerError::RefusedByPeer(alert));
            }
            // What an io::Error carries is not its source but part of itself.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    fn from_tls(error: &Error) -> Option<PeerError> {
        let Error::InvalidCertificate(certificate) = error else {
            return certificate_alert_in(&error.to_string()).map(PeerError::RefusedByPeer);
        };
        use TlsCertificateError as Fault;
        if let Fault::Other(other) = certificate {
            other.0.downcast_ref().cloned()
        } else if matches!(certificate, Fault::UnknownIssuer | Fault::BadSignature) {
            Some(PeerError::OtherAuthority)
        } else if matches!(certificate, Fault::Expired | Fault::ExpiredContext { .. }) {
            Some(PeerError::Expired)
        } else if matches!(
            certificate,
            Fault::NotValidForName
                | Fault::NotValidForNameContext { .. }
                | Fault::InvalidPurpose
                | Fault::InvalidPurposeContext { .. }
        ) {
            Some(PeerError::OtherUse)
        } else {
            None
        }
    }
}

/// The alert that a peer sent about our certificate, by its text: HTTP/2 keeps nothing else of an
/// error of the connection below it.
fn certificate_alert_in(text: &str) -> Option<String> {
    const ALERTS: [&str; 9] = [
        "AccessDenied",
        "BadCertificate",
        "CertificateExpired",
        "CertificateRequired",
        "CertificateRevoked",
        "CertificateUnknown",
        "DecryptError",
        "UnknownCA",
        "UnsupportedCertificate",
    ];
    let (_, alert) = text.rsplit_once("received fatal alert: ")?;
    ALERTS.iter().find(|known| alert == **known).map(|known| (*known).to_owned())
}

/// Carries our reason through rustls, so that it is found in the error's chain.
fn refusal(error: impl Into<PeerError>) -> Error {
    Error::InvalidCertificate(TlsCertificateError::Other(OtherError(Arc::new(error.into()))))
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn check_cluster(peer: &PeerIdentity, expected: &str) -> Result<(), Error> {
    if peer.cluster_id == expected {
        return Ok(());
    }
    Err(refusal(PeerError::OtherCluster {
        found: peer.cluster_id.clone(),
        expected: expected.to_owned(),
    }))
}

/// Signatures in the handshake are the wrapped verifier's business; both traits ask alike.
macro_rules! delegate_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &crate::tls::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &crate::tls::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            crate::tls::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

#[cfg(feature = "server")]
mod server {
    use rustls::DistinguishedName;
    use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};

    use super::*;

    /// What the master checks of who connects.
    ///
    /// No certificate at all is let through: a joining board has none, and neither has a browser.
    /// An *expired* certificate is let through too, and [`PeerIdentity::expired`] says so: the
    /// board slept past its renewal and may ask for a grace re-issue. Both get no further than
    /// the API's role table allows them.
    #[derive(Debug)]
    pub(crate) struct ClientVerifier {
        pub(crate) inner: Arc<dyn ClientCertVerifier>,
        pub(crate) cluster_id: String,
    }

    impl ClientCertVerifier for ClientVerifier {
        fn client_auth_mandatory(&self) -> bool {
            false
        }

        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            self.inner.root_hint_subjects()
        }

        fn verify_client_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            now: UnixTime,
        ) -> Result<ClientCertVerified, Error> {
            let now = now.as_secs();
            let peer = PeerIdentity::from_certificate(end_entity, now).map_err(refusal)?;
            // Its first second if it is not valid yet, its last if it has run out.
            let moment = now.max(peer.not_before).min(peer.not_after);
            let verified = self.inner.verify_client_cert(end_entity, intermediates, at(moment))?;
            check_cluster(&peer, &self.cluster_id)?;
            Ok(verified)
        }

        delegate_signatures!();
    }
}

#[cfg(feature = "client")]
mod client {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
    use rustls_pki_types::ServerName;

    use super::*;
    use crate::tls::names::is_ca;
    use crate::tls::provider;
    use crate::tls::token::CaDigest;

    /// What everybody checks of a master: a certificate of this cluster's authority, not expired,
    /// for the master's name *and* for the role master. A sub node fails all of the last three.
    #[derive(Debug)]
    pub(crate) struct MasterVerifier {
        pub(crate) inner: Arc<WebPkiServerVerifier>,
        pub(crate) cluster_id: String,
    }

    impl ServerCertVerifier for MasterVerifier {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            server_name: &ServerName<'_>,
            ocsp_response: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            let peer = master_name(end_entity, now)?;
            let moment = at(now.as_secs().max(peer.not_before));
            let verified = self.inner.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                moment,
            )?;
            check_cluster(&peer, &self.cluster_id)?;
            check_master(&peer)?;
            Ok(verified)
        }

        delegate_signatures!();
    }

    /// What a joining board checks of a master, knowing only the digest in its token: the master
    /// must present a CA certificate with that digest, and its own must be good under that CA.
    #[derive(Debug)]
    pub(crate) struct PinnedVerifier {
        pub(crate) ca: CaDigest,
    }

    impl ServerCertVerifier for PinnedVerifier {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            server_name: &ServerName<'_>,
            ocsp_response: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            let pinned = intermediates
                .iter()
                .find(|der| CaDigest::of(der) == self.ca)
                .ok_or_else(|| refusal(PeerError::OtherCa))?;
            if !is_ca(pinned).map_err(refusal)? {
                return Err(refusal(PeerError::PinnedNotCa));
            }
            let mut roots = RootCertStore::empty();
            roots.add(pinned.clone().into_owned())?;
            let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
            let peer = master_name(end_entity, now)?;
            let moment = at(now.as_secs().max(peer.not_before));
            let verified = inner.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                moment,
            )?;
            check_master(&peer)?;
            Ok(verified)
        }

        delegate_signatures!();
    }

    fn master_name(end_entity: &CertificateDer<'_>, now: UnixTime) -> Result<PeerIdentity, Error> {
        PeerIdentity::from_certificate(end_entity, now.as_secs()).map_err(refusal)
    }

    fn check_master(peer: &PeerIdentity) -> Result<(), Error> {
        if peer.role == Role::Master {
            Ok(())
        } else {
            Err(refusal(PeerError::NotAMaster(peer.role)))
        }
    }
}
