//! Files that people write for a command, or give to its standard input.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use crate::failure::{Exit, Failure};

/// The text of a file, or, where it is called `-`, of standard input.
///
/// # Errors
/// It cannot be read, is no text, or has more than `bytes_max` bytes.
pub fn read_text(file: &Path, bytes_max: u64) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        read_bounded(io::stdin().lock(), bytes_max)
    } else {
        File::open(file).and_then(|file| read_bounded(file, bytes_max))
    };
    text.map_err(|error| {
        let exit = Exit::of_unreadable(&error);
        Failure::new(exit, format!("{} cannot be read", file.display())).because(&error)
    })
}

fn read_bounded(reader: impl io::Read, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    reader.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(text)
}
