//! The way to a master: dial one of the context's addresses, call with a deadline, watch across
//! restarts.
//!
//! A [`Cluster`] is the context with the limits of this command; a [`Client`] is a connection to
//! one master. [`follow`] turns a server stream into steps that survive the loss of the
//! connection: it dials again with backoff and asks to resume, and every loss and return is a step
//! of its own, so that no gap is silent.

use std::{
    hash::{BuildHasher as _, RandomState},
    io::IsTerminal as _,
    time::Duration,
};

use futures_util::{Stream, stream::unfold};
use piccolo_rpc::{
    tls::{
        PeerError,
        clock::Clock,
        connector::{ChannelError, ClientOptions, Connector},
    },
    v1::{GetClusterStatusRequest, api_server_service_client::ApiServerServiceClient},
};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use crate::{
    args::Globals,
    context::{Context, expiry_warning},
    failure::{Exit, Failure},
    fault,
    output::{now, print, say},
    progress::Progress,
    report,
};

/// The generated client.
pub type Api = ApiServerServiceClient<Channel>;

/// From the start of a connection to the end of its handshake; then the next master is tried.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// One answer at most: a thousand nodes with fifty containers each take about 10 MiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A watch that hears nothing for so long asks whether the master is still there: a frozen master,
/// or a cut cable, closes no connection.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Waits between two attempts of a watch: half to all of a time that doubles between these.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The cluster that a command speaks to.
#[derive(Debug)]
pub struct Cluster {
    pub context: Context,
    connector: Connector,
    /// For one call.
    timeout: Duration,
}

impl Cluster {
    /// Reads the context. Nothing is sent.
    ///
    /// # Errors
    /// As [`Context::find`].
    pub fn new(globals: &Globals) -> Result<Self, Failure> {
        let context = Context::find(globals.context.as_deref())?;
        // For people: a program could do nothing about it.
        if std::io::stderr().is_terminal()
            && let Some(warning) = expiry_warning(context.identity.name().not_after, now())
        {
            say(&warning);
        }
        let options = ClientOptions {
            connect_timeout: DIAL_TIMEOUT.min(globals.timeout),
            ..ClientOptions::new(Clock::default())
        };
        let connector = Connector::new(&context.identity, options).map_err(|error| {
            Failure::failed(format!("{} is not a usable context", context.path.display()))
                .because(&error)
        })?;
        Ok(Self { context, connector, timeout: globals.timeout })
    }

    /// Dials the masters in turn.
    ///
    /// # Errors
    /// [`Exit::Unreachable`] with what each of them did, or [`Exit::Denied`] if one refused who we
    /// are, or all are another cluster's.
    pub async fn connect(&self) -> Result<Client<'_>, Failure> {
        let mut problems = Vec::new();
        let mut strangers = true;
        for address in self.context.servers() {
            let mut progress = Progress::new(format!("connecting to {address}"));
            match progress.over(self.dial(address)).await {
                Ok(channel) => return Ok(self.client(channel, address.clone())),
                Err(error) => {
                    let peer = PeerError::find(&error);
                    if let Some(PeerError::RefusedByPeer(alert)) = &peer {
                        let what = format!("cannot connect to {address}");
                        return Err(fault::refused_certificate(&what, alert, &self.context));
                    }
                    strangers &= peer.is_some_and(|peer| fault::is_another_cluster(&peer));
                    problems.push((address.clone(), fault::dial_problem(&error)));
                }
            }
        }
        Err(if strangers {
            fault::another_cluster(&problems, &self.context)
        } else {
            self.unreachable(&problems)
        })
    }

    /// One of them, and no other.
    ///
    /// # Errors
    /// As [`Cluster::connect`].
    pub async fn connect_to(&self, address: &str) -> Result<Client<'_>, Failure> {
        match self.dial(address).await {
            Ok(channel) => Ok(self.client(channel, address.to_owned())),
            Err(error) => {
                Err(self.unreachable(&[(address.to_owned(), fault::dial_problem(&error))]))
            }
        }
    }

    /// What dials, with our certificate.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// What one call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The whole of a dial is limited, not only its parts.
    async fn dial(&self, address: &str) -> Result<Channel, ChannelError> {
        self.connector.channel(address).await
    }

    fn client(&self, channel: Channel, address: String) -> Client<'_> {
        let api = Api::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Client { cluster: self, api, address }
    }

    fn unreachable(&self, problems: &[(String, String)]) -> Failure {
        let mut failure = match problems {
            [(address, _)] => {
                Failure::new(Exit::Unreachable, format!("no master answers at {address}"))
            }
            _ => Failure::new(Exit::Unreachable, "no master answers"),
        };
        for (address, problem) in problems {
            failure = failure.cause(format!("{address}: {problem}"));
        }
        if problems.iter().all(|(_, problem)| problem == fault::CLOSED_BEFORE_TLS) {
            return failure.help(format!(
                "{}:\nis the address in {} right (the gRPC port is 47098)?",
                fault::WHY_CLOSED_BEFORE_TLS,
                self.context.path.display()
            ));
        }
        failure.help(format!(
            "is piccolo-master running there (systemctl status piccolo-master), is the address in\n\
             {} right, and does a firewall let it through?",
            self.context.path.display()
        ))
    }
}

/// A connection to one master.
#[derive(Debug)]
pub struct Client<'a> {
    cluster: &'a Cluster,
    api: Api,
    address: String,
}

/// The host of `HOST:PORT` or of `HOST`, an IPv6 address without its brackets.
pub fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

impl Client<'_> {
    /// Of the master that answers.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One call within the command's deadline, e.g.
    /// `client.call("cannot list nodes", request, async |api, r| api.get_nodes(r).await)`.
    ///
    /// # Errors
    /// [`Failure`] with `what` as its error.
    pub async fn call<T, R>(
        &mut self,
        what: &str,
        message: T,
        send: impl AsyncFnOnce(&mut Api, Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        self.call_within(self.cluster.timeout, what, message, send).await
    }

    /// One call that may take another time than the command's.
    ///
    /// # Errors
    /// [`Failure`] with `what` as its error.
    pub async fn call_within<T, R>(
        &mut self,
        limit: Duration,
        what: &str,
        message: T,
        send: impl AsyncFnOnce(&mut Api, Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        let mut request = Request::new(message);
        request.set_timeout(limit);
        let mut progress = Progress::new(format!("waiting for {}", self.address));
        match timeout(limit, progress.over(send(&mut self.api, request))).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(match self.refusal_behind(&status).await {
                Some(alert) => fault::refused_certificate(what, &alert, &self.cluster.context),
                None => self.failure(what, &status),
            }),
            Err(_) => {
                let message = format!("no answer within {} s", limit.as_secs_f32());
                Err(self.failure(what, &Status::deadline_exceeded(message)))
            }
        }
    }

    /// A master that refuses our certificate says so only after the handshake. HTTP/2 often knows
    /// nothing but that the connection broke: then the alert is read from a connection without it.
    async fn refusal_behind(&self, status: &Status) -> Option<String> {
        if !fault::broke_off(status) {
            return None;
        }
        let (_, port) = self.address.rsplit_once(':')?;
        let host = host_of(&self.address);
        let ask = async {
            let mut stream = self.cluster.connector.connect(host, port.parse().ok()?).await.ok()?;
            let error = stream.read(&mut [0]).await.err()?;
            match PeerError::find(&error) {
                Some(PeerError::RefusedByPeer(alert)) => Some(alert),
                Some(_) | None => None,
            }
        };
        timeout(DIAL_TIMEOUT.min(self.cluster.timeout), ask).await.ok().flatten()
    }

    /// As a failure of this command.
    pub fn failure(&self, what: &str, status: &Status) -> Failure {
        fault::of_status(what, status, &self.cluster.context, &self.address)
    }
}

/// Does something with each of `names` in turn and prints what came of it. One with which it fails
/// does not keep the others from it; the first failure is the exit code.
///
/// # Errors
/// As the first failure, which was reported.
pub async fn each(
    cluster: &Cluster,
    names: &[String],
    mut act: impl AsyncFnMut(&mut Client<'_>, &str) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let mut client = cluster.connect().await?;
    let mut first = None;
    for name in names {
        match act(&mut client, name).await {
            Ok(text) => print(&text)?,
            Err(failure) => {
                report(&failure);
                first.get_or_insert(failure.exit);
            }
        }
    }
    first.map_or(Ok(()), |exit| Err(Failure::silent(exit)))
}

/// What a watch sees next.
#[derive(Debug)]
pub enum Step<M> {
    Item(M),
    /// The connection is lost; the watch goes on trying. The text says why.
    Lost(String),
    /// It is back; what was missed follows.
    Back(String),
}

/// Follows a server stream. `open` asks for it, from where the caller's cursor stands by then.
/// Ends only with a [`Failure`]: the first connection could not be made, or the master refused.
pub fn follow<'a, M: 'static>(
    cluster: &'a Cluster,
    what: &'a str,
    open: impl AsyncFn(&mut Api) -> Result<Response<Streaming<M>>, Status> + 'a,
) -> impl Stream<Item = Result<Step<M>, Failure>> + 'a {
    let follower = Follower {
        cluster,
        what,
        stream: None,
        lost_at: None,
        attempt: 0,
        met: false,
        ended: false,
    };
    unfold((follower, open), async |(mut follower, open)| {
        if follower.ended {
            return None;
        }
        let step = follower.step(&open).await;
        follower.ended = step.is_err();
        Some((step, (follower, open)))
    })
}

/// A stream, and what is needed to ask beside it.
struct Open<M> {
    stream: Streaming<M>,
    api: Api,
    address: String,
}

struct Follower<'a, M> {
    cluster: &'a Cluster,
    what: &'a str,
    stream: Option<Open<M>>,
    lost_at: Option<Instant>,
    /// Attempts since the last item.
    attempt: u32,
    /// A master has answered before.
    met: bool,
    ended: bool,
}

impl<M: 'static> Follower<'_, M> {
    async fn step(
        &mut self,
        open: &impl AsyncFn(&mut Api) -> Result<Response<Streaming<M>>, Status>,
    ) -> Result<Step<M>, Failure> {
        loop {
            if let Some(Open { stream, api, address }) = &mut self.stream {
                let limit = DIAL_TIMEOUT.min(self.cluster.timeout);
                let heard = tokio::select! {
                    biased;
                    message = stream.message() => message,
                    status = is_gone(api, limit) => Err(status),
                };
                let why = match heard {
                    Ok(Some(item)) => {
                        self.attempt = 0;
                        return Ok(Step::Item(item));
                    }
                    Ok(None) => "the master ended the watch".to_owned(),
                    Err(status) if fault::is_passing(&status) || ends_a_session(&status) => {
                        status.message().to_owned()
                    }
                    Err(status) => {
                        let context = &self.cluster.context;
                        return Err(fault::of_status(self.what, &status, context, address));
                    }
                };
                let lost = format!("connection to {address} lost: {why}; reconnecting");
                self.stream = None;
                self.lost_at = Some(Instant::now());
                return Ok(Step::Lost(lost));
            }
            if self.attempt > 0 || self.lost_at.is_some() {
                sleep(backoff(self.attempt, RandomState::new().hash_one(self.attempt))).await;
            }
            self.attempt = self.attempt.saturating_add(1);
            match self.open(open).await {
                Ok(address) => {
                    if let Some(lost_at) = self.lost_at.take() {
                        let seconds = lost_at.elapsed().as_secs_f32();
                        return Ok(Step::Back(format!(
                            "reconnected to {address} after {seconds:.1} s"
                        )));
                    }
                }
                // Only a watch that has once worked is worth waiting for.
                Err(failure) if self.met && failure.exit == Exit::Unreachable => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn open(
        &mut self,
        open: &impl AsyncFn(&mut Api) -> Result<Response<Streaming<M>>, Status>,
    ) -> Result<String, Failure> {
        let mut client = self.cluster.connect().await?;
        let limit = self.cluster.timeout;
        let answer = timeout(limit, open(&mut client.api)).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", limit.as_secs_f32());
            Err(Status::deadline_exceeded(message))
        });
        match answer {
            Ok(response) => {
                self.met = true;
                let address = client.address.clone();
                let Client { api, address: own, .. } = client;
                self.stream = Some(Open { stream: response.into_inner(), api, address: own });
                Ok(address)
            }
            Err(status) => Err(client.failure(self.what, &status)),
        }
    }
}

/// Asks again and again beside a silent stream; ends when there is no answer.
async fn is_gone(api: &mut Api, limit: Duration) -> Status {
    loop {
        sleep(SILENCE_MAX).await;
        let answer = timeout(limit, api.get_cluster_status(GetClusterStatusRequest {})).await;
        match answer {
            Ok(Err(status)) if fault::is_passing(&status) => return status,
            // Whatever else the master says: it is there.
            Ok(Ok(_) | Err(_)) => {}
            Err(_) => {
                let message = format!("no answer within {} s", limit.as_secs_f32());
                return Status::deadline_exceeded(message);
            }
        }
    }
}

/// How a server that goes away, or drops a slow watcher, ends a stream.
fn ends_a_session(status: &Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::Cancelled
            | tonic::Code::Aborted
            | tonic::Code::ResourceExhausted
            | tonic::Code::Internal
    )
}

/// Before the attempt of that number (0: the first after a loss).
fn backoff(attempt: u32, random: u64) -> Duration {
    let ceiling = BACKOFF_MIN.saturating_mul(1 << attempt.min(16)).min(BACKOFF_MAX);
    let half = ceiling / 2;
    let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(random % (millis + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_spread_and_stay_in_bounds() {
        for attempt in [0, 1, 5, 40, u32::MAX] {
            for random in [0, 1, 12_345, u64::MAX] {
                let wait = backoff(attempt, random);
                assert!(wait >= BACKOFF_MIN / 2 && wait <= BACKOFF_MAX, "{attempt}: {wait:?}");
            }
        }
        assert!(backoff(0, u64::MAX) <= BACKOFF_MIN);
        assert!(backoff(9, 0) >= BACKOFF_MAX / 2);
    }
}
