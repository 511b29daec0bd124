//! What strangers cost: a place, for a while, and nobody else's time.

use std::{cell::Cell, time::Duration};

use piccolo_rpc::tls::acceptor::{Acceptor, Protocol, ServerOptions};
use piccolo_rpc::tls::clock::Clock;
use piccolo_rpc::tls::connector::{ClientOptions, Connector, Trust};
use piccolo_rpc::tls::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Authority, PATIENCE, Server, ask, connector, drained, eventually, say};

/// Longer than any test: what must not be waited for.
const NEVER: Duration = Duration::from_secs(3_600);

async fn server(authority: &Authority, limits: Limits) -> Server {
    Server::with(&authority.master(), |options| options.limits = limits).await
}

async fn strangers(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut strangers = Vec::new();
    for _ in 0..count {
        strangers.push(TcpStream::connect(server.address).await.unwrap());
    }
    eventually("all are accepted", || server.acceptor.sockets() >= count).await;
    strangers
}

#[tokio::test]
async fn a_hundred_silent_strangers_delay_nobody() {
    let authority = Authority::new();
    let limits = Limits { handshake_deadline: NEVER, ..Limits::default() };
    let server = server(&authority, limits).await;
    let silent = strangers(&server, 100).await;
    let answer = server.who(&connector(&authority.dialler("sub", "hpc-1"))).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(server.acceptor.counts().late, 0);
    drop(silent);
}

#[tokio::test]
async fn when_all_places_are_taken_the_oldest_handshake_makes_room() {
    let authority = Authority::new();
    let limits = Limits {
        handshake_deadline: NEVER,
        handshakes_max: 4,
        handshake_evictable_after: Duration::from_millis(10),
        ..Limits::default()
    };
    let server = server(&authority, limits).await;
    let mut silent = strangers(&server, 4).await;
    let answer = server.who(&connector(&authority.dialler("sub", "hpc-1"))).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(drained(&mut silent[0]).await, 0);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_ended() {
    let authority = Authority::new();
    let limits = Limits { handshake_deadline: Duration::from_millis(50), ..Limits::default() };
    let server = server(&authority, limits).await;
    let mut dripping = TcpStream::connect(server.address).await.unwrap();
    // The head of a record that promises more than ever comes.
    dripping.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
    assert_eq!(drained(&mut dripping).await, 0);
    eventually("its place is free", || server.acceptor.sockets() == 0).await;
    assert_eq!(server.acceptor.counts().late, 1);
}

#[tokio::test]
async fn a_client_that_says_nothing_after_its_handshake_is_closed() {
    let authority = Authority::new();
    let limits = Limits { first_byte_deadline: Duration::from_secs(1), ..Limits::default() };
    let server = server(&authority, limits).await;
    let connector = connector(&authority.dialler("sub", "hpc-1"));
    let mut talker = server.connect(&connector).await.unwrap();
    ask(&mut talker).await.unwrap();
    let mut mute = server.connect(&connector).await.unwrap();
    assert_eq!(drained(&mut mute).await, 0);
    // The older one spoke once, so it may be silent as long as it likes.
    assert!(ask(&mut talker).await.is_ok());
}

#[tokio::test]
async fn a_client_without_a_certificate_may_not_stay() {
    let authority = Authority::new();
    let limits = Limits { stranger_deadline: Duration::from_secs(1), ..Limits::default() };
    let server = server(&authority, limits).await;
    let member = authority.dialler("sub", "hpc-1");
    let mut member_stays = server.connect(&connector(&member)).await.unwrap();
    ask(&mut member_stays).await.unwrap();
    let options = ClientOptions::new(Clock::default());
    let stranger = Connector::with_trust(&Trust::of(&member), None, options).unwrap();
    let mut stranger = server.connect(&stranger).await.unwrap();
    assert!(ask(&mut stranger).await.unwrap().starts_with("nobody"));
    assert_eq!(drained(&mut stranger).await, 0);
    eventually("its place is free", || server.acceptor.sockets() == 1).await;
    assert!(ask(&mut member_stays).await.is_ok());
}

#[tokio::test]
async fn a_connection_on_which_somebody_is_known_may_stay() {
    let authority = Authority::new();
    let limits = Limits { stranger_deadline: Duration::from_secs(4), ..Limits::default() };
    let server = server(&authority, limits).await;
    let trust = Trust::of(&authority.dialler("sub", "hpc-1"));
    let options = ClientOptions::new(Clock::default());
    let nobody = Connector::with_trust(&trust, None, options).unwrap();
    let mut known = server.connect(&nobody).await.unwrap();
    say(&mut known, "token").await.unwrap();
    // a stranger that comes later has to go
    let stranger = async {
        let mut stranger = server.connect(&nobody).await.unwrap();
        ask(&mut stranger).await.unwrap();
        drained(&mut stranger).await
    };
    let gone = Cell::new(false);
    tokio::join!(
        async {
            assert_eq!(stranger.await, 0);
            gone.set(true);
        },
        async {
            // each to its answer, or the next would get it
            while !gone.get() {
                say(&mut known, "token").await.expect("somebody is known on it");
            }
        },
    );
    assert!(say(&mut known, "who").await.is_ok());
    // and so has whoever does not come back
    assert_eq!(drained(&mut known).await, 0);
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_gets_them_back() {
    let authority = Authority::new();
    let limits = Limits { connections_per_address_max: 3, ..Limits::default() };
    let server = server(&authority, limits).await;
    let mut first = strangers(&server, 3).await;
    let connector = connector(&authority.dialler("sub", "hpc-1"));
    assert!(server.who(&connector).await.is_err());
    assert_eq!(server.acceptor.counts().over_limit, 1);
    first.pop();
    eventually("a place is free", || server.acceptor.sockets() < 3).await;
    assert!(server.who(&connector).await.is_ok());
}

#[tokio::test]
async fn an_address_has_so_many_new_connections_a_second() {
    let authority = Authority::new();
    let limits = Limits {
        connections_per_address_per_second: 1,
        connections_per_address_burst: 2,
        ..Limits::default()
    };
    let server = server(&authority, limits).await;
    let connector = connector(&authority.dialler("sub", "hpc-1"));
    assert!(server.who(&connector).await.is_ok());
    assert!(server.who(&connector).await.is_ok());
    // Enough tries that some must come within a second of each other.
    let until_refused = async { while server.who(&connector).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, until_refused).await.expect("no rate was kept");
    assert!(server.acceptor.counts().over_limit >= 1);
}

#[tokio::test]
async fn a_connection_that_ends_is_forgotten() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let connector = connector(&authority.dialler("sub", "hpc-1"));
    for _ in 0..20 {
        server.who(&connector).await.unwrap();
    }
    eventually("no connection is left", || server.acceptor.connections() == 0).await;
    eventually("no socket is left", || server.acceptor.sockets() == 0).await;
    assert_eq!(server.acceptor.counts().admitted, 20);
}

#[tokio::test]
async fn a_port_that_is_given_up_is_closed_and_its_connections_go_on() {
    let authority = Authority::new();
    let options = ServerOptions::new(Protocol::Grpc, Clock::default());
    let acceptor = Acceptor::new(&authority.master(), options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut incoming = acceptor.listen(listener);
    let connector = connector(&authority.dialler("sub", "hpc-1"));
    let mut client = connector.connect("127.0.0.1", port).await.unwrap();
    let mut served = incoming.accept().await.unwrap();
    drop(incoming);
    let refused = async { while connector.connect("127.0.0.1", port).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("the port is still open");
    client.write_all(b"still here").await.unwrap();
    let mut bytes = [0; 10];
    served.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still here");
}
