//! The shell around `piccolo_core::node_agent`: one loop that reads clocks, takes inputs, and performs
//! effects in order.
//!
//! - `connect`: joining and the session, in tasks of their own
//! - `files`: identity, token and id in the state folder
//! - `recover`: steps of recovery, and probes
//! - `tell`: the node's own channel for alerts
//! - `observe`: what the system and Podman say, in the words of the core
//! - `told`: each problem once in the log
//! - `systemd`: ready, stopping, and a watchdog that this loop feeds
//! - `local`: the socket for `piccolo-nodeagent status|leave|join`
//! - `lock`: one agent at a time in a state folder
//!
//! The loop never waits for the network or for Podman: beats are sent by the loop that does the work,
//! so a master that hears them knows that it runs.

mod connect;
mod files;
mod local;
mod lock;
mod observe;
mod perform;
mod recover;
mod systemd;
mod tell;
mod told;
mod view;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use piccolo_core::{
    action_controller::recovery::{Failure, Outcome, Policy},
    log_level::LogLevel,
    model::{JournalEntry, NodeId, ProbePart, SystemCheck},
    node_agent::{
        self, Effect, Host, Input, NodeAgent, Observation, Runtime, Snapshot, check::CheckPace,
        hardware::Reading, local_alerts::Local,
    },
    session::ToAgent,
    time::{Now, Timestamp, WallTime},
};
use piccolo_rpc::tls::{clock::Clock, connector::Connector, identity::PrivateKey};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use self::{
    connect::{Applicant, Registration, Report},
    local::Asked,
};
pub use self::{
    files::Files,
    local::{LocalRequest, ask},
    lock::{StateLock, Taken},
};
use crate::{
    check,
    config::Config,
    journal::Journal,
    ledger::Ledger,
    logs::{Keeper, Readable, Readers},
    podman,
    system::{HostInfo, Roots, Sampler, beside::Progress},
};

/// Changes the level of the log at run time.
pub type SetLogLevel = Box<dyn Fn(&str) -> Result<(), String> + Send>;

/// Runs until it is told to stop, in a state folder that is ours as long as `_lock` lives.
///
/// # Errors
/// What is on disk cannot be used, or the disk cannot be written: systemd starts the agent again.
pub async fn run(
    config: Config,
    _lock: &StateLock,
    set_log_level: SetLogLevel,
    stop: mpsc::Receiver<()>,
) -> Result<()> {
    let local = local::listen(&config.control_socket)?;
    let mut shell = Shell::start(config, set_log_level)?;
    let ended = shell.work(stop, local).await;
    systemd::stopping();
    shell.say_farewell().await;
    ended
}

fn watch(config: &Config, client: podman::Client) -> podman::Watcher {
    let watching = podman::watcher::Options { method: config.podman.watch, ..Default::default() };
    podman::Watcher::start(client, watching)
}

/// Never answers where there is no Podman to watch.
async fn watched(
    watcher: &mut Option<podman::Watcher>,
) -> Option<std::sync::Arc<podman::Observation>> {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

/// Between two samples while somebody looks.
const WATCHED_EVERY: Duration = Duration::from_secs(1);

/// What a background task brings.
#[derive(Debug)]
enum Done {
    Registered(Registration),
    Probed(bool),
    Command { id: String, success: bool, message: String },
    Checked(SystemCheck),
    HardwareSeen(Vec<Reading>),
    Recovered { failure: Failure, outcome: Outcome },
    Proved { id: String, parts: Vec<ProbePart> },
    ToldLocally(Result<(), String>),
}

struct Shell {
    config: Config,
    machine: NodeAgent,
    files: Files,
    ledger: Ledger,
    journal: Journal,
    applicant: Applicant,
    clock: Clock,
    connector: Option<Connector>,
    /// In use, and in the state folder.
    key: Option<PrivateKey>,
    /// Of the certificate that was asked for, where that is to have a new one.
    next_key: Option<PrivateKey>,
    reports_sender: mpsc::Sender<(u64, Report)>,
    reports: mpsc::Receiver<(u64, Report)>,
    /// Which session the reports are of: those of one that was given up are passed over.
    attempt: u64,
    session: Option<JoinHandle<()>>,
    outgoing: Option<mpsc::Sender<piccolo_rpc::v1::AgentMessage>>,
    /// Of this session.
    log_readers: Option<Readers>,
    /// Where important lines are kept.
    keeper: Option<Keeper>,
    tasks: JoinSet<Done>,
    sampler: Sampler,
    sample_every: Duration,
    sample_at: Instant,
    /// What the look at the hardware reads at the moment.
    looking: Progress,
    usage: podman::UsageReader,
    podman: Option<podman::Watcher>,
    podman_client: Option<podman::Client>,
    /// The program of the system check, where this node has one.
    system_check: Option<PathBuf>,
    set_log_level: SetLogLevel,
    log_level: LogLevel,
    started: Instant,
    stopped: bool,
    /// What the log has of the way to a master already.
    told: told::Told,
    /// A master knows us and wants us not: a person has to do something.
    refused: bool,
    /// Why the state folder cannot be written, and what of that the core knows.
    disk_problem: Option<String>,
    disk_told: Option<String>,
    /// What was to be saved last is on the disk.
    ledger_saved: bool,
    /// The answer to who told us to leave: written before we end.
    last_answer: Option<oneshot::Receiver<()>>,
}

impl Shell {
    fn start(config: Config, set_log_level: SetLogLevel) -> Result<Self> {
        let files = Files::open(&config.state_dir)?;
        let ledger = Ledger::new(files.ledger());
        let journal = Journal::open(files.journal(), perform::journal_limits(config.journal))?;
        let snapshot = snapshot(&ledger, &journal)?;
        let clock = Clock::with_floor(seconds(snapshot.ledger.clock_floor));
        let identity = files.identity()?;
        let identity = identity.inspect(|identity| clock.raise(identity.name().not_before));
        let roots = Roots::default();
        let info = HostInfo::read(&roots);
        let mut sampler = Sampler::new(roots, config.disks.clone());
        let disk = sampler.sample(std::time::Instant::now()).disks.first();
        let disk_total = disk.and_then(|disk| disk.total_bytes).unwrap_or_default();
        let host = host(&config, &info, disk_total)?;
        let node = files.node_id()?;
        let applicant = applicant(&config, node.clone(), host.clone(), clock.clone());
        let system_check = check::script::find(&config);
        if system_check.is_none() {
            tracing::info!("this node has no system check");
        }
        let settings = settings(&config, node, system_check.is_some());
        let standing = files::standing(identity.as_ref(), files.token()?.is_some())?;
        let key = identity.as_ref().map(|identity| identity.key().clone());
        let connector =
            identity.map(|identity| Connector::new(&identity, applicant.options())).transpose()?;
        let log_level = LogLevel::new(&config.log_filter());
        let started = Instant::now();
        let seed = files::random_u64()?;
        let machine =
            NodeAgent::restore(settings, host, snapshot, standing, seed, now(started, &clock));
        let (reports_sender, reports) = mpsc::channel(connect::OUTGOING_MAX);
        let podman_client = config.podman.socket.clone().map(podman::Client::new);
        let podman = podman_client.clone().map(|client| watch(&config, client));
        Ok(Self {
            machine,
            keeper: Keeper::start(files.kept(), &config.logs),
            files,
            ledger,
            journal,
            applicant,
            clock,
            connector,
            key,
            next_key: None,
            reports_sender,
            reports,
            attempt: 0,
            session: None,
            outgoing: None,
            log_readers: None,
            tasks: JoinSet::new(),
            sampler,
            sample_every: config.sampling_interval,
            sample_at: started,
            looking: Progress::default(),
            usage: podman::UsageReader::new("/proc", "/sys/fs/cgroup"),
            podman,
            podman_client,
            system_check,
            set_log_level,
            log_level,
            started,
            stopped: false,
            told: told::Told::default(),
            refused: false,
            disk_problem: None,
            disk_told: None,
            ledger_saved: true,
            last_answer: None,
            config,
        })
    }

    /// The loop.
    async fn work(
        &mut self,
        mut stop: mpsc::Receiver<()>,
        mut local: mpsc::Receiver<Asked>,
    ) -> Result<()> {
        let mut watchdog = systemd::Watchdog::ready();
        if self.podman.is_none() {
            let containers = Vec::new();
            self.feed(Input::Observed(Observation { runtime: Runtime::Absent, containers }))?;
        }
        while !self.stopped {
            let deadline = self.machine.deadline().map(|deadline| self.instant(deadline.at));
            let log_level_due = self.log_level.deadline().map(|at| self.instant(at));
            // inputs before deadlines: after a stall the queue is drained first
            tokio::select! {
                biased;
                _ = stop.recv() => self.feed(Input::Stop { leave: false })?,
                Some((attempt, report)) = self.reports.recv() => self.take_report(attempt, report)?,
                Some(done) = self.tasks.join_next() => self.task_done(done)?,
                Some(asked) = local.recv() => self.answer(asked)?,
                Some(seen) = watched(&mut self.podman) => self.observe(&seen)?,
                () = sleep_until(self.sample_at) => self.sample()?,
                () = watchdog.due() => watchdog.feed(),
                () = sleep_until(log_level_due.unwrap_or_else(Instant::now)), if log_level_due.is_some() => {
                    self.return_log_level();
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let now = self.now();
                    let effects = self.machine.handle_deadline(now);
                    self.perform(effects)?;
                }
            }
        }
        Ok(())
    }

    fn feed(&mut self, input: Input) -> Result<()> {
        let effects = self.machine.handle(self.now(), input);
        self.perform(effects)
    }

    /// While somebody looks, every second; never less often than it is configured.
    fn sample_often(&mut self, often: bool) {
        let configured = self.config.sampling_interval;
        self.sample_every = if often { configured.min(WATCHED_EVERY) } else { configured };
        self.sample_at = self.sample_at.min(Instant::now() + self.sample_every);
    }

    fn sample(&mut self) -> Result<()> {
        // not one for each that was missed while the process was suspended
        self.sample_at = (self.sample_at + self.sample_every).max(Instant::now());
        self.try_state_folder_again()?;
        let now = std::time::Instant::now();
        let mut sample = observe::sample(self.sampler.sample(now));
        let waits = [self.sampler.waits_for(now), self.looking.current(now)];
        sample.waits = waits.into_iter().flatten().map(observe::wait).collect();
        // containers' figures move with the system's, and are told with them
        if let Some(seen) = self.podman.as_ref().map(podman::Watcher::current) {
            self.observe(&seen)?;
        }
        self.feed(Input::Sampled(sample))
    }

    fn observe(&mut self, seen: &podman::Observation) -> Result<()> {
        let running = seen.containers.iter().filter_map(|c| Some((c.id.as_str(), c.pid?)));
        let usage = self.usage.sample(std::time::Instant::now(), running);
        let policy = self.config.recovery.containers;
        match observe::observation(seen, policy, |container| usage.get(&container.id).copied()) {
            Some(observation) => self.feed(Input::Observed(observation)),
            None => Ok(()),
        }
    }

    fn take_report(&mut self, attempt: u64, report: Report) -> Result<()> {
        if attempt != self.attempt {
            return Ok(());
        }
        match report {
            Report::Open { ip, outgoing, logs } => {
                self.outgoing = Some(outgoing);
                self.log_readers = Some(Readers::new(self.readable(), logs));
                self.feed(Input::Connected { ip })
            }
            Report::Message(message) => self.take_message(*message),
            Report::Logs(order) => {
                if let Some(readers) = &mut self.log_readers {
                    readers.take(*order);
                }
                Ok(())
            }
            Report::Kept { through, outgoing } => {
                if let Some(keeper) = &self.keeper {
                    keeper.allowed(through, outgoing);
                }
                Ok(())
            }
            Report::Over { why } => {
                tracing::debug!(why, "the session is over");
                self.close_session();
                self.feed(Input::Disconnected { why })
            }
        }
    }

    fn take_message(&mut self, message: ToAgent) -> Result<()> {
        let welcomed = if let ToAgent::Welcome(welcome) = &message {
            Some(welcome.session.clone())
        } else {
            None
        };
        self.feed(Input::FromMaster(message))?;
        if let (Some(session), Some(master)) = (welcomed, self.machine.view().master) {
            self.told.forget();
            self.refused = false;
            tracing::info!(master, %session, "in session with the master");
        }
        Ok(())
    }

    /// Which logs may be read here.
    fn readable(&self) -> Readable {
        Readable { units: self.config.logs.units.clone(), podman: self.podman_client.clone() }
    }

    fn now(&self) -> Now {
        now(self.started, &self.clock)
    }

    fn instant(&self, at: Timestamp) -> Instant {
        self.started + Duration::from_micros(at.0)
    }
}

/// What the cluster is told of this host.
fn host(config: &Config, info: &HostInfo, disk_total_bytes: u64) -> Result<Host> {
    let name = config.name.as_ref().map(ToString::to_string).or(info.hostname.clone());
    let name = name.context("the board has no host name: set `name` in the configuration")?;
    Ok(observe::host(name, info, disk_total_bytes))
}

fn applicant(config: &Config, node: NodeId, host: Host, clock: Clock) -> Applicant {
    Applicant {
        node,
        role: config.role,
        kind: config.kind,
        labels: config.labels.clone(),
        host,
        address: config.address,
        bind: config.bind_address,
        clock,
    }
}

fn settings(config: &Config, node: NodeId, checks: bool) -> node_agent::Settings {
    node_agent::Settings {
        node,
        masters: config.masters.iter().map(ToString::to_string).collect(),
        reconnect_max: config.reconnect_max,
        thresholds: config.thresholds,
        hardware: config.hardware.clone(),
        journal_entries_max: config.journal.entries_max,
        journal_bytes_max: usize::try_from(config.journal.bytes_max).unwrap_or(usize::MAX),
        system_check: checks.then(CheckPace::default),
        recovery: Policy {
            podman: !config.recovery.podman_units.is_empty() && config.podman.socket.is_some(),
            reboot: config.recovery.reboot,
            attempts_per_hour_max: config.recovery.attempts_per_hour_max,
            back_off_max: config.recovery.back_off_max,
            ..Policy::default()
        },
        alerts: Local {
            channel: config.alerts.command.is_some(),
            when: config.alerts.when,
            after: config.alerts.after,
            clear_after: config.alerts.clear_after,
        },
    }
}

/// The monotonic time of this process, and the wall clock, which is never earlier than its floor.
fn now(started: Instant, clock: &Clock) -> Now {
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let wall = i64::try_from(clock.time().as_millis()).unwrap_or(i64::MAX);
    Now { at: Timestamp(micros), wall: WallTime(wall) }
}

fn seconds(wall: WallTime) -> u64 {
    u64::try_from(wall.0 / 1000).unwrap_or_default()
}

/// What was on disk.
fn snapshot(ledger: &Ledger, journal: &Journal) -> Result<Snapshot> {
    let ledger = match ledger.load()? {
        Some(bytes) => serde_json::from_slice(&bytes).context("the ledger cannot be read")?,
        None => node_agent::Ledger::default(),
    };
    let mut entries = Vec::new();
    for record in journal.iter_from(1) {
        let read = record.map_err(anyhow::Error::from);
        match read.and_then(|record| Ok(serde_json::from_slice::<JournalEntry>(&record.bytes)?)) {
            Ok(entry) => entries.push(entry),
            Err(error) => tracing::warn!(%error, "an event of the journal cannot be read"),
        }
    }
    Ok(Snapshot { ledger, journal: entries, next_sequence: journal.next_sequence() })
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// What the loop shall do.
type Effects = Vec<Effect>;
