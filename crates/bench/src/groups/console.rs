//! The web console in a headless Chromium (`console/tests/figures.mjs`): how soon a browser that was never there shows
//! something, what it fetches for that, and how soon a container that dies on its board is drawn as dead.
//!
//! The last begins when the container's process gets SIGKILL, and ends after the frame that shows it. Both are read from the
//! same clock. Browser, master and boards share the cores.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use piccolo_testkit::podman::PrivatePodman;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    figure::{Figure, Target},
    ground::{Ground, board_name},
};

const NODES: usize = 10;
const CONTAINER: &str = "camera";
const TOKEN: [&str; 5] = ["api-token", "create", "bench", "--role", "viewer"];
/// After a container was started: the agent is at rest again.
const SETTLES_WITHIN: Duration = Duration::from_millis(1500);
const KIB: f64 = 1024.0;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let console = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../console");
    let packages = console.join("node_modules/playwright-core");
    ensure!(
        packages.is_dir(),
        "the console's packages are not there: cargo xtask setup --for bench"
    );
    let podman = PrivatePodman::start(ground.folder("podman-console"))?;
    podman.run(CONTAINER, &["sleep", "100000"])?;
    let mut cluster = ground.empty_cluster("console", false, "")?;
    for number in 1..=NODES {
        let socket = format!("podman:\n  socket: {}\n", podman.socket().display());
        cluster.join_with(&board_name(number), if number == 1 { &socket } else { "" })?;
    }
    for number in 1..=NODES {
        cluster.wait_for_status(&board_name(number), "Ready")?;
    }
    let token = cluster.piccolo(&TOKEN)?.stdout;
    let token = String::from_utf8(token)?;
    let mut browser = Command::new("node")
        .arg("tests/figures.mjs")
        .args([token.trim(), &board_name(1), CONTAINER])
        .current_dir(&console)
        .env("PICCOLO_CONSOLE", format!("https://{}/", cluster.https_address))
        .env("PICCOLO_RUNS", ground.runs.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("node cannot be started")?;
    let stdout = browser.stdout.take().context("the browser has no output")?;
    let mut stdin = browser.stdin.take().context("the browser has no input")?;
    let (mut paint, mut bytes, mut drawn) = (Vec::new(), Vec::new(), Vec::new());
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            [">", "kill", name] => writeln!(stdin, "{}", kill(&podman, name)?)?,
            [">", "start", name] => {
                podman.podman(&["start", name])?;
                std::thread::sleep(SETTLES_WITHIN);
                writeln!(stdin, "done")?;
            }
            ["=", "paint", ms] => paint.push(ms.parse()?),
            ["=", "bytes", count] => bytes.push(count.parse::<f64>()? / KIB),
            ["=", "drawn", ms] => drawn.push(ms.parse()?),
            _ => bail!("the browser says {line:?}"),
        }
    }
    let ended = browser.wait()?;
    ensure!(ended.success() && drawn.len() == ground.runs, "the browser ended: {ended}");
    let soon = Target::Times { median: 300.0, worst: 1000.0 };
    Ok(vec![
        Figure::many("console, cold: first paint", "ms", paint).at_most(400.0),
        Figure::many("console, cold: transferred", "KiB", bytes).at_most(300.0),
        Figure::many("container dies on a node -> drawn in the browser", "ms", drawn).target(soon),
    ])
}

/// When that was: ms since 1970.
fn kill(podman: &PrivatePodman, container: &str) -> Result<f64> {
    let pid = i32::try_from(podman.pid(container)?).ok().and_then(Pid::from_raw);
    let pid = pid.context("the container does not run")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    kill_process(pid, Signal::KILL)?;
    Ok(now.as_secs_f64() * 1000.0)
}
