//! The file: made whole or not at all, locked, checked from end to end before it is used, never
//! repaired in silence.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Seek, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::FlockOperation;

use crate::{EmbeddedOptions, Error, Result};

/// "PICO": tells our files from other SQLite databases (`PRAGMA application_id`).
const APPLICATION_ID: i32 = 0x5049_434f;
/// Format of the tables (`PRAGMA user_version`). A change needs a step in `upgrade` here and an
/// ADR.
const FORMAT: i32 = 1;
/// KiB of SQLite's page cache.
const CACHE_KIB: i32 = 256;
/// Pages (4 KiB) of write-ahead log after which it is written back to the file.
const CHECKPOINT_PAGES: i32 = 256;
/// Bytes the write-ahead log is cut to after a large one.
const WAL_BYTES_KEPT: i32 = 1024 * 1024;
/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

const SCHEMA: &str = "
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        value BLOB,
        create_revision INTEGER NOT NULL,
        version INTEGER NOT NULL,
        lease INTEGER,
        crc INTEGER NOT NULL
    );
    CREATE INDEX history_by_key ON history (key);
    CREATE INDEX history_by_lease ON history (lease) WHERE lease IS NOT NULL;
    CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl_s INTEGER NOT NULL);
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        instance TEXT NOT NULL,
        revision_floor INTEGER NOT NULL,
        compact_revision INTEGER NOT NULL
    );
";

/// An open, checked file and the lock that keeps other processes away from it.
#[derive(Debug)]
pub(super) struct StoreFile {
    // Dropped in this order: the lock goes when the file is closed.
    pub(super) connection: Connection,
    /// None where it is only read, beside the master that holds it.
    _lock: Option<Lock>,
}

/// A lock that ends when this is dropped, even if a child process that is just being started
/// (between fork and exec) still has the same open file.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Should it fail, the lock ends with the last copy of the file.
        rustix::fs::flock(&self.0, FlockOperation::Unlock).ok();
    }
}

/// Locks, makes if wanted, opens and checks the file.
pub(super) fn open(options: &EmbeddedOptions) -> Result<StoreFile> {
    let path = options.path.as_path();
    if options.beside_master {
        return open_beside_master(path, options);
    }
    let lock = lock(path)?;
    let exists = path.try_exists().map_err(|e| Error::io("look for", path, e))?;
    if !exists {
        refuse_orphaned_log(path)?;
        if !options.create {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Error::io("open the store", path, missing));
        }
        make(path)?;
    }
    check_header(path)?;
    tighten_mode(path)?;
    let connection = connect(path, options)?;
    check(&connection, path)?;
    Ok(StoreFile { connection, _lock: Some(lock) })
}

/// Everything is seen as it was at this moment, whatever the master writes meanwhile. Nothing is changed.
fn open_beside_master(path: &Path, options: &EmbeddedOptions) -> Result<StoreFile> {
    check_header(path)?;
    let sql = |e: rusqlite::Error| explain(path, &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    connection.busy_timeout(options.busy_wait).map_err(sql)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(sql)?;
    connection.set_prepared_statement_cache_capacity(16);
    connection.execute_batch("BEGIN").map_err(sql)?;
    // the first read is what the transaction sees from then on
    check(&connection, path)?;
    Ok(StoreFile { connection, _lock: None })
}

/// What to tell of an error of SQLite.
pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let store = path.display().to_string();
    let cause = error.to_string();
    let Some(code) = error.sqlite_error_code() else { return damaged(path, cause) };
    let is = |codes: &[ErrorCode]| codes.contains(&code);
    if is(&[ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked]) {
        Error::Unavailable { store, cause: format!("another program holds its lock ({cause})") }
    } else if is(&[ErrorCode::DiskFull]) {
        Error::Full { store, problem: cause }
    } else if is(&[ErrorCode::ReadOnly, ErrorCode::PermissionDenied]) {
        Error::Denied { problem: format!("{store}: {cause}") }
    } else if is(&[
        ErrorCode::CannotOpen,
        ErrorCode::SystemIoFailure,
        ErrorCode::FileLockingProtocolFailed,
        ErrorCode::NoLargeFileSupport,
        ErrorCode::OutOfMemory,
    ]) {
        Error::io("use the store", path, std::io::Error::other(cause))
    } else {
        // The file is damaged, or not what we think it is: stop, touch nothing.
        damaged(path, cause)
    }
}

/// The error for a file that cannot be trusted, with what to do about it.
pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Error {
    Error::Corrupt {
        what: path.display().to_string(),
        problem: problem.into(),
        remedy: "nothing was changed. stop the master and put a backup of this file in its place; or move it away, \
                 with its -wal file, to start empty: then nodes, topology, tokens, events and audit log are lost \
                 and every node has to join again"
            .to_owned(),
    }
}

/// Makes an empty file that only we may read; refuses one that is there.
pub(super) fn new_private_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::io("create", path, e))
}

/// Makes sure that a file and its name are on disk.
pub(super) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", path, e))?;
    sync_folder(path)
}

fn lock(path: &Path) -> Result<Lock> {
    let lock_path = beside(path, ".lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|e| Error::io("open the lock file", &lock_path, e))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            lock.read_to_string(&mut pid).ok();
            let holder = match pid.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(Error::Locked { path: path.to_owned(), holder });
        }
        Err(e) => return Err(Error::io("lock", &lock_path, e.into())),
    }
    // Only for the message above; the lock itself is the kernel's and ends with the process.
    let note = lock
        .rewind()
        .and_then(|()| lock.set_len(0))
        .and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()));
    note.map_err(|e| Error::io("write the lock file", &lock_path, e))?;
    Ok(Lock(lock))
}

/// Makes the file beside its place and moves it there, so that no power cut leaves half a store.
fn make(path: &Path) -> Result<()> {
    let new = beside(path, ".new");
    for leftover in
        [new.clone(), beside(&new, "-wal"), beside(&new, "-shm"), beside(&new, "-journal")]
    {
        match fs::remove_file(&leftover) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", leftover, e)),
        }
    }
    let file = new_private_file(&new)?;
    let mut instance = [0; 8];
    getrandom::fill(&mut instance).map_err(|e| {
        Error::io("get random numbers for", path, std::io::Error::other(e.to_string()))
    })?;
    fill(&new, u64::from_ne_bytes(instance)).map_err(|e| explain(&new, &e))?;
    file.sync_all().map_err(|e| Error::io("sync", &new, e))?;
    fs::rename(&new, path).map_err(|e| Error::io("rename to", path, e))?;
    sync_folder(path)
}

fn fill(new: &Path, instance: u64) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    connection.execute_batch(SCHEMA)?;
    connection.execute("INSERT INTO meta VALUES (1, ?1, 1, 0)", [format!("{instance:016x}")])?;
    // Closing writes the log back and removes it, so that one file holds everything.
    connection.close().map_err(|(_, error)| error)
}

fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", folder, e))
}

fn refuse_orphaned_log(path: &Path) -> Result<()> {
    let log = beside(path, "-wal");
    if log.try_exists().map_err(|e| Error::io("look for", &log, e))? {
        return Err(damaged(
            path,
            format!("it is missing, but its write-ahead log {} is there", log.display()),
        ));
    }
    Ok(())
}

/// Looks at the first bytes without SQLite, which would write to a file of somebody else.
fn check_header(path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let length = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    if length < PAGE_BYTES {
        return Err(damaged(path, format!("it has only {length} bytes")));
    }
    let mut header = [0; 100];
    file.read_exact(&mut header).map_err(|e| Error::io("read", path, e))?;
    if !header.starts_with(SQLITE_MAGIC) {
        return Err(damaged(path, "it does not begin like an SQLite file"));
    }
    let id = i32::from_be_bytes([header[68], header[69], header[70], header[71]]);
    if id != APPLICATION_ID {
        return Err(damaged(
            path,
            format!("its application id is {id:#x}, not {APPLICATION_ID:#x}"),
        ));
    }
    Ok(())
}

fn tighten_mode(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "store was open to others, now 0600");
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|e| Error::io("set the mode of", path, e))?;
    }
    Ok(())
}

fn connect(path: &Path, options: &EmbeddedOptions) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| explain(path, &e))?;
    configure(&connection, options).map_err(|e| explain(path, &e))?;
    Ok(connection)
}

fn configure(connection: &Connection, options: &EmbeddedOptions) -> rusqlite::Result<()> {
    connection.busy_timeout(options.busy_wait)?;
    // The order matters: nothing may be read with a large cache or written without full syncs.
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    let pages = i64::try_from(options.file_bytes_max / PAGE_BYTES).unwrap_or(i64::MAX);
    connection.pragma_update(None, "max_page_count", pages)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(())
}

fn check(connection: &Connection, path: &Path) -> Result<()> {
    let sql = |e: rusqlite::Error| explain(path, &e);
    let format: i32 =
        connection.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(sql)?;
    if format > FORMAT {
        return Err(Error::NewerFormat {
            what: path.display().to_string(),
            found: u32::try_from(format).unwrap_or(u32::MAX),
            supported: FORMAT.unsigned_abs(),
        });
    }
    if format < FORMAT {
        return Err(damaged(path, format!("its format is {format}, there never was such a one")));
    }
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(sql)?;
    if verdict != "ok" {
        return Err(damaged(path, verdict));
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
