//! What is inside the seal: records, each a kind, a length and its content.
//!
//! ```text
//! manifest, file..., item..., end
//! ```
//!
//! The manifest says what this is a backup of; the end says how many files and items must have come before it. Both
//! are JSON, so that fields can be added. The format is raised where an older PICCOLO would restore something wrong.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::sealing::{OpenError, Opener, Sealer};

/// Of the records.
pub(super) const FORMAT: u32 = 1;
/// Bytes of one record at most: a value of the store takes 512 KiB.
const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) cluster_id: String,
    pub(super) created_at_ms: i64,
    /// Of the store: everything is as it was at this one.
    pub(super) revision: u64,
    pub(super) store: String,
    pub(super) version: String,
    pub(super) host: String,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) files: u64,
    pub(super) items: u64,
}

/// One record. Wiped from memory afterwards: most are secret.
#[derive(Debug)]
pub(super) enum Record {
    Manifest(Manifest),
    File { name: String, content: Zeroizing<Vec<u8>> },
    Item { key: String, value: Zeroizing<Vec<u8>> },
    End,
}

/// Why what was sealed is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "the backup has format {found}, this version understands up to {FORMAT}; use the newer version that made it"
    )]
    NewerFormat { found: u32 },
    #[error("the backup cannot be understood: {0}")]
    Odd(&'static str),
}

const MANIFEST: u8 = 1;
const FILE: u8 = 2;
const ITEM: u8 = 3;
const END: u8 = 4;

/// Writes records in order, and counts.
pub(super) struct RecordWriter<W: Write> {
    sealer: Sealer<W>,
    end: End,
}

impl<W: Write> RecordWriter<W> {
    pub(super) fn new(out: W, passphrase: &str, manifest: &Manifest) -> std::io::Result<Self> {
        let mut writer = Self { sealer: Sealer::new(out, passphrase)?, end: End::default() };
        writer.put(MANIFEST, &[&serde_json::to_vec(manifest)?])?;
        Ok(writer)
    }

    pub(super) fn file(&mut self, name: &str, content: &[u8]) -> std::io::Result<()> {
        self.end.files += 1;
        self.named(FILE, name, content)
    }

    pub(super) fn item(&mut self, key: &str, value: &[u8]) -> std::io::Result<()> {
        self.end.items += 1;
        self.named(ITEM, key, value)
    }

    pub(super) fn finish(mut self) -> std::io::Result<(W, End)> {
        let end = self.end;
        self.put(END, &[&serde_json::to_vec(&end)?])?;
        Ok((self.sealer.finish()?, end))
    }

    fn named(&mut self, kind: u8, name: &str, content: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(name.len()).map_err(std::io::Error::other)?;
        self.put(kind, &[&length.to_be_bytes(), name.as_bytes(), content])
    }

    fn put(&mut self, kind: u8, parts: &[&[u8]]) -> std::io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > RECORD_BYTES_MAX {
            let problem = format!("a record of {length} bytes, the limit is {RECORD_BYTES_MAX}");
            return Err(std::io::Error::other(problem));
        }
        self.sealer.write_all(&[kind])?;
        let length = u32::try_from(length).map_err(std::io::Error::other)?;
        self.sealer.write_all(&length.to_be_bytes())?;
        parts.iter().try_for_each(|part| self.sealer.write_all(part))
    }
}

/// Reads records in order; their order and number are checked.
pub(super) struct RecordReader<R> {
    opener: Opener<R>,
    seen: End,
    manifest: bool,
    ended: bool,
}

impl<R: Read> RecordReader<R> {
    pub(super) fn new(input: R, passphrase: &str) -> Result<Self, RecordError> {
        let opener = Opener::new(input, passphrase)?;
        Ok(Self { opener, seen: End::default(), manifest: false, ended: false })
    }

    /// `None` after the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, RecordError> {
        let mut head = [0; 5];
        if !self.opener.take(&mut head)? {
            return if self.ended { Ok(None) } else { Err(RecordError::Odd("it has no end")) };
        }
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > RECORD_BYTES_MAX || self.ended || (kind == MANIFEST) == self.manifest {
            return Err(RecordError::Odd("its records are not in order"));
        }
        let mut content = Zeroizing::new(vec![0; length]);
        if length > 0 && !self.opener.take(&mut content)? {
            return Err(RecordError::Odd("its last record is not whole"));
        }
        self.record(kind, content).map(Some)
    }

    fn record(&mut self, kind: u8, content: Zeroizing<Vec<u8>>) -> Result<Record, RecordError> {
        match kind {
            MANIFEST => {
                self.manifest = true;
                let found: Format = json(&content)?;
                if found.format > FORMAT {
                    return Err(RecordError::NewerFormat { found: found.format });
                }
                Ok(Record::Manifest(json(&content)?))
            }
            FILE => {
                self.seen.files += 1;
                let (name, content) = named(&content)?;
                Ok(Record::File { name, content })
            }
            ITEM => {
                self.seen.items += 1;
                let (key, value) = named(&content)?;
                Ok(Record::Item { key, value })
            }
            END => {
                let end: End = json(&content)?;
                if end != self.seen {
                    return Err(RecordError::Odd(
                        "it holds another number of records than it says",
                    ));
                }
                self.ended = true;
                Ok(Record::End)
            }
            _ => Err(RecordError::Odd("it has a kind of record that is not known")),
        }
    }
}

/// What every manifest has, also a newer one.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn json<T: DeserializeOwned>(content: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(content).map_err(|_| RecordError::Odd("a record is not as it must be"))
}

fn named(content: &[u8]) -> Result<(String, Zeroizing<Vec<u8>>), RecordError> {
    let odd = || RecordError::Odd("a name is not as it must be");
    let (length, rest) = content.split_at_checked(4).ok_or_else(odd)?;
    let length = u32::from_be_bytes(length.try_into().map_err(|_| odd())?) as usize;
    let (name, content) = rest.split_at_checked(length).ok_or_else(odd)?;
    let name = String::from_utf8(name.to_vec()).map_err(|_| odd())?;
    Ok((name, Zeroizing::new(content.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(format: u32) -> Manifest {
        Manifest {
            format,
            cluster_id: "c1".to_owned(),
            created_at_ms: 1,
            revision: 2,
            store: "embedded".to_owned(),
            version: "0.1.0".to_owned(),
            host: "host".to_owned(),
        }
    }

    fn all(file: &[u8]) -> Result<Vec<String>, RecordError> {
        let mut reader = RecordReader::new(file, "passphrase")?;
        let mut found = Vec::new();
        while let Some(record) = reader.next()? {
            found.push(match record {
                Record::Manifest(manifest) => manifest.cluster_id,
                Record::File { name, content } => format!("{name}={}", content.len()),
                Record::Item { key, value } => format!("{key}={}", value.len()),
                Record::End => format!("{} {}", reader.seen.files, reader.seen.items),
            });
        }
        Ok(found)
    }

    #[test]
    fn records_come_back_in_their_order() {
        let mut writer = RecordWriter::new(Vec::new(), "passphrase", &manifest(FORMAT)).unwrap();
        writer.file("ca.pem", b"secret").unwrap();
        writer.item("/piccolo/v1/a", &vec![1; 500_000]).unwrap();
        writer.item("/piccolo/v1/b", b"").unwrap();
        let (file, _) = writer.finish().unwrap();
        let expected = ["c1", "ca.pem=6", "/piccolo/v1/a=500000", "/piccolo/v1/b=0", "1 2"];
        assert_eq!(all(&file).unwrap(), expected);
    }

    #[test]
    fn a_newer_format_is_named_and_a_backup_without_end_is_none() {
        let writer = RecordWriter::new(Vec::new(), "passphrase", &manifest(FORMAT + 1)).unwrap();
        let (file, _) = writer.finish().unwrap();
        assert!(matches!(all(&file), Err(RecordError::NewerFormat { found: 2 })));
        let writer = RecordWriter::new(Vec::new(), "passphrase", &manifest(FORMAT)).unwrap();
        let file = writer.sealer.finish().unwrap();
        assert!(all(&file).unwrap_err().to_string().ends_with("it has no end"));
    }
}
