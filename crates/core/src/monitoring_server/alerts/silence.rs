//! Silences: for a time nobody is told of some alerts. They are still there to be seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    alert::{Alert, Id, Member},
    matcher::Matcher,
};
use crate::{mutant::mutant, time::WallTime};

pub const SILENCES_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: Id,
    pub matcher: Matcher,
    pub created_at: WallTime,
    pub until: WallTime,
    pub by: String,
    #[serde(default)]
    pub comment: String,
}

impl Silence {
    pub(super) fn is_over(&self, now: WallTime) -> bool {
        self.until <= now && !mutant!("a silence has no end")
    }

    fn covers(&self, alert: &Alert, member: &Member, now: WallTime) -> bool {
        let only = std::slice::from_ref(member);
        !self.is_over(now) && self.matcher.matches(|key| alert.values_of(only, key))
    }
}

/// What keeps an alert from being told: each of its subjects is silenced, by one silence or by several. It is told
/// when the first of them ends.
pub(super) fn silencing(
    silences: &BTreeMap<Id, Silence>,
    alert: &Alert,
    now: WallTime,
) -> Option<Id> {
    let longest = |member: &Member| {
        let covering = silences.values().filter(|silence| silence.covers(alert, member, now));
        covering.max_by_key(|silence| silence.until)
    };
    if mutant!("a silence hides nothing") {
        return None;
    }
    let each: Vec<_> = alert.spoken_of().map(longest).collect();
    let all = each.iter().all(Option::is_some) || mutant!("a silence of one hides its group");
    let of_all = each.into_iter().flatten().filter(|_| all);
    of_all.min_by_key(|silence| silence.until).map(|silence| silence.id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{
            SILENCES,
            requests::{AlertAnswer, AlertRequest},
            rule::Rule,
            tests::{World, node, rule},
        },
        *,
    };
    use crate::model::NodeStatus::{NotReady, Ready};

    const LOST: &str = r#"node.status == "NotReady""#;

    fn silence(world: &mut World, second: u64, only: &str, seconds: u64) -> Id {
        let matcher = Matcher::parse("only", only).unwrap();
        let span = Duration::from_secs(seconds);
        let request = AlertRequest::Silence { matcher, span, comment: String::new() };
        let Ok(Some(AlertAnswer::Silenced(silence))) = world.ask(second, request) else { panic!() };
        silence.id
    }

    fn stored(world: &World) -> usize {
        world.store.keys().filter(|key| key.starts_with(SILENCES)).count()
    }

    fn told_of(world: &World) -> usize {
        world.alerts.alerts().filter(|alert| alert.notified).count()
    }

    #[test]
    fn what_was_hidden_escalates_once_people_have_heard_of_it_and_had_their_time() {
        let mut world = World::new();
        world.apply(Rule { escalate_s: 60, ..rule("Lost", LOST) });
        silence(&mut world, 5, "node=b1", 100);
        world.seen(10, &node("b1", NotReady));
        world.deadline(75);
        assert_eq!(world.told(), Vec::<String>::new());
        world.deadline(110);
        world.delivered(111, Ok(()));
        world.deadline(169);
        world.deadline(170);
        assert_eq!(world.told(), ["110 firing b1", "170 escalated b1"]);
    }

    #[test]
    fn what_was_told_and_then_hidden_does_not_escalate_in_between() {
        let mut world = World::new();
        world.apply(Rule { escalate_s: 60, ..rule("Lost", LOST) });
        world.seen(10, &node("b1", NotReady));
        world.delivered(11, Ok(()));
        let made = silence(&mut world, 20, "node=b1", 1000);
        world.deadline(90);
        world.ask(100, AlertRequest::Unsilence(made)).unwrap();
        world.deadline(159);
        assert_eq!(world.told(), ["10 firing b1"]);
        world.deadline(160);
        assert_eq!(world.told(), ["160 escalated b1"]);
    }

    #[test]
    fn a_silence_hides_the_end_only_of_what_it_hid_from_the_beginning() {
        let mut world = World::new();
        world.apply(rule("Lost", LOST));
        world.seen(10, &node("b1", NotReady));
        world.delivered(11, Ok(()));
        silence(&mut world, 20, "rule=Lost", 1000);
        world.seen(30, &node("b2", NotReady));
        for name in ["b1", "b2"] {
            world.seen(40, &node(name, Ready));
        }
        world.delivered(41, Ok(()));
        world.deadline(200);
        assert_eq!(world.told(), ["10 firing b1", "40 resolved b1"]);
    }

    #[test]
    fn a_silence_that_was_ended_is_ended_also_where_it_hid_more_than_one_commit_takes() {
        let mut world = World::new();
        world.apply(rule("Lost", LOST));
        let made = silence(&mut world, 5, "rule=Lost", 1000);
        for number in 0..60 {
            world.seen(10, &node(&format!("b{number}"), NotReady));
        }
        assert_eq!((told_of(&world), stored(&world)), (0, 1));
        world.ask(20, AlertRequest::Unsilence(made)).unwrap();
        assert_eq!(stored(&world), 0);
        assert!((1..60).contains(&told_of(&world)), "a commit has its limit");
        world.restart(30);
        for second in [45, 46, 47, 48, 49, 50] {
            world.deadline(second);
        }
        assert_eq!(told_of(&world), 60);
    }

    #[test]
    fn who_joined_a_silenced_group_is_told_of_although_the_master_died_meanwhile() {
        let mut world = World::new();
        world.apply(Rule { group_min: 2, ..rule("Lost", LOST) });
        silence(&mut world, 1, "node~a", 1000);
        for name in ["a1", "a2", "b3"] {
            world.seen(10, &node(name, NotReady));
        }
        world.restart(11);
        assert_eq!(world.told(), Vec::<String>::new());
        world.deadline(26);
        assert_eq!(world.told(), ["26 firing Lost, 3 at once in the cluster: a1, a2, b3"]);
    }

    #[test]
    fn of_silences_that_end_together_no_commit_is_too_large() {
        let mut world = World::new();
        for number in 0..150 {
            silence(&mut world, 1, &format!("node=b{number}"), 5);
        }
        for second in [20, 40, 60, 80] {
            world.deadline(second);
        }
        assert_eq!(stored(&world), 0);
    }
}
