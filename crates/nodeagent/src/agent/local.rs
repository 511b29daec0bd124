//! The local socket: `piccolo-nodeagent status|leave|join` work with the master gone.
//!
//! One request, one line of JSON each way, over a unix socket that only its owner may open.

use std::{io, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

/// Bytes of a request or an answer at most.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// For a request to arrive, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way at most; one more waits.
const REQUESTS_MAX: usize = 8;

/// What may be asked locally.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalRequest {
    Status,
    /// The node leaves its cluster for good; containers go on.
    Leave,
    /// A token was put into the state folder.
    TokenArrived,
}

/// A request, and where its answer goes.
pub(super) type Asked = (LocalRequest, oneshot::Sender<serde_json::Value>);

/// Listens until the receiver is dropped.
///
/// # Errors
/// The socket cannot be made.
pub(super) fn listen(path: &Path) -> Result<mpsc::Receiver<Asked>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} is in the way", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("the local socket {} cannot be made", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let (asked, questions) = mpsc::channel(REQUESTS_MAX);
    tokio::spawn(async move {
        while !asked.is_closed() {
            let Ok((stream, _)) = listener.accept().await else {
                // out of file descriptors: others need them more
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let asked = asked.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(TIMEOUT, answer(stream, asked)).await;
            });
        }
    });
    Ok(questions)
}

async fn answer(stream: UnixStream, asked: mpsc::Sender<Asked>) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let value = match serde_json::from_str::<LocalRequest>(&line) {
        Ok(request) => {
            let (sender, receiver) = oneshot::channel();
            asked.send((request, sender)).await?;
            receiver.await?
        }
        Err(error) => serde_json::json!({ "error": format!("not a request: {error}") }),
    };
    write.write_all(format!("{value}\n").as_bytes()).await?;
    Ok(())
}

/// Asks a running agent.
///
/// # Errors
/// No agent listens there, or it does not answer in time.
pub async fn ask(socket: &Path, request: &LocalRequest) -> Result<serde_json::Value> {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
        Ok::<_, anyhow::Error>(serde_json::from_str(&line)?)
    };
    tokio::time::timeout(TIMEOUT, ask)
        .await
        .context("the agent did not answer in time: its loop may hang")?
        .with_context(|| format!("no agent answers on {}", socket.display()))
}
