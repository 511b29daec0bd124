//! `cargo xtask`: everything a developer types that is not plain cargo.
//!
//! A task is a module here, an argument below and one arm of `main`. Tasks call programs (cargo,
//! apt, buf, the executables themselves) and never decide what the product decides.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool talks to the terminal"
)]

mod bench;
mod breaking;
mod check;
mod count;
mod dist;
mod e2e;
mod fuzz;
mod progress;
mod run;
mod setup;
mod sim;
mod test;
mod up;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::setup::Purpose;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "PICCOLO's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what this machine lacks; say each thing and why. Nothing to do takes no time
    Setup {
        /// What it is to be ready for; everything but `dist` and `fuzz` when left out
        #[arg(long = "for", value_name = "PURPOSE")]
        purposes: Vec<Purpose>,
    },
    /// Start a cluster on this machine: a master, NodeAgents and containers, until Ctrl-C
    Up(up::Options),
    /// End the cluster that `up` started, also after a crash
    Down,
    /// Set up, then run every test there is: formatting, lints, wire, unit, contract, end to end
    Test,
    /// Set up, then run the end-to-end tests: all, or those with NAME in their name or their file's
    E2e {
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// The quick look before a commit: formatting, lints, docs and the tests that need no root
    Check,
    /// Measure the executables against their targets; `bench --help` shows what can be chosen
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<OsString>,
    },
    /// Simulate clusters, replay one, or break each rule once
    Sim(sim::Options),
    /// Try random inputs on every parser and machine: property tests, then libFuzzer
    Fuzz(fuzz::Options),
    /// Build what is shipped: static executables and tarballs for x86-64, aarch64 and armv7
    Dist(dist::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = Workspace::find().and_then(|workspace| match arguments.task {
        Task::Setup { purposes } => setup::task(&workspace, &purposes),
        Task::Up(options) => up::task(&workspace, &options),
        Task::Down => up::down(&workspace),
        Task::Test => test::task(&workspace),
        Task::E2e { name } => e2e::task(&workspace, name.as_deref()),
        Task::Check => check::task(&workspace),
        Task::Bench { arguments } => bench::task(&workspace, &arguments),
        Task::Sim(options) => sim::task(&workspace, &options),
        Task::Fuzz(options) => fuzz::task(&workspace, &options),
        Task::Dist(options) => dist::task(&workspace, &options),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.chain().skip(1).for_each(|cause| eprintln!("cause: {cause}"));
            ExitCode::FAILURE
        }
    }
}
