//! What a backup holds, and whether a master could start with it.

use std::{collections::BTreeMap, fs::File, io::BufReader, path::Path};

use anyhow::Context as _;
use piccolo_core::{
    model::{AuditEnds, AuditEntry, NodeName, verify_chain},
    state_manager::{Snapshot, keys},
    topology::TopologyRecord,
};
use piccolo_store::KeyRing;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    AUTHORITY, SEAL_KEY,
    records::{Manifest, Record, RecordReader},
};
use crate::certificate_authority::CertificateAuthority;

/// What a backup holds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Survey {
    pub(super) file: String,
    pub(super) size_bytes: u64,
    pub(super) format: u32,
    pub(super) cluster_id: String,
    pub(super) cluster_name: String,
    pub(super) created_at: String,
    pub(super) revision: u64,
    pub(super) generation: u64,
    /// Of PICCOLO.
    pub(super) version: String,
    pub(super) store: String,
    pub(super) host: String,
    pub(super) files: Vec<String>,
    pub(super) keys: u64,
    pub(super) nodes: u64,
    pub(super) users: u64,
    pub(super) tokens: u64,
    pub(super) events: u64,
    pub(super) audit_entries: u64,
}

/// Files by name.
pub(super) type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Reads a backup from end to end; `each` sees every key, after all files.
pub(super) fn walk(
    path: &Path,
    passphrase: &str,
    mut each: impl FnMut(&Files, String, Zeroizing<Vec<u8>>) -> anyhow::Result<()>,
) -> anyhow::Result<(Manifest, Files)> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let unusable = || format!("{} cannot be used", path.display());
    let mut records = RecordReader::new(BufReader::new(file), passphrase).with_context(unusable)?;
    let (mut manifest, mut files) = (None, Files::new());
    while let Some(record) = records.next().with_context(unusable)? {
        match record {
            Record::Manifest(found) => manifest = Some(found),
            Record::File { name, content } => drop(files.insert(name, content)),
            Record::Item { key, value } => each(&files, key, value)?,
            Record::End => {}
        }
    }
    let manifest = manifest.with_context(|| format!("{} is empty", path.display()))?;
    Ok((manifest, files))
}

/// What it holds; says nothing about whether that fits together.
pub(super) fn inspect(path: &Path, passphrase: &str) -> anyhow::Result<Survey> {
    let mut counts = Counts::default();
    let (manifest, files) = walk(path, passphrase, |_, key, value| {
        counts.add(&key, &value);
        Ok(())
    })?;
    counts.survey(path, manifest, &files)
}

/// The same, and an error where a master could not start with it.
pub(super) fn verify(path: &Path, passphrase: &str) -> anyhow::Result<Survey> {
    let (mut counts, mut state) = (Counts::default(), State::default());
    let (manifest, files) = walk(path, passphrase, |files, key, value| {
        counts.add(&key, &value);
        state.add(files, &key, &value)
    })?;
    let unfit = || format!("{} is whole, but a master could not start with it", path.display());
    state.check(&manifest, &files).with_context(unfit)?;
    counts.survey(path, manifest, &files)
}

#[derive(Debug, Default)]
struct Counts {
    keys: u64,
    nodes: u64,
    users: u64,
    tokens: u64,
    events: u64,
    audit: u64,
    topology: Option<TopologyRecord>,
}

impl Counts {
    fn add(&mut self, key: &str, value: &[u8]) {
        self.keys += 1;
        for (prefix, count) in [
            (keys::NODES, &mut self.nodes),
            (keys::USERS, &mut self.users),
            (keys::TOKENS, &mut self.tokens),
            (keys::EVENTS, &mut self.events),
            (keys::AUDIT, &mut self.audit),
        ] {
            *count += u64::from(key.starts_with(prefix));
        }
        if key == keys::TOPOLOGY {
            self.topology = keys::decode(key, value).ok();
        }
    }

    fn survey(self, path: &Path, manifest: Manifest, files: &Files) -> anyhow::Result<Survey> {
        let topology = self.topology.as_ref();
        Ok(Survey {
            file: path.display().to_string(),
            size_bytes: std::fs::metadata(path)?.len(),
            format: manifest.format,
            cluster_id: manifest.cluster_id,
            cluster_name: topology.map(|t| t.name.to_string()).unwrap_or_default(),
            created_at: rfc3339(manifest.created_at_ms),
            revision: manifest.revision,
            generation: topology.map_or(0, |t| t.generation),
            version: manifest.version,
            store: manifest.store,
            host: manifest.host,
            files: files.keys().cloned().collect(),
            keys: self.keys,
            nodes: self.nodes,
            users: self.users,
            tokens: self.tokens,
            events: self.events,
            audit_entries: self.audit,
        })
    }
}

/// The state, read as a master reads it when it starts.
#[derive(Default)]
struct State {
    ring: Option<KeyRing>,
    snapshot: Option<Snapshot>,
    before: Option<AuditEntry>,
    first: u64,
    ends: Option<AuditEnds>,
}

impl State {
    fn add(&mut self, files: &Files, key: &str, value: &[u8]) -> anyhow::Result<()> {
        let snapshot = match &mut self.snapshot {
            Some(snapshot) => snapshot,
            None => {
                let name = NodeName::parse("cluster_name", "piccolo")?;
                self.snapshot.insert(Snapshot::empty("", name))
            }
        };
        if !key.starts_with(keys::SEALED) {
            snapshot.add(key, value)?;
            return if key.starts_with(keys::AUDIT) { self.link(key, value) } else { Ok(()) };
        }
        let ring = match &self.ring {
            Some(ring) => ring,
            None => self.ring.insert(seal_keys(files)?),
        };
        let secret = Zeroizing::new(ring.open(key, value)?);
        if key == keys::AUDIT_ENDS {
            self.ends = Some(keys::decode(key, &secret)?);
        }
        Ok(snapshot.add(key, &secret)?)
    }

    /// The audit log is intact as far as it is there.
    fn link(&mut self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        let entry: AuditEntry = keys::decode(key, value)?;
        verify_chain(self.before.iter().chain([&entry]))?;
        if self.first == 0 {
            self.first = entry.id;
        }
        self.before = Some(entry);
        Ok(())
    }

    fn check(&self, manifest: &Manifest, files: &Files) -> anyhow::Result<()> {
        let pem = files.get(AUTHORITY).with_context(|| format!("it has no {AUTHORITY}"))?;
        let authority = CertificateAuthority::from_pem(Path::new(AUTHORITY), pem)?;
        seal_keys(files)?;
        let snapshot = self.snapshot.as_ref().context("it holds no state")?;
        for cluster in [snapshot.cluster(), &manifest.cluster_id] {
            anyhow::ensure!(
                cluster == authority.cluster_id(),
                "its state is of cluster {cluster}, its certificate authority of cluster {}",
                authority.cluster_id()
            );
        }
        let Some(ends) = &self.ends else { return Ok(()) };
        let last = self.before.as_ref().map(|entry| (entry.id, entry.hash.as_str()));
        let recorded = (ends.last > 0).then_some((ends.last, ends.last_hash.as_str()));
        // what is retired a transaction late may still be there
        anyhow::ensure!(
            last == recorded && (last.is_none() || self.first <= ends.first),
            "entries of its audit log were cut off: it ends at {}, and was written up to {}",
            last.map_or(0, |(id, _)| id),
            ends.last
        );
        Ok(())
    }
}

fn seal_keys(files: &Files) -> anyhow::Result<KeyRing> {
    let text = files.get(SEAL_KEY).with_context(|| format!("it has no {SEAL_KEY}"))?;
    let text = std::str::from_utf8(text).with_context(|| format!("its {SEAL_KEY} is no text"))?;
    Ok(KeyRing::from_text(Path::new(SEAL_KEY), text)?)
}

/// `2026-11-25T21:15:00Z`.
pub(super) fn rfc3339(ms: i64) -> String {
    let stamp = super::stamp(ms);
    let part = |from: usize, to: usize| stamp.get(from..to).unwrap_or("?");
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    )
}
