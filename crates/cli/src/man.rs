//! `piccolo man`: the manual pages, made from the command line itself. For packaging.

use std::path::PathBuf;

use clap::Args;

use crate::{failure::Failure, output::print};

pub const EXAMPLES: &str = "Examples:
  piccolo man target/man";

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// # Errors
/// If the folder cannot be written.
pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let write = || {
        std::fs::create_dir_all(&args.folder)?;
        clap_mangen::generate_to(crate::command(), &args.folder)?;
        std::fs::read_dir(&args.folder).map(Iterator::count)
    };
    let failed = || Failure::failed(format!("no manual pages in {}", args.folder.display()));
    let pages = write().map_err(|error| failed().because(&error))?;
    print(&format!("{pages} pages in {}\n", args.folder.display()))
}
