//! The same through tonic: a channel of ours to a server of ours, and who the server sees.

use std::sync::{Arc, Mutex};

use piccolo_rpc::tls::PeerError;
use piccolo_rpc::tls::acceptor::{Acceptor, Protocol, ServerOptions, peer_of};
use piccolo_rpc::tls::clock::Clock;
use piccolo_rpc::tls::connector::{ClientOptions, Connector, Trust};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use crate::support::{Authority, Spec, connector, told};

type Seen = Arc<Mutex<Vec<String>>>;

/// Serves gRPC health, noting who calls.
async fn serve(authority: &Authority) -> (String, Seen) {
    let options = ServerOptions::new(Protocol::Grpc, Clock::default());
    let acceptor = Acceptor::new(&authority.master(), options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let note = move |request: tonic::Request<()>| {
        let peer = peer_of(&request).and_then(|peer| peer.identity.clone());
        let name = peer.map_or("nobody".to_owned(), |peer| peer.principal().to_string());
        noted.lock().unwrap().push(name);
        Ok(request)
    };
    let (reporter, _) = tonic_health::server::health_reporter();
    let service =
        HealthServer::with_interceptor(HealthService::from_health_reporter(reporter), note);
    let incoming = acceptor.listen(listener);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    (address, seen)
}

async fn check(channel: Channel) -> Result<(), tonic::Status> {
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel).check(request).await.map(|_| ())
}

#[tokio::test]
async fn a_call_carries_its_callers_identity() {
    let authority = Authority::new();
    let (address, seen) = serve(&authority).await;
    let connector = connector(&authority.dialler("operator", "kim"));
    check(connector.channel(&address).await.unwrap()).await.unwrap();
    check(connector.lazy_channel(&address).unwrap()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["piccolo://vehicle-7/operator/kim"; 2]);
}

#[tokio::test]
async fn a_refused_caller_learns_that_it_was_its_certificate() {
    let (ours, other) = (Authority::new(), Authority::named("another authority"));
    let (address, seen) = serve(&ours).await;
    let trust = Trust::of(&ours.dialler("sub", "unused"));
    let stranger = other.dialler("admin", "root");
    let options = ClientOptions::new(Clock::default());
    let connector = Connector::with_trust(&trust, Some(&stranger), options).unwrap();
    let status = check(connector.lazy_channel(&address).unwrap()).await.unwrap_err();
    let reason = PeerError::find(&status);
    assert!(matches!(reason, Some(PeerError::RefusedByPeer(_))), "{}", told(&status));
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_channel_to_somebody_else_says_why_not() {
    let (ours, other) = (Authority::new(), Authority::named("another authority"));
    let (address, seen) = serve(&other).await;
    let connector: Connector = connector(&ours.identity(&Spec::dialler("sub", "hpc-1")));
    let error = connector.channel(&address).await.unwrap_err();
    assert_eq!(PeerError::find(&error), Some(PeerError::OtherAuthority), "{}", told(&error));
    let status = check(connector.lazy_channel(&address).unwrap()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(PeerError::find(&status), Some(PeerError::OtherAuthority), "{}", told(&status));
    assert!(seen.lock().unwrap().is_empty());
}
