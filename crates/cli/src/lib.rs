//! The `piccolo` command line (design §11): `piccolo <noun> <verb>`, one file per noun.
//!
//! A command reads its arguments ([`args`]), finds its context ([`context`]), asks a master
//! ([`connection`]), and turns the answer into text. Rendering is pure: data and a
//! [`output::Look`] in, a string out, so that tests compare whole tables. What a command needs
//! costs time only when it needs it: `piccolo node list` is done within milliseconds.
//!
//! It is a library so that its tests and the reference in `docs/operations/cli.md` see the same
//! commands as the executable.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{CommandFactory as _, Parser as _};

pub mod alert;
pub mod api_token;
pub mod args;
pub mod ask;
pub mod audit;
pub mod backup;
pub mod completion;
pub mod connection;
pub mod console;
pub mod context;
pub mod doctor;
pub mod events;
pub mod failure;
pub mod fault;
pub mod help;
pub mod input;
pub mod live;
pub mod log_level;
pub mod logs;
pub mod man;
pub mod metrics;
pub mod node;
pub mod output;
pub mod progress;
pub mod reference;
pub mod status;
pub mod store;
pub mod support_bundle;
pub mod text;
pub mod token;
pub mod top;
pub mod topology;
pub mod user;
pub mod version;
pub mod words;

use failure::{Exit, Failure};

/// The whole command line, as clap knows it: for completion, manual pages and the reference.
pub fn command() -> clap::Command {
    args::Cli::command()
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = if error.use_stderr() { with_whole_usage(error) } else { error };
            // Nobody reads: nothing to say.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(Err(Failure::failed("this process cannot wait for input").because(&error)));
        }
    };
    let result = runtime.block_on(cli.run());
    // Do not wait for a name that is still being looked up.
    runtime.shutdown_background();
    end(result)
}

/// The same error with the usage as `--help` has it. Otherwise clap shows every option that it knows
/// a value of as if it were required: `--context <FILE>` where `PICCOLO_CONTEXT` is set.
fn with_whole_usage(error: clap::Error) -> clap::Error {
    fn fix_usage(command: &mut clap::Command) {
        let usage = command.render_usage().to_string();
        command.get_subcommands_mut().for_each(fix_usage);
        let fixed = std::mem::take(command);
        *command = fixed.override_usage(usage.trim_start_matches("Usage: ").to_owned());
    }
    let mut root = command();
    root.build();
    fix_usage(&mut root);
    root.try_get_matches().err().unwrap_or(error)
}

fn end(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return Exit::Done.into() };
    if !failure.silent {
        report(&failure);
    }
    failure.exit.into()
}

/// Shows a failure on stderr.
pub fn report(failure: &Failure) {
    let mut text = failure.to_string();
    if std::io::stderr().is_terminal() && output::colour_wanted() {
        text = text.replacen("error:", "\u{1b}[1;31merror:\u{1b}[0m", 1);
        text = text.replacen("\ncause:", "\n\u{1b}[1mcause:\u{1b}[0m", usize::MAX);
        text = text.replacen("\nhelp:", "\n\u{1b}[1;32mhelp:\u{1b}[0m", usize::MAX);
    }
    output::say(text.trim_end_matches('\n'));
}
