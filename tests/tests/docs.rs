//! The documents, typed into a real cluster.
//!
//! What stands behind `$ ` in a block `console` of the README and of docs/operations is typed here, in
//! order, into a cluster as `cargo xtask up` makes it; what stands below it must be seen. Numbers, ids
//! and times differ from run to run, and only the beginning of a line is compared, because machines
//! differ. A command with `--watch` goes on in another terminal until the document ends. What looks, and
//! changes nothing, is typed again until it shows what the document says.

use std::{
    error::Error,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use piccolo_testkit::{
    cluster::{Cluster, Options, PATIENCE},
    podman::PrivatePodman,
};

type Story = Result<(), Box<dyn Error>>;

/// Of a line: what comes after them depends on the machine.
const WORDS_COMPARED: usize = 6;
const POLL_EVERY: Duration = Duration::from_millis(100);
/// The master's address in the documents.
const WRITTEN_ADDRESS: &str = "127.0.0.1:47098";
const WRITTEN_HTTPS_ADDRESS: &str = "127.0.0.1:47099";

#[test]
fn the_readme_is_true() -> Story {
    let folder = tempfile::tempdir()?;
    let podmans = ["node-1", "node-2", "node-3"].map(|name| folder.path().join(name));
    let podmans = podmans.map(|path| with_containers(&path));
    let mut configs = Vec::new();
    for podman in podmans {
        let podman = podman?;
        configs.push((format!("podman:\n  socket: {}\n", podman.socket().display()), podman));
    }
    let mut terminal = Terminal::open(folder.path())?;
    for (index, (config, _)) in configs.iter().enumerate() {
        terminal.node(&format!("node-{}", index + 1), config)?;
    }
    terminal.cluster.wait("all containers are seen", |c| {
        let nodes = c.json(&["node", "list", "-o", "json"])?;
        let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
        let counts = nodes.iter().map(|n| n["containers"].as_array().map_or(0, Vec::len));
        Ok(counts.sum::<usize>() == 6)
    })?;
    terminal.type_in("README.md")
}

#[test]
fn the_operators_guide_is_true() -> Story {
    for document in documents("docs/operations") {
        if commands(&document).is_empty() {
            continue;
        }
        let folder = tempfile::tempdir()?;
        let mut terminal = Terminal::open(folder.path())?;
        for node in ["node-1", "node-2", "node-3"] {
            terminal.node(node, "")?;
        }
        terminal.type_in(&document)?;
    }
    Ok(())
}

/// What cannot be typed here is fenced as `sh`, and rare.
#[test]
fn most_of_what_is_to_be_typed_is_tested() {
    let (mut tested, mut untested) = (0, 0);
    let mut all = documents("docs/operations");
    all.push("README.md".to_owned());
    for document in all {
        tested += commands(&document).len();
        for (kind, text) in blocks(&document) {
            let kinds = ["", "console", "sh", "yaml", "json", "ini"];
            assert!(kinds.contains(&kind.as_str()), "{document}: a block of kind {kind}");
            untested += if kind == "sh" { text.lines().count() } else { 0 };
        }
    }
    assert!(tested > 15, "the test finds no commands any more: {tested}");
    assert!(untested < tested, "{untested} lines are untested, {tested} tested");
}

/// One who reads a document and types it into a cluster.
struct Terminal {
    cluster: Cluster,
    folder: PathBuf,
    /// Variables that were set so far.
    variables: String,
    /// Process groups that may still run.
    groups: Vec<u32>,
    watches: Vec<(Step, PathBuf)>,
    killed: Option<String>,
}

impl Terminal {
    fn open(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let up = folder.join("target/up");
        let cluster = Cluster::start(Options::new(&up)?)?;
        Ok(Self {
            cluster,
            folder: folder.to_owned(),
            variables: String::new(),
            groups: Vec::new(),
            watches: Vec::new(),
            killed: None,
        })
    }

    fn node(&mut self, name: &str, config: &str) -> Story {
        self.cluster.join_with(name, config)?;
        self.note_pid(name)?;
        Ok(self.cluster.wait_for_status(name, "Ready")?)
    }

    /// Where `cargo xtask up` writes it.
    fn note_pid(&mut self, name: &str) -> Story {
        let pid = self.cluster.agent(name)?.pid();
        let file = self.cluster.folder().join(format!("{name}.pid"));
        Ok(fs::write(file, format!("{pid} {name}\n"))?)
    }

    fn type_in(&mut self, document: &str) -> Story {
        for step in commands(document) {
            self.take(step).map_err(|error| format!("{document}: {error}"))?;
        }
        for (step, output) in std::mem::take(&mut self.watches) {
            wait_until_shown(&step.shown, &output);
            let seen = fs::read_to_string(&output)?;
            step.compare(&seen).map_err(|error| format!("{document}: {error}"))?;
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Story {
        if step.is_assignment() {
            self.variables.push_str(&step.command);
            self.variables.push('\n');
            return Ok(());
        }
        if step.command.contains("--watch") {
            let output = self.folder.join(format!("watch-{}", self.watches.len()));
            self.spawn(&step.command, &output)?;
            // a person would have seen it begin
            let first = step.shown.first().cloned().into_iter().collect::<Vec<_>>();
            wait_until_shown(&first, &output);
            self.watches.push((step, output));
            return Ok(());
        }
        let begun = Instant::now();
        let seen = loop {
            let seen = self.run(&step)?;
            let is_seen = missing(&step.shown, &seen).is_none();
            if is_seen || !step.only_looks() || begun.elapsed() > PATIENCE {
                break seen;
            }
            std::thread::sleep(POLL_EVERY);
        };
        step.compare(&seen)?;
        self.play_supervisor(&step)
    }

    /// `up` starts again what was killed; here that happens once the document has shown the loss.
    fn play_supervisor(&mut self, step: &Step) -> Story {
        if let Some((_, rest)) = step.command.split_once("target/up/node-")
            && step.command.starts_with("kill ")
        {
            let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
            self.killed = Some(format!("node-{number}"));
        } else if step.shown.iter().any(|line| line.contains("NotReady"))
            && let Some(name) = self.killed.take()
        {
            self.cluster.agent(&name)?.kill();
            self.cluster.start_agent(&name)?;
            self.note_pid(&name)?;
        }
        Ok(())
    }

    /// What the command prints; its exit status must be as the document lets one expect.
    fn run(&mut self, step: &Step) -> Result<String, Box<dyn Error>> {
        let output = self.folder.join("output");
        let mut child = self.spawn(&step.command, &output)?;
        let status = child.wait()?;
        let seen = fs::read_to_string(&output)?;
        let shall_fail = step.shown.iter().any(|line| line.starts_with("error:"));
        if status.success() == shall_fail && !step.only_looks() {
            return Err(format!("`{}` ended with {status}:\n{seen}", step.command).into());
        }
        Ok(seen)
    }

    fn spawn(
        &mut self,
        command: &str,
        output: &Path,
    ) -> Result<std::process::Child, Box<dyn Error>> {
        let file = fs::File::create(output)?;
        let command = command.replace(WRITTEN_ADDRESS, &self.cluster.address);
        let command = command.replace(WRITTEN_HTTPS_ADDRESS, &self.cluster.https_address);
        let programs = self.cluster.programs().cli.parent().map(Path::to_owned);
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("bash")
            .arg("-c")
            .arg(format!("{}{command}", self.variables))
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", programs.unwrap_or_default().display()))
            .env("PICCOLO_CONTEXT", self.cluster.context())
            .env("NO_COLOR", "1")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        self.groups.push(child.id());
        Ok(child)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let groups: Vec<String> = self.groups.iter().map(|group| format!("-{group}")).collect();
        let kill = format!("kill -9 -- {} 2>&-", groups.join(" "));
        let _ = Command::new("bash").arg("-c").arg(kill).status();
    }
}

/// A command, and what the document shows below it.
#[derive(Debug)]
struct Step {
    command: String,
    shown: Vec<String>,
}

impl Step {
    fn is_assignment(&self) -> bool {
        let (name, _) = self.command.split_once('=').unwrap_or_default();
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    }

    fn only_looks(&self) -> bool {
        let words = [
            " list",
            " describe",
            " get",
            " graph",
            " events",
            " status",
            " check",
            " show",
            " top",
            " query",
        ];
        words.iter().any(|word| self.command.contains(word)) && !self.command.contains("kill")
    }

    fn compare(&self, seen: &str) -> Story {
        match missing(&self.shown, seen) {
            None => Ok(()),
            Some(line) => {
                Err(format!("`{}` does not show the line\n{line}\nIt shows:\n{seen}", self.command)
                    .into())
            }
        }
    }
}

/// As long as it may take; whether it came is asked afterwards.
fn wait_until_shown(shown: &[String], output: &Path) {
    let begun = Instant::now();
    let seen = || fs::read_to_string(output).unwrap_or_default();
    while missing(shown, &seen()).is_some() && begun.elapsed() < PATIENCE {
        std::thread::sleep(POLL_EVERY);
    }
}

/// The first line of `shown` that is like none of `seen`.
fn missing<'s>(shown: &'s [String], seen: &str) -> Option<&'s String> {
    let seen: Vec<Vec<String>> = seen.lines().map(pattern).collect();
    shown.iter().find(|line| *line != "..." && !seen.contains(&pattern(line)))
}

/// What of a line is the same in every run.
fn pattern(line: &str) -> Vec<String> {
    let is_of_the_machine = line.trim_start().starts_with("OS:");
    let words = line.split_whitespace();
    let words = words.take(if is_of_the_machine { 1 } else { WORDS_COMPARED });
    let is_unit = |word: &str| {
        let word = word.trim_end_matches("/s");
        ["B", "KiB", "MiB", "GiB", "TiB"].contains(&word)
    };
    words
        .map(|word| {
            let is_name =
                word.trim_end_matches([':', ',']).split_once('-').is_some_and(|(kind, number)| {
                    ["node", "board"].contains(&kind) && number.parse::<u8>().is_ok()
                });
            match word {
                _ if is_name => word.to_owned(),
                _ if is_unit(word) => "<unit>".to_owned(),
                _ if word.chars().any(|c| c.is_ascii_digit()) => "<number>".to_owned(),
                _ => word.to_owned(),
            }
        })
        .collect()
}

/// The Markdown files in a folder of the repository, except what is generated. The blocks of the Korean
/// ones are the same: `xtask/tests/documents.rs`.
fn documents(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".md") && !name.ends_with("/cli.md"))
        .filter(|name| !name.ends_with(".ko.md"))
        .collect();
    names.sort();
    names
}

fn commands(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (_, text) in blocks(document).iter().filter(|(kind, _)| kind == "console") {
        for line in text.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step { command: command.to_owned(), shown: Vec::new() });
            } else if let Some(step) = steps.last_mut() {
                match line.strip_prefix("> ") {
                    Some(more) => step.command = format!("{}\n{more}", step.command),
                    None if line.trim().is_empty() => {}
                    None => step.shown.push(line.to_owned()),
                }
            }
        }
    }
    steps
}

/// The fenced blocks: their kind and their text.
fn blocks(document: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join(document)).unwrap_or_default();
    let parts: Vec<&str> = text.split("\n```").collect();
    let fenced = parts.iter().skip(1).step_by(2);
    let split = fenced.map(|part| part.split_once('\n').unwrap_or((part, "")));
    split.map(|(kind, text)| (kind.trim().to_owned(), text.to_owned())).collect()
}

fn with_containers(folder: &Path) -> Result<PrivatePodman, Box<dyn Error>> {
    let podman = PrivatePodman::start(folder.join("podman"))?;
    podman.run("gauge", &["sleep", "1000"])?;
    podman.run("logger", &["sleep", "1000"])?;
    Ok(podman)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
