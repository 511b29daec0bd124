//! Reaching one of several etcd endpoints: failover, deadlines, tokens, and what a failure means.
//!
//! Each endpoint has one lazy channel, which dials again by itself when it is used. A call goes to
//! the endpoint that answered last; when that fails, to the next one. When all refuse to connect
//! the caller learns it at once; when one hangs the call goes on elsewhere until its deadline.

use std::{
    error::Error as StdError,
    future::Future,
    io,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Code, ConnectError, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    Error, EtcdOptions, Result, Revision,
    etcd::{
        tls::TlsDialer,
        wire::{
            self, HasHeader,
            etcdserverpb::{AuthenticateRequest, ResponseHeader, auth_client::AuthClient},
        },
    },
};

/// How long to wait before the endpoints are tried again within one call.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// An attempt with less time than this is not begun.
const ATTEMPT_MIN: Duration = Duration::from_millis(10);
/// How often one call asks for a new token.
const TOKEN_RENEWALS_MAX: usize = 2;
/// HTTP/2 pings on a connection in use, so that a watch notices a dead peer.
const PING_INTERVAL: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP/2 windows: etcd's answers are small, and every connection reserves them.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// The endpoints and what is known about the cluster behind them.
#[derive(Debug)]
pub(crate) struct Cluster {
    options: EtcdOptions,
    location: String,
    channels: Vec<Channel>,
    current: AtomicUsize,
    token: Mutex<Option<MetadataValue<Ascii>>>,
    cluster_id: OnceLock<u64>,
    revision_seen: AtomicU64,
}

/// Why a call was not answered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody answered, or the answer cannot be used.
    Lost { error: Error, maybe_sent: bool },
    /// etcd said no. `maybe_sent`: an earlier attempt of the same call may have been done all the
    /// same.
    Refused { status: Status, maybe_sent: bool },
}

/// An answer. `repeated`: an earlier attempt of the same call may have reached etcd as well.
#[derive(Debug)]
pub(crate) struct Answer<A> {
    pub(crate) message: A,
    pub(crate) repeated: bool,
}

impl Cluster {
    pub(crate) fn new(options: EtcdOptions) -> Result<Self> {
        if options.endpoints.is_empty() {
            return Err(Error::invalid("no etcd endpoint is configured"));
        }
        let channels = options.endpoints.iter().map(|uri| channel(uri, &options));
        Ok(Self {
            channels: channels.collect::<Result<_>>()?,
            location: options.endpoints.join(","),
            options,
            current: AtomicUsize::new(0),
            token: Mutex::new(None),
            cluster_id: OnceLock::new(),
            revision_seen: AtomicU64::new(0),
        })
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    pub(crate) fn options(&self) -> &EtcdOptions {
        &self.options
    }

    /// The newest revision that any linearizable answer showed.
    pub(crate) fn revision_seen(&self) -> Revision {
        self.revision_seen.load(Ordering::Acquire)
    }

    /// The endpoint to use now, its number, and the request with its metadata.
    pub(crate) async fn prepare<Q>(
        &self,
        message: Q,
    ) -> std::result::Result<(Channel, usize, Request<Q>), (usize, Status)> {
        let index = self.current.load(Ordering::Relaxed) % self.channels.len();
        let channel = self.channels[index].clone();
        let mut request = Request::new(message);
        // A member without a leader answers "no leader" instead of old data or nothing.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        match self.token(&channel).await {
            Ok(None) => {}
            Ok(Some(token)) => {
                request.metadata_mut().insert("token", token);
            }
            Err(status) => return Err((index, status)),
        }
        Ok((channel, index, request))
    }

    /// Makes a call, again if need be, until it is answered or refused, nobody can be reached, or
    /// the deadline is over.
    pub(crate) async fn call<Q, A, F, R>(
        &self,
        message: Q,
        send: F,
    ) -> std::result::Result<Answer<A>, Failure>
    where
        Q: Clone,
        A: HasHeader,
        F: Fn(Channel, Request<Q>) -> R,
        R: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let mut attempts = Attempts::until(Instant::now() + self.options.call_deadline);
        loop {
            let floor = self.revision_seen();
            let limit = attempts.left().min(self.options.attempt_deadline);
            let attempt = async {
                let (channel, index, request) = self.prepare(message.clone()).await?;
                send(channel, request).await.map_err(|status| (index, status))
            };
            let here = self.current.load(Ordering::Relaxed) % self.channels.len();
            match timeout(limit, attempt).await {
                Ok(Ok(response)) => {
                    let (message, repeated) =
                        (response.into_inner(), attempts.maybe_sent.is_some());
                    self.accept(&message, floor)
                        .map_err(|error| Failure::Lost { error, maybe_sent: repeated })?;
                    return Ok(Answer { message, repeated });
                }
                Ok(Err((index, status))) => attempts.note(self, index, status)?,
                Err(_) => attempts.note(self, here, no_answer(limit))?,
            }
            attempts.pause().await;
        }
    }

    /// Leaves an endpoint that failed for the next one, unless another call did already.
    pub(crate) fn move_on(&self, failed: usize) {
        let next = (failed + 1) % self.channels.len();
        self.current.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    pub(crate) fn endpoints(&self) -> usize {
        self.channels.len()
    }

    pub(crate) fn endpoint(&self, index: usize) -> (&str, Channel) {
        (&self.options.endpoints[index], self.channels[index].clone())
    }

    pub(crate) fn forget_token(&self) {
        *self.token_slot() = None;
    }

    /// Refuses answers of another cluster, and of one whose data were put back to an older state
    /// under our feet.
    pub(crate) fn accept(&self, message: &impl HasHeader, floor: Revision) -> Result<()> {
        let Some(ResponseHeader { cluster_id, revision, .. }) = message.header() else {
            return Ok(());
        };
        let expected = *self.cluster_id.get_or_init(|| *cluster_id);
        if expected != *cluster_id {
            return Err(self.wrong_data(format!(
                "an endpoint belongs to cluster {cluster_id:x}, the others to {expected:x}"
            )));
        }
        let revision = wire::revision(*revision);
        if message.is_linearizable() {
            if revision < floor {
                return Err(self.wrong_data(format!(
                    "its revision went back from {floor} to {revision}, so it was emptied or an older backup was restored"
                )));
            }
            self.revision_seen.fetch_max(revision, Ordering::AcqRel);
        }
        Ok(())
    }

    fn wrong_data(&self, problem: String) -> Error {
        Error::Corrupt {
            what: format!("etcd at {}", self.location),
            problem,
            remedy: "check the endpoints; restart the master to go on with what is there now"
                .to_owned(),
        }
    }

    async fn token(
        &self,
        channel: &Channel,
    ) -> std::result::Result<Option<MetadataValue<Ascii>>, Status> {
        let Some(user) = &self.options.user else { return Ok(None) };
        if let Some(token) = self.token_slot().clone() {
            return Ok(Some(token));
        }
        let request =
            AuthenticateRequest { name: user.clone(), password: self.options.password.clone() };
        let answer = AuthClient::new(channel.clone()).authenticate(request).await?.into_inner();
        let token = MetadataValue::try_from(answer.token)
            .map_err(|_| Status::internal("etcd gave a token that is no header value"))?;
        *self.token_slot() = Some(token.clone());
        Ok(Some(token))
    }

    fn token_slot(&self) -> MutexGuard<'_, Option<MetadataValue<Ascii>>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a failed attempt means for the next.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// etcd never saw it. `denied`: the TLS layer of one side does not accept the other.
    NotSent { problem: String, denied: bool },
    /// etcd may have done it.
    Unknown(String),
    /// It will be accepted with a new token.
    TokenOld,
    /// etcd understood and said no.
    Refused,
}

pub(crate) fn meaning(status: &Status) -> Meaning {
    if let Some(problem) = tls_problem(status) {
        return Meaning::NotSent { problem, denied: true };
    }
    if has_source::<ConnectError>(status) {
        return Meaning::NotSent { problem: innermost(status), denied: false };
    }
    let text = status.message();
    match status.code() {
        Code::Unauthenticated if text.contains("invalid auth token") => Meaning::TokenOld,
        Code::InvalidArgument if text.contains("revision of auth store is old") => {
            Meaning::TokenOld
        }
        Code::Unavailable if text.contains("no leader") => {
            Meaning::NotSent { problem: text.to_owned(), denied: false }
        }
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::Aborted => Meaning::Unknown(innermost(status)),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => Meaning::Refused,
    }
}

/// What to tell of a refusal that the caller of `call` knows nothing better about.
pub(crate) fn refusal(location: &str, status: &Status) -> Error {
    let text = status.message().trim_start_matches("etcdserver: ").to_owned();
    let store = location.to_owned();
    if text.contains("database space exceeded") {
        let problem = format!("{text}; compact, defragment, then `etcdctl alarm disarm`");
        return Error::Full { store, problem };
    }
    if text.contains("request is too large") || text.contains("too many operations") {
        return Error::Invalid {
            problem: format!("{store}: {text}; raise the limit of the etcd server"),
        };
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => {
            Error::Denied { problem: format!("{store}: {text}") }
        }
        Code::InvalidArgument | Code::FailedPrecondition
            if text.contains("authentication") || text.contains("user name") =>
        {
            Error::Denied { problem: format!("{store}: {text}") }
        }
        Code::DataLoss => Error::Corrupt {
            what: format!("etcd at {store}"),
            problem: text,
            remedy: "see etcd's disaster recovery".to_owned(),
        },
        Code::ResourceExhausted => Error::Unavailable { store, cause: text },
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable => Error::Invalid { problem: format!("{store}: {text}") },
    }
}

/// What the attempts of one call came to so far.
#[derive(Debug)]
struct Attempts {
    deadline: Instant,
    maybe_sent: Option<String>,
    /// Why the TLS layer of an endpoint did not accept us, or we not it.
    denied: Option<String>,
    not_reached: usize,
    renewals: usize,
    pause: Duration,
}

impl Attempts {
    fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            maybe_sent: None,
            denied: None,
            not_reached: 0,
            renewals: 0,
            pause: Duration::ZERO,
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    async fn pause(&self) {
        sleep(self.pause).await;
    }

    /// Takes a failed attempt in; an error ends the call.
    fn note(
        &mut self,
        cluster: &Cluster,
        index: usize,
        status: Status,
    ) -> std::result::Result<(), Failure> {
        let at = &cluster.options.endpoints[index];
        self.pause = Duration::ZERO;
        match meaning(&status) {
            Meaning::TokenOld if self.renewals < TOKEN_RENEWALS_MAX => {
                self.renewals += 1;
                cluster.forget_token();
                return Ok(());
            }
            Meaning::TokenOld | Meaning::Refused => {
                return Err(Failure::Refused { status, maybe_sent: self.maybe_sent.is_some() });
            }
            Meaning::NotSent { problem, denied } => {
                self.not_reached += 1;
                cluster.move_on(index);
                let cause = format!("{at}: {problem}");
                if denied {
                    self.denied = Some(cause.clone());
                }
                if self.not_reached >= cluster.endpoints() {
                    return Err(self.lost(cluster, cause));
                }
            }
            Meaning::Unknown(problem) => {
                self.not_reached = 0;
                self.pause = RETRY_PAUSE;
                self.maybe_sent = Some(format!("{at}: {problem}"));
                cluster.move_on(index);
            }
        }
        if self.left() <= self.pause + ATTEMPT_MIN {
            let cause =
                self.maybe_sent.clone().unwrap_or_else(|| "the deadline is over".to_owned());
            return Err(self.lost(cluster, cause));
        }
        Ok(())
    }

    fn lost(&self, cluster: &Cluster, cause: String) -> Failure {
        let error = match self.denied.clone() {
            Some(problem) => Error::Denied { problem },
            None => Error::Unavailable { store: cluster.location.clone(), cause },
        };
        Failure::Lost { error, maybe_sent: self.maybe_sent.is_some() }
    }
}

fn channel(uri: &str, options: &EtcdOptions) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(uri.to_owned())
        .map_err(|e| Error::invalid(format!("etcd endpoint {uri:?}: {e}")))?;
    let secure = match endpoint.uri().scheme_str() {
        Some("https") => true,
        Some("http") => false,
        Some(_) | None => {
            return Err(Error::invalid(format!(
                "etcd endpoint {uri:?} does not begin with https:// or http://"
            )));
        }
    };
    if !secure
        && !options.allow_plaintext
        && !is_loopback(endpoint.uri().host().unwrap_or_default())
    {
        return Err(Error::invalid(format!(
            "etcd endpoint {uri} would carry everything unencrypted over the network; use https://"
        )));
    }
    let endpoint = endpoint
        .connect_timeout(options.attempt_deadline)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    if !secure {
        return Ok(endpoint.connect_lazy());
    }
    let tls = options.tls.as_ref().ok_or_else(|| {
        Error::invalid(format!("etcd endpoint {uri} needs the CA certificate of etcd (tls)"))
    })?;
    let host = endpoint.uri().host().unwrap_or_default();
    let connector = TlsDialer::new(tls, host)?.connector();
    // The scheme tells tonic to leave TLS to our connector.
    let plain = uri.replacen("https", "http", 1).parse().map_err(|_| Error::invalid(uri))?;
    Ok(endpoint.origin(plain).connect_with_connector_lazy(connector))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn no_answer(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {} ms", limit.as_millis()))
}

/// An error and the errors under it.
fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| source_of(*error))
}

/// The next error below, also where `io::Error` hides it.
fn source_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(hidden) => Some(hidden),
        None => error.source(),
    }
}

fn has_source<E: StdError + 'static>(status: &Status) -> bool {
    sources(status).any(|error| error.is::<E>())
}

fn tls_problem(status: &Status) -> Option<String> {
    let found = sources(status).find_map(|error| error.downcast_ref::<rustls::Error>())?;
    Some(format!("TLS: {found}"))
}

/// The last error of the chain says most ("connection refused" rather than "transport error").
fn innermost(error: &(dyn StdError + 'static)) -> String {
    match sources(error).last() {
        Some(last) => match last.downcast_ref::<Status>() {
            Some(status) => status.message().to_owned(),
            None => last.to_string(),
        },
        None => error.to_string(),
    }
}
