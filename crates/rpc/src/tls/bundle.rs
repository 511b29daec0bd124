//! A private key and its certificates as one file, so that a power cut leaves either the old pair
//! or the new one and never a mixture (design §8).
//!
//! The file is PEM: the key (PKCS#8), then the certificates, the holder's own first. It is written
//! beside its place, flushed, and renamed into it; then the folder is flushed. It must belong to
//! the user who runs this and be closed to everybody else, or it is not read at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{FlockOperation, flock};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use super::identity::{IdentityError, PrivateKey};

/// Largest bundle that is read, in bytes. A key and a chain of three take about 3 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most certificates in one bundle.
const CERTIFICATES_MAX: usize = 16;
/// Characters in a line of PEM (RFC 7468).
const LINE_CHARS: usize = 64;

/// A key and the certificates that belong to it, the holder's own first; it may have none yet.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) key: PrivateKey,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Bundle {
    pub(super) fn load(path: &Path) -> Result<Bundle, IdentityError> {
        let text = read_private(path)?;
        Bundle::from_pem(&text).map_err(|fault| IdentityError::Content {
            path: path.to_owned(),
            source: Box::new(fault),
        })
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), IdentityError> {
        replace(path, self.to_pem().as_bytes())
            .map_err(|source| IdentityError::Write { path: path.to_owned(), source })
    }

    pub(super) fn from_pem(pem: &[u8]) -> Result<Bundle, IdentityError> {
        let mut key = None;
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|error| IdentityError::Pem(error.to_string()))?;
            if kind == SectionKind::PrivateKey {
                if key.replace(PrivateKey::from_pkcs8(&Zeroizing::new(der))?).is_some() {
                    return Err(IdentityError::SeveralKeys);
                }
            } else if kind == SectionKind::Certificate {
                if certificates.len() == CERTIFICATES_MAX {
                    return Err(IdentityError::TooManyCertificates);
                }
                certificates.push(CertificateDer::from(der));
            } else {
                return Err(IdentityError::Section(format!("{kind:?}")));
            }
        }
        Ok(Bundle { key: key.ok_or(IdentityError::NoKey)?, certificates })
    }

    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        // Room for everything at once: growing would leave copies of the key in freed memory.
        let bytes: usize = self.certificates.iter().map(|der| der.len()).sum();
        let mut text = Zeroizing::new(String::with_capacity(2 * bytes + 4096));
        pem_section(&mut text, "PRIVATE KEY", self.key.pkcs8());
        for certificate in &self.certificates {
            pem_section(&mut text, "CERTIFICATE", certificate);
        }
        text
    }
}

/// Appends one PEM section.
pub(super) fn pem_section(text: &mut String, label: &str, der: &[u8]) {
    let base64 = Zeroizing::new(BASE64_STANDARD.encode(der));
    let mut rest = base64.as_str();
    text.extend(["-----BEGIN ", label, "-----\n"]);
    while !rest.is_empty() {
        let (line, remaining) = rest.split_at(rest.len().min(LINE_CHARS));
        text.extend([line, "\n"]);
        rest = remaining;
    }
    text.extend(["-----END ", label, "-----\n"]);
}

/// Reads a file that holds a secret, if it is closed to others.
fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, not of the path: what is checked is what is read.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(IdentityError::NotAFile(path.to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o7177 != 0 {
        return Err(IdentityError::Permissions { path: path.to_owned(), mode });
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(IdentityError::Owner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(IdentityError::TooLarge { path: path.to_owned(), bytes: metadata.len() });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// Replaces a file by new content with mode 0600; after a crash at any point it holds the old or
/// the new content, whole.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    // The lock lets the temporary file have one name, so that crashes leave at most one behind.
    let folder_handle = File::open(folder)?;
    flock(&folder_handle, FlockOperation::LockExclusive)?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".new");
    let temporary: PathBuf = folder.join(temporary_name);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    folder_handle.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key_only() -> Bundle {
        Bundle { key: PrivateKey::generate().unwrap(), certificates: Vec::new() }
    }

    #[test]
    fn what_is_written_is_read_back_whatever_the_certificates_are() {
        let bundle = Bundle {
            certificates: (0..4).map(|bytes| CertificateDer::from(vec![7; bytes * 61])).collect(),
            ..key_only()
        };
        let read = Bundle::from_pem(bundle.to_pem().as_bytes()).unwrap();
        assert_eq!(read.key.pkcs8(), bundle.key.pkcs8());
        assert_eq!(read.certificates, bundle.certificates);
        assert!(bundle.to_pem().lines().all(|line| line.len() <= LINE_CHARS));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(-----BEGIN [A-Z ]{0,20}-----\n)?[ -~\n]{0,200}") {
            prop_assert!(Bundle::from_pem(text.as_bytes()).is_err());
        }

        #[test]
        fn a_key_with_a_wrong_byte_is_refused(at: prop::sample::Index, bit in 0_u32..8) {
            let bundle = key_only();
            let mut der = bundle.key.pkcs8().to_vec();
            let at = at.index(der.len());
            der[at] ^= 1_u8 << bit;
            // ring checks that the public half belongs to the private one.
            prop_assert!(PrivateKey::from_pkcs8(&der).is_err());
        }
    }
}
