//! Waiting for a file descriptor of the kernel to become readable.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `descriptor` with the runtime.
#[expect(
    deprecated,
    reason = "its successor is unsafe, which this workspace forbids; unsound it is only for types \
              whose descriptor may change, and an OwnedFd's cannot"
)]
pub(super) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
