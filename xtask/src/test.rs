//! `cargo xtask test`: makes the machine ready and runs everything that can fail.
//!
//! All steps run even after one failed, because a report of everything is worth more than the
//! first failure. The runner of the Rust tests comes last, so that its own summary is what one
//! sees at the end, followed by the sum of all.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::breaking;
use crate::check;
use crate::count::{self, Count, Runner};
use crate::run;
use crate::setup::{self, Purpose};
use crate::sim;
use crate::workspace::Workspace;

pub(crate) fn task(workspace: &Workspace) -> Result<()> {
    setup::make_ready(workspace, &[Purpose::Up, Purpose::Etcd, Purpose::Test, Purpose::Dist])?;
    let mut plan = Plan::new();
    check::formatting_and_lints(workspace, &mut plan);
    wire_steps(workspace, &mut plan)?;
    plan.push(scripts(workspace));
    console_steps(workspace, &mut plan);
    if workspace.cargo_deny().is_file() {
        plan.push(Step::new("licences, bans and sources", deny(workspace)));
    } else {
        plan.leave_out("licences, bans and sources: cargo-deny is not installed");
    }
    // together: apart, what they share would be compiled once for each, with other features
    let mut build = workspace.cargo();
    build.args(["build", "--workspace", "--bins", "--tests", "--quiet"]);
    plan.push(Step::new("executables and tests", build));
    // as they are shipped, with no feature that only another package asks for
    for package in ["piccolo-master", "piccolo-cli"] {
        let mut alone = workspace.cargo();
        alone.args(["check", "--quiet", "--package", package]);
        plan.push(Step::new(format!("{package} by itself"), alone));
    }
    plan.push(fuzz_targets(workspace));
    let mut docs = workspace.cargo();
    docs.args(["test", "--workspace", "--doc", "--quiet"]);
    plan.push(Step::new("examples in the docs", docs).counted_by(Runner::Libtest));
    builds_beside(workspace, &mut plan)?;
    plan.push_last(wire_test(workspace));
    rust_tests(workspace).into_iter().for_each(|step| plan.push_last(step));
    plan.run()
}

/// They take minutes, and much of it one core alone: a linker that optimises all of a program, a disk image.
fn builds_beside(workspace: &Workspace, plan: &mut Plan) -> Result<()> {
    let of_xtask = |arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments);
        Ok(command)
    };
    plan.push_beside(Step::new("a disk image for hosts", of_xtask(&["setup", "--for", "hosts"])?));
    let agents = of_xtask(&["dist", "--agents", "--only", "aarch64", "--only", "armv7"])?;
    plan.push_beside(Step::new("NodeAgents for ARM", agents));
    let twice = of_xtask(&["dist", "--agents", "--only", "aarch64", "--twice"])?;
    plan.push_beside(Step::new("the same bytes from another folder", twice));
    let mut seeds = sim::command(workspace);
    seeds.args(["--", "--seeds", "20000"]);
    plan.push_beside(Step::new("twenty thousand simulated clusters", seeds));
    Ok(())
}

/// A program to run and, where it runs tests, how it counts them.
pub(crate) struct Step {
    name: String,
    command: Command,
    runner: Option<Runner>,
}

impl Step {
    pub(crate) fn new(name: impl Into<String>, command: Command) -> Self {
        Self { name: name.into(), command, runner: None }
    }

    pub(crate) fn counted_by(mut self, runner: Runner) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Its output is passed on as it comes.
    fn run(mut self) -> Outcome {
        println!("\n==> {}: {}", self.name, run::shown(&self.command));
        let started = Instant::now();
        let runner = self.runner;
        let counted = Mutex::new(Count::default());
        let see = |line: &str| {
            let seen = runner.and_then(|runner| count::of_line(runner, line));
            if let (Some(seen), Ok(mut counted)) = (seen, counted.lock()) {
                counted.add(seen);
            }
        };
        let success = run::echoed(&mut self.command, see).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            false
        });
        let count = counted.into_inner().unwrap_or_default();
        Outcome { name: self.name, success, count, took: started.elapsed() }
    }

    /// Its output is printed when it has ended, or it would be mixed with that of the steps it runs beside.
    fn run_beside(mut self) -> Outcome {
        let started = Instant::now();
        let (success, output) = run::kept(&mut self.command)
            .unwrap_or_else(|error| (false, format!("error: {error:#}\n")));
        println!("\n==> beside, {}: {}\n{output}", self.name, run::shown(&self.command));
        let count = Count::default();
        Outcome { name: self.name, success, count, took: started.elapsed() }
    }
}

struct Outcome {
    name: String,
    success: bool,
    count: Count,
    took: Duration,
}

/// Steps in two lanes and what comes after both, and the report at the end.
pub(crate) struct Plan {
    steps: Vec<Step>,
    beside: Vec<Step>,
    last: Vec<Step>,
    left_out: Vec<String>,
    started: Instant,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self {
            steps: Vec::new(),
            beside: Vec::new(),
            last: Vec::new(),
            left_out: Vec::new(),
            started: Instant::now(),
        }
    }

    /// One after another.
    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// One after another too, at the same time as those of [`Self::push`]: what computes, and counts no tests.
    fn push_beside(&mut self, step: Step) {
        self.beside.push(step);
    }

    /// When all of both have ended, by itself.
    fn push_last(&mut self, step: Step) {
        self.last.push(step);
    }

    pub(crate) fn leave_out(&mut self, what: &str) {
        self.left_out.push(what.to_owned());
    }

    /// # Errors
    /// A step failed; the report has named it.
    pub(crate) fn run(self) -> Result<()> {
        let Self { steps, beside, last, left_out, started } = self;
        let mut outcomes: Vec<_> = thread::scope(|scope| {
            let beside =
                scope.spawn(|| beside.into_iter().map(Step::run_beside).collect::<Vec<_>>());
            let mut outcomes: Vec<_> = steps.into_iter().map(Step::run).collect();
            outcomes.extend(beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            outcomes
        });
        outcomes.extend(last.into_iter().map(Step::run));
        println!("\n==> what ran, in {:.0} s", started.elapsed().as_secs_f64());
        let mut total = Count::default();
        for Outcome { name, success, count, took } in &outcomes {
            total.add(*count);
            let sign = if *success { "ok " } else { "!! " };
            println!("{sign} {name} ({:.1} s)", took.as_secs_f64());
        }
        left_out.iter().for_each(|line| println!("--  left out: {line}"));
        println!("{} passed, {} failed", total.passed, total.failed);
        let failed = outcomes.iter().filter(|outcome| !outcome.success).count();
        if failed > 0 {
            bail!("{failed} of {} steps failed", outcomes.len());
        }
        Ok(())
    }
}

pub(crate) fn has_nextest(workspace: &Workspace) -> bool {
    has_cargo_tool(workspace, "nextest")
}

fn has_cargo_tool(workspace: &Workspace, name: &str) -> bool {
    run::answer(workspace.cargo().args([name, "--version"])).is_some()
}

/// `buf lint`, and `buf breaking` against what was promised before.
fn wire_steps(workspace: &Workspace, plan: &mut Plan) -> Result<()> {
    if !workspace.buf().is_file() {
        plan.leave_out("lint of the wire: buf is not installed");
        return Ok(());
    }
    let mut lint = Command::new(workspace.buf());
    plan.push(Step::new("lint of the wire", {
        lint.arg("lint").current_dir(workspace.root());
        lint
    }));
    match breaking::command(workspace)? {
        breaking::Against::Nothing(why) => plan.leave_out(&format!("breaking changes: {why}")),
        breaking::Against::Commit { name, command } => {
            plan.push(Step::new(format!("breaking changes of the wire since {name}"), *command));
        }
    }
    Ok(())
}

/// Types and tests of the web console, and whether what is checked in is what its sources make. Its stories in a browser
/// are among the Rust tests, which have clusters for them.
fn console_steps(workspace: &Workspace, plan: &mut Plan) {
    if !workspace.console().join("node_modules/.bin/vite").is_file() {
        plan.leave_out("the web console: its packages are not installed");
        return;
    }
    let script = |name| {
        let mut npm = Command::new("npm");
        npm.args(["run", "--silent", name]).current_dir(workspace.console());
        npm
    };
    let tests = Step::new("the web console's own tests", script("test"));
    plan.push(tests.counted_by(Runner::Vitest));
    plan.push(Step::new("the web console as its sources make it", script("fresh")));
}

fn scripts(workspace: &Workspace) -> Step {
    let mut shellcheck = Command::new("shellcheck");
    shellcheck.arg(".ci/run").current_dir(workspace.root());
    let folders =
        ["scripts", "scripts/package", "crates/testkit/src/testbed", "crates/cli/src/node/deploy"];
    let folders = folders.map(|path| workspace.root().join(path));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    let mut scripts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "sh"));
    scripts.sort();
    shellcheck.args(scripts);
    Step::new("shell scripts", shellcheck)
}

/// `advisories` are for the release checklist: what is published tomorrow must not fail what was right today.
fn deny(workspace: &Workspace) -> Command {
    let mut deny = Command::new(workspace.cargo_deny());
    deny.current_dir(workspace.root());
    deny.args(["--log-level", "error", "check", "--hide-inclusion-graph"]);
    deny.args(["licenses", "bans", "sources"]);
    deny
}

/// They are in no workspace with what they try, and would not be compiled from one `cargo xtask fuzz` to the next.
fn fuzz_targets(workspace: &Workspace) -> Step {
    let mut check = workspace.cargo();
    check.args(["check", "--quiet", "--locked", "--bins", "--manifest-path"]);
    check.arg(workspace.root().join("fuzz/Cargo.toml"));
    // with what was compiled of the same crates already, so by the tree's own profiles, and without libFuzzer's own C++:
    // nothing is linked
    check.arg("--target-dir").arg(workspace.target());
    check.arg("--config").arg(workspace.root().join("Cargo.toml"));
    check.env("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a");
    Step::new("fuzz targets", check)
}

fn wire_test(workspace: &Workspace) -> Step {
    let mut python = Command::new(workspace.python());
    python.arg("tests/wire/run.py").current_dir(workspace.root());
    with_surroundings(workspace, &mut python);
    Step::new("a client in another language", python).counted_by(Runner::Wire)
}

fn rust_tests(workspace: &Workspace) -> Vec<Step> {
    let mut tests = workspace.cargo();
    if !has_nextest(workspace) {
        tests.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"]);
        with_surroundings(workspace, &mut tests);
        return vec![Step::new("tests", tests).counted_by(Runner::Libtest)];
    }
    let of = |which: &str, more: &[&str]| {
        let mut tests = workspace.cargo();
        tests.args(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests", "pass"]);
        tests.args(["--filterset", which]).args(more);
        with_surroundings(workspace, &mut tests);
        tests
    };
    let hosts = of("binary(/^hosts_/)", &HOSTS_AT_ONCE);
    vec![
        Step::new("stories on hosts", hosts).counted_by(Runner::Nextest),
        Step::new("tests", of("not binary(/^hosts_/)", &[])).counted_by(Runner::Nextest),
    ]
}

/// They wait most of their time, on any number of cores. What must be alone is so whatever is said here.
pub(crate) const HOSTS_AT_ONCE: [&str; 2] = ["--test-threads", "3"];

/// Where tests of real executables find them, and the tools of this checkout.
pub(crate) fn with_surroundings(workspace: &Workspace, command: &mut Command) {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = workspace.tools().join("node_modules/.bin");
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = std::iter::once(tools).chain(env::split_paths(&path)).chain(sbin);
    command.env("PATH", env::join_paths(all).unwrap_or(path));
    command.env("PICCOLO_BIN_DIR", workspace.executables("debug"));
}
