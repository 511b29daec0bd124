//! Answers that are none: from a node that is away, from a port that is another, about a node that
//! is not there.

use std::sync::{Arc, mpsc};

use futures_util::StreamExt as _;
use piccolo_core::api_server::{Code, Refusal};
use piccolo_rpc::{
    status,
    tls::{
        acceptor::{Acceptor, Protocol, ServerOptions},
        clock::Clock,
    },
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    calls::{check, start},
    support::{Authority, Home, PATIENCE, stderr, stdout},
};

#[test]
fn a_node_without_a_session_is_no_master_that_does_not_answer() {
    let (home, peer, context) = start();
    for (reason, message, part) in [
        ("NotConnected", "node zone-b has no session now; nothing was sent", "node list --watch"),
        ("NoAnswer", "node zone-b did not answer in time", "it may still act"),
    ] {
        let refusal = Refusal::new(Code::Unavailable, reason, message);
        peer.script.lock().unwrap().refusal = Some(status::status(&refusal));
        let output = home.piccolo(&["--context", &context, "log-level", "zone-b", "debug"]);
        check(&output, 1, &["error: cannot set the log level of zone-b", message, part]);
        assert!(!stderr(&output).contains("overloaded"), "{}", stderr(&output));
    }
}

#[test]
fn events_of_a_node_that_is_not_there_are_code_3() {
    let (home, _peer, context) = start();
    let of = |node| home.piccolo(&["--context", &context, "events", "--node", node]);
    check(&of("nosuch"), 3, &["there is no node \"nosuch\""]);
    let quiet = of("hpc");
    check(&quiet, 0, &[]);
    assert_eq!(stdout(&quiet), "no events\n");
    check(&of("zone-a"), 0, &[]);
}

#[test]
fn a_forced_step_without_its_container_is_a_wrong_command_line_and_so_is_a_container_of_another_step()
 {
    let (home, _peer, context) = start();
    let force = |words: &[&str]| {
        let recovery = ["--context", &context, "node", "recovery", "zone-a", "--force"];
        home.piccolo(&[&recovery, words].concat())
    };
    let missing = "error: --container is missing: restart-container is of one; nothing was done";
    let help = "--force restart-container --container NAME";
    check(&force(&["restart-container"]), 2, &[missing, help]);
    check(&force(&["restart-container", "--container", ""]), 2, &[missing, help]);
    let other = "error: --container is for restart-container, not reboot; nothing was done";
    check(&force(&["reboot", "--container", "camera"]), 2, &[other, help]);
}

/// HTTP/2 frames: a header of nine bytes, whose last four name the stream.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_SEEN: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
/// Status 404, the end of the headers and of stream 1.
const NOT_FOUND: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x8d];

/// As the master's HTTPS port answers a path that it does not know.
async fn answer_404(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    stream.write_all(&SETTINGS).await?;
    stream.read_exact(&mut [0; 24]).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await?;
        match (header[3], header[4]) {
            (1, _) => stream.write_all(&NOT_FOUND).await?,
            (4, 0) => stream.write_all(&SETTINGS_SEEN).await?,
            _ => {}
        }
    }
}

#[test]
fn another_port_of_the_master_is_named_as_such() {
    let authority = Arc::new(Authority::new());
    let identity = authority.identity("master", "m1");
    let (ready, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let options = ServerOptions::new(Protocol::Grpc, Clock::default());
            let acceptor = Acceptor::new(&identity, options).unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            let mut incoming = std::pin::pin!(acceptor.listen(listener));
            while let Some(Ok(mut stream)) = incoming.next().await {
                // It ends when the caller goes.
                let _ = answer_404(&mut stream).await;
            }
        });
    });
    let address = address.recv_timeout(PATIENCE).unwrap().to_string();
    let home = Home::new();
    let context = home.context("c.yaml", &address, &authority.identity("admin", "first"));
    let output = home.piccolo(&["--context", context.to_str().unwrap(), "node", "list"]);
    let cause = format!("cause: {address} answers, but it is not the gRPC port of a master");
    check(&output, 1, &["error: cannot list nodes", &cause, "the gRPC port is 47098", "c.yaml"]);
}
