//! `cargo xtask bench`: measures the executables as they are shipped (`crates/bench`).
//!
//! They are built first, as `cargo xtask dist` does. Where that is impossible (another processor,
//! another distribution) the usual release builds are measured, and that is said.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::dist;
use crate::setup::{self, Purpose};
use crate::sim;
use crate::workspace::Workspace;

/// The arguments are those of the bench itself: `--help` shows them.
pub(crate) fn task(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let asks = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut programs = None;
    if !asks("--help") {
        setup::make_ready(workspace, &[Purpose::Up, Purpose::Bench])?;
        build(workspace, "piccolo-sim", sim::PROFILE)?;
        if !asks("--programs") {
            programs = build_executables(workspace)?;
        }
    }
    let mut bench = workspace.cargo();
    bench.args(["run", "--release", "--package", "piccolo-bench", "--"]);
    bench.arg("--target").arg(workspace.target());
    if let Some(folder) = programs {
        bench.arg("--programs").arg(folder);
    }
    bench.args(arguments);
    let status = bench.status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("not everything could be measured ({status})");
    }
    Ok(())
}

/// Where they are, unless they are where the bench looks by itself.
fn build_executables(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let Err(error) = dist::task(workspace, &dist::Options::default()) else { return Ok(None) };
    println!("--  the executables as shipped cannot be built here: {error:#}");
    println!("--  measuring the usual release builds instead");
    for package in ["piccolo-nodeagent", "piccolo-master", "piccolo-cli"] {
        build(workspace, package, "release")?;
    }
    Ok(Some(workspace.executables("release")))
}

/// One at a time: built together they would all get the features that any of them asks for, and
/// the agent would carry what only the master needs.
fn build(workspace: &Workspace, package: &str, profile: &str) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--profile", profile, "--bins", "--package", package]);
    if !cargo.status().context("cargo cannot be started")?.success() {
        bail!("{package} cannot be built; nothing was measured");
    }
    Ok(())
}
