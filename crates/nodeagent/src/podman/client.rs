//! A client for libpod's REST API that decodes only what the agent uses.
//!
//! Each call has a connection of its own, a time limit and a size limit. A status that is not a
//! success becomes [`Error::Status`] with Podman's own message. HLD §7.2.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Response};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::decode::{self, ContainerList, Event, Image, Inspected, StoragePaths};
use super::http;

/// A list of ten containers takes 6 ms warm and 60 ms when the service has to be started first; a
/// slow board under load takes a hundred times that.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// `info` forks conmon and the OCI runtime and takes half a second on a fast machine.
const INFO_LIMIT: Duration = Duration::from_secs(30);
/// Added to the grace period that a container is given to stop.
const STOP_LIMIT_BEYOND_GRACE: Duration = Duration::from_secs(20);
/// One event is less than 1 KiB, labels included.
const EVENT_BYTES_MAX: usize = 256 * 1024;
const EVENTS_QUEUED_MAX: usize = 64;

/// Why a call to Podman failed. Nothing is known of Podman's state after a time-out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no socket at {}: is podman installed and podman.socket enabled?", socket.display())]
    NoSocket { socket: PathBuf },
    #[error("no permission to use {}: the agent must run as the owner of podman", socket.display())]
    NoPermission { socket: PathBuf },
    #[error("nobody listens on {}: the podman service has ended", socket.display())]
    NobodyListens { socket: PathBuf },
    #[error("cannot connect to {}: {source}", socket.display())]
    Connect { socket: PathBuf, source: std::io::Error },
    #[error("podman did not answer {path} within {} s", limit.as_secs_f32())]
    TimedOut { path: String, limit: Duration },
    #[error("podman refused ({status}): {message}")]
    Status { status: u16, message: String },
    #[error("podman's answer is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    #[error("podman's answer is not HTTP as expected: {reason}")]
    Broken { reason: String },
    #[error("podman's answer cannot be understood: {reason}")]
    Decode { reason: String },
}

impl Error {
    pub(super) fn connecting(socket: &Path, source: std::io::Error) -> Self {
        let socket = socket.to_owned();
        let kind = source.kind();
        if kind == std::io::ErrorKind::NotFound {
            Self::NoSocket { socket }
        } else if kind == std::io::ErrorKind::PermissionDenied {
            Self::NoPermission { socket }
        } else if kind == std::io::ErrorKind::ConnectionRefused {
            Self::NobodyListens { socket }
        } else {
            Self::Connect { socket, source }
        }
    }

    pub(super) fn broken(error: hyper::Error) -> Self {
        // hyper's own words are short ("connection closed before message completed").
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        Self::Broken { reason: format!("{error}{}", cause.unwrap_or_default()) }
    }

    /// Whether Podman answered and only this call failed.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { .. })
    }
}

/// Talks to one Podman. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    call_limit: Duration,
}

impl Client {
    /// A client for the service that listens on `socket`. Connects at the first call.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), call_limit: CALL_LIMIT }
    }

    /// With another limit for ordinary calls than 10 s.
    #[must_use]
    pub fn with_call_limit(mut self, limit: Duration) -> Self {
        self.call_limit = limit;
        self
    }

    /// Where the service listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn call_limit(&self) -> Duration {
        self.call_limit
    }

    /// Podman's version, such as `4.3.1`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ping(&self) -> Result<String, Error> {
        let answer = self.call(Method::GET, "/libpod/_ping").await?;
        Ok(version_of(answer.server.as_deref()))
    }

    /// All containers, running or not.
    ///
    /// # Errors
    /// See [`Error`]. A single broken element is no error: see [`ContainerList::problems`].
    pub async fn containers(&self) -> Result<ContainerList, Error> {
        let answer = self.call(Method::GET, "/v4.0.0/libpod/containers/json?all=true").await?;
        let mut list = decode::containers(&answer.body)?;
        list.podman_version = version_of(answer.server.as_deref());
        list.service_pid = answer.service_pid;
        Ok(list)
    }

    /// All images.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let answer = self.call(Method::GET, "/v4.0.0/libpod/images/json").await?;
        decode::images(&answer.body)
    }

    /// One container as `inspect` shows it: exit code, health and restarts up to date.
    ///
    /// # Errors
    /// [`Error::Status`] with 404 if there is no such container; else see [`Error`].
    pub async fn inspect(&self, id: &str) -> Result<Inspected, Error> {
        let path = container_path(id, "json")?;
        let answer = self.call(Method::GET, &path).await?;
        decode::inspected(&answer.body)
    }

    /// Where Podman keeps its files. Costs Podman 0.2-0.6 s of CPU: at most once a start.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn storage_paths(&self) -> Result<StoragePaths, Error> {
        let path = "/v4.0.0/libpod/info";
        let answer = http::exchange(&self.socket, Method::GET, path, INFO_LIMIT).await?;
        decode::storage_paths_from_info(&answer.body)
    }

    /// Starts a container. One that runs already is fine.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(&self, id: &str) -> Result<(), Error> {
        self.call(Method::POST, &container_path(id, "start")?).await.map(drop)
    }

    /// Stops a container: SIGTERM, and SIGKILL after `grace`. One that does not run is fine.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let path = container_path(id, &format!("stop?timeout={}", grace.as_secs()))?;
        self.slow_call(Method::POST, &path, grace).await
    }

    /// Stops and starts a container.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn restart(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let path = container_path(id, &format!("restart?t={}", grace.as_secs()))?;
        self.slow_call(Method::POST, &path, grace).await
    }

    /// Removes a container, running or not. One that is gone already is fine.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let path = format!("?force=true&ignore=true&timeout={}", grace.as_secs());
        let path = format!("/v4.0.0/libpod/containers/{}{path}", checked(id)?);
        match self.slow_call(Method::DELETE, &path, grace).await {
            Err(Error::Status { status: 404, .. }) => Ok(()),
            result => result,
        }
    }

    /// Events as they happen, and those since `since_unix_ns` if given. Keeps the service running.
    pub fn events(&self, since_unix_ns: Option<i64>) -> EventStream {
        let (sender, receiver) = mpsc::channel(EVENTS_QUEUED_MAX);
        let socket = self.socket.clone();
        let limit = self.call_limit;
        let task = tokio::spawn(async move {
            if let Err(error) = stream_events(&socket, since_unix_ns, limit, &sender).await {
                sender.send(Err(error)).await.ok();
            }
        });
        EventStream { receiver, task: task.abort_handle(), newest_unix_ns: since_unix_ns }
    }

    async fn call(&self, method: Method, path: &str) -> Result<http::Answer, Error> {
        http::exchange(&self.socket, method, path, self.call_limit).await
    }

    async fn slow_call(&self, method: Method, path: &str, grace: Duration) -> Result<(), Error> {
        let limit = grace + STOP_LIMIT_BEYOND_GRACE;
        let answer = http::exchange(&self.socket, method, path, limit).await?;
        tracing::debug!(status = answer.status, path, "podman did it");
        Ok(())
    }
}

/// Events of one connection, oldest first, each once.
#[derive(Debug)]
pub struct EventStream {
    receiver: mpsc::Receiver<Result<Event, Error>>,
    task: AbortHandle,
    newest_unix_ns: Option<i64>,
}

impl EventStream {
    /// The next event, an error once, and then `None`. Cancel safe.
    ///
    /// Podman repeats events after a reconnect with `since`; those are left out by their time.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            let item = self.receiver.recv().await?;
            let Ok(event) = &item else { return Some(item) };
            if self.newest_unix_ns.is_some_and(|newest| event.time_unix_ns <= newest) {
                continue;
            }
            self.newest_unix_ns = Some(event.time_unix_ns);
            return Some(item);
        }
    }

    /// The time of the newest event: what to pass as `since` to the next stream.
    pub fn newest_unix_ns(&self) -> Option<i64> {
        self.newest_unix_ns
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Podman sends no header before the first event, so nothing here but the connecting has a limit.
async fn stream_events(
    socket: &Path,
    since_unix_ns: Option<i64>,
    connect_limit: Duration,
    events: &mpsc::Sender<Result<Event, Error>>,
) -> Result<(), Error> {
    let path = match since_unix_ns {
        Some(ns) => format!(
            "/v4.0.0/libpod/events?stream=true&since={}.{:09}",
            ns.div_euclid(1_000_000_000),
            ns.rem_euclid(1_000_000_000)
        ),
        None => "/v4.0.0/libpod/events?stream=true".to_owned(),
    };
    let read = |response: Response<Incoming>| async move {
        let status = response.status().as_u16();
        if status != 200 {
            let message = "the event stream was refused".to_owned();
            return Err(Error::Status { status, message });
        }
        read_events(response.into_body(), events).await
    };
    http::stream(socket, &path, connect_limit, read).await
}

/// One JSON object a line. A line that cannot be understood is left out: the list tells the truth.
async fn read_events(
    mut body: Incoming,
    events: &mpsc::Sender<Result<Event, Error>>,
) -> Result<(), Error> {
    let mut line = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::broken)?.into_data() else { continue };
        for part in data.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > EVENT_BYTES_MAX {
                return Err(Error::TooLarge { limit_bytes: EVENT_BYTES_MAX });
            }
            if !part.ends_with(b"\n") {
                continue;
            }
            if let Some(event) = decode::event(&line)
                && events.send(Ok(event)).await.is_err()
            {
                return Ok(());
            }
            line.clear();
        }
    }
    Err(Error::Broken { reason: "the event stream ended".into() })
}

/// `Libpod/4.3.1 (linux)` is `4.3.1`.
fn version_of(server: Option<&str>) -> String {
    let version = server.and_then(|server| server.strip_prefix("Libpod/"));
    let version = version.and_then(|version| version.split_whitespace().next());
    version.unwrap_or("unknown").to_owned()
}

pub(super) fn container_path(id: &str, call: &str) -> Result<String, Error> {
    Ok(format!("/v4.0.0/libpod/containers/{}/{call}", checked(id)?))
}

/// An id or a name as Podman allows it, so that it cannot change the path.
fn checked(id: &str) -> Result<&str, Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !id.is_empty() && id.len() <= 256 && id.chars().all(allowed) && !id.starts_with('.') {
        return Ok(id);
    }
    Err(Error::Status { status: 400, message: format!("{id:?} is no container id or name") })
}

#[cfg(test)]
mod tests;
