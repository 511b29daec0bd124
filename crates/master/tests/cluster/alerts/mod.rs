//! Alerts from the condition to the receiver (HLD §11.3): real receivers that fail, hang and recover.

mod receivers;
pub(crate) mod servers;

use std::os::unix::fs::PermissionsExt as _;

use piccolo_rpc::{
    tls::identity::{Identity, PrivateKey},
    v1::{self, alert_channel::Way, watch_alerts_response::Item},
};
use tokio_stream::StreamExt as _;

use self::receivers::{Mode, Receiver};
use crate::harness::{Admin, Cluster, PATIENCE, eventually, refused};

/// A channel that leads to a receiver of HTTP.
fn webhook(name: &str, receiver: &Receiver) -> v1::AlertChannel {
    let way = Way::Webhook(v1::WebhookChannel {
        url: format!("http://{}/hidden-path", receiver.address()),
        key: "hidden-key".to_owned(),
        ..Default::default()
    });
    channel(name, way)
}

fn channel(name: &str, way: Way) -> v1::AlertChannel {
    v1::AlertChannel {
        name: name.to_owned(),
        timeout_seconds: 1,
        way: Some(way),
        ..Default::default()
    }
}

async fn apply(admin: &mut Admin, channels: Vec<v1::AlertChannel>) {
    let request = v1::ApplyAlertChannelsRequest { channels };
    admin.apply_alert_channels(request).await.unwrap();
}

/// A rule on the cluster that holds while there are fewer nodes.
fn lonely(nodes: usize) -> v1::AlertRule {
    v1::AlertRule {
        name: "Lonely".to_owned(),
        on: "cluster".to_owned(),
        when: format!("cluster.nodes < {nodes}"),
        severity: v1::Severity::Critical.into(),
        message: "only {{ cluster.nodes }} nodes".to_owned(),
        ..Default::default()
    }
}

async fn rule(admin: &mut Admin, rule: v1::AlertRule) {
    let request = v1::ApplyAlertRulesRequest { rules: vec![rule], ..Default::default() };
    admin.apply_alert_rules(request).await.unwrap();
}

async fn list(admin: &mut Admin) -> Vec<v1::Alert> {
    let request = v1::ListAlertsRequest { resolved: true, ..Default::default() };
    admin.list_alerts(request).await.unwrap().into_inner().alerts
}

async fn user(cluster: &Cluster, name: &str, role: v1::UserRole) -> Admin {
    let key = PrivateKey::generate().unwrap();
    let request = v1::CreateUserRequest {
        name: name.to_owned(),
        role: role.into(),
        certificate_signing_request: key.signing_request().unwrap(),
        ..Default::default()
    };
    let answer = cluster.admin().await.create_user(request).await.unwrap().into_inner();
    let pem = [answer.certificate, answer.ca_certificate].concat();
    let identity = Identity::from_issued(key, &String::from_utf8(pem).unwrap()).unwrap();
    cluster.user(&identity).await
}

async fn test(admin: &mut Admin, name: &str) -> Result<(), String> {
    let request = v1::TestAlertChannelRequest { name: name.to_owned() };
    let answer = admin.test_alert_channel(request).await;
    answer.map(drop).map_err(|status| status.message().to_owned())
}

#[tokio::test]
async fn a_receiver_that_fails_and_hangs_gets_it_once_it_is_well_and_keeps_nobody_waiting() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let (good, bad) = (Receiver::start(Mode::Take).await, Receiver::start(Mode::Fail).await);
    apply(&mut admin, vec![webhook("good", &good), webhook("bad", &bad)]).await;
    rule(&mut admin, lonely(1)).await;
    let (first, signed) = good.next().await;
    assert!(signed, "with the key of the channel");
    assert_eq!(first["kind"], "firing");
    assert_eq!(first["alert"]["message"], "only 0 nodes");
    assert_eq!(first["alert"]["severity"], "critical");
    assert_eq!(bad.refused().await["key"], first["key"]);
    bad.set(Mode::Hang);
    bad.hung().await;
    // the one that hangs keeps this one from nothing
    assert_eq!(test(&mut admin, "good").await, Ok(()));
    assert_eq!(good.next().await.0["kind"], "test");
    bad.set(Mode::Take);
    let (late, _) = bad.next().await;
    assert_eq!((&late["key"], &late["alert"]), (&first["key"], &first["alert"]), "the same");
    eventually("nothing waits any more", async || {
        let request = v1::ListAlertChannelsRequest {};
        let listed = admin.list_alert_channels(request).await.unwrap().into_inner();
        listed.channels.iter().all(|channel| channel.waiting == 0 && channel.problem.is_empty())
    })
    .await;
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_is_a_dead_letter() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let receiver = Receiver::start(Mode::Refuse).await;
    apply(&mut admin, vec![webhook("picky", &receiver)]).await;
    rule(&mut admin, lonely(1)).await;
    let mut letters = Vec::new();
    eventually("it is a dead letter", async || {
        let request = v1::ListAlertChannelsRequest {};
        letters = admin.list_alert_channels(request).await.unwrap().into_inner().dead_letters;
        !letters.is_empty()
    })
    .await;
    assert_eq!(letters[0].why, "the server answered 422 Unprocessable Entity");
    let told = cluster.events().await.into_iter().find(|event| event.kind == "NotificationFailed");
    assert!(told.is_some_and(|event| event.message.contains("channel picky")));
    let (_, page) = crate::https::get(&cluster, Some(&cluster.admin_identity()), "/metrics").await;
    for line in [
        "piccolo_alerts{severity=\"critical\",state=\"firing\"} 1",
        "piccolo_notifications_total{channel=\"picky\",result=\"refused\"} 1",
        "piccolo_notifications_waiting 0",
        "piccolo_notifications_dead 1",
        "piccolo_notifications_given_up_total 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }

    let refused = receiver.refused_for_good().await;
    receiver.set(Mode::Take);
    let operator = crate::people::user(&cluster, "olaf", v1::UserRole::Operator).await;
    let post = async |what: &str, id: &str| {
        let headers = [("Content-Type", "application/json")];
        let (path, body) =
            (format!("/api/v1/dead-letters/{what}"), format!("{{\"ids\":[\"{id}\"]}}"));
        crate::rest::ask(&cluster, Some(&operator), "POST", &path, &headers, &body).await
    };
    let id = &letters[0].id;
    assert_eq!(post("resend", id).await.status, 200);
    let (again, _) = receiver.next().await;
    assert_eq!(again["key"], refused["key"], "a receiver knows it again");
    let answer = post("clear", id).await;
    assert_eq!((answer.status, answer.reason().as_str()), (404, "NoSuchDeadLetter"));
    let entries = cluster.audit().await.into_iter().filter(|entry| entry.target == *id);
    let entries: Vec<_> = entries.map(|entry| (entry.call, entry.outcome)).collect();
    assert_eq!(entries[0], ("ResendDeadLetters".to_owned(), "ok".to_owned()));
    assert!(entries[1].0 == "ClearDeadLetters" && entries[1].1.contains("NoSuchDeadLetter"));
}

#[tokio::test]
async fn a_restart_forgets_no_alert_and_tells_none_again() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let receiver = Receiver::start(Mode::Take).await;
    apply(&mut admin, vec![webhook("hook", &receiver)]).await;
    rule(&mut admin, lonely(1)).await;
    receiver.next().await;
    let id = list(&mut admin).await[0].id.clone();
    let request =
        v1::AcknowledgeAlertsRequest { ids: vec![id.clone()], comment: "mine".to_owned() };
    admin.acknowledge_alerts(request).await.unwrap();
    let cluster = cluster.restart().await;
    let mut admin = cluster.admin().await;
    let alerts = list(&mut admin).await;
    assert_eq!((alerts.len(), &alerts[0].id, &alerts[0].state[..]), (1, &id, "acknowledged"));
    assert_eq!(alerts[0].acknowledgement.as_ref().unwrap().comment, "mine");
    cluster.join("n1").await;
    let (next, _) = receiver.next().await;
    assert_eq!(next["kind"], "resolved", "and nothing in between");
}

#[tokio::test]
async fn a_command_gets_the_alert_and_one_that_hangs_is_ended_with_its_children() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let folder = cluster.config.state_dir.join("alert-commands");
    std::fs::create_dir(&folder).unwrap();
    let program = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    let out = folder.join("out");
    let (taken, child) = (out.display(), folder.join("child"));
    program("note", &format!("env > {taken}.env; cat > {taken}.json; echo \"$@\" > {taken}.args"));
    program("sulk", "echo not today >&2; exit 3");
    program("hang", &format!("sleep 600 & echo $! > {}; wait", child.display()));
    let command = |name: &str, argv: &[&str]| {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        channel(name, Way::Command(v1::CommandChannel { argv }))
    };
    let channels = [
        command("note", &["note", "a; touch b", "$HOME"]),
        command("sulk", &["sulk"]),
        command("hang", &["hang"]),
        command("gone", &["nothing"]),
    ];
    apply(&mut admin, channels.into()).await;
    assert_eq!(test(&mut admin, "note").await, Ok(()));
    let read = |kind: &str| std::fs::read_to_string(format!("{taken}.{kind}")).unwrap();
    assert_eq!(read("args"), "a; touch b $HOME\n", "no shell has seen it");
    assert!(read("env").contains("PICCOLO_ALERT_RULE=Test\n"));
    assert!(!read("env").contains("CARGO"), "nothing of ours is in its environment");
    let json: serde_json::Value = serde_json::from_str(&read("json")).unwrap();
    assert_eq!(json["kind"], "test");
    let sulked = test(&mut admin, "sulk").await.unwrap_err();
    assert!(sulked.contains("sulk ended with exit status: 3: not today"), "{sulked}");
    let hung = test(&mut admin, "hang").await.unwrap_err();
    assert!(hung.contains("no answer within 1 s"), "{hung}");
    let child = std::fs::read_to_string(child).unwrap();
    let process = format!("/proc/{}/stat", child.trim());
    eventually("its child has ended", async || {
        // a process that nobody waited for yet has ended too
        std::fs::read_to_string(&process).is_ok_and(|stat| stat.contains(") Z"))
            || !std::path::Path::new(&process).exists()
    })
    .await;
    assert!(test(&mut admin, "gone").await.unwrap_err().contains("cannot be run"));
    let request = v1::ApplyAlertChannelsRequest { channels: vec![command("out", &["/bin/sh"])] };
    let error = refused(admin.apply_alert_channels(request).await);
    assert!(error.message.contains("channels[0].command: begins with the name"), "{error:?}");
}

#[tokio::test]
async fn viewers_look_operators_acknowledge_and_silence_and_admins_change() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let mut viewer = user(&cluster, "vera", v1::UserRole::Viewer).await;
    let mut operator = user(&cluster, "otto", v1::UserRole::Operator).await;
    let receiver = Receiver::start(Mode::Take).await;
    apply(&mut admin, vec![webhook("hook", &receiver)]).await;
    rule(&mut admin, lonely(1)).await;
    receiver.next().await;
    let id = list(&mut viewer).await[0].id.clone();
    let acknowledge = v1::AcknowledgeAlertsRequest { ids: vec![id.clone()], ..Default::default() };
    let silence = v1::SilenceAlertsRequest {
        only: "rule=Lonely".to_owned(),
        span_seconds: 60,
        ..Default::default()
    };
    assert_eq!(
        refused(viewer.acknowledge_alerts(acknowledge.clone()).await).reason,
        "RoleNotAllowed"
    );
    assert_eq!(refused(viewer.silence_alerts(silence.clone()).await).reason, "RoleNotAllowed");
    let channels = v1::ListAlertChannelsRequest {};
    assert_eq!(refused(viewer.list_alert_channels(channels).await).reason, "RoleNotAllowed");
    let taken = operator.acknowledge_alerts(acknowledge).await.unwrap().into_inner().alerts;
    assert_eq!(taken[0].acknowledgement.as_ref().unwrap().by, "operator:otto");
    let made = operator.silence_alerts(silence).await.unwrap().into_inner().silence.unwrap();
    assert_eq!(list(&mut viewer).await[0].silenced_by, made.id);
    let rules = v1::ApplyAlertRulesRequest { rules: vec![lonely(5)], ..Default::default() };
    assert_eq!(refused(operator.apply_alert_rules(rules).await).reason, "RoleNotAllowed");
    let hook = v1::ApplyAlertChannelsRequest { channels: vec![webhook("h", &receiver)] };
    assert_eq!(refused(operator.apply_alert_channels(hook).await).reason, "RoleNotAllowed");
    let ended = v1::UnsilenceAlertsRequest { id: made.id };
    operator.unsilence_alerts(ended).await.unwrap();
    let calls: Vec<_> = cluster
        .audit()
        .await
        .into_iter()
        .filter(|entry| entry.call.contains("Alert"))
        .map(|entry| format!("{} {} {}", entry.who, entry.call, entry.outcome))
        .collect();
    for line in ["operator:otto AcknowledgeAlerts ok", "operator:otto SilenceAlerts ok"] {
        assert!(calls.iter().any(|call| call == line), "{line} is not in {calls:?}");
    }
}

#[tokio::test]
async fn secrets_of_channels_are_shown_to_nobody_and_sealed_in_the_store() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let receiver = Receiver::start(Mode::Take).await;
    apply(&mut admin, vec![webhook("hook", &receiver)]).await;
    let request = v1::ListAlertChannelsRequest {};
    let listed = admin.list_alert_channels(request).await.unwrap().into_inner();
    assert_eq!(listed.channels[0].target, format!("http://{}", receiver.address()));
    let audit = format!("{listed:?} {:?} {:?}", cluster.audit().await, cluster.events().await);
    assert!(!audit.contains("hidden"), "{audit}");
    let state = cluster.config.state_dir.clone();
    let cluster = cluster.restart().await;
    let mut seen = 0;
    for file in std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path()) {
        let content = std::fs::read(&file).unwrap_or_default();
        seen += content.len();
        let found = content.windows(6).any(|window| window == b"hidden");
        assert!(!found, "{} holds a secret in the clear", file.display());
    }
    assert!(seen > 1000, "there was something to look at");
    assert_eq!(test(&mut cluster.admin().await, "hook").await, Ok(()), "and it is known again");
    assert!(receiver.next().await.1, "with its key");
}

#[tokio::test]
async fn a_watcher_sees_every_alert_and_each_change() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    rule(&mut admin, lonely(1)).await;
    eventually("it fires", async || !list(&mut admin).await.is_empty()).await;
    let mut watch = admin.watch_alerts(v1::WatchAlertsRequest {}).await.unwrap().into_inner();
    let mut states = Vec::new();
    cluster.join("n1").await;
    while states.last().is_none_or(|state| state != "resolved") {
        let item = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
        match item.unwrap().unwrap().item.unwrap() {
            Item::Changed(alert) => states.push(alert.state),
            Item::Told(_) => states.push("whole".to_owned()),
            Item::Forgotten(id) => panic!("{id} is kept"),
        }
    }
    assert_eq!(states, ["firing", "whole", "resolved"]);
}

#[tokio::test]
async fn every_node_of_which_a_rule_holds_is_told_of_in_its_turn() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let receiver = Receiver::start(Mode::Take).await;
    apply(&mut admin, vec![webhook("hook", &receiver)]).await;
    let when = v1::AlertRule {
        when: "node.status == \"Initializing\"".to_owned(),
        on: "node".to_owned(),
        message: "{{ node.name }}".to_owned(),
        ..lonely(0)
    };
    rule(&mut admin, when).await;
    for number in 0..5 {
        cluster.join(&format!("n{number}")).await;
        let (told, _) = receiver.next().await;
        assert_eq!(told["alert"]["message"], format!("host-n{number}"));
    }
}
