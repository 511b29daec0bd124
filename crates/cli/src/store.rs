//! `piccolo store`: work on the master's store. The work is done by `piccolo-master`, which knows
//! the stores; this program only finds it.

use std::{
    env,
    ffi::OsString,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, Subcommand};

use crate::{args::Globals, failure::Failure};

pub const EXAMPLES: &str = "Examples:
  piccolo store migrate --help                    # what piccolo-master can move, and how";
const MIGRATE_EXAMPLES: &str = "Examples:
  piccolo store migrate --help                    # the options of piccolo-master store migrate";

/// What does the work.
const MASTER: &str = "piccolo-master";

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Move the cluster's state between the embedded store and etcd
    ///
    /// Runs `piccolo-master store migrate` with the arguments given, and ends with its exit code.
    /// piccolo-master is looked for beside this program and then on PATH. Stop the master first.
    #[command(after_help = MIGRATE_EXAMPLES, disable_help_flag = true)]
    Migrate(MigrateArgs),
}

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// For `piccolo-master store migrate`
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes `piccolo-master`; returns only if that fails.
///
/// # Errors
/// If there is no `piccolo-master`, or it cannot be run.
pub fn run(_: &Globals, command: &StoreCommand) -> Result<(), Failure> {
    let StoreCommand::Migrate(args) = command;
    become_master("cannot migrate the store", &["store", "migrate"], &args.arguments)
}

/// Runs `piccolo-master` in place of this program; returns only if that fails.
///
/// # Errors
/// If there is none, or it cannot be run.
pub fn become_master(what: &str, verb: &[&str], arguments: &[OsString]) -> Result<(), Failure> {
    let master = find_master().ok_or_else(|| {
        Failure::failed(what)
            .cause(format!("{MASTER} is neither beside this program nor on PATH"))
            .help("run this on the master's machine, where piccolo-master is installed")
    })?;
    // its usage shall name what was typed
    let error = Command::new(&master).arg0("piccolo").args(verb).args(arguments).exec();
    Err(Failure::failed(format!("{} cannot be run", master.display())).because(&error))
}

fn find_master() -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join(MASTER)));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join(MASTER));
    beside.into_iter().chain(on_path).find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
