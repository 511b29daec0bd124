//! `piccolo help`: for those whose fingers know it from git; the same as `--help`.

use clap::{Args, Command};

use crate::{failure::Failure, output::print};

pub const EXAMPLES: &str = "Examples:
  piccolo help node list                          # as: piccolo node list --help";

#[derive(Debug, Args)]
pub struct HelpArgs {
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
}

/// # Errors
/// If there is no such command.
pub fn run(args: &HelpArgs) -> Result<(), Failure> {
    print(&find(&args.words)?.render_long_help().to_string())
}

/// The command to which the words lead; the whole program where there are none.
///
/// # Errors
/// If there is no such command.
pub fn find(words: &[String]) -> Result<Command, Failure> {
    let mut command = crate::command();
    command.build();
    for word in words {
        let child = command.find_subcommand(word).cloned();
        command = child.ok_or_else(|| {
            Failure::usage(format!("{} has no command {word:?}", command.get_name()))
                .help("piccolo --help lists the commands")
        })?;
    }
    Ok(command)
}
