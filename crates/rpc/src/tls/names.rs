//! Who a certificate speaks for.
//!
//! Each certificate of a cluster carries exactly one URI among its names,
//! `piccolo://<cluster-id>/<role>/<id>`: the cluster that issued it, what its holder is, and which
//! one. Everything else in the certificate (subject, host names) is for people and is never used to
//! decide anything. The parser takes nothing that the formatter would not have written, so that two
//! spellings of one holder cannot exist.

use std::fmt;
use std::str::FromStr;

use piccolo_core::hex::hex;
use ring::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest cluster id or holder id, in bytes: a DNS label's length.
pub const ID_BYTES_MAX: usize = 63;

const SCHEME: &str = "piccolo://";

/// What the holder of a certificate is. What each may call is decided in `core::api_server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A master node: the only role whose certificate may serve.
    Master,
    /// A node that runs only the NodeAgent.
    Sub,
    /// A person or program that may do everything.
    Admin,
    /// A person or program that may operate nodes and workloads.
    Operator,
    /// A person or program that may only look.
    Viewer,
    /// A child cluster.
    Cluster,
}

impl Role {
    pub const ALL: [Role; 6] =
        [Role::Master, Role::Sub, Role::Admin, Role::Operator, Role::Viewer, Role::Cluster];

    /// The word in the certificate, the API and the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Sub => "sub",
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
            Role::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Role, NameError> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| NameError::Role(shown(text)))
    }
}

/// The holder that a certificate names: the content of its URI.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    cluster_id: String,
    role: Role,
    id: String,
}

impl Principal {
    /// # Errors
    /// [`NameError`] if an id is empty, longer than [`ID_BYTES_MAX`] or has a character outside
    /// `A-Z a-z 0-9 . _ -`, or does not begin and end with a letter or digit.
    pub fn new(cluster_id: &str, role: Role, id: &str) -> Result<Principal, NameError> {
        check_id("cluster id", cluster_id)?;
        check_id("id", id)?;
        Ok(Principal { cluster_id: cluster_id.to_owned(), role, id: id.to_owned() })
    }

    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Writes the URI.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster_id, self.role, self.id)
    }
}

/// Reads the URI.
impl FromStr for Principal {
    type Err = NameError;

    fn from_str(uri: &str) -> Result<Principal, NameError> {
        let path = uri.strip_prefix(SCHEME).ok_or_else(|| NameError::Scheme(shown(uri)))?;
        let mut parts = path.split('/');
        let (Some(cluster_id), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NameError::Parts(shown(uri)));
        };
        Principal::new(cluster_id, role.parse()?, id)
    }
}

/// Checks one id of a certificate's name; `what` is used in the error.
///
/// # Errors
/// [`NameError`] as described at [`Principal::new`].
pub fn check_id(what: &'static str, id: &str) -> Result<(), NameError> {
    if id.is_empty() {
        return Err(NameError::Empty(what));
    }
    if id.len() > ID_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: id.len() });
    }
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let bytes = id.as_bytes();
    if !bytes.iter().copied().all(allowed)
        || !alphanumeric(bytes.first())
        || !alphanumeric(bytes.last())
    {
        return Err(NameError::Character { what, id: shown(id) });
    }
    Ok(())
}

/// A name that no certificate of PICCOLO carries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the {0} is empty")]
    Empty(&'static str),
    #[error("the {what} has {bytes} bytes, more than {ID_BYTES_MAX}")]
    TooLong { what: &'static str, bytes: usize },
    #[error(
        "the {what} {id} must begin and end with a letter or digit and hold only letters, digits, \
         '.', '_' and '-'"
    )]
    Character { what: &'static str, id: String },
    #[error("{0} is no role; roles are master, sub, admin, operator, viewer, cluster")]
    Role(String),
    #[error("{0} does not begin with piccolo://")]
    Scheme(String),
    #[error("{0} is not of the form piccolo://<cluster-id>/<role>/<id>")]
    Parts(String),
}

/// A peer as its certificate names it. Only made from certificates; trust in it comes from the
/// verified handshake it was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    pub cluster_id: String,
    pub role: Role,
    /// Node id or user name.
    pub id: String,
    /// Serial number, lower-case hexadecimal without leading zeros.
    pub serial: String,
    /// First second of validity, since 1970.
    pub not_before: u64,
    /// Last second of validity, since 1970.
    pub not_after: u64,
    /// SHA-256 of the public key (SubjectPublicKeyInfo), lower-case hexadecimal: the same after a
    /// renewal that kept the key.
    pub spki_sha256: String,
    /// The certificate had run out when the connection was made. Such a peer may ask for a grace
    /// re-issue and nothing else.
    pub expired: bool,
}

impl PeerIdentity {
    /// Reads who a certificate (DER) speaks for; `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`CertificateError`] if the bytes are no certificate or it does not carry exactly one
    /// well-formed URI. Says nothing about signatures.
    pub fn from_certificate(der: &[u8], now: u64) -> Result<PeerIdentity, CertificateError> {
        let certificate = parse(der)?;
        let principal = principal_of(&certificate)?;
        let validity = certificate.validity();
        let not_before = unix_seconds(validity.not_before.timestamp());
        let not_after = unix_seconds(validity.not_after.timestamp());
        if not_before > not_after {
            return Err(CertificateError::Validity { not_before, not_after });
        }
        Ok(PeerIdentity {
            cluster_id: principal.cluster_id,
            role: principal.role,
            id: principal.id,
            serial: hex(significant(certificate.raw_serial())),
            not_before,
            not_after,
            spki_sha256: spki_sha256(certificate.public_key().raw),
            expired: now > not_after,
        })
    }

    /// Whether the certificate has run out by `now` (seconds since 1970): for connections that
    /// outlive it.
    #[must_use]
    pub fn expired_at(&self, now: u64) -> bool {
        now > self.not_after
    }

    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal { cluster_id: self.cluster_id.clone(), role: self.role, id: self.id.clone() }
    }
}

/// A certificate that names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    #[error("the certificate carries no piccolo:// name")]
    NoName,
    #[error("the certificate carries {0} URI names where exactly one is allowed")]
    SeveralNames(usize),
    #[error("the certificate carries a malformed name")]
    Name(#[from] NameError),
    #[error("the certificate is valid from {not_before} to {not_after}, which is never")]
    Validity { not_before: u64, not_after: u64 },
}

/// SHA-256 of a SubjectPublicKeyInfo (DER), lower-case hexadecimal.
#[must_use]
pub fn spki_sha256(spki_der: &[u8]) -> String {
    hex(digest(&SHA256, spki_der).as_ref())
}

/// Whether subject and issuer are the same: a root of trust rather than a link in a chain.
pub(super) fn is_self_issued(der: &[u8]) -> Result<bool, CertificateError> {
    let certificate = parse(der)?;
    Ok(certificate.subject().as_raw() == certificate.issuer().as_raw())
}

/// Whether the certificate may issue others.
#[cfg(feature = "client")]
pub(super) fn is_ca(der: &[u8]) -> Result<bool, CertificateError> {
    Ok(parse(der)?.is_ca())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|error| CertificateError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed(format!("{} bytes too many", rest.len())));
    }
    Ok(certificate)
}

fn principal_of(certificate: &X509Certificate<'_>) -> Result<Principal, CertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| CertificateError::Malformed(error.to_string()))?
        .ok_or(CertificateError::NoName)?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
    let uri = uris.next().ok_or(CertificateError::NoName)?;
    match uris.count() {
        0 => Ok(uri.parse()?),
        more => Err(CertificateError::SeveralNames(more + 1)),
    }
}

/// A date before 1970 counts as 1970.
fn unix_seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

/// A serial without its leading zero bytes (the first only says that the number is not negative).
fn significant(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros.min(serial.len().saturating_sub(1))..]
}

/// Untrusted text, quoted and cut for an error message.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let cut: String = text.chars().take(CHARS_MAX).collect();
    if cut.len() < text.len() { format!("{cut:?}...") } else { format!("{cut:?}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(uri: &str, expected: &str) {
        assert_eq!(uri.parse::<Principal>().unwrap_err().to_string(), expected, "{uri}");
    }

    #[test]
    fn a_uri_names_cluster_role_and_id() {
        let principal: Principal = "piccolo://vehicle-7/sub/HPC-01.front".parse().unwrap();
        assert_eq!(principal.cluster_id(), "vehicle-7");
        assert_eq!(principal.role(), Role::Sub);
        assert_eq!(principal.id(), "HPC-01.front");
    }

    #[test]
    fn a_malformed_uri_is_refused_with_its_fault() {
        refused("https://c/sub/n", "\"https://c/sub/n\" does not begin with piccolo://");
        refused("PICCOLO://c/sub/n", "\"PICCOLO://c/sub/n\" does not begin with piccolo://");
        let form = "is not of the form piccolo://<cluster-id>/<role>/<id>";
        refused("piccolo://", &format!("\"piccolo://\" {form}"));
        refused("piccolo://c/sub", &format!("\"piccolo://c/sub\" {form}"));
        refused("piccolo://c/sub/n/", &format!("\"piccolo://c/sub/n/\" {form}"));
        refused("piccolo://c/sub/", "the id is empty");
        refused("piccolo:///sub/n", "the cluster id is empty");
        let roles = "roles are master, sub, admin, operator, viewer, cluster";
        refused("piccolo://c/root/n", &format!("\"root\" is no role; {roles}"));
        refused("piccolo://c/Master/n", &format!("\"Master\" is no role; {roles}"));
        let rule = "must begin and end with a letter or digit and hold only letters, digits, '.', \
                    '_' and '-'";
        for id in ["-n", "n-", "n m", "n%2e", "n?x", "n#x", "노드", "n\0", "..", "n:1"] {
            refused(&format!("piccolo://c/sub/{id}"), &format!("the id {id:?} {rule}"));
        }
        let long = "n".repeat(ID_BYTES_MAX + 1);
        refused(&format!("piccolo://c/sub/{long}"), "the id has 64 bytes, more than 63");
    }

    #[test]
    fn an_error_never_repeats_more_than_a_line_of_hostile_text() {
        let error = "x".repeat(1_000_000).parse::<Principal>().unwrap_err().to_string();
        assert!(error.len() < 200, "{} bytes", error.len());
    }

    #[test]
    fn leading_zeros_of_a_serial_do_not_count() {
        assert_eq!(hex(significant(&[0, 0x8f, 1])), "8f01");
        assert_eq!(hex(significant(&[0])), "00");
        assert_eq!(hex(significant(&[])), "");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            cluster in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
            role in prop::sample::select(Role::ALL.to_vec()),
            id in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        ) {
            let principal = Principal::new(&cluster, role, &id).unwrap();
            prop_assert_eq!(principal.to_string().parse(), Ok(principal));
        }

        #[test]
        fn only_the_canonical_text_is_read(text in "(piccolo://)?[ -~]{0,40}(/sub/)?[ -~]{0,20}") {
            if let Ok(principal) = text.parse::<Principal>() {
                prop_assert_eq!(principal.to_string(), text);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(PeerIdentity::from_certificate(&bytes, 0).is_err());
        }
    }
}
