//! What the doctor makes of what it sees: a cluster that is well, with one thing wrong at a time.

use std::time::Duration;

use piccolo_cli::{
    doctor::{
        self, NotCheckedView,
        connect::{Master, Step, Trouble},
        findings::{self, Level, Seen},
    },
    failure::Failure,
    output::Look,
};
use piccolo_rpc::v1;
use prost_types::Timestamp;

use crate::fixtures::{self, ago, container};

const DAY: i64 = 86_400;

fn well() -> Seen {
    let mut status = fixtures::status();
    status.ca_expires_at = ago(-3_000 * DAY);
    status.disk_free_bytes = 20 << 30;
    status.disk_total_bytes = 28 << 30;
    status.backup = Some(v1::BackupStatus {
        last_at: ago(7_200),
        last_file: "/b/piccolo-c7f3a1-20261123T165000Z.backup".to_owned(),
        problem: String::new(),
        every_seconds: 86_400,
    });
    let nodes = fixtures::nodes().into_iter().filter(|n| n.status == v1::NodeStatus::Ready as i32);
    let nodes = nodes.map(|node| v1::Node {
        conditions: Vec::new(),
        containers: vec![container("web", "running", None)],
        system_check: None,
        applied_generation: status.generation,
        ..node
    });
    Seen {
        now: Timestamp { seconds: fixtures::NOW, nanos: 0 },
        client_version: "0.1.0".to_owned(),
        context: "/etc/piccolo/admin.context.yaml".to_owned(),
        who: "first (admin)".to_owned(),
        context_expires_at: ago(-1_000 * DAY),
        masters: vec![Master {
            address: "192.168.7.10:47098".to_owned(),
            took: Duration::from_millis(4),
            certificate_expires_at: ago(-60 * DAY),
            ..Master::default()
        }],
        asked_at: Some(Timestamp { seconds: fixtures::NOW, nanos: 200_000_000 }),
        nodes: nodes.collect(),
        tokens: Some(Vec::new()),
        audit: Some(v1::VerifyAuditResponse { entries: 8, intact: true, ..Default::default() }),
        refusals: Some(fixtures::audit()),
        status: Some(status),
        ..Seen::default()
    }
}

/// Everything that is not ok, as `level check about: seen`; each has to say what to do.
fn wrong(change: impl Fn(&mut Seen)) -> Vec<String> {
    let mut seen = well();
    change(&mut seen);
    let found = findings::of(&seen).into_iter().filter(|finding| finding.level != Level::Ok);
    let line = |finding: findings::Finding| {
        assert!(!finding.remedy.is_empty(), "no remedy: {finding:?}");
        format!("{} {} {}: {}", finding.level.word(), finding.name, finding.subject, finding.seen)
    };
    found.map(line).collect()
}

/// One thing is wrong, and one finding says it.
#[track_caller]
fn check(expected: &str, change: impl Fn(&mut Seen)) {
    let found = wrong(change);
    assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:#?}");
}

fn status(seen: &mut Seen) -> &mut v1::GetClusterStatusResponse {
    seen.status.as_mut().unwrap()
}

fn scheduled(seen: &mut Seen) -> &mut v1::BackupStatus {
    status(seen).backup.as_mut().unwrap()
}

#[test]
fn a_cluster_that_is_well_has_nothing_wrong() {
    assert_eq!(wrong(|_| {}), [""; 0]);
}

#[test]
fn the_master_and_its_machine() {
    check("error store : etcd does not answer", |seen| {
        status(seen).store_health = "etcd does not answer".to_owned();
    });
    check("warning disk : 2.0 GiB of 28 GiB are free", |s| status(s).disk_free_bytes = 2 << 30);
    check("error disk : 512 MiB of 28 GiB are free", |s| status(s).disk_free_bytes = 512 << 20);
    check("warning clock : this machine's clock and the master's differ by 9.8 s", |seen| {
        status(seen).now = ago(-10);
    });
    check("error clock : ", |seen| status(seen).now = ago(4_000));
    check("warning version : piccolo is 0.0.9, the master 0.1.0", |seen| {
        seen.client_version = "0.0.9".to_owned();
    });
    check("warning version : the master is 0.1.0, other agents are: ", |seen| {
        seen.nodes[0].agent_version = "0.0.9".to_owned();
    });
    check("error audit : audit entry 4 was changed", |seen| {
        seen.audit = Some(v1::VerifyAuditResponse {
            entries: 4,
            intact: false,
            first_bad_id: 4,
            message: "audit entry 4 was changed after it was written".to_owned(),
        });
    });
}

#[test]
fn certificates_that_end() {
    check("warning context /etc/piccolo/admin.context.yaml: the certificate of first", |seen| {
        seen.context_expires_at = ago(-10 * DAY);
    });
    check("warning authority : ends in 200d", |s| status(s).ca_expires_at = ago(-200 * DAY));
    check("error authority : has ended", |s| status(s).ca_expires_at = ago(1));
    check("warning certificate 192.168.7.10:47098: ends in 20d", |seen| {
        seen.masters[0].certificate_expires_at = ago(-20 * DAY);
    });
    check("error certificate", |seen| {
        seen.nodes[0].certificate_expires_at = ago(5);
        seen.nodes[0].connected = true;
    });
    // one in session renews in time
    assert_eq!(wrong(|seen| seen.nodes[0].certificate_expires_at = ago(-3_000)), [""; 0]);
    check("warning certificate", |seen| {
        seen.nodes[0].certificate_expires_at = ago(-2 * DAY);
        seen.nodes[0].connected = false;
    });
}

#[test]
fn backups_and_restores() {
    check("warning backup : none are made by the master itself", |s| status(s).backup = None);
    check("error backup : the newest is 2h old; the last one failed: no room", |seen| {
        scheduled(seen).problem = "no room".to_owned();
    });
    check("error backup : the newest is 4d old", |s| scheduled(s).last_at = ago(4 * DAY));
    check("warning backup : there is none yet", |s| scheduled(s).last_at = None);
    check("warning restored : restored at 2026-11-23T18:33:20Z; what was decided since", |seen| {
        status(seen).restored_at = ago(1_000);
        status(seen).restored_backup_at = ago(9_000);
    });
    check("warning restored : rebuilt from its authority", |s| status(s).restored_at = ago(1_000));
    assert_eq!(wrong(|seen| status(seen).restored_at = ago(40 * DAY)), [""; 0]);
}

#[test]
fn nodes_and_what_runs_on_them() {
    check("warning node : no board has joined", |seen| seen.nodes.clear());
    let with = |status: v1::NodeStatus| move |seen: &mut Seen| seen.nodes[0].status = status.into();
    check("error node", |seen| {
        with(v1::NodeStatus::NotReady)(seen);
        let condition = v1::Condition {
            kind: "SessionLost".to_owned(),
            message: "the session broke".to_owned(),
            ..Default::default()
        };
        seen.nodes[0].conditions.push(condition);
    });
    check("warning node", with(v1::NodeStatus::Pending));
    check("warning node", with(v1::NodeStatus::Maintenance));
    check("warning node", |seen| {
        let kind = "ClockSkew".to_owned();
        seen.nodes[0].conditions.push(v1::Condition { kind, ..Default::default() });
    });
    let paused = wrong(|seen| seen.nodes[0].recovery_paused_until = ago(-1_800));
    assert!(paused.concat().ends_with(": an operator has paused it, for 30m more"), "{paused:#?}");
    assert_eq!(wrong(|seen| seen.nodes[0].recovery_paused_until = ago(1)), [""; 0], "it is over");
    check("error recovery", |seen| {
        let line = |failure: &str, waits: &str, why: &str| v1::RecoveryLine {
            failure: failure.to_owned(),
            waits: waits.to_owned(),
            why: why.to_owned(),
            ..Default::default()
        };
        let lines = vec![
            line("podman", "Person", "nothing more is left but a person"),
            line("container/web", "BackOff", "waits before the next attempt"),
        ];
        seen.nodes[0].recovery = Some(v1::Recovery { lines, ..Default::default() });
    });
    check("error container", |seen| {
        seen.nodes[0].containers.push(container("job", "exited", Some(3)));
    });
    check("error system-check", |seen| {
        let finding = |name: &str, level: v1::CheckLevel| v1::CheckFinding {
            name: name.to_owned(),
            level: level.into(),
            value: "256 MB".to_owned(),
            ..Default::default()
        };
        let findings =
            vec![finding("memory", v1::CheckLevel::Error), finding("cpu", v1::CheckLevel::Warning)];
        seen.nodes[0].system_check = Some(v1::SystemCheck { findings, ..Default::default() });
    });
    check("warning topology : generation 4 is not confirmed: ", |seen| {
        seen.nodes[0].applied_generation = 3;
    });
}

#[test]
fn tokens_and_refusals() {
    check("warning tokens : never used, and worth nothing within 15m: aabbccddeeff", |seen| {
        seen.tokens = Some(vec![v1::JoinToken {
            id: "aabbccddeeff".to_owned(),
            uses_left: 1,
            expires_at: ago(-600),
            ..Default::default()
        }]);
    });
    check(
        "warning refusals : 20 calls were refused within the last hour: 20 of anonymous at",
        |seen| {
            let entry = |at| v1::AuditEntry {
                at: ago(at),
                who: "anonymous".to_owned(),
                from: "10.0.0.9".to_owned(),
                outcome: "refused: TokenUnknown: this cluster does not know the token".to_owned(),
                ..Default::default()
            };
            let mistyped = |at| v1::AuditEntry {
                who: "admin:ann".to_owned(),
                outcome: "refused: NoSuchNode: there is no node \"bord-1\"".to_owned(),
                ..entry(at)
            };
            // those of long ago are over, and what an administrator mistyped is no alarm
            let seldom = (1..=20).map(entry).chain((4_000..4_100).map(entry));
            seen.refusals = Some(seldom.chain((1..=50).map(mistyped)).collect());
        },
    );
    check(
        "warning identities : somebody else claims the identity of a node: 3 of node:n1 at 10.0.0.9",
        |seen| {
            let entry = |at| v1::AuditEntry {
                at: ago(at),
                who: "node:n1".to_owned(),
                from: "10.0.0.9".to_owned(),
                outcome: "refused: DuplicateIdentity: another live session has the id n1"
                    .to_owned(),
                ..Default::default()
            };
            seen.refusals = Some((1..=3).chain([4_000]).map(entry).collect());
        },
    );
}

#[test]
fn a_master_that_is_not_reached() {
    let trouble = |step, why: &str| {
        let trouble = Trouble { step, why: why.to_owned(), remedy: "do this".to_owned() };
        move |seen: &mut Seen| {
            seen.masters[0].trouble = Some(trouble.clone());
            seen.status = None;
        }
    };
    check("error master 192.168.7.10:47098: tcp: refused", trouble(Step::Tcp, "refused"));
    check("error master 192.168.7.10:47098: name: unknown", trouble(Step::Name, "unknown"));
    check("error master 192.168.7.10:47098: call: it is revoked", |seen| {
        let failure = Failure::failed("cannot get").cause("it is revoked").help("ask an admin");
        seen.masters[0].refused = Some(failure);
        seen.status = None;
    });
    // with another one that answers there is work to do, but no hurry
    check("warning master elsewhere:1: certificate: expired", |seen| {
        let trouble = Trouble {
            step: Step::Certificate,
            why: "expired".to_owned(),
            remedy: "do this".to_owned(),
        };
        let address = "elsewhere:1".to_owned();
        seen.masters.push(Master { address, trouble: Some(trouble), ..Master::default() });
    });
    check("error context : no context found: looked at /etc", |seen| {
        let failure = Failure::failed("no context found").cause("looked at\n/etc").help("name one");
        seen.no_context = Some(failure);
    });
}

#[test]
fn what_people_see() {
    let mut seen = well();
    seen.masters[0].took = Duration::from_millis(4);
    status(&mut seen).backup = None;
    seen.nodes[0].status = v1::NodeStatus::NotReady.into();
    seen.nodes[0].connected = false;
    let mut found = findings::of(&seen);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let not_checked = [NotCheckedView {
        name: "audit".to_owned(),
        why: "role viewer may not call VerifyAudit".to_owned(),
    }];
    let look = Look { width: None, colour: false, now: seen.now };
    crate::tables::check("doctor", None, &doctor::render(&found, &not_checked, &look));
}
