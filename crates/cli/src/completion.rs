//! `piccolo completion`: scripts for shells, made from the command line itself.

use clap::Args;
use clap_complete::Shell;

use crate::{failure::Failure, output::print};

pub const EXAMPLES: &str = "Examples:
  piccolo completion bash      # put it into /etc/bash_completion.d/piccolo
  piccolo completion zsh       # put it into a folder of $fpath, as _piccolo
  piccolo completion fish      # put it into ~/.config/fish/completions/piccolo.fish";

#[derive(Debug, Args)]
pub struct CompletionArgs {
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// # Errors
/// Only if stdout cannot be written.
pub fn run(args: &CompletionArgs) -> Result<(), Failure> {
    print(&script(args.shell))
}

/// The script for one shell.
pub fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut crate::command(), "piccolo", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
