//! How soon a watcher knows that a node is lost, and that it is back (HLD §4.2, §8.1).
//!
//! Several boards fail shortly after each other, so that a round gives several times and beats are
//! met in every phase. The main loop hangs where a real one would: at its disk. A FIFO that nobody
//! reads takes the place of the file that its ledger is written to, a new configuration makes it
//! write, and the kernel keeps the loop in `open` for ever, while the other threads, the sockets
//! and the kernel's acknowledgements go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use piccolo_testkit::cluster::{Cluster, Watch};

use crate::{
    figure::{Figure, Target},
    ground::{Ground, board_name, news, watch_nodes},
};

/// Boards that fail in one round.
const BOARDS: usize = 5;
/// Between two failures of a round: no multiple of a beat.
const APART: Duration = Duration::from_millis(370);
/// For what is expected to be told at all.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// Between two rounds: sessions settle and beats run.
const CALM: Duration = Duration::from_secs(2);
/// Commands on their way to a board at any moment, in `Under::Commands`.
const CALLERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Killed,
    Stopped,
    Cut,
    Hung,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Under {
    Idle,
    Commands,
}

/// Seconds, over all rounds.
#[derive(Debug, Default)]
struct Times {
    not_ready: Vec<f64>,
    suspect: Vec<f64>,
    healed: Vec<f64>,
}

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut suspect = Vec::new();
    let mut healed = Vec::new();
    for under in [Under::Idle, Under::Commands] {
        for failure in [Failure::Killed, Failure::Stopped, Failure::Cut, Failure::Hung] {
            let times = rounds(ground, failure, under)
                .with_context(|| format!("{}, {}", failure.words(), under.words()))?;
            let median = if failure == Failure::Killed { 1.3 } else { 4.2 };
            let name = format!("{} -> NotReady, {}", failure.words(), under.words());
            figures.push(
                Figure::many(name, "s", times.not_ready)
                    .target(Target::Times { median, worst: 5.0 }),
            );
            if under == Under::Idle {
                suspect.extend(times.suspect);
                healed.extend(times.healed);
            }
        }
    }
    figures.push(Figure::many("SIGKILL -> Suspect", "s", suspect).at_most(0.05));
    figures.push(Figure::many("cut healed, process thawed -> Ready", "s", healed).at_most(1.0));
    Ok(figures)
}

fn rounds(ground: &Ground, failure: Failure, under: Under) -> Result<Times> {
    // a network of its own costs a cluster per kind; mending is then never in the next kind's way
    let name = format!("{failure:?}{under:?}").to_lowercase();
    let mut cluster = ground.cluster(&name, BOARDS, true)?;
    let mut watch = watch_nodes(&cluster, BOARDS)?;
    let callers = match under {
        Under::Idle => None,
        Under::Commands => Some(Callers::start(&cluster)?),
    };
    let mut times = Times::default();
    for _ in 0..ground.runs.div_ceil(BOARDS) {
        sleep(CALM);
        watch.so_far();
        round(&mut cluster, &mut watch, failure, &mut times)?;
    }
    if let Some(callers) = callers {
        ensure!(callers.stop() > 0, "not one command was answered while boards failed");
    }
    Ok(times)
}

fn round(
    cluster: &mut Cluster,
    watch: &mut Watch,
    failure: Failure,
    times: &mut Times,
) -> Result<()> {
    let boards: Vec<_> = (1..=BOARDS).map(board_name).collect();
    let mut struck = BTreeMap::new();
    if failure == Failure::Hung {
        let at = hang(cluster, &boards)?;
        struck.extend(boards.iter().map(|board| (board.clone(), at)));
    } else {
        for board in &boards {
            struck.insert(board.clone(), Instant::now());
            strike(cluster, board, failure)?;
            sleep(APART);
        }
    }
    let told = wait_for(watch, &boards, |news| news.contains("-> NotReady"))?;
    times.not_ready.extend(boards.iter().map(|b| seconds(struck[b], told.matched[b])));
    if failure == Failure::Killed {
        let suspected =
            boards.iter().filter_map(|b| Some(seconds(struck[b], *told.suspect.get(b)?)));
        times.suspect.extend(suspected);
    }
    if failure == Failure::Hung {
        for board in &boards {
            let ended = cluster.agent(board)?.ended()?;
            ensure!(ended.is_none(), "{board} did not hang but ended: {ended:?}");
        }
    }
    let mut mended = BTreeMap::new();
    for board in &boards {
        mended.insert(board.clone(), mend(cluster, board, failure)?);
    }
    let back = wait_for(watch, &boards, |news| news.contains("-> Ready"))?;
    if matches!(failure, Failure::Cut | Failure::Stopped) {
        times.healed.extend(boards.iter().map(|b| seconds(mended[b], back.matched[b])));
    }
    Ok(())
}

fn strike(cluster: &mut Cluster, board: &str, failure: Failure) -> Result<()> {
    match failure {
        Failure::Killed => cluster.agent(board)?.kill(),
        Failure::Stopped => cluster.agent(board)?.freeze(),
        Failure::Cut => {
            let address = cluster.agent_address(board);
            cluster.namespace().context("no network to cut")?.cut(&address)?;
        }
        Failure::Hung => bail!("all boards hang together"),
    }
    Ok(())
}

/// When it was done.
fn mend(cluster: &mut Cluster, board: &str, failure: Failure) -> Result<Instant> {
    match failure {
        Failure::Killed => cluster.start_agent(board)?,
        Failure::Stopped => cluster.agent(board)?.thaw(),
        Failure::Cut => {
            let address = cluster.agent_address(board);
            cluster.namespace().context("no network to heal")?.heal(&address)?;
        }
        Failure::Hung => {
            cluster.agent(board)?.kill();
            std::fs::remove_file(cluster.agent_folder(board).join("ledger.new"))?;
            cluster.start_agent(board)?;
        }
    }
    Ok(Instant::now())
}

/// Every loop stops at its disk from about this moment on.
fn hang(cluster: &Cluster, boards: &[String]) -> Result<Instant> {
    let mut topology = cluster.json(&["topology", "get", "-o", "json"])?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    topology["config"]["bench.round"] = now.to_string().into();
    topology["generation"] = 0.into();
    let file = cluster.folder().join("topology.json");
    std::fs::write(&file, topology.to_string())?;
    for board in boards {
        let fifo = cluster.agent_folder(board).join("ledger.new");
        let made = Command::new("mkfifo").arg(&fifo).status().context("no mkfifo")?;
        ensure!(made.success(), "no FIFO can be made as {}", fifo.display());
    }
    let at = Instant::now();
    let applied = cluster.piccolo(&["topology", "apply", "-f", &file.display().to_string()])?;
    let error = String::from_utf8_lossy(&applied.stderr);
    ensure!(applied.status.success(), "the topology was not taken: {error}");
    Ok(at)
}

struct Told {
    matched: BTreeMap<String, Instant>,
    suspect: BTreeMap<String, Instant>,
}

/// Reads the watch until every board had matching news.
fn wait_for(watch: &mut Watch, boards: &[String], matches: impl Fn(&str) -> bool) -> Result<Told> {
    let mut told = Told { matched: BTreeMap::new(), suspect: BTreeMap::new() };
    let mut missing: BTreeSet<_> = boards.iter().collect();
    while !missing.is_empty() {
        let what = format!("{missing:?} changed");
        let (at, line) = watch.expect(&what, TOLD_WITHIN, |_| true)?;
        for board in boards {
            let Some(news) = news(&line, board) else { continue };
            if news.starts_with("Suspect:") {
                told.suspect.entry(board.clone()).or_insert(at);
            }
            if matches(news) && missing.remove(board) {
                told.matched.insert(board.clone(), at);
            }
        }
    }
    Ok(told)
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

/// Threads that send a command to every board, one after the other, again and again.
struct Callers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Callers {
    fn start(cluster: &Cluster) -> Result<Self> {
        let namespace = cluster.namespace().context("no network")?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for board in (1..=BOARDS).map(board_name) {
            for _ in 0..CALLERS {
                let mut command = Command::new(&cluster.programs().cli);
                command.args(["--timeout", "2s", "log-level", &board, "warn"]);
                command.env("PICCOLO_CONTEXT", cluster.context());
                let mut command = namespace.command(&command);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let stop = Arc::clone(&stop);
                threads.push(thread::spawn(move || call_until(&stop, &mut command)));
            }
        }
        Ok(Self { stop, threads })
    }

    /// How many commands were done.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    }
}

/// A refused or lost command is what is to be expected of a failing board.
fn call_until(stop: &AtomicBool, command: &mut Command) -> usize {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let ended = command.spawn().and_then(|mut child: Child| child.wait());
        done += usize::from(ended.is_ok_and(|status| status.success()));
        // enough that one is always on its way, and not so many that they are the load
        sleep(Duration::from_millis(50));
    }
    done
}

impl Failure {
    fn words(self) -> &'static str {
        match self {
            Self::Killed => "SIGKILL",
            Self::Stopped => "SIGSTOP",
            Self::Cut => "silent cut",
            Self::Hung => "hung main loop",
        }
    }
}

impl Under {
    fn words(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Commands => "commands in flight",
        }
    }
}
