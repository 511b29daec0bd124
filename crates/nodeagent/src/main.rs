//! `piccolo-nodeagent`: the agent itself, and what can be asked of it on the board.

use std::process::ExitCode;

use clap::Parser;
use piccolo_nodeagent::{
    commands,
    config::{Cli, Command, Config, Flags, Loaded, RunArguments},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_check = matches!(cli.command, Some(Command::Check(_)));
    let result = match cli.command {
        Some(Command::Version) => commands::version(),
        command => load(&cli.flags).and_then(|mut loaded| match command {
            None => commands::run(loaded.config, &RunArguments::default()),
            Some(Command::Run(arguments)) => commands::run(loaded.config, &arguments),
            Some(Command::Status(arguments)) => commands::status(&loaded.config, &arguments),
            Some(Command::Check(arguments)) => commands::check(&mut loaded, &arguments),
            Some(Command::CheckConfig) => commands::check_config(&mut loaded),
            Some(Command::Leave) => commands::leave(&loaded.config),
            Some(Command::Join(arguments)) => commands::join(&loaded.config, &arguments),
            Some(Command::Version) => commands::version(),
        }),
    };
    match result {
        Ok(code) => code,
        // of a check, 1 would say that there are warnings only
        Err(error) if is_check => {
            let _ = commands::complain(&error);
            ExitCode::from(2)
        }
        Err(error) => commands::complain(&error),
    }
}

fn load(flags: &Flags) -> anyhow::Result<Loaded> {
    Ok(Config::load(flags)?)
}
