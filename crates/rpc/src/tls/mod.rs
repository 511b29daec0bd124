//! Trust on the wire (HLD §9): who speaks, and proof of it, before anything is said.
//!
//! Every connection of PICCOLO is TLS with certificates of the cluster's own authority. This module
//! holds the mechanism for both ends and takes no decision about what a peer may do:
//!
//! - [`names`]: what a certificate says about its holder, `piccolo://<cluster>/<role>/<id>`;
//! - [`identity`]: a private key and its certificate as one file that survives a power cut;
//! - [`token`]: the join token, whose first half proves the master before the second half is sent;
//! - [`acceptor`] (feature `server`): the listening side, with limits on everything a stranger
//!   can do;
//! - [`connector`] (feature `client`): the dialling side, as a tonic channel;
//! - [`clock`]: a time that never runs behind what is already known, for boards without a clock;
//! - [`renewal`]: when to ask for the next certificate;
//! - [`socket`]: TCP options for small frames and dead peers.
//!
//! The reasons are in `docs/adr/0006-trust.md`.

use std::sync::{Arc, OnceLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

#[cfg(feature = "server")]
pub mod acceptor;
mod bundle;
pub mod clock;
#[cfg(feature = "client")]
pub mod connector;
mod csr;
pub mod identity;
#[cfg(feature = "server")]
pub mod limits;
pub mod names;
pub mod renewal;
pub mod socket;
pub mod token;
mod verify;

pub use verify::PeerError;

/// The DNS name in every master's certificate. Clients ask for it whatever address they dial, so
/// that a master may move to another address without a new certificate.
pub const MASTER_SERVER_NAME: &str = "piccolo-master";

/// The cryptography that all of PICCOLO uses. The one place to change it (docs/adr/0006).
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// The oldest protocol version that this end accepts (HLD §9.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// For peers that cannot do better; 1.3 is still preferred.
    Tls12,
    #[default]
    Tls13,
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] =
            [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            MinVersion::Tls12 => &BOTH,
            MinVersion::Tls13 => &BOTH[..1],
        }
    }
}

impl std::str::FromStr for MinVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        match text {
            "1.2" => Ok(MinVersion::Tls12),
            "1.3" => Ok(MinVersion::Tls13),
            other => Err(UnknownVersion(other.to_owned())),
        }
    }
}

/// A minimum TLS version that is neither "1.2" nor "1.3".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the minimum TLS version must be \"1.2\" or \"1.3\", not {0:?}")]
pub struct UnknownVersion(pub String);

/// A TLS configuration that cannot be made from the given identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the identity cannot be used for TLS")]
    Identity(#[from] identity::IdentityError),
    #[error("there is no CA certificate to check the other side with")]
    NoCa,
    #[error("the TLS configuration is refused")]
    Rustls(#[from] rustls::Error),
    #[error("the CA certificates cannot be used to check the other side")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}
