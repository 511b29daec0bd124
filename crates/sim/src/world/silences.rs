//! What people do about alerts: they acknowledge them, silence them for a while, and think better of it. What could not
//! be delivered they have sent again, or clear.

use std::time::Duration;

use piccolo_core::{
    monitoring_server::alerts::{
        SILENCES,
        alert::{Alert, Id, Subject},
        matcher::Matcher,
        requests::{AlertAnswer, AlertRequest},
    },
    state_manager::{Answer, Request},
};

use super::{
    World,
    operator::{Operator, Purpose, Who},
};
use crate::judge::{DOWN, GONE};

/// Seconds.
const SILENCE_MAX: u64 = 60;
/// Of what is asked, percent: by somebody who may not.
const BY_A_VIEWER: u64 = 5;
/// Of letters, percent; the others are cleared.
const SENT_AGAIN: u64 = 60;

impl Operator {
    pub(super) fn sees_letters(&mut self, answer: Answer) {
        if let Answer::Alert(answer) = answer
            && let AlertAnswer::Channels { dead_letters, .. } = *answer
        {
            self.letters = dead_letters.into_iter().map(|letter| letter.id).collect();
        }
    }
}

impl World {
    /// Once a second, while nobody waits for an answer.
    pub(super) fn mind_alerts(&mut self) {
        if self.calm || !self.randoms.alerts.chance(self.plan.alerts_minded) {
            return;
        }
        let Some(request) = self.thought_of_alerts() else { return };
        let viewer = self.randoms.alerts.chance(BY_A_VIEWER);
        let who = if viewer { Who::Viewer } else { Who::Operator };
        let looks = matches!(request, AlertRequest::ListChannels);
        let purpose = if looks { Purpose::Letters } else { Purpose::Other };
        self.people_ask(who, Request::Alert(Box::new(request)), purpose);
    }

    fn thought_of_alerts(&mut self) -> Option<AlertRequest> {
        let process = self.master.process.as_ref()?;
        let alerts: Vec<_> = process.machine.alerts().collect();
        let rng = &mut self.randoms.alerts;
        if let Some(letter) = self.operator.letters.pop() {
            let send = rng.chance(SENT_AGAIN);
            let of =
                if send { AlertRequest::ResendDeadLetters } else { AlertRequest::ClearDeadLetters };
            return Some(of(vec![letter]));
        }
        let about = rng.pick(&alerts).copied();
        match rng.below(12) {
            // also one that is over
            0..=2 => {
                let ids = vec![about?.id];
                Some(AlertRequest::Acknowledge { ids, comment: String::new() })
            }
            3..=7 => {
                let draw = rng.below(9);
                let only = matcher(draw, rng.index(self.boards.len()), about);
                let matcher = Matcher::parse("only", &only).expect("terms");
                let span = Duration::from_secs(rng.scale(2, SILENCE_MAX));
                self.tell(|| format!("people: silence {only} for {span:?}"));
                Some(AlertRequest::Silence { matcher, span, comment: String::new() })
            }
            8..=9 => Some(AlertRequest::ListChannels),
            _ => {
                let keys = self.master.store.values().range(SILENCES.to_owned()..);
                let numbers = keys.map_while(|(key, _)| key.strip_prefix(SILENCES));
                let ids: Vec<_> = numbers.filter_map(|n| n.parse().ok().map(Id)).collect();
                rng.pick(&ids).copied().map(AlertRequest::Unsilence)
            }
        }
    }
}

/// Of one board, of what an alert is about, or of much.
fn matcher(draw: u64, board: usize, about: Option<&Alert>) -> String {
    let member = about.and_then(|alert| alert.members.first());
    let node = member.and_then(|member| member.node.as_ref());
    let node = node.map_or_else(|| format!("node-{}", board + 1), ToString::to_string);
    let container = member.and_then(|member| match &member.subject {
        Subject::Container(_, name) if !name.contains([',', '=', '!', '~']) => Some(name),
        Subject::Container(..) | Subject::Node(_) | Subject::Cluster => None,
    });
    let rule = about.map_or(GONE, |alert| &alert.rule);
    match draw {
        0..=2 => format!("node={node}"),
        3 => format!("rule={rule}, node={node}"),
        4 => container.map_or_else(|| format!("rule={DOWN}"), |name| format!("container={name}")),
        5 => format!("label.site={}", board % 3),
        6 => format!("rule!={rule}, node!={node}"),
        7 => "severity=critical".to_owned(),
        _ => format!("rule~{}", rule.get(..3).unwrap_or(rule)),
    }
}
