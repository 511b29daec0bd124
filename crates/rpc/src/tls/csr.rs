//! A certificate signing request (PKCS#10) for a key: all the agent ever says about the certificate
//! it wants is its public key, so the request is written by hand instead of by a library.
//!
//! The subject is empty and no extension is asked for; the signer sets both by itself.

use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, KeyPair};

use super::token::NoRandomness;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// The attributes: context-specific 0, constructed; empty.
const NO_ATTRIBUTES: &[u8] = &[0xa0, 0x00];
const VERSION_0: &[u8] = &[0x02, 0x01, 0x00];
const EMPTY_NAME: &[u8] = &[SEQUENCE, 0x00];
/// AlgorithmIdentifier { id-ecPublicKey, prime256v1 }.
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
/// AlgorithmIdentifier { ecdsa-with-SHA256 }.
const ECDSA_SHA256: &[u8] =
    &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// The request (DER) for a P-256 key.
pub(super) fn request(key: &EcdsaKeyPair) -> Result<Vec<u8>, NoRandomness> {
    let information =
        element(SEQUENCE, &[VERSION_0, EMPTY_NAME, &public_key_info(key), NO_ATTRIBUTES]);
    let signature = key.sign(&SystemRandom::new(), &information).map_err(|_| NoRandomness)?;
    Ok(element(SEQUENCE, &[&information, ECDSA_SHA256, &bit_string(signature.as_ref())]))
}

/// The SubjectPublicKeyInfo (DER) of a P-256 key.
pub(super) fn public_key_info(key: &EcdsaKeyPair) -> Vec<u8> {
    element(SEQUENCE, &[P256, &bit_string(key.public_key().as_ref())])
}

fn bit_string(bytes: &[u8]) -> Vec<u8> {
    const NO_UNUSED_BITS: &[u8] = &[0];
    element(BIT_STRING, &[NO_UNUSED_BITS, bytes])
}

/// One DER element of definite length; content below 64 KiB.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let [.., high, low] = length.to_be_bytes();
    let mut der = vec![tag];
    match length {
        0..=0x7f => der.push(low),
        0x80..=0xff => der.extend([0x81, low]),
        _ => der.extend([0x82, high, low]),
    }
    for part in parts {
        der.extend_from_slice(part);
    }
    der
}
