//! What only the embedded store promises: one file that is never trusted blindly.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use piccolo_store::{
    EmbeddedOptions, EmbeddedStore, Error, Health, Store, Transaction, WatchItem, list,
};
use tokio::time::timeout;

use crate::contract::{PATIENCE, next, passes_the_contract, put, value};

const KEY: &str = "/piccolo/v1/nodes/a";

#[tokio::test]
async fn the_embedded_store_passes_the_contract() {
    let folder = Folder::new();
    passes_the_contract(Arc::new(create(&folder.path))).await;
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let folder = Folder::new();
    let (revision, lease, instance);
    {
        let store = create(&folder.path);
        put(&store, KEY, b"1").await;
        lease = store.grant(Duration::from_secs(1)).await.unwrap();
        revision = store
            .txn(&Transaction::new().put_leased("/piccolo/v1/leased", "", lease))
            .await
            .unwrap();
        store.compact(revision).await.unwrap();
        instance = store.status().await.unwrap().instance;
    }
    let store = open(&folder.path).unwrap();
    assert_eq!(value(&store, KEY).await, b"1");
    let status = store.status().await.unwrap();
    assert_eq!(
        (status.revision, status.instance, status.health),
        (revision, instance, Health::Good)
    );
    // A lease begins anew with the process, and still takes its keys along.
    let mut watch = store.watch("/piccolo/v1/leased", revision + 1).await.unwrap();
    let (_, changes) = next(&mut watch).await;
    assert_eq!(changes.len(), 1);
    assert!(matches!(store.keep_alive(lease).await, Err(Error::LeaseNotFound { .. })));
    let other = store.grant(Duration::from_secs(1)).await.unwrap();
    assert_ne!(other, lease, "the name of a lease is never used again");
}

#[tokio::test]
async fn the_revision_never_goes_back_even_if_compaction_leaves_nothing() {
    let folder = Folder::new();
    let store = create(&folder.path);
    put(&store, KEY, b"1").await;
    let revision = store.txn(&Transaction::new().delete(KEY)).await.unwrap();
    store.compact(revision).await.unwrap();
    drop(store);
    let store = open(&folder.path).unwrap();
    assert_eq!(store.status().await.unwrap().revision, revision);
    assert_eq!(put(&store, KEY, b"2").await, revision + 1);
}

#[tokio::test]
async fn only_its_owner_may_read_the_file() {
    let folder = Folder::new();
    let store = create(&folder.path);
    put(&store, KEY, b"1").await;
    for entry in fs::read_dir(folder.path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
    drop(store);
    fs::set_permissions(&folder.path, fs::Permissions::from_mode(0o644)).unwrap();
    open(&folder.path).unwrap();
    assert_eq!(fs::metadata(&folder.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_missing_file_is_not_made_unless_wanted() {
    let folder = Folder::new();
    assert!(matches!(open(&folder.path), Err(Error::Io { .. })));
    assert!(!folder.path.exists());
    let nowhere = folder.path.join("no/such/folder");
    assert!(matches!(
        EmbeddedStore::open(EmbeddedOptions::new(nowhere).create()),
        Err(Error::Io { .. })
    ));
}

#[tokio::test]
async fn a_second_user_of_the_file_is_told_who_has_it() {
    let folder = Folder::new();
    let store = create(&folder.path);
    let error = open(&folder.path).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(store);
    open(&folder.path).unwrap();
}

/// How a file is damaged: name, deed, and a part of what the error says.
type Damage = (&'static str, fn(&Path), &'static str);

/// Each way to damage a file, and what the error must say. The file must be left as it was.
#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do_and_left_alone() {
    let damages: [Damage; 9] = [
        ("emptied", |path| fs::write(path, "").unwrap(), "0 bytes"),
        ("cut in the first page", |path| cut(path, 1000), "1000 bytes"),
        ("cut in half", |path| cut(path, fs::metadata(path).unwrap().len() / 2), ""),
        ("cut by one page", |path| cut(path, fs::metadata(path).unwrap().len() - 4096), ""),
        ("some text", |path| fs::write(path, "hello ".repeat(2000)).unwrap(), "SQLite"),
        ("zeros at the start", |path| overwrite(path, 0, &[0; 4096]), "SQLite"),
        ("zeros in the middle", |path| overwrite(path, 4096 * 3, &[0; 4096 * 4]), ""),
        ("noise in the middle", |path| overwrite(path, 4096 * 2, &[0xa5; 4096 * 6]), ""),
        (
            "another database",
            |path| {
                fs::remove_file(path).unwrap();
                rusqlite::Connection::open(path)
                    .unwrap()
                    .execute_batch("CREATE TABLE a (b); CREATE TABLE c (d)")
                    .unwrap();
            },
            "application id",
        ),
    ];
    for (name, damage, part) in damages {
        let folder = Folder::new();
        fill(&folder.path).await;
        damage(&folder.path);
        let before = fs::read(&folder.path).unwrap();
        let error = open_and_read(&folder.path).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error:?}");
        for needed in [part, &folder.path.display().to_string(), "backup", "move it away", "lost"] {
            assert!(text.contains(needed), "{name}: {text} does not say {needed:?}");
        }
        assert!(!text.ends_with('.') && text.starts_with('/'), "{text}");
        assert!(fs::read(&folder.path).unwrap() == before, "{name}: the file was changed");
        // Not made anew either, not even by somebody who would make a missing one.
        let again = EmbeddedStore::open(EmbeddedOptions::new(&folder.path).create());
        assert!(matches!(again, Err(Error::Corrupt { .. })), "{name}: {again:?}");
    }
}

/// SQLite does not notice a flipped bit in a value; the checksum of the row does.
#[tokio::test]
async fn a_flipped_bit_in_a_value_is_noticed() {
    let folder = Folder::new();
    fill(&folder.path).await;
    let bytes = fs::read(&folder.path).unwrap();
    let marker = b"value 0777 ";
    let at = bytes.windows(marker.len()).position(|window| window == marker).unwrap();
    overwrite(&folder.path, at as u64 + 6, b"1");
    let error = open_and_read(&folder.path).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("/piccolo/v1/fill/0777"), "{error}");
}

#[tokio::test]
async fn any_damage_is_an_error_or_changes_nothing() {
    let folder = Folder::new();
    fill(&folder.path).await;
    let whole = fs::read(&folder.path).unwrap();
    let expected = open_and_read(&folder.path).await.unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..60 {
        let mut damaged = whole.clone();
        for _ in 0..=round % 4 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = usize::try_from(random).unwrap_or(usize::MAX) % damaged.len();
            damaged[at] ^= 1 << (random >> 60 & 7);
        }
        fs::write(&folder.path, &damaged).unwrap();
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(format!("{}{suffix}", folder.path.display())).ok();
        }
        match open_and_read(&folder.path).await {
            Ok(found) => assert!(found == expected, "round {round}: other data, no error"),
            Err(Error::Corrupt { .. } | Error::NewerFormat { .. }) => {}
            Err(other) => panic!("round {round}: {other:?}"),
        }
    }
}

/// What a power cut leaves: the write-ahead log ends anywhere, or in noise. Whole transactions
/// remain, in order.
#[tokio::test]
async fn a_log_cut_anywhere_leaves_whole_transactions() {
    const TRANSACTIONS: u64 = 20;
    let folder = Folder::new();
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let store = create(&folder.path);
    for number in 1..=TRANSACTIONS {
        let text = number.to_string();
        let transaction = Transaction::new()
            .put("/piccolo/v1/a", text.clone())
            .put("/piccolo/v1/b", vec![b'x'; 3000])
            .put("/piccolo/v1/c", text.clone())
            .put(format!("/piccolo/v1/n/{number:03}"), text);
        store.txn(&transaction).await.unwrap();
    }
    // As they are on the disk now, not tidied up by closing.
    let (file, wal) = (fs::read(&folder.path).unwrap(), fs::read(log(&folder.path)).unwrap());
    drop(store);
    let (mut seen, cuts) = (Vec::new(), 60);
    for cut in 0..=cuts {
        let folder = Folder::new();
        let length = wal.len() * cut / cuts;
        let mut torn = wal[..length].to_vec();
        if cut % 3 == 1 {
            torn.extend([0xa5; 5000]);
        }
        fs::write(&folder.path, &file).unwrap();
        fs::write(log(&folder.path), torn).unwrap();
        let items = open_and_read(&folder.path).await.unwrap();
        let number = items.len().saturating_sub(3);
        if number > 0 {
            let text = number.to_string().into_bytes();
            assert_eq!(items[0], ("/piccolo/v1/a".to_owned(), text.clone()), "cut at {length}");
            assert_eq!(items[2], ("/piccolo/v1/c".to_owned(), text.clone()), "cut at {length}");
            assert_eq!(items[items.len() - 1], (format!("/piccolo/v1/n/{number:03}"), text));
        }
        seen.push(number as u64);
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!((seen[0], seen[cuts]), (0, TRANSACTIONS));
}

#[tokio::test]
async fn a_log_without_its_file_is_not_taken_for_a_first_start() {
    let folder = Folder::new();
    fill(&folder.path).await;
    fs::rename(&folder.path, format!("{}-wal", folder.path.display())).unwrap();
    let error = EmbeddedStore::open(EmbeddedOptions::new(&folder.path).create()).unwrap_err();
    assert!(
        matches!(error, Error::Corrupt { .. }) && error.to_string().contains("missing"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = Folder::new();
    drop(create(&folder.path));
    rusqlite::Connection::open(&folder.path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = open(&folder.path).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 99, supported: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_torn_creation_is_made_anew() {
    let folder = Folder::new();
    fs::write(format!("{}.new", folder.path.display()), "half").unwrap();
    fs::write(format!("{}.new-wal", folder.path.display()), "half").unwrap();
    let store = create(&folder.path);
    put(&store, KEY, b"1").await;
    assert!(!folder.path.with_extension("new").exists());
}

/// Another program holds SQLite's write lock for two seconds, as a slow disk or a backup would: the
/// call waits, and nothing else in the process does.
#[tokio::test]
async fn a_write_waits_for_a_slow_disk_and_the_process_goes_on() {
    let folder = Folder::new();
    let store = Arc::new(create(&folder.path));
    let before = put(&*store, KEY, b"1").await;
    let (locked, is_locked) = mpsc::channel();
    let path = folder.path.clone();
    let other = std::thread::spawn(move || {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        locked.send(()).unwrap();
        // The length of the stall is what is tested.
        std::thread::sleep(Duration::from_secs(2));
        connection.execute_batch("ROLLBACK").unwrap();
    });
    is_locked.recv().unwrap();
    let begun = Instant::now();
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move { put(&*store, KEY, b"2").await }
    });
    let mut ticks = 0;
    while !writer.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        ticks += 1;
    }
    assert_eq!(writer.await.unwrap(), before + 1);
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(ticks > 20, "the process stood still: {ticks} ticks");
    other.join().unwrap();
}

#[tokio::test]
async fn a_lock_that_is_held_too_long_is_unavailable() {
    let folder = Folder::new();
    let options = EmbeddedOptions {
        busy_wait: Duration::from_millis(50),
        ..EmbeddedOptions::new(&folder.path).create()
    };
    let store = EmbeddedStore::open(options).unwrap();
    let other = rusqlite::Connection::open(&folder.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.txn(&Transaction::new().put(KEY, "1")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_retryable(), "{error:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.get(KEY).await.unwrap(), None);
    put(&store, KEY, b"1").await;
}

#[tokio::test]
async fn a_full_file_says_so_and_works_again_after_compaction() {
    let folder = Folder::new();
    let options = EmbeddedOptions {
        file_bytes_max: 1024 * 1024,
        ..EmbeddedOptions::new(&folder.path).create()
    };
    let store = EmbeddedStore::open(options).unwrap();
    let big = vec![b'x'; 100_000];
    let mut last = 0;
    let error = loop {
        match store.txn(&Transaction::new().put(KEY, big.clone())).await {
            Ok(revision) => last = revision,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert!((5..=12).contains(&last), "full after {last} values of 100 kB");
    assert_eq!(store.get(KEY).await.unwrap().unwrap().mod_revision, last);
    assert!(matches!(store.status().await.unwrap().health, Health::Degraded(_)));
    store.compact(last).await.unwrap();
    assert_eq!(put(&store, KEY, &big).await, last + 1);
    assert_eq!(store.status().await.unwrap().health, Health::Good);
}

#[tokio::test]
async fn space_is_used_again() {
    let folder = Folder::new();
    let store = create(&folder.path);
    let mut sizes = Vec::new();
    for round in 0..5 {
        let mut revision = 0;
        for i in 0..200 {
            revision = put(&store, KEY, &vec![round; 1000 + i]).await;
        }
        store.compact(revision).await.unwrap();
        sizes.push(store.status().await.unwrap().size_bytes);
    }
    assert!(sizes[4] <= sizes[0] + 64 * 1024, "the file grows without bound: {sizes:?}");
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let folder = Folder::new();
    let store = create(&folder.path);
    put(&store, KEY, b"1").await;
    let target = folder.path.with_extension("backup");
    store.backup(&target).await.unwrap();
    let revision = put(&store, KEY, b"2").await;
    assert!(
        matches!(store.backup(&target).await, Err(Error::Io { .. })),
        "never over another backup"
    );
    let backup = open(&target).unwrap();
    assert_eq!(value(&backup, KEY).await, b"1");
    assert_eq!(backup.status().await.unwrap().revision, revision - 1);
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_watch_ends_with_its_store_and_a_store_with_its_watchers() {
    let folder = Folder::new();
    let store = create(&folder.path);
    let mut watch = store.watch(KEY, 1).await.unwrap();
    drop(store);
    assert!(timeout(PATIENCE, watch.next()).await.unwrap().is_none());
    // Closed at once although the watch still exists.
    open(&folder.path).unwrap();
}

#[tokio::test]
async fn a_watcher_that_fell_behind_a_compaction_is_told() {
    let folder = Folder::new();
    let store = create(&folder.path);
    let first = put(&store, KEY, b"0").await;
    let mut watch = store.watch(KEY, first).await.unwrap();
    let mut last = first;
    for _ in 0..600 {
        last = put(&store, KEY, &[0; 10_000]).await;
    }
    store.compact(last).await.unwrap();
    let mut expected = first;
    loop {
        match timeout(PATIENCE, watch.next()).await.unwrap().unwrap() {
            WatchItem::Changes { revision, .. } => {
                assert_eq!(revision, expected);
                expected += 1;
            }
            WatchItem::Compacted { compact_revision } => {
                assert_eq!(compact_revision, last);
                break;
            }
            WatchItem::Failed(error) => panic!("{error}"),
        }
    }
    assert!(expected <= last);
    assert!(watch.next().await.is_none());
}

/// A folder with room for a store, removed at the end.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("store"), _folder: folder }
    }
}

pub(crate) fn create(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(EmbeddedOptions::new(path).create()).unwrap()
}

fn open(path: &Path) -> piccolo_store::Result<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedOptions::new(path))
}

async fn open_and_read(path: &Path) -> piccolo_store::Result<Vec<(String, Vec<u8>)>> {
    let store = open(path)?;
    let (items, _) = list(&store, "/piccolo/v1/").await?;
    Ok(items.into_iter().map(|item| (item.key, item.value)).collect())
}

/// A store of some hundred pages.
async fn fill(path: &Path) {
    let store = create(path);
    for batch in 0..10 {
        let transaction = (0..100).fold(Transaction::new(), |txn, i| {
            let number = batch * 100 + i;
            txn.put(
                format!("/piccolo/v1/fill/{number:04}"),
                format!("value {number:04} {}", "x".repeat(300)),
            )
        });
        store.txn(&transaction).await.unwrap();
    }
}

fn cut(path: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}
