//! Putting a backup in place: whole, or not at all.
//!
//! Everything is written into a folder of its own inside the state folder first. One rename makes it count
//! (`restore-new` becomes `restore-ready-TIME`); what is left, moving the old files aside and the new ones in, can be done
//! again from any point, and whoever comes next does it: this process, or the master at its start ([`finish`]).
//! It stays within the state folder because that may be a disk of its own, or a link that systemd made.
//!
//! An etcd is marked as incomplete meanwhile: no master starts on it until a restore has gone through.

use std::{
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use piccolo_core::{
    state_manager::{Restoration, is_restored, keys},
    time::WallTime,
};
use piccolo_store::{Error, Import, Store};
use tokio::runtime::Handle;

use super::{
    ADMIN_CONTEXT, AUTHORITY, CONFIGURATION, RESTORED_CONFIGURATION, SEAL_KEY, STORE,
    create::{Source, private_file, sync_folder_of},
    now_ms, stamp,
    survey::{Files, Survey, verify, walk},
};
use crate::{
    certificate_authority::CertificateAuthority,
    config::{Config, StoreConfig},
    startup,
};

/// The certificate that it serves with.
const SERVER: &str = "server.pem";
const STAGED: &str = "restore-new";
const READY: &str = "restore-ready-";
const PLACING: &str = "restore-placing-";
/// What was there before.
pub(super) const OLD: &str = "before-restore-";
/// Whichever of them is there was used by a master.
const SIGNS_OF_A_MASTER: [&str; 4] = [AUTHORITY, SEAL_KEY, STORE, SERVER];

/// What was done.
#[derive(Debug)]
pub(super) struct Restored {
    /// `None` where there was no backup, only the authority.
    pub(super) survey: Option<Survey>,
    pub(super) old: Option<PathBuf>,
    pub(super) configuration: Option<PathBuf>,
}

/// What to restore.
#[derive(Debug)]
enum From<'a> {
    Backup { file: &'a Path, passphrase: &'a str, survey: Box<Survey> },
    Authority { pem: &'a [u8] },
}

/// Restores a backup. Blocks the thread; the store is written through `runtime`.
///
/// # Errors
/// Where anything speaks against it. Until the last step nothing in use was touched.
pub(super) fn restore(
    config: &Config,
    file: &Path,
    passphrase: &str,
    force: bool,
    runtime: &Handle,
) -> anyhow::Result<Restored> {
    let survey = Box::new(verify(file, passphrase)?);
    put_in_place(config, &From::Backup { file, passphrase, survey }, force, runtime)
}

/// A new master of the cluster that this authority belongs to: it takes its nodes in as they come.
///
/// # Errors
/// As [`restore`].
pub(super) fn rebuild(
    config: &Config,
    authority: &Path,
    force: bool,
    runtime: &Handle,
) -> anyhow::Result<Restored> {
    let pem = fs::read(authority);
    let pem = pem.with_context(|| format!("{} cannot be read", authority.display()))?;
    CertificateAuthority::from_pem(authority, &pem)?;
    put_in_place(config, &From::Authority { pem: &pem }, force, runtime)
}

fn put_in_place(
    config: &Config,
    from: &From<'_>,
    force: bool,
    runtime: &Handle,
) -> anyhow::Result<Restored> {
    let folder = config.state_dir.as_path();
    startup::make_state_dir(folder)?;
    finish(folder).context("an earlier restore cannot be finished")?;
    let _no_master_starts = refuse_running_master(config, runtime)?;
    let used = SIGNS_OF_A_MASTER.iter().find(|name| folder.join(name).exists());
    if let Some(name) = used {
        anyhow::ensure!(
            force,
            "{} is in use by a master (it has {name}); nothing was changed. With --force its content is kept beside \
             the new one, in a folder {OLD}TIME",
            folder.display()
        );
    }
    let at = now_ms();
    let staged = stage(config, from, at, runtime)?;
    let etcd = match &config.store {
        StoreConfig::Embedded => None,
        StoreConfig::Etcd(etcd) => {
            let patience = Some(super::commands::ETCD_WITHIN);
            let store = startup::open_etcd(etcd, folder, true, patience);
            Some(runtime.block_on(store)?)
        }
    };
    if let Some(store) = &etcd {
        let kept = folder.join(format!("{OLD}{}.backup", stamp(at)));
        fill_etcd(config, store, from, at, force.then_some(kept.as_path()), runtime)?;
    }
    let ready = folder.join(format!("{READY}{}", stamp(at)));
    fs::rename(&staged, &ready).context("the restored state cannot be moved into place")?;
    sync_folder_of(&ready)?;
    let old = finish(folder)?;
    if let Some(store) = &etcd {
        let finished = runtime.block_on(Import::resume(store.as_ref()).finish());
        finished
            .context("etcd holds everything, but is still marked; run the same restore again")?;
    }
    let configuration = Some(folder.join(RESTORED_CONFIGURATION)).filter(|path| path.exists());
    let survey = match from {
        From::Backup { survey, .. } => Some(survey.as_ref().clone()),
        From::Authority { .. } => None,
    };
    Ok(Restored { survey, old, configuration })
}

/// A master that runs here holds the port or the store. As long as the port is held, none starts.
fn refuse_running_master(config: &Config, runtime: &Handle) -> anyhow::Result<Option<TcpListener>> {
    const STOP: &str =
        "a master runs here; nothing was changed. Stop it first: systemctl stop piccolo-master";
    let held = match TcpListener::bind(config.listen) {
        Ok(listener) => Some(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            return Err(anyhow::Error::new(error).context(format!("{STOP} ({})", config.listen)));
        }
        // not an address of this machine, or not for us to take
        Err(_) => None,
    };
    let file = config.store_file();
    if file.exists()
        && let Err(error) = runtime.block_on(startup::open_embedded(file, false, true))
        && matches!(error.downcast_ref(), Some(Error::Locked { .. }))
    {
        return Err(error.context(STOP));
    }
    Ok(held)
}

/// Everything that will be in the state folder, durable, in a folder that means nothing yet.
fn stage(config: &Config, from: &From<'_>, at: i64, runtime: &Handle) -> anyhow::Result<PathBuf> {
    discard(&config.state_dir).context("what an earlier restore left cannot be removed")?;
    let staged = config.state_dir.join(STAGED);
    fs::DirBuilder::new().mode(0o700).create(&staged)?;
    match from {
        From::Backup { file, passphrase, .. } => {
            let (_, files) = walk(file, passphrase, |_, _, _| Ok(()))?;
            write_files(config, &staged, &files)?;
        }
        From::Authority { pem } => write(&staged.join(AUTHORITY), pem)?,
    }
    if config.store == StoreConfig::Embedded {
        let store = runtime.block_on(startup::open_embedded(staged.join(STORE), true, true))?;
        fill(&store, from, at, false, runtime)?;
        runtime.block_on(Import::resume(store.as_ref()).finish())?;
        drop(store);
        File::open(staged.join(STORE))?.sync_all()?;
        // the lock of a process that will be gone
        fs::remove_file(staged.join(format!("{STORE}.lock"))).ok();
    }
    give_to_owner(&config.state_dir, &staged)?;
    File::open(&staged)?.sync_all()?;
    Ok(staged)
}

fn write_files(config: &Config, staged: &Path, files: &Files) -> anyhow::Result<()> {
    for (name, content) in files {
        match name.as_str() {
            AUTHORITY | SEAL_KEY => write(&staged.join(name), content)?,
            ADMIN_CONTEXT => {
                let servers = config.servers(config.listen);
                let context = startup::context_for(content, &servers);
                write(&staged.join(name), context.as_deref().unwrap_or(content))?;
            }
            CONFIGURATION => write(&staged.join(RESTORED_CONFIGURATION), content)?,
            // a newer version's, which has decided that we may leave it out: the format is ours
            _ => {}
        }
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let written = private_file(path).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// Root restores for the master's user.
fn give_to_owner(like: &Path, folder: &Path) -> anyhow::Result<()> {
    let owner = fs::metadata(like)?;
    let own = fs::metadata(folder)?;
    if (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    let give = |path: &Path| std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()));
    for entry in fs::read_dir(folder)? {
        give(&entry?.path())?;
    }
    Ok(give(folder)?)
}

fn fill_etcd(
    config: &Config,
    store: &Arc<dyn Store>,
    from: &From<'_>,
    at: i64,
    keep_old_in: Option<&Path>,
    runtime: &Handle,
) -> anyhow::Result<()> {
    let location = runtime.block_on(store.status())?.location;
    let is_marked = runtime.block_on(piccolo_store::is_incomplete(store.as_ref()))?;
    let range = piccolo_store::Range { limit: 1, ..piccolo_store::Range::prefix(keys::ROOT) };
    let is_empty = runtime.block_on(store.range(&range))?.items.is_empty();
    if !is_empty && !is_marked {
        let kept = keep_old_in.with_context(|| {
            format!(
                "etcd at {location} holds a cluster; nothing was changed. With --force a backup of it is made first"
            )
        })?;
        let passphrase = match from {
            From::Backup { passphrase, .. } => passphrase,
            From::Authority { .. } => anyhow::bail!(
                "etcd at {location} holds a cluster; nothing was changed. Make a backup of it (piccolo backup create), \
                 and empty it by hand"
            ),
        };
        let source = Source {
            store: Arc::clone(store),
            state_dir: config.state_dir.clone(),
            configuration: config.written.clone(),
            at_ms: at,
            host: startup::host_name(),
        };
        source.write(kept, passphrase, runtime).context("what etcd holds cannot be kept")?;
    }
    fill(store, from, at, true, runtime)
}

/// The store is marked as incomplete afterwards.
fn fill(
    store: &Arc<dyn Store>,
    from: &From<'_>,
    at: i64,
    replace: bool,
    runtime: &Handle,
) -> anyhow::Result<()> {
    let origin = match from {
        From::Backup { file, .. } => file.display().to_string(),
        From::Authority { .. } => "a certificate authority".to_owned(),
    };
    let mut import = runtime.block_on(Import::begin(store.as_ref(), &origin, replace))?;
    let mut added = 1;
    let restoration = match from {
        From::Authority { .. } => Restoration::from_authority(WallTime(at)),
        From::Backup { file, passphrase, .. } => {
            let mut last = None;
            let (manifest, _) = walk(file, passphrase, |_, key, value| {
                if key == keys::RESTORATION {
                    last = Some(keys::decode::<Restoration>(&key, &value)?);
                }
                if is_restored(&key) {
                    added += 1;
                    runtime.block_on(import.add(key, value.to_vec()))?;
                }
                Ok(())
            })?;
            let made = WallTime(manifest.created_at_ms);
            Restoration::from_backup(made, WallTime(at), last)
        }
    };
    let record = keys::encode(&restoration);
    runtime.block_on(import.add(keys::RESTORATION.to_owned(), record))?;
    runtime.block_on(import.flush())?;
    let (stored, _) = runtime.block_on(piccolo_store::list(store.as_ref(), keys::ROOT))?;
    anyhow::ensure!(
        stored.len() == added,
        "the store has {} keys of {added} after it was written; run the same restore again",
        stored.len()
    );
    Ok(())
}

/// Does what is left of a restore that has come to count; returns where the old state is.
///
/// # Errors
/// Where a file cannot be moved; the next call goes on.
pub(crate) fn finish(folder: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut kept = None;
    if let Some((ready, time)) = find(folder, READY)? {
        let old = folder.join(format!("{OLD}{time}"));
        for entry in entries(folder)? {
            if !is_state(&entry) {
                continue;
            }
            if !old.exists() {
                fs::DirBuilder::new().mode(0o700).create(&old)?;
            }
            fs::rename(folder.join(&entry), old.join(&entry))?;
        }
        if old.exists() {
            File::open(&old)?.sync_all()?;
            kept = Some(old);
        }
        // from here on what is in the folder is new
        let placing = folder.join(format!("{PLACING}{time}"));
        fs::rename(&ready, &placing)?;
        sync_folder_of(&placing)?;
    }
    if let Some((placing, _)) = find(folder, PLACING)? {
        for entry in entries(&placing)? {
            fs::rename(placing.join(&entry), folder.join(&entry))?;
        }
        File::open(folder)?.sync_all()?;
        fs::remove_dir(&placing)?;
        sync_folder_of(&placing)?;
    }
    Ok(kept)
}

/// Removes what a restore that was killed before it came to count has left, keys among it. None must run.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn discard(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder.join(STAGED)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// What else lies in the folder, such as older backups and their passphrase, stays where it is.
fn is_state(name: &str) -> bool {
    let files = [AUTHORITY, SEAL_KEY, ADMIN_CONTEXT, SERVER, RESTORED_CONFIGURATION];
    // with its log and its lock
    files.contains(&name) || name.starts_with(STORE)
}

/// The folder whose name begins so, and the rest of its name.
fn find(folder: &Path, prefix: &str) -> std::io::Result<Option<(PathBuf, String)>> {
    let found = entries(folder)?.into_iter().find_map(|name| {
        let rest = name.strip_prefix(prefix)?.to_owned();
        Some((folder.join(name), rest))
    });
    Ok(found)
}

fn entries(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        entries(folder).unwrap()
    }

    /// The steps of [`finish`], one at a time, as a process that is killed after each would leave them.
    #[test]
    fn whatever_a_killed_restore_leaves_the_next_one_finishes() {
        let old =
            ["admin.context.yaml", "ca.pem", "seal.key", "server.pem", "store.db", "store.db-wal"];
        let new = ["ca.pem", "seal.key", "store.db"];
        for killed_after in 0..=old.len() + 1 + new.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            let ready = path.join("restore-ready-20260101T000000Z");
            fs::create_dir(&ready).unwrap();
            for name in old {
                fs::write(path.join(name), "old").unwrap();
            }
            fs::write(path.join("backup.passphrase"), "stays").unwrap();
            for name in new {
                fs::write(ready.join(name), "new").unwrap();
            }
            let kept = path.join("before-restore-20260101T000000Z");
            let placing = path.join("restore-placing-20260101T000000Z");
            for step in 0..killed_after {
                if let Some(name) = old.get(step) {
                    fs::create_dir_all(&kept).unwrap();
                    fs::rename(path.join(name), kept.join(name)).unwrap();
                } else if step == old.len() {
                    fs::rename(&ready, &placing).unwrap();
                } else {
                    let name = new[step - old.len() - 1];
                    fs::rename(placing.join(name), path.join(name)).unwrap();
                }
            }
            finish(path).unwrap();
            let expected = [
                "backup.passphrase",
                "before-restore-20260101T000000Z",
                "ca.pem",
                "seal.key",
                "store.db",
            ];
            assert_eq!(names(path), expected, "killed after {killed_after}");
            assert_eq!(names(&kept), old);
            for name in new {
                assert_eq!(fs::read_to_string(path.join(name)).unwrap(), "new");
            }
            assert_eq!(finish(path).unwrap(), None, "there is nothing left to do");
        }
    }

    #[test]
    fn what_was_only_staged_means_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), "old").unwrap();
        fs::create_dir(folder.path().join(STAGED)).unwrap();
        fs::write(folder.path().join(STAGED).join("ca.pem"), "new").unwrap();
        assert_eq!(finish(folder.path()).unwrap(), None);
        assert_eq!(fs::read_to_string(folder.path().join("ca.pem")).unwrap(), "old");
        for _ in 0..2 {
            discard(folder.path()).unwrap();
            assert_eq!(names(folder.path()), ["ca.pem"]);
        }
    }
}
