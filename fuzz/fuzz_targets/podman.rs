//! Podman's answers: its JSON in a sound HTTP answer, or any bytes at all on the socket.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use piccolo_nodeagent::podman::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

/// Far more than loopback needs: no answer may hold the agent longer than its limit.
const CALL_LIMIT: Duration = Duration::from_secs(2);

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let mut answer = Vec::new();
    if how & 0x80 == 0 {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
        answer.extend_from_slice(head.as_bytes());
    }
    answer.extend_from_slice(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("podman.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let server = async {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut request = [0; 1024];
                if stream.read(&mut request).await.is_ok() {
                    let _ = stream.write_all(&answer).await;
                }
            }
        };
        let client = Client::new(&socket).with_call_limit(CALL_LIMIT);
        let call = async {
            match how % 6 {
                0 => drop(client.containers().await),
                1 => drop(client.images().await),
                2 => drop(client.inspect("ab").await),
                3 => drop(client.storage_paths().await),
                4 => drop(client.ping().await),
                _ => {
                    let mut events = client.events(None);
                    while let Some(Ok(_)) = events.next().await {}
                }
            }
        };
        tokio::select! {
            () = server => {}
            done = tokio::time::timeout(CALL_LIMIT * 2, call) => done.expect("a call has its limit"),
        }
    });
});
