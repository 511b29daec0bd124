//! Who is let in, as whom, and who is not.

use std::net::{IpAddr, Ipv4Addr};

use piccolo_rpc::tls::PeerError;
use piccolo_rpc::tls::clock::Clock;
use piccolo_rpc::tls::connector::{ClientOptions, Connector, Trust};
use piccolo_rpc::tls::identity::{Identity, PrivateKey};
use rcgen::ExtendedKeyUsagePurpose;

use crate::support::{Authority, CLUSTER, HOUR, Server, Spec, connector, told};

/// A client with this identity is turned away; the client learns only that much.
async fn refused(server: &Server, identity: &Identity, trust: &Trust) {
    let options = ClientOptions::new(Clock::default());
    let connector = Connector::with_trust(trust, Some(identity), options).unwrap();
    let answer = server.who(&connector).await;
    let error = answer.expect_err("it was let in");
    let reason = PeerError::find(&*error);
    assert!(matches!(reason, Some(PeerError::RefusedByPeer(_))), "{}", told(&*error));
}

#[tokio::test]
async fn both_ends_know_each_other() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let node = authority.dialler("sub", "hpc-1");
    let answer = server.who(&connector(&node)).await.unwrap();
    assert_eq!(answer, "piccolo://vehicle-7/sub/hpc-1 serial 07 from 127.0.0.1");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_nobody() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let trust = Trust::of(&authority.dialler("sub", "unused"));
    let options = ClientOptions::new(Clock::default());
    let connector = Connector::with_trust(&trust, None, options).unwrap();
    assert_eq!(server.who(&connector).await.unwrap(), "nobody from 127.0.0.1");
}

#[tokio::test]
async fn an_expired_client_is_let_in_and_marked() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let spec = Spec { from: -3 * HOUR, until: -HOUR, ..Spec::dialler("sub", "hpc-1") };
    let answer = server.who(&connector(&authority.identity(&spec))).await.unwrap();
    assert_eq!(answer, "piccolo://vehicle-7/sub/hpc-1 serial 07 expired from 127.0.0.1");
}

#[tokio::test]
async fn a_client_that_is_not_valid_yet_is_let_in_because_a_clock_is_wrong() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let spec = Spec { from: HOUR, until: 3 * HOUR, ..Spec::dialler("sub", "hpc-1") };
    let answer = server.who(&connector(&authority.identity(&spec))).await.unwrap();
    assert_eq!(answer, "piccolo://vehicle-7/sub/hpc-1 serial 07 from 127.0.0.1");
}

#[tokio::test]
async fn another_authoritys_client_is_refused_whatever_its_dates_and_name() {
    let (authority, other) = (Authority::new(), Authority::named("another authority"));
    let server = Server::start(&authority.master()).await;
    let trust = Trust::of(&authority.master());
    refused(&server, &other.dialler("admin", "root"), &trust).await;
    let expired = Spec { from: -3 * HOUR, until: -HOUR, ..Spec::dialler("admin", "root") };
    refused(&server, &other.identity(&expired), &trust).await;
    // The same subject name, another key: the signature decides.
    refused(&server, &Authority::new().dialler("admin", "root"), &trust).await;
}

#[tokio::test]
async fn a_client_of_another_cluster_is_refused_even_with_the_right_authority() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let uris = vec!["piccolo://vehicle-8/admin/root".to_owned()];
    let other = Spec { uris, ..Spec::dialler("admin", "root") };
    refused(&server, &authority.identity(&other), &Trust::of(&authority.master())).await;
}

#[tokio::test]
async fn a_certificate_for_serving_only_does_not_let_a_client_in() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let spec = Spec { usages, ..Spec::dialler("sub", "hpc-1") };
    refused(&server, &authority.identity(&spec), &Trust::of(&authority.master())).await;
}

/// Presents a certificate whose names no [`Identity`] would accept, through rustls itself.
async fn refused_with_uris(server: &Server, authority: &Authority, uris: &[&str]) {
    let key = PrivateKey::generate().unwrap();
    let uris: Vec<String> = uris.iter().map(|uri| (*uri).to_owned()).collect();
    let spec = Spec { uris: uris.clone(), ..Spec::dialler("sub", "hpc-1") };
    let certificate = authority.sign(&key, &spec);
    let error =
        Identity::new(key.clone(), vec![certificate.clone(), authority.certificate.clone()])
            .expect_err("our own side took the name");
    assert_eq!(error.to_string(), "the certificate cannot be used");
    let result = crate::versions::plain_client(authority, Some((&key, certificate)))
        .ask(server, &[&rustls::version::TLS13])
        .await;
    let error = result.expect_err("it was let in");
    let reason = PeerError::find(&*error);
    assert!(matches!(reason, Some(PeerError::RefusedByPeer(_))), "{uris:?}: {}", told(&*error));
}

#[tokio::test]
async fn a_hostile_name_in_a_well_signed_certificate_is_refused() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let good = format!("piccolo://{CLUSTER}/sub/hpc-1");
    // The same road with a good name leads in, so it is the names that are refused.
    let key = PrivateKey::generate().unwrap();
    let certificate = authority.sign(&key, &Spec::dialler("sub", "hpc-1"));
    let answer = crate::versions::plain_client(&authority, Some((&key, certificate)))
        .ask(&server, &[&rustls::version::TLS13])
        .await;
    assert_eq!(answer.unwrap().0, format!("{good} serial 07 from 127.0.0.1"));

    let hostile: [&[&str]; 7] = [
        &[],
        &[&good, &good],
        &[&good, "piccolo://vehicle-7/admin/root"],
        &["piccolo://vehicle-7/sub/hpc-1/../../admin/root"],
        &["piccolo://vehicle-7/root/hpc-1"],
        &["https://vehicle-7/sub/hpc-1"],
        &["piccolo://vehicle-7/sub/"],
    ];
    for uris in hostile {
        refused_with_uris(&server, &authority, uris).await;
    }
}

/// A server with this identity is not taken for a master, for this reason.
async fn not_a_master(authority: &Authority, spec: &Spec, reason: &str) {
    let server = Server::start(&authority.identity(spec)).await;
    let node = authority.dialler("sub", "hpc-1");
    let error = server.connect(&connector(&node)).await.expect_err("it was taken for a master");
    assert!(told(&error).contains(reason), "{}", told(&error));
}

#[tokio::test]
async fn a_sub_node_cannot_pass_for_a_master() {
    let authority = Authority::new();
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let sub = || Spec::dialler("sub", "hpc-2");
    not_a_master(&authority, &sub(), "not for this use").await;
    let with_usage = Spec { usages: usages.clone(), ..sub() };
    not_a_master(&authority, &with_usage, "not for this use").await;
    let with_all_but_the_role = Spec { usages, dns: vec!["piccolo-master"], ..sub() };
    not_a_master(&authority, &with_all_but_the_role, "only a master may serve").await;
}

#[tokio::test]
async fn a_master_of_another_cluster_or_out_of_life_is_refused() {
    let authority = Authority::new();
    let uris = vec!["piccolo://vehicle-8/master/m1".to_owned()];
    let other = Spec { uris, ..Spec::master() };
    not_a_master(&authority, &other, "belongs to cluster \"vehicle-8\"").await;
    let expired = Spec { from: -3 * HOUR, until: -HOUR, ..Spec::master() };
    not_a_master(&authority, &expired, "has expired").await;
}

#[tokio::test]
async fn another_authoritys_master_is_refused() {
    let (authority, other) = (Authority::new(), Authority::named("another authority"));
    let server = Server::start(&other.master()).await;
    let node = authority.dialler("sub", "hpc-1");
    let error = server.connect(&connector(&node)).await.expect_err("it was taken for ours");
    assert!(told(&error).contains("issued by another authority"), "{}", told(&error));
}

#[tokio::test]
async fn a_board_that_lives_in_the_past_still_finds_its_master() {
    let authority = Authority::new();
    let spec = Spec { from: HOUR, until: 3 * HOUR, ..Spec::master() };
    let server = Server::start(&authority.identity(&spec)).await;
    let node = authority.dialler("sub", "hpc-1");
    assert!(server.who(&connector(&node)).await.is_ok());
}

#[tokio::test]
async fn a_clock_floor_past_a_masters_life_refuses_it() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let node = authority.dialler("sub", "hpc-1");
    let clock = Clock::default();
    let options = ClientOptions::new(clock.clone());
    let connector = Connector::new(&node, options).unwrap();
    assert!(server.who(&connector).await.is_ok());
    clock.raise(node.name().not_after + 24 * 3600);
    let error = server.connect(&connector).await.expect_err("the floor was not asked");
    assert!(told(&error).contains("has expired"), "{}", told(&error));
}

#[tokio::test]
async fn a_connection_comes_from_the_chosen_address() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let mut options = ClientOptions::new(Clock::default());
    options.source = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 23)));
    let connector = Connector::new(&authority.dialler("sub", "hpc-1"), options).unwrap();
    let answer = server.who(&connector).await.unwrap();
    assert!(answer.ends_with("from 127.0.0.23"), "{answer}");
}

#[tokio::test]
async fn a_host_out_of_reach_of_the_chosen_address_is_said_so() {
    let mut options = ClientOptions::new(Clock::default());
    options.source = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let connector = Connector::new(&Authority::new().dialler("sub", "n"), options).unwrap();
    let error = connector.connect("::1", 9).await.unwrap_err();
    assert_eq!(error.to_string(), "::1 has no address that can be reached from 127.0.0.1");
}
