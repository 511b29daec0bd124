//! `cargo xtask setup`: what a machine needs beyond Rust, found in one look and installed only
//! where missing.
//!
//! Packages of the system come through apt and need root. Tools that only this checkout needs go
//! to `target/tools`. Nothing is started or enabled: several packages bring a daemon, and the
//! tests start their own. What cannot be had is named, with what will not work without it.

mod apt;
mod needs;
mod tools;

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;

use crate::e2e;
use crate::workspace::Workspace;
use needs::Need;

/// What a machine is to be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// A cluster on this machine
    Up,
    /// The same with a real etcd
    Etcd,
    /// Hosts with systemd of their own, for end-to-end tests and for people
    Hosts,
    /// All tests
    Test,
    /// The measurements
    Bench,
    /// Static executables for boards
    Dist,
    /// Packages for Debian and RPM families
    Packages,
    /// libFuzzer
    Fuzz,
}

const BY_DEFAULT: [Purpose; 5] =
    [Purpose::Up, Purpose::Etcd, Purpose::Hosts, Purpose::Test, Purpose::Bench];

/// What could not be had.
#[derive(Debug, Default)]
pub(crate) struct Missing(Vec<String>);

impl Missing {
    fn add(&mut self, what: &str, why: &str, remedy: &str) {
        self.0.push(format!("{what} ({why}): {remedy}"));
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "left out, because it could not be installed:")?;
        self.0.iter().try_for_each(|line| writeln!(f, "  - {line}"))
    }
}

/// The task as typed.
pub(crate) fn task(workspace: &Workspace, purposes: &[Purpose]) -> Result<()> {
    let purposes = if purposes.is_empty() { &BY_DEFAULT } else { purposes };
    let missing = make_ready(workspace, purposes)?;
    if purposes.contains(&Purpose::Hosts) {
        e2e::make_hosts_ready(workspace)?;
    }
    if missing.is_nothing() {
        println!("this machine is ready for {}", listed(purposes));
    }
    Ok(())
}

/// Installs what `purposes` need and prints what could not be had.
///
/// # Errors
/// The target folder cannot be written.
pub(crate) fn make_ready(workspace: &Workspace, purposes: &[Purpose]) -> Result<Missing> {
    let mut missing = Missing::default();
    let absent: Vec<&Need> = needs::for_purposes(purposes).filter(|need| !need.is_met()).collect();
    if !absent.is_empty() {
        println!("for {} this machine lacks:", listed(purposes));
        absent.iter().for_each(|need| println!("  - {} ({})", need.package, need.why));
        apt::install(workspace, &absent, &mut missing)?;
    }
    if purposes.contains(&Purpose::Test) {
        tools::install_buf(workspace, &mut missing)?;
        tools::install_cargo_deny(workspace, &mut missing)?;
    }
    if purposes.iter().any(|purpose| [Purpose::Test, Purpose::Bench].contains(purpose)) {
        tools::install_console(workspace, &mut missing)?;
    }
    if purposes.iter().any(|purpose| [Purpose::Test, Purpose::Packages].contains(purpose)) {
        tools::install_python(workspace, &mut missing)?;
    }
    if !missing.is_nothing() {
        print!("{missing}");
    }
    Ok(missing)
}

fn listed(purposes: &[Purpose]) -> String {
    let names = purposes.iter().filter_map(ValueEnum::to_possible_value);
    names.map(|name| name.get_name().to_owned()).collect::<Vec<_>>().join(", ")
}
