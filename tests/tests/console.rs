//! The web console in a real browser against a real cluster (HLD §14.3): `console/tests/stories.mjs` tells what people do, and
//! asks here for what shall happen to the cluster meanwhile.

#![allow(
    clippy::print_stdout,
    reason = "what a story told, and how long it took, is seen where it fails"
)]

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use piccolo_testkit::{
    cluster::{Cluster, Options},
    podman::PrivatePodman,
};

type Story = Result<(), Box<dyn Error>>;

const BOARDS: [&str; 3] = ["node-1", "node-2", "node-3"];

#[test]
fn people_see_and_care_for_their_cluster_in_a_browser() -> Story {
    let folder = tempfile::tempdir()?;
    let mut options = Options::new(folder.path())?;
    options.master = "approval: manual\n".to_owned();
    let mut cluster = Cluster::start(options)?;
    let podman = PrivatePodman::start(folder.path().join("podman"))?;
    let says = ["sh", "-c", "echo lens is clean; exec sleep 1000"];
    podman.run_with("camera", &["--log-driver", "k8s-file"], &says)?;
    let socket = format!("podman:\n  socket: {}\n", podman.socket().display());
    let path = with_a_journal(folder.path())?;
    for board in BOARDS {
        let token = cluster.token(&["--uses", "1"])?;
        cluster.prepare_agent(board, if board == BOARDS[0] { &socket } else { "" }, &token)?;
        let path = [("PATH", path.as_str())];
        cluster.start_agent_within(board, if board == BOARDS[2] { &path } else { &[] })?;
    }
    for board in BOARDS {
        cluster.wait_for_status(board, "Pending")?;
        cluster.piccolo(&["node", "approve", board])?;
        cluster.wait_for_status(board, "Ready")?;
    }
    let console = Path::new(env!("CARGO_MANIFEST_DIR")).join("../console");
    if !console.join("node_modules/playwright-core").is_dir() {
        return Err("the console's packages are not there: cargo xtask setup --for test".into());
    }
    let mut browser = Command::new("node")
        .arg("tests/stories.mjs")
        .current_dir(&console)
        .env("PICCOLO_CONSOLE", format!("https://{}/", cluster.https_address))
        .env("PICCOLO_PICTURES", pictures()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (Some(stdout), Some(mut stdin)) = (browser.stdout.take(), browser.stdin.take()) else {
        return Err("the browser has no pipes".into());
    };
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if let Some(wish) = line.strip_prefix("> ") {
            let words: Vec<&str> = wish.split(' ').collect();
            let answer = match grant(&mut cluster, &podman, &words) {
                Ok(told) => told,
                Err(error) => format!("failed: {error}").replace('\n', " "),
            };
            writeln!(stdin, "{answer}")?;
        }
    }
    drop(stdin);
    let ended = browser.wait_with_output()?;
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{told}");
    Ok(())
}

/// A `PATH` whose journalctl knows one important line of the agent's unit: where these agents run there is no systemd.
fn with_a_journal(folder: &Path) -> Result<String, Box<dyn Error>> {
    let program = folder.join("journalctl");
    let entry = concat!(
        r#"{"__CURSOR":"s=1;i=1","__REALTIME_TIMESTAMP":"1795459800000000","PRIORITY":"3","#,
        r#""_SYSTEMD_UNIT":"piccolo-nodeagent.service","MESSAGE":"the fan stands still"}"#
    );
    let newest = "*COREDUMP_UNIT*--lines=100*";
    fs::write(&program, format!("#!/bin/sh\ncase \"$*\" in {newest}) echo '{entry}' ;; esac\n"))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(format!("{}:{}", folder.display(), std::env::var("PATH")?))
}

/// What a story may have done to the cluster, and what came of it in one line.
fn grant(
    cluster: &mut Cluster,
    podman: &PrivatePodman,
    words: &[&str],
) -> Result<String, Box<dyn Error>> {
    match words {
        ["piccolo", arguments @ ..] => {
            let told = cluster.piccolo(arguments)?;
            let text = String::from_utf8_lossy(&told.stdout).trim().replace('\n', " ");
            let problem = String::from_utf8_lossy(&told.stderr);
            return if told.status.success() { Ok(text) } else { Err(problem.into()) };
        }
        ["kill", "container", name] => podman.kill(name)?,
        ["kill", board] => cluster.agent(board)?.kill(),
        ["start", "master"] => cluster.start_master()?,
        ["start", board] => cluster.start_agent(board)?,
        ["stop", "master"] => drop(cluster.master.terminate()?),
        ["join", board, token] => {
            cluster.prepare_agent(board, "", token)?;
            cluster.start_agent(board)?;
        }
        other => return Err(format!("nobody can do {other:?}").into()),
    }
    Ok("done".to_owned())
}

/// Where the stories' pictures stay, for those who want to see them.
fn pictures() -> std::io::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test.ancestors().find(|folder| folder.join("debug").is_dir());
    let pictures = target.unwrap_or(Path::new(".")).join("console");
    fs::create_dir_all(&pictures)?;
    Ok(pictures)
}
