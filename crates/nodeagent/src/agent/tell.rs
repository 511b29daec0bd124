//! The node's own channel for alerts: a program of its administrator, beside the loop.
//!
//! It gets the alert as JSON on its stdin and the main of it in its environment; what takes too long is ended.

use std::{path::Path, time::Duration};

use piccolo_core::{
    model::Severity,
    node_agent::local_alerts::{LocalAlert, LocalNotice},
    time::WallTime,
};
use piccolo_program::Program;
use piccolo_rpc::convert::timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Done, Shell};

/// For the program to end.
const TIME_LIMIT: Duration = Duration::from_secs(10);

impl Shell {
    pub(super) fn tell_locally(&mut self, notice: LocalNotice) {
        let command = self.config.alerts.command.clone();
        let node = self.applicant.host.hostname.clone();
        let cluster = self.machine.view().cluster.unwrap_or_default();
        self.tasks.spawn(async move {
            let result = match command {
                Some(program) => run(&program, &Notice { notice, node, cluster }).await,
                None => Err("there is none".to_owned()),
            };
            Done::ToldLocally(result)
        });
    }
}

struct Notice {
    notice: LocalNotice,
    node: String,
    cluster: String,
}

async fn run(program: &Path, notice: &Notice) -> Result<(), String> {
    let told = timeout(TIME_LIMIT, tell(program, notice));
    told.await.unwrap_or_else(|_| {
        Err(format!("{} has not ended within {} s", program.display(), TIME_LIMIT.as_secs()))
    })
}

async fn tell(program: &Path, notice: &Notice) -> Result<(), String> {
    let alert = &notice.notice.alert;
    let environment = [
        ("PICCOLO_ALERT_KEY", notice.notice.key.as_str()),
        ("PICCOLO_ALERT_KIND", kind(alert)),
        ("PICCOLO_ALERT_RULE", &alert.rule),
        ("PICCOLO_ALERT_SEVERITY", severity(alert)),
        ("PICCOLO_ALERT_MESSAGE", &alert.message),
        ("PICCOLO_ALERT_NODE", &notice.node),
        ("PICCOLO_ALERT_CLUSTER", &notice.cluster),
    ];
    let stdin = document(notice).to_string();
    let program =
        Program { file: program, arguments: &[], environment: &environment, stdin: &stdin };
    program.run().await
}

/// As the master's channels have it, as far as the node knows it; docs/operations/alerts.md describes it.
fn document(notice: &Notice) -> Value {
    let Notice { notice: LocalNotice { key, alert }, node, cluster } = notice;
    let subject = match alert.container.as_str() {
        "" => node.clone(),
        container => format!("{node}/{container}"),
    };
    let title = format!("{} {}: {}", severity(alert).to_uppercase(), kind(alert), alert.message);
    json!({
        "key": key,
        "kind": kind(alert),
        "at": time(alert.resolved_at.unwrap_or(alert.fired_at)),
        "cluster": cluster,
        "title": title,
        "alert": {
            "rule": alert.rule,
            "severity": severity(alert),
            "state": kind(alert),
            "message": alert.message,
            "subjects": [subject],
            "since": time(alert.since),
            "fired_at": time(alert.fired_at),
            "resolved_at": alert.resolved_at.map(time),
            "node": node,
            "alone": alert.alone,
        },
    })
}

fn kind(alert: &LocalAlert) -> &'static str {
    if alert.resolved_at.is_some() { "resolved" } else { "firing" }
}

fn severity(alert: &LocalAlert) -> &'static str {
    match alert.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn time(at: WallTime) -> String {
    timestamp(at).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_is_told_by_its_stdin_and_its_environment() {
        let folder = tempfile::tempdir().unwrap();
        let (program, told) = (folder.path().join("channel"), folder.path().join("told"));
        let script = format!("#!/bin/sh\ncat > {0}; env >> {0}\n", told.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        let alert = LocalAlert {
            rule: "ContainerStopped".to_owned(),
            container: "web".to_owned(),
            severity: Severity::Warning,
            message: "it has ended; $(reboot)".to_owned(),
            since: WallTime(0),
            fired_at: WallTime(1_000),
            alone: true,
            resolved_at: None,
        };
        let notice = LocalNotice { key: "n1/1".to_owned(), alert };
        let notice = Notice { notice, node: "board-1".to_owned(), cluster: "robot".to_owned() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&program, &notice)).unwrap();
        let told = std::fs::read_to_string(told).unwrap();
        let (json, environment) = told.split_at(told.rfind('}').unwrap() + 1);
        let json: Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["alert"]["subjects"], json!(["board-1/web"]));
        assert_eq!(json["alert"]["fired_at"], "1970-01-01T00:00:01Z");
        assert_eq!((&json["key"], &json["kind"]), (&json!("n1/1"), &json!("firing")));
        let message = "PICCOLO_ALERT_MESSAGE=it has ended; $(reboot)";
        assert!(environment.contains(message), "{environment}");
    }
}
