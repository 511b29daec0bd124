//! `cargo xtask fuzz`: every property test of the tree with fresh random inputs, then every libFuzzer target.
//!
//! `cargo test` tries a few hundred inputs of each property. What fails here is shrunk and noted by proptest
//! in a file beside the test (`proptest-regressions`), to be committed with the fix. What a target finds is in
//! `fuzz/artifacts`, and becomes a seed with the fix.

mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::count::{self, Count, Runner};
use crate::run;
use crate::workspace::Workspace;

/// Inputs of each test in one round.
const CASES: u32 = 10_000;

/// Where files cost nothing: what writes some for each input would wait for the disk otherwise.
const MEMORY_FOLDER: &str = "/dev/shm";

/// The name by which the property tests are chosen.
const PROPERTIES: &str = "properties";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A file of fuzz/fuzz_targets without its ending, or "properties"; everything when left out
    target: Option<String>,
    /// For so long, each
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u64,
}

pub(crate) fn task(workspace: &Workspace, options: &Options) -> Result<()> {
    let all = targets::all(workspace)?;
    match options.target.as_deref() {
        Some(PROPERTIES) => properties(workspace, options.seconds),
        Some(name) if all.iter().any(|target| target == name) => {
            targets::run(workspace, &[name.to_owned()], options.seconds)
        }
        Some(name) => {
            bail!("there is no target {name:?}; there are {PROPERTIES}, {}", all.join(", "))
        }
        None => {
            properties(workspace, options.seconds)?;
            targets::run(workspace, &all, options.seconds)
        }
    }
}

fn properties(workspace: &Workspace, seconds: u64) -> Result<()> {
    let tests = property_tests(&workspace.root().join("crates"))?;
    let total: usize = tests.values().map(Vec::len).sum();
    println!("{total} property tests in {} crates, for {seconds} s", tests.len());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut round = 0;
    while round == 0 || Instant::now() < until {
        round += 1;
        for (krate, names) in &tests {
            let passed = one_round(workspace, krate, names)?;
            println!("round {round}, {krate}: {passed} tests, {CASES} inputs each");
        }
    }
    println!("{round} rounds: nothing was found");
    Ok(())
}

/// # Errors
/// A test failed: what it found was printed.
fn one_round(workspace: &Workspace, krate: &str, names: &[String]) -> Result<u64> {
    let mut command = workspace.cargo();
    command.args(["test", "--quiet", "--manifest-path"]);
    command.arg(workspace.root().join("crates").join(krate).join("Cargo.toml"));
    command.args(["--lib", "--bins", "--tests", "--"]).args(names);
    command.env("PROPTEST_CASES", CASES.to_string());
    keep_files_in_memory(&mut command);
    let output = command.output().context("cargo cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        println!("{text}{}", String::from_utf8_lossy(&output.stderr));
        bail!("`{}` found something", run::shown(&command));
    }
    let mut count = Count::default();
    text.lines()
        .filter_map(|line| count::of_line(Runner::Libtest, line))
        .for_each(|c| count.add(c));
    Ok(count.passed)
}

fn keep_files_in_memory(command: &mut Command) {
    if Path::new(MEMORY_FOLDER).is_dir() {
        command.env("TMPDIR", MEMORY_FOLDER);
    }
}

/// The names of the tests inside `proptest! { ... }`, by the folder of their crate.
fn property_tests(crates: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let mut tests = BTreeMap::new();
    for entry in fs::read_dir(crates).context("crates/")?.flatten() {
        let mut names = Vec::new();
        collect(&entry.path(), &mut names);
        if !names.is_empty() {
            tests.insert(entry.file_name().to_string_lossy().into_owned(), names);
        }
    }
    Ok(tests)
}

fn collect(path: &Path, names: &mut Vec<String>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| collect(&entry.path(), names));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        names.extend(names_in(&fs::read_to_string(path).unwrap_or_default()));
    }
}

fn names_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    // The closing brace of the block that we are in: rustfmt indents it as its first line.
    let mut closing: Option<String> = None;
    for line in source.lines() {
        let trimmed = line.trim_start();
        if closing.as_deref() == Some(line) {
            closing = None;
        } else if trimmed == "proptest! {" {
            closing = Some(format!("{}}}", &line[..line.len() - trimmed.len()]));
        } else if closing.is_some() {
            let name = trimmed.strip_prefix("fn ").and_then(|rest| rest.split_once('('));
            names.extend(name.map(|(name, _)| name.to_owned()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_inside_the_macro_alone() {
        let source = "fn before() {}\n    proptest! {\n        #[test]\n        fn one(x in 0..3) {\n\
                      \x20       }\n        fn two(\n            x: u8,\n        ) {}\n    }\nfn after() {}\n";
        assert_eq!(names_in(source), ["one", "two"]);
    }
}
