//! `cargo xtask dist --twice`: whether executables are what they are by their sources alone.
//!
//! They are built a second time, from a copy of the checkout in a folder with another name, with the toolchain in another
//! place and later: the bytes must be the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Architecture, build};
use crate::progress::Line;
use crate::run;
use crate::workspace::Workspace;

/// Names a folder that is not as long as the one of a usual checkout.
const PLACE: &str = "again/in-a-folder-called-otherwise";

/// # Errors
/// They differ, or could not be built. Both stay where they are then.
pub(super) fn compare(
    workspace: &Workspace,
    cross: &Path,
    dist: &Path,
    architectures: &[Architecture],
    executables: &[(&str, &str)],
) -> Result<()> {
    let place = workspace.target().join(PLACE);
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    let second = copy(workspace, cross, &place)?;
    let second_dist = second.target().join("dist");
    fs::create_dir_all(&second_dist).context("cannot make the second folder")?;
    let of_second = second.target().join("cross");
    build(&second, &of_second, &second_dist, architectures, executables)?;
    for architecture in architectures {
        for (name, _) in executables {
            let [one, other] =
                [dist, &second_dist].map(|dist| dist.join(architecture.name()).join(name));
            let line =
                Line::start(format!("{name} for {} has the same bytes", architecture.name()));
            if read(&one)? != read(&other)? {
                line.failed("");
                let (one, other) = (one.display(), other.display());
                anyhow::bail!(
                    "what is built is not by its sources alone: {one} and {other} differ"
                );
            }
            line.done("");
        }
    }
    fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))
}

/// The sources, and the toolchain by links to the same files: whoever asks where one is gets another path.
fn copy(workspace: &Workspace, cross: &Path, place: &Path) -> Result<Workspace> {
    let target = place.join("target");
    let to = target.join("cross");
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    let script =
        "set -o pipefail; tar -C \"$0\" --exclude=./.git --exclude=target -c . | tar -C \"$1\" -x";
    succeed(Command::new("bash").args(["-c", script]).arg(workspace.root()).arg(place))?;
    succeed(
        Command::new("cp").arg("-al").arg(cross.join("root")).arg(cross.join("python")).arg(&to),
    )?;
    for name in ["env", "rustc"] {
        let (from, into) = (cross.join(name), to.join(name));
        fs::copy(&from, &into).with_context(|| format!("cannot copy {}", from.display()))?;
        let text = String::from_utf8(read(&from)?).context("the toolchain is not ours")?;
        let text = text.replace(&*cross.to_string_lossy(), &to.to_string_lossy());
        fs::write(&into, text).with_context(|| format!("cannot write {}", into.display()))?;
    }
    Ok(Workspace::at(place.to_owned(), target))
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status =
        command.status().with_context(|| format!("`{}` does not start", run::shown(command)))?;
    ensure!(status.success(), "`{}` failed", run::shown(command));
    Ok(())
}
