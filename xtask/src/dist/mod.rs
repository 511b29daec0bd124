//! `cargo xtask dist`: the three executables as they are shipped, static, for three kinds of board.
//!
//! They land in `target/dist/ARCHITECTURE`, and with everything else that `scripts/install.sh` needs in
//! `target/dist/piccolo-VERSION-ARCHITECTURE.tar.gz`; digests of all are in `target/dist/SHA256SUMS`.
//! Each executable is run once before it counts, those for ARM under qemu.
//!
//! With `--executables` nothing is built: a release is made of the executables in that folder, for this
//! machine. Tests and testbeds install that.

mod release;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::progress::Line;
use crate::run;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

/// The HLD's smallest board has 512 MB of memory and little flash.
const AGENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
const EXECUTABLES: [&str; 3] = ["piccolo-nodeagent", "piccolo-master", "piccolo"];
/// One for each, in the same order.
const PACKAGES: [&str; 3] = ["piccolo-nodeagent", "piccolo-master", "piccolo-cli"];

/// What a board's processor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
    #[value(name = "armv7")]
    Armv7,
}

impl Architecture {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
            Self::Armv7 => "armv7-unknown-linux-musleabihf",
        }
    }

    /// What runs its executables here; none for our own.
    fn emulator(self) -> Option<&'static str> {
        match self {
            Self::X86_64 => None,
            Self::Aarch64 => Some("qemu-aarch64-static"),
            Self::Armv7 => Some("qemu-arm-static"),
        }
    }
}

/// What `cargo xtask dist` can be told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// For this architecture only; may be given more than once
    #[arg(long, value_name = "ARCHITECTURE")]
    only: Vec<Architecture>,
    /// Build nothing: make a release of these executables, e.g. of target/debug
    #[arg(long, value_name = "FOLDER", conflicts_with = "only")]
    executables: Option<PathBuf>,
    /// Where to put that release [default: target/dist]
    #[arg(long, value_name = "FOLDER", requires = "executables")]
    into: Option<PathBuf>,
    /// Make no tarball of it
    #[arg(long, requires = "executables")]
    folder_only: bool,
}

pub(crate) fn task(workspace: &Workspace, options: &Options) -> Result<()> {
    match &options.executables {
        Some(executables) => of_executables(workspace, executables, options),
        None => of_builds(workspace, &options.only),
    }
}

/// A release of what is there, for this machine.
fn of_executables(workspace: &Workspace, executables: &Path, options: &Options) -> Result<()> {
    let into = options.into.clone().unwrap_or_else(|| workspace.target().join("dist"));
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    let architecture = match std::env::consts::ARCH {
        "arm" => Architecture::Armv7.name(),
        ours => ours,
    };
    let parts = release::Parts { executables, architecture, emulator: None };
    let folder = release::make(workspace, &parts, &into)?;
    let made = if options.folder_only { folder } else { release::pack(&folder)? };
    println!("{}", made.display());
    Ok(())
}

fn of_builds(workspace: &Workspace, only: &[Architecture]) -> Result<()> {
    setup::make_ready(workspace, &[Purpose::Dist])?;
    let cross = workspace.target().join("cross");
    let dist = workspace.target().join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let line = Line::start("a toolchain for boards, in target/cross");
    let mut script = Command::new(workspace.root().join("scripts/cross-setup.sh"));
    let made = run::logged(script.arg(&cross), &dist.join("cross-setup.log"));
    made.context("the toolchain for boards could not be made")?;
    line.done("");

    let architectures = if only.is_empty() { Architecture::value_variants() } else { only };
    let mut report = Vec::new();
    for architecture in architectures {
        let folder = build(workspace, &cross, &dist, *architecture)?;
        for name in EXECUTABLES {
            try_once(&cross, *architecture, &folder.join(name))?;
            let bytes = fs::metadata(folder.join(name)).context("an executable is gone")?.len();
            report.push((*architecture, name, bytes));
        }
        let emulator = architecture.emulator().map(|name| cross.join("root/usr/bin").join(name));
        let parts = release::Parts {
            executables: &folder,
            architecture: architecture.name(),
            emulator: emulator.as_deref(),
        };
        release::pack(&release::make(workspace, &parts, &dist)?)?;
    }
    write_digests(&dist)?;
    show(&report);
    let too_large =
        |&(_, name, bytes): &(_, &str, u64)| name == "piccolo-nodeagent" && bytes > AGENT_BYTES_MAX;
    ensure!(!report.iter().any(too_large), "the NodeAgent is larger than {AGENT_BYTES_MAX} bytes");
    Ok(())
}

/// Builds into a target folder of its own: another compiler would spoil the usual one.
fn build(
    workspace: &Workspace,
    cross: &Path,
    dist: &Path,
    architecture: Architecture,
) -> Result<PathBuf> {
    let folder = dist.join(architecture.name());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let log = dist.join(format!("build-{}.log", architecture.name()));
    fs::remove_file(&log).ok();
    for (package, name) in PACKAGES.into_iter().zip(EXECUTABLES) {
        let line = Line::start(format!("{name} for {}", architecture.name()));
        let mut command = cargo_for_boards(workspace, cross, architecture, package);
        if let Err(error) = run::logged(&mut command, &log) {
            line.failed("");
            return Err(error.context(format!("{name} for {} failed", architecture.name())));
        }
        line.done("");
        let built = cross.join("build").join(architecture.target()).join("release").join(name);
        // Onto a running executable nothing can be copied; a new file can take its name.
        fs::remove_file(folder.join(name)).ok();
        fs::copy(&built, folder.join(name))
            .with_context(|| format!("the build left no {}", built.display()))?;
    }
    Ok(folder)
}

/// One package at a time: built together, they would all get the features that any of them asks
/// for, and the agent would carry what only the master needs.
fn cargo_for_boards(
    workspace: &Workspace,
    cross: &Path,
    architecture: Architecture,
    package: &str,
) -> Command {
    let script = "set -eu; . \"$0/env\"; exec cargo-zigbuild zigbuild --release --locked \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(cross).args(["--target", architecture.target()]);
    // The standard library is built with our profile: its size counts as much as ours.
    command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=", "--bins"]);
    command.args(["--package", package]).current_dir(workspace.root());
    command.env("CARGO_TARGET_DIR", cross.join("build")).env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Each knows its version; one that was linked wrongly does not get that far.
fn try_once(cross: &Path, architecture: Architecture, executable: &Path) -> Result<()> {
    let mut command = match architecture.emulator() {
        Some(emulator) => Command::new(cross.join("root/usr/bin").join(emulator)),
        None => Command::new(executable),
    };
    if architecture.emulator().is_some() {
        command.arg(executable);
    }
    let version = run::answer(command.arg("--version"));
    if !version.is_some_and(|text| text.contains(env!("CARGO_PKG_VERSION"))) {
        bail!("`{}` does not say its version", run::shown(&command));
    }
    Ok(())
}

fn write_digests(dist: &Path) -> Result<()> {
    let mut command = Command::new("sha256sum");
    command.current_dir(dist);
    for architecture in Architecture::value_variants() {
        for name in EXECUTABLES {
            let path = format!("{}/{name}", architecture.name());
            if dist.join(&path).is_file() {
                command.arg(path);
            }
        }
        let tarball =
            format!("piccolo-{}-{}.tar.gz", env!("CARGO_PKG_VERSION"), architecture.name());
        if dist.join(&tarball).is_file() {
            command.arg(tarball);
        }
    }
    let sums = run::answer(&mut command).context("sha256sum failed")?;
    fs::write(dist.join("SHA256SUMS"), sums + "\n").context("cannot write SHA256SUMS")
}

fn show(report: &[(Architecture, &str, u64)]) {
    println!("\n{:<20}{:<10}{:>12}", "executable", "for", "bytes");
    for (architecture, name, bytes) in report {
        println!("{name:<20}{:<10}{bytes:>12}", architecture.name());
    }
    println!(
        "\nin target/dist, with a tarball to install for each; digests are in target/dist/SHA256SUMS"
    );
}
