//! Secrets are sealed before they reach a store: whoever reads the file, a backup or etcd sees only
//! noise.
//!
//! A sealed value is `version 1 | key id, 4 bytes | nonce, 12 bytes | ciphertext and tag`
//! (ChaCha20-Poly1305, random nonce). The store key is authenticated with it, so that nobody can
//! swap the values of two keys. The sealing keys are in a file of their own that only its owner may
//! read; the first line is the key in use, the others only open what was sealed with them before:
//!
//! ```text
//! piccolo-seal-keys 1
//! 64 hexadecimal digits
//! ```

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};

use crate::{Error, Result, SEALED, Store, Transaction, list};

const VERSION: u8 = 1;
const ID_BYTES: usize = 4;
const KEY_BYTES: usize = 32;
const HEADER_BYTES: usize = 1 + ID_BYTES + NONCE_LEN;
const TAG_BYTES: usize = 16;
const FIRST_LINE: &str = "piccolo-seal-keys 1";
/// Keys in a file; more means that rotations were never finished.
const KEYS_MAX: usize = 16;
/// Bytes of the file that are read.
const FILE_BYTES_MAX: u64 = 4096;
/// How often sealing a value anew is tried against somebody who changes it all the time.
const RESEAL_ATTEMPTS_MAX: usize = 8;

/// Whether a value looks as [`KeyRing::seal`] makes them. Says nothing about whether it can be
/// opened.
#[must_use]
pub fn is_sealed(value: &[u8]) -> bool {
    value.len() >= HEADER_BYTES + TAG_BYTES && value[0] == VERSION
}

/// The keys that seal and open. Seals with the first, opens with any.
pub struct KeyRing {
    path: PathBuf,
    keys: Vec<SealKey>,
}

/// What [`KeyRing::reseal_all`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResealReport {
    /// Values under [`SEALED`].
    pub values: usize,
    /// Those that were sealed with an older key and now are with the key in use.
    pub resealed: usize,
}

impl KeyRing {
    /// Makes the file with one new key. Refuses to replace a file: what it sealed would be lost.
    ///
    /// # Errors
    /// [`Error::Io`] where the file exists or cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        if path.try_exists().map_err(|e| Error::io("look for", path, e))? {
            return Err(Error::io("create", path, std::io::ErrorKind::AlreadyExists.into()));
        }
        let ring = Self { path: path.to_owned(), keys: vec![SealKey::random()?] };
        ring.write()?;
        Ok(ring)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Denied`] where others than the owner may read or change it, [`Error::Corrupt`]
    /// naming the wrong line.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let mode = file.metadata().map_err(|e| Error::io("read", path, e))?.mode();
        if mode & 0o077 != 0 {
            let problem = format!(
                "{} has mode {:o} and holds secrets; set it to 0600, and rotate the key if others had access",
                path.display(),
                mode & 0o7777
            );
            return Err(Error::Denied { problem });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|e| Error::io("read", path, e))?;
        Self::from_text(path, &text)
    }

    /// From what such a file holds; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the wrong line.
    pub fn from_text(path: &Path, text: &str) -> Result<Self> {
        let keys = parse(text).map_err(|problem| corrupt(path, problem))?;
        Ok(Self { path: path.to_owned(), keys })
    }

    /// Seals a secret for one key of the store, which must be under [`SEALED`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a store key elsewhere.
    pub fn seal(&self, store_key: &str, secret: &[u8]) -> Result<Vec<u8>> {
        if !store_key.starts_with(SEALED) {
            return Err(Error::invalid(format!(
                "sealed values live under {SEALED}, not at {store_key}"
            )));
        }
        let Some(key) = self.keys.first() else { return Err(corrupt(&self.path, "it has no key")) };
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + secret.len() + TAG_BYTES);
        sealed.push(VERSION);
        sealed.extend(key.id);
        sealed.extend(nonce);
        let header = sealed.clone();
        let mut body = secret.to_vec();
        key.aead
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated(&header, store_key)),
                &mut body,
            )
            .map_err(|_| {
                Error::invalid(format!("the secret for {store_key} is too long to be sealed"))
            })?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what was sealed for the same key of the store.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it was changed, sealed for another store key, or with a key that is
    /// not in the file.
    pub fn open(&self, store_key: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        if !is_sealed(sealed) {
            return Err(unreadable(store_key, "it is not a sealed value"));
        }
        let (header, body) = sealed.split_at(HEADER_BYTES);
        let id = &header[1..=ID_BYTES];
        let Some(key) = self.keys.iter().find(|key| key.id == *id) else {
            let problem = format!(
                "it was sealed with key {}, which is not in {}",
                hex(id),
                self.path.display()
            );
            return Err(unreadable(store_key, &problem));
        };
        let nonce = Nonce::try_assume_unique_for_key(&header[1 + ID_BYTES..])
            .map_err(|_| unreadable(store_key, "its nonce is damaged"))?;
        let mut body = body.to_vec();
        let secret = key
            .aead
            .open_in_place(nonce, Aad::from(associated(header, store_key)), &mut body)
            .map_err(|_| unreadable(store_key, "it was changed, or belongs to another key"))?;
        Ok(secret.to_vec())
    }

    /// Whether a value was sealed with another key than the one in use.
    #[must_use]
    pub fn needs_reseal(&self, sealed: &[u8]) -> bool {
        let in_use = self.keys.first().map(|key| key.id.as_slice());
        sealed.get(1..=ID_BYTES) != in_use
    }

    /// How many keys the file has: 1, and more while a rotation is not finished.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// First step of a rotation: a new key in use; the old ones still open.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where earlier rotations were never finished; [`Error::Io`].
    pub fn add_key(&mut self) -> Result<()> {
        crate::types::check_limit("the key file", self.keys.len() + 1, KEYS_MAX, "keys")?;
        self.keys.insert(0, SealKey::random()?);
        self.write().inspect_err(|_| {
            self.keys.remove(0);
        })
    }

    /// Second step: every value under [`SEALED`] is sealed with the key in use. Can be repeated at
    /// any time.
    ///
    /// # Errors
    /// Those of the store; [`Error::Corrupt`] for a value that cannot be opened, which stays as it
    /// is.
    pub async fn reseal_all(&self, store: &dyn Store) -> Result<ResealReport> {
        let (items, _) = list(store, SEALED).await?;
        let mut report = ResealReport { values: items.len(), resealed: 0 };
        for item in items {
            report.resealed += usize::from(self.reseal(store, &item.key).await?);
        }
        Ok(report)
    }

    /// Last step: forget the old keys, after making sure that no value in the store needs them.
    ///
    /// # Errors
    /// [`Error::Invalid`] where [`Self::reseal_all`] is still to be done.
    pub async fn drop_old_keys(&mut self, store: &dyn Store) -> Result<()> {
        let (items, _) = list(store, SEALED).await?;
        if let Some(item) = items.iter().find(|item| self.needs_reseal(&item.value)) {
            return Err(Error::invalid(format!("{} is still sealed with an old key", item.key)));
        }
        let mut one = Self { path: self.path.clone(), keys: Vec::new() };
        one.keys.extend(self.keys.first().map(SealKey::copy).transpose()?);
        one.write()?;
        self.keys.truncate(1);
        Ok(())
    }

    async fn reseal(&self, store: &dyn Store, key: &str) -> Result<bool> {
        for _ in 0..RESEAL_ATTEMPTS_MAX {
            let Some(item) = store.get(key).await? else { return Ok(false) };
            if !self.needs_reseal(&item.value) {
                return Ok(false);
            }
            let sealed = self.seal(key, &self.open(key, &item.value)?)?;
            let mut replace = Transaction::new().when(key, item.mod_revision);
            replace = match item.lease {
                Some(lease) => replace.put_leased(key, sealed, lease),
                None => replace.put(key, sealed),
            };
            match store.txn(&replace).await {
                Ok(_) => return Ok(true),
                Err(Error::CompareFailed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::invalid(format!("{key} changes faster than it can be sealed anew")))
    }

    /// Writes the whole file beside its place and moves it there: a power cut leaves the old one or
    /// the new one.
    fn write(&self) -> Result<()> {
        let mut text = format!("{FIRST_LINE}\n");
        for key in &self.keys {
            text.push_str(&hex(&key.bytes));
            text.push('\n');
        }
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        if let Err(e) = fs::remove_file(&new)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::io("remove", new, e));
        }
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(
                |mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()),
            );
        written.map_err(|e| Error::io("write", &new, e))?;
        fs::rename(&new, &self.path).map_err(|e| Error::io("rename to", &self.path, e))?;
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", folder, e))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.keys.iter().map(|key| hex(&key.id)).collect();
        f.debug_struct("KeyRing").field("path", &self.path).field("key_ids", &ids).finish()
    }
}

struct SealKey {
    id: [u8; ID_BYTES],
    bytes: [u8; KEY_BYTES],
    aead: LessSafeKey,
}

impl SealKey {
    fn new(bytes: [u8; KEY_BYTES]) -> Result<Self> {
        // The id tells keys apart and tells nothing about the key.
        let digest =
            digest::digest(&digest::SHA256, &[b"piccolo seal key id".as_slice(), &bytes].concat());
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest.as_ref()[..ID_BYTES]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
            .map_err(|_| Error::invalid("a sealing key of the wrong length"))?;
        Ok(Self { id, bytes, aead: LessSafeKey::new(key) })
    }

    fn random() -> Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        random(&mut bytes)?;
        Self::new(bytes)
    }

    fn copy(&self) -> Result<Self> {
        Self::new(self.bytes)
    }
}

fn parse(text: &str) -> std::result::Result<Vec<SealKey>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(format!("line 1 is not {FIRST_LINE:?}"));
    }
    let mut keys = Vec::new();
    for (line, number) in lines.zip(2..) {
        let bytes = unhex(line)
            .ok_or_else(|| format!("line {number} is not a key of 64 hexadecimal digits"))?;
        keys.push(SealKey::new(bytes).map_err(|e| e.to_string())?);
    }
    match keys.len() {
        0 => Err("it has no key".to_owned()),
        1..=KEYS_MAX => Ok(keys),
        more => Err(format!("it has {more} keys, at most {KEYS_MAX} are allowed")),
    }
}

/// What is authenticated with the secret: how it is sealed, and where it belongs.
fn associated(header: &[u8], store_key: &str) -> Vec<u8> {
    [header, store_key.as_bytes()].concat()
}

fn corrupt(path: &Path, problem: impl Into<String>) -> Error {
    Error::Corrupt {
        what: path.display().to_string(),
        problem: problem.into(),
        remedy: "put a backup of this file in its place; without it the sealed values cannot be opened any more"
            .to_owned(),
    }
}

fn unreadable(store_key: &str, problem: &str) -> Error {
    Error::Corrupt {
        what: format!("the sealed value {store_key}"),
        problem: problem.to_owned(),
        remedy:
            "it stays as it is; restore the key file or the store from a backup that fits together"
                .to_owned(),
    }
}

fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|e| Error::invalid(format!("no random numbers: {e}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; KEY_BYTES];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
