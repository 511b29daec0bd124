//! One master, from its start to its end.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use piccolo_core::{
    session::{Goodbye, GoodbyeReason},
    state_manager::{Input, StateManager},
};
use piccolo_rpc::tls::{
    acceptor::{Acceptor, Protocol, ServerOptions},
    clock::Clock,
};
use piccolo_store::Store;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    alerts::{Facts, Notifier, board::AlertBoard},
    api_server::{self, Api, connections::Connections, sessions::Sessions},
    backup::{
        self,
        schedule::{BackupHealth, Schedule},
    },
    certificate_authority::{CertificateAuthority, server_renewal_at},
    clock::MasterClock,
    config::{Config, StoreConfig},
    figures::Figures,
    https,
    kept_logs::KeptLogs,
    logging::LogLevel,
    metrics::export::Exporter,
    monitoring_server::Monitoring,
    startup,
    state_manager::{
        Owner, Published, StateHandle,
        board::Board,
        performer::Performer,
        queue::EffectQueue,
        writer::{StoreHealth, Writer},
    },
};

/// For calls under way to end, and for what was decided to be stored, once the master stops.
const CALLS_END_WITHIN: Duration = Duration::from_secs(2);
const STORED_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at whether the server's certificate is to be renewed.
const RENEWAL_EVERY: Duration = Duration::from_secs(600);

/// A master that serves.
#[derive(Debug)]
pub struct Master {
    address: SocketAddr,
    https_address: Option<SocketAddr>,
    admin_context: PathBuf,
    stop: watch::Sender<bool>,
    /// Of the owner and the performer: whichever ends first ends the master.
    failed: oneshot::Receiver<anyhow::Error>,
    tasks: Tasks,
    sessions: Arc<Sessions>,
    queue: Arc<EffectQueue>,
}

#[derive(Debug)]
struct Tasks {
    servers: Vec<JoinHandle<()>>,
    owner: JoinHandle<()>,
    performer: JoinHandle<()>,
    renewal: JoinHandle<()>,
    backups: Option<JoinHandle<()>>,
    history: JoinHandle<()>,
    facts: JoinHandle<()>,
    kept: JoinHandle<()>,
    exports: Option<JoinHandle<()>>,
}

impl Master {
    /// Starts; when it returns, both ports are listening.
    ///
    /// # Errors
    /// Whatever keeps it from serving, as a chain of sentences. What was made until then is used by the next start.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_with(config, LogLevel::default()).await
    }

    pub(crate) async fn start_with(config: Config, log_level: LogLevel) -> anyhow::Result<Self> {
        // first, so that a port that is taken leaves nothing behind
        let listener = bind(config.listen).await?;
        let address = listener.local_addr()?;
        backup::finish(&config.state_dir).context("a restored backup cannot be put in place")?;
        // whoever restores holds the port: this is of one that was killed
        if let Err(error) = backup::discard(&config.state_dir) {
            tracing::warn!(%error, "what a killed restore has left cannot be removed");
        }
        startup::check(&config)?;
        startup::make_state_dir(&config.state_dir)?;
        let wall = Clock::default();
        let (authority, seal) = startup::open_authority(&config, &wall)?;
        let (authority, seal) = (Arc::new(authority), Arc::new(seal));
        let store = startup::open_store(&config).await?;
        let (health, figures) = (Arc::new(StoreHealth::default()), Arc::new(Figures::default()));
        let name = format!("{} {}", std::process::id(), config.listen);
        let writer = Writer::take_over(
            Arc::clone(&store),
            Arc::clone(&seal),
            &name,
            Arc::clone(&health),
            Arc::clone(&figures),
        );
        let writer = writer.await?;
        let (snapshot, items) = startup::load(store.as_ref(), &seal, &authority, &config).await?;
        wall.raise(startup::clock_floor(&items));
        drop(items);
        let clock = MasterClock::new(wall.clone());
        let servers = config.servers(address);
        let admin = if snapshot.has_users() {
            None
        } else {
            let path = config.admin_context();
            Some(startup::first_admin(&authority, &path, &servers, clock.seconds())?)
        };
        let manager = StateManager::restore(snapshot, startup::settings(&config), clock.now());
        let parts = Parts {
            config,
            wall,
            clock,
            authority,
            store,
            health,
            figures,
            writer,
            log_level,
            servers,
        };
        parts.run(manager, listener, address, admin.map(|user| Input::AdminIssued { user })).await
    }

    /// Where agents and people connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https_address
    }

    /// The file with the first administrator's certificate and key.
    #[must_use]
    pub fn admin_context(&self) -> &std::path::Path {
        &self.admin_context
    }

    /// Waits for what must not happen: it tells why the master cannot go on.
    pub async fn failure(&mut self) -> anyhow::Error {
        match (&mut self.failed).await {
            Ok(error) => error,
            // every task has ended without a word: they were aborted
            Err(_) => anyhow::anyhow!("the master's tasks have ended"),
        }
    }

    /// Stops: says goodbye to everybody, lets calls end, and stores what was decided.
    pub async fn stop(self) {
        let message = "the master stops; it may come back".to_owned();
        self.sessions.close_all(&Goodbye { reason: GoodbyeReason::Stopping, message });
        self.stop.send_replace(true);
        for mut server in self.tasks.servers {
            if tokio::time::timeout(CALLS_END_WITHIN, &mut server).await.is_err() {
                server.abort();
            }
        }
        // with nobody left to tell the owner anything it ends by itself; what it decided is stored
        self.tasks.renewal.abort();
        self.tasks.facts.abort();
        // what was not acknowledged is sent again
        self.tasks.kept.abort();
        if let Some(backups) = self.tasks.backups {
            backups.abort();
        }
        if let Some(exports) = self.tasks.exports {
            // it ends by itself, soon after it was told to stop
            exports.await.ok();
        }
        self.tasks.owner.abort();
        if tokio::time::timeout(STORED_WITHIN, self.tasks.history).await.is_err() {
            tracing::warn!("the newest figures could not be written before the end");
        }
        self.queue.close();
        let mut performer = self.tasks.performer;
        if tokio::time::timeout(STORED_WITHIN, &mut performer).await.is_err() {
            tracing::warn!(
                "the store did not take everything before the end; nobody was told of that part"
            );
            performer.abort();
        }
    }
}

/// What is there before anything runs.
struct Parts {
    config: Config,
    wall: Clock,
    clock: MasterClock,
    authority: Arc<CertificateAuthority>,
    store: Arc<dyn Store>,
    health: Arc<StoreHealth>,
    figures: Arc<Figures>,
    writer: Writer,
    log_level: LogLevel,
    servers: Vec<String>,
}

impl Parts {
    async fn run(
        self,
        mut manager: StateManager,
        listener: TcpListener,
        address: SocketAddr,
        first: Option<Input>,
    ) -> anyhow::Result<Master> {
        let connections = Arc::new(Connections::default());
        let figures = Arc::clone(&self.figures);
        let (kept, arriving) = KeptLogs::open(&self.config.state_dir, self.config.kept_logs);
        let sessions = Sessions::new(Arc::clone(&connections), figures, Arc::clone(&kept));
        let sessions = Arc::new(sessions);
        let kept = tokio::spawn(kept.keep(Arc::clone(&sessions), arriving, self.clock.clone()));
        let (state, inputs) = StateHandle::new();
        let (_, last_event) = manager.events_kept();
        let board = Arc::new(Board::new(manager.nodes(), manager.revision(), last_event));
        let queue = Arc::new(EffectQueue::default());
        queue.push(manager.start(self.clock.now()))?;
        if let Some(input) = first {
            queue.push(manager.handle(self.clock.now(), input))?;
        }
        let (_, first_words) = manager.events_kept();
        let mut durable = board.watch_events();
        let (stop, stopping) = watch::channel(false);
        let alerts = Arc::new(AlertBoard::new(manager.alerts().cloned()));
        let boards = (&board, &alerts);
        let api = self.api(state.clone(), boards, &sessions, &connections, &queue, stopping);
        let notifier =
            Notifier::new(state.clone(), &self.config.state_dir, Arc::clone(&self.figures));
        let facts = tokio::spawn(self.facts(&state, &api.backup).tell(stop.subscribe()));
        let backup_health = Arc::clone(&api.backup);
        let monitoring = Arc::clone(&api.monitoring);
        manager.nodes().for_each(|view| monitoring.seen(&view));
        let history = Arc::clone(&monitoring).keep(self.config.state_dir.clone(), stop.subscribe());
        let history = tokio::spawn(history);
        let owner = Owner {
            manager,
            inputs,
            clock: self.clock.clone(),
            queue: Arc::clone(&queue),
            sessions: Arc::clone(&sessions),
            replies: state.replies(),
            notifier: notifier.clone(),
            published: Arc::clone(&api.published),
            watchdog: sd_notify::watchdog_enabled().map(|period| period / 3),
        };
        let exports = self.exports(&api);
        let acceptors = self.acceptors()?;
        connections.set(acceptors.clone());
        let (servers, https_address) = self.serve(api, &acceptors, listener, &stop).await?;
        let admin_context = self.config.admin_context();
        let backups = self.backups(&state, backup_health);
        let (authority, clock) = (Arc::clone(&self.authority), self.clock.clone());
        let renewal = tokio::spawn(renew(self.config, authority, clock, acceptors));
        let performer = Performer {
            queue: Arc::clone(&queue),
            writer: self.writer,
            board,
            monitoring,
            alerts,
            notifier,
            replies: state.replies(),
            sessions: Arc::clone(&sessions),
            connections,
            authority: self.authority,
            clock: self.clock,
        };
        let (owner, performer, mut failed) = spawn_machine(owner, performer);
        let tasks =
            Tasks { servers, owner, performer, renewal, backups, history, facts, kept, exports };
        // it has started once that is durable
        tokio::select! {
            _ = durable.wait_for(|last| *last >= first_words) => {}
            error = &mut failed => return Err(error?),
        }
        Ok(Master { address, https_address, admin_context, stop, failed, tasks, sessions, queue })
    }

    /// Where the settings name a receiver.
    fn exports(&self, api: &Api) -> Option<JoinHandle<()>> {
        let exporter = Exporter::new(self.config.otlp.clone()?, api.clone());
        Some(tokio::spawn(exporter.run()))
    }

    fn api(
        &self,
        state: StateHandle,
        (board, alerts): (&Arc<Board>, &Arc<AlertBoard>),
        sessions: &Arc<Sessions>,
        connections: &Arc<Connections>,
        queue: &Arc<EffectQueue>,
        stopping: watch::Receiver<bool>,
    ) -> Api {
        Api {
            state,
            board: Arc::clone(board),
            monitoring: Arc::new(Monitoring::new(self.clock.clone())),
            alerts: Arc::clone(alerts),
            sessions: Arc::clone(sessions),
            connections: Arc::clone(connections),
            authority: Arc::clone(&self.authority),
            store: Arc::clone(&self.store),
            store_kind: match self.config.store {
                StoreConfig::Embedded => "embedded",
                StoreConfig::Etcd(_) => "etcd",
            },
            health: Arc::clone(&self.health),
            backup: Arc::default(),
            export: Arc::default(),
            state_dir: self.config.state_dir.clone(),
            settings: self.config.said.clone().into(),
            figures: Arc::clone(&self.figures),
            watchers: Arc::default(),
            published: Arc::new(Published::default()),
            clock: self.clock.clone(),
            log_level: self.log_level.clone(),
            address: self.servers.first().cloned().unwrap_or_default(),
            queue: Arc::clone(queue),
            one_past: Arc::default(),
            stopping,
        }
    }

    /// What rules on the cluster speak of.
    fn facts(&self, state: &StateHandle, backup: &Arc<BackupHealth>) -> Facts {
        Facts {
            state: state.clone(),
            health: Arc::clone(&self.health),
            backup: Arc::clone(backup),
            authority: Arc::clone(&self.authority),
            state_dir: self.config.state_dir.clone(),
            clock: self.clock.clone(),
        }
    }

    /// The task that makes them, where they are wanted.
    fn backups(&self, state: &StateHandle, health: Arc<BackupHealth>) -> Option<JoinHandle<()>> {
        let schedule = Schedule {
            settings: self.config.backup.clone()?,
            config: self.config.clone(),
            cluster: self.authority.cluster_id().to_owned(),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            state: state.clone(),
            health,
        };
        Some(tokio::spawn(schedule.run()))
    }

    /// One for each port, gRPC's first.
    fn acceptors(&self) -> anyhow::Result<Vec<Arc<Acceptor>>> {
        let identity =
            startup::server_identity(&self.config, &self.authority, self.clock.seconds())?;
        let make = |protocol| {
            let options = ServerOptions {
                min_version: self.config.tls_min_version,
                limits: self.config.limits.clone(),
                ..ServerOptions::new(protocol, self.wall.clone())
            };
            Acceptor::new(&identity, options)
        };
        Ok(vec![make(Protocol::Grpc)?, make(Protocol::Https)?])
    }

    async fn serve(
        &self,
        api: Api,
        acceptors: &[Arc<Acceptor>],
        listener: TcpListener,
        stop: &watch::Sender<bool>,
    ) -> anyhow::Result<(Vec<JoinHandle<()>>, Option<SocketAddr>)> {
        let [grpc, https, ..] = acceptors else { anyhow::bail!("a port has no acceptor") };
        let mut servers = Vec::new();
        let mut https_address = None;
        if let Some(listen) = self.config.https_listen {
            let listener = bind(listen).await?;
            let address = listener.local_addr()?;
            api.connections.set_https_port(address.port());
            https_address = Some(address);
            let (api, incoming) = (api.clone(), https.listen(listener));
            servers.push(tokio::spawn(https::serve(api, incoming, until(stop.subscribe()))));
        }
        let incoming = grpc.listen(listener);
        let stop = until(stop.subscribe());
        servers.push(tokio::spawn(async move {
            if let Err(error) = api_server::serve(api, incoming, stop).await {
                tracing::error!(%error, "the gRPC server has ended");
            }
        }));
        Ok((servers, https_address))
    }
}

/// The owner and the performer; the first of them that cannot go on says why.
fn spawn_machine(
    owner: Owner,
    performer: Performer,
) -> (JoinHandle<()>, JoinHandle<()>, oneshot::Receiver<anyhow::Error>) {
    let (fail, failed) = oneshot::channel();
    let fail = Arc::new(std::sync::Mutex::new(Some(fail)));
    let report = move |error: anyhow::Error| {
        let fail = fail.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(fail) = fail {
            fail.send(error).ok();
        }
    };
    let report_too = report.clone();
    let owner = tokio::spawn(async move {
        if let Err(error) = owner.run().await {
            report(error.into());
        }
    });
    let performer = tokio::spawn(async move {
        if let Err(error) = performer.run().await {
            report_too(error.into());
        }
    });
    (owner, performer, failed)
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn until(mut stop: watch::Receiver<bool>) {
    // an error means that the master is gone
    stop.wait_for(|stop| *stop).await.ok();
}

/// Renews the server's certificate while the master runs; connections that exist go on.
async fn renew(
    config: Config,
    authority: Arc<CertificateAuthority>,
    clock: MasterClock,
    acceptors: Vec<Arc<Acceptor>>,
) {
    let mut renewal_at = 0;
    loop {
        match startup::server_identity(&config, &authority, clock.seconds()) {
            Ok(identity) => {
                let name = identity.name();
                let next = server_renewal_at(name.not_before, name.not_after);
                if renewal_at != 0 && next != renewal_at {
                    for acceptor in &acceptors {
                        if let Err(error) = acceptor.set_identity(&identity) {
                            tracing::error!(%error, "the new server certificate is not used");
                        }
                    }
                    tracing::info!("the server certificate was renewed");
                }
                renewal_at = next;
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the server certificate was not renewed"
                );
            }
        }
        tokio::time::sleep(RENEWAL_EVERY).await;
    }
}
