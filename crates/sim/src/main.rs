//! `cargo run -p piccolo-sim -- [--seeds N] [--from S] [--seed S --log] [--mutants] [--threads T]`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool talks to the terminal"
)]

mod cli;

use std::process::ExitCode;

/// A fifth of a simulated life is small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => cli::run(&arguments),
        Err(problem) => {
            eprintln!("error: {problem}");
            eprintln!("help: [--seeds N] [--from S] [--seed S [--log]] [--mutants] [--threads T]");
            ExitCode::from(2)
        }
    }
}
