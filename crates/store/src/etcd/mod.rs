//! The store in an etcd cluster, 3.4 or newer, through our own thin client.
//!
//! The client is generated from the few messages in `proto/etcd` that we use. It adds what etcd
//! leaves to its clients: failover between endpoints, deadlines, new tokens ([`connection`]),
//! transactions that are applied once though a connection broke ([`txn`]), and watches that go on
//! where they were ([`watch`]).

mod connection;
mod tls;
mod txn;
mod watch;
mod wire;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{future::join_all, stream};
use tokio::{sync::Mutex, time::timeout};
use tonic::{Code, Request, Status};

use crate::{
    Error, Health, KeyValue, LeaseId, Page, RANGE_PAGE_BYTES_MAX, ROOT, Range, Reply, Result,
    Revision, Store, StoreKind, StoreStatus, Transaction, Watch,
    etcd::{
        connection::{Answer, Cluster, Failure, refusal},
        txn::Fence,
        wire::etcdserverpb::{
            CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
            RangeRequest, RangeResponse, StatusRequest, StatusResponse, WatchCreateRequest,
            WatchRequest, kv_client::KvClient, lease_client::LeaseClient,
            maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request,
        },
    },
    migrate::INCOMPLETE,
    types::{validate_key, validate_prefix, validate_ttl},
};

/// Bytes of an answer to a range; a page that is larger is asked for again with fewer keys. Two of
/// etcd's largest values (1.5 MiB) fit.
const RANGE_ANSWER_BYTES_MAX: usize = 2 * RANGE_PAGE_BYTES_MAX;

/// How to reach an etcd cluster.
#[derive(Clone)]
pub struct EtcdOptions {
    /// `https://host:port`, tried in this order. `http://` is for loopback only, see
    /// `allow_plaintext`.
    pub endpoints: Vec<String>,
    pub tls: Option<EtcdTls>,
    /// A user of etcd's own access control; with TLS, etcd may take the certificate's common name
    /// instead.
    pub user: Option<String>,
    pub password: String,
    /// Name of this process among those that write, stable over restarts (the master's node id).
    /// Each has its own.
    pub client: String,
    /// A call fails after this; a transaction after at most twice this.
    pub call_deadline: Duration,
    /// One endpoint may take this long before the next is tried.
    pub attempt_deadline: Duration,
    /// Send everything, passwords too, unencrypted over a network.
    pub allow_plaintext: bool,
    /// Open the target of an unfinished migration, in order to finish or to wipe it.
    pub allow_incomplete: bool,
}

impl EtcdOptions {
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = String>, client: impl Into<String>) -> Self {
        Self {
            endpoints: endpoints.into_iter().collect(),
            tls: None,
            user: None,
            password: String::new(),
            client: client.into(),
            call_deadline: Duration::from_secs(5),
            attempt_deadline: Duration::from_secs(2),
            allow_plaintext: false,
            allow_incomplete: false,
        }
    }

    #[must_use]
    pub fn tls(mut self, tls: EtcdTls) -> Self {
        self.tls = Some(tls);
        self
    }

    #[must_use]
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self.password = password.into();
        self
    }

    #[must_use]
    pub fn allow_incomplete(mut self) -> Self {
        self.allow_incomplete = true;
        self
    }
}

impl fmt::Debug for EtcdOptions {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("tls", &self.tls)
            .field("user", &self.user)
            .field("client", &self.client)
            .field("call_deadline", &self.call_deadline)
            .field("attempt_deadline", &self.attempt_deadline)
            .finish_non_exhaustive()
    }
}

/// Certificates for the connection to etcd, as PEM.
#[derive(Clone, Default)]
pub struct EtcdTls {
    /// The CA that signed etcd's server certificates.
    pub ca_pem: Vec<u8>,
    /// Our certificate chain and private key, where etcd asks for one.
    pub client_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name to expect in etcd's certificate, where it is not the endpoint's host.
    pub server_name: Option<String>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls")
            .field("client_certificate", &self.client_pem.is_some())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// The store in etcd. Keeps no state of its own but its connections.
#[derive(Debug)]
pub struct EtcdStore {
    shared: Arc<Shared>,
}

impl EtcdStore {
    /// Checks the options. Does not connect: a cluster that is down now is used as soon as it is
    /// there. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Denied`] for options that can never work.
    pub fn new(options: EtcdOptions) -> Result<Self> {
        let checked = AtomicBool::new(options.allow_incomplete);
        validate_key(&format!("{}txn/{}", crate::PREFIX_INTERNAL, options.client))?;
        let cluster = Cluster::new(options)?;
        Ok(Self {
            shared: Arc::new(Shared { cluster, fence: Mutex::new(Fence::default()), checked }),
        })
    }
}

impl Store for EtcdStore {
    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<KeyValue>> {
        Box::pin(async move {
            validate_key(key)?;
            self.shared.refuse_incomplete().await?;
            let answer = self.shared.range(wire::range_of_one(key)).await;
            let found = answer.map_err(|failure| failure.into_error(&self.shared.cluster))?;
            found.kvs.into_iter().next().map(wire::item).transpose()
        })
    }

    fn range<'a>(&'a self, range: &'a Range) -> Reply<'a, Page> {
        Box::pin(async move {
            range.validate()?;
            self.shared.refuse_incomplete().await?;
            self.shared.page(range).await
        })
    }

    fn txn<'a>(&'a self, transaction: &'a Transaction) -> Reply<'a, Revision> {
        Box::pin(async move {
            transaction.validate()?;
            self.shared.refuse_incomplete().await?;
            self.shared.fence.lock().await.txn(&self.shared.cluster, transaction).await
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Reply<'a, Watch> {
        Box::pin(async move {
            validate_prefix(prefix)?;
            if from == 0 {
                return Err(Error::invalid(
                    "a watch from revision 0; give the listed revision + 1",
                ));
            }
            let (items, watch) = Watch::channel();
            let position = watch::Position { prefix: prefix.to_owned(), next: from };
            tokio::spawn(watch::follow(Arc::downgrade(&self.shared), position, items));
            Ok(watch)
        })
    }

    fn grant(&self, ttl: Duration) -> Reply<'_, LeaseId> {
        Box::pin(async move {
            let seconds = validate_ttl(ttl)?;
            self.shared.refuse_incomplete().await?;
            self.shared.grant(seconds).await
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Reply<'_, Duration> {
        Box::pin(self.shared.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> Reply<'_, ()> {
        Box::pin(self.shared.revoke(lease))
    }

    fn compact(&self, revision: Revision) -> Reply<'_, ()> {
        Box::pin(self.shared.compact(revision))
    }

    fn status(&self) -> Reply<'_, StoreStatus> {
        Box::pin(self.shared.status())
    }
}

/// What the store and its watches share.
#[derive(Debug)]
pub(crate) struct Shared {
    cluster: Cluster,
    fence: Mutex<Fence>,
    /// That the cluster holds no unfinished migration was seen once, or is not asked for.
    checked: AtomicBool,
}

impl Shared {
    async fn refuse_incomplete(&self) -> Result<()> {
        if self.checked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.current_revision().await.map(|_| ())
    }

    /// The revision now, from a linearizable read; also where unfinished migrations are noticed.
    async fn current_revision(&self) -> Result<Revision> {
        let answer = self.range(wire::range_of_one(INCOMPLETE)).await;
        let answer = answer.map_err(|failure| failure.into_error(&self.cluster))?;
        if !self.checked.load(Ordering::Acquire)
            && let Some(marker) = answer.kvs.first()
        {
            let detail = String::from_utf8_lossy(&marker.value).into_owned();
            return Err(Error::Incomplete {
                store: format!("etcd at {}", self.cluster.location()),
                detail,
            });
        }
        self.checked.store(true, Ordering::Release);
        Ok(revision_of(&answer))
    }

    async fn range(&self, request: RangeRequest) -> std::result::Result<RangeResponse, Failure> {
        let answer = self.cluster.call(request, async |channel, request| {
            KvClient::new(channel)
                .max_decoding_message_size(RANGE_ANSWER_BYTES_MAX)
                .range(request)
                .await
        });
        answer.await.map(|answer| answer.message)
    }

    async fn page(&self, range: &Range) -> Result<Page> {
        let mut limit = range.limit;
        let answer = loop {
            let request = RangeRequest {
                key: range.first_key().as_bytes().to_vec(),
                range_end: wire::range_end(&range.prefix),
                // One more than wanted tells where the next page starts.
                limit: i64::try_from(limit + 1).unwrap_or(i64::MAX),
                revision: range.revision.map_or(0, wire::wire_revision),
                serializable: false,
            };
            match self.range(request).await {
                Ok(answer) => break answer,
                Err(Failure::Refused { status, .. }) if is_too_long(&status) && limit > 1 => {
                    limit /= 2
                }
                Err(failure) => return Err(self.explain_range(range, failure).await),
            }
        };
        let revision = range.revision.unwrap_or_else(|| revision_of(&answer));
        let mut items = answer.kvs.into_iter().map(wire::item).collect::<Result<Vec<_>>>()?;
        let next = if items.len() > limit { items.pop().map(|item| item.key) } else { None };
        Ok(Page { items, revision, next })
    }

    async fn explain_range(&self, range: &Range, failure: Failure) -> Error {
        let Failure::Refused { status, .. } = &failure else {
            return failure.into_error(&self.cluster);
        };
        let asked = range.revision.unwrap_or(0);
        if status.message().contains("has been compacted") {
            let compact_revision = self.compact_revision(asked).await.unwrap_or(asked + 1);
            return Error::Compacted { asked, compact_revision };
        }
        if status.message().contains("future revision") {
            return Error::FutureRevision { asked, current: self.cluster.revision_seen() };
        }
        failure.into_error(&self.cluster)
    }

    /// Only a refused watch tells where history starts.
    async fn compact_revision(&self, asked: Revision) -> Option<Revision> {
        let create = WatchCreateRequest {
            key: ROOT.as_bytes().to_vec(),
            start_revision: wire::wire_revision(asked),
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
        };
        let asking = async {
            let (channel, _, request) = self.cluster.prepare(open_ended(request)).await.ok()?;
            let mut answers = WatchClient::new(channel).watch(request).await.ok()?.into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                if answer.compact_revision > 0 {
                    return Some(wire::revision(answer.compact_revision));
                }
            }
            None
        };
        timeout(self.cluster.options().attempt_deadline, asking).await.ok().flatten()
    }

    async fn grant(&self, seconds: u64) -> Result<LeaseId> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|e| Error::invalid(format!("no random numbers: {e}")))?;
        // We choose the id, so that asking again after a broken connection gives the same lease.
        let id = i64::from_le_bytes(random).saturating_abs().max(1);
        let request = LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX), id };
        let answer = self.cluster.call(request, async |channel, request| {
            LeaseClient::new(channel).lease_grant(request).await
        });
        match answer.await {
            Ok(_) => Ok(LeaseId(id)),
            Err(Failure::Refused { status, maybe_sent: true })
                if status.message().contains("lease already exists") =>
            {
                Ok(LeaseId(id))
            }
            Err(failure) => Err(failure.into_error(&self.cluster)),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration> {
        self.refuse_incomplete().await?;
        let answer = self.cluster.call(lease.0, async |channel, request: Request<i64>| {
            let (metadata, extensions, id) = request.into_parts();
            let stream = stream::iter([LeaseKeepAliveRequest { id }]);
            let request = Request::from_parts(metadata, extensions, stream);
            let response = LeaseClient::new(channel).lease_keep_alive(request).await?;
            let (metadata, mut answers, extensions) = response.into_parts();
            let first = answers.message().await?;
            let first = first.ok_or_else(|| Status::unavailable("etcd closed the stream"))?;
            Ok(tonic::Response::from_parts(metadata, first, extensions))
        });
        let answer = answer.await.map_err(|failure| failure.into_error(&self.cluster))?;
        match u64::try_from(answer.message.ttl) {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
            Ok(_) | Err(_) => Err(Error::LeaseNotFound { lease }),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.refuse_incomplete().await?;
        let request = LeaseRevokeRequest { id: lease.0 };
        let answer = self.cluster.call(request, async |channel, request| {
            LeaseClient::new(channel).lease_revoke(request).await
        });
        match answer.await {
            Ok(_) => Ok(()),
            Err(Failure::Refused { status, maybe_sent }) if status.code() == Code::NotFound => {
                if maybe_sent {
                    Ok(())
                } else {
                    Err(Error::LeaseNotFound { lease })
                }
            }
            Err(failure) => Err(failure.into_error(&self.cluster)),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.refuse_incomplete().await?;
        let request =
            CompactionRequest { revision: wire::wire_revision(revision), physical: false };
        let answer = self
            .cluster
            .call(request, async |channel, request| KvClient::new(channel).compact(request).await);
        match answer.await {
            Ok(_) => Ok(()),
            Err(Failure::Refused { status, .. })
                if status.message().contains("has been compacted") =>
            {
                Ok(())
            }
            Err(Failure::Refused { status, .. })
                if status.message().contains("future revision") =>
            {
                Err(Error::FutureRevision {
                    asked: revision,
                    current: self.cluster.revision_seen(),
                })
            }
            Err(failure) => Err(failure.into_error(&self.cluster)),
        }
    }

    async fn status(&self) -> Result<StoreStatus> {
        let revision = self.current_revision().await?;
        let answer = self.cluster.call(StatusRequest {}, ask_status);
        let Answer { message, .. } =
            answer.await.map_err(|failure| failure.into_error(&self.cluster))?;
        let cluster_id = message.header.as_ref().map_or(0, |header| header.cluster_id);
        Ok(StoreStatus {
            kind: StoreKind::Etcd,
            version: format!("etcd {}", message.version),
            instance: format!("{cluster_id:016x}"),
            location: self.cluster.location().to_owned(),
            revision,
            size_bytes: wire::revision(message.db_size),
            health: self.health(&message).await,
        })
    }

    /// Asks every endpoint, since a cluster that works with one of three down soon may not.
    async fn health(&self, answer: &StatusResponse) -> Health {
        let mut problems = answer.errors.clone();
        if answer.leader == 0 {
            problems.push("no leader".to_owned());
        }
        let asking = (0..self.cluster.endpoints()).map(async |index| {
            let (uri, channel) = self.cluster.endpoint(index);
            let answer = ask_status(channel, Request::new(StatusRequest {}));
            match timeout(self.cluster.options().attempt_deadline, answer).await {
                Ok(Ok(_)) => None,
                Ok(Err(status)) => Some(format!("{uri}: {}", status.message())),
                Err(_) => Some(format!("{uri} does not answer")),
            }
        });
        problems.extend(join_all(asking).await.into_iter().flatten());
        if problems.is_empty() { Health::Good } else { Health::Degraded(problems.join("; ")) }
    }
}

impl Failure {
    /// The error for callers that know nothing better about a refusal.
    fn into_error(self, cluster: &Cluster) -> Error {
        match self {
            Self::Lost { error, .. } => error,
            Self::Refused { status, .. } => refusal(cluster.location(), &status),
        }
    }
}

async fn ask_status(
    channel: tonic::transport::Channel,
    request: Request<StatusRequest>,
) -> std::result::Result<tonic::Response<StatusResponse>, Status> {
    MaintenanceClient::new(channel).status(request).await
}

/// A stream of one request that does not end, as etcd would end the watch with it.
fn open_ended(
    request: WatchRequest,
) -> impl futures_util::Stream<Item = WatchRequest> + Send + 'static {
    use futures_util::StreamExt as _;
    stream::iter([request]).chain(stream::pending())
}

fn is_too_long(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("length too large")
}

fn revision_of(answer: &RangeResponse) -> Revision {
    answer.header.as_ref().map_or(0, |header| wire::revision(header.revision))
}
