//! `cargo xtask up`: a whole cluster on this machine, for real: a master, several NodeAgents with an
//! identity, a state folder and a Podman each, joined through tokens, certificate requests and
//! mutual TLS.
//!
//! Everything is below `target/up`. Each process is noted in a file, so that `cargo xtask down`
//! ends exactly those, also after a crash. What dies is started again after a while, as systemd
//! would, by this program in the foreground or, with `--detach`, by a copy of it in the background.

mod down;
mod hosts;
mod parts;
mod place;
mod stop;
mod supervise;
mod wait;

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::parts::Parts;
use self::place::{Place, Record};
use self::stop::Stop;
use crate::progress::Line;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

/// As many as are worth looking at, and as have addresses of the form 127.0.1.N.
const NODES_MAX: u8 = 100;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many NodeAgents
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    nodes: u8,
    /// Real hosts instead: a master and N nodes that each have systemd, sshd and Podman
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=10),
          conflicts_with_all = ["nodes", "etcd", "no_podman"])]
    hosts: Option<u8>,
    /// Keep the state in a real etcd instead of the embedded store
    #[arg(long)]
    etcd: bool,
    /// Return when the cluster is up; `cargo xtask down` ends it
    #[arg(long)]
    detach: bool,
    /// Without containers
    #[arg(long)]
    no_podman: bool,
    /// Development builds: quicker to build, larger and slower to run
    #[arg(long)]
    debug: bool,
    /// Go on with a cluster that `--detach` left
    #[arg(long, hide = true)]
    supervise: bool,
}

pub(crate) fn task(workspace: &Workspace, options: &Options) -> Result<()> {
    let place = Place::of(workspace);
    if options.supervise {
        return supervise::until_stopped(&place, &Stop::listen()?, false);
    }
    if let Some(nodes) = options.hosts {
        return hosts::up(workspace, usize::from(nodes), options);
    }
    if let Some(record) = place.running() {
        bail!(
            "a cluster of {} nodes is up already, with its master at {}\nhelp: `cargo xtask down` ends it; its context is {}",
            record.nodes,
            record.master,
            place.context().display()
        );
    }
    if down::end_everything(&place)? {
        println!("ended what an earlier cluster had left");
    }
    prepare(workspace, options)?;
    let begun = Instant::now();
    let stop = Stop::listen()?;
    let outcome = bring_up(workspace, &place, options, &stop);
    if outcome.is_err() {
        println!("ending what was started");
        down::end_everything(&place)?;
    }
    let record = outcome?;
    print_hints(&place, &record, begun);
    if options.detach {
        supervise::in_background(&place)?;
        println!("`cargo xtask down` ends it all");
        return Ok(());
    }
    println!("Ctrl-C ends it all");
    supervise::until_stopped(&place, &stop, true)?;
    println!("\nending the cluster; its logs stay in {}", place.shown());
    down::end_everything(&place).map(drop)
}

pub(crate) fn down(workspace: &Workspace) -> Result<()> {
    let place = Place::of(workspace);
    let had_hosts = hosts::down(workspace)?;
    if had_hosts {
        println!("the hosts are gone, and everything on them");
    }
    if down::end_everything(&place)? {
        println!("the cluster is down; its logs stay in {}", place.shown());
    } else if !had_hosts {
        println!("no cluster is up");
    }
    Ok(())
}

/// The machine and the executables.
fn prepare(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut purposes = Vec::new();
    if !options.no_podman {
        purposes.push(Purpose::Up);
    }
    if options.etcd {
        purposes.push(Purpose::Etcd);
    }
    setup::make_ready(workspace, &purposes)?;
    build(workspace, options)
}

fn build(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--package", "piccolo-master", "--package", "piccolo-nodeagent"]);
    cargo.args(["--package", "piccolo-cli", "--bins"]);
    let profile = if options.debug { "development" } else { "release" };
    if !options.debug {
        cargo.arg("--release");
    }
    println!("building the executables ({profile}); the first time takes minutes");
    let status = cargo.status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("the build failed; nothing was started");
    }
    Ok(())
}

fn bring_up(
    workspace: &Workspace,
    place: &Place,
    options: &Options,
    stop: &Stop,
) -> Result<Record> {
    place.make_fresh()?;
    let profile = if options.debug { "debug" } else { "release" };
    let parts = Parts::new(place, workspace.executables(profile))?;
    let etcd = if options.etcd {
        let line = Line::start("etcd");
        let client = parts.start_etcd(stop)?;
        line.done(&client);
        Some(client)
    } else {
        None
    };
    let line = Line::start("master");
    let (master, https) = parts.start_master(etcd.as_deref(), stop)?;
    line.done(&master);
    let record = Record {
        executables: workspace.executables(profile),
        nodes: options.nodes,
        master,
        https,
        has_etcd: options.etcd,
    };
    place.write(&record)?;
    let podman = !options.no_podman && start_podmans(&parts, options.nodes, stop)?;
    if options.no_podman {
        println!("--  no containers, as asked: the nodes carry the condition PodmanUnavailable");
    }
    parts.write_token(options.nodes)?;
    for node in 1..=options.nodes {
        parts.start_node(&record.master, node)?;
    }
    wait::until_all_ready(place, &record, podman, stop)?;
    fs::remove_file(place.token()).context("the join token cannot be removed")?;
    Ok(record)
}

/// Whether the nodes have containers now. Without root or Podman they have none, and that is said.
fn start_podmans(parts: &Parts<'_>, nodes: u8, stop: &Stop) -> Result<bool> {
    let line = Line::start("a Podman for each node, with containers");
    // Two at a time: each is mostly waiting, and a small machine shall not swap.
    let mut outcome = Ok(Vec::new());
    for first in (1..=nodes).step_by(2) {
        stop.check()?;
        outcome = std::thread::scope(|scope| {
            let pair = (first..=nodes).take(2);
            let starts: Vec<_> =
                pair.map(|node| scope.spawn(move || parts.start_podman(node))).collect();
            let joined = starts.into_iter().map(|start| {
                start.join().unwrap_or_else(|_| Err(anyhow::anyhow!("starting it panicked")))
            });
            joined.collect::<Result<Vec<_>>>()
        });
        if outcome.is_err() {
            break;
        }
    }
    match outcome {
        Ok(names) => {
            line.done(&names.first().map(|names| names.join(", ")).unwrap_or_default());
            Ok(true)
        }
        Err(error) => {
            line.failed(&format!("{error:#}"));
            let is_root = rustix::process::geteuid().is_root();
            let why = if is_root { "" } else { " (this machine's Podman needs root for them)" };
            println!(
                "--  left out: containers{why}; the nodes carry the condition PodmanUnavailable"
            );
            Ok(false)
        }
    }
}

fn print_hints(place: &Place, record: &Record, begun: Instant) {
    let (nodes, seconds) = (record.nodes, begun.elapsed().as_secs_f64());
    let victim = if nodes > 1 { 2 } else { 1 };
    println!("\nThe cluster is up: a master and {nodes} nodes, all Ready ({seconds:.1} s).");
    println!("  gRPC      {}", record.master);
    println!("  HTTPS     https://{} (/metrics)", record.https);
    println!("  state     {}: a folder, a log and a pid for each process", place.shown());
    println!("\nType next, in another terminal:");
    println!("  export PATH=\"{}:$PATH\"", record.executables.display());
    println!("  export PICCOLO_CONTEXT=\"{}\"", place.context().display());
    println!("  piccolo status");
    println!("  piccolo node list -o wide");
    println!("  piccolo events --watch");
    println!(
        "  kill -9 $(cut -d' ' -f1 {}/node-{victim}.pid)  # it is back {} s later\n",
        place.shown(),
        supervise::RESTART_AFTER.as_secs()
    );
}
