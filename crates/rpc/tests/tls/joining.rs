//! The first connection of a board that knows nothing but a token.

use piccolo_rpc::tls::clock::Clock;
use piccolo_rpc::tls::connector::{ClientOptions, Connector};
use piccolo_rpc::tls::identity::{Identity, PrivateKey};
use piccolo_rpc::tls::token::{CaDigest, JoinToken};

use crate::support::{Authority, HOUR, Server, Spec, eventually, told};

fn joining(digest: CaDigest) -> Connector {
    Connector::joining(digest, ClientOptions::new(Clock::default())).unwrap()
}

/// Joining at this server fails for this reason, and the server never sees a connection on which
/// anything could have been said.
async fn nothing_is_said_to(server: &Server, digest: CaDigest, reason: &str) {
    let error = server.who(&joining(digest)).await.expect_err("the secret would have been sent");
    let told = told(&*error);
    assert!(told.contains(reason), "{told}");
    eventually("the socket is closed", || server.acceptor.sockets() == 0).await;
    let counts = server.acceptor.counts();
    assert_eq!((counts.admitted, counts.failed), (0, 1), "{counts:?}");
}

#[tokio::test]
async fn a_token_finds_its_master() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let token = JoinToken::generate(CaDigest::of(&authority.certificate)).unwrap();
    let copied: JoinToken = token.expose().parse().unwrap();
    let answer = server.who(&joining(copied.ca_digest())).await.unwrap();
    assert_eq!(answer, "nobody from 127.0.0.1");
}

#[tokio::test]
async fn a_master_with_another_authority_hears_nothing() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = Server::start(&other.master()).await;
    nothing_is_said_to(&server, CaDigest::of(&ours.certificate), "not the one that the join token")
        .await;
}

#[tokio::test]
async fn showing_the_right_authority_beside_another_ones_certificate_does_not_help() {
    let (ours, other) = (Authority::new(), Authority::named("another authority"));
    let key = PrivateKey::generate().unwrap();
    let certificate = other.sign(&key, &Spec::master());
    let chain = vec![certificate, ours.certificate.clone(), other.certificate.clone()];
    let server = Server::start(&Identity::new(key, chain).unwrap()).await;
    nothing_is_said_to(&server, CaDigest::of(&ours.certificate), "issued by another authority")
        .await;
}

#[tokio::test]
async fn a_sub_node_of_the_right_cluster_hears_nothing() {
    let authority = Authority::new();
    let spec = Spec { uris: vec!["piccolo://vehicle-7/sub/hpc-2".to_owned()], ..Spec::master() };
    let server = Server::start(&authority.identity(&spec)).await;
    let digest = CaDigest::of(&authority.certificate);
    nothing_is_said_to(&server, digest, "only a master may serve").await;
}

#[tokio::test]
async fn a_digest_of_something_that_is_no_authority_is_not_trusted() {
    let authority = Authority::new();
    // A node's certificate, which its holder could use to "sign" one for a master.
    let bystander = authority.sign(&PrivateKey::generate().unwrap(), &Spec::dialler("sub", "x"));
    let key = PrivateKey::generate().unwrap();
    let chain = vec![
        authority.sign(&key, &Spec::master()),
        bystander.clone(),
        authority.certificate.clone(),
    ];
    let server = Server::start(&Identity::new(key, chain).unwrap()).await;
    nothing_is_said_to(&server, CaDigest::of(&bystander), "is no CA").await;
}

#[tokio::test]
async fn an_expired_master_hears_nothing() {
    let authority = Authority::new();
    let spec = Spec { from: -3 * HOUR, until: -HOUR, ..Spec::master() };
    let server = Server::start(&authority.identity(&spec)).await;
    nothing_is_said_to(&server, CaDigest::of(&authority.certificate), "has expired").await;
}
