//! The libFuzzer targets in `fuzz/`: built once with the pinned toolchain, then each for some seconds.
//!
//! What a nightly toolchain would add are the sanitizers; there is no unsafe code of ours that one would
//! watch. Counting which edges an input reaches is a matter of flags that every toolchain takes, and
//! libFuzzer itself comes as source with `libfuzzer-sys`: only a C++ compiler is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::Line;
use crate::run;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

/// Bytes of one input at most; nothing that is parsed needs more to show what it does.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// For one input, in seconds: what takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 20;
/// Of one target, in megabytes: what takes more is a finding.
const MEMORY_MB_MAX: u32 = 1024;

/// What cargo-fuzz passes too: a counter for each edge, and the operands of each comparison, so that
/// libFuzzer sees which inputs lead to new code and what they were compared with.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];
/// How cargo separates flags in one variable.
const FLAG_SEPARATOR: &str = "\x1f";

/// The names of all targets, in order.
///
/// # Errors
/// There is no `fuzz/fuzz_targets`.
pub(super) fn all(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Runs each of `targets`, also after one of them has found something.
///
/// # Errors
/// A tool is missing, or something was found: its input is kept in `fuzz/artifacts`.
pub(super) fn run(workspace: &Workspace, targets: &[String], seconds: u64) -> Result<()> {
    let executables = build(workspace, targets)?;
    let mut found = Vec::new();
    for target in targets {
        if !run_one(workspace, &executables, target, seconds)? {
            found.push(target.as_str());
        }
    }
    if !found.is_empty() {
        bail!("something was found by {}; see above", found.join(", "));
    }
    Ok(())
}

/// Returns the folder of the executables.
fn build(workspace: &Workspace, targets: &[String]) -> Result<PathBuf> {
    let missing = setup::make_ready(workspace, &[Purpose::Fuzz])?;
    if !missing.is_nothing() {
        bail!("libFuzzer cannot be compiled without what is missing above");
    }
    let host = host(workspace)?;
    let folder = workspace.target().join("fuzz");
    let mut command = workspace.cargo();
    // Named although it is our own: only then do the flags spare build scripts and macros.
    command.args(["build", "--release", "--locked", "--target", &host, "--target-dir"]);
    command.arg(&folder).arg("--manifest-path").arg(workspace.root().join("fuzz/Cargo.toml"));
    command.args(targets.iter().flat_map(|target| ["--bin", target]));
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join(FLAG_SEPARATOR)).env_remove("RUSTFLAGS");
    let line = Line::start("building the targets (some minutes, the first time)");
    run::logged(&mut command, &folder.join("build.log"))?;
    line.done("");
    Ok(folder.join(host).join("release"))
}

/// What this machine is called by the compiler, such as `x86_64-unknown-linux-gnu`.
fn host(workspace: &Workspace) -> Result<String> {
    let mut rustc = Command::new("rustc");
    let version = run::answer(rustc.current_dir(workspace.root()).arg("-vV")).unwrap_or_default();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` does not say what this machine is")
}

/// Whether the target had nothing to object to.
fn run_one(workspace: &Workspace, folder: &Path, target: &str, seconds: u64) -> Result<bool> {
    let fuzz = workspace.root().join("fuzz");
    let corpus = workspace.target().join("fuzz/corpus").join(target);
    let artifacts = fuzz.join("artifacts").join(target);
    for needed in [&corpus, &artifacts] {
        fs::create_dir_all(needed).with_context(|| needed.display().to_string())?;
    }
    let mut command = Command::new(folder.join(target));
    // What it learns goes to the first folder; the seeds are only read.
    command.arg(&corpus).arg(fuzz.join("seeds").join(target));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MB_MAX}")).arg("-print_final_stats=1");
    command.current_dir(workspace.root()).stdin(Stdio::null());
    super::keep_files_in_memory(&mut command);
    let line = Line::start(format!("{target}, for {seconds} s"));
    let output = command.output().with_context(|| format!("{target} cannot be started"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        line.done(&figures(&text));
        return Ok(true);
    }
    line.failed("something was found");
    println!("{text}again: {} INPUT", folder.join(target).display());
    Ok(false)
}

/// What libFuzzer says at its end, such as `1000 inputs, 50 a second, 300 edges`.
fn figures(text: &str) -> String {
    let stat = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map_or("?", |value| value.trim_start_matches(':').trim())
    };
    let edges = text.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(" cov: ")?;
        rest.split(' ').next()
    });
    format!(
        "{} inputs, {} a second, {} edges, {} MB",
        stat("stat::number_of_executed_units"),
        stat("stat::average_exec_per_sec"),
        edges.unwrap_or("?"),
        stat("stat::peak_rss_mb"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(workspace: &Workspace) -> Vec<String> {
        let manifest = fs::read_to_string(workspace.root().join("fuzz/Cargo.toml")).unwrap();
        let bins = manifest.split("[[bin]]").skip(1);
        bins.filter_map(|bin| Some(bin.split('"').nth(1)?.to_owned())).collect()
    }

    #[test]
    fn every_target_is_declared_and_has_seeds() {
        let workspace = Workspace::find().unwrap();
        let targets = all(&workspace).unwrap();
        let mut declared = declared(&workspace);
        declared.sort();
        assert_eq!(declared, targets);
        for target in targets {
            let seeds = workspace.root().join("fuzz/seeds").join(&target);
            assert!(seeds.is_dir(), "{target} has no seeds");
        }
    }

    #[test]
    fn the_end_of_a_run_is_read_for_its_figures() {
        let text = "#2\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                    #70\tDONE   cov: 12 ft: 40 corp: 8/30b lim: 4 exec/s: 35 rss: 31Mb\n\
                    Done 70 runs in 2 second(s)\nstat::number_of_executed_units: 70\n\
                    stat::average_exec_per_sec:     35\nstat::peak_rss_mb:              31\n";
        assert_eq!(figures(text), "70 inputs, 35 a second, 12 edges, 31 MB");
        assert_eq!(figures(""), "? inputs, ? a second, ? edges, ? MB");
    }
}
