//! Packages through apt, as root, without a daemon coming up.
//!
//! While apt works, a `policy-rc.d` forbids it to start services; what the packages enabled for
//! the next boot is disabled again. Both only for what this installation itself brought.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Missing;
use super::needs::Need;
use crate::progress::Line;
use crate::run;
use crate::workspace::{Workspace, which};

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\n# by `cargo xtask setup`: remove this file if it is still here afterwards\nexit 101\n";
const UNITS: &str = "/etc/systemd/system";
/// Another apt may be at work, e.g. unattended upgrades.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

/// Installs the packages of `absent`; adds to `missing` what could not be had.
pub(crate) fn install(
    workspace: &Workspace,
    absent: &[&Need],
    missing: &mut Missing,
) -> Result<()> {
    if let Some(remedy) = hindrance(absent) {
        absent.iter().for_each(|need| missing.add(need.package, need.why, &remedy));
        return Ok(());
    }
    let log = workspace.tools().join("apt.log");
    let policy = NoServices::forbid().context("cannot keep apt from starting services")?;
    let enabled_before = enabled_units();
    let line = Line::start("reading the package lists");
    match run::logged(apt().arg("update"), &log) {
        Ok(()) => line.done(""),
        // Older lists may do.
        Err(error) => line.failed(&error.to_string()),
    }
    let packages: Vec<_> = absent.iter().map(|need| need.package).collect();
    let line = Line::start(format!("installing {}", packages.join(" ")));
    match run::logged(install_command().args(&packages), &log) {
        Ok(()) => line.done(""),
        Err(_) => {
            line.failed("not all at once, so one by one");
            one_by_one(absent, &log, missing);
        }
    }
    disable(enabled_units().difference(&enabled_before));
    drop(policy);
    Ok(())
}

fn one_by_one(absent: &[&Need], log: &Path, missing: &mut Missing) {
    for need in absent {
        let line = Line::start(format!("installing {}", need.package));
        match run::logged(install_command().arg(need.package), log) {
            Ok(()) => line.done(""),
            Err(error) => {
                line.failed(&error.to_string());
                missing.add(need.package, need.why, "apt could not install it");
            }
        }
    }
}

/// Why apt is of no use here, as a remedy.
fn hindrance(absent: &[&Need]) -> Option<String> {
    let packages: Vec<_> = absent.iter().map(|need| need.package).collect();
    if which("apt-get").is_none() {
        return Some("this system has no apt; install it with its own package manager".into());
    }
    if !rustix::process::geteuid().is_root() {
        return Some(format!("not root; as root: apt-get install {}", packages.join(" ")));
    }
    None
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "-o", LOCK_TIMEOUT]);
    command
}

fn install_command() -> Command {
    let mut command = apt();
    command.args(["install", "--yes", "--no-install-recommends"]);
    command
}

/// Holds the policy that no service may start, unless the system has one of its own.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn forbid() -> std::io::Result<Self> {
        // Ours may be left from a run that was interrupted; then it is taken over.
        let ours = fs::read_to_string(POLICY).map_or(true, |text| text == POLICY_TEXT);
        if ours {
            fs::write(POLICY, POLICY_TEXT)?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours && fs::remove_file(POLICY).is_err() {
            eprintln!("warning: {POLICY} could not be removed; it keeps services from starting");
        }
    }
}

/// The links that start a unit at boot, e.g. `multi-user.target.wants/etcd.service`.
fn enabled_units() -> BTreeSet<PathBuf> {
    let folders = fs::read_dir(UNITS).into_iter().flatten().flatten();
    let wants = folders.filter(|entry| entry.file_name().to_string_lossy().ends_with(".wants"));
    wants
        .flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|link| link.path())
        .collect()
}

fn disable<'l>(links: impl Iterator<Item = &'l PathBuf>) {
    let units: BTreeSet<_> = links.filter_map(|link| link.file_name()).collect();
    for unit in units {
        let mut systemctl = Command::new("systemctl");
        systemctl.arg("disable").arg(unit).stdin(Stdio::null());
        let quiet = systemctl.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let unit = unit.to_string_lossy();
        if quiet.is_ok_and(|status| status.success()) {
            println!(
                "ok  {unit} came with it and stays off (`systemctl enable {unit}` changes that)"
            );
        } else {
            eprintln!("warning: {unit} came with it and could not be disabled for the next boot");
        }
    }
}
