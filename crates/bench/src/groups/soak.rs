//! Heavy churn for minutes, and what has grown by it: memory, open files, the store.
//!
//! All at once: containers come and go, cables are out for longer than a session lives, the topology changes,
//! the command line asks, and watchers come and go. A first part of it lets caches, pools and histories take
//! the place that they keep; then everything rests and is measured, and after the rest of it once more. What
//! has grown in between must not, but for what is bounded by design and said beside the row.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread::{Scope, scope, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use piccolo_testkit::{cluster::Cluster, podman::PrivatePodman};
use serde_json::Value;

use crate::{
    figure::Figure,
    ground::{Ground, board_name},
    usage,
};

const BOARDS: usize = 5;
/// Has Podman, and containers that come and go.
const BUSY: usize = 1;
/// The part of the churn before the first measurement: a fifth.
const WARM_UP: u32 = 5;
/// Longer than a session lives in silence.
const CUT: Duration = Duration::from_secs(5);
const HEALED: Duration = Duration::from_secs(3);
const BETWEEN_CONTAINERS: Duration = Duration::from_millis(200);
const BETWEEN_TOPOLOGIES: Duration = Duration::from_secs(1);
/// An address may open a hundred connections a second, and all of this comes from one.
const BETWEEN_CALLS: Duration = Duration::from_millis(25);
const A_WATCHER_LIVES: Duration = Duration::from_millis(700);
/// For connections to close and buffers to be freed.
const RESTS: Duration = Duration::from_secs(5);
/// Small, so that the store has what it keeps before the first measurement.
const LIMITS: &str = "limits:\n  events: 500\n  audit: 500\n";
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let podman = PrivatePodman::start(ground.folder("soak-podman"))?;
    let mut cluster = ground.empty_cluster("soak", true, LIMITS)?;
    for board in 1..=BOARDS {
        let socket = format!("podman:\n  socket: {}\n", podman.socket().display());
        cluster.join_with(&board_name(board), if board == BUSY { &socket } else { "" })?;
    }
    let mut witness = cluster.watch(&["events", "--watch", "-n", "10000", "-o", "json"])?;
    let work = Work::default();
    work.churn(&cluster, &podman, ground.soak / WARM_UP)?;
    let before = Taken::now(&cluster)?;
    work.churn(&cluster, &podman, ground.soak - ground.soak / WARM_UP)?;
    let after = Taken::now(&cluster)?;
    let told = Told::of(&witness.so_far())?;
    ensure!(told.events > 0 && work.is_done_of_each(), "there was no churn: {work:?}");
    Ok(rows(&before, &after, &told, &work))
}

fn rows(before: &Taken, after: &Taken, told: &Told, work: &Work) -> Vec<Figure> {
    let grown = |what: fn(&Process) -> f64| {
        let of = |one: (&Process, &Process)| what(one.1) - what(one.0);
        before.agents.iter().zip(&after.agents).map(of).collect::<Vec<_>>()
    };
    let master = |what: fn(&Process) -> f64| what(&after.master) - what(&before.master);
    let from_to = |what: fn(&Process) -> f64| {
        format!("from {:.1} to {:.1}", what(&before.master), what(&after.master))
    };
    let (rss, files, disk) =
        (|p: &Process| p.rss_mib, |p: &Process| p.files, |p: &Process| p.disk_mib);
    vec![
        Figure::one("soak: the master's RSS grows by", "MiB", master(rss))
            .at_most(3.0)
            .note(format!("{}; {}", from_to(rss), work.summary())),
        Figure::one("soak: the master's open files grow by", "count", master(files))
            .at_most(4.0)
            .note(from_to(files)),
        Figure::one("soak: the master's store grows by", "MiB", master(disk))
            .at_most(3.0)
            .note(format!("{}; 1,500 revisions of history are kept", from_to(disk))),
        Figure::worst_of("soak: an agent's RSS grows by", "MiB", &grown(rss))
            .at_most(1.0)
            .note(format!("in all {} MiB", each(&after.agents, rss))),
        Figure::worst_of("soak: an agent's open files grow by", "count", &grown(files))
            .at_most(4.0),
        Figure::worst_of("soak: an agent's state folder grows by", "MiB", &grown(disk))
            .at_most(1.5)
            .note("a segment of its journal, 1 MiB, is filled before it is removed"),
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        Figure::one("soak: events lost or doubled", "count", told.wrong as f64)
            .at_most(0.0)
            .note(format!("of {} that boards told", told.events)),
    ]
}

fn each(all: &[Process], what: fn(&Process) -> f64) -> String {
    all.iter().map(|one| format!("{:.1}", what(one))).collect::<Vec<_>>().join(", ")
}

/// How often each was done.
#[derive(Debug, Default)]
struct Work {
    containers: AtomicUsize,
    cuts: AtomicUsize,
    topologies: AtomicUsize,
    calls: AtomicUsize,
    watchers: AtomicUsize,
}

impl Work {
    /// All of it for so long, until everything is well again and at rest.
    fn churn(&self, cluster: &Cluster, podman: &PrivatePodman, how_long: Duration) -> Result<()> {
        let ends_at = Instant::now() + how_long;
        let failed = AtomicBool::new(false);
        let goes_on = || Instant::now() < ends_at && !failed.load(Ordering::Relaxed);
        scope(|scope| {
            let workers = [
                begin(scope, &failed, || {
                    self.repeat(&self.containers, goes_on, |n| container(podman, n))
                }),
                begin(scope, &failed, || self.repeat(&self.cuts, goes_on, |n| cut(cluster, n))),
                begin(scope, &failed, || {
                    self.repeat(&self.topologies, goes_on, |n| topology(cluster, n))
                }),
                begin(scope, &failed, || self.repeat(&self.calls, goes_on, |n| call(cluster, n))),
                begin(scope, &failed, || {
                    self.repeat(&self.watchers, goes_on, |n| watcher(cluster, n))
                }),
            ];
            let joined = workers.map(|worker| worker.join());
            joined.into_iter().try_for_each(|one| {
                one.map_err(|_| anyhow::anyhow!("a worker of the soak panicked"))?
            })
        })?;
        for board in 1..=BOARDS {
            let name = board_name(board);
            cluster.wait(&format!("{name} is at rest"), |cluster| {
                let node = cluster.node(&name)?;
                let topology = cluster.json(&["topology", "get", "-o", "json"])?;
                let is_well = node["status"] == "Ready" && node["connected"] == true;
                Ok(is_well && node["applied_generation"] == topology["generation"])
            })?;
        }
        sleep(RESTS);
        Ok(())
    }

    fn repeat(
        &self,
        done: &AtomicUsize,
        goes_on: impl Fn() -> bool,
        once: impl Fn(usize) -> Result<()>,
    ) -> Result<()> {
        while goes_on() {
            once(done.load(Ordering::Relaxed))?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn counts(&self) -> [(&'static str, usize); 5] {
        [
            ("containers", &self.containers),
            ("cuts", &self.cuts),
            ("topologies", &self.topologies),
            ("calls", &self.calls),
            ("watchers", &self.watchers),
        ]
        .map(|(what, count)| (what, count.load(Ordering::Relaxed)))
    }

    fn is_done_of_each(&self) -> bool {
        self.counts().iter().all(|(_, count)| *count > 0)
    }

    fn summary(&self) -> String {
        self.counts().map(|(what, count)| format!("{count} {what}")).join(", ")
    }
}

type Worker<'s> = std::thread::ScopedJoinHandle<'s, Result<()>>;

/// One that fails ends the others too.
fn begin<'s>(
    scope: &'s Scope<'s, '_>,
    failed: &'s AtomicBool,
    work: impl FnOnce() -> Result<()> + Send + 's,
) -> Worker<'s> {
    scope.spawn(move || {
        let done = work();
        failed.fetch_or(done.is_err(), Ordering::Relaxed);
        done
    })
}

/// One that works for a moment and is removed while it does, or one that fails by itself.
fn container(podman: &PrivatePodman, number: usize) -> Result<()> {
    let name = format!("soak-{number}");
    let command: &[&str] = if number.is_multiple_of(2) { &["sleep", "1000"] } else { &["false"] };
    podman.run(&name, command)?;
    sleep(BETWEEN_CONTAINERS);
    podman.rm(&name)?;
    Ok(())
}

/// Each board in turn.
fn cut(cluster: &Cluster, number: usize) -> Result<()> {
    let network = cluster.namespace().context("no network of its own")?;
    let address = cluster.agent_address(&board_name(number % BOARDS + 1));
    network.cut(&address)?;
    sleep(CUT);
    network.heal(&address)?;
    sleep(HEALED);
    Ok(())
}

/// A pace that every board has to confirm.
fn topology(cluster: &Cluster, number: usize) -> Result<()> {
    let file = cluster.folder().join("soak-topology.json");
    let mut topology = cluster.json(&["topology", "get", "-o", "json"])?;
    let seconds = (5 + number % 5).to_string();
    topology["config"] = serde_json::json!({ "heartbeat_interval_seconds": seconds });
    std::fs::write(&file, topology.to_string())?;
    done(cluster, &["topology", "apply", "-f", &file.display().to_string()])?;
    sleep(BETWEEN_TOPOLOGIES);
    Ok(())
}

fn call(cluster: &Cluster, number: usize) -> Result<()> {
    sleep(BETWEEN_CALLS);
    let board = board_name(number % BOARDS + 1);
    let label = format!("round={number}");
    match number % 5 {
        0 => done(cluster, &["node", "list", "-o", "wide"]),
        1 => done(cluster, &["node", "describe", &board]),
        2 => done(cluster, &["events", "-n", "100"]),
        3 => done(cluster, &["node", "label", &board, &label]),
        _ => {
            // refused where the board's cable is out: that is an answer too
            cluster.piccolo(&["--timeout", "2s", "log-level", &board, "warn"])?;
            Ok(())
        }
    }
}

/// Killed in the middle, as by Ctrl-C.
fn watcher(cluster: &Cluster, number: usize) -> Result<()> {
    let nodes = ["node", "list", "--watch"];
    let watch =
        cluster.watch(if number.is_multiple_of(2) { &nodes } else { &["events", "--watch"] })?;
    sleep(A_WATCHER_LIVES);
    drop(watch);
    Ok(())
}

fn done(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let output = cluster.piccolo(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "piccolo {}: {said}", arguments.join(" "));
    Ok(())
}

/// What everything takes at one moment.
struct Taken {
    master: Process,
    agents: Vec<Process>,
}

struct Process {
    rss_mib: f64,
    files: f64,
    disk_mib: f64,
}

impl Taken {
    fn now(cluster: &Cluster) -> Result<Self> {
        let master = Process::now(cluster.master.pid(), &cluster.folder().join("master"))?;
        let agents = cluster.agents.iter();
        let agents = agents.map(|(name, a)| Process::now(a.pid(), &cluster.agent_folder(name)));
        Ok(Self { master, agents: agents.collect::<Result<_>>()? })
    }
}

impl Process {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn now(pid: u32, state: &Path) -> Result<Self> {
        Ok(Self {
            rss_mib: usage::rss_kib(pid)? / 1024.0,
            files: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64,
            disk_mib: bytes_below(state)? as f64 / MIB,
        })
    }
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        bytes += if data.is_dir() { bytes_below(&entry.path())? } else { data.len() };
    }
    Ok(bytes)
}

/// What a watcher that stayed all the time was told.
struct Told {
    events: usize,
    wrong: usize,
}

impl Told {
    /// Each board numbers its events from 1.
    fn of(lines: &[String]) -> Result<Self> {
        let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for line in lines {
            let document: Value = serde_json::from_str(line).context("the watch of events")?;
            ensure!(document["type"] == "event", "the watch was too slow to judge: {line}");
            let event = &document["event"];
            if let (Some(node), Some(number @ 1..)) =
                (event["node_id"].as_str(), event["node_sequence"].as_u64())
            {
                numbers.entry(node.to_owned()).or_default().push(number);
            }
        }
        let wrong = numbers.values().map(|numbers| {
            let expected = (1..).zip(numbers).filter(|(expected, number)| expected != *number);
            expected.count()
        });
        Ok(Self { wrong: wrong.sum(), events: numbers.values().map(Vec::len).sum() })
    }
}
