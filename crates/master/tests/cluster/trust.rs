//! Certificates over time: renewal, expiry, removal, and those of other clusters (HLD §9).

use std::time::Duration;

use piccolo_rpc::{
    tls::{
        clock::Clock,
        connector::{ClientOptions, Connector, Trust},
        identity::{Identity, PrivateKey},
    },
    v1::{
        self, agent_message::Message as Say, api_server_service_client::ApiServerServiceClient,
        master_message::Message as Heard,
    },
};
use tonic::Code;

use crate::harness::{Cluster, Session, eventually, goodbye, hello, refused, registration};

fn certificate(message: Heard) -> Option<v1::CertificateIssued> {
    match message {
        Heard::Certificate(issued) => Some(issued),
        _ => None,
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_over_the_live_session() {
    let cluster = Cluster::start().await;
    let old = cluster.join("n1").await;
    let mut agent = cluster.agent(&old).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    let key = PrivateKey::generate().unwrap();
    let certificate_signing_request = key.signing_request().unwrap();
    let request = v1::CertificateRequest { certificate_signing_request };
    session.say(Say::CertificateRequest(request)).await;
    let issued = session.next_that(certificate).await;
    let pem = String::from_utf8(issued.certificate).unwrap();
    let new = Identity::from_issued(key, &pem).unwrap();
    assert_ne!(new.name().serial, old.name().serial);

    let beat = v1::HeartbeatRequest { node_id: "n1".to_owned(), sent_at: None };
    let mut with_new = cluster.agent(&new).await;
    with_new.heartbeat(beat.clone()).await.unwrap();
    agent.heartbeat(beat).await.expect("the session's own key is good until the new one was seen");
}

#[tokio::test]
async fn a_renewal_with_a_bad_request_ends_the_session_and_nothing_else() {
    let cluster = Cluster::start().await;
    let mut session = cluster.session("n1").await;
    let request = v1::CertificateRequest { certificate_signing_request: b"no request".to_vec() };
    session.say(Say::CertificateRequest(request)).await;
    let goodbye = session.next_that(goodbye).await;
    assert_eq!(goodbye.reason, "Protocol");
    assert!(goodbye.message.contains("certificate_signing_request"), "{}", goodbye.message);
    cluster.audited(|e| e.call == "Session" && e.outcome.starts_with("refused")).await;
}

#[tokio::test]
async fn an_expired_board_comes_back_with_its_old_key_and_everybody_can_see_it() {
    let cluster =
        Cluster::start_with(|config| config.certificate_lifetime = Duration::from_secs(2)).await;
    let token = cluster.token(|_| {}).await;
    let key = PrivateKey::generate().unwrap();
    let joining = registration("n1", &token, &key);
    let answer = cluster.stranger(&token).await.register_node(joining).await.unwrap().into_inner();
    let pem = String::from_utf8(answer.certificate).unwrap();
    let identity = Identity::from_issued(key.clone(), &pem).unwrap();
    let beat = v1::HeartbeatRequest { node_id: "n1".to_owned(), sent_at: None };
    eventually("the certificate has expired", async || {
        let answer = cluster.agent(&identity).await.heartbeat(beat.clone()).await;
        match answer {
            Ok(_) => false,
            Err(status) => {
                let view = piccolo_rpc::status::ErrorView::from(&status);
                assert_eq!(view.reason, "CertificateExpired");
                true
            }
        }
    })
    .await;

    let mut session = Session::open(&mut cluster.agent(&identity).await, hello("n1")).await;
    assert_eq!(session.next_that(goodbye).await.reason, "Expired");

    let other_key = registration("n1", "", &PrivateKey::generate().unwrap());
    let mut agent = cluster.agent(&identity).await;
    let view = refused(agent.register_node(other_key).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::PermissionDenied, "KeyChanged"));

    let again = agent.register_node(registration("n1", "", &key)).await.unwrap().into_inner();
    let pem = String::from_utf8(again.certificate).unwrap();
    let renewed = Identity::from_issued(key, &pem).unwrap();
    cluster.agent(&renewed).await.heartbeat(beat).await.unwrap();
    let events = cluster.events().await;
    assert!(events.iter().any(|event| event.kind == "CertificateReissued"));
}

#[tokio::test]
async fn removal_revokes_at_once_and_ends_the_session() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let mut session = Session::open(&mut agent, hello("n1")).await;
    session.configure().await;
    let mut admin = cluster.admin().await;
    let remove = v1::RemoveNodeRequest { node_id: "n1".to_owned() };
    admin.remove_node(remove).await.unwrap();
    let goodbye = session.next_that(goodbye).await;
    assert_eq!(goodbye.reason, "Removed");
    assert!(session.next().await.is_none(), "the stream ends");
    let beat = v1::HeartbeatRequest { node_id: "n1".to_owned(), sent_at: None };
    let view = refused(cluster.agent(&identity).await.heartbeat(beat).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::Unauthenticated, "CertificateRevoked"));
    let view = refused(
        cluster.agent(&identity).await.register_node(registration("n1", "", identity.key())).await,
    );
    assert_eq!(view.reason, "CertificateRevoked", "not even for a new certificate");
}

#[tokio::test]
async fn a_certificate_of_another_cluster_gets_no_answer_at_all() {
    let cluster = Cluster::start().await;
    let other = Cluster::start().await;
    let foreign = other.admin_identity();
    // trusts this cluster's master, and shows the other's certificate
    let trust = Trust::of(&cluster.admin_identity());
    let options = ClientOptions::new(Clock::default());
    let connector = Connector::with_trust(&trust, Some(&foreign), options).unwrap();
    let channel = connector.lazy_channel(&cluster.address()).unwrap();
    let answer = ApiServerServiceClient::new(channel).get_topology(v1::GetTopologyRequest {}).await;
    // the connection is closed on it: no status of the master's
    let view = refused(answer);
    assert!(matches!(view.code, Code::Unavailable | Code::Unknown), "{view:?}");
    assert_eq!(view.reason, "");
}

#[tokio::test]
async fn a_user_whose_certificate_was_revoked_is_out() {
    let cluster = Cluster::start().await;
    let alice = crate::people::user(&cluster, "alice", v1::UserRole::Admin).await;
    let mut as_alice = cluster.user(&alice).await;
    as_alice.list_users(v1::ListUsersRequest {}).await.unwrap();
    let mut watch =
        as_alice.watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
    let mut admin = cluster.admin().await;
    admin.revoke_user(v1::RevokeUserRequest { name: "alice".to_owned() }).await.unwrap();
    let view = refused(cluster.user(&alice).await.list_users(v1::ListUsersRequest {}).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::Unauthenticated, "CertificateRevoked"));
    let ended = async { while let Ok(Some(_)) = watch.message().await {} };
    tokio::time::timeout(crate::harness::PATIENCE, ended).await.expect("its watch ends too");
}
