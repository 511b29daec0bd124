//! One HTTP/1 exchange over a unix socket, with a limit on time and on size.

use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::client::Error;

/// A board with 500 containers lists them in less than this.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Podman's messages are a line. More is cut off.
const MESSAGE_CHARS_MAX: usize = 500;
/// hyper's smallest read buffer that is useful; the default grows to 400 KiB.
const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// An answer that Podman gave with a status of success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The header `Server`, such as `Libpod/4.3.1 (linux)`.
    pub(super) server: Option<String>,
    pub(super) body: Bytes,
    /// The process that listens on the socket.
    pub(super) service_pid: Option<u32>,
}

/// Sends a request on a connection of its own, whose answer is read for as long as it goes on: nothing here but the
/// connecting has a limit.
pub(super) async fn stream<F: Future<Output = Result<(), Error>>>(
    socket: &std::path::Path,
    path: &str,
    connect_limit: Duration,
    read: impl FnOnce(Response<Incoming>) -> F,
) -> Result<(), Error> {
    let stream = timeout(connect_limit, UnixStream::connect(socket))
        .await
        .map_err(|_| Error::TimedOut { path: path_only(path), limit: connect_limit })?
        .map_err(|error| Error::connecting(socket, error))?;
    let (mut sender, connection) = handshake(stream).await?;
    let request = request(Method::GET, path)?;
    let reading = async { read(sender.send_request(request).await.map_err(Error::broken)?).await };
    // it may end first: what is already buffered is still read then
    let (mut reading, mut connection) = (pin!(reading), pin!(connection));
    tokio::select! {
        biased;
        result = &mut reading => result,
        _ = &mut connection => reading.await,
    }
}

/// Sends one request on a connection of its own. The connection is closed afterwards, so that a
/// service started by its socket may go to sleep again.
pub(super) async fn exchange(
    socket: &std::path::Path,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<Answer, Error> {
    let work = async {
        let stream = UnixStream::connect(socket).await.map_err(|e| Error::connecting(socket, e))?;
        let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let service_pid = peer.and_then(|pid| u32::try_from(pid).ok());
        let (mut sender, connection) = handshake(stream).await?;
        let request = request(method, path)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(Error::broken)?;
            Ok(Answer { service_pid, ..read_answer(response).await? })
        };
        // The connection must be driven while the answer is awaited. It may end first: what is
        // already buffered is still delivered then.
        let (mut answer, mut connection) = (pin!(answer), pin!(connection));
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = &mut connection => answer.await,
        }
    };
    match timeout(limit, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::TimedOut { path: path_only(path), limit }),
    }
}

type Sender = http1::SendRequest<Empty<Bytes>>;
type Connection = http1::Connection<TokioIo<UnixStream>, Empty<Bytes>>;

pub(super) async fn handshake(stream: UnixStream) -> Result<(Sender, Connection), Error> {
    http1::Builder::new()
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Error::broken)
}

pub(super) fn request(method: Method, path: &str) -> Result<Request<Empty<Bytes>>, Error> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "podman")
        .body(Empty::new())
        .map_err(|error| Error::Broken { reason: format!("bad request path: {error}") })
}

/// The body if the status says success (304 means that it was so already), else Podman's message.
async fn read_answer(response: Response<Incoming>) -> Result<Answer, Error> {
    let status = response.status();
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let server = header("Server");
    let body = read_body(response.into_body()).await?;
    if status.is_success() || status.as_u16() == 304 {
        return Ok(Answer { status: status.as_u16(), server, body, service_pid: None });
    }
    Err(Error::Status { status: status.as_u16(), message: message_of(&body) })
}

async fn read_body(mut body: Incoming) -> Result<Bytes, Error> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::broken)?.into_data() else { continue };
        if whole.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(Error::TooLarge { limit_bytes: ANSWER_BYTES_MAX });
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// `{"cause": .., "message": .., "response": 404}`, or else the text itself.
pub(super) fn message_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    let message = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => message[..end].to_owned(),
        None => message,
    }
}

/// Without the query, which may be long.
pub(super) fn path_only(path: &str) -> String {
    path.split('?').next().unwrap_or_default().to_owned()
}
