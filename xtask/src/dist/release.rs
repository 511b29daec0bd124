//! A release as `scripts/install.sh` takes it: one folder, and the same as a tarball.
//!
//! ```text
//! piccolo-VERSION-ARCHITECTURE/
//!   bin/ systemd/ config/ man/man1/ completions/
//!   install.sh system_check.sh findings.sh LICENSE
//!   RELEASE       version and architecture, as KEY=VALUE
//!   SHA256SUMS    of every other file
//! ```
//!
//! The same executables give the same bytes: names are sorted, owners and times are fixed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::EXECUTABLES;
use crate::run;
use crate::workspace::Workspace;

/// Seconds since 1970 of every file in a tarball, unless `SOURCE_DATE_EPOCH` says otherwise: 2025-01-01.
const TIME_OF_FILES: &str = "1735689600";
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "piccolo.bash"), ("zsh", "_piccolo"), ("fish", "piccolo.fish")];
/// From the checkout into the release.
const FILES: [(&str, &str); 9] = [
    ("scripts/install.sh", "install.sh"),
    ("scripts/system_check.sh", "system_check.sh"),
    ("scripts/findings.sh", "findings.sh"),
    ("systemd/piccolo-master.service", "systemd/piccolo-master.service"),
    ("systemd/piccolo-nodeagent.service", "systemd/piccolo-nodeagent.service"),
    ("config/master.yaml", "config/master.yaml"),
    ("config/nodeagent.yaml", "config/nodeagent.yaml"),
    ("config/system_check.conf", "config/system_check.conf"),
    ("LICENSE", "LICENSE"),
];

/// What a release is made of.
#[derive(Debug)]
pub(crate) struct Parts<'p> {
    /// Holds the three executables.
    pub(crate) executables: &'p Path,
    /// Their processor, as `uname -m` says, or armv7.
    pub(crate) architecture: &'p str,
    /// Runs `piccolo` here, where its processor is another one.
    pub(crate) emulator: Option<&'p Path>,
}

/// Makes its folder in `into`, and returns it.
///
/// # Errors
/// A part is missing, or `into` cannot be written.
pub(crate) fn make(workspace: &Workspace, parts: &Parts<'_>, into: &Path) -> Result<PathBuf> {
    let name = format!("piccolo-{}-{}", env!("CARGO_PKG_VERSION"), parts.architecture);
    let folder = into.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    for (executable, _) in EXECUTABLES {
        put(&parts.executables.join(executable), &folder.join("bin").join(executable))?;
    }
    for (from, to) in FILES {
        put(&workspace.root().join(from), &folder.join(to))?;
    }
    write_pages(parts, &folder)?;
    let release = format!("version={}\narch={}\n", env!("CARGO_PKG_VERSION"), parts.architecture);
    write(&folder.join("RELEASE"), release.as_bytes())?;
    write_digests(&folder)?;
    Ok(folder)
}

/// Manual pages and completions, as this very `piccolo` tells them.
fn write_pages(parts: &Parts<'_>, folder: &Path) -> Result<()> {
    let piccolo = || {
        let executable = parts.executables.join("piccolo");
        let mut command = Command::new(parts.emulator.unwrap_or(&executable));
        if parts.emulator.is_some() {
            command.arg(&executable);
        }
        command
    };
    let pages = folder.join("man/man1");
    let mut man = piccolo();
    run::answer(man.arg("man").arg(&pages)).context("`piccolo man` failed")?;
    for page in fs::read_dir(&pages).context("no manual pages were made")? {
        set_mode(&page.context("a manual page is gone")?.path())?;
    }
    for (shell, file) in COMPLETIONS {
        let mut completion = piccolo();
        let script = run::answer(completion.args(["completion", shell]))
            .with_context(|| format!("`piccolo completion {shell}` failed"))?;
        write(&folder.join("completions").join(file), (script + "\n").as_bytes())?;
    }
    Ok(())
}

fn put(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, &bytes)
}

/// With the mode that it has anywhere.
pub(super) fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    set_mode(to)
}

/// By what a file is, not by what it was in this checkout.
fn set_mode(path: &Path) -> Result<()> {
    let is_program = path.parent().is_some_and(|parent| parent.ends_with("bin"))
        || path.extension().is_some_and(|extension| extension == "sh");
    let mode = if is_program { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot change the mode of {}", path.display()))
}

fn write_digests(folder: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect(folder, folder, &mut files)?;
    files.sort();
    let mut command = Command::new("sha256sum");
    let sums = run::answer(command.current_dir(folder).args(&files)).context("sha256sum failed")?;
    write(&folder.join("SHA256SUMS"), (sums + "\n").as_bytes())
}

/// The files below `folder`, as paths from `root`.
fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let path = entry.context("the release changes while it is read")?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Ok(inside) = path.strip_prefix(root) {
            files.push(inside.to_owned());
        }
    }
    Ok(())
}

/// Makes a tarball beside the folder, and returns it.
///
/// # Errors
/// It cannot be written.
pub(crate) fn pack(folder: &Path) -> Result<PathBuf> {
    let (into, name) =
        folder.parent().zip(folder.file_name()).context("the release has no name")?;
    let name = name.to_string_lossy();
    let tarball = into.join(format!("{name}.tar.gz"));
    let time = time_of_files()?;
    let script = "set -o pipefail; tar --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
                  --mtime=\"@$1\" --mode=u+rwX,go+rX,go-w -c \"$2\" | gzip -9 -n >\"$2.tar.gz\"";
    let mut command = Command::new("bash");
    command.current_dir(into).args(["-c", script, "pack", &time, &name]);
    run::answer(&mut command).with_context(|| format!("{} cannot be made", tarball.display()))?;
    Ok(tarball)
}

/// Seconds since 1970.
pub(super) fn time_of_files() -> Result<String> {
    let time = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| TIME_OF_FILES.to_owned());
    let is_good = !time.is_empty() && time.chars().all(|c| c.is_ascii_digit());
    ensure!(is_good, "SOURCE_DATE_EPOCH is `{time}`; expected seconds since 1970");
    Ok(time)
}
