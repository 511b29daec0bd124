//! `piccolo backup`: done by `piccolo-master`, which knows stores, keys and the authority.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::{args::Globals, failure::Failure, store::become_master};

pub const EXAMPLES: &str = "Examples:
  piccolo backup create --out /mnt/usb            # asks for a passphrase
  piccolo backup verify /mnt/usb/piccolo.backup
  piccolo backup restore /mnt/usb/piccolo.backup  # on the new master's machine";
const CREATE: &str = "Examples:
  piccolo backup create --help                    # the options of piccolo-master backup create
  piccolo backup create --out /mnt/usb";
const INSPECT: &str = "Examples:
  piccolo backup inspect --help                   # the options of piccolo-master backup inspect
  piccolo backup inspect piccolo.backup -o json";
const VERIFY: &str = "Examples:
  piccolo backup verify --help                    # the options of piccolo-master backup verify
  piccolo backup verify piccolo.backup";
const RESTORE: &str = "Examples:
  piccolo backup restore --help                   # the options of piccolo-master backup restore
  piccolo backup restore piccolo.backup";
const REBUILD: &str = "Examples:
  piccolo backup rebuild --help                   # the options of piccolo-master backup rebuild
  piccolo backup rebuild --authority /mnt/old-disk/ca.pem";

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Write state, certificate authority, seal key and configuration into one sealed file
    ///
    /// Runs `piccolo-master backup create` with the arguments given, on the master's machine, as its
    /// user or root. The master may run meanwhile.
    #[command(after_help = CREATE, disable_help_flag = true)]
    Create(PassedOn),
    /// Show what a backup holds
    ///
    /// Runs `piccolo-master backup inspect` with the arguments given.
    #[command(after_help = INSPECT, disable_help_flag = true)]
    Inspect(PassedOn),
    /// Read a backup from end to end, and check that it could be restored
    ///
    /// Runs `piccolo-master backup verify` with the arguments given. Exit code 1 where anything is
    /// wrong with it.
    #[command(after_help = VERIFY, disable_help_flag = true)]
    Verify(PassedOn),
    /// Put a backup in place of this machine's master
    ///
    /// Runs `piccolo-master backup restore` with the arguments given. The master must not run.
    #[command(after_help = RESTORE, disable_help_flag = true)]
    Restore(PassedOn),
    /// Begin a new master with nothing but the old one's certificate authority
    ///
    /// Runs `piccolo-master backup rebuild` with the arguments given. The master must not run.
    #[command(after_help = REBUILD, disable_help_flag = true)]
    Rebuild(PassedOn),
}

#[derive(Debug, Args)]
pub struct PassedOn {
    /// For `piccolo-master backup`
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes `piccolo-master`; returns only if that fails.
///
/// # Errors
/// If there is no `piccolo-master`, or it cannot be run.
pub fn run(_: &Globals, command: &BackupCommand) -> Result<(), Failure> {
    let (verb, PassedOn { arguments }) = match command {
        BackupCommand::Create(args) => ("create", args),
        BackupCommand::Inspect(args) => ("inspect", args),
        BackupCommand::Verify(args) => ("verify", args),
        BackupCommand::Restore(args) => ("restore", args),
        BackupCommand::Rebuild(args) => ("rebuild", args),
    };
    become_master(&format!("cannot {verb} a backup"), &["backup", verb], arguments)
}
