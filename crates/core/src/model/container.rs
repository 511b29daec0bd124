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
