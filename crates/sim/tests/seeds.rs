//! 2,000 seeds, and every seed that ever failed.

#![allow(clippy::unwrap_used, reason = "a test; a poisoned lock is a panic that is told already")]

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Of those that no one has looked at, in every `cargo test`.
const SEEDS: u64 = 2_000;

#[track_caller]
fn check(seeds: &[u64]) {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
                    .ok()
                    .and_then(|at| seeds.get(at))
                {
                    let outcome = piccolo_sim::run(*seed, None, false);
                    if let Some(violation) = outcome.violation {
                        failures.lock().unwrap().push((*seed, violation));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|(seed, _)| *seed);
    if let Some((seed, violation)) = failures.first() {
        panic!(
            "{}\n{} of {} seeds failed, this one by {}: {}\ncargo run -p piccolo-sim -- --seed {seed} --log",
            piccolo_sim::headline(*seed),
            failures.len(),
            seeds.len(),
            violation.invariant,
            violation.what,
        );
    }
}

#[test]
fn every_invariant_holds_in_two_thousand_seeds() {
    check(&(0..SEEDS).collect::<Vec<_>>());
}

#[test]
fn seeds_that_failed_once_hold_now() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let seeds: Vec<u64> =
        lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert!(!seeds.is_empty(), "seeds.txt names no seed");
    check(&seeds);
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| piccolo_sim::run(seed, None, true).story;
    // of those that have something to tell
    let long = (0..100).map(|seed| (seed, story(seed))).filter(|(_, s)| s.lines().count() > 200);
    let told: Vec<_> = long.take(3).collect();
    assert_eq!(told.len(), 3, "the stories of a hundred seeds are short");
    for (seed, once) in told {
        assert!(once == story(seed), "seed {seed} told two stories");
    }
}
