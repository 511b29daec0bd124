//! Making a backup: every key at one revision, page by page, and the files beside them.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use piccolo_store::{Error, ROOT, Range, Store};
use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::{
    ADMIN_CONTEXT, AUTHORITY, CONFIGURATION, SEAL_KEY, parse_stamp,
    records::{End, FORMAT, Manifest, RecordWriter},
    stamp,
};
use crate::certificate_authority::CertificateAuthority;

/// How often reading is begun anew where the history that is read was compacted meanwhile.
const RESTARTS_MAX: usize = 8;

/// What a backup is made of.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state_dir: PathBuf,
    /// The settings in force, as YAML.
    pub(crate) configuration: String,
    /// When it is made; whatever happens from now on need not be in it.
    pub(crate) at_ms: i64,
    pub(crate) host: String,
}

/// Name and content.
type NamedFile = (&'static str, Zeroizing<Vec<u8>>);

/// A backup that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) revision: u64,
    pub(crate) items: u64,
}

impl Source {
    /// Writes it to `out`, or into that folder under a name of its own. Blocks the thread, for
    /// [`tokio::task::spawn_blocking`]; the store is read through `runtime`.
    ///
    /// # Errors
    /// Where something cannot be read or written; a half of a backup is not left behind.
    pub(crate) fn write(
        &self,
        out: &Path,
        passphrase: &str,
        runtime: &Handle,
    ) -> anyhow::Result<Made> {
        let files = self.files()?;
        let cluster = self.cluster(&files)?;
        let path =
            if out.is_dir() { out.join(file_name(&cluster, self.at_ms)) } else { out.into() };
        anyhow::ensure!(
            !path.exists(),
            "{} is there already; nothing was written. Give another --out",
            path.display()
        );
        let unfinished = beside(&path);
        let mut restarts = 0;
        let written = loop {
            match self.attempt(&unfinished, passphrase, &cluster, &files, runtime) {
                Err(error) if was_compacted(&error) && restarts < RESTARTS_MAX => restarts += 1,
                other => break other,
            }
        };
        let (bytes, revision, End { items, .. }) = written.inspect_err(|_| {
            // it cannot be opened, and only takes room
            std::fs::remove_file(&unfinished).ok();
        })?;
        let named = std::fs::rename(&unfinished, &path).and_then(|()| sync_folder_of(&path));
        named.with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Made { path, bytes, revision, items })
    }

    /// Names and contents, the authority's first.
    fn files(&self) -> anyhow::Result<Vec<NamedFile>> {
        let mut files = Vec::new();
        for (name, needed) in [(AUTHORITY, true), (SEAL_KEY, true), (ADMIN_CONTEXT, false)] {
            let path = self.state_dir.join(name);
            match std::fs::read(&path) {
                Ok(content) => files.push((name, Zeroizing::new(content))),
                Err(error) if !needed && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!(
                        "{} cannot be read; is this the master's machine, and are you its user or root?",
                        path.display()
                    );
                    return Err(anyhow::Error::new(error).context(what));
                }
            }
        }
        files.push((CONFIGURATION, Zeroizing::new(self.configuration.clone().into_bytes())));
        Ok(files)
    }

    fn cluster(&self, files: &[NamedFile]) -> anyhow::Result<String> {
        let pem = files.iter().find(|(name, _)| *name == AUTHORITY).map(|(_, pem)| pem);
        let path = self.state_dir.join(AUTHORITY);
        let authority = CertificateAuthority::from_pem(&path, pem.map_or(&[], |pem| pem))?;
        Ok(authority.cluster_id().to_owned())
    }

    fn attempt(
        &self,
        path: &Path,
        passphrase: &str,
        cluster: &str,
        files: &[NamedFile],
        runtime: &Handle,
    ) -> anyhow::Result<(u64, u64, End)> {
        let unwritable = || format!("{} cannot be written", path.display());
        let file = private_file(path).with_context(unwritable)?;
        // held until it is whole: a half that nobody holds was left by somebody who was killed. A file system without
        // locks keeps what is left
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok();
        let file = BufWriter::new(file);
        let mut range = Range::prefix(ROOT);
        let mut page = runtime.block_on(self.store.range(&range))?;
        let revision = page.revision;
        let manifest = Manifest {
            format: FORMAT,
            cluster_id: cluster.to_owned(),
            created_at_ms: self.at_ms,
            revision,
            store: runtime.block_on(self.store.status())?.kind.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
        };
        let mut records =
            RecordWriter::new(file, passphrase, &manifest).with_context(unwritable)?;
        for (name, content) in files {
            records.file(name, content).with_context(unwritable)?;
        }
        loop {
            // what belongs to a lease ends with its owner
            for item in page.items.iter().filter(|item| item.lease.is_none()) {
                records.item(&item.key, &item.value).with_context(unwritable)?;
            }
            let Some(next) = page.next else { break };
            range.start = Some(next);
            range.revision = Some(revision);
            page = runtime.block_on(self.store.range(&range))?;
        }
        let (mut file, end) = records.finish().with_context(unwritable)?;
        file.flush().with_context(unwritable)?;
        let file = file.get_ref();
        file.sync_all().with_context(unwritable)?;
        Ok((file.metadata().with_context(unwritable)?.len(), revision, end))
    }
}

/// At the end of its name while it is written.
const HALF: &str = ".new";

/// What a backup is called where nobody chose a name; sorted by time within a cluster.
fn file_name(cluster: &str, at_ms: i64) -> String {
    format!("{}{}.backup", file_prefix(cluster), stamp(at_ms))
}

/// When the master made it, by a name of its own; milliseconds since 1970.
pub(super) fn made_at(file_name: &str, cluster: &str) -> Option<i64> {
    parse_stamp(file_name.strip_prefix(&file_prefix(cluster))?.strip_suffix(".backup")?)
}

fn file_prefix(cluster: &str) -> String {
    format!("piccolo-{cluster}-")
}

fn was_compacted(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Compacted { .. }))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(HALF);
    path.with_file_name(name)
}

/// Removes what killed backups of this cluster have left half written, under names of the master's own.
pub(super) fn remove_halves(folder: &Path, cluster: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let whole = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(HALF));
        if whole.and_then(|name| made_at(name, cluster)).is_none() {
            continue;
        }
        let half = File::open(entry.path())?;
        if flock(&half, FlockOperation::NonBlockingLockExclusive).is_ok() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Mode 0600 from its first byte.
pub(super) fn private_file(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
