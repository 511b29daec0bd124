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
    let mut root = crate::command();
    root.build();
    let mut command: &mut Command = &mut root;
    for word in &args.words {
        let parent = command.get_name().to_owned();
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            Failure::usage(format!("{parent} has no command {word:?}"))
                .help("piccolo --help lists the commands")
        })?;
    }
    print(&command.render_long_help().to_string())
}
