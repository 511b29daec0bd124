//! What the ledger and the journal share: files that a power cut never leaves half written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Only the agent's user may read what it keeps.
pub(crate) const FILE_MODE: u32 = 0o600;

/// Replaces `path` by `contents` so that after a crash either the old or the new one is there:
/// a file beside it is written and synced, renamed over it, and the folder is synced.
pub(crate) fn replace(path: &Path, contents: &[&[u8]]) -> io::Result<()> {
    let beside = beside(path);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&beside)?;
    for part in contents {
        file.write_all(part)?;
    }
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_folder_of(path)
}

/// Removes what an interrupted [`replace`] left behind.
pub(crate) fn remove_leftover(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(beside(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a created, renamed or removed name durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Renames a file that cannot be used to `NAME.corrupt-N`, so that somebody may look at it. Keeps
/// at most `kept_max` of them; the last one is replaced then.
pub(crate) fn set_aside(path: &Path, kept_max: u32) -> io::Result<PathBuf> {
    let name = |n: u32| with_suffix(path, &format!(".corrupt-{n}"));
    let free = (1..kept_max).map(name).find(|path| !path.exists());
    let kept = free.unwrap_or_else(|| name(kept_max));
    std::fs::rename(path, &kept)?;
    sync_folder_of(path)?;
    Ok(kept)
}

fn beside(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
