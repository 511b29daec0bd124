//! A receiver of webhooks, as well or unwell as a test wants it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::harness::PATIENCE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Take,
    /// 503.
    Fail,
    /// 422.
    Refuse,
    /// Reads, and never answers.
    Hang,
}

pub(super) struct Receiver {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    got: tokio::sync::Mutex<mpsc::UnboundedReceiver<(Mode, Value, bool)>>,
}

impl Receiver {
    pub(super) async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(mode));
        let (tell, got) = mpsc::unbounded_channel();
        let current = Arc::clone(&mode);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mode, tell) = (*current.lock().unwrap(), tell.clone());
                tokio::spawn(answer(stream, mode, tell));
            }
        });
        Self { address, mode, got: tokio::sync::Mutex::new(got) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// The next that it has taken, and whether it was signed; what it refused before is left out.
    pub(super) async fn next(&self) -> (Value, bool) {
        self.that_was(Mode::Take).await
    }

    pub(super) async fn refused(&self) -> Value {
        self.that_was(Mode::Fail).await.0
    }

    pub(super) async fn refused_for_good(&self) -> Value {
        self.that_was(Mode::Refuse).await.0
    }

    pub(super) async fn hung(&self) {
        self.that_was(Mode::Hang).await;
    }

    async fn that_was(&self, wanted: Mode) -> (Value, bool) {
        let mut got = self.got.lock().await;
        loop {
            let next = tokio::time::timeout(PATIENCE, got.recv()).await;
            let (mode, body, signed) = next.expect("nothing came").unwrap();
            if mode == wanted {
                return (body, signed);
            }
        }
    }
}

async fn answer(
    mut stream: TcpStream,
    mode: Mode,
    tell: mpsc::UnboundedSender<(Mode, Value, bool)>,
) -> Option<()> {
    let mut text = Vec::new();
    let head = loop {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).await.ok().filter(|read| *read > 0)?;
        text.extend(&some[..read]);
        let head = text.windows(4).position(|end| end == b"\r\n\r\n");
        let Some(head) = head else { continue };
        let length: usize = header(&text[..head], "content-length")?.parse().ok()?;
        if text.len() >= head + 4 + length {
            break head;
        }
    };
    let body = &text[head + 4..];
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"hidden-key");
    let expect = piccolo_core::hex::hex(ring::hmac::sign(&key, body).as_ref());
    let signature = header(&text[..head], "piccolo-signature");
    let value: Value = serde_json::from_slice(body).ok()?;
    let same_key =
        header(&text[..head], "idempotency-key") == value["key"].as_str().map(str::to_owned);
    tell.send((mode, value, signature == Some(format!("sha256={expect}")) && same_key)).ok()?;
    let status = match mode {
        Mode::Take => "204 No Content",
        Mode::Fail => "503 Service Unavailable",
        Mode::Refuse => "422 Unprocessable Entity",
        Mode::Hang => return std::future::pending().await,
    };
    // an old server: no length, and the end of the connection is the end of the answer
    stream.write_all(format!("HTTP/1.0 {status}\r\n\r\n").as_bytes()).await.ok()
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head).into_owned();
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_owned())
}
