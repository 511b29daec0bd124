//! A server for tests that answers as badly as it is told to.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::client::Client;

/// What the server sends for each connection before it closes; `None` hangs for ever.
pub(super) type Script = Option<Vec<u8>>;

/// A script that a test may change while the server runs.
pub(super) type Shared = Arc<Mutex<Script>>;

/// An HTTP answer; `head` is the status.
pub(super) fn answer(head: &str, body: &[u8]) -> Script {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    Some([head.as_bytes(), body].concat())
}

/// Runs `test` with a client of a server that follows `script`.
pub(super) fn with_server<T>(script: Script, test: impl AsyncFnOnce(Client) -> T) -> T {
    with_shared(&Arc::new(Mutex::new(script)), test)
}

/// As [`with_server`], with a script that may change.
pub(super) fn with_shared<T>(script: &Shared, test: impl AsyncFnOnce(Client) -> T) -> T {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("podman.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(&socket).unwrap();
        let script = Arc::clone(script);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _asked = stream.read(&mut request).await;
                let script = script.lock().unwrap().clone();
                match script {
                    Some(bytes) => drop(stream.write_all(&bytes).await),
                    None => open.push(stream),
                }
            }
        });
        test(Client::new(&socket)).await
    })
}
