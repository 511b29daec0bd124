//! Containers as an agent reports them (HLD §7.1.2, §7.2.3).

use serde::{Deserialize, Serialize};

use crate::time::WallTime;

/// One container, as its runtime sees it. States are strings: a runtime may learn new ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerReport {
    pub id: String,
    pub name: String,
    pub image: String,
    pub state: String,
    pub exit_code: Option<i32>,
    /// `healthy`, `unhealthy`, `starting`, or empty where there is no check.
    pub health: String,
    pub started_at: Option<WallTime>,
    pub finished_at: Option<WallTime>,
    pub memory_bytes: u64,
    /// Of one core: 10,000 is a whole core.
    pub cpu_basis_points: u32,
    pub restarts: u32,
    /// What recovery is asked for.
    #[serde(default)]
    pub restart: RestartPolicy,
}

/// What a node ran when it was heard last, as the master keeps it over its own restart: without figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastContainers {
    /// By the master's clock.
    pub at: WallTime,
    pub containers: Vec<ContainerReport>,
}

/// Bytes of what is kept of one node, about; what is beyond is not kept.
const LAST_BYTES_MAX: usize = 32 * 1024;

impl LastContainers {
    pub fn of(at: WallTime, containers: &[ContainerReport]) -> Self {
        /// Of what is not text.
        const REST: usize = 240;
        let mut bytes = 0;
        let fits = |container: &&ContainerReport| {
            let ContainerReport { id, name, image, state, health, .. } = container;
            let texts = [id, name, image, state, health];
            bytes += texts.into_iter().map(String::len).sum::<usize>() + REST;
            bytes <= LAST_BYTES_MAX
        };
        let kept = containers.iter().take_while(fits).cloned();
        let without_figures =
            |container| ContainerReport { memory_bytes: 0, cpu_basis_points: 0, ..container };
        Self { at, containers: kept.map(without_figures).collect() }
    }
}

/// Whether recovery starts a container again that has ended. Asked for by a label of the container, or by
/// the configuration of its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    No,
    /// Where it ended by itself with something other than success.
    OnFailure,
    Always,
}

impl RestartPolicy {
    /// The label of a container.
    pub const LABEL: &'static str = "piccolo.restart";

    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::No, Self::OnFailure, Self::Always].into_iter().find(|policy| policy.name() == name)
    }

    pub fn wants_to_run(self, container: &ContainerReport) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure => {
                container.has_ended() && container.exit_code.is_some_and(|code| code != 0)
            }
            Self::Always => container.has_ended(),
        }
    }
}

impl ContainerReport {
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// `stopped` counts as ended: a container whose exit was not recorded stays so for ever.
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "exited" | "stopped" | "dead")
    }
}
