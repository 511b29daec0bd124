//! A join token: from a file, from the environment or from stdin, never from the command line.

use std::fmt;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Where the environment may carry one.
pub const VARIABLE: &str = "PICCOLO_AGENT_TOKEN";
const TOKEN_BYTES_MAX: u64 = 4096;

/// Why there is no token. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the token from {from}")]
    Read { from: String, source: io::Error },
    #[error("{from} holds no token (one line of text without spaces is expected)")]
    None { from: String },
    #[error(
        "no token: give one in a file (--token-file FILE), in {VARIABLE}, or through stdin; \
         `piccolo token create` on the master makes one"
    )]
    NotGiven,
}

/// A secret that does not show itself when printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

/// Reads the token from `file` (`-` is stdin), else from the environment, else from stdin if
/// something is piped into it.
///
/// # Errors
/// There is none, or what is there is none.
pub fn read(file: Option<&Path>) -> Result<Token, Error> {
    let environment = std::env::var(VARIABLE).ok();
    let stdin = (!io::stdin().is_terminal()).then(io::stdin);
    read_from(file, environment.as_deref(), stdin)
}

fn read_from(
    file: Option<&Path>,
    environment: Option<&str>,
    stdin: Option<impl Read>,
) -> Result<Token, Error> {
    match (file, environment, stdin) {
        (Some(path), _, stdin) if path == Path::new("-") => match stdin {
            Some(stdin) => from_reader("stdin", stdin),
            None => Err(Error::NotGiven),
        },
        (Some(path), _, _) => from_file(path.to_owned()),
        (None, Some(text), _) => checked(VARIABLE, text),
        (None, None, Some(stdin)) => from_reader("stdin", stdin),
        (None, None, None) => Err(Error::NotGiven),
    }
}

fn from_file(path: PathBuf) -> Result<Token, Error> {
    let from = path.display().to_string();
    let file =
        std::fs::File::open(path).map_err(|source| Error::Read { from: from.clone(), source })?;
    from_reader(&from, file)
}

fn from_reader(from: &str, reader: impl Read) -> Result<Token, Error> {
    let mut text = String::new();
    reader
        .take(TOKEN_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|source| Error::Read { from: from.to_owned(), source })?;
    checked(from, &text)
}

fn checked(from: &str, text: &str) -> Result<Token, Error> {
    let token = text.trim();
    let valid = !token.is_empty()
        && text.len() as u64 <= TOKEN_BYTES_MAX
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if valid { Ok(Token(token.to_owned())) } else { Err(Error::None { from: from.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_STDIN: Option<&[u8]> = None;

    #[test]
    fn a_file_comes_before_the_environment_and_that_before_stdin() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "from-file\n").unwrap();
        let stdin = || Some(&b" from-stdin\n"[..]);
        let reveal = |token: Result<Token, Error>| token.unwrap().reveal().to_owned();
        assert_eq!(reveal(read_from(Some(&file), Some("from-env"), stdin())), "from-file");
        assert_eq!(reveal(read_from(Some(Path::new("-")), Some("x"), stdin())), "from-stdin");
        assert_eq!(reveal(read_from(None, Some("from-env"), stdin())), "from-env");
        assert_eq!(reveal(read_from(None, None, stdin())), "from-stdin");
    }

    #[test]
    fn what_is_no_token_is_refused_without_showing_it() {
        for text in ["", "  \n", "two words", "ü", &"x".repeat(5000)] {
            let error = read_from(None, Some(text), NO_STDIN).unwrap_err();
            assert_eq!(
                error.to_string(),
                "PICCOLO_AGENT_TOKEN holds no token (one line of text without spaces is expected)"
            );
        }
        assert!(matches!(read_from(None, None, NO_STDIN), Err(Error::NotGiven)));
        let missing = read_from(Some(Path::new("/no/token")), None, NO_STDIN).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the token from /no/token");
    }

    #[test]
    fn a_token_does_not_show_itself() {
        let token = checked("x", "PICCOLO1-secret").unwrap();
        assert_eq!(format!("{token:?}"), "Token(...)");
    }
}
