//! New certificates under live connections, and the end of a connection whose right has ended.

use crate::support::{Authority, Server, Spec, ask, connector, drained};

fn numbered(
    authority: &Authority,
    spec: Spec,
    serial: u64,
) -> piccolo_rpc::tls::identity::Identity {
    authority.identity(&Spec { serial, ..spec })
}

#[tokio::test]
async fn a_renewed_client_keeps_its_connection_and_shows_the_new_certificate_on_the_next() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let connector = connector(&numbered(&authority, Spec::dialler("sub", "hpc-1"), 1));
    let mut live = server.connect(&connector).await.unwrap();
    assert!(ask(&mut live).await.unwrap().contains("serial 01"));

    connector.set_identity(&numbered(&authority, Spec::dialler("sub", "hpc-1"), 2)).unwrap();
    assert!(ask(&mut live).await.unwrap().contains("serial 01"));
    assert!(server.who(&connector).await.unwrap().contains("serial 02"));
}

#[tokio::test]
async fn a_renewed_master_keeps_its_connections_and_shows_the_new_certificate_on_the_next() {
    let authority = Authority::new();
    let (old, new) = (authority.master(), authority.master());
    let server = Server::start(&old).await;
    let connector = connector(&authority.dialler("sub", "hpc-1"));
    let mut live = server.connect(&connector).await.unwrap();
    assert!(ask(&mut live).await.is_ok());

    server.acceptor.set_identity(&new).unwrap();
    assert!(ask(&mut live).await.is_ok());
    let next = server.connect(&connector).await.unwrap();
    let shown = next.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown.first(), new.chain().first());
    assert_ne!(shown.first(), old.chain().first());
}

#[tokio::test]
async fn a_master_that_changes_its_authority_refuses_the_old_ones_clients() {
    let (old, new) = (Authority::named("old"), Authority::named("new"));
    let server = Server::start(&old.master()).await;
    let node = old.dialler("sub", "hpc-1");
    assert!(server.who(&connector(&node)).await.is_ok());
    server.acceptor.set_identity(&new.master()).unwrap();
    assert!(server.who(&connector(&node)).await.is_err());
    assert!(server.who(&connector(&new.dialler("sub", "hpc-1"))).await.is_ok());
}

#[tokio::test]
async fn a_removed_peers_connections_end_and_nobody_elses() {
    let authority = Authority::new();
    let server = Server::start(&authority.master()).await;
    let (removed, other) = (authority.dialler("sub", "hpc-1"), authority.dialler("sub", "hpc-2"));
    let (removed, other) = (connector(&removed), connector(&other));
    let mut first = server.connect(&removed).await.unwrap();
    let mut second = server.connect(&removed).await.unwrap();
    let mut bystander = server.connect(&other).await.unwrap();
    for connection in [&mut first, &mut second, &mut bystander] {
        ask(connection).await.unwrap();
    }

    let closed = server
        .acceptor
        .close_where(|peer| peer.identity.as_ref().is_some_and(|name| name.id == "hpc-1"));
    assert_eq!(closed, 2);
    assert_eq!(drained(&mut first).await, 0);
    assert_eq!(drained(&mut second).await, 0);
    assert!(ask(&mut bystander).await.is_ok());
}
