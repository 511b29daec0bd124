//! Thousands of watches from one user, over many connections.

use std::time::Duration;

use piccolo_rpc::{
    status::ErrorView,
    tls::{connector::Connector, identity::Identity},
    v1::{self, api_server_service_client::ApiServerServiceClient},
};
use piccolo_testkit::cluster::PATIENCE;
use tokio::runtime::Runtime;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{Story, cluster, nobody_noticed, options, user};

/// As docs/operations/security.md says.
const WATCHES_OF_ONE_CALLER: usize = 64;
const CONNECTIONS: usize = 40;
/// One for each stream that a connection may have.
const TRIES: usize = 60;

type Client = ApiServerServiceClient<Channel>;

/// Watches for as long as it lives.
struct Watches {
    _nodes: Vec<Streaming<v1::WatchNodesResponse>>,
    _events: Vec<Streaming<v1::WatchEventsResponse>>,
    open: usize,
    refused: usize,
}

async fn connect(identity: &Identity, address: &str) -> Client {
    let connector = Connector::new(identity, options()).expect("an identity");
    let channel = connector.channel(address).await.expect("a place for one more connection");
    ApiServerServiceClient::new(channel)
}

/// One watch more; the refused is told why.
fn opened<T>(answer: Result<tonic::Response<T>, Status>) -> Option<T> {
    match answer {
        Ok(watch) => Some(watch.into_inner()),
        Err(status) => {
            let view = ErrorView::from(&status);
            let seen = (view.code, view.reason.as_str());
            assert_eq!(seen, (Code::ResourceExhausted, "TooManyWatchers"), "{status:?}");
            assert!(view.message.contains("viewer:eve"), "{view:?}");
            None
        }
    }
}

async fn watch(client: &mut Client, times: usize) -> Watches {
    let (mut nodes, mut events, mut refused) = (Vec::new(), Vec::new(), 0);
    for number in 0..times {
        let open = if number % 2 == 0 {
            let watch = client.watch_nodes(v1::WatchNodesRequest::default()).await;
            opened(watch).map(|watch| nodes.push(watch))
        } else {
            let watch = client.watch_events(v1::WatchEventsRequest::default()).await;
            opened(watch).map(|watch| events.push(watch))
        };
        refused += usize::from(open.is_none());
    }
    let open = nodes.len() + events.len();
    Watches { _nodes: nodes, _events: events, open, refused }
}

#[test]
fn one_user_has_so_many_watches_and_slows_nobody() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path())?;
    let (eve, _) = user(&cluster, "eve")?;
    let runtime = Runtime::new()?;
    let mut others = cluster.watch(&["events", "--watch", "-n", "1"])?;
    let address = cluster.address.clone();
    let (mut clients, mut watches) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        for _ in 0..CONNECTIONS {
            let mut client = connect(&eve, &address).await;
            watches.push(watch(&mut client, TRIES).await);
            clients.push(client);
        }
    });
    let open: usize = watches.iter().map(|watches| watches.open).sum();
    let refused: usize = watches.iter().map(|watches| watches.refused).sum();
    assert_eq!((open, refused), (WATCHES_OF_ONE_CALLER, CONNECTIONS * TRIES - open));
    // somebody else's watch goes on, and a new one finds room
    assert!(cluster.piccolo(&["node", "label", "board-1", "place=busan"])?.status.success());
    others.expect("a label is told", PATIENCE, |line| line.contains("NodeLabelled"))?;
    let mut late = cluster.watch(&["node", "list", "--watch"])?;
    late.expect("a new watch begins", PATIENCE, |line| line.contains("board-2"))?;
    // a watch that is closed frees its place, and so do those of a connection that breaks
    let status = cluster.json(&["status", "-o", "json"])?;
    assert_eq!(status["watchers"], WATCHES_OF_ONE_CALLER + 2, "{status}");
    drop(watches);
    drop(clients);
    cluster
        .wait("the places are free", |c| Ok(c.json(&["status", "-o", "json"])?["watchers"] == 2))?;
    let again = runtime.block_on(async {
        let mut client = connect(&eve, &address).await;
        watch(&mut client, 4).await.open
    });
    assert_eq!(again, 4);
    runtime.shutdown_timeout(Duration::from_secs(1));
    nobody_noticed(&mut cluster)
}
