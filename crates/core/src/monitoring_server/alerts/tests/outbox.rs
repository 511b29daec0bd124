//! Notifications on their way: tried again, given up, given way.

use super::*;

fn told_of_lost_nodes(per_minute: u32) -> World {
    let mut world = World::new();
    let channel = Channel { per_minute, ..channel("chat") };
    world.ask(0, AlertRequest::ApplyChannels(vec![channel])).unwrap();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    world
}

#[test]
fn a_failing_channel_is_tried_again_ever_less_often_and_keeps_only_its_own_waiting() {
    let mut world = World::new();
    world.ask(0, AlertRequest::ApplyChannels(vec![channel("other")])).unwrap();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    world.seen(10, &node("b1", LOST));
    let by: Vec<_> =
        world.sent.drain(..).map(|(_, sent)| (sent.channel.name, sent.delivery)).collect();
    let names: Vec<_> = by.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["chat", "other"]);
    // "other" never answers; "chat" fails
    let failed = DeliveryError { problem: "503".to_owned(), is_final: false };
    let mut attempts = Vec::new();
    let mut under_way = Some(by[0].1);
    for seconds in 11..80 {
        if let Some(id) = under_way.take() {
            let result = Err(failed.clone());
            world.with(seconds, |alerts, out| alerts.delivered(at(seconds), id, result, out));
        }
        world.deadline(seconds);
        for (seconds, sent) in world.sent.drain(..).filter(|(_, sent)| sent.channel.name == "chat")
        {
            attempts.push(seconds);
            under_way = Some(sent.delivery);
        }
    }
    assert_eq!(attempts, [12, 15, 20, 29, 46, 79]);
}

#[test]
fn what_is_refused_for_good_and_what_is_too_old_are_dead_letters() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    world.seen(10, &node("b1", LOST));
    world.delivered(11, Err("422!"));
    world.seen(20, &node("b2", LOST));
    world.delivered(21, Err("503"));
    world.deadline(86_500);
    let Some(AlertAnswer::Channels { dead_letters, .. }) =
        world.ask(86_501, AlertRequest::ListChannels).unwrap()
    else {
        panic!("channels are listed");
    };
    let why: Vec<_> =
        dead_letters.iter().map(|dead| dead.dead.as_ref().unwrap().why.as_str()).collect();
    assert_eq!(why, ["422", "503"]);
    let extent = OutboxExtent { waiting: 0, dead: 2, given_up: 2, dropped: 0 };
    assert_eq!(world.alerts.outbox_extent(), extent);
    let failed = world.events.iter().filter(|told| told.kind == EventKind::NotificationFailed);
    assert_eq!(failed.count(), 2);
}

#[test]
fn a_channel_has_a_problem_only_while_something_is_to_be_tried_again() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    let problem = |world: &mut World, at| match world.ask(at, AlertRequest::ListChannels).unwrap() {
        Some(AlertAnswer::Channels { channels, .. }) => channels[0].problem.clone(),
        other => panic!("channels are listed: {other:?}"),
    };
    world.seen(10, &node("b1", LOST));
    world.delivered(11, Err("503"));
    assert_eq!(problem(&mut world, 11), "503");
    world.deadline(12);
    world.delivered(13, Err("422!"));
    assert_eq!(problem(&mut world, 13), "", "that one is a dead letter, and said to be");
}

#[test]
fn a_dead_letter_is_sent_again_under_its_key_or_cleared() {
    let mut world = World::new();
    world.apply(rule("Lost", r#"node.status == "NotReady""#));
    let mut keys = Vec::new();
    for (seconds, name) in [(10, "b1"), (90, "b2")] {
        world.seen(seconds, &node(name, LOST));
        keys.push(world.sent.last().unwrap().1.notice.key.clone());
        world.delivered(seconds + 1, Err("422!"));
        world.sent.clear();
    }
    let letters = |world: &mut World| match world.ask(200, AlertRequest::ListChannels).unwrap() {
        Some(AlertAnswer::Channels { dead_letters, .. }) => {
            dead_letters.iter().map(|letter| letter.id).collect::<Vec<_>>()
        }
        other => panic!("channels are listed: {other:?}"),
    };
    let dead = letters(&mut world);
    let [first, second] = dead[..] else { panic!("two: {dead:?}") };
    for (ids, reason) in [
        (vec![], "InvalidField"),
        (vec![first, Id(7)], "NoSuchDeadLetter"),
        ((0..33).map(Id).collect(), "InvalidField"),
    ] {
        let refused = world.ask(201, AlertRequest::ResendDeadLetters(ids.clone())).unwrap_err();
        assert_eq!(refused.reason, reason);
        let refused = world.ask(201, AlertRequest::ClearDeadLetters(ids)).unwrap_err();
        assert_eq!(refused.reason, reason);
    }
    assert_eq!(letters(&mut world), dead, "all or none");

    // long after a notification that nobody sent again would have been given up for its age
    world.ask(200_000, AlertRequest::ResendDeadLetters(vec![first])).unwrap();
    let again: Vec<_> = world.sent.iter().map(|(_, sent)| sent.notice.key.clone()).collect();
    assert_eq!(again, keys[..1]);
    world.deadline(200_001);
    assert_eq!(letters(&mut world), [second]);
    world.delivered(200_002, Ok(()));
    world.ask(200_003, AlertRequest::ClearDeadLetters(vec![second])).unwrap();
    let extent = OutboxExtent { waiting: 0, dead: 0, given_up: 2, dropped: 0 };
    assert_eq!(world.alerts.outbox_extent(), extent);
}

#[test]
fn a_channel_is_told_no_more_than_its_rate_allows_and_a_full_outbox_stays_within_its_bound() {
    let mut world = told_of_lost_nodes(3);
    for number in 0..300 {
        world.seen(10, &node(&format!("b{number}"), LOST));
    }
    let outbox = world.store.keys().filter(|key| key.starts_with(DELIVERIES)).count();
    assert!(outbox <= 201, "{outbox}");
    let extent = world.alerts.outbox_extent();
    assert_eq!((extent.waiting, extent.dropped > 0), (outbox, true), "{extent:?}");
    let mut times = Vec::new();
    for seconds in 10..100 {
        for (seconds, dispatch) in std::mem::take(&mut world.sent) {
            times.push(seconds);
            let id = dispatch.delivery;
            world.with(seconds, |alerts, out| alerts.delivered(at(seconds), id, Ok(()), out));
        }
        world.deadline(seconds);
    }
    assert_eq!(times.iter().filter(|at| **at < 70).count(), 3);
    assert_eq!(times.len(), 6, "{times:?}");
}

#[test]
fn a_full_outbox_forgets_what_is_over_unheard_before_the_end_of_what_was_heard() {
    let mut world = told_of_lost_nodes(1);
    world.seen(10, &node("heard", LOST));
    world.delivered(11, Ok(()));
    for (name, status) in [("heard", WELL), ("unheard", LOST), ("last", LOST), ("unheard", WELL)] {
        world.seen(12, &node(name, status));
    }
    let waiting = |world: &World| {
        let stored = world.store.range(DELIVERIES.to_owned()..);
        let stored = stored.take_while(|(key, _)| key.starts_with(DELIVERIES));
        let notices = stored.map(|(key, value)| {
            let Delivery { notice, .. } = crate::state_manager::keys::decode(key, value).unwrap();
            format!("{} {}", notice.alert.message, notice.kind.name())
        });
        notices.collect::<Vec<_>>()
    };
    let first = ["heard resolved", "unheard firing", "last firing", "unheard resolved"];
    assert_eq!(waiting(&world), first);
    let mut others = (0..).map(|number| node(&format!("b{number}"), LOST));
    for view in others.by_ref().take(197) {
        world.seen(13, &view);
    }
    let left = waiting(&world);
    assert_eq!(
        (left.len(), &left[..2]),
        (199, &["heard resolved", "last firing"].map(str::to_owned)[..])
    );
    // where nothing is over unheard it is the oldest
    for view in others.by_ref().take(2) {
        world.seen(14, &view);
    }
    let left = waiting(&world);
    assert_eq!((left.len(), left[0].as_str()), (200, "last firing"));
}
