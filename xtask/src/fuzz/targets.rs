//! The libFuzzer targets in `fuzz/`: each for some seconds, with what cargo-fuzz and a nightly toolchain make.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;
use crate::workspace::Workspace;

/// Bytes of one input at most; nothing that is parsed needs more to show what it does.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// For one input, in seconds: what takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 20;

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

/// # Errors
/// A tool is missing, or something was found: its input is kept in `fuzz/artifacts`.
pub(super) fn run(workspace: &Workspace, target: &str, seconds: u64) -> Result<()> {
    need_tools()?;
    let folder = workspace.root().join("fuzz");
    let corpus = workspace.target().join("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
    let mut command = Command::new("cargo");
    // no sanitizer: there is no unsafe code of ours that one would watch
    command.args(["+nightly", "fuzz", "run", "--sanitizer", "none", "--fuzz-dir"]);
    command.arg(&folder).arg("--target-dir").arg(workspace.target().join("fuzz"));
    command.arg(target).arg(&corpus);
    let seeds = folder.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.arg("--").arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.current_dir(workspace.root());
    println!("{target}, for {seconds} s");
    let output = command.output().context("cargo cannot be started")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        println!("{target}: {}", last_line(&text));
        return Ok(());
    }
    println!("{text}");
    bail!(
        "`{}` found something; its input is in {}",
        run::shown(&command),
        folder.join("artifacts").join(target).display()
    )
}

/// Says what is missing, and how to get it.
fn need_tools() -> Result<()> {
    let has = |program: &str, arguments: &[&str]| {
        run::answer(Command::new(program).args(arguments)).is_some()
    };
    if !has("cargo", &["+nightly", "--version"]) {
        bail!(
            "libFuzzer needs a nightly toolchain: rustup toolchain install nightly --profile minimal"
        );
    }
    if !has("cargo", &["+nightly", "fuzz", "--version"]) {
        bail!("cargo-fuzz is not installed: cargo install cargo-fuzz --locked");
    }
    Ok(())
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or("nothing was found")
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
}
