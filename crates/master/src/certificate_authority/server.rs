//! The master's own certificate: made and renewed by the authority beside it.
//!
//! It carries the name that every client asks for (`piccolo-master`), and this machine's names and
//! addresses for browsers. Losing it loses nothing: the authority makes another.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use piccolo_rpc::tls::MASTER_SERVER_NAME;
use piccolo_rpc::tls::identity::{Identity, IdentityError, PrivateKey};
use piccolo_rpc::tls::names::Role;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{AuthorityError, CertificateAuthority, Issued, SignError, Subject, request};

/// Life of a master's certificate.
pub const MASTER_CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Names under which a machine reaches itself.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// When to renew a master's certificate that lives from `not_before` to `not_after`: at two thirds.
/// All in seconds since 1970.
#[must_use]
pub fn server_renewal_at(not_before: u64, not_after: u64) -> u64 {
    let life = not_after.saturating_sub(not_before);
    not_before.saturating_add(life - life / 3)
}

impl CertificateAuthority {
    /// The identity with which this master serves, from `path` if the one there is still good for
    /// `names` and before two thirds of its life, else a new one, written there. Call it at start
    /// and at [`server_renewal_at`]. `names` are this machine's host names and addresses.
    ///
    /// # Errors
    /// [`AuthorityError`]: the file is open to others, a name cannot be in a certificate, or the
    /// new identity could not be written.
    pub fn master_server_identity(
        &self,
        path: &Path,
        id: &str,
        names: &[String],
        life: Duration,
        now: u64,
    ) -> Result<Identity, AuthorityError> {
        match Identity::load(path) {
            Ok(identity) if self.still_serves(&identity, id, names, now) => return Ok(identity),
            // Old, for other names, another authority's, unreadable as an identity, or not there.
            Ok(_) | Err(IdentityError::Content { .. }) => {}
            Err(IdentityError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound => {}
            // Open to others, or not ours: somebody has to look at that.
            Err(fault) => return Err(fault.into()),
        }
        let key = PrivateKey::generate()?;
        let issued = self.sign_master(&key.signing_request()?, id, names, life, now)?;
        let identity = Identity::new(key, vec![issued.certificate, self.certificate().clone()])?;
        identity.save(path)?;
        Ok(identity)
    }

    /// Signs a certificate with which a master serves and dials, from a request in PEM or DER.
    ///
    /// # Errors
    /// [`SignError`]; nothing was issued.
    pub fn sign_master(
        &self,
        signing_request: &[u8],
        id: &str,
        names: &[String],
        life: Duration,
        now: u64,
    ) -> Result<Issued, SignError> {
        let public_key = request::public_key(signing_request)?;
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let names = wanted_names(names)
            .into_iter()
            .map(|name| alternative_name(&name))
            .collect::<Result<Vec<_>, _>>()?;
        let subject = Subject { role: Role::Master, id, label: MASTER_SERVER_NAME };
        self.sign(&public_key, subject, &names, usages, life, now)
    }

    fn still_serves(&self, identity: &Identity, id: &str, names: &[String], now: u64) -> bool {
        let name = identity.name();
        let [own, ..] = identity.chain() else { return false };
        name.cluster_id == self.cluster_id()
            && name.role == Role::Master
            && name.id == id
            && identity.ca() == std::slice::from_ref(self.certificate())
            && (name.not_before..server_renewal_at(name.not_before, name.not_after)).contains(&now)
            && names_in(own) == wanted_names(names)
    }
}

/// The names of a master's certificate in their order, each once.
fn wanted_names(names: &[String]) -> Vec<String> {
    let mut wanted: Vec<String> = Vec::new();
    let always = [MASTER_SERVER_NAME].into_iter().chain(LOCAL_NAMES);
    for name in always.chain(names.iter().map(String::as_str)) {
        // One spelling per address.
        let name = name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |ip| ip.to_string());
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    wanted
}

fn alternative_name(name: &str) -> Result<SanType, SignError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || SignError::HostName(name.to_owned());
    rustls_pki_types::DnsName::try_from(name).map_err(|_| refused())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| refused())?))
}

fn names_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| {
            if let GeneralName::DNSName(name) = name {
                Some((*name).to_owned())
            } else if let GeneralName::IPAddress(bytes) = name {
                address_from(bytes).map(|ip| ip.to_string())
            } else {
                None
            }
        })
        .collect()
}

fn address_from(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
