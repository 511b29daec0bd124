//! Reading a signing request: nothing is taken from it but the public key, and that only if the
//! sender proves to hold the private one by a good signature over the request.

use piccolo_rpc::tls::names::spki_sha256;
use rcgen::SubjectPublicKeyInfo;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AlgorithmIdentifier;

/// Largest signing request that is looked at, in bytes; one of ours has 220.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const ED25519_KEY: &str = "1.3.101.112";
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";

/// A signing request that is not honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("it has {0} bytes, more than {REQUEST_BYTES_MAX}")]
    TooLarge(usize),
    #[error("it is no PKCS#10 request in PEM or DER: {0}")]
    Malformed(String),
    #[error(
        "its key is of a kind that is not signed here ({0}); use ECDSA P-256, P-384 or Ed25519"
    )]
    Key(String),
    #[error("its signature is of a kind that does not fit its key ({0})")]
    SignatureKind(String),
    #[error("its signature is wrong: the sender does not hold the private key")]
    Signature,
}

/// SHA-256 of the public key in a signing request (PEM or DER), lower-case hexadecimal: to compare
/// with the key of an earlier certificate.
///
/// # Errors
/// [`RequestError`], as for signing.
pub fn request_spki_sha256(signing_request: &[u8]) -> Result<String, RequestError> {
    use rcgen::PublicKeyData;
    Ok(spki_sha256(&public_key(signing_request)?.subject_public_key_info()))
}

/// The public key of a request in PEM or DER whose signature is good.
pub(super) fn public_key(signing_request: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    if signing_request.len() > REQUEST_BYTES_MAX {
        return Err(RequestError::TooLarge(signing_request.len()));
    }
    let malformed = |error: &dyn std::fmt::Display| RequestError::Malformed(error.to_string());
    if signing_request.trim_ascii_start().starts_with(b"-----BEGIN") {
        let der = CertificateSigningRequestDer::from_pem_slice(signing_request)
            .map_err(|error| malformed(&error))?;
        return public_key_of_der(&der);
    }
    public_key_of_der(signing_request)
}

fn public_key_of_der(der: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    let (rest, request) = X509CertificationRequest::from_der(der)
        .map_err(|error| RequestError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(RequestError::Malformed(format!("{} bytes too many", rest.len())));
    }
    let key = &request.certification_request_info.subject_pki;
    if key.subject_public_key.unused_bits != 0 || request.signature_value.unused_bits != 0 {
        return Err(RequestError::Malformed("a key or signature of broken bytes".to_owned()));
    }
    let algorithm = verification(&key.algorithm, &request.signature_algorithm)?;
    UnparsedPublicKey::new(algorithm, key.subject_public_key.as_ref())
        .verify(request.certification_request_info.raw, request.signature_value.as_ref())
        .map_err(|_| RequestError::Signature)?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|error| RequestError::Key(error.to_string()))
}

/// How to check a signature of this kind by a key of this kind; all that are accepted.
fn verification(
    key: &AlgorithmIdentifier<'_>,
    signature: &AlgorithmIdentifier<'_>,
) -> Result<&'static dyn VerificationAlgorithm, RequestError> {
    let kind = key.algorithm.to_id_string();
    let curve = key
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok())
        .map(|curve| curve.to_id_string())
        .unwrap_or_default();
    let signature = signature.algorithm.to_id_string();
    match (kind.as_str(), curve.as_str()) {
        (EC_PUBLIC_KEY, P256) => match signature.as_str() {
            ECDSA_SHA256 => Ok(&ECDSA_P256_SHA256_ASN1),
            ECDSA_SHA384 => Ok(&ECDSA_P256_SHA384_ASN1),
            _ => Err(RequestError::SignatureKind(signature)),
        },
        (EC_PUBLIC_KEY, P384) => match signature.as_str() {
            ECDSA_SHA256 => Ok(&ECDSA_P384_SHA256_ASN1),
            ECDSA_SHA384 => Ok(&ECDSA_P384_SHA384_ASN1),
            _ => Err(RequestError::SignatureKind(signature)),
        },
        (ED25519_KEY, "") if signature == ED25519_KEY => Ok(&ED25519),
        (ED25519_KEY, "") => Err(RequestError::SignatureKind(signature)),
        _ => Err(RequestError::Key(format!("{kind} {curve}").trim_end().to_owned())),
    }
}
