//! The listening side: from a TCP port to connections whose peer is known (HLD §9.1, §9.2).
//!
//! [`Acceptor::listen`] accepts, lets each connection do its handshake in a task of its own, and
//! yields those that are through, as a stream for tonic's `serve_with_incoming`. A silent or slow
//! stranger costs one bounded place for a bounded time and delays nobody.
//!
//! TLS sessions are never resumed, neither by id nor by ticket: a resumed session skips the check
//! of the client's certificate, and a removed node would walk in again.
//!
//! A new certificate or a changed set of authorities is a new configuration, taken by the next
//! handshake; connections that exist go on. [`Acceptor::close_where`] ends those of a peer that was
//! removed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::task::AtomicWaker;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::clock::Clock;
use super::identity::Identity;
use super::limits::{AddressRate, Limits, OpenConnections, Refusal};
use super::names::PeerIdentity;
use super::verify::{ClientVerifier, PeerError};
use super::{MinVersion, TlsError, provider, socket};

/// Connections that are through their handshake and wait for the server to take them.
const READY_CONNECTIONS_MAX: usize = 64;
/// Pause after an error of `accept` itself, such as no file descriptors left.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Connections of all acceptors so far: each has a number of its own.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// What is spoken on the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/2 and HTTP/1.1, for browsers and scrapers.
    Https,
}

impl Protocol {
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Protocol::Grpc => vec![b"h2".to_vec()],
            Protocol::Https => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// How to listen; everything but the identity.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub protocol: Protocol,
    pub min_version: MinVersion,
    pub clock: Clock,
    pub limits: Limits,
}

impl ServerOptions {
    #[must_use]
    pub fn new(protocol: Protocol, clock: Clock) -> ServerOptions {
        ServerOptions {
            protocol,
            min_version: MinVersion::default(),
            clock,
            limits: Limits::default(),
        }
    }
}

/// Does handshakes for one port. Shared; all methods take `&self`.
pub struct Acceptor {
    config: ArcSwap<ServerConfig>,
    options: ServerOptions,
    addresses: Mutex<Addresses>,
    live: Mutex<BTreeMap<u64, Live>>,
    counters: Counters,
}

/// What became of the connections of one port since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCounts {
    /// Handshakes that succeeded.
    pub admitted: u64,
    /// Handshakes that failed: no TLS, too old, or a certificate that is refused.
    pub failed: u64,
    /// Handshakes that took too long, or lost their place to newer ones.
    pub late: u64,
    /// Connections closed at once because a limit was reached.
    pub over_limit: u64,
}

#[derive(Debug, Default)]
struct Counters {
    admitted: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
    over_limit: AtomicU64,
}

struct Addresses {
    open: OpenConnections,
    rate: AddressRate,
}

struct Live {
    peer: PeerInfo,
    closer: Arc<Closer>,
}

impl Acceptor {
    /// # Errors
    /// [`TlsError`] if the identity has no CA to check clients with.
    pub fn new(identity: &Identity, options: ServerOptions) -> Result<Arc<Acceptor>, TlsError> {
        let limits = &options.limits;
        let rate = AddressRate::new(
            f64::from(limits.connections_per_address_per_second),
            limits.connections_per_address_burst,
        );
        Ok(Arc::new(Acceptor {
            config: ArcSwap::from_pointee(server_config(identity, &options)?),
            options,
            addresses: Mutex::new(Addresses { open: OpenConnections::default(), rate }),
            live: Mutex::new(BTreeMap::new()),
            counters: Counters::default(),
        }))
    }

    /// Presents another certificate, and trusts its authorities, from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError`] if the identity cannot be used; the old one stays in force.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), TlsError> {
        self.config.store(Arc::new(server_config(identity, &self.options)?));
        Ok(())
    }

    /// Accepts on `listener` until the returned stream is dropped.
    ///
    /// Needs a tokio runtime. Connections over a limit are closed without an answer.
    #[must_use]
    pub fn listen(self: &Arc<Self>, listener: TcpListener) -> Incoming {
        let (ready, incoming) = mpsc::channel(READY_CONNECTIONS_MAX);
        tokio::spawn(accept_loop(Arc::clone(self), listener, ready));
        Incoming(incoming)
    }

    /// Does one handshake, over any stream. Does not count against the limits per address.
    ///
    /// # Errors
    /// [`HandshakeError`]; the stream is closed.
    pub async fn handshake<S>(
        self: &Arc<Self>,
        stream: S,
        address: SocketAddr,
    ) -> Result<Connection<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let result = self.try_handshake(stream, address).await;
        let counter = match &result {
            Ok(_) => &self.counters.admitted,
            Err(HandshakeError::Tls(_)) => &self.counters.failed,
            Err(HandshakeError::Deadline(_)) => &self.counters.late,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    async fn try_handshake<S>(
        self: &Arc<Self>,
        stream: S,
        address: SocketAddr,
    ) -> Result<Connection<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.config.load_full());
        let deadline = self.options.limits.handshake_deadline;
        let tls = tokio::time::timeout(deadline, acceptor.accept(stream))
            .await
            .map_err(|_| HandshakeError::Deadline(deadline))?
            .map_err(HandshakeError::Tls)?;
        let identity = self.peer_identity(&tls)?;
        Ok(self.admit(tls, address, identity))
    }

    /// Closes every live connection whose peer `matches`; says how many. Their next read or write
    /// fails, which ends whatever stream is open on them.
    pub fn close_where(&self, matches: impl Fn(&PeerInfo) -> bool) -> usize {
        let closers: Vec<Arc<Closer>> = lock(&self.live)
            .values()
            .filter(|live| matches(&live.peer))
            .map(|live| Arc::clone(&live.closer))
            .collect();
        for closer in &closers {
            closer.close();
        }
        closers.len()
    }

    /// Connections that are through their handshake and still open.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.live).len()
    }

    /// TCP connections that were accepted on the port and are still open, handshake done or not.
    #[must_use]
    pub fn sockets(&self) -> usize {
        lock(&self.addresses).open.total()
    }

    /// What became of this port's connections so far.
    #[must_use]
    pub fn counts(&self) -> HandshakeCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HandshakeCounts {
            admitted: read(&self.counters.admitted),
            failed: read(&self.counters.failed),
            late: read(&self.counters.late),
            over_limit: read(&self.counters.over_limit),
        }
    }

    fn peer_identity<S>(&self, tls: &TlsStream<S>) -> Result<Option<PeerIdentity>, HandshakeError> {
        let Some([certificate, ..]) = tls.get_ref().1.peer_certificates() else {
            return Ok(None);
        };
        // The verifier has read this very certificate, so it cannot fail; if it did, nobody is let
        // in on the strength of it.
        PeerIdentity::from_certificate(certificate, self.options.clock.now())
            .map(Some)
            .map_err(|error| HandshakeError::Tls(io::Error::other(error)))
    }

    fn admit<S>(
        self: &Arc<Self>,
        tls: TlsStream<S>,
        address: SocketAddr,
        identity: Option<PeerIdentity>,
    ) -> Connection<S> {
        let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let vouched = Arc::default();
        let peer = PeerInfo { address, identity: identity.map(Arc::new), connection: id, vouched };
        let closer = Arc::new(Closer::default());
        lock(&self.live).insert(id, Live { peer: peer.clone(), closer: Arc::clone(&closer) });
        Connection {
            tls,
            peer,
            closer,
            spoke: false,
            deadline: Some(Box::pin(tokio::time::sleep(self.options.limits.first_byte_deadline))),
            place: None,
            acceptor: Arc::clone(self),
        }
    }

    /// Counts a new connection against its address, until the place is dropped.
    fn take_place(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let mut addresses = lock(&self.addresses);
        if !addresses.rate.take(address, std::time::Instant::now()) {
            return Err(Refusal::Rate);
        }
        addresses.open.open(address, &self.options.limits)?;
        Ok(Place { acceptor: Arc::clone(self), address })
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("options", &self.options)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// Connections that are through their handshake. Dropping it stops accepting; connections that
/// were yielded go on.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Connection<TcpStream>>);

impl Incoming {
    /// The next connection; `None` never comes while the acceptor's runtime lives.
    pub async fn accept(&mut self) -> Option<Connection<TcpStream>> {
        self.0.recv().await
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|next| next.map(Ok))
    }
}

/// Who is at the other end. In the extensions of every gRPC request on the connection; see
/// [`peer_of`].
#[derive(Clone, Debug)]
pub struct PeerInfo {
    pub address: SocketAddr,
    /// From the verified client certificate; `None` if the client showed none.
    pub identity: Option<Arc<PeerIdentity>>,
    /// A number that no other connection of this process has.
    pub connection: u64,
    vouched: Arc<Vouched>,
}

impl PeerInfo {
    /// Somebody on the connection has shown who they are by other means than a certificate: it may stay for as long
    /// again as a stranger's may from its first byte.
    pub fn vouch(&self) {
        *lock(&self.vouched.0) = Some(Instant::now());
    }
}

/// When somebody on the connection last showed who they are.
#[derive(Debug, Default)]
struct Vouched(Mutex<Option<Instant>>);

/// Who made a request. `None` if it did not come over a [`Connection`].
#[must_use]
pub fn peer_of<T>(request: &tonic::Request<T>) -> Option<&PeerInfo> {
    request.extensions().get::<PeerInfo>()
}

/// A TLS connection with a known peer.
pub struct Connection<S> {
    tls: TlsStream<S>,
    peer: PeerInfo,
    closer: Arc<Closer>,
    /// The application's first byte has come.
    spoke: bool,
    /// For the first byte; then for the end, where the peer showed no certificate.
    deadline: Option<Pin<Box<Sleep>>>,
    place: Option<Place>,
    acceptor: Arc<Acceptor>,
}

impl<S> Connection<S> {
    #[must_use]
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// The protocol agreed on, `h2` or `http/1.1`; `None` if the client did not ask.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.get_ref().1.alpn_protocol()
    }

    /// An error if the connection must not be used any more.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.closer.is_closed(context) {
            let reason = "the peer's right to be connected has ended";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason));
        }
        let stay = self.acceptor.options.limits.stranger_deadline;
        let vouched = || lock(&self.peer.vouched.0).map(|at| at + stay);
        let overdue = |sleep: &mut Pin<Box<Sleep>>| {
            while sleep.as_mut().poll(context).is_ready() {
                match vouched() {
                    Some(until) if until > Instant::now() => sleep.as_mut().reset(until),
                    Some(_) | None => return true,
                }
            }
            false
        };
        if self.deadline.as_mut().is_some_and(overdue) {
            let reason = if self.spoke {
                "a client without a certificate stayed too long"
            } else {
                "the client said nothing after the handshake"
            };
            return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
        }
        Ok(())
    }

    /// The first byte has come.
    fn has_spoken(&mut self) {
        self.spoke = true;
        let stay = self.acceptor.options.limits.stranger_deadline;
        let is_stranger = self.peer.identity.is_none();
        self.deadline = is_stranger.then(|| Box::pin(tokio::time::sleep(stay)));
    }
}

impl<S> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        lock(&self.acceptor.live).remove(&self.peer.connection);
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.tls).poll_read(context, buffer);
        if buffer.filled().len() > before && !this.spoke {
            this.has_spoken();
        }
        // Last, so that this task is woken by whichever of the two comes first.
        this.check(context)?;
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}

/// Why a stranger did not get in.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the handshake took longer than {} s", .0.as_secs_f32())]
    Deadline(Duration),
    #[error("the handshake failed")]
    Tls(#[source] io::Error),
}

/// Ends a connection from outside: its reader is woken and finds it closed.
#[derive(Debug, Default)]
struct Closer {
    closed: AtomicBool,
    reader: AtomicWaker,
}

impl Closer {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Registers first and asks then, so that no close in between is missed.
    fn is_closed(&self, context: &Context<'_>) -> bool {
        self.reader.register(context.waker());
        self.closed.load(Ordering::Acquire)
    }
}

/// A counted place for one connection of an address.
struct Place {
    acceptor: Arc<Acceptor>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.acceptor.addresses).open.close(self.address);
    }
}

async fn accept_loop(
    acceptor: Arc<Acceptor>,
    listener: TcpListener,
    ready: mpsc::Sender<Connection<TcpStream>>,
) {
    let mut handshakes = Handshakes::default();
    loop {
        let room = handshakes.room(&acceptor);
        tokio::select! {
            () = ready.closed() => return,
            () = handshakes.one_done() => {}
            () = until(room) => {}
            accepted = listener.accept(), if room.is_none() => match accepted {
                Ok((stream, address)) => {
                    if let Some(handshake) = begin(&acceptor, stream, address, &ready) {
                        handshakes.spawn(handshake);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                }
            },
        }
    }
}

/// A handshake to be done, unless the address is over its limits.
fn begin(
    acceptor: &Arc<Acceptor>,
    stream: TcpStream,
    address: SocketAddr,
    ready: &mpsc::Sender<Connection<TcpStream>>,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let place = match acceptor.take_place(address.ip()) {
        Ok(place) => place,
        Err(reason) => {
            acceptor.counters.over_limit.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, %reason, "connection refused");
            return None;
        }
    };
    let (acceptor, ready) = (Arc::clone(acceptor), ready.clone());
    Some(async move {
        if let Err(error) = socket::tune(&stream) {
            tracing::debug!(%address, %error, "connection lost before its handshake");
            return;
        }
        match acceptor.handshake(stream, address).await {
            Ok(mut connection) => {
                connection.place = Some(place);
                // A server that is going away takes no more connections: drop it.
                let _ = ready.send(connection).await;
            }
            Err(error) => log_refused(address, &error),
        }
    })
}

/// A refused certificate is somebody's misconfigured board or an intruder: the operator hears of
/// it. Everything else that fails on an open port is noise.
fn log_refused(address: SocketAddr, error: &HandshakeError) {
    match PeerError::find(error) {
        Some(reason) => tracing::warn!(%address, %reason, "client certificate refused"),
        None => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::debug!(%address, %error, cause, "handshake failed");
        }
    }
}

/// Handshakes under way, oldest first.
#[derive(Default)]
struct Handshakes {
    tasks: JoinSet<()>,
    started: VecDeque<(Instant, AbortHandle)>,
}

impl Handshakes {
    fn spawn(&mut self, handshake: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(handshake);
        self.started.push_back((Instant::now(), task));
    }

    /// Makes room for one more; or says when there may be some.
    fn room(&mut self, acceptor: &Acceptor) -> Option<Instant> {
        let limits = &acceptor.options.limits;
        while self.started.front().is_some_and(|(_, task)| task.is_finished()) {
            self.started.pop_front();
        }
        if self.started.len() >= limits.handshakes_max {
            self.started.retain(|(_, task)| !task.is_finished());
        }
        if self.started.len() < limits.handshakes_max {
            return None;
        }
        let (started, task) = self.started.front()?;
        let evictable = *started + limits.handshake_evictable_after;
        if evictable > Instant::now() {
            return Some(evictable);
        }
        task.abort();
        acceptor.counters.late.fetch_add(1, Ordering::Relaxed);
        self.started.pop_front();
        None
    }

    /// Waits for a handshake to end; for ever if there is none.
    async fn one_done(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Waits for a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn server_config(identity: &Identity, options: &ServerOptions) -> Result<ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in identity.ca() {
        roots.add(certificate.clone())?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCa);
    }
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let verifier = ClientVerifier { inner, cluster_id: identity.name().cluster_id.clone() };
    let certified = SingleCertAndKey::from(identity.certified());
    let mut config =
        ServerConfig::builder_with_details(provider(), Arc::new(options.clock.clone()))
            .with_protocol_versions(options.min_version.versions())?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(certified));
    config.alpn_protocols = options.protocol.alpn();
    // No resumption of any kind: see the head of this file.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves the counters as they were; refusing everybody would be worse.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
