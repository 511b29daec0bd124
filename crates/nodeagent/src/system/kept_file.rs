//! A small file of the kernel that is read again and again through one open descriptor.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// No file that the sampler reads needs more; what lies beyond is not looked at.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Most files are a line, and each container has two of them. The buffer grows once for the others.
const READ_BYTES_FIRST: usize = 256;

/// An open file with its own buffer. An error closes it; the next read opens it again.
#[derive(Debug)]
pub(crate) struct KeptFile {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl KeptFile {
    /// Opens nothing yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, buffer: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The first 64 KiB of what the file holds now, or `None` if it cannot be read now.
    pub(crate) fn read(&mut self) -> Option<&[u8]> {
        super::beside::reading(&self.path);
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(length) = read_whole(self.file.as_ref()?, &mut self.buffer) else {
            self.file = None;
            return None;
        };
        self.buffer.get(..length)
    }
}

/// Reads from offset 0 and lets `buffer` grow until the file fits. A file of the kernel is made
/// anew at offset 0, so a read that filled the buffer is repeated from the start with a larger one.
fn read_whole(file: &File, buffer: &mut Vec<u8>) -> Option<usize> {
    if buffer.is_empty() {
        buffer.resize(READ_BYTES_FIRST, 0);
    }
    loop {
        let mut length = 0;
        while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, length as u64) {
                Ok(0) => return Some(length),
                Ok(read) => length += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        if buffer.len() >= READ_BYTES_MAX {
            return Some(length);
        }
        buffer.resize((buffer.len() * 4).min(READ_BYTES_MAX), 0);
    }
}
