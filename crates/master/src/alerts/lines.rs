//! A server that is read line by line, and not for ever: for a client that has no such limits of its own.
//!
//! A read ends with a line's end. So nobody holds what a server sent behind its "go ahead" to STARTTLS, in the clear: it
//! goes into the handshake, which fails, and is not taken for what the server says under TLS.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// Bytes of all that a server says at most.
const BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Lines<S> {
    stream: BufReader<S>,
    peer: SocketAddr,
    left: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<S> {
    pub(super) fn new(stream: S, peer: SocketAddr) -> Self {
        Self { stream: BufReader::new(stream), peer, left: BYTES_MAX }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let there = ready!(Pin::new(&mut this.stream).poll_fill_buf(context))?;
        let line = there.iter().position(|byte| *byte == b'\n').map_or(there.len(), |end| end + 1);
        let taken = line.min(into.remaining());
        let Some(left) = this.left.checked_sub(taken) else {
            return Poll::Ready(Err(io::Error::other("the server says too much")));
        };
        into.put_slice(&there[..taken]);
        this.left = left;
        Pin::new(&mut this.stream).consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> AsyncTokioStream for Lines<S>
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug,
{
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn read(said: &[u8]) -> (Lines<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (here, mut there) = tokio::io::duplex(said.len());
        there.write_all(said).await.unwrap();
        (Lines::new(here, SocketAddr::from(([127, 0, 0, 1], 25))), there)
    }

    #[tokio::test]
    async fn a_read_ends_with_a_line_so_that_nothing_waits_in_the_clear() {
        let (mut lines, _server) = read(b"220 go ahead\r\n250 a lie\r\n").await;
        let mut buffer = [0; 100];
        let length = lines.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"220 go ahead\r\n");
        let length = lines.read(&mut buffer[..5]).await.unwrap();
        assert_eq!(&buffer[..length], b"250 a");
    }

    #[tokio::test]
    async fn a_line_without_an_end_ends_nevertheless() {
        let (mut lines, _server) = read(&[b'2'; BYTES_MAX + 1]).await;
        let error = lines.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "the server says too much");
    }
}
