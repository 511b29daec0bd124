//! Asking before something is done that nobody can take back.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;

use crate::failure::Failure;

/// `--yes`, for every command that asks.
#[derive(Debug, Clone, Copy, Args)]
pub struct YesArgs {
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
}

impl YesArgs {
    /// Before anything else is done.
    ///
    /// # Errors
    /// Nobody has said yes, and there is no terminal to ask whether `what`.
    pub fn can_ask(self, what: &str) -> Result<(), Failure> {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if self.yes || is_terminal {
            return Ok(());
        }
        Err(Failure::usage(format!("there is no terminal to ask whether {what}")).help("say --yes"))
    }

    /// Whether it is to be done.
    ///
    /// # Errors
    /// The terminal has gone.
    pub fn agreed(self, question: &str) -> Result<bool, Failure> {
        if self.yes {
            return Ok(true);
        }
        let mut stderr = std::io::stderr().lock();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
