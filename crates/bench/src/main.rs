//! `cargo xtask bench`: the real executables, measured against their targets, in one table.
//!
//! - [`figure`]: one row, its target, and how rows are printed
//! - [`ground`]: where is measured: executables, scratch folder, clusters with boards and watchers
//! - [`usage`]: what the kernel says that a process takes
//! - [`groups`]: what is measured, one module for each name of `--only`
//!
//! Everything is of the outside: processes are started and watched as a user does. How each figure
//! comes about is written in docs/benchmarks.md. A target that is missed is a row that says so; only
//! what could not be measured at all makes this program fail.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool talks to the terminal"
)]

mod figure;
mod ground;
mod groups;
mod usage;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};

use crate::{figure::Figure, ground::Ground, groups::Group};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", about = "Measure the executables against their targets")]
struct Arguments {
    /// Measure this group only; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<Group>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Runs of each time that is measured; fewer than 20 say little about the worst
    #[arg(long, default_value_t = 20, value_name = "N")]
    runs: usize,
    /// Seconds of churn in the group soak; in fewer than 60 it is not seen to level out
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = clap::value_parser!(u64).range(20..))]
    soak_s: u64,
    /// The folder of the three executables [default: target/dist/x86_64 where `cargo xtask dist`
    /// has been, or else target/release]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// The target folder of the checkout
    #[arg(long, default_value = "target", value_name = "FOLDER")]
    target: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            error.chain().skip(1).for_each(|cause| eprintln!("cause: {cause}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything could be measured.
fn run(arguments: &Arguments) -> Result<bool> {
    let soak = Duration::from_secs(arguments.soak_s);
    let ground =
        Ground::new(&arguments.target, arguments.programs.as_deref(), arguments.runs, soak)?;
    println!("{ground}");
    let chosen =
        if arguments.only.is_empty() { Group::value_variants() } else { &arguments.only[..] };
    let mut figures: Vec<Figure> = Vec::new();
    let mut failed = Vec::new();
    for group in chosen {
        let name = group.name();
        eprintln!("measuring: {name} ...");
        match group.measure(&ground) {
            Ok(measured) => {
                eprint!("{}", figure::table(&measured));
                figures.extend(measured);
            }
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
        // after each group: what was measured is not lost when a later one is cut off
        if let Some(file) = &arguments.json {
            let text = figure::json(&figures)?;
            std::fs::write(file, text)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    println!("\n{}", figure::table(&figures));
    for failure in &failed {
        eprintln!("not measured: {failure}");
    }
    Ok(failed.is_empty())
}
