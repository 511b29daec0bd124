//! Where the passphrase comes from: a file, standard input, or the terminal. Never an argument: everybody on the
//! machine can read those.

use std::{
    io::{BufRead as _, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::Context as _;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Characters at least. Guessing is slow, but not that slow.
const CHARS_MIN: usize = 8;
/// Bytes of a file or a line that are read.
const BYTES_MAX: u64 = 1024;

pub(super) type Passphrase = Zeroizing<String>;

/// From `file`, `-` being standard input; from the terminal where there is none, twice if it is `new`.
pub(super) fn read(file: Option<&Path>, new: bool) -> anyhow::Result<Passphrase> {
    let passphrase = match file {
        Some(path) if path == Path::new("-") => {
            first_line(std::io::stdin().lock().take(BYTES_MAX), "standard input")?
        }
        Some(path) => from_file(path)?,
        None => from_terminal(new)?,
    };
    anyhow::ensure!(!passphrase.is_empty(), "the passphrase is empty");
    if new { for_new(passphrase) } else { Ok(passphrase) }
}

/// If it is good enough to seal with.
pub(super) fn for_new(passphrase: Passphrase) -> anyhow::Result<Passphrase> {
    let chars = passphrase.chars().count();
    anyhow::ensure!(
        chars >= CHARS_MIN,
        "the passphrase has {chars} characters, it must have {CHARS_MIN} at least; nothing was written"
    );
    Ok(passphrase)
}

/// The first line of a file that nobody but its owner may read.
pub(super) fn from_file(path: &Path) -> anyhow::Result<Passphrase> {
    let unreadable = || format!("the passphrase in {} cannot be read", path.display());
    let file = std::fs::File::open(path).with_context(unreadable)?;
    let mode = file.metadata().with_context(unreadable)?.mode();
    anyhow::ensure!(
        mode & 0o077 == 0,
        "{} has mode {:o} and holds a passphrase; set it to 0600, and choose another one if others had access",
        path.display(),
        mode & 0o7777
    );
    first_line(file.take(BYTES_MAX), &path.display().to_string())
}

fn first_line(input: impl std::io::Read, name: &str) -> anyhow::Result<Passphrase> {
    let mut line = Zeroizing::new(String::new());
    let read = std::io::BufReader::new(input).read_line(&mut line);
    read.with_context(|| format!("the passphrase from {name} cannot be read"))?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

fn from_terminal(new: bool) -> anyhow::Result<Passphrase> {
    let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty");
    let terminal = terminal.context(
        "there is no terminal to ask for the passphrase; give --passphrase-file FILE, or - for standard input",
    )?;
    let passphrase = ask(&terminal, "Passphrase: ")?;
    if new {
        let again = ask(&terminal, "The same again: ")?;
        anyhow::ensure!(passphrase == again, "the two passphrases differ; nothing was written");
    }
    Ok(passphrase)
}

fn ask(mut terminal: &std::fs::File, prompt: &str) -> anyhow::Result<Passphrase> {
    /// Shows again what is typed, however this ends.
    struct Echo<'a>(&'a std::fs::File, rustix::termios::Termios);
    impl Drop for Echo<'_> {
        fn drop(&mut self) {
            tcsetattr(self.0, OptionalActions::Flush, &self.1).ok();
        }
    }
    let before = tcgetattr(terminal).context("the terminal does not answer")?;
    let echo = Echo(terminal, before);
    let mut silent = echo.1.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(terminal, OptionalActions::Flush, &silent)?;
    terminal.write_all(prompt.as_bytes())?;
    let line = first_line(terminal.take(BYTES_MAX), "the terminal");
    terminal.write_all(b"\n")?;
    line
}
