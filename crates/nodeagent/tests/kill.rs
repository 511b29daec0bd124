//! The agent's files survive `kill -9` at any moment: 200 times for the ledger, 200 for the journal.
//!
//! This program is its own victim: called with `write-ledger DIR` or `write-journal DIR` it writes
//! until it is killed, and tells on stdout what it has done. Called by `cargo test` it does the
//! killing and compares what is on disk with what was told.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends by a panic, and the child talks to its parent through stdout"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use piccolo_nodeagent::journal::{Criticality, Journal, Limits};
use piccolo_nodeagent::ledger::Ledger;

const KILLS: u32 = 200;
const LIMITS: Limits = Limits { entries_max: 300, bytes_max: 64 * 1024 };

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "write-ledger", dir] => write_ledger(Path::new(dir)),
        [_, "write-journal", dir] => write_journal(Path::new(dir)),
        [_, "--list", ..] => println!("the_files_survive_kills: test"), // nextest asks
        _ => {
            kill_ledger_writers();
            println!("test the_ledger_survives_{KILLS}_kills ... ok");
            kill_journal_writers();
            println!("test the_journal_survives_{KILLS}_kills ... ok");
        }
    }
}

/// Contents that show whether they are whole: the number, repeated.
fn contents(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(1 + (n % 900) as usize)
}

/// An entry of the journal, told apart from any other.
fn entry(n: u64) -> Vec<u8> {
    let mut bytes = n.to_le_bytes().repeat(100);
    bytes.truncate((n % 700) as usize + 8);
    bytes
}

fn number_in(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn tell(what: &str, n: u64) {
    std::io::stdout().write_all(format!("{what} {n}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

fn write_ledger(dir: &Path) {
    let ledger = Ledger::new(dir.join("desired"));
    let mut n = ledger.load().unwrap().map_or(0, |bytes| number_in(&bytes));
    loop {
        n += 1;
        ledger.save(&contents(n)).unwrap();
        tell("saved", n);
    }
}

fn write_journal(dir: &Path) {
    let mut journal = Journal::open(dir.join("journal"), LIMITS).unwrap();
    loop {
        let n = journal.next_sequence();
        let critical = n.is_multiple_of(50);
        let criticality = if critical { Criticality::Critical } else { Criticality::Normal };
        journal.append(criticality, &entry(n)).unwrap();
        tell("appended", n);
        if n.is_multiple_of(30) {
            journal.trim_through(n - 20).unwrap();
            tell("trimmed", n - 20);
        }
    }
}

/// Runs this program as a writer, kills it after a while, and returns what it told. Three of four
/// die some time after their first word, so that each of those has written something on however slow
/// a machine; the fourth dies some time after its birth, perhaps while it opens its files.
fn victim(role: &str, dir: &Path, round: u32) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([role, dir.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let (first_word, spoken) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map(Result::unwrap);
        let words = lines.filter_map(|line| {
            first_word.send(()).ok();
            let (what, n) = line.split_once(' ')?;
            Some((what.to_owned(), n.parse().ok()?))
        });
        words.collect()
    });
    if !round.is_multiple_of(4) {
        spoken.recv().unwrap();
    }
    let end = Instant::now() + lives_for(round);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// 0.1 to 8 ms, different each time, the same in each run.
fn lives_for(round: u32) -> Duration {
    Duration::from_micros(u64::from(100 + round.wrapping_mul(2_654_435_761) % 7_900))
}

fn last_of(told: &[(String, u64)], what: &str) -> Option<u64> {
    told.iter().rev().find(|(word, _)| word == what).map(|(_, n)| *n)
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}

fn kill_ledger_writers() {
    let (_guard, dir) = temporary();
    let ledger = Ledger::new(dir.join("desired"));
    let mut saved = 0;
    for round in 0..KILLS {
        let told = victim("write-ledger", &dir, round);
        saved = last_of(&told, "saved").unwrap_or(saved);
        let Some(bytes) = ledger.load().unwrap() else {
            assert_eq!(saved, 0, "round {round}: what was saved is gone");
            continue;
        };
        let n = number_in(&bytes);
        assert_eq!(bytes, contents(n), "round {round}: torn");
        assert!(n == saved || n == saved + 1, "round {round}: {n} on disk, {saved} was saved");
        saved = n;
    }
    assert!(saved >= u64::from(KILLS) / 2, "the victims hardly wrote: {saved}");
}

fn kill_journal_writers() {
    let (_guard, dir) = temporary();
    let (mut appended, mut trimmed) = (0, 0);
    for round in 0..KILLS {
        let told = victim("write-journal", &dir, round);
        appended = last_of(&told, "appended").unwrap_or(appended);
        trimmed = last_of(&told, "trimmed").unwrap_or(trimmed);
        let journal = Journal::open(dir.join("journal"), LIMITS).unwrap();
        let next = journal.next_sequence();
        // one more may have been written and not told
        assert!(next == appended + 1 || next == appended + 2, "round {round}: {next}, {appended}");
        let entries: Vec<_> = journal.iter_from(0).map(Result::unwrap).collect();
        let first = entries.first().map_or(next, |entry| entry.sequence);
        assert!(first > trimmed, "round {round}: {first} came back, {trimmed} was trimmed");
        // a trim may have been written and not told; nothing else may be missing
        assert!(first == trimmed + 1 || first == next / 30 * 30 - 19, "round {round}: {first}");
        for (entry, sequence) in entries.iter().zip(first..) {
            let found = (entry.sequence, &entry.bytes);
            assert_eq!(found, (sequence, &self::entry(sequence)), "round {round}");
        }
        assert_eq!(first + entries.len() as u64, next, "round {round}: entries are missing");
        assert_eq!((journal.recovery().damaged_records, journal.dropped_total()), (0, 0));
        (appended, trimmed) = (next - 1, first - 1);
    }
    assert!(appended >= u64::from(KILLS) / 2, "the victims hardly wrote: {appended}");
}
