//! Who this process is: a private key, the certificate for it, and the authorities it trusts.
//!
//! An [`Identity`] lives in one file (see the notes on power cuts there) and in one value, so that
//! a key never meets another key's certificate. The key is ECDSA on P-256, made here, and leaves
//! neither the file nor the value: only the request for a certificate does.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::bundle::{Bundle, pem_section};
use super::names::{CertificateError, PeerIdentity, is_self_issued, spki_sha256};
use super::token::{CaDigest, NoRandomness};
use super::{csr, provider};

/// A private key: ECDSA P-256, PKCS#8. Wiped from memory when dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// [`IdentityError::NoRandomness`] if the operating system has no random bytes.
    pub fn generate() -> Result<PrivateKey, IdentityError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| NoRandomness)?;
        Ok(PrivateKey(Zeroizing::new(pkcs8.as_ref().to_vec())))
    }

    /// # Errors
    /// [`IdentityError::UnusableKey`] if it is anything but a P-256 key in PKCS#8 (DER).
    pub fn from_pkcs8(der: &[u8]) -> Result<PrivateKey, IdentityError> {
        let key = PrivateKey(Zeroizing::new(der.to_vec()));
        key.pair()?;
        Ok(key)
    }

    /// A key kept in a file of its own, for a board that waits for approval: 0600 like an identity.
    ///
    /// # Errors
    /// [`IdentityError`] as for [`Identity::load`].
    pub fn load(path: &Path) -> Result<PrivateKey, IdentityError> {
        Bundle::load(path).map(|bundle| bundle.key)
    }

    /// # Errors
    /// [`IdentityError::Write`]; the old file, if any, is unchanged.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        Bundle { key: self.clone(), certificates: Vec::new() }.save(path)
    }

    /// A certificate signing request (DER) that carries the public key and asks for nothing else.
    ///
    /// # Errors
    /// [`IdentityError::NoRandomness`] if the operating system has no random bytes.
    pub fn signing_request(&self) -> Result<Vec<u8>, IdentityError> {
        Ok(csr::request(&self.pair()?)?)
    }

    /// The same as PEM text.
    ///
    /// # Errors
    /// As [`PrivateKey::signing_request`].
    pub fn signing_request_pem(&self) -> Result<String, IdentityError> {
        let mut text = String::new();
        pem_section(&mut text, "CERTIFICATE REQUEST", &self.signing_request()?);
        Ok(text)
    }

    /// SHA-256 of the public key, as [`PeerIdentity::spki_sha256`].
    ///
    /// # Errors
    /// None for a key that was made here.
    pub fn spki_sha256(&self) -> Result<String, IdentityError> {
        Ok(spki_sha256(&csr::public_key_info(&self.pair()?)))
    }

    /// The key itself, PKCS#8 (DER). Never let it leave the machine.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.0
    }

    fn pair(&self) -> Result<EcdsaKeyPair, IdentityError> {
        let random = SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.0, &random)
            .map_err(|error| IdentityError::UnusableKey(error.to_string()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A key with its certificate and the authorities that its holder trusts.
#[derive(Clone)]
pub struct Identity {
    key: PrivateKey,
    /// The holder's certificate, then links up to (not including) a root.
    chain: Vec<CertificateDer<'static>>,
    /// Roots: self-issued certificates.
    ca: Vec<CertificateDer<'static>>,
    name: PeerIdentity,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Puts a key and its certificates together. `certificates` begins with the holder's own; the
    /// self-issued ones among the others are the trusted roots.
    ///
    /// # Errors
    /// [`IdentityError`] if there is no certificate, it names nobody, or it is another key's.
    pub fn new(
        key: PrivateKey,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Identity, IdentityError> {
        let mut certificates = certificates.into_iter();
        let own = certificates.next().ok_or(IdentityError::NoCertificate)?;
        // Expiry is the verifier's business: an expired identity still has to be loaded.
        let name = PeerIdentity::from_certificate(&own, 0)?;
        let (mut chain, mut ca) = (vec![own], Vec::new());
        for certificate in certificates {
            if is_self_issued(&certificate)? { &mut ca } else { &mut chain }.push(certificate);
        }
        let certified = certified_key(&key, &chain, &ca)?;
        Ok(Identity { key, chain, ca, name, certified: Arc::new(certified) })
    }

    /// The same with the certificates as one PEM text, as the master hands them out.
    ///
    /// # Errors
    /// As [`Identity::new`], and [`IdentityError::Pem`].
    pub fn from_issued(key: PrivateKey, certificates_pem: &str) -> Result<Identity, IdentityError> {
        let certificates = CertificateDer::pem_slice_iter(certificates_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| IdentityError::Pem(error.to_string()))?;
        Identity::new(key, certificates)
    }

    /// Reads an identity file and checks that key and certificate belong together.
    ///
    /// # Errors
    /// [`IdentityError`]: unreadable, open to other users, or not one matching pair.
    pub fn load(path: &Path) -> Result<Identity, IdentityError> {
        let bundle = Bundle::load(path)?;
        Identity::new(bundle.key, bundle.certificates).map_err(|fault| IdentityError::Content {
            path: path.to_owned(),
            source: Box::new(fault),
        })
    }

    /// Writes the identity file, mode 0600, durable when this returns. After a crash at any moment
    /// the file holds the old identity or this one.
    ///
    /// # Errors
    /// [`IdentityError::Write`]; the file then holds the old identity or this one, whole.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        self.bundle().save(path)
    }

    /// The content of the identity file, private key included: for embedding in a user's context.
    #[must_use]
    pub fn expose_pem(&self) -> Zeroizing<String> {
        self.bundle().to_pem()
    }

    /// The reverse of [`Identity::expose_pem`].
    ///
    /// # Errors
    /// As [`Identity::load`], files aside.
    pub fn from_pem(pem: &str) -> Result<Identity, IdentityError> {
        let bundle = Bundle::from_pem(pem.as_bytes())?;
        Identity::new(bundle.key, bundle.certificates)
    }

    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The holder's certificate (DER), then links up to a root.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The trusted roots (DER).
    #[must_use]
    pub fn ca(&self) -> &[CertificateDer<'static>] {
        &self.ca
    }

    /// SHA-256 of each trusted root.
    #[must_use]
    pub fn ca_digests(&self) -> Vec<CaDigest> {
        self.ca.iter().map(|der| CaDigest::of(der)).collect()
    }

    /// Who the certificate speaks for, its serial and its life. `expired` is not set here; ask
    /// [`PeerIdentity::expired_at`].
    #[must_use]
    pub fn name(&self) -> &PeerIdentity {
        &self.name
    }

    /// What TLS presents: the chain and then the roots, so that a joining board finds the root
    /// whose digest its token holds.
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    fn bundle(&self) -> Bundle {
        let certificates = self.chain.iter().chain(&self.ca).cloned().collect();
        Bundle { key: self.key.clone(), certificates }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Checks that a private key and a certificate (DER) belong together: for keys that are no
/// [`Identity`], such as the authority's own.
///
/// # Errors
/// [`IdentityError::KeyMismatch`] if not.
pub fn check_pair(
    key: &PrivateKey,
    certificate: &CertificateDer<'static>,
) -> Result<(), IdentityError> {
    certified_key(key, std::slice::from_ref(certificate), &[]).map(|_| ())
}

/// A key and its certificates that are no [`Identity`] (the authority's own) in the same kind of
/// file.
///
/// # Errors
/// [`IdentityError`] as for [`Identity::load`]; the pair is checked.
pub fn load_pair(path: &Path) -> Result<(PrivateKey, Vec<CertificateDer<'static>>), IdentityError> {
    pair_of(path, Bundle::load(path)?)
}

/// The same from what such a file holds; `path` is for messages.
///
/// # Errors
/// [`IdentityError`] as for [`load_pair`].
pub fn pair_from_pem(
    path: &Path,
    pem: &[u8],
) -> Result<(PrivateKey, Vec<CertificateDer<'static>>), IdentityError> {
    let bundle = Bundle::from_pem(pem);
    let content = |fault| IdentityError::Content { path: path.to_owned(), source: Box::new(fault) };
    pair_of(path, bundle.map_err(content)?)
}

fn pair_of(
    path: &Path,
    bundle: Bundle,
) -> Result<(PrivateKey, Vec<CertificateDer<'static>>), IdentityError> {
    let content = |fault| IdentityError::Content { path: path.to_owned(), source: Box::new(fault) };
    let own = bundle.certificates.first().ok_or(IdentityError::NoCertificate).map_err(content)?;
    check_pair(&bundle.key, own).map_err(content)?;
    Ok((bundle.key, bundle.certificates))
}

/// Writes what [`load_pair`] reads, mode 0600, durable when this returns.
///
/// # Errors
/// [`IdentityError::Write`]; the file then holds the old pair or this one, whole.
pub fn save_pair(
    path: &Path,
    key: &PrivateKey,
    certificates: &[CertificateDer<'static>],
) -> Result<(), IdentityError> {
    Bundle { key: key.clone(), certificates: certificates.to_vec() }.save(path)
}

/// One certificate (DER) as PEM text.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    let mut text = String::new();
    pem_section(&mut text, "CERTIFICATE", der);
    text
}

fn certified_key(
    key: &PrivateKey,
    chain: &[CertificateDer<'static>],
    ca: &[CertificateDer<'static>],
) -> Result<CertifiedKey, IdentityError> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
    let signer = provider()
        .key_provider
        .load_private_key(der)
        .map_err(|error| IdentityError::UnusableKey(error.to_string()))?;
    let presented = chain.iter().chain(ca).cloned().collect();
    let certified = CertifiedKey::new(presented, signer);
    certified.keys_match().map_err(|_| IdentityError::KeyMismatch)?;
    Ok(certified)
}

/// An identity that cannot be used. The file, if one is named, was not changed unless that is said.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error(
        "{} holds a private key and has mode {mode:04o}, which lets others read it or is unusual: \
         it was not read; make it private with: chmod 0600 {}",
        path.display(),
        path.display()
    )]
    Permissions { path: PathBuf, mode: u32 },
    #[error(
        "{} holds a private key and belongs to user {owner}, but this runs as user {user}: it was \
         not read; if the file is right: chown {user} {}",
        path.display(),
        path.display()
    )]
    Owner { path: PathBuf, owner: u32, user: u32 },
    #[error("{} has {bytes} bytes, far too many for a key with its certificates", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{} does not hold one key with its certificates", path.display())]
    Content { path: PathBuf, source: Box<IdentityError> },
    #[error("{} could not be written; it holds its old content or the new, whole", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the text is not PEM: {0}")]
    Pem(String),
    #[error("a PEM section of kind {0} has no place beside a key (PKCS#8) and its certificates")]
    Section(String),
    #[error("there is no private key (PKCS#8)")]
    NoKey,
    #[error("there is more than one private key")]
    SeveralKeys,
    #[error("there is no certificate")]
    NoCertificate,
    #[error("there are more than 16 certificates")]
    TooManyCertificates,
    #[error("the private key is not an ECDSA P-256 key in PKCS#8: {0}")]
    UnusableKey(String),
    #[error("the certificate is for another private key")]
    KeyMismatch,
    #[error("the certificate cannot be used")]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}
