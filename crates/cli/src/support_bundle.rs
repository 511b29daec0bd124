//! `piccolo support-bundle`: one file with what somebody who helps needs to see, and without secrets.
//!
//! A part is what a command of this program prints, or a file of this machine. One after the other is made, each within
//! its own time and size; one that cannot be had is named with the reason, and the rest goes on. Secrets are removed of
//! every part ([`redact`]), whatever the command. Then what there is is listed, and asked for, and written.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use clap::Args;
use flate2::{Compression, write::GzEncoder};
use piccolo_core::redact::redact;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

use crate::{
    args::Globals,
    ask::YesArgs,
    events::{Since, since},
    failure::{Exit, Failure},
    output::{now, say},
    text::{bytes, moment},
};

pub const EXAMPLES: &str = "Examples:
  piccolo support-bundle                          # lists what goes in, and asks
  piccolo support-bundle -o case-17.tar.gz --since 6h
  piccolo support-bundle --yes                    # asks nothing, for scripts
  piccolo support-bundle --config ./master.yaml   # with this configuration instead of the usual ones";

/// Where services have their configuration.
const CONFIGS: [&str; 2] = ["/etc/piccolo/master.yaml", "/etc/piccolo/nodeagent.yaml"];
/// A part may take so much, and no more.
const PART_TIME_MAX: Duration = Duration::from_secs(60);
const PART_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Nodes whose logs are read; of more, the first by name.
const NODES_MAX: usize = 32;
const LOG_LINES: &str = "5000";
const FIGURES: [&str; 8] = [
    "cpu_percent",
    "memory_available_bytes",
    "memory_total_bytes",
    "disk_free_bytes",
    "disk_total_bytes",
    "temperature_celsius",
    "load1",
    "round_trip_seconds",
];
/// What prints the parts that do not depend on the nodes, each in the file of this name.
const COMMANDS: [(&str, &[&str]); 15] = [
    ("version.json", &["version", "-o", "json"]),
    ("context.json", &["context", "show", "-o", "json"]),
    ("status.txt", &["status"]),
    ("status.json", &["status", "-o", "json"]),
    ("doctor.json", &["doctor", "-o", "json"]),
    ("nodes.txt", &["node", "list", "-o", "wide"]),
    ("topology.yaml", &["topology", "get", "-o", "yaml"]),
    ("topology.txt", &["topology", "graph"]),
    ("alerts.json", &["alert", "list", "-o", "json"]),
    ("alert-rules.json", &["alert", "rules", "list", "-o", "json"]),
    ("alert-channels.json", &["alert", "channel", "list", "-o", "json"]),
    ("audit.json", &["audit", "list", "-n", "200", "-o", "json"]),
    ("audit-verified.json", &["audit", "verify", "-o", "json"]),
    ("metrics/figures.txt", &["metrics", "list"]),
    ("metrics/figures-of-containers.txt", &["metrics", "list", "--containers"]),
];

#[derive(Debug, Args)]
pub struct SupportBundleArgs {
    /// Into this file, which must not be there yet [default: piccolo-support-TIME.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Events and logs from when on: 1h, 2026-11-23T18:00:00Z
    #[arg(long, value_parser = since, value_name = "TIME", default_value = "1h")]
    since: Since,
    #[command(flatten)]
    yes: YesArgs,
    /// The configuration of a service on this machine, its secrets removed
    /// [default: /etc/piccolo/master.yaml and nodeagent.yaml]
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
}

/// What goes into the bundle.
#[derive(Debug, Default)]
struct Bundle {
    parts: Vec<(String, String)>,
    /// Name, and why it could not be had as a whole.
    problems: Vec<(String, String)>,
}

/// # Errors
/// If it may not be written, or nobody says that it is to be.
pub async fn run(globals: &Globals, args: &SupportBundleArgs) -> Result<(), Failure> {
    let at = moment(Some(&now()));
    let usual = || PathBuf::from(format!("piccolo-support-{}.tar.gz", at.replace([':', '-'], "")));
    let path = args.output.clone().unwrap_or_else(usual);
    args.yes.can_ask("the bundle is to be written")?;
    if std::fs::symlink_metadata(&path).is_ok() {
        return Err(not_written(&path, &std::io::ErrorKind::AlreadyExists.into()));
    }
    let bundle = gather(globals, args).await?;
    say(&bundle.list());
    if !args.yes.agreed(&format!("Write this to {}?", path.display()))? {
        return Err(Failure::new(Exit::Failed, "nothing was written"));
    }
    let archive = bundle.archive(&at).map_err(|error| not_written(&path, &error))?;
    write_new(&path, &archive).map_err(|error| not_written(&path, &error))?;
    say(&format!("{} are in {}", bytes(archive.len() as u64), path.display()));
    Ok(())
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::failed(format!("{} was not written", path.display())).because(error);
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        return failure.help("choose another file with -o");
    }
    failure
}

async fn gather(globals: &Globals, args: &SupportBundleArgs) -> Result<Bundle, Failure> {
    let piccolo = std::env::current_exe()
        .map_err(|error| Failure::failed("this program cannot be found").because(&error))?;
    let context = globals.context.iter();
    let context = context.flat_map(|path| [OsStr::new("--context"), path.as_os_str()]);
    let limit = format!("{}ms", globals.timeout.as_millis());
    let piccolo = |words: &[&str]| {
        let mut command = Command::new(&piccolo);
        command.args(context.clone()).args(["--timeout", &limit]).args(words);
        command.env("NO_COLOR", "1");
        command
    };
    let since = args.since.moment(now());
    let from = moment(Some(&since));
    let mut bundle = Bundle::default();
    for (name, words) in COMMANDS {
        bundle.command(name, piccolo(words)).await;
    }
    let listed = bundle.command("nodes.json", piccolo(&["node", "list", "-o", "json"])).await;
    bundle.command("events.json", piccolo(&["events", "--since", &from, "-o", "json"])).await;
    for figure in FIGURES {
        let words = ["metrics", "query", figure, "--since", "1h", "-o", "json"];
        let name = format!("metrics/{figure}.json");
        let told = bundle.command(&name, piccolo(&words)).await;
        if is_without_rows(&told) {
            bundle.problem(&name, "no node has told it in that time");
        }
    }
    for (node, is_master) in bundle.nodes(&listed) {
        let words = ["logs", &node, "--since", &from, "-n", LOG_LINES, "-o", "wide"];
        bundle.command(&format!("logs/{node}.log"), piccolo(&words)).await;
        if is_master {
            let unit = [&words[..], &["--unit", "piccolo-master.service"]].concat();
            bundle.command(&format!("logs/{node}-master.log"), piccolo(&unit)).await;
        }
    }
    for unit in ["piccolo-master", "piccolo-nodeagent"] {
        let mut journal = Command::new("journalctl");
        journal.args(["--no-pager", "--quiet", "-n", LOG_LINES, "-o", "short-iso", "-u", unit]);
        journal.arg("--since").arg(format!("@{}", since.seconds));
        bundle.command(&format!("logs/this-machine-{unit}.log"), journal).await;
    }
    let usual: Vec<PathBuf> = CONFIGS.iter().map(PathBuf::from).collect();
    for path in if args.config.is_empty() { &usual } else { &args.config } {
        bundle.file(path);
    }
    Ok(bundle)
}

impl Bundle {
    /// The part is what it prints, also where it fails then, as `doctor` does that finds something. Returned is what it
    /// was with secrets.
    async fn command(&mut self, name: &str, mut command: Command) -> Vec<u8> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = match timeout(PART_TIME_MAX, bounded(command)).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                self.problem(name, &error.to_string());
                return Vec::new();
            }
            Err(_) => {
                let seconds = PART_TIME_MAX.as_secs();
                self.problem(name, &format!("it took more than {seconds} s"));
                return Vec::new();
            }
        };
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && (!said.trim().is_empty() || output.stdout.is_empty()) {
            self.problem(name, &format!("{}: {}", output.status, said.trim()));
        }
        self.part(name, &output.stdout);
        output.stdout
    }

    fn file(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("config/{name}");
        let mut found = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| {
            std::io::Read::read_to_end(
                &mut std::io::Read::take(file, PART_BYTES_MAX + 1),
                &mut found,
            )
        });
        match read {
            Ok(_) => self.part(&name, &found),
            Err(error) => self.problem(&name, &format!("{}: {error}", path.display())),
        }
    }

    /// Where nothing was printed, that is said instead.
    fn part(&mut self, name: &str, found: &[u8]) {
        let limit = usize::try_from(PART_BYTES_MAX).unwrap_or(usize::MAX);
        if found.len() > limit {
            self.problem(
                name,
                &format!("it is longer than {}: the rest is left out", bytes(PART_BYTES_MAX)),
            );
        }
        let text = redact(&String::from_utf8_lossy(&found[..found.len().min(limit)]));
        if !text.is_empty() {
            self.parts.push((name.to_owned(), text));
        } else if self.problems.iter().all(|(part, _)| part != name) {
            self.problem(name, "there is nothing in it");
        }
    }

    fn problem(&mut self, name: &str, why: &str) {
        self.problems.push((name.to_owned(), redact(why)));
    }

    /// By name, and whether a master is there, of what `node list` has printed.
    fn nodes(&mut self, listed: &[u8]) -> Vec<(String, bool)> {
        let listed = serde_json::from_slice::<serde_json::Value>(listed).unwrap_or_default();
        let listed = listed["nodes"].as_array();
        if listed.is_none() {
            self.problem("logs", "it is not known which nodes there are");
        }
        let nodes = listed.into_iter().flatten().filter_map(|node| {
            let name = node["name"].as_str()?;
            // it becomes the name of a file, and an argument
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            let good =
                name.chars().all(is_name) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
            good.then(|| (name.to_owned(), node["role"].as_str() == Some("master")))
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort();
        for (name, _) in nodes.split_off(nodes.len().min(NODES_MAX)) {
            self.problem(&format!("logs/{name}.log"), &format!("only {NODES_MAX} nodes are asked"));
        }
        nodes
    }

    fn list(&self) -> String {
        let mut list = "The bundle holds, without secrets:\n".to_owned();
        for (name, text) in &self.parts {
            list += &format!("  {:>10}  {name}\n", bytes(text.len() as u64));
        }
        if !self.problems.is_empty() {
            list += "Not there, or not whole:\n";
        }
        for (name, why) in &self.problems {
            list += &format!("  {name}: {}\n", crate::text::clean(&why.replace('\n', "; ")));
        }
        list
    }

    /// A `tar.gz` with everything in one folder, and the list of it.
    fn archive(&self, at: &str) -> std::io::Result<Vec<u8>> {
        let folder = format!("piccolo-support-{}", at.replace([':', '-'], ""));
        let zip = GzEncoder::new(Vec::new(), Compression::default());
        let mut archive = tar::Builder::new(zip);
        let list = ("LIST.txt".to_owned(), format!("{at}\n{}", self.list()));
        for (name, text) in std::iter::once(&list).chain(&self.parts) {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o600);
            header.set_size(text.len() as u64);
            header.set_mtime(u64::try_from(now().seconds).unwrap_or_default());
            archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()
    }
}

/// Of a figure over time.
fn is_without_rows(told: &[u8]) -> bool {
    let told = serde_json::from_slice::<serde_json::Value>(told).unwrap_or_default();
    told["rows"].as_array().is_some_and(Vec::is_empty)
}

/// What it prints, no more than a part may have: it is ended once it prints more.
async fn bounded(mut command: Command) -> std::io::Result<Output> {
    let mut child = command.kill_on_drop(true).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(read(stdout), read(stderr))?;
    Ok(Output { status: child.wait().await?, stdout, stderr })
}

/// What is behind the limit is not read: who goes on printing is told by the closed pipe.
async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut found = Vec::new();
    if let Some(from) = from {
        from.take(PART_BYTES_MAX + 1).read_to_end(&mut found).await?;
    }
    Ok(found)
}

/// Whole or not at all, and never in place of another.
fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}
