//! TCP options for sessions: small frames that must not wait, and dead peers that must not linger.
//!
//! Nothing here replaces the beats: a frozen process still acknowledges. `TCP_THIN_LINEAR_TIMEOUTS`
//! is left alone on purpose: at 10 % loss each way it made long gaps between beats no rarer. What
//! does is that both sides send (docs/adr/0006).

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
/// The kernel's, if it refuses an option that every Linux since 2.6.37 has.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
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
    }
}
