//! Kill -9, 500 times: what the embedded store acknowledged is there afterwards, and nothing is
//! torn.
//!
//! The test starts itself again as a writer, which adds numbered transactions of several keys each
//! and prints the number of every one that was acknowledged. At a random moment, also while the
//! file is being opened, compacted or written back, it is killed. Then the file is opened here and
//! everything in it is checked. One file lives through all of it.
//!
//! `PICCOLO_DURABILITY_KILLS` changes how often, `PICCOLO_DURABILITY_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "cargo reads the list of tests from there")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use piccolo_store::{
    Change, EmbeddedOptions, EmbeddedStore, LeaseId, Store, Transaction, WatchItem, list,
};
use tokio::runtime::{Builder, Runtime};

const KILLS: u64 = 500;
/// Transactions whose numbered keys are kept.
const KEPT: u64 = 50;
/// Every so many transactions the writer compacts the history.
const COMPACT_EVERY: u64 = 40;
/// The longest a writer may live, in microseconds. Opening takes a few thousand of them.
const LIFE_MICROSECONDS_MAX: u64 = 90_000;
const PREFIX: &str = "/piccolo/v1/durability/";
const COPIES: [&str; 5] = ["a", "b", "c", "d", "e"];
const WRITER: &str = "--writer";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(WRITER) => write_until_killed(Path::new(&arguments[1])),
        // Exactly as libtest lists, for cargo-nextest; none of our tests is an ignored one.
        Some("--list") if arguments.iter().any(|argument| argument == "--ignored") => {}
        Some("--list") => println!("nothing_acknowledged_is_lost: test"),
        // A filter of `cargo test NAME` that means other tests.
        Some(filter)
            if !filter.starts_with('-') && !"nothing_acknowledged_is_lost".contains(filter) => {}
        Some(_) | None => nothing_acknowledged_is_lost(),
    }
}

fn nothing_acknowledged_is_lost() {
    let kills = setting("PICCOLO_DURABILITY_KILLS").unwrap_or(KILLS);
    let seed = setting("PICCOLO_DURABILITY_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    say(&format!("{kills} kills, PICCOLO_DURABILITY_SEED={seed}"));
    let begun = Instant::now();
    let mut random = Random(seed | 1);
    // On a real disk, not in memory as /tmp may be.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("store");
    let runtime = runtime();
    // An empty store is at revision 1.
    let (mut acknowledged, mut idle, mut watched) = (0, 0, 2);
    for kill in 1..=kills {
        let life = Duration::from_micros(random.below(LIFE_MICROSECONDS_MAX));
        let last = run_writer(&path, life);
        idle += u64::from(last.is_none());
        acknowledged = last.unwrap_or(acknowledged).max(acknowledged);
        // What was found once counts as acknowledged from then on.
        (acknowledged, watched) = runtime.block_on(check(&path, acknowledged, watched, kill));
    }
    say(&format!(
        "{acknowledged} transactions acknowledged, {idle} writers killed before their first, in {:?}",
        begun.elapsed()
    ));
    assert!(acknowledged >= kills, "the writers hardly wrote: the test tested nothing");
}

/// The child: goes on from what is in the file, for ever.
fn write_until_killed(path: &Path) {
    runtime().block_on(async {
        let store = EmbeddedStore::open(EmbeddedOptions::new(path).create()).unwrap();
        let lease = store.grant(Duration::from_secs(600)).await.unwrap();
        let mut number = last_number(&store).await + 1;
        loop {
            let revision = store.txn(&numbered(number, lease)).await.unwrap();
            say(&number.to_string());
            if number % COMPACT_EVERY == 0 {
                store.compact(revision).await.unwrap();
            }
            number += 1;
        }
    });
}

fn numbered(number: u64, lease: LeaseId) -> Transaction {
    // Values of many sizes, so that pages split and overflow.
    let value = format!("{number} {}", "x".repeat(usize::try_from(number * 37 % 3000).unwrap()));
    let copies = COPIES.iter().fold(Transaction::new(), |txn, name| {
        txn.put(format!("{PREFIX}copy/{name}"), value.clone())
    });
    let mut transaction = copies
        .put(format!("{PREFIX}entry/{number:012}"), number.to_string())
        .put_leased(format!("{PREFIX}leased"), number.to_string(), lease);
    if number > KEPT {
        transaction = transaction.delete(format!("{PREFIX}entry/{:012}", number - KEPT));
    }
    transaction
}

async fn last_number(store: &EmbeddedStore) -> u64 {
    let found = store.get(&format!("{PREFIX}copy/a")).await.unwrap();
    found.map_or(0, |item| number_of(&item.value))
}

/// Everything in the file fits together and goes at least as far as what was acknowledged. Returns
/// the last number found, and the revision from which history is to be checked the next time.
async fn check(path: &Path, acknowledged: u64, watched: u64, kill: u64) -> (u64, u64) {
    if !path.exists() {
        assert_eq!(acknowledged, 0, "kill {kill}: the file is gone");
        return (0, watched);
    }
    let store = EmbeddedStore::open(EmbeddedOptions::new(path)).unwrap();
    let (items, revision) = list(&store, PREFIX).await.unwrap();
    let last = last_number(&store).await;
    assert!(
        last >= acknowledged,
        "kill {kill}: {acknowledged} was acknowledged, the file ends at {last}"
    );
    // One more may have been written without being acknowledged.
    assert!(
        last <= acknowledged + 1,
        "kill {kill}: {last} was never begun, {acknowledged} was the last"
    );
    let found: BTreeMap<&str, u64> =
        items.iter().map(|item| (&item.key[PREFIX.len()..], number_of(&item.value))).collect();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    if last > 0 {
        expected.extend(COPIES.iter().map(|name| (format!("copy/{name}"), last)));
        expected.insert("leased".to_owned(), last);
        let first = last.saturating_sub(KEPT) + 1;
        expected.extend((first..=last).map(|number| (format!("entry/{number:012}"), number)));
    }
    let expected: BTreeMap<&str, u64> = expected.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert_eq!(found, expected, "kill {kill}: torn at transaction {last}");
    check_history(&store, watched, revision, kill).await;
    (last, revision + 1)
}

/// Each revision since the last check is there as a whole, or was compacted.
async fn check_history(store: &EmbeddedStore, from: u64, revision: u64, kill: u64) {
    if from > revision {
        return;
    }
    let mut watch = store.watch(PREFIX, from).await.unwrap();
    let mut next = from;
    while next <= revision {
        match watch.next().await.unwrap() {
            WatchItem::Changes { revision, changes } => {
                assert_eq!(revision, next, "kill {kill}: a revision is missing");
                let puts = changes.iter().filter(|change| matches!(change, Change::Put(_))).count();
                assert_eq!(puts, COPIES.len() + 2, "kill {kill}: revision {revision} is torn");
                next += 1;
            }
            WatchItem::Compacted { compact_revision } => {
                next = compact_revision + 1;
                watch = store.watch(PREFIX, next).await.unwrap();
            }
            WatchItem::Failed(error) => panic!("kill {kill}: {error}"),
        }
    }
}

/// Lets a writer live for a while; returns the last number it acknowledged.
fn run_writer(path: &Path, life: Duration) -> Option<u64> {
    let program = std::env::current_exe().unwrap();
    let mut child: Child =
        Command::new(program).arg(WRITER).arg(path).stdout(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let numbers = BufReader::new(output).lines().map_while(Result::ok);
        // A last line without its end may be cut in the middle of the number.
        numbers.filter_map(|line| line.strip_suffix('.')?.parse().ok()).last()
    });
    // How long it lives is what this test varies; nothing waits for anything here.
    std::thread::sleep(life);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success() && status.code().is_none(), "the writer ended by itself: {status}");
    reader.join().unwrap()
}

fn number_of(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// One whole line in one write, with a full stop that shows that it is whole.
fn say(text: &str) {
    std::io::stdout().write_all(format!("{text}.\n").as_bytes()).unwrap();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// xorshift64*: a few lines of repeatable randomness.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}
