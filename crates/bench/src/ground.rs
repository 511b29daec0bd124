//! Where is measured: the executables, a scratch folder, and clusters with boards and a watcher.

use std::{
    fmt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use piccolo_testkit::cluster::{Cluster, Namespace, Options, PATIENCE, Programs, Watch};
use tempfile::TempDir;

use crate::usage;

/// A machine that is busy with something else makes its boards NotReady, rightly so, and not because
/// of what is measured.
const NEVER_SHORT_OF_CPU: &str =
    "thresholds:\n  cpu:\n    raise_percent: 100\n    clear_percent: 99\n";

#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) programs: Programs,
    /// Static, as boards get them; else the development machine's dynamic ones.
    pub(crate) as_shipped: bool,
    pub(crate) target: PathBuf,
    pub(crate) runs: usize,
    /// How long the churn of the group `soak` lasts.
    pub(crate) soak: Duration,
    scratch: TempDir,
}

impl Ground {
    pub(crate) fn new(
        target: &Path,
        programs: Option<&Path>,
        runs: usize,
        soak: Duration,
    ) -> Result<Self> {
        let shipped = target.join("dist/x86_64");
        let programs = match programs {
            Some(folder) => Programs::in_folder(folder)?,
            None => Programs::in_folder(&shipped)
                .or_else(|_| Programs::in_folder(&target.join("release")))?,
        };
        let absolute = |path: PathBuf| path.canonicalize().context("an executable is gone");
        let programs = Programs {
            master: absolute(programs.master)?,
            agent: absolute(programs.agent)?,
            cli: absolute(programs.cli)?,
        };
        Ok(Self {
            as_shipped: is_static(&programs.agent)?,
            programs,
            target: target.to_owned(),
            runs: runs.max(1),
            soak,
            scratch: tempfile::tempdir()?,
        })
    }

    /// A cluster of `boards` agents without Podman, all Ready; in a network of its own if `network`.
    pub(crate) fn cluster(&self, name: &str, boards: usize, network: bool) -> Result<Cluster> {
        let mut cluster = self.empty_cluster(name, network, "")?;
        for board in 1..=boards {
            cluster.join(&board_name(board))?;
        }
        for board in 1..=boards {
            cluster.wait_for_status(&board_name(board), "Ready")?;
        }
        Ok(cluster)
    }

    /// A master alone, with lines of YAML for its configuration.
    pub(crate) fn empty_cluster(&self, name: &str, network: bool, master: &str) -> Result<Cluster> {
        Ok(Cluster::start(Options {
            programs: self.programs.clone(),
            folder: self.folder(name),
            namespace: if network { Some(Namespace::create(name)?) } else { None },
            // its log is a file, and nobody reads it
            master: format!("log: warn\n{master}"),
            agent: format!("log_level: warn\n{NEVER_SHORT_OF_CPU}"),
        })?)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn build(&self) -> &'static str {
        if self.as_shipped { "static, as shipped" } else { "dynamic, not what is shipped" }
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let folder = self.programs.agent.parent().unwrap_or(Path::new("."));
        write!(
            f,
            "executables of {} ({}); {cores} cores, load before: {}",
            folder.display(),
            self.build(),
            usage::load()
        )
    }
}

pub(crate) fn board_name(number: usize) -> String {
    format!("board-{number}")
}

/// What a line of a watch, `TIME  NAME  NEWS`, tells of `board`.
pub(crate) fn news<'a>(line: &'a str, board: &str) -> Option<&'a str> {
    let (_, line) = line.split_once("  ")?;
    line.strip_prefix(board)?.strip_prefix("  ")
}

/// `piccolo node list --watch` that has shown every board.
pub(crate) fn watch_nodes(cluster: &Cluster, boards: usize) -> Result<Watch> {
    let mut watch = cluster.watch(&["node", "list", "--watch"])?;
    for _ in 0..boards {
        watch.expect("every board is listed", PATIENCE, |_| true)?;
    }
    // a master without boards says nothing at first
    if boards == 0 {
        sleep(Duration::from_millis(300));
    }
    Ok(watch)
}

/// The first piece of news of `board` that matches, as its moment.
pub(crate) fn first(
    watch: &mut Watch,
    board: &str,
    what: &str,
    matches: impl Fn(&str) -> bool,
) -> Result<Instant> {
    let seen = watch.expect(&format!("{board}: {what}"), PATIENCE, |line| {
        news(line, board).is_some_and(&matches)
    })?;
    Ok(seen.0)
}

pub(crate) fn becomes_ready(news: &str) -> bool {
    news.contains("-> Ready") || news == "added, Ready"
}

/// CPU of a process in percent of a core, over `span`.
pub(crate) fn cpu_percent(pids: &[(u32, bool)], span: Duration) -> Result<Vec<f64>> {
    let take = || -> Result<Vec<f64>> {
        pids.iter().map(|&(pid, children)| usage::cpu_seconds(pid, children)).collect()
    };
    let begun = Instant::now();
    let before = take()?;
    sleep(span);
    let after = take()?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(before.iter().zip(after).map(|(before, after)| (after - before) / seconds * 100.0).collect())
}

/// The value of a sample of the master's /metrics.
pub(crate) fn metric(cluster: &Cluster, name: &str) -> Result<f64> {
    #[derive(serde::Deserialize)]
    struct Context {
        certificate: String,
        key: String,
    }
    let text = std::fs::read_to_string(cluster.context())?;
    let context: Context = serde_saphyr::from_str(&text)?;
    let pem = cluster.folder().join("metrics.pem");
    std::fs::write(&pem, context.certificate + &context.key)?;
    let mut command = std::process::Command::new("curl");
    // --insecure: the master is our own child, and its certificate names no loopback address
    command.args(["--silent", "--show-error", "--fail", "--insecure", "--cert"]).arg(&pem);
    command.arg(format!("https://{}/metrics", cluster.https_address));
    let command = match cluster.namespace() {
        Some(namespace) => &mut namespace.command(&command),
        None => &mut command,
    };
    let output = command.output().context("curl cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let sample = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    match sample {
        Some(value) => Ok(value),
        None => bail!("no {name} in /metrics: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Whether an executable asks for no dynamic loader: it has no PT_INTERP that names one.
fn is_static(path: &Path) -> Result<bool> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let head = &bytes[..bytes.len().min(4096)];
    Ok(!head.windows(8).any(|window| window == b"ld-linux"))
}
