//! `cargo xtask sim`: the simulator of the real cores (`crates/sim`), with its arguments as typed.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many clusters to simulate, each from a seed of its own
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Simulate this seed alone
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Print the story of the seed
    #[arg(long, requires = "seed")]
    log: bool,
    /// Break each rule of the core once, and demand that it is noticed
    #[arg(long)]
    mutants: bool,
}

/// The profile of Cargo.toml that the simulator is built with.
pub(crate) const PROFILE: &str = "simulation";

/// `cargo run` of the simulator; its own arguments come after a `--`.
pub(crate) fn command(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.args(["run", "--package", "piccolo-sim", "--profile", PROFILE]);
    command
}

pub(crate) fn task(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut command = command(workspace);
    if options.mutants {
        // In a folder of its own: the core is another one there, and would be built to and fro.
        command.args(["--features", "mutants", "--target-dir"]);
        command.arg(workspace.target().join("mutants"));
    }
    command.arg("--");
    for (flag, value) in [("--seeds", options.seeds), ("--seed", options.seed)] {
        if let Some(value) = value {
            command.arg(flag).arg(value.to_string());
        }
    }
    for (flag, is_set) in [("--log", options.log), ("--mutants", options.mutants)] {
        if is_set {
            command.arg(flag);
        }
    }
    let status = command.status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("the simulation failed ({status})");
    }
    Ok(())
}
