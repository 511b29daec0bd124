//! The master's alerts: rules and channels that people apply, what its shell tells of the whole, and servers that take
//! notifications, refuse them, or never answer.

use std::{collections::BTreeMap, sync::LazyLock};

use piccolo_core::{
    model::Severity,
    monitoring_server::alerts::{
        CHANNELS,
        alert::Id,
        channel::{Channel, Way},
        facts::ClusterFacts,
        outbox::{DeliveryError, Dispatch},
        requests::AlertRequest,
        rule::{On, Rule},
    },
    state_manager::{Input, Request},
    time::WallTime,
};

use super::{
    Due, World,
    master::Arrival,
    operator::{Purpose, Who},
};
use crate::{
    clock::SECOND,
    judge::{DOWN, DUTY, EVERYBODY, GONE, NO_PODMAN, RULE_KEY},
};

/// Between two words of the master's shell about the whole.
const FACTS_EVERY: u64 = 10;
/// What becomes of attempts, percent.
const FAILS: u64 = 15;
const REFUSED: u64 = 2;
const HANGS: u64 = 4;
const TIMEOUT_S: u32 = 5;

/// Once the store has it, people have applied the channels.
static CHANNEL_KEY: LazyLock<String> = LazyLock::new(|| format!("{CHANNELS}{DUTY}"));

/// What a channel made of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Taken,
    ForNow,
    ForGood,
}

impl Ended {
    fn result(self) -> Result<(), DeliveryError> {
        match self {
            Self::Taken => Ok(()),
            Self::ForNow | Self::ForGood => Err(DeliveryError {
                problem: "it is out of order".to_owned(),
                is_final: self == Self::ForGood,
            }),
        }
    }
}

/// Short times, and two nodes of a site are one alert: lives are short, and clusters small.
fn rules(on_containers: bool) -> Vec<Rule> {
    let rule = |name: &str, when: &str, severity| Rule {
        name: name.to_owned(),
        on: On::Node,
        expression: when.to_owned(),
        clear: String::new(),
        for_s: 2,
        keep_s: 1,
        severity,
        labels: BTreeMap::new(),
        message: "{{ node.name }} is not well".to_owned(),
        group_min: 0,
        group_by: String::new(),
        escalate_s: 0,
        in_maintenance: false,
        disabled: false,
    };
    let mut rules = vec![
        Rule {
            group_min: 2,
            group_by: "site".to_owned(),
            escalate_s: 5,
            ..rule(GONE, r#"node.status == "NotReady""#, Severity::Critical)
        },
        rule(NO_PODMAN, r#""PodmanUnavailable" in node.conditions"#, Severity::Warning),
    ];
    if on_containers {
        let down = r#"container.state != "running" || container.health == "unhealthy""#;
        rules.push(Rule { on: On::Container, ..rule(DOWN, down, Severity::Info) });
    }
    rules
}

fn channels(per_minute: u32) -> Vec<Channel> {
    let channel = |name: &str, escalations| Channel {
        name: name.to_owned(),
        way: Way::Command { argv: vec!["tell".to_owned()] },
        severity: Severity::Info,
        only: Default::default(),
        escalations,
        no_resolved: false,
        timeout_s: TIMEOUT_S,
        per_minute,
        disabled: false,
        changed_at: WallTime(0),
    };
    vec![channel(EVERYBODY, false), channel(DUTY, true)]
}

impl World {
    /// Once a second.
    pub(super) fn see_to_alerts(&mut self) {
        if self.plan.chaos == 0 || !self.master.is_running() {
            return;
        }
        if (self.now / SECOND).is_multiple_of(FACTS_EVERY) {
            let away = self.master.store_stalls_until > self.now;
            let store = if away { "it does not answer" } else { "ok" }.to_owned();
            let facts = ClusterFacts { store, ..ClusterFacts::default() };
            self.master_arrival(Arrival::Shell(Input::ClusterFacts(Box::new(facts))));
        }
        if self.operator.unanswered() > 0 {
            return;
        }
        let request = if !self.master.store.contains(&RULE_KEY) {
            let rules = rules(self.plan.container_rule);
            AlertRequest::ApplyRules { rules, generation: 0, dry_run: false }
        } else if !self.master.store.contains(&CHANNEL_KEY) {
            AlertRequest::ApplyChannels(channels(self.plan.notices_per_minute))
        } else {
            return self.mind_alerts();
        };
        self.people_ask(Who::Admin, Request::Alert(Box::new(request)), Purpose::Other);
    }

    /// The shell has a task try it.
    pub(super) fn dispatches(&mut self, dispatch: &Dispatch) {
        let boot = self.master.boot;
        self.judge.dispatched(dispatch, &self.master.store);
        let drawn = if self.calm { 100 } else { self.randoms.notices.below(100) };
        let (hangs, ended) = match drawn {
            drawn if drawn < HANGS => (true, Ended::ForNow),
            drawn if drawn < HANGS * 2 => (true, Ended::Taken),
            drawn if drawn < HANGS * 2 + REFUSED => (false, Ended::ForGood),
            drawn if drawn < HANGS * 2 + REFUSED + FAILS => (false, Ended::ForNow),
            _ => (false, Ended::Taken),
        };
        let (channel, kind) = (&dispatch.channel.name, dispatch.notice.kind);
        let (alert, key) = (dispatch.notice.alert.id, &dispatch.notice.key);
        self.tell(|| {
            let told = kind.name();
            format!("master: tells {channel} of {alert}, {told}, by {key}: {ended:?}, {hangs}")
        });
        if ended != Ended::ForNow {
            self.judge.told(dispatch);
        }
        if !hangs {
            let takes = self.randoms.notices.scale(1_000, 3 * SECOND);
            let delivery = dispatch.delivery.0;
            self.push(self.now + takes, Due::NoticeEnds { boot, delivery, ended });
        }
    }

    pub(super) fn notice_ends(&mut self, boot: u32, delivery: u64, ended: Ended) {
        if boot != self.master.boot {
            return;
        }
        let delivery = Id(delivery);
        let result = ended.result();
        self.master_arrival(Arrival::Shell(Input::Delivered { delivery, result }));
    }
}
