//! What `piccolo-nodeagent status` is told.

use piccolo_core::{model::CheckLevel, node_agent::AgentView, time::Now};
use serde_json::{Value, json};

use super::{connect::Applicant, perform::runtime_text};

pub(super) fn json(view: &AgentView, applicant: &Applicant, now: Now) -> Value {
    let containers: Vec<_> = view
        .containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name,
                "image": container.image,
                "state": container.state,
                "exit_code": container.exit_code,
                "health": container.health,
                "memory_bytes": container.memory_bytes,
            })
        })
        .collect();
    let conditions: Vec<_> = view
        .conditions
        .iter()
        .map(|condition| json!({ "kind": condition.kind.name(), "message": condition.message }))
        .collect();
    let check = view.system_check.as_ref().map(|check| {
        let not_well = check.findings.iter().filter(|f| f.level != CheckLevel::Ok);
        let not_well: Vec<_> =
            not_well.map(|f| format!("{} {}: {}", f.level.name(), f.name, f.value)).collect();
        json!({ "passed": check.count(CheckLevel::Ok), "not_well": not_well })
    });
    json!({
        "node": view.node.as_str(),
        "name": applicant.host.hostname,
        "version": applicant.host.system.agent_version,
        "cluster": view.cluster,
        "phase": view.phase,
        "master": view.master,
        "last_problem": view.last_problem,
        "alone_for_seconds": view.alone_since.map(|since| now.wall.since(since).as_secs()),
        "removed": view.removed,
        "generation": view.generation,
        "events_waiting": view.journal_entries,
        "events_dropped": view.events_dropped,
        "runtime": runtime_text(view.runtime.as_ref()),
        "system_check": check,
        "conditions": conditions,
        "containers": containers,
        "metrics": view.metrics,
    })
}
