//! The local socket: `piccolo-nodeagent status|leave|join` work with the master gone.
//!
//! One request, one line of JSON each way, over a unix socket that only its owner may open. Whoever does
//! not wait for the answer any more has not asked: an agent that stood still must not leave its cluster
//! when it goes on, after its user was told that nothing happened.

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
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
    /// What went wrong last on the way to a master, and whether trying again helps.
    Problem,
    /// The node leaves its cluster for good; containers go on.
    Leave,
    /// A token was put into the state folder.
    TokenArrived,
}

/// A request, and where its answer goes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: LocalRequest,
    pub(super) reply: oneshot::Sender<serde_json::Value>,
    /// Ends when the answer was written, or cannot be.
    pub(super) written: oneshot::Receiver<()>,
}

/// Listens until the receiver is dropped.
///
/// # Errors
/// The socket cannot be made.
pub(super) fn listen(path: &Path) -> Result<mpsc::Receiver<Asked>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    clear_the_way(path)?;
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

/// Removes what an agent left behind that is no more: a socket behind which nobody answers.
fn clear_the_way(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{} is in the way, and is no socket: set another control_socket", path.display())
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(_) => bail!(
            "another process listens on the control socket {}: stop it, or set another control_socket",
            path.display()
        ),
        Err(error) => {
            return Err(error).with_context(|| {
                format!("whether somebody listens on {} is not known", path.display())
            });
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} is in the way", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn answer(stream: UnixStream, asked: mpsc::Sender<Asked>) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut lines = BufReader::new(read.take(LINE_BYTES_MAX));
    lines.read_line(&mut line).await?;
    if is_gone(lines.get_ref().get_ref()) {
        return Ok(());
    }
    let (_writing, written) = oneshot::channel();
    let value = match serde_json::from_str::<LocalRequest>(&line) {
        Ok(request) => {
            let (reply, answered) = oneshot::channel();
            asked.send(Asked { request, reply, written }).await?;
            answered.await?
        }
        Err(error) => serde_json::json!({ "error": format!("not a request: {error}") }),
    };
    write.write_all(format!("{value}\n").as_bytes()).await?;
    Ok(())
}

/// Whether who asked has hung up; nothing else comes after a request. The kernel is asked itself: what
/// tokio knows of the socket may be older.
fn is_gone(peer: &OwnedReadHalf) -> bool {
    match rustix::io::read(peer.as_ref(), &mut [0; 1]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error != rustix::io::Errno::AGAIN,
    }
}

/// Asks a running agent.
///
/// # Errors
/// No agent listens there, or it does not answer in time.
pub async fn ask(socket: &Path, request: &LocalRequest) -> Result<serde_json::Value> {
    let ask = async {
        let mut stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("no agent answers on {}", socket.display()))?;
        stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
        let value: serde_json::Value =
            serde_json::from_str(&line).context("the agent ended before it answered")?;
        match value["error"].as_str() {
            Some(error) => bail!("the agent says: {error}"),
            None => Ok(value),
        }
    };
    tokio::time::timeout(TIMEOUT, ask)
        .await
        .context("the agent did not answer in time: its loop may hang")?
}
