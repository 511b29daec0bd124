//! Real hosts whose cables are out for long, or while commands are under way, or that lose every third packet
//! (HLD §4.2, §5.2, §8.1, §10.1).

use std::{
    error::Error,
    process::Output,
    time::{Duration, Instant},
};

use piccolo_testkit::{
    podman::IMAGE,
    testbed::{
        cluster::{AGENT_UNIT, HostCluster, MASTER},
        witness::Witness,
    },
};

type Story = Result<(), Box<dyn Error>>;

/// Half of what is usual: three heartbeats are missed after 15 s.
const SOON: &str = "timing:\n  heartbeat_interval: 5s\n";
/// For a certificate to end while the cable is out: a day's absence in seconds. A busy machine is not to be
/// taken for a failure.
const SHORT_LIVES: &str =
    "certificate_lifetime: 12s\ntiming:\n  heartbeat_interval: 5s\n  beat_silence: 4s\n";
/// Past the end of every certificate that was good when it began.
const ABSENCE: Duration = Duration::from_secs(14);
/// What happens during a long absence: more than one message takes.
const DEATHS: usize = 12;

#[test]
fn a_cable_that_is_out_beyond_three_heartbeats_is_a_lost_session_and_then_a_timeout() -> Story {
    let cluster = HostCluster::start_with(2, SOON)?;
    cluster.run_container("node-1", "web", &[])?;
    cluster.run_container("node-1", "job", &[])?;
    cluster.run_container("node-2", "web", &[])?;
    let witness = Witness::of(&cluster)?.except("node-1", "job");
    let host = cluster.host("node-1")?;
    let agent = host.unit(AGENT_UNIT, "MainPID")?;
    host.cut_link()?;
    cluster.wait_for_condition("node-1", "SessionLost")?;
    host.run(&["podman", "kill", "job"])?;
    cluster.wait_for_condition("node-1", "HeartbeatTimeout")?;
    let node = cluster.node("node-1")?;
    assert_eq!(node["status"], "NotReady", "{node}");
    assert!(!cluster.has_condition("node-1", "SessionLost")?, "the graver one alone: {node}");
    assert_eq!(cluster.count("node-1", "ContainerDied")?, 0);
    // it knows that it is alone, and works on
    let status = host.agent_status()?;
    assert!(status["alone_for_seconds"].as_u64().is_some_and(|s| s >= 10), "{status}");
    host.heal_link()?;
    cluster.wait_until_in_session("node-1")?;
    cluster.wait_for_count("node-1", "ContainerDied", 1)?;
    // one absence is told as one, by both
    for (kind, count) in
        [("NodeNotReady", 1), ("NodeReady", 2), ("MasterLost", 1), ("MasterFound", 1)]
    {
        cluster.wait_for_count("node-1", kind, count)?;
    }
    assert_eq!(cluster.count("node-2", "NodeNotReady")?, 0);
    assert_eq!(host.unit(AGENT_UNIT, "MainPID")?, agent, "the agent ran on");
    Ok(witness.conclude(cluster)?)
}

#[test]
fn a_cable_that_is_out_past_the_certificates_end_costs_no_identity_and_no_event() -> Story {
    let cluster = HostCluster::start_with(1, SHORT_LIVES)?;
    cluster.run_container("node-1", "web", &[])?;
    let witness = Witness::of(&cluster)?;
    let id = cluster.node("node-1")?["id"].clone();
    let host = cluster.host("node-1")?;
    host.cut_link()?;
    let cut_at = Instant::now();
    for number in 1..=DEATHS {
        let name = format!("job-{number}");
        host.run(&["podman", "run", "--detach", "--name", &name, IMAGE, "false"])?;
    }
    cluster.wait_for_condition("node-1", "HeartbeatTimeout")?;
    std::thread::sleep(ABSENCE.saturating_sub(cut_at.elapsed()));
    host.heal_link()?;
    cluster.wait_until_in_session("node-1")?;
    assert_eq!(cluster.node("node-1")?["id"], id, "it is the node that it was");
    assert!(cluster.count("node-1", "CertificateReissued")? >= 1);
    assert_eq!(cluster.count("node-1", "NodeRegistered")?, 1);
    cluster.wait_for_count("node-1", "ContainerDied", DEATHS)?;
    for number in 1..=DEATHS {
        let name = format!("job-{number} ");
        let told = cluster.events()?;
        let told = told.iter().filter(|event| {
            let message = event["message"].as_str().unwrap_or_default();
            event["kind"] == "ContainerDied" && format!("{message} ").contains(&name)
        });
        assert_eq!(told.count(), 1, "the death of {name}");
    }
    Ok(witness.conclude(cluster)?)
}

/// What a command said, and whether it claims to be done.
fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn commands_that_a_cut_cable_interrupts_are_answered_truly() -> Story {
    let cluster = HostCluster::start(2)?;
    cluster.run_container("node-1", "web", &[])?;
    cluster.run_container("node-1", "job", &[])?;
    let witness = Witness::of(&cluster)?;
    let id_of = |name: &str| {
        cluster.host("node-1")?.run(&["podman", "inspect", "--format", "{{.State.Pid}}", name])
    };
    let job = id_of("job")?;
    let before = cluster.done(&["topology", "get", "-o", "yaml"])?;
    let changed = before.replace("config: {}", "config:\n  heartbeat_interval_seconds: \"7\"");
    assert_ne!(before, changed);
    let file = cluster.testbed.folder().join("topology.yaml");
    std::fs::write(&file, changed)?;
    let file = file.display().to_string();
    let commands: [&[&str]; 5] = [
        &["--timeout", "40s", "log-level", "node-1", "debug"],
        &["--timeout", "40s", "node", "check", "node-1"],
        &["--timeout", "40s", "node", "restart-container", "node-1", "job"],
        &["node", "label", "node-1", "site=seoul"],
        &["topology", "apply", "-f", &file],
    ];
    cluster.host("node-1")?.cut_link()?;
    // before the master knows
    assert_eq!(cluster.node("node-1")?["status"], "Ready");
    let outputs = std::thread::scope(|scope| {
        let running = commands.map(|command| {
            let cluster = &cluster;
            scope.spawn(move || cluster.piccolo(command))
        });
        let healed = || -> Story {
            cluster.wait_for_condition("node-1", "SessionLost")?;
            // and one when it knows: refused at once
            let refused = cluster.piccolo(&["log-level", "node-1", "debug"])?;
            assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
            assert!(said(&refused).contains("nothing was sent"), "{}", said(&refused));
            Ok(cluster.host("node-1")?.heal_link()?)
        };
        let healed = healed();
        let outputs = running.map(|one| one.join());
        healed.map(|()| outputs)
    })?;
    let [level, check, restart, label, topology] = outputs.map(|one| one.expect("no panic"));
    let (level, check, restart, label, topology) = (level?, check?, restart?, label?, topology?);
    // what needs no board is done at once, and so it is
    assert!(label.status.success(), "{}", said(&label));
    assert!(topology.status.success(), "{}", said(&topology));
    cluster.wait_until_in_session("node-1")?;
    let node = cluster.node("node-1")?;
    assert_eq!(node["labels"]["site"], "seoul", "{node}");
    for name in ["node-1", "node-2"] {
        cluster.wait(&format!("{name} has the new configuration"), |c| {
            Ok(c.node(name)?["applied_generation"] == 2)
        })?;
    }
    // what needs the board says that it has no answer, and claims nothing
    for output in [&level, &check, &restart] {
        assert_eq!(output.status.code(), Some(1), "{}", said(output));
        assert!(said(output).contains("look before you try again"), "{}", said(output));
    }
    // the board never had them: a session's messages end with the session
    assert_eq!(id_of("job")?, job, "{}", said(&restart));
    cluster.done(&["log-level", "node-1", "info"])?;
    Ok(witness.conclude(cluster)?)
}

/// How much of what is sent is lost, each way.
const A_THIRD: f32 = 0.3;
const LOSS: Duration = Duration::from_secs(20);

#[test]
fn a_cable_that_loses_every_third_packet_may_cost_sessions_and_nothing_else() -> Story {
    let cluster = HostCluster::start(2)?;
    for node in ["node-1", "node-2"] {
        cluster.run_container(node, "web", &[])?;
    }
    let witness = Witness::of(&cluster)?;
    let hosts = [cluster.host(MASTER)?, cluster.host("node-1")?];
    for host in hosts {
        host.lose(A_THIRD)?;
    }
    let begun = Instant::now();
    let mut deaths = 0;
    let mut labelled = String::new();
    while begun.elapsed() < LOSS {
        let name = format!("job-{deaths}");
        cluster
            .host("node-1")?
            .run(&["podman", "run", "--detach", "--name", &name, IMAGE, "false"])?;
        deaths += 1;
        let label = format!("round={deaths}");
        let done = cluster.piccolo(&["--timeout", "5s", "node", "label", "node-1", &label])?;
        if done.status.success() {
            labelled = deaths.to_string();
        }
        assert!([0, 4].contains(&done.status.code().unwrap_or(-1)), "{}", said(&done));
    }
    for host in hosts {
        host.stop_losing(A_THIRD)?;
    }
    cluster.wait_until_in_session("node-1")?;
    cluster.wait_until_in_session("node-2")?;
    cluster.wait_for_count("node-1", "ContainerDied", deaths)?;
    let label = cluster.node("node-1")?["labels"]["round"].as_str().unwrap_or_default().to_owned();
    // an unanswered one may have arrived; one that was answered has, and was the last or has a later one
    let number = |text: &str| text.parse::<usize>().unwrap_or(0);
    assert!(number(&label) >= number(&labelled), "{label} after {labelled}");
    for event in cluster.events()?.iter().filter(|event| event["kind"] == "NodeNotReady") {
        let message = event["message"].as_str().unwrap_or_default();
        assert!(message.contains("SessionLost"), "only for what the loss did: {event}");
    }
    Ok(witness.conclude(cluster)?)
}
