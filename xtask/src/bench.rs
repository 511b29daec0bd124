//! `cargo xtask bench`: measures the executables as they are shipped (`crates/bench`).
//!
//! They are built first, as `cargo xtask dist` does. Where that is impossible (another processor,
//! another distribution) the usual release builds are measured, and that is said.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};

use crate::dist;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

/// The arguments are those of the bench itself: `--help` shows them.
pub(crate) fn task(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let asks = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if !asks("--help") {
        setup::make_ready(workspace, &[Purpose::Up, Purpose::Bench])?;
        if !asks("--programs") {
            build_executables(workspace)?;
        }
    }
    let mut bench = workspace.cargo();
    bench.args(["run", "--release", "--quiet", "--package", "piccolo-bench", "--"]);
    bench.arg("--target").arg(workspace.target()).args(arguments);
    let status = bench.status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("not everything could be measured ({status})");
    }
    Ok(())
}

fn build_executables(workspace: &Workspace) -> Result<()> {
    let Err(error) = dist::task(workspace, &[]) else { return Ok(()) };
    println!("--  the executables as shipped cannot be built here: {error:#}");
    println!("--  measuring the usual release builds instead");
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", "piccolo-master"]);
    build.args(["--package", "piccolo-nodeagent", "--package", "piccolo-cli", "--bins"]);
    if !build.status().context("cargo cannot be started")?.success() {
        bail!("the build failed; nothing was measured");
    }
    Ok(())
}
