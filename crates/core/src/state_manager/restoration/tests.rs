//! Masters that were set back, and who comes to them.

use super::super::fixtures::{Cluster, admin, at, registration, sub};
use super::super::{Answer, Effect, Input, Request, Settings};
use super::*;
use crate::{
    model::{AuditEntry, SessionId, verify_chain},
    session::ToAgent,
    topology::TopologyType,
};

/// Now and here, when the backup was made, and when it was restored: milliseconds.
const BACKUP: u64 = 1_700_000_000_000;
const RESTORE: u64 = 1_700_100_000_000;

/// A cluster with the node n1, and what a backup of it holds.
fn backed_up(settings: Settings) -> (Cluster, std::collections::BTreeMap<String, Vec<u8>>) {
    let mut cluster = Cluster::new(settings);
    let hash = cluster.token(10, 5, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    let backup = cluster.store.clone();
    (cluster, backup)
}

fn restore(
    cluster: &mut Cluster,
    mut backup: std::collections::BTreeMap<String, Vec<u8>>,
    settings: Settings,
) {
    backup.retain(|key, _| is_restored(key));
    let wall = |ms| WallTime(i64::try_from(ms).unwrap());
    let restoration = Restoration::from_backup(wall(BACKUP), wall(RESTORE), None);
    backup.insert(keys::RESTORATION.to_owned(), keys::encode(&restoration));
    cluster.store = backup;
    cluster.restart(settings, RESTORE);
}

fn update(cluster: &mut Cluster, ms: u64) -> u64 {
    let record = cluster.machine.topology.clone();
    let update = crate::topology::TopologyUpdate {
        id: String::new(),
        name: record.name.to_string(),
        kind: TopologyType::BasicEmbedded,
        parent_cluster: String::new(),
        config: [("at".to_owned(), ms.to_string())].into(),
        generation: 0,
        members: Vec::new(),
    };
    cluster.ask(ms, admin(), Request::UpdateTopology(update)).unwrap();
    cluster.machine.topology.generation
}

fn with_key(node: &str, key: &str, valid_from: u64) -> Caller {
    let valid_from = WallTime(i64::try_from(valid_from).unwrap());
    Caller { key_fingerprint: key.to_owned(), valid_from, ..sub(node) }
}

fn open_as(cluster: &mut Cluster, by: Caller, applied_generation: u64) -> Vec<Effect> {
    let hello = Hello { applied_generation, ..Cluster::hello(&by.id) };
    let session = SessionId::new("after");
    cluster.input(RESTORE + 1000, Input::SessionOpened { by, session, hello: Box::new(hello) })
}

fn config_sent(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { message: ToAgent::Config { generation, .. }, .. } => Some(*generation),
        _ => None,
    })
}

fn dismissed(effects: &[Effect]) -> Option<&str> {
    effects.iter().find_map(|effect| match effect {
        Effect::Close { goodbye, .. } => Some(goodbye.message.as_str()),
        _ => None,
    })
}

#[test]
fn a_node_that_confirmed_more_than_the_backup_knows_takes_what_was_restored() {
    let (mut cluster, backup) = backed_up(Settings::default());
    let lost = (0..5).map(|i| update(&mut cluster, 100 + i)).last().unwrap();
    restore(&mut cluster, backup, Settings::default());
    let by = with_key("n1", "key-n1", 0);
    let sent = config_sent(&open_as(&mut cluster, by, lost)).unwrap();
    assert!(sent > lost, "{sent} after {lost}");
    // and what is decided from now on is newer still
    assert!(update(&mut cluster, RESTORE + 2000) > sent);
}

#[test]
fn no_number_that_the_lost_master_gave_out_comes_again_even_if_one_backup_is_restored_twice() {
    let (mut cluster, backup) = backed_up(Settings::default());
    let numbers = |cluster: &Cluster| {
        let machine = &cluster.machine;
        [machine.revision(), machine.topology.generation, machine.events_kept().1]
    };
    let mut before = numbers(&cluster);
    for again in 0..2u64 {
        restore(&mut cluster, backup.clone(), Settings::default());
        if again > 0 {
            // the clock has gone on in between
            let restoration = Restoration::from_backup(
                WallTime(0),
                WallTime(i64::try_from(RESTORE + 60_000).unwrap()),
                None,
            );
            cluster.store.insert(keys::RESTORATION.to_owned(), keys::encode(&restoration));
            cluster.store.retain(|key, _| !key.starts_with(keys::EVENTS));
            cluster.restart(Settings::default(), RESTORE + 60_000);
        }
        let after = numbers(&cluster);
        assert!(before.iter().zip(after).all(|(old, new)| *old < new), "{before:?} {after:?}");
        for i in 0..20 {
            update(&mut cluster, RESTORE + 1000 + i);
        }
        before = numbers(&cluster);
    }
}

#[test]
fn a_key_that_was_renewed_since_the_backup_is_believed_and_then_only_a_newer_one() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    let renewed = with_key("n1", "renewed", BACKUP + 5000);
    assert_eq!(dismissed(&open_as(&mut cluster, renewed.clone(), 1)), None);
    assert!(cluster.machine.standing(&renewed).is_ok());
    // somebody else with an older one
    let other = with_key("n1", "other", BACKUP + 4000);
    assert!(cluster.machine.standing(&other).is_err());
    cluster.restart(Settings::default(), RESTORE + 9000);
    assert!(cluster.machine.standing(&renewed).is_ok());
    assert!(cluster.machine.standing(&other).is_err(), "nor after a restart");
    // the lost master had renewed it once more, and it has come to the node's disk by now
    let newest = with_key("n1", "newest", BACKUP + 6000);
    assert_eq!(dismissed(&open_as(&mut cluster, newest.clone(), 1)), None);
    assert!(cluster.machine.standing(&newest).is_ok());
    let later = with_key("n1", "later", RESTORE + 20);
    assert!(cluster.machine.standing(&later).is_err(), "the lost master was gone by then");
    cluster.ask(RESTORE + 9500, admin(), Request::RemoveNode("n1".to_owned())).unwrap();
    let gone = cluster.machine.handle_deadline(at(RESTORE + 90_000));
    cluster.perform(&gone);
    let newer = with_key("n1", "newer", BACKUP + 7000);
    assert!(cluster.machine.standing(&newer).is_err(), "it was removed");
}

#[test]
fn what_an_earlier_version_stored_of_who_came_is_read() {
    let met: Met = keys::decode("settled", b"17").unwrap();
    assert_eq!(met, Met { restored_at: WallTime(17), came_with: None });
    let met = Met { came_with: Some(WallTime(3)), ..met };
    assert_eq!(keys::decode::<Met>("settled", &keys::encode(&met)).unwrap(), met);
}

#[test]
fn a_board_whose_certificate_never_came_joins_with_another_token_and_the_same_key() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 5, None);
    cluster.join(20, "n1", &hash).unwrap();
    let backup = cluster.store.clone();
    restore(&mut cluster, backup, Settings::default());
    // its own is not known any more, but it is a repetition; people may have given it a new one by then
    cluster.join(RESTORE + 100, "n1", &hash).unwrap();
    let other = cluster.token(RESTORE + 200, 1, None);
    cluster.join(RESTORE + 300, "n1", &other).unwrap();
    assert_eq!(cluster.machine.nodes().next().unwrap().record.joined_with, other);
    // with another key it is somebody else
    let third = cluster.token(RESTORE + 400, 1, None);
    let clone = Registration { key_fingerprint: "clone".to_owned(), ..registration("n1", &third) };
    let by = Caller::anonymous("10.0.0.1");
    let request = Request::Register(Box::new(clone));
    let refusal = cluster.ask(RESTORE + 500, by, request).unwrap_err();
    assert_eq!(refusal.reason, "DuplicateIdentity");
}

/// A backup of a master that was restored, before all its nodes have come to it.
#[test]
fn who_has_not_come_to_a_restored_master_yet_is_believed_by_one_restored_from_it() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    let joined = |node: &str| with_key(node, "since", BACKUP + 5000);
    assert_eq!(dismissed(&open_as(&mut cluster, joined("n2"), 1)), None);
    cluster.ask(RESTORE + 1500, admin(), Request::RemoveNode("n2".to_owned())).unwrap();
    let gone = cluster.machine.handle_deadline(at(RESTORE + 60_000));
    cluster.perform(&gone);
    assert_eq!(cluster.status("n2"), None);

    let wall = |ms: u64| WallTime(i64::try_from(ms).unwrap());
    let earlier = cluster.machine.restoration().cloned();
    let (made, restored) = (wall(RESTORE + 70_000), wall(RESTORE + 90_000));
    let second = Restoration::from_backup(made, restored, earlier);
    cluster.store.retain(|key, _| is_restored(key));
    cluster.store.insert(keys::RESTORATION.to_owned(), keys::encode(&second));
    cluster.restart(Settings::default(), RESTORE + 90_000);
    for (node, key, known) in [("n1", "since", true), ("n3", "since", true), ("n2", "since", false)]
    {
        let by = with_key(node, key, BACKUP + 5000);
        assert_eq!(cluster.machine.standing(&by).is_ok(), known, "{node}");
    }
    // the third is from a backup of the first, made before n1 came to the second: its renewal in there is believed
    let third = Restoration::from_backup(made, wall(RESTORE + 99_000), Some(second));
    cluster.store.insert(keys::RESTORATION.to_owned(), keys::encode(&third));
    cluster.restart(Settings::default(), RESTORE + 99_000);
    assert!(cluster.machine.standing(&with_key("n1", "since", BACKUP + 5000)).is_ok());
    // removed since, in what was lost: it is back
    let by = with_key("n2", "since", RESTORE + 80_000);
    assert!(cluster.machine.standing(&by).is_ok());
}

#[test]
fn a_certificate_from_before_the_backup_or_after_the_restore_is_not_believed() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    for (node, valid_from, known) in [
        ("removed-before", BACKUP - 600_000, false),
        ("removed-before", BACKUP - 301_001, false),
        // within the very second of the backup
        ("joined-since", BACKUP - 301_000, true),
        ("joined-since", RESTORE, true),
        ("from-the-future", RESTORE + 1, false),
    ] {
        let by = with_key(node, "key", valid_from);
        assert_eq!(cluster.machine.standing(&by).is_ok(), known, "{node}");
        let by = Caller { expired: true, ..by };
        assert!(cluster.machine.standing(&by).is_err(), "{node}, expired");
    }
}

#[test]
fn a_node_that_joined_since_is_taken_in_and_stays_out_once_it_was_removed() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    let by = with_key("n2", "key-n2", BACKUP + 5000);
    let effects = open_as(&mut cluster, by.clone(), 9);
    assert_eq!(dismissed(&effects), None);
    let sent = config_sent(&effects).unwrap();
    let session = SessionId::new("after");
    let applied = crate::session::ToMaster::ConfigApplied { generation: sent, rejected: None };
    let node = NodeId::parse("node", "n2").unwrap();
    let _ = cluster.input(RESTORE + 1100, Input::FromAgent { node, session, message: applied });
    assert_eq!(cluster.status("n2"), Some(NodeStatus::Ready));
    cluster.ask(RESTORE + 1200, admin(), Request::RemoveNode("n2".to_owned())).unwrap();
    let effects = cluster.machine.handle_deadline(at(RESTORE + 60_000));
    cluster.perform(&effects);
    assert_eq!(cluster.status("n2"), None);
    assert!(dismissed(&open_as(&mut cluster, by, 9)).is_some());
}

#[test]
fn a_name_that_is_taken_is_not_taken_over_by_a_certificate() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    let by = with_key("n2", "key-n2", BACKUP + 5000);
    let hello = Hello { hostname: "n1".to_owned(), ..Cluster::hello("n2") };
    let session = SessionId::new("after");
    let effects =
        cluster.input(RESTORE + 1000, Input::SessionOpened { by, session, hello: Box::new(hello) });
    assert!(dismissed(&effects).unwrap().contains("is the name of node n1 already"));
    assert_eq!(cluster.status("n2"), None);
}

#[test]
fn a_name_that_people_set_free_is_taken_over_with_its_labels() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    let set = Labels::from([("site".to_owned(), "north".to_owned())]);
    let label = Request::LabelNode { node: "n1".to_owned(), set, remove: Vec::new() };
    cluster.ask(RESTORE + 100, admin(), label).unwrap();
    let free = Request::ResetNodeIdentity("n1".to_owned());
    cluster.ask(RESTORE + 200, admin(), free).unwrap();
    let by = with_key("n2", "key-n2", BACKUP + 5000);
    let hello = Hello { hostname: "n1".to_owned(), ..Cluster::hello("n2") };
    let session = SessionId::new("after");
    let effects =
        cluster.input(RESTORE + 1000, Input::SessionOpened { by, session, hello: Box::new(hello) });
    assert_eq!(dismissed(&effects), None);
    assert_eq!(cluster.status("n1"), None, "the old identity");
    let view = cluster.machine.nodes().next().unwrap();
    assert_eq!(view.record.name.to_string(), "n1");
    assert_eq!(view.record.labels.get("site").map(String::as_str), Some("north"));
}

#[test]
fn what_an_adopted_node_had_to_drop_is_told_to_the_log_that_lost_it() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    let by = with_key("n2", "key-n2", BACKUP + 5000);
    let hello = Hello { events_dropped: 7, ..Cluster::hello("n2") };
    let session = SessionId::new("after");
    let effects =
        cluster.input(RESTORE + 1000, Input::SessionOpened { by, session, hello: Box::new(hello) });
    let told = effects.iter().find_map(|effect| match effect {
        Effect::Happened(event) if event.kind == EventKind::EventsDropped => {
            event.fields.get("count").cloned()
        }
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("7"));
}

#[test]
fn a_client_without_sessions_is_told_to_register_again_and_is_taken_in_when_it_does() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    let by = with_key("n2", "key-n2", BACKUP + 5000);
    let heartbeat = || Request::Heartbeat { node: "n2".to_owned() };
    let refusal = cluster.ask(RESTORE + 100, by.clone(), heartbeat()).unwrap_err();
    assert_eq!((refusal.code, refusal.reason), (Code::FailedPrecondition, "RegisterAgain"));
    assert!(refusal.help.unwrap().contains("RegisterNode"));
    let again = Registration {
        token_hash: None,
        labels: Labels::from([("site".to_owned(), "north".to_owned())]),
        ..registration("n2", "")
    };
    let again = || Request::Register(Box::new(again.clone()));
    let answer = cluster.ask(RESTORE + 200, by.clone(), again()).unwrap();
    let Answer::Registered(registered) = answer else { panic!("{answer:?}") };
    assert!(registered.certificate_until.is_some());
    let view = cluster.machine.nodes().find(|view| view.record.id.as_str() == "n2").unwrap();
    assert!(view.record.labels.contains_key("site"), "what it says of itself");
    cluster.ask(RESTORE + 300, by.clone(), heartbeat()).unwrap();
    // by its record from now on: an older certificate of that time is not believed
    let other = with_key("n2", "other", BACKUP + 4000);
    assert!(cluster.ask(RESTORE + 400, other, heartbeat()).is_err());
    // whoever was removed before the backup is not taken in by this way either
    let removed = with_key("n2", "key-n2", BACKUP - 600_000);
    cluster.ask(RESTORE + 500, admin(), Request::RemoveNode("n2".to_owned())).unwrap();
    let _ = cluster.machine.handle_deadline(at(RESTORE + 60_000));
    assert!(cluster.ask(RESTORE + 61_000, removed, again()).is_err());
    assert!(cluster.ask(RESTORE + 62_000, by, again()).is_err(), "nor who was removed since");
}

#[test]
fn a_unary_call_with_a_renewed_key_takes_it_in_as_a_session_does() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 5, None);
    cluster.join(20, "n1", &hash).unwrap();
    let backup = cluster.store.clone();
    restore(&mut cluster, backup, Settings::default());
    let renewed = with_key("n1", "renewed", BACKUP + 5000);
    let heartbeat = Request::Heartbeat { node: "n1".to_owned() };
    cluster.ask(RESTORE + 100, renewed.clone(), heartbeat).unwrap();
    cluster.restart(Settings::default(), RESTORE + 9000);
    assert!(cluster.machine.standing(&renewed).is_ok(), "stored");
    let other = with_key("n1", "other", BACKUP + 4000);
    assert!(cluster.machine.standing(&other).is_err(), "an older one");
}

/// Programs that read JSON numbers as floating point hold integers exactly below this.
const EXACT: u64 = 1 << 53;

#[test]
fn revisions_are_exact_in_json_and_newer_than_all_before_whatever_the_clock_says() {
    let year = 365 * 86_400_000;
    for restored in [RESTORE, RESTORE + 100 * year, RESTORE + 10_000 * year] {
        let (mut cluster, mut backup) = backed_up(Settings::default());
        for i in 0..50 {
            cluster.restart(Settings::default(), 1000 + i);
            let _ = cluster.open(1100 + i, "n1", "s", None);
        }
        let lost = cluster.machine.revision();
        let wall = WallTime(i64::try_from(restored).unwrap());
        let restoration = Restoration::from_backup(WallTime(0), wall, None);
        backup.retain(|key, _| is_restored(key));
        backup.insert(keys::RESTORATION.to_owned(), keys::encode(&restoration));
        cluster.store = backup;
        for starts in 0..50 {
            // each start reads what the one before has stored
            cluster.restart(Settings::default(), restored + starts);
            let revision = cluster.machine.revision();
            assert!((lost + 1..EXACT - (1 << 50)).contains(&revision), "{revision}");
        }
    }
}

#[test]
fn a_start_that_uses_up_its_revisions_leaves_newer_ones_to_the_next() {
    let (mut cluster, _) = backed_up(Settings::default());
    let begun = cluster.machine.revision();
    cluster.machine.revision = ((cluster.machine.epoch + 1) << keys::EPOCH_BITS) - 2;
    for i in 0..4 {
        let on = i % 2 == 0;
        let reason = String::new();
        let request = Request::SetMaintenance { node: "n1".to_owned(), on, reason };
        cluster.ask(100 + i, admin(), request).unwrap();
    }
    let last = cluster.machine.revision();
    assert!(last > begun + (1 << keys::EPOCH_BITS) - 4, "{last} after {begun}");
    cluster.restart(Settings::default(), 1000);
    assert!(cluster.machine.revision() >= last, "{} after {last}", cluster.machine.revision());
    // and what the next reveals is newer than all
    let _ = cluster.open(1100, "n1", "s2", None);
    assert!(cluster.machine.revision() > last);
}

#[test]
fn a_master_that_asks_people_asks_them_about_adopted_nodes_too() {
    let manual = Settings { approval: Approval::Manual, ..Settings::default() };
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, manual);
    let by = with_key("n2", "key-n2", BACKUP + 5000);
    assert_eq!(dismissed(&open_as(&mut cluster, by.clone(), 9)), Some("waits for approval"));
    cluster.ask(RESTORE + 1500, admin(), Request::ApproveNode("n2".to_owned())).unwrap();
    assert_eq!(dismissed(&open_as(&mut cluster, by, 9)), None);
}

#[test]
fn tokens_are_not_restored_and_the_restore_is_told() {
    let (mut cluster, backup) = backed_up(Settings::default());
    restore(&mut cluster, backup, Settings::default());
    assert!(!cluster.store.keys().any(|key| key.starts_with(keys::TOKENS)));
    // what was revoked since must not be good again
    assert!(!is_restored(&keys::credential("ab")));
    let audit: Vec<AuditEntry> = cluster.audit();
    verify_chain(&audit).unwrap();
    assert_eq!(audit.last().unwrap().call, "Restore");
    let told = |cluster: &Cluster| {
        let events = cluster.store.iter().filter(|(key, _)| key.starts_with(keys::EVENTS));
        let events = events.map(|(key, value)| keys::decode(key, value).unwrap());
        events.filter(|e: &crate::model::Event| e.kind == EventKind::ClusterRestored).count()
    };
    assert_eq!(told(&cluster), 1);
    cluster.restart(Settings::default(), RESTORE + 9000);
    assert_eq!(told(&cluster), 1, "once");
}

#[test]
fn backups_that_fail_are_told_once_for_each_reason_and_once_when_they_are_made_again() {
    let mut cluster = Cluster::new(Settings::default());
    let mut told = Vec::new();
    for failed in ["", "full", "full", "away", "", "", "full"] {
        let failed = Some(failed.to_owned()).filter(|why| !why.is_empty());
        let effects = cluster.input(100, Input::BackupEnded { failed });
        told.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Happened(event) => Some(event.message),
            _ => None,
        }));
    }
    let failed = |why: &str| format!("the backup was not made: {why}");
    let again = "backups are made again".to_owned();
    assert_eq!(told, [failed("full"), failed("away"), again, failed("full")]);
}

#[test]
fn a_master_with_nothing_but_the_authority_takes_every_node_in() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.store.clear();
    let restoration = Restoration::from_authority(WallTime(i64::try_from(RESTORE).unwrap()));
    cluster.store.insert(keys::RESTORATION.to_owned(), keys::encode(&restoration));
    cluster.restart(Settings::default(), RESTORE);
    let by = with_key("n7", "key-n7", 1_600_000_000_000);
    let effects = open_as(&mut cluster, by, 7);
    assert_eq!(dismissed(&effects), None);
    assert!(config_sent(&effects).unwrap() > 7);
}
