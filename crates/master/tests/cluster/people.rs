//! What people do: users and roles, topology, nodes, the audit log.

use piccolo_core::{
    model::{AuditEnds, AuditEntry},
    state_manager::keys,
};
use piccolo_rpc::{
    tls::identity::{Identity, PrivateKey},
    v1,
};
use piccolo_store::{EtcdStore, KeyRing, KeyValue, Range, Store, Transaction, testing::Etcd};
use tonic::Code;

use crate::harness::{Admin, Cluster, Session, hello, refused};

/// Makes a user, and gives its identity.
pub(crate) async fn user(cluster: &Cluster, name: &str, role: v1::UserRole) -> Identity {
    user_for(cluster, name, role, 0).await
}

/// The same for so many seconds; 0: for a year.
pub(crate) async fn user_for(
    cluster: &Cluster,
    name: &str,
    role: v1::UserRole,
    ttl_seconds: u32,
) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let request = v1::CreateUserRequest {
        name: name.to_owned(),
        role: role.into(),
        ttl_seconds,
        certificate_signing_request: key.signing_request().unwrap(),
    };
    let answer = cluster.admin().await.create_user(request).await.unwrap().into_inner();
    Identity::from_issued(key, &String::from_utf8(answer.certificate).unwrap()).unwrap()
}

#[tokio::test]
async fn a_role_may_do_what_the_table_says_and_refusals_are_audited() {
    let cluster = Cluster::start().await;
    let node = cluster.join("n1").await;
    let viewer = user(&cluster, "vera", v1::UserRole::Viewer).await;
    let operator = user(&cluster, "otto", v1::UserRole::Operator).await;
    let mut as_viewer = cluster.user(&viewer).await;
    let mut as_operator = cluster.user(&operator).await;
    as_viewer.get_nodes(v1::GetNodesRequest::default()).await.unwrap();
    let token = v1::CreateTokenRequest { role: v1::NodeRole::Sub.into(), ..Default::default() };
    for client in [&mut as_viewer, &mut as_operator] {
        let view = refused(client.create_token(token.clone()).await);
        assert_eq!((view.code, view.reason.as_str()), (Code::PermissionDenied, "RoleNotAllowed"));
    }
    let label = |value: &str| v1::LabelNodeRequest {
        node_id: "n1".to_owned(),
        set: [("site".to_owned(), value.to_owned())].into(),
        remove: vec![],
    };
    as_operator.label_node(label("seoul")).await.unwrap();
    refused(as_viewer.label_node(label("busan")).await);
    assert_eq!(cluster.node("n1").await.labels["site"], "seoul");
    let mut as_node = cluster.user(&node).await;
    let view = refused(as_node.get_nodes(v1::GetNodesRequest::default()).await);
    assert_eq!(view.reason, "RoleNotAllowed");

    // refusals are written by and by, and nobody waits for that
    cluster.audited(|entry| entry.who == "sub:n1" && entry.call == "GetNodes").await;
    let audit = cluster.audit().await;
    let of = |who: &str, call: &str| {
        let entry = audit.iter().find(|e| e.who == who && e.call == call);
        entry.unwrap_or_else(|| panic!("{who} {call}: {audit:?}")).clone()
    };
    assert!(of("viewer:vera", "CreateToken").outcome.starts_with("refused: RoleNotAllowed"));
    assert!(of("sub:n1", "GetNodes").outcome.starts_with("refused"));
    assert_eq!(of("operator:otto", "LabelNode").outcome, "ok");
    assert_eq!(of("operator:otto", "LabelNode").from, "127.0.0.1");
}

#[tokio::test]
async fn a_stranger_may_ask_for_nothing_but_to_join() {
    let cluster = Cluster::start().await;
    let token = cluster.token(|_| {}).await;
    let mut stranger = cluster.stranger(&token).await;
    let beat = v1::HeartbeatRequest { node_id: "n1".to_owned(), sent_at: None };
    let view = refused(stranger.heartbeat(beat).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::Unauthenticated, "CertificateRequired"));
    assert!(Session::silent(&mut stranger).await.is_err());
}

#[tokio::test]
async fn the_topology_goes_round_and_every_node_confirms_it() {
    let cluster = Cluster::start().await;
    let mut session = cluster.ready("n1").await;
    let mut admin = cluster.admin().await;
    let get = async |admin: &mut Admin| {
        admin.get_topology(v1::GetTopologyRequest {}).await.unwrap().into_inner().topology.unwrap()
    };
    let mut topology = get(&mut admin).await;
    assert_eq!((topology.generation, topology.applied_by, topology.sub_nodes.len()), (1, 1, 1));
    topology.config.insert("heartbeat_interval_seconds".to_owned(), "7".to_owned());
    let update = v1::UpdateTopologyRequest { topology: Some(topology.clone()) };
    let answer = admin.update_topology(update.clone()).await.unwrap().into_inner();
    assert!(answer.success);
    assert_eq!(answer.updated_topology.unwrap().generation, 2);
    let view = refused(admin.update_topology(update).await);
    assert_eq!((view.code, view.reason.as_str()), (Code::Aborted, "GenerationOutdated"));

    session.configure().await;
    crate::harness::eventually("the node has confirmed it", async || {
        get(&mut admin).await.applied_by == 1
    })
    .await;
    topology.generation = 0;
    topology.r#type = v1::TopologyType::GeoDistributed.into();
    let update = v1::UpdateTopologyRequest { topology: Some(topology) };
    assert_eq!(
        refused(admin.update_topology(update).await).field.as_deref(),
        Some("topology.type")
    );
}

#[tokio::test]
async fn a_filter_selects_and_a_bad_one_names_the_place() {
    let cluster = Cluster::start().await;
    for id in ["n1", "n2", "n3"] {
        cluster.join(id).await;
    }
    let mut admin = cluster.admin().await;
    let mut nodes = async |filter: &str| {
        let request = v1::GetNodesRequest { filter: Some(filter.to_owned()), at: None };
        let answer = admin.get_nodes(request).await.map(tonic::Response::into_inner);
        answer.map(|answer| answer.nodes.into_iter().map(|node| node.id).collect::<Vec<_>>())
    };
    assert_eq!(nodes("name~n2").await.unwrap(), ["n2"]);
    assert_eq!(nodes("role=sub,id!=n2").await.unwrap(), ["n1", "n3"]);
    assert_eq!(nodes("status=Ready").await.unwrap(), [""; 0]);
    let view = refused(nodes("role=sub,hue=red").await);
    assert_eq!((view.code, view.field.as_deref()), (Code::InvalidArgument, Some("filter")));
    assert!(view.message.contains("column 10"), "{}", view.message);
}

#[tokio::test]
async fn maintenance_is_an_operators_word() {
    let cluster = Cluster::start().await;
    let _session = cluster.ready("n1").await;
    let mut admin = cluster.admin().await;
    let mut set = async |on| {
        let reason = "new disk".to_owned();
        let request = v1::SetMaintenanceRequest { node_id: "n1".to_owned(), on, reason };
        admin.set_maintenance(request).await.map(|answer| answer.into_inner().node.unwrap())
    };
    assert_eq!(set(true).await.unwrap().status(), v1::NodeStatus::Maintenance);
    assert_eq!(refused(set(true).await).reason, "WrongStatus");
    assert_eq!(set(false).await.unwrap().status(), v1::NodeStatus::Ready);
}

#[tokio::test]
async fn the_figures_of_the_cluster_are_shown() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let mut agent = cluster.agent(&identity).await;
    let _session = Session::open(&mut agent, hello("n1")).await;
    let mut admin = cluster.admin().await;
    crate::harness::eventually("the session is counted", async || {
        let request = v1::GetClusterStatusRequest {};
        let status = admin.get_cluster_status(request).await.unwrap().into_inner();
        assert_eq!((status.store_kind.as_str(), status.store_health.as_str()), ("embedded", "ok"));
        assert_eq!(status.nodes_by_status["Initializing"], 1);
        assert!(status.store_size_bytes > 0 && status.ca_expires_at.is_some());
        assert_eq!(status.master_address, cluster.address());
        status.sessions == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_chain_shows_what_was_changed_or_cut_off() {
    let etcd = Etcd::start();
    let cluster = Cluster::start_with(|config| config.store = crate::stores::in_etcd(&etcd)).await;
    cluster.join("n1").await;
    let verify = async || {
        let request = v1::VerifyAuditRequest {};
        cluster.admin().await.verify_audit(request).await.unwrap().into_inner()
    };
    let whole = verify().await;
    assert!(whole.intact && whole.entries >= 3, "{whole:?}");

    // somebody with access to the store, past the master
    let store = EtcdStore::new(etcd.options("intruder")).unwrap();
    let page = store.range(&Range::prefix(keys::AUDIT)).await.unwrap();
    let second: AuditEntry = keys::decode(&page.items[1].key, &page.items[1].value).unwrap();
    let put =
        |entry: &AuditEntry| Transaction::new().put(keys::audit(entry.id), keys::encode(entry));
    let mut forged = AuditEntry { who: "nobody".to_owned(), ..second.clone() };
    store.txn(&put(&forged)).await.unwrap();
    let found = verify().await;
    assert!(!found.intact && found.first_bad_id == 2, "{found:?}");
    forged.hash = forged.expected_hash();
    store.txn(&put(&forged)).await.unwrap();
    let found = verify().await;
    assert!(
        !found.intact && found.first_bad_id == 3,
        "a right hash breaks the next link: {found:?}"
    );
    store.txn(&put(&second)).await.unwrap();
    assert!(verify().await.intact);

    let last = page.items.last().unwrap().key.clone();
    store.txn(&Transaction::new().delete(last)).await.unwrap();
    let found = verify().await;
    assert!(!found.intact && found.message.contains("cut off at the end"), "{found:?}");
}

/// While the master is stopped it knows nothing: its record of the ends has to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_off_the_audit_log_while_the_master_is_stopped_shows_after_its_start() {
    let etcd = Etcd::start();
    let mut cluster =
        Cluster::start_with(|config| config.store = crate::stores::in_etcd(&etcd)).await;
    for _ in 0..4 {
        cluster.token(|_| {}).await;
    }
    let store = EtcdStore::new(etcd.options("intruder")).unwrap();
    let page = store.range(&Range::prefix(keys::AUDIT)).await.unwrap().items;
    let (first, last) = (&page[0], page.last().unwrap());
    let mut forged: AuditEntry = keys::decode(&last.key, &last.value).unwrap();
    (forged.id, forged.previous_hash) = (forged.id + 1, forged.hash.clone());
    forged.hash = forged.expected_hash();
    let added = keys::audit(forged.id);
    let delete = |key: &str| Transaction::new().delete(key);
    let put_back = |item: &KeyValue| Transaction::new().put(&item.key, item.value.clone());
    for (tamper, mend, says) in [
        (delete(&last.key), put_back(last), "cut off at the end"),
        (delete(&first.key), put_back(first), "cut off at the beginning"),
        (
            Transaction::new().put(&added, keys::encode(&forged)),
            delete(&added),
            "was not written by this master",
        ),
    ] {
        for (change, problem) in [(tamper, Some(says)), (mend, None)] {
            store.txn(&change).await.unwrap();
            cluster = cluster.restart_elsewhere().await;
            let request = v1::VerifyAuditRequest {};
            let found = cluster.admin().await.verify_audit(request).await.unwrap().into_inner();
            assert_eq!(found.intact, problem.is_none(), "{found:?}");
            assert!(found.message.contains(problem.unwrap_or("each links")), "{found:?}");
        }
    }

    // nor can the record be written without the key that seals it
    let ends = AuditEnds { first: 1, last: 0, last_hash: String::new(), since: 1 };
    let folder = tempfile::tempdir().unwrap();
    let another_key = KeyRing::create(&folder.path().join("seal.key")).unwrap();
    let sealed = another_key.seal(keys::AUDIT_ENDS, &keys::encode(&ends)).unwrap();
    let forge = Transaction::new().put(keys::AUDIT_ENDS, sealed);
    store.txn(&forge).await.unwrap();
    let error = cluster.stop_and_start_in_vain().await;
    assert!(error.contains("sealed value /piccolo/v1/sealed/audit"), "{error}");
}

#[tokio::test]
async fn the_log_level_changes_while_it_runs() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.admin().await;
    let mut set_for = async |target: &str, filter: &str, for_seconds: u32| {
        let (target, filter) = (target.to_owned(), filter.to_owned());
        let request = v1::SetLogLevelRequest { target, filter, for_seconds };
        admin.set_log_level(request).await.map(|answer| answer.into_inner().message)
    };
    let message = set_for("master", "debug", 600).await.unwrap();
    assert_eq!(message, "the master logs debug for 600 s");
    let mut set = async |target: &str, filter: &str| set_for(target, filter, 0).await;
    assert!(set("master", "info,piccolo_master=debug").await.unwrap().contains("debug"));
    // a word that is no level must not end all logging
    for typo in ["loud=shout=3", "blah", "info,blah"] {
        let view = refused(set("master", typo).await);
        assert_eq!((view.code, view.field.as_deref()), (Code::InvalidArgument, Some("filter")));
    }
    assert_eq!(refused(set("ghost", "info").await).reason, "NoSuchNode");
    cluster.join("n1").await;
    assert_eq!(refused(set("n1", "info").await).reason, "NotConnected");
    let request = v1::ListAuditRequest { limit: 1000, ..Default::default() };
    let audit = admin.list_audit(request).await.unwrap().into_inner().entries;
    let levels = audit.iter().filter(|entry| entry.call == "SetLogLevel");
    let first = levels.map(|entry| entry.target.as_str()).next();
    assert_eq!(first, Some("master debug for 600 s"));
}

#[tokio::test]
async fn health_is_open_and_reflection_is_for_readers() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let cluster = Cluster::start().await;
    let token = cluster.token(|_| {}).await;
    let stranger = cluster.strange_channel(&token).await;
    let service = "piccolo.v1.NodeAgentService".to_owned();
    let health = HealthClient::new(stranger.clone()).check(HealthCheckRequest { service }).await;
    assert_eq!(health.unwrap().into_inner().status, 1);

    let list = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        tokio_stream::once(request)
    };
    let answer = ServerReflectionClient::new(stranger).server_reflection_info(list()).await;
    assert_eq!(refused(answer).reason, "CertificateRequired");
    let admin = cluster.channel(&cluster.admin_identity()).await;
    let answer = ServerReflectionClient::new(admin).server_reflection_info(list()).await;
    let answer = answer.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"piccolo.v1.ApiServerService"), "{names:?}");
}
