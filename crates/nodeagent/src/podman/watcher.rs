//! Keeps a whole picture of Podman's containers and images, and gives it away through a channel.
//!
//! The picture comes from Podman's list. What tells that a new list is needed costs Podman nothing:
//! a pidfd on the first process of each running container (it has died), inotify on Podman's files
//! (something was created, started, removed), a pidfd on the service (it has ended), and a slow
//! safety list. Only where this cannot work (a kernel before 5.3, Podman in another PID namespace or
//! with unreadable files) an event stream is kept open instead, which keeps the service in memory.
//! The reasons and the figures are in docs/adr/0005-watching-podman.md; when to list is
//! [`super::schedule`].
//!
//! A death is shown even when Podman does not answer: the kernel's word counts, the exit code
//! follows once Podman tells it. A Podman that is missing or hangs is [`Runtime::Down`] with the
//! reason, and nothing else changes: containers run on without it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};

use super::ContainerId;
use super::client::{Client, Error, EventStream};
use super::decode::{Container, ContainerList, Event, Image, StoragePaths};
use super::files::{Changes, Files, Fingerprint};
use super::readable::readable;
use super::schedule::{GATHER, Schedule};

/// One open file descriptor each; beyond this the event stream watches the rest.
const PROCESSES_WATCHED_MAX: usize = 512;
/// 2 ms each. The others keep their turn for the next list.
const INSPECTED_PER_LIST_MAX: usize = 32;
/// If Podman has not answered this long after a death, the death is shown without its exit code.
const DEATH_SHOWN_WITHIN: Duration = Duration::from_millis(200);

/// A container as the agent sees it: Podman's list, corrected by what the kernel says.
pub type ContainerObservation = Container;

/// Everything that is known at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    pub runtime: Runtime,
    /// By id. While the runtime is down: the last known ones, deaths still seen.
    pub containers: Vec<ContainerObservation>,
    pub images: Arc<Vec<Image>>,
    /// What could not be read, in plain words; everything else is still right.
    pub problems: Vec<String>,
}

/// Whether Podman answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Runtime {
    /// Not asked yet.
    #[default]
    Unknown,
    Up {
        version: String,
    },
    Down {
        reason: String,
    },
}

/// How to notice changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// Files and processes where possible, else the event stream.
    #[default]
    Auto,
    /// Always the event stream.
    Events,
}

/// Where and how to watch.
#[derive(Debug, Clone)]
pub struct Options {
    pub method: Method,
    /// `/proc`.
    pub proc: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { method: Method::Auto, proc: "/proc".into() }
    }
}

/// The receiving end. Dropping it ends the watching.
#[derive(Debug)]
pub struct Watcher {
    observations: watch::Receiver<Arc<Observation>>,
    refresh: Arc<Notify>,
    task: AbortHandle,
}

impl Watcher {
    /// Starts watching. Must be called inside a tokio runtime; one task is spawned.
    pub fn start(client: Client, options: Options) -> Self {
        let (sender, observations) = watch::channel(Arc::default());
        let refresh = Arc::new(Notify::new());
        let watching = Watching::new(client, options, sender, Arc::clone(&refresh));
        let task = tokio::spawn(watching.run()).abort_handle();
        Self { observations, refresh, task }
    }

    /// Waits for a picture that differs from the one seen last. The newest wins; those in between
    /// are left out. `None` if the watching has ended. Cancel safe.
    pub async fn changed(&mut self) -> Option<Arc<Observation>> {
        self.observations.changed().await.ok()?;
        Some(self.observations.borrow_and_update().clone())
    }

    /// The picture of now; its runtime is [`Runtime::Unknown`] before the first answer.
    pub fn current(&self) -> Arc<Observation> {
        self.observations.borrow().clone()
    }

    /// Asks for a new list soon, for example after a command of our own.
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What one round of questions brought.
type Listing = Result<(ContainerList, Option<Vec<Image>>), Error>;

/// A process whose end was awaited.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Process {
    Container { id: ContainerId, pid: u32 },
    Service { pid: u32 },
}

/// The search for Podman's files, once per life of a service.
#[derive(Debug)]
enum Finding {
    Wanted,
    Running(JoinHandle<Option<StoragePaths>>),
    Done,
}

/// The task's state. The picture is rebuilt from `listed` and `ends` each time.
#[derive(Debug)]
struct Watching {
    client: Client,
    options: Options,
    observations: watch::Sender<Arc<Observation>>,
    refresh: Arc<Notify>,
    schedule: Schedule,
    files: Option<Files>,
    stream: Option<EventStream>,
    newest_event_ns: Option<i64>,
    listing: Option<JoinHandle<Listing>>,
    finding: Finding,
    service_pid: Option<u32>,
    /// As Podman's last list showed it, by id.
    listed: BTreeMap<ContainerId, Container>,
    fingerprint: Fingerprint,
    processes: JoinSet<Process>,
    watched: BTreeMap<Process, AbortHandle>,
    /// Containers that ended, known from the kernel and not yet from Podman.
    ends: BTreeMap<Process, Instant>,
    show_ends_at: Option<Instant>,
    images_are_stale: bool,
    observation: Observation,
}

impl Watching {
    fn new(
        client: Client,
        options: Options,
        observations: watch::Sender<Arc<Observation>>,
        refresh: Arc<Notify>,
    ) -> Self {
        let files = match options.method {
            Method::Auto => Files::new(client.socket()).ok(),
            Method::Events => None,
        };
        Self {
            client,
            options,
            observations,
            refresh,
            schedule: Schedule::new(Instant::now()),
            files,
            stream: None,
            newest_event_ns: None,
            listing: None,
            finding: Finding::Wanted,
            service_pid: None,
            listed: BTreeMap::new(),
            fingerprint: Fingerprint::default(),
            processes: JoinSet::new(),
            watched: BTreeMap::new(),
            ends: BTreeMap::new(),
            show_ends_at: None,
            images_are_stale: true,
            observation: Observation::default(),
        }
    }

    async fn run(mut self) {
        loop {
            let due = self.listing.is_none().then(|| self.schedule.due());
            tokio::select! {
                biased;
                Some(ended) = self.processes.join_next(), if !self.processes.is_empty() => {
                    self.process_ended(ended);
                }
                changes = changes_of(&mut self.files) => self.files_changed(&changes),
                paths = paths_of(&mut self.finding) => self.paths_came(paths),
                event = event_of(&mut self.stream) => self.event_came(event),
                () = self.refresh.notified() => self.schedule.surely(Instant::now()),
                result = result_of(&mut self.listing) => {
                    self.listing = None;
                    self.list_came(result);
                }
                () = sleep_until(self.show_ends_at) => {
                    self.show_ends_at = None;
                    self.publish();
                }
                () = sleep_until(due) => self.ask(),
            }
        }
    }

    fn process_ended(&mut self, ended: Result<Process, JoinError>) {
        let Ok(process) = ended else { return }; // its watch was given up
        self.watched.remove(&process);
        let now = Instant::now();
        if matches!(process, Process::Container { .. }) {
            self.ends.insert(process, now);
            self.show_ends_at.get_or_insert(now + DEATH_SHOWN_WITHIN);
        }
        self.schedule.surely(now);
    }

    fn files_changed(&mut self, changes: &Changes) {
        let now = Instant::now();
        self.images_are_stale |= changes.images;
        if changes.lost {
            self.finding = Finding::Wanted;
        }
        if changes.lost || changes.socket || changes.images {
            self.schedule.surely(now);
        }
        if changes.database {
            let Some(files) = &self.files else { return };
            let fingerprint = files.fingerprint(self.listed.keys().map(String::as_str));
            if fingerprint == self.fingerprint {
                self.schedule.maybe(now);
            } else {
                self.schedule.surely(now);
            }
        }
        let Some(files) = &self.files else { return };
        for id in &changes.health {
            if let Some(container) = self.listed.get_mut(id)
                && let Some(health) = files.health(id)
            {
                container.health = Some(health);
            }
        }
        if !changes.health.is_empty() {
            self.publish();
        }
    }

    fn event_came(&mut self, event: Option<Result<Event, Error>>) {
        let now = Instant::now();
        match event {
            Some(Ok(event)) => match event.kind.as_str() {
                "image" => {
                    self.images_are_stale = true;
                    self.schedule.surely(now);
                }
                "container" if event.action.starts_with("exec") => self.schedule.maybe(now),
                "container" | "pod" | "system" => self.schedule.surely(now),
                _ => {}
            },
            Some(Err(_)) | None => {
                // Whether Podman has gone or only the stream, the list will tell.
                self.close_stream();
                self.schedule.surely(now);
            }
        }
    }

    /// Starts to ask Podman for its list (and for its images if they changed).
    fn ask(&mut self) {
        let client = self.client.clone();
        let images_too = self.images_are_stale;
        if let Some(files) = &mut self.files {
            files.watch_socket_folder();
            // Taken before the list: what changes in between counts as changed after it.
            self.fingerprint = files.fingerprint(self.listed.keys().map(String::as_str));
        }
        let known = self.known_restarts();
        self.schedule.asked(Instant::now());
        self.listing = Some(tokio::spawn(async move {
            let mut list = client.containers().await?;
            add_restarts(&client, &mut list, &known).await;
            let images = if images_too { client.images().await.ok() } else { None };
            Ok((list, images))
        }));
    }

    fn known_restarts(&self) -> KnownRestarts {
        let containers = self.listed.values();
        containers.map(|c| (c.id.clone(), (c.started_unix_s, c.pid, c.restarts))).collect()
    }

    fn list_came(&mut self, result: Result<Listing, JoinError>) {
        let now = Instant::now();
        match result {
            Ok(Ok((mut list, images))) => {
                let version = std::mem::take(&mut list.podman_version);
                self.observation.runtime = Runtime::Up { version };
                self.service_pid = list.service_pid.filter(|&pid| pid > 1);
                if let Some(images) = images {
                    self.observation.images = Arc::new(images);
                    self.images_are_stale = false;
                }
                let changed = self.take_list(list);
                self.schedule.listed(now, changed);
                self.watch_everything(now);
            }
            Ok(Err(error)) => self.list_failed(now, &error),
            Err(_) => self.schedule.failed(now), // the task panicked or the runtime ends
        }
        self.publish();
    }

    /// Podman answered with an error: it is up, the containers are the last known ones. No answer:
    /// it is down.
    fn list_failed(&mut self, now: Instant, error: &Error) {
        self.schedule.failed(now);
        let reason = error.to_string();
        tracing::debug!(reason, "podman's list cannot be read");
        if error.is_refusal() {
            self.observation.problems =
                vec![format!("podman cannot list its containers: {reason}")];
            if !matches!(self.observation.runtime, Runtime::Up { .. }) {
                self.observation.runtime = Runtime::Up { version: "unknown".into() };
            }
        } else {
            self.close_stream();
            self.images_are_stale = true;
            self.finding = Finding::Wanted;
            self.observation.runtime = Runtime::Down { reason };
        }
    }

    /// True if the list differs from the one before. A container whose element is broken stays as
    /// it was last known.
    fn take_list(&mut self, list: ContainerList) -> bool {
        let mut listed = BTreeMap::new();
        for (id, _) in &list.problems {
            if let Some((id, known)) = id.as_ref().and_then(|id| self.listed.remove_entry(id)) {
                listed.insert(id, known);
            }
        }
        listed.extend(list.containers.into_iter().map(|c| (c.id.clone(), c)));
        self.observation.problems = list
            .problems
            .into_iter()
            .map(|(id, why)| {
                format!("container {} cannot be read: {why}", id.as_deref().unwrap_or("?"))
            })
            .collect();
        self.ends.retain(|process, _| match process {
            Process::Container { id, pid } => listed.get(id).is_some_and(|c| c.pid == Some(*pid)),
            Process::Service { .. } => false,
        });
        let changed = listed != self.listed;
        self.listed = listed;
        changed
    }

    /// Sets up whatever watches the containers of the new list.
    fn watch_everything(&mut self, now: Instant) {
        let processes_ok = self.watch_processes(now);
        self.watch_service();
        if !self.ends.is_empty() && !self.schedule.recheck(now) {
            tracing::debug!("podman still lists containers whose processes are gone");
        }
        let files_ok = self.watch_files();
        if processes_ok && files_ok {
            self.close_stream();
        } else if self.stream.is_none() {
            tracing::debug!(processes_ok, files_ok, "watching podman by its event stream");
            // What happened since the list was read must not be missed.
            let since = self.newest_event_ns.or_else(|| unix_ns(SystemTime::now() - GATHER * 20));
            self.stream = Some(self.client.events(since));
            self.schedule.maybe(now); // and nothing says when the stream is open
        }
    }

    /// False if there is a running container whose end the kernel would not tell us.
    fn watch_processes(&mut self, now: Instant) -> bool {
        let running: Vec<Process> = self
            .listed
            .values()
            .filter_map(|c| Some(Process::Container { id: c.id.clone(), pid: c.pid? }))
            .collect();
        self.watched.retain(|process, handle| {
            let keep = matches!(process, Process::Service { .. }) || running.contains(process);
            if !keep {
                handle.abort();
            }
            keep
        });
        let mut all_watched = true;
        for process in running {
            if self.watched.contains_key(&process) {
                continue;
            }
            let Process::Container { id, pid } = &process else { continue };
            if self.ends.contains_key(&process) {
                continue; // known to be gone; Podman has not noticed yet
            }
            let full = self.watched.len() >= PROCESSES_WATCHED_MAX;
            match pid_file_descriptor(*pid).filter(|_| !full) {
                Some(descriptor) if self.belongs_to(*pid, id) => {
                    self.await_end(process, descriptor)
                }
                _ => all_watched = false,
            }
        }
        // A process may have ended just now: the next list will tell. Lasting doubt is another matter.
        all_watched || (self.stream.is_none() && self.schedule.recheck(now))
    }

    /// The service itself, unless systemd holds its socket: then it comes and goes as it likes.
    fn watch_service(&mut self) {
        let Some(pid) = self.service_pid else { return };
        let process = Process::Service { pid };
        if self.watched.contains_key(&process) {
            return;
        }
        if let Some(descriptor) = pid_file_descriptor(pid) {
            self.await_end(process, descriptor);
        }
    }

    fn await_end(&mut self, process: Process, descriptor: AsyncFd<std::os::fd::OwnedFd>) {
        let ended = process.clone();
        let handle = self.processes.spawn(async move {
            descriptor.readable().await.map(drop).ok();
            ended
        });
        self.watched.insert(process, handle);
    }

    /// Whether process `pid` here is what Podman means: the container's id is in its control group
    /// or on the command line of its parent, conmon. In another PID namespace it would not be.
    fn belongs_to(&self, pid: u32, id: &str) -> bool {
        let file = |pid: &str, name| std::fs::read(self.options.proc.join(pid).join(name)).ok();
        let mentions = |text: Vec<u8>| text.windows(id.len()).any(|part| part == id.as_bytes());
        let pid = pid.to_string();
        file(&pid, "cgroup").is_some_and(mentions)
            || file(&pid, "stat")
                .and_then(|stat| parent_of(&stat))
                .and_then(|parent| file(&parent, "cmdline"))
                .is_some_and(mentions)
    }

    /// False if Podman's files cannot tell us of changes. Looks for them first if need be: one
    /// container's paths say where they are; only an empty Podman must be asked for them, which
    /// costs it more.
    fn watch_files(&mut self) -> bool {
        let Some(files) = &mut self.files else { return false };
        let checked = self.listed.values().filter(|c| c.health.is_some() && c.pid.is_some());
        files.watch_health(checked.map(|c| c.id.as_str()));
        match &self.finding {
            Finding::Running(_) => true,
            Finding::Done => files.storage_is_watched(),
            Finding::Wanted => {
                let client = self.client.clone();
                let one = self.listed.keys().next().cloned();
                self.finding = Finding::Running(tokio::spawn(async move {
                    let inspected = match one {
                        Some(id) => client.inspect(&id).await.ok(),
                        None => None,
                    };
                    match inspected.and_then(|found| found.paths) {
                        Some(paths) => Some(paths),
                        None => client.storage_paths().await.ok(),
                    }
                }));
                true
            }
        }
    }

    /// Watches Podman's files, wherever they are, and lists again: what changed before the watch
    /// was set up would be missed. Without files the event stream is opened after that list.
    fn paths_came(&mut self, paths: Option<StoragePaths>) {
        self.finding = Finding::Done;
        let watched = match (&mut self.files, paths) {
            (Some(files), Some(paths)) => files.watch_storage(&paths),
            _ => false,
        };
        tracing::debug!(watched, "looked for podman's files");
        self.schedule.surely(Instant::now());
    }

    fn close_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.newest_event_ns = stream.newest_unix_ns();
        }
    }

    /// Gives the picture away if it differs from the last one.
    fn publish(&mut self) {
        self.observation.containers = self.listed.values().cloned().collect();
        for container in &mut self.observation.containers {
            let Some(pid) = container.pid else { continue };
            if self.ends.contains_key(&Process::Container { id: container.id.clone(), pid }) {
                container.state = "exited".into();
                container.pid = None;
                container.health = None;
            }
        }
        if self.ends.is_empty() {
            self.show_ends_at = None;
        }
        self.observations.send_if_modified(|last| {
            let differs = **last != self.observation;
            if differs {
                *last = Arc::new(self.observation.clone());
            }
            differs
        });
    }
}

/// Start, process and restarts of each container as of the last list.
type KnownRestarts = BTreeMap<ContainerId, (Option<i64>, Option<u32>, Option<u32>)>;

/// Before 5.0 Podman's list does not tell how often a container was restarted. Then those are
/// inspected that were started since the last list.
async fn add_restarts(client: &Client, list: &mut ContainerList, known: &KnownRestarts) {
    let mut inspected = 0;
    for container in list.containers.iter_mut().filter(|c| c.restarts.is_none()) {
        let now = (container.started_unix_s, container.pid);
        match known.get(&container.id) {
            Some((started, pid, restarts))
                if restarts.is_some() && (now == (*started, *pid) || container.pid.is_none()) =>
            {
                container.restarts = *restarts;
            }
            _ if container.started_unix_s.is_none() => container.restarts = Some(0),
            _ if inspected < INSPECTED_PER_LIST_MAX => {
                inspected += 1;
                let found = client.inspect(&container.id).await.ok();
                container.restarts = found.and_then(|found| found.restarts);
            }
            _ => {}
        }
    }
}

/// A descriptor that becomes readable when the process ends; `None` if it is gone or the kernel
/// is too old.
fn pid_file_descriptor(pid: u32) -> Option<AsyncFd<std::os::fd::OwnedFd>> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let descriptor = pidfd_open(pid, PidfdFlags::NONBLOCK).or_else(|error| match error {
        rustix::io::Errno::INVAL => pidfd_open(pid, PidfdFlags::empty()), // before 5.10
        other => Err(other),
    });
    readable(descriptor.ok()?).ok()
}

/// Field 4 of `/proc/PID/stat`.
fn parent_of(stat: &[u8]) -> Option<String> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_whitespace();
    fields.nth(1).filter(|pid| pid.parse::<u32>().is_ok()).map(str::to_owned)
}

async fn changes_of(files: &mut Option<Files>) -> Changes {
    match files {
        Some(files) => files.changed().await,
        None => std::future::pending().await,
    }
}

async fn paths_of(finding: &mut Finding) -> Option<StoragePaths> {
    match finding {
        Finding::Running(search) => search.await.ok().flatten(),
        Finding::Wanted | Finding::Done => std::future::pending().await,
    }
}

async fn event_of(stream: &mut Option<EventStream>) -> Option<Result<Event, Error>> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

async fn result_of(listing: &mut Option<JoinHandle<Listing>>) -> Result<Listing, JoinError> {
    match listing {
        Some(listing) => listing.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

fn unix_ns(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos()).ok()
}

#[cfg(test)]
mod tests;
