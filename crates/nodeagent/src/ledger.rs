//! The agent's ledger: one small file that is replaced whole, such as the desired configuration.
//!
//! A header with a version, the length and a checksum precedes the contents, which are bytes to
//! this module. [`Ledger::save`] returns only when they would survive a power cut; at any moment
//! the file is either the old one or the new one. A file that is torn or was changed is put aside
//! as `NAME.corrupt-N` and reported, never half believed. HLD §4.2, §1.2.3 (work goes on offline).
//!
//! ```text
//! bytes 0..8   "PICLEDGR"
//!       8..10  version of this layout, little endian: 1
//!      10..12  zero
//!      12..16  length of the contents
//!      16..20  CRC-32 of bytes 0..16 and of the contents
//!      20..    contents
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::durable;

/// A configuration with a hundred workloads is below 1 MiB.
pub const CONTENTS_BYTES_MAX: usize = 16 * 1024 * 1024;
const CORRUPT_FILES_KEPT_MAX: u32 = 5;
const MAGIC: [u8; 8] = *b"PICLEDGR";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 20;
const CHECKED_HEADER_BYTES: usize = 16;

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}; nothing was changed", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}; the version before is still in place", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is damaged ({why}); it was kept as {} and counts as missing", path.display(), kept_as.display())]
    Corrupt { path: PathBuf, why: &'static str, kept_as: PathBuf },
    #[error("{} has layout {found}, this agent knows {VERSION}: it was written by a newer agent and is left alone", path.display())]
    Newer { path: PathBuf, found: u16 },
    #[error("{bytes} bytes are too many for {}, which takes {CONTENTS_BYTES_MAX}; nothing was written", path.display())]
    TooLarge { path: PathBuf, bytes: usize },
}

/// One ledger file. Only one process may use it at a time.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
}

impl Ledger {
    /// A ledger at `path`, whose folder must exist. Reads and writes nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was saved last; `None` if nothing ever was.
    ///
    /// # Errors
    /// [`Error::Corrupt`] once for a damaged file, which is put aside: the next call says `None`.
    /// [`Error::Newer`] and [`Error::Read`] change nothing.
    pub fn load(&self) -> Result<Option<Vec<u8>>, Error> {
        let failed = |source| Error::Read { path: self.path.clone(), source };
        durable::remove_leftover(&self.path).map_err(failed)?;
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        let limit = CONTENTS_BYTES_MAX + HEADER_BYTES + 1;
        file.take(limit as u64).read_to_end(&mut bytes).map_err(failed)?;
        match contents_of(&bytes) {
            Ok(contents) => Ok(Some(contents.to_vec())),
            Err(Unusable::Newer(found)) => Err(Error::Newer { path: self.path.clone(), found }),
            Err(Unusable::Damaged(why)) => {
                let kept_as =
                    durable::set_aside(&self.path, CORRUPT_FILES_KEPT_MAX).map_err(failed)?;
                Err(Error::Corrupt { path: self.path.clone(), why, kept_as })
            }
        }
    }

    /// Replaces the contents. They are durable when this returns.
    ///
    /// # Errors
    /// [`Error::Write`] and [`Error::TooLarge`]; what was saved before is still there.
    pub fn save(&self, contents: &[u8]) -> Result<(), Error> {
        let too_large = || Error::TooLarge { path: self.path.clone(), bytes: contents.len() };
        let length = u32::try_from(contents.len()).map_err(|_| too_large())?;
        if contents.len() > CONTENTS_BYTES_MAX {
            return Err(too_large());
        }
        let mut header = [0; HEADER_BYTES];
        let fields = MAGIC
            .into_iter()
            .chain(VERSION.to_le_bytes())
            .chain([0; 2])
            .chain(length.to_le_bytes());
        for (place, byte) in header.iter_mut().zip(fields) {
            *place = byte;
        }
        let (checked, checksum) = header.split_at_mut(CHECKED_HEADER_BYTES);
        checksum.copy_from_slice(&checksum_of(checked, contents).to_le_bytes());
        durable::replace(&self.path, &[&header, contents])
            .map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

enum Unusable {
    Newer(u16),
    Damaged(&'static str),
}

fn contents_of(bytes: &[u8]) -> Result<&[u8], Unusable> {
    let Some((header, contents)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(Unusable::Damaged("shorter than its header"));
    };
    let (checked, checksum) = header.split_at(CHECKED_HEADER_BYTES);
    if !header.starts_with(&MAGIC) {
        return Err(Unusable::Damaged("not a ledger"));
    }
    let field = |at: std::ops::Range<usize>| {
        header.get(at).unwrap_or_default().iter().rev().fold(0_u32, |n, b| n << 8 | u32::from(*b))
    };
    let version = field(8..10);
    if version != u32::from(VERSION) {
        return Err(Unusable::Newer(u16::try_from(version).unwrap_or(u16::MAX)));
    }
    if contents.len() as u64 != u64::from(field(12..16)) {
        return Err(Unusable::Damaged("its length is wrong"));
    }
    if checksum != checksum_of(checked, contents).to_le_bytes() {
        return Err(Unusable::Damaged("its checksum is wrong"));
    }
    Ok(contents)
}

fn checksum_of(header: &[u8], contents: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(header);
    checksum.update(contents);
    checksum.finalize()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path().join("desired"));
        (dir, ledger)
    }

    #[test]
    fn what_was_saved_last_is_loaded() {
        let (_dir, ledger) = ledger();
        assert_eq!(ledger.load().unwrap(), None);
        for contents in [&b"one"[..], b"", &[0xff; 100_000]] {
            ledger.save(contents).unwrap();
            assert_eq!(ledger.load().unwrap().as_deref(), Some(contents));
        }
        let mode = std::fs::metadata(ledger.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_reported_once() {
        let (dir, ledger) = ledger();
        for n in 1..=9 {
            ledger.save(b"contents").unwrap();
            let whole = std::fs::read(ledger.path()).unwrap();
            std::fs::write(ledger.path(), &whole[..whole.len() - n % 3 - 1]).unwrap();
            let error = ledger.load().unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            assert_eq!(ledger.load().unwrap(), None);
        }
        let kept = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(kept, CORRUPT_FILES_KEPT_MAX as usize);
    }

    #[test]
    fn a_newer_layout_is_left_alone() {
        let (_dir, ledger) = ledger();
        ledger.save(b"x").unwrap();
        let mut bytes = std::fs::read(ledger.path()).unwrap();
        bytes[8] = 2;
        std::fs::write(ledger.path(), &bytes).unwrap();
        assert!(matches!(ledger.load(), Err(Error::Newer { found: 2, .. })));
        assert_eq!(std::fs::read(ledger.path()).unwrap(), bytes);
    }

    #[test]
    fn a_leftover_of_an_interrupted_save_does_not_matter() {
        let (dir, ledger) = ledger();
        ledger.save(b"old").unwrap();
        std::fs::write(dir.path().join("desired.new"), b"half").unwrap();
        assert_eq!(ledger.load().unwrap().as_deref(), Some(&b"old"[..]));
        assert!(!dir.path().join("desired.new").exists());
    }

    #[test]
    fn a_failed_save_keeps_what_was_there() {
        let (_dir, ledger) = ledger();
        ledger.save(b"old").unwrap();
        let huge = vec![0; CONTENTS_BYTES_MAX + 1];
        assert!(matches!(ledger.save(&huge), Err(Error::TooLarge { .. })));
        assert_eq!(ledger.load().unwrap().as_deref(), Some(&b"old"[..]));
        let nowhere = Ledger::new("/no/such/folder/desired");
        assert!(matches!(nowhere.save(b"x"), Err(Error::Write { .. })));
    }

    proptest! {
        #[test]
        fn any_single_changed_byte_is_noticed(
            contents in prop::collection::vec(any::<u8>(), 0..64),
            place in any::<prop::sample::Index>(),
            change in 1..=255_u8,
        ) {
            let (_dir, ledger) = ledger();
            ledger.save(&contents).unwrap();
            let mut bytes = std::fs::read(ledger.path()).unwrap();
            let place = place.index(bytes.len());
            bytes[place] ^= change;
            std::fs::write(ledger.path(), &bytes).unwrap();
            prop_assert!(ledger.load().is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(contents_of(&bytes).is_err());
        }
    }
}
