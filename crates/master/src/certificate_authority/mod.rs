//! The cluster's own certificate authority (HLD §9, design §8; docs/adr/0006).
//!
//! It is made at the master's first start and lives in one file, mode 0600. It signs three kinds of
//! certificate: a node's, a user's (both may only dial), and a master's (which may also serve). Of
//! a signing request it takes the public key and nothing else; every name, usage and date in a
//! certificate is decided here, from what the master knows of the holder.
//!
//! Time is an argument, in seconds since 1970: the caller passes a clock with a floor.

mod request;
mod server;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use piccolo_core::hex::hex;
use piccolo_rpc::tls::identity::{self, IdentityError, PrivateKey, certificate_pem};
use piccolo_rpc::tls::names::{NameError, Principal, Role, check_id, spki_sha256};
use piccolo_rpc::tls::token::{CaDigest, NoRandomness};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use request::{RequestError, request_spki_sha256};
pub use server::{MASTER_CERTIFICATE_LIFE, server_renewal_at};

/// Life of the authority's own certificate: longer than a vehicle's.
pub const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How far a certificate's life begins before its issue, so that a clock that is a little behind
/// finds it valid; never more than a tenth of its life.
pub const BACKDATE_MAX: Duration = Duration::from_secs(5 * 60);
/// Links that may stand between this authority and a certificate: one, for a rotated authority.
const PATH_LENGTH: u8 = 1;
/// Bytes of a serial number. Random, so that nobody can guess the next.
const SERIAL_BYTES: usize = 16;
/// Longest common name in a certificate, in characters (RFC 5280).
const COMMON_NAME_CHARS_MAX: usize = 64;

/// The authority: its key, its certificate, and the cluster it stands for.
pub struct CertificateAuthority {
    cluster_id: String,
    certificate: CertificateDer<'static>,
    /// Last second of the authority's own life, since 1970.
    not_after: u64,
    not_before: u64,
    issuer: Issuer<'static, KeyPair>,
}

/// Who a certificate is to speak for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub role: Role,
    /// Node id or user name; checked as a certificate name.
    pub id: &'a str,
    /// Shown to people who look at the certificate, such as a host name. Decides nothing.
    pub label: &'a str,
}

/// A certificate just signed. It is not stored anywhere yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate (DER).
    pub certificate: CertificateDer<'static>,
    /// The certificate and the authority's, PEM: what the holder needs beside its key.
    pub chain_pem: String,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// First and last second of life, since 1970.
    pub not_before: u64,
    pub not_after: u64,
    /// SHA-256 of the public key, lower-case hexadecimal.
    pub spki_sha256: String,
}

impl CertificateAuthority {
    /// The authority in `path`, or a new one, written there. `cluster_id` names a new cluster; if
    /// it is `None`, a random one is chosen. The second value says whether it was made now.
    ///
    /// # Errors
    /// [`AuthorityError`]: the file is there and cannot be used (it is left as it is), it belongs
    /// to another cluster than `cluster_id`, or a new one could not be written.
    pub fn open_or_create(
        path: &Path,
        cluster_id: Option<&str>,
        now: u64,
    ) -> Result<(CertificateAuthority, bool), AuthorityError> {
        if path.try_exists().map_err(|source| AuthorityError::Look { path: path.into(), source })? {
            let authority = CertificateAuthority::open(path)?;
            match cluster_id {
                Some(expected) if expected != authority.cluster_id => {
                    Err(AuthorityError::OtherCluster {
                        path: path.into(),
                        found: authority.cluster_id,
                        expected: expected.to_owned(),
                    })
                }
                Some(_) | None => Ok((authority, false)),
            }
        } else {
            let cluster_id = match cluster_id {
                Some(given) => given.to_owned(),
                None => random_cluster_id()?,
            };
            Ok((CertificateAuthority::create(path, &cluster_id, now)?, true))
        }
    }

    /// Reads an authority's file.
    ///
    /// # Errors
    /// [`AuthorityError`] if it cannot be read, is open to other users, or is no authority.
    pub fn open(path: &Path) -> Result<CertificateAuthority, AuthorityError> {
        CertificateAuthority::from_pair(path, &identity::load_pair(path)?)
    }

    /// From what an authority's file holds; `path` is for messages.
    ///
    /// # Errors
    /// [`AuthorityError`] if it is no authority.
    pub fn from_pem(path: &Path, pem: &[u8]) -> Result<CertificateAuthority, AuthorityError> {
        CertificateAuthority::from_pair(path, &identity::pair_from_pem(path, pem)?)
    }

    fn from_pair(
        path: &Path,
        (key, certificates): &(PrivateKey, Vec<CertificateDer<'static>>),
    ) -> Result<CertificateAuthority, AuthorityError> {
        let [certificate, ..] = certificates.as_slice() else {
            return Err(AuthorityError::NotAnAuthority {
                path: path.into(),
                reason: "no certificate",
            });
        };
        CertificateAuthority::from_parts(key, certificate.clone())
            .map_err(|reason| AuthorityError::NotAnAuthority { path: path.into(), reason })
    }

    /// Makes an authority and writes it to `path`.
    ///
    /// # Errors
    /// [`AuthorityError`]; if the write failed, no half of it is there.
    pub fn create(
        path: &Path,
        cluster_id: &str,
        now: u64,
    ) -> Result<CertificateAuthority, AuthorityError> {
        check_id("cluster id", cluster_id)?;
        let key = PrivateKey::generate()?;
        let certificate = self_signed(&key, cluster_id, now)?;
        identity::save_pair(path, &key, std::slice::from_ref(&certificate))?;
        CertificateAuthority::from_parts(&key, certificate)
            .map_err(|reason| AuthorityError::NotAnAuthority { path: path.into(), reason })
    }

    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The authority's certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate as PEM text.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    /// Last second of the authority's own life, since 1970.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// What join tokens carry.
    #[must_use]
    pub fn digest(&self) -> CaDigest {
        CaDigest::of(&self.certificate)
    }

    /// Signs a node's certificate, good for dialling only, from a request in PEM or DER.
    ///
    /// # Errors
    /// [`SignError`]; nothing was issued.
    pub fn sign_node(
        &self,
        signing_request: &[u8],
        subject: Subject<'_>,
        life: Duration,
        now: u64,
    ) -> Result<Issued, SignError> {
        match subject.role {
            Role::Master | Role::Sub | Role::Cluster => {}
            Role::Admin | Role::Operator | Role::Viewer => {
                return Err(SignError::Role(subject.role));
            }
        }
        self.sign_dialler(&request::public_key(signing_request)?, subject, life, now)
    }

    /// Signs a user's certificate, good for dialling only, from a request in PEM or DER.
    ///
    /// # Errors
    /// [`SignError`]; nothing was issued.
    pub fn sign_user(
        &self,
        signing_request: &[u8],
        subject: Subject<'_>,
        life: Duration,
        now: u64,
    ) -> Result<Issued, SignError> {
        match subject.role {
            Role::Admin | Role::Operator | Role::Viewer => {}
            Role::Master | Role::Sub | Role::Cluster => return Err(SignError::Role(subject.role)),
        }
        self.sign_dialler(&request::public_key(signing_request)?, subject, life, now)
    }

    fn sign_dialler(
        &self,
        public_key: &impl PublicKeyData,
        subject: Subject<'_>,
        life: Duration,
        now: u64,
    ) -> Result<Issued, SignError> {
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(public_key, subject, &[], usages, life, now)
    }

    /// The one place where a certificate is made. `names` are added after the holder's URI.
    fn sign(
        &self,
        public_key: &impl PublicKeyData,
        subject: Subject<'_>,
        names: &[SanType],
        usages: Vec<ExtendedKeyUsagePurpose>,
        life: Duration,
        now: u64,
    ) -> Result<Issued, SignError> {
        let principal = Principal::new(&self.cluster_id, subject.role, subject.id)?;
        let (not_before, not_after) = self.life(life, now)?;
        let serial = random_serial()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&principal, subject.label);
        params.subject_alt_names = vec![SanType::URI(principal.to_string().try_into()?)];
        params.subject_alt_names.extend_from_slice(names);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        params.not_before = date(not_before)?;
        params.not_after = date(not_after)?;
        let certificate: CertificateDer<'static> =
            params.signed_by(public_key, &self.issuer)?.into();
        Ok(Issued {
            chain_pem: certificate_pem(&certificate) + &self.certificate_pem(),
            certificate,
            serial: hex(&serial),
            not_before,
            not_after,
            spki_sha256: spki_sha256(&public_key.subject_public_key_info()),
        })
    }

    /// First and last second of a certificate issued now; never outside the authority's own life.
    fn life(&self, life: Duration, now: u64) -> Result<(u64, u64), SignError> {
        let backdate = BACKDATE_MAX.as_secs().min(life.as_secs() / 10);
        let not_before = now.saturating_sub(backdate).max(self.not_before);
        let not_after = now.saturating_add(life.as_secs()).min(self.not_after);
        if life.as_secs() == 0 {
            return Err(SignError::NoLife);
        }
        if now > self.not_after || not_after <= not_before {
            return Err(SignError::AuthorityOutOfLife {
                not_before: self.not_before,
                not_after: self.not_after,
                now,
            });
        }
        Ok((not_before, not_after))
    }

    fn from_parts(
        key: &PrivateKey,
        certificate: CertificateDer<'static>,
    ) -> Result<CertificateAuthority, &'static str> {
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| "its certificate cannot be read")?;
        if !parsed.is_ca() {
            return Err("its certificate is no CA's");
        }
        let cluster_id = parsed
            .subject()
            .iter_organization()
            .next()
            .and_then(|organization| organization.as_str().ok())
            .ok_or("its certificate names no cluster")?
            .to_owned();
        check_id("cluster id", &cluster_id).map_err(|_| "its certificate names no cluster")?;
        let validity = parsed.validity();
        let seconds = |timestamp| u64::try_from(timestamp).unwrap_or(0);
        let not_before = seconds(validity.not_before.timestamp());
        let not_after = seconds(validity.not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&certificate, key_pair(key)?)
            .map_err(|_| "its certificate cannot be used to sign")?;
        Ok(CertificateAuthority { cluster_id, certificate, not_after, not_before, issuer })
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("cluster_id", &self.cluster_id)
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{} cannot be looked at", path.display())]
    Look { path: PathBuf, source: std::io::Error },
    #[error("the certificate authority's file cannot be used")]
    File(#[from] IdentityError),
    #[error(
        "{} holds a key and a certificate but no certificate authority: {reason}; restore it from \
         a backup (every node trusts the old authority only)",
        path.display()
    )]
    NotAnAuthority { path: PathBuf, reason: &'static str },
    #[error(
        "{} belongs to cluster {found:?}, but the configuration names cluster {expected:?}; \
         nothing was changed",
        path.display()
    )]
    OtherCluster { path: PathBuf, found: String, expected: String },
    #[error("the cluster cannot have this name")]
    Name(#[from] NameError),
    #[error("a certificate could not be made")]
    Sign(#[from] SignError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the signing request is refused")]
    Request(#[from] RequestError),
    #[error("a certificate for role {0} is not issued this way")]
    Role(Role),
    #[error("the holder cannot be named in a certificate")]
    Name(#[from] NameError),
    #[error("{0:?} cannot be a host name in a certificate")]
    HostName(String),
    #[error("a certificate needs a life of at least a second")]
    NoLife,
    #[error(
        "the authority lives from {not_before} to {not_after} and it is {now} (seconds since \
         1970): check this machine's clock"
    )]
    AuthorityOutOfLife { not_before: u64, not_after: u64, now: u64 },
    #[error("{0} seconds since 1970 is no date that a certificate can carry")]
    Date(u64),
    #[error("the certificate could not be made")]
    Rcgen(#[from] rcgen::Error),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

fn self_signed(
    key: &PrivateKey,
    cluster_id: &str,
    now: u64,
) -> Result<CertificateDer<'static>, SignError> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, cluster_id);
    name.push(DnType::CommonName, "PICCOLO certificate authority");
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(PATH_LENGTH));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    params.not_before = date(now.saturating_sub(BACKDATE_MAX.as_secs()))?;
    params.not_after = date(now.saturating_add(AUTHORITY_LIFE.as_secs()))?;
    let key_pair = key_pair(key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok(params.self_signed(&key_pair)?.into())
}

fn key_pair(key: &PrivateKey) -> Result<KeyPair, &'static str> {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.pkcs8()))
        .map_err(|_| "its private key cannot be used to sign")
}

/// For people only: cluster, role, and the label or the id.
fn distinguished_name(principal: &Principal, label: &str) -> DistinguishedName {
    let shown: String = label
        .chars()
        .filter(|character| !character.is_control())
        .take(COMMON_NAME_CHARS_MAX)
        .collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, principal.cluster_id());
    name.push(DnType::OrganizationalUnitName, principal.role().as_str());
    name.push(DnType::CommonName, if shown.is_empty() { principal.id() } else { &shown });
    name
}

fn random_serial() -> Result<[u8; SERIAL_BYTES], NoRandomness> {
    let mut serial = random_bytes()?;
    // Positive and of full length, so that it has one spelling everywhere.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

fn random_cluster_id() -> Result<String, NoRandomness> {
    let bytes: [u8; 6] = random_bytes()?;
    Ok(hex(&bytes))
}

fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

fn date(seconds: u64) -> Result<OffsetDateTime, SignError> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(SignError::Date(seconds))
}
