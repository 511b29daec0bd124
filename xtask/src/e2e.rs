//! `cargo xtask e2e`: the end-to-end tests alone, all or by name, on the real executables.
//!
//! Among them are those on hosts with systemd (`hosts_...`), whose image is made here, once.

use anyhow::{Context, Result, ensure};
use piccolo_testkit::testbed::{self, image, runs};

use crate::count::Runner;
use crate::progress::Line;
use crate::setup::{self, Purpose};
use crate::test::{HOSTS_AT_ONCE, Plan, Step, has_nextest, with_surroundings};
use crate::workspace::Workspace;

pub(crate) fn task(workspace: &Workspace, name: Option<&str>) -> Result<()> {
    let is_word = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    ensure!(
        name.is_none_or(is_word),
        "NAME is a part of a test's or a file's name, such as hosts_"
    );
    setup::make_ready(workspace, &[Purpose::Up, Purpose::Etcd, Purpose::Hosts])?;
    make_hosts_ready(workspace)?;
    let mut plan = Plan::new();
    let mut build = workspace.cargo();
    build.args(["build", "--workspace", "--bins", "--quiet"]);
    plan.push(Step::new("executables", build));
    let mut tests = workspace.cargo();
    let nextest = has_nextest(workspace);
    if nextest {
        tests.args(["nextest", "run", "--package", "piccolo-e2e", "--no-fail-fast"]);
        tests.args(HOSTS_AT_ONCE);
        if let Some(name) = name {
            tests.args(["--filterset", &format!("test(~{name}) | binary(~{name})")]);
        }
    } else {
        tests.args(["test", "--package", "piccolo-e2e", "--no-fail-fast"]);
        let files = name.filter(|name| is_in_a_files_name(workspace, name));
        match files {
            Some(name) => tests.args(["--test", &format!("*{name}*")]),
            None => tests.arg("--tests"),
        };
        // One after another: they measure seconds, or fill the machine.
        tests.args(["--", "--test-threads=1"]).args(name.filter(|_| files.is_none()));
    }
    with_surroundings(workspace, &mut tests);
    let runner = if nextest { Runner::Nextest } else { Runner::Libtest };
    plan.push(Step::new("end-to-end tests", tests).counted_by(runner));
    let outcome = plan.run();
    // A test that was killed, e.g. for taking too long, has cleaned nothing up.
    runs::sweep(&testbed::folder_in(workspace.target())).context("hosts are left")?;
    outcome
}

fn is_in_a_files_name(workspace: &Workspace, name: &str) -> bool {
    let entries = std::fs::read_dir(workspace.root().join("tests/tests")).into_iter().flatten();
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains(name))
}

/// The image of the hosts, if it is not there, and no remains of tests that were killed.
pub(crate) fn make_hosts_ready(workspace: &Workspace) -> Result<()> {
    let folder = testbed::folder_in(workspace.target());
    if image::present(&folder).is_some() {
        return runs::make_ready(&folder).context("remains of earlier hosts cannot be removed");
    }
    let line = Line::start("a disk image for hosts with systemd (2 minutes, once)");
    runs::make_ready(&folder)?;
    line.done(&folder.join("image").display().to_string());
    Ok(())
}
