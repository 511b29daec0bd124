//! A stream that only a passphrase opens (docs/protocol.md, "Backups").
//!
//! ```text
//! header:  "PICCOLO BACKUP\n" | format 1 | memory KiB, passes, lanes: u32 each | salt, 16 bytes
//!          | seal of the header, 16 bytes | checksum of all before it, 8 bytes
//! chunks:  64 KiB each but the last, with a tag of 16 bytes
//! ```
//!
//! The key is Argon2id's of passphrase and salt. Each chunk is sealed with ChaCha20-Poly1305; its nonce is its number
//! and whether it is the last one, and the header is authenticated with it. So nobody can change, swap, repeat
//! or cut off anything, and memory for one chunk is enough. The seal of the header opens with the right passphrase
//! only; the checksum tells a damaged header from a wrong passphrase.

use std::io::{self, Read, Write};

use argon2::{Algorithm, Argon2, Params, Version};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use zeroize::Zeroizing;

const MAGIC: &[u8; 15] = b"PICCOLO BACKUP\n";
/// Of the seal. What is inside has a format of its own.
pub(super) const FORMAT: u8 = 1;
/// RFC 9106's choice for machines with little memory, in one lane: half a second on a small board.
const COST: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
/// What a file may ask of the machine that opens it.
const COST_MAX: Cost = Cost { memory_kib: 1024 * 1024, passes: 64, lanes: 16 };
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// Bytes of the header up to its seal.
const PLAIN_BYTES: usize = MAGIC.len() + 1 + 3 * 4 + SALT_BYTES;
const HEADER_BYTES: usize = PLAIN_BYTES + TAG_BYTES + CHECKSUM_BYTES;
/// Bytes of a chunk before it is sealed.
const CHUNK_BYTES: usize = 64 * 1024;
/// No chunk has this number.
const HEADER_NUMBER: u64 = u64::MAX;

/// Why a sealed file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("it is no backup of PICCOLO")]
    NoBackup,
    #[error(
        "its format is {found}, this version understands up to {FORMAT}; use the newer version that made it"
    )]
    NewerFormat { found: u8 },
    #[error("its first {HEADER_BYTES} bytes are damaged; use another backup")]
    DamagedHeader,
    #[error("it asks for {memory_kib} KiB of memory to be opened, the limit is {} KiB", COST_MAX.memory_kib)]
    TooCostly { memory_kib: u32 },
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    #[error("it is damaged between byte {from} and byte {to}; use another backup")]
    Damaged { from: u64, to: u64 },
    #[error("it was cut off after byte {at}; use another backup")]
    CutOff { at: u64 },
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Seals what is written to it. Without [`Sealer::finish`] the file cannot be opened.
pub(super) struct Sealer<W> {
    out: W,
    key: LessSafeKey,
    header: [u8; HEADER_BYTES],
    chunk: Vec<u8>,
    number: u64,
}

impl<W: Write> Sealer<W> {
    /// Takes a while: that is what makes guessing hard.
    pub(super) fn new(mut out: W, passphrase: &str) -> io::Result<Self> {
        let mut plain = Vec::with_capacity(HEADER_BYTES);
        plain.extend_from_slice(MAGIC);
        plain.push(FORMAT);
        for number in [COST.memory_kib, COST.passes, COST.lanes] {
            plain.extend_from_slice(&number.to_be_bytes());
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        plain.extend_from_slice(&salt);
        let key = derive(passphrase, &salt, COST)?;
        let mut seal = Vec::new();
        key.seal_in_place_append_tag(nonce(HEADER_NUMBER, false), Aad::from(&plain), &mut seal)
            .map_err(|_| io::Error::other("the header cannot be sealed"))?;
        plain.extend_from_slice(&seal);
        plain.extend_from_slice(&checksum(&plain));
        let header = <[u8; HEADER_BYTES]>::try_from(plain)
            .map_err(|_| io::Error::other("the header has a wrong length"))?;
        out.write_all(&header)?;
        let chunk = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        Ok(Self { out, key, header, chunk, number: 0 })
    }

    /// Seals the last chunk and gives the file back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = nonce(self.number, last);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(&self.header), &mut self.chunk)
            .map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        self.out.write_all(&self.chunk)?;
        self.chunk.clear();
        self.number += 1;
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // a full chunk is sealed when more comes: only then it is not the last
        if self.chunk.len() == CHUNK_BYTES {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what a [`Sealer`] wrote, chunk by chunk; nothing is given out that was not authenticated.
pub(super) struct Opener<R> {
    input: R,
    key: LessSafeKey,
    header: [u8; HEADER_BYTES],
    /// The open chunk, and how much of it was read.
    chunk: Zeroizing<Vec<u8>>,
    taken: usize,
    /// What was read of the next one already.
    ahead: Vec<u8>,
    number: u64,
    last: bool,
}

impl<R: Read> Opener<R> {
    pub(super) fn new(mut input: R, passphrase: &str) -> Result<Self, OpenError> {
        let mut header = [0; HEADER_BYTES];
        let length = fill(&mut input, &mut header)?;
        if !header.starts_with(MAGIC) || length <= MAGIC.len() {
            return Err(OpenError::NoBackup);
        }
        let format = header[MAGIC.len()];
        if format > FORMAT {
            return Err(OpenError::NewerFormat { found: format });
        }
        let (rest, found) = header.split_at(HEADER_BYTES - CHECKSUM_BYTES);
        if length < HEADER_BYTES || checksum(rest) != found || format != FORMAT {
            return Err(OpenError::DamagedHeader);
        }
        let (plain, seal) = rest.split_at(PLAIN_BYTES);
        let number = |at: usize| {
            let bytes = plain.get(MAGIC.len() + 1 + 4 * at..MAGIC.len() + 5 + 4 * at);
            bytes.and_then(|b| b.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
        };
        let cost = Cost { memory_kib: number(0), passes: number(1), lanes: number(2) };
        if cost.memory_kib > COST_MAX.memory_kib
            || cost.passes > COST_MAX.passes
            || cost.lanes > COST_MAX.lanes
        {
            return Err(OpenError::TooCostly { memory_kib: cost.memory_kib });
        }
        let salt = &plain[PLAIN_BYTES - SALT_BYTES..];
        let key = derive(passphrase, salt, cost).map_err(|_| OpenError::DamagedHeader)?;
        let mut seal = seal.to_vec();
        key.open_in_place(nonce(HEADER_NUMBER, false), Aad::from(plain), &mut seal)
            .map_err(|_| OpenError::WrongPassphrase)?;
        let chunk = Zeroizing::new(Vec::new());
        let mut opener =
            Self { input, key, header, chunk, taken: 0, ahead: Vec::new(), number: 0, last: false };
        opener.ahead = opener.read_sealed()?;
        Ok(opener)
    }

    /// All of `bytes`, or an error; `false` at the very end, before the first of them.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<bool, OpenError> {
        let mut filled = 0;
        while filled < bytes.len() {
            if self.taken == self.chunk.len() {
                if self.last {
                    return if filled == 0 { Ok(false) } else { Err(self.cut_off()) };
                }
                self.open_next()?;
                continue;
            }
            let some = (bytes.len() - filled).min(self.chunk.len() - self.taken);
            bytes[filled..filled + some]
                .copy_from_slice(&self.chunk[self.taken..self.taken + some]);
            filled += some;
            self.taken += some;
        }
        Ok(true)
    }

    fn open_next(&mut self) -> Result<(), OpenError> {
        let sealed = std::mem::take(&mut self.ahead);
        self.ahead = self.read_sealed()?;
        let last = self.ahead.is_empty();
        self.chunk = match self.open(&sealed, last) {
            Some(chunk) => chunk,
            // whole, but others came after it
            None if last && self.open(&sealed, false).is_some() => return Err(self.cut_off()),
            None => {
                let from = self.start();
                return Err(OpenError::Damaged { from, to: from + sealed.len() as u64 });
            }
        };
        self.taken = 0;
        self.number += 1;
        self.last = last;
        Ok(())
    }

    fn open(&self, sealed: &[u8], last: bool) -> Option<Zeroizing<Vec<u8>>> {
        let mut chunk = Zeroizing::new(sealed.to_vec());
        let nonce = nonce(self.number, last);
        let length = self.key.open_in_place(nonce, Aad::from(&self.header), &mut chunk).ok()?.len();
        chunk.truncate(length);
        Some(chunk)
    }

    fn read_sealed(&mut self) -> Result<Vec<u8>, OpenError> {
        let mut sealed = vec![0; CHUNK_BYTES + TAG_BYTES];
        let length = fill(&mut self.input, &mut sealed)?;
        sealed.truncate(length);
        Ok(sealed)
    }

    /// Where the next chunk begins in the file.
    fn start(&self) -> u64 {
        HEADER_BYTES as u64 + self.number * (CHUNK_BYTES + TAG_BYTES) as u64
    }

    fn cut_off(&self) -> OpenError {
        OpenError::CutOff { at: self.start() }
    }
}

/// As much as there is.
fn fill(input: &mut impl Read, bytes: &mut [u8]) -> Result<usize, OpenError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(some) => filled += some,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(OpenError::Io(error)),
        }
    }
    Ok(filled)
}

fn derive(passphrase: &str, salt: &[u8], cost: Cost) -> io::Result<LessSafeKey> {
    let bad = |error: argon2::Error| io::Error::other(error.to_string());
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(KEY_BYTES));
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(bad)?);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    argon.hash_password_into(passphrase.as_bytes(), salt, key.as_mut()).map_err(bad)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref());
    key.map(LessSafeKey::new).map_err(|_| io::Error::other("the key has a wrong length"))
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[NONCE_LEN - 1] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut short = [0; CHECKSUM_BYTES];
    short.copy_from_slice(&digest.as_ref()[..CHECKSUM_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(content: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), "a good passphrase").unwrap();
        sealer.write_all(content).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(file: &[u8], passphrase: &str, length: usize) -> Result<Vec<u8>, OpenError> {
        let mut opener = Opener::new(file, passphrase)?;
        let mut content = vec![0; length];
        if length > 0 {
            opener.take(&mut content)?;
        }
        assert!(!opener.take(&mut [0])?, "there is more than was written");
        Ok(content)
    }

    #[test]
    fn what_was_sealed_comes_back_whatever_its_length() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let file = sealed(&content);
            assert!(!file.windows(8).any(|w| length > 8 && w == &content[..8]), "in the clear");
            assert_eq!(opened(&file, "a good passphrase", length).unwrap(), content, "{length}");
        }
    }

    #[test]
    fn a_wrong_passphrase_a_damaged_file_and_a_short_one_are_told_apart() {
        let content = vec![7; 3 * CHUNK_BYTES];
        let file = sealed(&content);
        let chunk = CHUNK_BYTES + TAG_BYTES;
        let changed = |at: usize| {
            let mut file = file.clone();
            file[at] ^= 1;
            file
        };
        let swapped = {
            let mut chunks: Vec<&[u8]> = file[HEADER_BYTES..].chunks(chunk).collect();
            chunks.swap(0, 1);
            [&file[..HEADER_BYTES], &chunks.concat()].concat()
        };
        let newer = {
            let mut file = file.clone();
            file[MAGIC.len()] = FORMAT + 1;
            file
        };
        let cases: [(&str, Vec<u8>, &str, &str); 11] = [
            ("another passphrase", file.clone(), "another passphrase", "the passphrase is wrong"),
            (
                "no backup",
                b"PK\x03\x04".to_vec(),
                "a good passphrase",
                "it is no backup of PICCOLO",
            ),
            ("empty", Vec::new(), "a good passphrase", "it is no backup of PICCOLO"),
            ("newer", newer, "a good passphrase", "its format is 2"),
            ("salt changed", changed(MAGIC.len() + 20), "a good passphrase", "its first 68 bytes"),
            ("seal changed", changed(PLAIN_BYTES + 1), "a good passphrase", "its first 68 bytes"),
            ("cost changed", changed(MAGIC.len() + 2), "a good passphrase", "its first 68 bytes"),
            (
                "a bit flipped",
                changed(HEADER_BYTES + chunk + 9),
                "a good passphrase",
                "it is damaged between byte 65620",
            ),
            ("chunks swapped", swapped, "a good passphrase", "it is damaged between byte 68"),
            (
                "cut within a chunk",
                file[..file.len() - 5].to_vec(),
                "a good passphrase",
                "it is damaged between",
            ),
            (
                "cut between chunks",
                file[..HEADER_BYTES + 2 * chunk].to_vec(),
                "a good passphrase",
                "it was cut off after",
            ),
        ];
        for (case, file, passphrase, expected) in cases {
            let error = opened(&file, passphrase, content.len()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{case}: {error}");
        }
        assert!(opened(&[&file[..], b"x"].concat(), "a good passphrase", content.len()).is_err());
    }

    #[test]
    fn a_file_may_not_ask_for_all_the_memory_of_the_machine() {
        let mut file = sealed(b"x");
        file[MAGIC.len() + 1..MAGIC.len() + 5].copy_from_slice(&u32::MAX.to_be_bytes());
        let sum = checksum(&file[..HEADER_BYTES - CHECKSUM_BYTES]);
        file[HEADER_BYTES - CHECKSUM_BYTES..HEADER_BYTES].copy_from_slice(&sum);
        let error = opened(&file, "a good passphrase", 1).unwrap_err();
        assert!(matches!(error, OpenError::TooCostly { .. }), "{error}");
    }
}
