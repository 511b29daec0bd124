//! The join token: `PICCOLO1-<digest of the CA certificate>-<secret>` (HLD §9.1).
//!
//! A board that joins knows nothing of the cluster but this text. The digest (all 256 bits of
//! SHA-256) lets it prove the master on the very first connection, before the secret (128 bits from
//! the operating system) leaves the board. Both are written in base32 with the digits and letters
//! that people do not confuse (no i, l, o, u), so a token has 88 characters and can be copied
//! with a double click per part. Upper and lower case are the same; nothing else has two
//! spellings.

use std::fmt;
use std::str::FromStr;

use piccolo_core::hex::hex;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroize;

const PREFIX: &str = "PICCOLO1";
const DIGEST_BYTES: usize = 32;
const SECRET_BYTES: usize = 16;
/// Letters and digits of Crockford's base32, value by place.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// SHA-256 of a CA certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaDigest([u8; DIGEST_BYTES]);

impl CaDigest {
    #[must_use]
    pub fn of(ca_certificate_der: &[u8]) -> CaDigest {
        let mut bytes = [0; DIGEST_BYTES];
        bytes.copy_from_slice(digest(&SHA256, ca_certificate_der).as_ref());
        CaDigest(bytes)
    }
}

impl fmt::Display for CaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for CaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaDigest({self})")
    }
}

/// The half of a token that proves the joining board. Shown only by [`JoinSecret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSecret([u8; SECRET_BYTES]);

impl JoinSecret {
    /// The secret as it stands in the token.
    #[must_use]
    pub fn expose(&self) -> String {
        encode(&self.0)
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(..)")
    }
}

impl Drop for JoinSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A whole join token. `Display` and `Debug` leave the secret out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    ca: CaDigest,
    secret: JoinSecret,
}

impl JoinToken {
    /// A new token with a secret from the operating system.
    ///
    /// # Errors
    /// [`NoRandomness`] if the operating system has none; nothing was made.
    pub fn generate(ca: CaDigest) -> Result<JoinToken, NoRandomness> {
        let mut secret = JoinSecret([0; SECRET_BYTES]);
        SystemRandom::new().fill(&mut secret.0).map_err(|_| NoRandomness)?;
        Ok(JoinToken { ca, secret })
    }

    /// The digest that the master's CA must have.
    #[must_use]
    pub fn ca_digest(&self) -> CaDigest {
        self.ca
    }

    #[must_use]
    pub fn secret(&self) -> &JoinSecret {
        &self.secret
    }

    /// The text that the user copies to the board, secret included.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}-{}-{}", self.ca, self.secret.expose())
    }
}

/// Enough to tell tokens of two clusters apart, without the secret.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}-{}-...", self.ca)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<JoinToken, TokenError> {
        let mut parts = text.split('-');
        let (Some(prefix), Some(ca), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Form { parts: text.split('-').count() });
        };
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return Err(TokenError::Prefix);
        }
        let ca = CaDigest(decode("CA digest", ca)?);
        let secret = JoinSecret(decode("secret", secret)?);
        Ok(JoinToken { ca, secret })
    }
}

/// What is stored in place of a secret: SHA-256, lower-case hexadecimal. With 128 random bits
/// behind it, neither salt nor a slow function adds anything.
#[must_use]
pub fn hash_secret(secret: &JoinSecret) -> String {
    hex(digest(&SHA256, &secret.0).as_ref())
}

/// A text that is no join token. Never repeats what it was given: that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "the token is not of the form {PREFIX}-<CA digest>-<secret>: it has {parts} parts instead \
         of 3"
    )]
    Form { parts: usize },
    #[error("the token does not begin with {PREFIX}-")]
    Prefix,
    #[error("the {part} of the token has {found} characters instead of {expected}")]
    Length { part: &'static str, found: usize, expected: usize },
    #[error(
        "character {position} of the {part} of the token is none of the digits and letters used \
         (0-9 and a-z without i, l, o, u)"
    )]
    Character { part: &'static str, position: usize },
    #[error("the last character of the {part} of the token cannot stand there")]
    LastCharacter { part: &'static str },
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(chars_for(bytes.len()));
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(buffer >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(buffer << (5 - bits)));
    }
    text
}

fn letter(value: u32) -> char {
    char::from(ALPHABET[(value & 31) as usize])
}

fn decode<const N: usize>(part: &'static str, text: &str) -> Result<[u8; N], TokenError> {
    let expected = chars_for(N);
    let found = text.chars().count();
    if found != expected {
        return Err(TokenError::Length { part, found, expected });
    }
    let mut bytes = [0; N];
    let (mut buffer, mut bits, mut filled) = (0_u32, 0, 0);
    for (index, character) in text.chars().enumerate() {
        let value =
            value_of(character).ok_or(TokenError::Character { part, position: index + 1 })?;
        buffer = (buffer << 5) | value;
        bits += 5;
        if bits >= 8 && filled < N {
            bits -= 8;
            bytes[filled] = ((buffer >> bits) & 0xff) as u8;
            filled += 1;
        }
    }
    // Bits left over would give one token several spellings.
    if buffer & ((1 << bits) - 1) == 0 {
        Ok(bytes)
    } else {
        bytes.zeroize();
        Err(TokenError::LastCharacter { part })
    }
}

fn value_of(character: char) -> Option<u32> {
    let lower = u8::try_from(character.to_ascii_lowercase()).ok()?;
    let place = ALPHABET.iter().position(|letter| *letter == lower)?;
    u32::try_from(place).ok()
}

const fn chars_for(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken::generate(CaDigest::of(b"a CA certificate")).unwrap()
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        assert_eq!(text.parse::<JoinToken>().unwrap_err().to_string(), expected, "{text}");
    }

    #[test]
    fn a_token_is_short_enough_to_copy_and_reads_back() {
        let token = token();
        assert_eq!(token.expose().len(), 88);
        assert_eq!(token.expose().parse(), Ok(token.clone()));
        assert_eq!(token.expose().to_uppercase().parse(), Ok(token));
    }

    #[test]
    fn nothing_but_expose_shows_the_secret() {
        let token = token();
        let secret = token.secret().expose();
        for shown in [token.to_string(), format!("{token:?}"), format!("{:?}", token.secret())] {
            assert!(!shown.contains(&secret), "{shown}");
        }
        assert!(token.expose().ends_with(&secret));
    }

    #[test]
    fn the_faulty_part_is_named_and_the_secret_never_repeated() {
        let ca = CaDigest::of(b"a CA certificate").to_string();
        let secret = "0".repeat(26);
        let form = "the token is not of the form PICCOLO1-<CA digest>-<secret>: it has";
        refused("", &format!("{form} 1 parts instead of 3"));
        refused(&format!("PICCOLO1-{ca}"), &format!("{form} 2 parts instead of 3"));
        refused(&format!("PICCOLO1-{ca}-{secret}-x"), &format!("{form} 4 parts instead of 3"));
        refused(&format!("PICCOLO2-{ca}-{secret}"), "the token does not begin with PICCOLO1-");
        refused(
            &format!("PICCOLO1-{}-{secret}", &ca[1..]),
            "the CA digest of the token has 51 characters instead of 52",
        );
        refused(
            &format!("PICCOLO1-{ca}-{secret}0"),
            "the secret of the token has 27 characters instead of 26",
        );
        refused(
            &format!("PICCOLO1-{ca}-{}", secret.replacen("00", "0l", 1)),
            "character 2 of the secret of the token is none of the digits and letters used (0-9 \
             and a-z without i, l, o, u)",
        );
        refused(
            &format!("PICCOLO1-{ca}-{}1", &secret[1..]),
            "the last character of the secret of the token cannot stand there",
        );
    }

    #[test]
    fn a_stored_hash_is_the_sha_256_of_the_secret_bytes() {
        let token: JoinToken =
            format!("PICCOLO1-{}-{}", "0".repeat(52), "0".repeat(26)).parse().unwrap();
        // printf '\0%.0s' {1..16} | sha256sum
        assert_eq!(
            hash_secret(token.secret()),
            "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb"
        );
    }

    #[test]
    fn two_tokens_never_share_a_secret() {
        assert_ne!(token().secret(), token().secret());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ca: [u8; 32], secret: [u8; 16]) {
            let token = JoinToken { ca: CaDigest(ca), secret: JoinSecret(secret) };
            prop_assert_eq!(token.expose().parse(), Ok(token));
        }

        #[test]
        fn only_the_canonical_text_is_read(
            text in "PICCOLO1-[0-9a-hjkmnp-tv-z]{52}-[0-9a-hjkmnp-tv-z]{26}",
        ) {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.expose(), text);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,120}") {
            prop_assert!(text.parse::<JoinToken>().is_err());
        }
    }
}
