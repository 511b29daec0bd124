//! TCP options for sessions: small frames that must not wait.
//!
//! A session sends one beat a second each way. That is a *thin* stream: after a loss there are no
//! further packets that would trigger a fast retransmission, and the ordinary time-out doubles each
//! time. At 10 % loss a few doublings look like a dead node. `TCP_THIN_LINEAR_TIMEOUTS` makes the
//! first six retries linear. Nothing here replaces the beats: a frozen process still acknowledges.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up. Longer
/// than the beats' own limit (3 s + 1 s grace), which is what decides; this only frees the socket.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// How long a connection may be silent before the kernel probes it, and how often it then does.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes after which the connection is dead.
pub const KEEPALIVE_PROBES: u32 = 3;

/// Sets the options on a connected socket.
///
/// # Errors
/// The kernel's, if it refuses an option that every Linux since 3.7 has. Thin-stream time-outs are
/// an improvement only: a kernel without them is no error.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    if let Err(error) = socket.set_tcp_thin_linear_timeouts(true) {
        tracing::debug!(%error, "no thin-stream time-outs on this kernel");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn every_option_reaches_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
        assert!(socket.tcp_thin_linear_timeouts().unwrap());
    }
}
