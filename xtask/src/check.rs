//! `cargo xtask check`: what should pass before every commit, quick and without root.

use std::process::Command;

use anyhow::Result;

use crate::count::Runner;
use crate::test::{Plan, Step, has_nextest};
use crate::workspace::Workspace;

pub(crate) fn task(workspace: &Workspace) -> Result<()> {
    let mut plan = Plan::new();
    formatting_and_lints(workspace, &mut plan);
    plan.push(fast_tests(workspace));
    plan.run()
}

/// What `check` and `test` have in common.
pub(crate) fn formatting_and_lints(workspace: &Workspace, plan: &mut Plan) {
    let mut fmt = workspace.cargo();
    fmt.args(["fmt", "--all", "--", "--check"]);
    plan.push(Step::new("formatting", fmt));
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    plan.push(Step::new("lints", clippy));
    plan.push(Step::new("docs", docs(workspace)));
}

fn docs(workspace: &Workspace) -> Command {
    let mut doc = workspace.cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    // what is private is in them, and may be linked to
    doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
    doc
}

/// Unit tests, the simulator's seeds and the tidiness of the tree; nothing that starts a Podman
/// or an etcd.
fn fast_tests(workspace: &Workspace) -> Step {
    let mut tests = workspace.cargo();
    let nextest = has_nextest(workspace);
    if nextest {
        tests.args(["nextest", "run", "--workspace", "--no-tests", "pass"]);
        tests.args(["--lib", "--bins", "--test", "tidy"]);
    } else {
        tests.args(["test", "--workspace", "--lib", "--bins", "--test", "tidy"]);
    }
    let runner = if nextest { Runner::Nextest } else { Runner::Libtest };
    Step::new("fast tests", tests).counted_by(runner)
}
