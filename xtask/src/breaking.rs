//! Which earlier wire the present one must not break.
//!
//! The newest release tag, once there is one. Before the first release, the commit before the
//! last change of `proto/`, unless that change says in a footer `BREAKING CHANGE: why`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;
use crate::workspace::Workspace;

/// What `buf breaking` compares with.
pub(crate) enum Against {
    Nothing(&'static str),
    Commit { name: String, command: Box<Command> },
}

/// # Errors
/// The earlier wire cannot be taken out of git.
pub(crate) fn command(workspace: &Workspace) -> Result<Against> {
    let Some(last_change) = git(workspace, &["log", "-1", "--format=%H", "--", "proto"]) else {
        return Ok(Against::Nothing("this is not a git checkout"));
    };
    let tag = ["describe", "--tags", "--abbrev=0", "--match", "v*"];
    let base = if let Some(tag) = git(workspace, &tag) {
        tag
    } else {
        let body = git(workspace, &["log", "-1", "--format=%b", &last_change]).unwrap_or_default();
        if body.lines().any(|line| line.starts_with("BREAKING CHANGE: ")) {
            return Ok(Against::Nothing("the last change of the wire is declared as breaking"));
        }
        format!("{last_change}^")
    };
    if git(workspace, &["cat-file", "-t", &format!("{base}:proto")]).is_none() {
        return Ok(Against::Nothing("there is no earlier wire"));
    }
    let earlier = workspace.target().join("wire-before");
    extract(workspace, &base, &earlier)?;
    let mut command = Command::new(workspace.buf());
    command.args(["breaking", "--against"]).arg(&earlier).current_dir(workspace.root());
    let name = git(workspace, &["rev-parse", "--short", &base]).unwrap_or(base);
    Ok(Against::Commit { name, command: Box::new(command) })
}

/// `proto/` as it was, below a `buf.yaml` that says where it lies.
fn extract(workspace: &Workspace, base: &str, into: &Path) -> Result<()> {
    if into.exists() {
        fs::remove_dir_all(into).with_context(|| format!("cannot empty {}", into.display()))?;
    }
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let archive = into.join("proto.tar");
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace.root()).args(["archive", "--output"]).arg(&archive);
    git.args([base, "proto"]);
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(into);
    for mut command in [git, tar] {
        let status = command.status().with_context(|| run::shown(&command))?;
        if !status.success() {
            bail!("`{}` failed ({status})", run::shown(&command));
        }
    }
    fs::copy(workspace.root().join("buf.yaml"), into.join("buf.yaml")).context("buf.yaml")?;
    Ok(())
}

fn git(workspace: &Workspace, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace.root()).args(arguments);
    run::answer(&mut git).filter(|answer| !answer.is_empty())
}
