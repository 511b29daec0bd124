//! `cargo xtask dist`: the three executables as they are shipped, static, for three kinds of board.
//!
//! They land in `target/dist/ARCHITECTURE`, each with what it is made of (`.cdx.json`, CycloneDX); with everything else
//! that `scripts/install.sh` needs in `target/dist/piccolo-VERSION-ARCHITECTURE.tar.gz`; and in packages for Debian and
//! RPM families. Digests of all are in `target/dist/SHA256SUMS`.
//! Each executable is run once before it counts, those for ARM under qemu. Where the checkout is leaves no trace in
//! them; with `--twice` that is put to the test.
//!
//! With `--executables` nothing is built: a release is made of the executables in that folder, for this
//! machine. Tests and testbeds install that.

mod again;
mod packages;
mod release;
mod sbom;

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
/// With the package that each is built from.
const EXECUTABLES: [(&str, &str); 3] = [
    ("piccolo-nodeagent", "piccolo-nodeagent"),
    ("piccolo-master", "piccolo-master"),
    ("piccolo", "piccolo-cli"),
];

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
    /// Only the NodeAgents, and nothing to install
    #[arg(long)]
    agents: bool,
    /// Build everything again in another folder, and compare the bytes
    #[arg(long)]
    twice: bool,
    /// Build nothing: make a release of these executables, e.g. of target/debug
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["only", "agents", "twice"])]
    executables: Option<PathBuf>,
    /// Where to put that release [default: target/dist]
    #[arg(long, value_name = "FOLDER", requires = "executables")]
    into: Option<PathBuf>,
    /// Make no tarball and no packages of it
    #[arg(long, requires = "executables")]
    folder_only: bool,
}

pub(crate) fn task(workspace: &Workspace, options: &Options) -> Result<()> {
    match &options.executables {
        Some(executables) => of_executables(workspace, executables, options),
        None => of_builds(workspace, options),
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
    let mut made = vec![folder.clone()];
    if !options.folder_only {
        setup::make_ready(workspace, &[Purpose::Packages])?;
        made = packages::make(workspace, &folder, architecture)?;
        made.push(release::pack(&folder)?);
    }
    made.iter().for_each(|path| println!("{}", path.display()));
    Ok(())
}

fn of_builds(workspace: &Workspace, options: &Options) -> Result<()> {
    let packages: &[Purpose] = if options.agents { &[] } else { &[Purpose::Packages] };
    setup::make_ready(workspace, &[&[Purpose::Dist], packages].concat())?;
    let dist = workspace.target().join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let spaces = [workspace.root(), dist.as_path()].map(|p| p.to_string_lossy().contains(' '));
    ensure!(spaces == [false; 2], "builds for boards cannot be made below a folder with a space");
    let cross = toolchain(workspace, &dist)?;

    let all = Architecture::value_variants();
    let architectures = if options.only.is_empty() { all } else { &options.only };
    let executables = if options.agents { &EXECUTABLES[..1] } else { &EXECUTABLES[..] };
    let mut report = Vec::new();
    build(workspace, &cross, &dist, architectures, executables)?;
    for architecture in architectures {
        let folder = dist.join(architecture.name());
        for (name, _) in executables {
            try_once(&cross, *architecture, &folder.join(name))?;
            let bytes = fs::metadata(folder.join(name)).context("an executable is gone")?.len();
            report.push((*architecture, *name, bytes));
        }
        if !options.agents {
            release_of(workspace, &cross, &dist, *architecture)?;
        }
    }
    write_digests(&dist)?;
    if options.twice {
        again::compare(workspace, &cross, &dist, architectures, executables)?;
    }
    show(&report);
    let too_large =
        |&(_, name, bytes): &(_, &str, u64)| name == "piccolo-nodeagent" && bytes > AGENT_BYTES_MAX;
    ensure!(!report.iter().any(too_large), "the NodeAgent is larger than {AGENT_BYTES_MAX} bytes");
    Ok(())
}

fn toolchain(workspace: &Workspace, dist: &Path) -> Result<PathBuf> {
    let cross = workspace.target().join("cross");
    let line = Line::start("a toolchain for boards, in target/cross");
    let mut script = Command::new(workspace.root().join("scripts/cross-setup.sh"));
    let made = run::logged(script.arg(&cross), &dist.join("cross-setup.log"));
    made.context("the toolchain for boards could not be made")?;
    line.done("");
    Ok(cross)
}

/// What can be installed of the executables in `target/dist/ARCHITECTURE`, and what each is made of.
fn release_of(
    workspace: &Workspace,
    cross: &Path,
    dist: &Path,
    architecture: Architecture,
) -> Result<()> {
    let folder = dist.join(architecture.name());
    let emulator = architecture.emulator().map(|name| cross.join("root/usr/bin").join(name));
    let parts = release::Parts {
        executables: &folder,
        architecture: architecture.name(),
        emulator: emulator.as_deref(),
    };
    let release = release::make(workspace, &parts, dist)?;
    release::pack(&release)?;
    packages::make(workspace, &release, architecture.name())?;
    for (name, package) in EXECUTABLES {
        let sbom = sbom::of(workspace, package, name, architecture.target())?;
        let path = folder.join(format!("{name}.cdx.json"));
        fs::write(&path, sbom).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Builds into a target folder of its own: another compiler would spoil the usual one. All architectures at once, for
/// the end of each build has work for one core alone.
fn build(
    workspace: &Workspace,
    cross: &Path,
    dist: &Path,
    architectures: &[Architecture],
    executables: &[(&str, &str)],
) -> Result<()> {
    let names = architectures.iter().map(|one| one.name()).collect::<Vec<_>>();
    let log = dist.join(format!("build-{}.log", names.join("-")));
    fs::remove_file(&log).ok();
    for (name, package) in executables {
        let what = format!("{name} for {}", names.join(", "));
        let line = Line::start(what.clone());
        let mut command = cargo_for_boards(workspace, cross, architectures, package);
        if let Err(error) = run::logged(&mut command, &log) {
            line.failed("");
            return Err(error.context(format!("{what} failed")));
        }
        line.done("");
        for architecture in architectures {
            let folder = dist.join(architecture.name());
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            let built = cross.join("build").join(architecture.target()).join("release").join(name);
            // Onto a running executable nothing can be copied; a new file can take its name.
            fs::remove_file(folder.join(name)).ok();
            fs::copy(&built, folder.join(name))
                .with_context(|| format!("the build left no {}", built.display()))?;
        }
    }
    Ok(())
}

/// One package at a time: built together, they would all get the features that any of them asks
/// for, and the agent would carry what only the master needs.
fn cargo_for_boards(
    workspace: &Workspace,
    cross: &Path,
    architectures: &[Architecture],
    package: &str,
) -> Command {
    let script = "set -eu; . \"$0/env\"; flags=$1; shift
        while [ \"$1\" != -- ]; do export \"$1=${!1} $flags\"; shift; done; shift
        exec cargo-zigbuild zigbuild --release --locked \"$@\"";
    let flags = |one: &Architecture| {
        let target = one.target().to_uppercase().replace('-', "_");
        format!("CARGO_TARGET_{target}_RUSTFLAGS")
    };
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(cross).arg(without_places(workspace, cross));
    command.args(architectures.iter().map(flags)).arg("--");
    command.args(architectures.iter().flat_map(|one| ["--target", one.target()]));
    // The standard library is built with our profile: its size counts as much as ours.
    command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=", "--bins"]);
    command.args(["--package", package]).current_dir(workspace.root());
    command.env("CARGO_TARGET_DIR", cross.join("build")).env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Paths get into executables by panics and logs: with these flags they say nothing of where it was built. Of two that
/// match, the later counts; the standard library's is relative where the toolchain is below the checkout.
fn without_places(workspace: &Workspace, cross: &Path) -> String {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let places = [
        (Some(workspace.root().to_owned()), "/piccolo"),
        (Some(cross.join("build")), "/build"),
        (Some(cross.join("root")), "/rust"),
        (Some(PathBuf::from("target/cross/root")), "/rust"),
        (cargo, "/cargo"),
    ];
    let flag = |(place, name): (Option<PathBuf>, &str)| {
        place.map(|place| format!("--remap-path-prefix={}={name}", place.display()))
    };
    places.into_iter().filter_map(flag).collect::<Vec<_>>().join(" ")
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

/// Of all that somebody may fetch from here.
fn write_digests(dist: &Path) -> Result<()> {
    let mut files = Vec::new();
    let folders = Architecture::value_variants().iter().map(|one| PathBuf::from(one.name()));
    for folder in folders.chain([PathBuf::new()]) {
        let Ok(entries) = fs::read_dir(dist.join(&folder)) else { continue };
        for entry in entries {
            let entry = entry.context("target/dist changes while it is read")?;
            let name = entry.file_name();
            let ending = Path::new(&name).extension().unwrap_or_default().to_string_lossy();
            let is_log = ["log", ""].contains(&&*ending) && folder.as_os_str().is_empty();
            if entry.path().is_file() && !is_log {
                files.push(folder.join(name));
            }
        }
    }
    files.sort();
    let mut command = Command::new("sha256sum");
    let sums = run::answer(command.current_dir(dist).args(files)).context("sha256sum failed")?;
    fs::write(dist.join("SHA256SUMS"), sums + "\n").context("cannot write SHA256SUMS")
}

fn show(report: &[(Architecture, &str, u64)]) {
    println!("\n{:<20}{:<10}{:>12}", "executable", "for", "bytes");
    for (architecture, name, bytes) in report {
        println!("{name:<20}{:<10}{bytes:>12}", architecture.name());
    }
    println!(
        "\nin target/dist, with a tarball, packages and what each is made of; digests are in target/dist/SHA256SUMS"
    );
}
