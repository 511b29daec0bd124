//! Whatever an agent says on its session, the master goes on, and so do the others.

use piccolo_core::model::NodeStatus;
use piccolo_rpc::{
    convert::node_status_to_wire,
    v1::{self, agent_message::Message as Say},
};
use proptest::{
    collection::{hash_map, vec},
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::harness::{Cluster, Session, hello};

/// Messages that are said in all.
const MESSAGES: usize = 300;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,8}", "\\PC{0,40}", "[\\x00-\\x1f]{0,4}", Just("x".repeat(2000))]
}

fn stamp() -> impl Strategy<Value = Option<prost_types::Timestamp>> {
    let stamp = (any::<i64>(), any::<i32>())
        .prop_map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos });
    proptest::option::of(stamp)
}

prop_compose! {
    fn report()(
        status in -1..9, metrics in hash_map(text(), text(), 0..5),
        names in vec((text(), text(), stamp()), 0..4),
        conditions in vec((text(), text(), stamp()), 0..4),
        alerts in vec((text(), -1..5, stamp()), 0..4), metrics_only: bool,
    ) -> v1::StatusReport {
        let container = |(name, state, started_at)| {
            v1::ContainerStatus { name, state, started_at, ..Default::default() }
        };
        let condition = |(kind, message, since)| {
            v1::Condition { kind, message, since, ..Default::default() }
        };
        let alert = |(message, severity, at)| {
            v1::AlertInfo { message, severity, at, ..Default::default() }
        };
        v1::StatusReport {
            status,
            metrics,
            containers: names.into_iter().map(container).collect(),
            conditions: conditions.into_iter().map(condition).collect(),
            alerts: alerts.into_iter().map(alert).collect(),
            metrics_only,
            ..Default::default()
        }
    }
}

prop_compose! {
    fn event()(
        node_sequence in prop_oneof![0..20_u64, any::<u64>()], severity in -1..5, kind in text(),
        message in text(), at in stamp(), fields in hash_map(text(), text(), 0..3),
    ) -> v1::Event {
        v1::Event { node_sequence, severity, kind, message, at, fields, ..Default::default() }
    }
}

fn anything() -> impl Strategy<Value = Say> {
    let bytes = || vec(any::<u8>(), 0..64);
    prop_oneof![
        Just(Say::Beat(v1::Beat {})),
        text().prop_map(|id| Say::Hello(hello(&id))),
        report().prop_map(Say::Status),
        vec(event(), 0..60).prop_map(|events| Say::Events(v1::EventBatch { events })),
        (any::<u64>(), text()).prop_map(|(applied_generation, rejected)| {
            Say::ConfigApplied(v1::ConfigRequest {
                applied_generation,
                rejected,
                ..Default::default()
            })
        }),
        bytes().prop_map(|csr| {
            Say::CertificateRequest(v1::CertificateRequest { certificate_signing_request: csr })
        }),
        (text(), any::<bool>(), text()).prop_map(|(id, success, message)| Say::CommandResult(
            v1::CommandResult { id, success, message }
        )),
        // not Leaving: that is a word that the master obeys
        text()
            .prop_map(|message| Say::Goodbye(v1::Goodbye { reason: "Other".to_owned(), message })),
    ]
}

#[tokio::test]
async fn noise_on_a_session_harms_nobody() {
    let cluster = Cluster::start().await;
    let calm = cluster.join("calm").await;
    let mut session = Session::open(&mut cluster.agent(&calm).await, hello("calm")).await;
    session.configure().await;
    let beating = session.keep_beating();
    cluster.wait_for("calm", v1::NodeStatus::Ready).await;

    let identity = cluster.join("loud").await;
    let mut agent = cluster.agent(&identity).await;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut previous_session = String::new();
    let mut said = 0;
    while said < MESSAGES {
        let greeting = v1::Hello { previous_session: previous_session.clone(), ..hello("loud") };
        let mut session = Session::open(&mut agent, greeting).await;
        // until the master has had enough of it
        loop {
            let message = anything().new_tree(&mut runner).unwrap().current();
            said += 1;
            session.say(message).await;
            session.say(Say::Beat(v1::Beat {})).await;
            let mut ended = false;
            loop {
                match session.next().await {
                    Some(v1::master_message::Message::Welcome(welcome)) => {
                        previous_session = welcome.session_id;
                    }
                    Some(v1::master_message::Message::Beat(_)) => break,
                    Some(_) => {}
                    None => {
                        ended = true;
                        break;
                    }
                }
            }
            if ended || said >= MESSAGES {
                break;
            }
        }
    }
    let ready = node_status_to_wire(NodeStatus::Ready);
    assert_eq!(cluster.status_of("calm").await, ready);
    let audit = cluster.admin().await.verify_audit(v1::VerifyAuditRequest {}).await.unwrap();
    assert!(audit.into_inner().intact);
    // what it has stored can be read again
    drop(beating);
    let cluster = cluster.restart().await;
    assert_eq!(cluster.status_of("calm").await, ready);
}
