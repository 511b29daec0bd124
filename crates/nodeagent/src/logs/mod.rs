//! Logs of this node, read while somebody asks for them (HLD §11.2); important lines are kept for the master.
//!
//! - [`journald`]: a unit's, by `journalctl`
//! - [`container`]: a container's, by Podman
//! - [`stream`]: from either to the master, as fast as the master allows
//! - [`kept`]: what is important, read by somebody or not
//!
//! Each stream is a task. None of them is waited for: the loop starts and ends them, and those of a session end
//! with it.

mod container;
mod journald;
mod kept;
mod stream;

use std::{collections::BTreeMap, sync::Arc};

use piccolo_core::logs::{Order, OrderKind, Query, STREAMS_PER_NODE_MAX, Source};
use piccolo_rpc::v1;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

pub(crate) use self::kept::Keeper;
use self::{
    journald::Of,
    stream::{Item, Stream},
};
use crate::podman;

/// Units that are read at once: each is a child of ours, within the memory that our own unit may have.
const UNITS_MAX: usize = 4;
/// Permits that a master can give at most, whatever it says.
const CREDIT_MAX: usize = 1024;
/// The unit that the agent runs as.
pub const OWN_UNIT: &str = "piccolo-nodeagent.service";

/// What may be read here.
#[derive(Debug, Clone)]
pub struct Readable {
    /// Of systemd, besides our own.
    pub units: Vec<String>,
    pub podman: Option<podman::Client>,
}

/// The streams of one session.
#[derive(Debug)]
pub(crate) struct Readers {
    readable: Readable,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    running: BTreeMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    credit: Arc<Semaphore>,
    task: JoinHandle<()>,
    is_unit: bool,
}

impl Readers {
    pub(crate) fn new(readable: Readable, outgoing: mpsc::Sender<v1::AgentMessage>) -> Self {
        Self { readable, outgoing, running: BTreeMap::new() }
    }

    pub(crate) fn take(&mut self, Order { id, what }: Order) {
        self.running.retain(|_, running| !running.task.is_finished());
        match what {
            OrderKind::Open(query, credit) => self.open(id, *query, credit),
            OrderKind::More(chunks) => {
                if let Some(running) = self.running.get(&id) {
                    allow(&running.credit, chunks);
                }
            }
            // dropping it ends its task, and with that its child or connection
            OrderKind::Close => drop(self.running.remove(&id)),
        }
    }

    fn open(&mut self, id: u64, query: Query, chunks: u32) {
        let credit = Arc::new(Semaphore::new(0));
        allow(&credit, chunks);
        let is_unit = !matches!(query.source, Source::Container(_));
        let refusal = self.refusal(&query.source, is_unit);
        let stream = Stream::new(id, &query, Arc::clone(&credit), self.outgoing.clone());
        let podman = self.readable.podman.clone();
        let task = tokio::spawn(async move {
            let (lines, read) = mpsc::channel(stream::LINES_WAITING_MAX);
            let reading = async move {
                let problem = match refusal {
                    Some(why) => Some(why),
                    None => read_source(query, podman, &lines).await.err(),
                };
                // nobody may be left to hear it
                let _ = lines.send(Item::End(problem)).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = stream.run(read) => {}
                () = reading => {}
            }
        });
        self.running.insert(id, Running { credit, task, is_unit });
    }

    /// Why it is not read.
    fn refusal(&self, source: &Source, is_unit: bool) -> Option<String> {
        let units = self.running.values().filter(|running| running.is_unit).count();
        if self.running.len() >= STREAMS_PER_NODE_MAX {
            return Some(format!(
                "{STREAMS_PER_NODE_MAX} logs of this node are being read already"
            ));
        }
        if is_unit && units >= UNITS_MAX {
            return Some(format!("{UNITS_MAX} units of this node are being read already"));
        }
        match source {
            Source::Agent => None,
            Source::Unit(unit) if unit == OWN_UNIT || self.readable.units.contains(unit) => None,
            Source::Unit(unit) => Some(format!(
                "the node does not let {unit} be read: logs.units in its nodeagent.yaml names those \
                 that may be"
            )),
            Source::Container(_) if self.readable.podman.is_some() => None,
            Source::Container(_) => Some("this node has no container runtime".to_owned()),
        }
    }
}

async fn read_source(
    query: Query,
    podman: Option<podman::Client>,
    lines: &mpsc::Sender<Item>,
) -> Result<(), String> {
    match (&query.source, podman) {
        (Source::Agent, _) => {
            let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            if is_in_unit(&own, OWN_UNIT) {
                return journald::read(Of::Unit(OWN_UNIT), &query, lines).await;
            }
            // what an earlier run has left; nothing will come
            let left = Query { follow: false, ..query.clone() };
            journald::read(Of::Unit(OWN_UNIT), &left, lines).await?;
            Err(in_no_unit())
        }
        (Source::Unit(unit), _) => journald::read(Of::Unit(unit), &query, lines).await,
        (Source::Container(container), Some(podman)) => {
            container::read(&podman, container, &query, lines).await
        }
        (Source::Container(_), None) => Err("this node has no container runtime".to_owned()),
    }
}

/// Whether a process with these `cgroups`, as `/proc/PID/cgroup` has them, is systemd's.
fn is_in_unit(cgroups: &str, unit: &str) -> bool {
    cgroups.lines().any(|line| line.split('/').any(|part| part == unit))
}

fn in_no_unit() -> String {
    format!(
        "the agent does not run as {OWN_UNIT}, so that the journal has no lines of it: they are on the stderr of \
         whoever started it"
    )
}

fn allow(credit: &Semaphore, chunks: u32) {
    let room = CREDIT_MAX.saturating_sub(credit.available_permits());
    credit.add_permits(room.min(chunks as usize));
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_a_unit_whose_folder_is_on_its_cgroups_way() {
        for (cgroups, expected) in [
            ("0::/system.slice/piccolo-nodeagent.service\n", true),
            ("0::/system.slice/piccolo-nodeagent.service/inner\n", true),
            ("12:pids:/\n1:name=systemd:/system.slice/piccolo-nodeagent.service\n", true),
            ("0::/user.slice/user-0.slice/session-3.scope\n", false),
            ("0::/system.slice/not-piccolo-nodeagent.service\n", false),
            ("0::/\n", false),
            ("", false),
        ] {
            assert_eq!(is_in_unit(cgroups, OWN_UNIT), expected, "{cgroups}");
        }
    }
}
