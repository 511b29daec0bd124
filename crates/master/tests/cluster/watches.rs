//! Watches: snapshot, resume, and what a watcher is told that came too late.

use piccolo_rpc::v1::{
    self, watch_events_response::Item as EventItem, watch_nodes_response::Item as NodeItem,
};
use tonic::Streaming;

use crate::{
    harness::{Cluster, PATIENCE, refused},
    people::user_for,
    rest::Watch,
};

async fn next<T>(watch: &mut Streaming<T>) -> T {
    tokio::time::timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap()
}

async fn watch_nodes(
    cluster: &Cluster,
    filter: &str,
    from_revision: u64,
) -> Streaming<v1::WatchNodesResponse> {
    let request = v1::WatchNodesRequest { filter: Some(filter.to_owned()), from_revision };
    cluster.admin().await.watch_nodes(request).await.unwrap().into_inner()
}

async fn label(cluster: &Cluster, id: &str, site: &str) {
    let set = [("site".to_owned(), site.to_owned())].into();
    let request = v1::LabelNodeRequest { node_id: id.to_owned(), set, remove: vec![] };
    cluster.admin().await.label_node(request).await.unwrap();
}

#[tokio::test]
async fn a_watch_from_the_revision_of_a_list_misses_nothing() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let mut admin = cluster.admin().await;
    let listed = admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner();
    label(&cluster, "n1", "a").await;
    label(&cluster, "n1", "b").await;
    let mut watch = watch_nodes(&cluster, "", listed.revision).await;
    for site in ["a", "b"] {
        let change = next(&mut watch).await;
        assert!(change.revision > listed.revision);
        let Some(NodeItem::Changed(node)) = change.item else { panic!("{change:?}") };
        assert_eq!(node.labels["site"], site);
    }
    let remove = v1::RemoveNodeRequest { node_id: "n1".to_owned() };
    admin.remove_node(remove).await.unwrap();
    loop {
        if let Some(NodeItem::Removed(id)) = next(&mut watch).await.item {
            assert_eq!(id, "n1");
            break;
        }
    }
}

#[tokio::test]
async fn a_filter_shows_what_enters_and_what_leaves_it() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let mut watch = watch_nodes(&cluster, "label.site=seoul", 0).await;
    assert!(matches!(next(&mut watch).await.item, Some(NodeItem::SnapshotBegin(_))));
    assert!(matches!(next(&mut watch).await.item, Some(NodeItem::SnapshotEnd(_))));
    label(&cluster, "n1", "seoul").await;
    assert!(matches!(next(&mut watch).await.item, Some(NodeItem::Changed(n)) if n.id == "n1"));
    label(&cluster, "n1", "busan").await;
    assert!(matches!(next(&mut watch).await.item, Some(NodeItem::Removed(id)) if id == "n1"));
}

#[tokio::test]
async fn a_watcher_from_before_a_restart_begins_again_and_is_told_so() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let mut admin = cluster.admin().await;
    let listed = admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner();
    drop(admin);
    let cluster = cluster.restart().await;
    let mut watch = watch_nodes(&cluster, "", listed.revision).await;
    let begin = next(&mut watch).await;
    let Some(NodeItem::SnapshotBegin(begin)) = begin.item else { panic!("{begin:?}") };
    assert_eq!(begin.reason, "the revision is no longer kept");
    assert!(matches!(next(&mut watch).await.item, Some(NodeItem::Changed(n)) if n.id == "n1"));
    let end = next(&mut watch).await;
    assert!(matches!(end.item, Some(NodeItem::SnapshotEnd(_))));
    assert!(end.revision > listed.revision, "revisions grow over restarts");
}

async fn watch_events(
    cluster: &Cluster,
    change: impl FnOnce(&mut v1::WatchEventsRequest),
) -> Streaming<v1::WatchEventsResponse> {
    let mut request = v1::WatchEventsRequest::default();
    change(&mut request);
    cluster.admin().await.watch_events(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn events_are_watched_from_the_store_and_then_as_they_happen() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let cluster = cluster.restart().await;
    let listed = cluster.events().await;
    let mut watch = watch_events(&cluster, |_| {}).await;
    let mut ids = Vec::new();
    for _ in &listed {
        let Some(EventItem::Event(event)) = next(&mut watch).await.item else { panic!() };
        ids.push(event.id);
    }
    assert_eq!(ids, listed.iter().map(|event| event.id).collect::<Vec<_>>());
    label(&cluster, "n1", "x").await;
    let Some(EventItem::Event(event)) = next(&mut watch).await.item else { panic!() };
    assert_eq!((event.kind.as_str(), event.id), ("NodeLabelled", listed.len() as u64 + 1));

    let mut of_node = watch_events(&cluster, |w| {
        w.node = "HOST-n1".to_owned();
        w.after_id = 1;
    })
    .await;
    let Some(EventItem::Event(event)) = next(&mut of_node).await.item else { panic!() };
    assert_eq!((event.kind.as_str(), event.node_id.as_str()), ("NodeRegistered", "n1"));
}

#[tokio::test]
async fn a_watcher_is_told_which_events_are_no_longer_kept() {
    let cluster = Cluster::start_with(|config| config.events_max = 100).await;
    cluster.join("n1").await;
    for i in 0..150 {
        label(&cluster, "n1", &i.to_string()).await;
    }
    let cluster = cluster.restart().await;
    let mut watch = watch_events(&cluster, |w| w.after_id = 1).await;
    let Some(EventItem::Missed(missed)) = next(&mut watch).await.item else { panic!() };
    let Some(EventItem::Event(event)) = next(&mut watch).await.item else { panic!() };
    assert_eq!((missed.first_id, missed.last_id + 1), (2, event.id));
    let mut admin = cluster.admin().await;
    let newest = v1::ListEventsRequest { limit: 3, newest: true, ..Default::default() };
    let listed = admin.list_events(newest).await.unwrap().into_inner();
    let ids: Vec<_> = listed.events.iter().map(|event| event.id).collect();
    assert_eq!(ids, [listed.last_id - 2, listed.last_id - 1, listed.last_id]);
    assert_eq!(listed.first_kept_id, event.id);
}

#[tokio::test]
async fn a_stopping_master_ends_every_watch_with_its_reason() {
    let cluster = Cluster::start().await;
    let mut watch = watch_events(&cluster, |w| w.from_now = true).await;
    let stopped = tokio::spawn(cluster.master.stop());
    let status = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap().unwrap_err();
    let view = piccolo_rpc::status::ErrorView::from(&status);
    assert_eq!((view.code, view.reason.as_str()), (tonic::Code::Unavailable, "Stopping"));
    drop(watch);
    tokio::time::timeout(PATIENCE, stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn there_is_room_for_so_many_watchers_and_no_more() {
    let cluster = Cluster::start().await;
    let mut watches = Vec::new();
    // one caller has a quarter of the places
    for name in ["a", "b", "c", "d"] {
        let identity = crate::people::user(&cluster, name, v1::UserRole::Viewer).await;
        let mut user = cluster.user(&identity).await;
        for _ in 0..64 {
            let request = v1::WatchNodesRequest::default();
            watches.push(user.watch_nodes(request).await.unwrap().into_inner());
        }
        // on another connection: one alone carries no more than 64 streams
        let mut user = cluster.user(&identity).await;
        let answer = user.watch_events(v1::WatchEventsRequest::default()).await;
        let view = crate::harness::refused(answer.map(drop));
        assert_eq!(view.reason, "TooManyWatchers");
        assert!(view.message.contains(name), "{view:?}");
    }
    let mut user = cluster.admin().await;
    let answer = user.watch_nodes(v1::WatchNodesRequest::default()).await;
    let view = crate::harness::refused(answer.map(drop));
    assert_eq!(view.reason, "TooManyWatchers");
    drop(watches);
    crate::harness::eventually("all have gone", async || {
        user.watch_nodes(v1::WatchNodesRequest::default()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_watch_ends_with_the_certificate_that_it_was_opened_with_and_says_so() {
    let cluster = Cluster::start().await;
    cluster.join("n1").await;
    let mut lasting = watch_nodes(&cluster, "label.site=seoul", 0).await;
    assert!(matches!(next(&mut lasting).await.item, Some(NodeItem::SnapshotBegin(_))));
    assert!(matches!(next(&mut lasting).await.item, Some(NodeItem::SnapshotEnd(_))));
    // on a slow machine it may be over before it is used
    let mut seconds = 2;
    let (mut by_grpc, mut by_rest) = loop {
        let name = format!("vera-{seconds}");
        let vera = user_for(&cluster, &name, v1::UserRole::Viewer, seconds).await;
        let request = v1::WatchEventsRequest { from_now: true, ..Default::default() };
        let watch = cluster.user(&vera).await.watch_events(request).await;
        let mut by_rest = Watch::open(&cluster, &vera, "/api/v1/watch/nodes", "").await;
        match watch {
            Ok(watch) if by_rest.begins().await => break (watch.into_inner(), by_rest),
            Ok(_) => {}
            Err(status) => assert_eq!(refused::<()>(Err(status)).reason, "CertificateExpired"),
        }
        seconds *= 2;
    };
    let ended = async {
        loop {
            let message: Result<Option<v1::WatchEventsResponse>, _> = by_grpc.message().await;
            if message.as_ref().is_ok_and(Option::is_some) {
                continue;
            }
            return refused(message);
        }
    };
    let view = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(view.reason, "CertificateExpired");
    let told = loop {
        let (name, _, told) = tokio::time::timeout(PATIENCE, by_rest.next()).await.unwrap();
        if name == "error" {
            break told;
        }
    };
    assert_eq!((&told["reason"], &told["status"]), (&"CertificateExpired".into(), &401.into()));
    label(&cluster, "n1", "seoul").await;
    assert!(matches!(next(&mut lasting).await.item, Some(NodeItem::Changed(n)) if n.id == "n1"));
}
