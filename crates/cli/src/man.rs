//! `piccolo man`: the manual pages, made from the command line itself; one to read, or all of them
//! as files, for packaging.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{self, Stdio},
};

use clap::{Args, Command};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use crate::{failure::Failure, help, output::print};

pub const EXAMPLES: &str = "Examples:
  piccolo man                                     # the page of piccolo itself
  piccolo man node list
  piccolo man --into target/man                   # every page as a file, for packaging";

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The words of a command
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
    /// Write every page into this folder, which is made if it is not there
    #[arg(long, value_name = "DIR", conflicts_with = "topic")]
    into: Option<PathBuf>,
}

impl ManArgs {
    /// A path instead of a topic is a folder too: packaging of before knew nothing else.
    fn folder(&self) -> Option<&Path> {
        match (&self.into, self.topic.as_slice()) {
            (Some(folder), _) => Some(folder),
            (None, [path]) if path.contains('/') => Some(Path::new(path)),
            (None, _) => None,
        }
    }
}

/// # Errors
/// If there is no such command, or the folder cannot be written.
pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let Some(folder) = args.folder() else {
        let mut command = help::find(&args.topic)?;
        return match page(&command).and_then(|page| shown_by_man(&page)) {
            Ok(true) => Ok(()),
            // There is no man here, or it cannot read from a pipe.
            Ok(false) | Err(_) => print(&command.render_long_help().to_string()),
        };
    };
    let failed = || Failure::failed(format!("no manual pages in {}", folder.display()));
    let pages = write_all(folder).map_err(|error| failed().because(&error))?;
    print(&format!("{pages} pages in {}\n", folder.display()))
}

/// Lets man(1) format the page, and page it on a terminal.
fn shown_by_man(page: &[u8]) -> io::Result<bool> {
    let mut man = process::Command::new("man");
    let mut man = man.args(["-l", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = man.stdin.take() {
        // One that does not read says so by its end.
        let _ = stdin.write_all(page);
    }
    Ok(man.wait()?.success())
}

fn write_all(folder: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    write_below(&help::find(&[]).map_err(|failure| io::Error::other(failure.error))?, folder)
}

/// The pages of a command and of those below it; their number.
fn write_below(command: &Command, folder: &Path) -> io::Result<usize> {
    std::fs::write(folder.join(Man::new(command.clone()).get_filename()), page(command)?)?;
    let mut pages = 1;
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        pages += write_below(child, folder)?;
    }
    Ok(pages)
}

/// One page. `clap_mangen` would call the examples EXTRA and fill their lines.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .source(concat!("piccolo ", env!("CARGO_PKG_VERSION")))
        .manual("PICCOLO");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|child| !child.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (examples, notes) = after.split_once("\n\n").unwrap_or((&after, ""));
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in examples.lines().skip(1) {
        roff.text([roman(line.trim_start())]);
    }
    roff.control("fi", []);
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
    }
    for line in notes.lines() {
        match line {
            "" => roff.control("PP", []),
            line => roff.text([roman(line)]),
        };
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}
