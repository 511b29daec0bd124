//! `cargo xtask up --hosts N`: the cluster on hosts that each have systemd, sshd and Podman, installed as on
//! boards. What dies, their systemd starts again; so nobody has to watch over it.

use std::time::Instant;

use anyhow::{Result, bail};
use piccolo_testkit::cluster::Programs;
use piccolo_testkit::testbed::{self, cluster::HostCluster, runs};

use super::stop::Stop;
use super::{Options, build};
use crate::e2e;
use crate::progress::Line;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

pub(super) fn up(workspace: &Workspace, nodes: usize, options: &Options) -> Result<()> {
    let folder = testbed::folder_in(workspace.target());
    if runs::is_any_kept(&folder) {
        bail!("hosts are up already\nhelp: `cargo xtask down` ends them");
    }
    setup::make_ready(workspace, &[Purpose::Hosts])?;
    build(workspace, options)?;
    e2e::make_hosts_ready(workspace)?;
    let begun = Instant::now();
    let stop = Stop::listen()?;
    let profile = if options.debug { "debug" } else { "release" };
    let programs = Programs::in_folder(&workspace.executables(profile))?;
    let line = Line::start(format!("a host for the master and {nodes} for nodes"));
    let cluster = HostCluster::of(&folder, &programs, nodes)?;
    line.done("all Ready");
    print_hints(&cluster, nodes, begun);
    if options.detach {
        cluster.testbed.keep()?;
        println!("`cargo xtask down` ends it all");
        return Ok(());
    }
    println!("Ctrl-C ends it all");
    while stop.pause().is_ok() {}
    println!("\nending the hosts");
    Ok(cluster.end()?)
}

/// Whether there were any.
pub(super) fn down(workspace: &Workspace) -> Result<bool> {
    let folder = testbed::folder_in(workspace.target());
    Ok(runs::end_kept(&folder)? + runs::sweep(&folder)? > 0)
}

fn print_hints(cluster: &HostCluster, nodes: usize, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    let network = cluster.testbed.network_name();
    println!("\nThe cluster is up: a master and {nodes} nodes, all Ready ({seconds:.1} s).");
    println!("\nType next, in another terminal, as root:");
    println!("  ip netns exec {network} bash    # beside the hosts, on a network of their own");
    println!("  export PATH=\"{}:$PATH\"", cluster.executables().display());
    println!("  export PICCOLO_CONTEXT=\"{}\"", cluster.context().display());
    println!("  piccolo status");
    println!("  ssh -F {} node-1", cluster.testbed.ssh_config().display());
    println!(
        "  podman run --detach --restart always localhost/busybox:1 sleep 1000    # on node-1"
    );
    println!("  ip link set dev node-1 down    # pulls its cable; `up` puts it in again\n");
}
