//! Starts again what died, as systemd would on a board.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use piccolo_testkit::kept::Kept;

use super::parts::Parts;
use super::place::{Place, node_name};
use super::stop::Stop;
use crate::run;

/// Long enough to see what the cluster says meanwhile.
pub(crate) const RESTART_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Master,
    Node(u8),
}

struct Watched {
    part: Part,
    name: String,
    process: Option<Kept>,
    ended_at: Option<Instant>,
}

/// Watches over the cluster until the user wants an end. `down` ends the cluster, not this.
pub(crate) fn until_stopped(place: &Place, stop: &Stop, is_shown: bool) -> Result<()> {
    let record = place.recorded().context("no cluster is up")?;
    let parts = Parts::new(place, record.executables)?;
    let of = |part: Part, name: String| {
        let process = place.process(&name);
        Watched { part, name, process, ended_at: None }
    };
    let mut watched = vec![of(Part::Master, "master".to_owned())];
    watched.extend((1..=record.nodes).map(|node| of(Part::Node(node), node_name(node))));
    while stop.pause().is_ok() {
        for one in &mut watched {
            if one.process.as_mut().is_some_and(Kept::is_alive) {
                continue;
            }
            let ended_at = *one.ended_at.get_or_insert_with(|| {
                if is_shown {
                    let seconds = RESTART_AFTER.as_secs();
                    println!("{} has ended; it is started again in {seconds} s", one.name);
                    println!("{}", run::tail(&place.log(&one.name)));
                }
                Instant::now()
            });
            if ended_at.elapsed() >= RESTART_AFTER {
                one.ended_at = None;
                one.process = match one.part {
                    Part::Master => parts.start_master_process().ok(),
                    Part::Node(node) => parts.start_node_process(node).ok(),
                };
                if is_shown {
                    println!("{} was started again", one.name);
                }
            }
        }
    }
    Ok(())
}

/// A copy of this program that goes on when this one ends.
pub(crate) fn in_background(place: &Place) -> Result<()> {
    let program = std::env::current_exe().context("this program has no path")?;
    let log = std::fs::File::create(place.log("supervisor")).context("supervisor.log")?;
    let child = Command::new(program)
        .args(["up", "--supervise"])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("the supervisor cannot be started")?;
    Kept::of(child).write_down(&place.pid("supervisor")).context("the supervisor ended at once")
}
