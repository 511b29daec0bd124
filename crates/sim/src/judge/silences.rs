//! Silences and escalation: what a silence hides is shown as hidden and told to nobody, and is told once the silence
//! ends; what nobody acknowledged is told again, once, and not before people have had their time.
//!
//! The judge reads matchers with its own eyes, and remembers of each silence from when until when it was in force. On
//! the boundaries of such a time it asks nothing: a millisecond has room for several decisions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use piccolo_core::{
    model::{NodeName, Severity},
    monitoring_server::alerts::{
        ALERTS, SILENCES,
        alert::{Alert, AlertState, Id, Member, Subject},
        requests::{AlertAnswer, AlertRequest},
        silence::Silence,
    },
    state_manager::{Answer, Effect, Input, Request, RequestId, Transaction, keys},
    time::{Now, Timestamp, WallTime},
};

use super::{Judge, firing::LATE_MAX, rules, subjects::GONE};
use crate::store::{Store, under};

/// Rules of which the judge asks whether they escalate, and after how long.
const ESCALATES: [(&str, Duration); 2] =
    [(GONE, Duration::from_secs(5)), ("NodeNotReady", Duration::from_secs(900))];

fn escalates_after(alert: &Alert) -> Option<Duration> {
    ESCALATES.iter().find(|(rule, _)| *rule == alert.rule).map(|(_, after)| *after)
}

/// A silence, and when it was in force.
#[derive(Debug)]
struct Span {
    matcher: String,
    from: WallTime,
    until: WallTime,
    /// The store has had it.
    kept: bool,
}

impl Span {
    fn of(silence: &Silence, kept: bool) -> Self {
        let matcher = silence.matcher.as_str().to_owned();
        Self { matcher, from: silence.created_at, until: silence.until, kept }
    }

    fn covers(&self, alert: &Alert, member: &Member) -> bool {
        self.matcher.split(',').all(|term| term_holds(term.trim(), alert, member))
    }
}

/// `key=value`, `key!=value` or `key~part`, of an alert as if it were about one subject alone.
fn term_holds(term: &str, alert: &Alert, member: &Member) -> bool {
    if let Some((key, value)) = term.split_once("!=") {
        return value_of(key, alert, member).is_none_or(|is| !is.eq_ignore_ascii_case(value));
    }
    if let Some((key, value)) = term.split_once('=') {
        return value_of(key, alert, member).is_some_and(|is| is.eq_ignore_ascii_case(value));
    }
    let (key, part) = term.split_once('~').unwrap_or((term, ""));
    let part = part.to_lowercase();
    value_of(key, alert, member).is_some_and(|is| is.to_lowercase().contains(&part))
}

fn value_of<'a>(key: &str, alert: &'a Alert, member: &'a Member) -> Option<&'a str> {
    match key {
        "rule" => Some(&alert.rule),
        "severity" => Some(match alert.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }),
        "node" => member.node.as_ref().map(NodeName::as_str),
        "container" => match &member.subject {
            Subject::Container(_, name) => Some(name),
            Subject::Cluster | Subject::Node(_) => None,
        },
        label => alert.labels.get(label.strip_prefix("label.")?).map(String::as_str),
    }
}

/// How an alert looks that is not over, and for how long it has looked so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    hidden: bool,
    /// People are shown it as hidden.
    shown_hidden: bool,
    firing: bool,
    since: Timestamp,
}

/// What the judge knows of an alert that has fired.
#[derive(Debug, Clone, Copy)]
struct Known {
    fired_at: WallTime,
    acknowledged: bool,
    escalated_at: Option<WallTime>,
}

#[derive(Debug, Default)]
pub(super) struct Silenced {
    spans: BTreeMap<Id, Span>,
    /// Who asked for the end of one that is not answered yet.
    ending: BTreeMap<RequestId, Id>,
    known: BTreeMap<Id, Known>,
    looks: BTreeMap<Id, Look>,
    /// Alerts of which somebody was told that they fire: while the store is away, before they are shown.
    heard: BTreeSet<Id>,
    /// Alerts that were hidden when they fired, and of which nobody has heard yet.
    unheard: BTreeSet<Id>,
}

impl Silenced {
    pub(super) fn is_heard(&mut self, id: Id) {
        self.heard.insert(id);
        self.unheard.remove(&id);
    }

    pub(super) fn is_hidden_at_first(&mut self, id: Id) {
        if !self.heard.contains(&id) {
            self.unheard.insert(id);
        }
    }

    pub(super) fn is_unheard(&self, id: Id) -> bool {
        self.unheard.contains(&id)
    }

    /// What was told before it was stored is forgotten: by what is stored, nobody has heard of these.
    fn hear_of_again(&mut self, alerts: &BTreeMap<Id, Alert>) {
        self.unheard.retain(|id| alerts.contains_key(id));
        for alert in alerts.values().filter(|alert| !alert.notified && !alert.is_over()) {
            self.heard.remove(&alert.id);
            self.unheard.insert(alert.id);
        }
    }

    fn hides(&self, alert: &Alert, is_in_force: impl Fn(&Span) -> bool) -> bool {
        let spans: Vec<_> = self.spans.values().filter(|span| is_in_force(span)).collect();
        if spans.is_empty() {
            return false;
        }
        let active = alert.members.iter().any(|member| member.cleared_at.is_none());
        let mut about =
            alert.members.iter().filter(|member| !active || member.cleared_at.is_none());
        about.all(|member| spans.iter().any(|span| span.covers(alert, member)))
    }

    /// Each of its subjects is silenced.
    pub(super) fn surely_hides(&self, alert: &Alert, at: WallTime) -> bool {
        self.hides(alert, |span| span.from < at && at < span.until)
    }

    /// The same, on the boundaries too.
    pub(super) fn may_hide(&self, alert: &Alert, at: WallTime) -> bool {
        self.hides(alert, |span| span.from <= at && at <= span.until)
    }

    /// When the newest silence of any of its subjects ended, or will have.
    fn was_hidden_until(&self, alert: &Alert, now: WallTime) -> Option<WallTime> {
        let covers = |span: &&Span| alert.members.iter().any(|member| span.covers(alert, member));
        let ends = self.spans.values().filter(|span| span.until >= alert.fired_at).filter(covers);
        ends.map(|span| span.until.min(now)).max()
    }
}

fn silence_key(id: Id) -> String {
    format!("{SILENCES}{:020}", id.0)
}

fn silences(store: &Store) -> Result<BTreeMap<Id, Silence>, String> {
    let decode = |(key, value): (&String, &Vec<u8>)| {
        let silence: Silence = keys::decode(key, value).map_err(|e| e.to_string())?;
        Ok((silence.id, silence))
    };
    under(store.values(), SILENCES).map(decode).collect()
}

impl Judge {
    /// What is stored is in force, and nothing else is: what was decided last may be lost.
    pub(super) fn silences_after_a_restart(
        &mut self,
        now: WallTime,
        store: &Store,
        alerts: &BTreeMap<Id, Alert>,
        set_back: bool,
    ) {
        if set_back {
            // of what an older store does not have nothing ever was
            self.silenced.spans.clear();
            self.silenced.unheard.clear();
        }
        let stored = match silences(store) {
            Ok(stored) => stored,
            Err(why) => return self.fail("what_is_stored_can_be_read", why),
        };
        let silenced = &mut self.silenced;
        silenced.spans.retain(|_, span| span.kept);
        for (id, span) in &mut silenced.spans {
            if !stored.contains_key(id) {
                span.until = span.until.min(now);
            }
        }
        let spans = stored.into_iter().map(|(id, silence)| (id, Span::of(&silence, true)));
        silenced.spans.extend(spans);
        silenced.ending.clear();
        silenced.looks.clear();
        silenced.hear_of_again(alerts);
        let known = |alert: &Alert| Known {
            fired_at: alert.fired_at,
            acknowledged: alert.acknowledged.is_some(),
            escalated_at: alert.escalated_at,
        };
        silenced.known = alerts.iter().map(|(id, alert)| (*id, known(alert))).collect();
    }

    pub(super) fn note_ending(&mut self, input: &Input) {
        if let Input::Request { id, request: Request::Alert(request), .. } = input
            && let AlertRequest::Unsilence(silence) = &**request
        {
            self.silenced.ending.insert(*id, *silence);
        }
    }

    /// Silences that an input makes and ends.
    pub(super) fn note_silences(&mut self, now: Now, effects: &[Effect]) {
        let Some(Effect::Commit(transaction)) = effects.first() else { return };
        for (id, value) in silence_writes(transaction) {
            match value.as_ref().map(|value| keys::decode::<Silence>(SILENCES, value)) {
                Some(Ok(silence)) => {
                    self.silenced.spans.insert(id, Span::of(&silence, false));
                }
                Some(Err(why)) => self.fail("what_is_stored_can_be_read", why.to_string()),
                None => {
                    if let Some(span) = self.silenced.spans.get_mut(&id) {
                        span.until = span.until.min(now.wall);
                    }
                }
            }
        }
    }

    pub(super) fn note_kept(&mut self, transaction: &Transaction) {
        for (id, _) in silence_writes(transaction) {
            if let Some(span) = self.silenced.spans.get_mut(&id) {
                span.kept = true;
            }
        }
    }

    /// What an input has made of alerts.
    pub(super) fn escalations_decided(&mut self, now: Now, effects: &[Effect]) {
        for effect in effects {
            if let Some(AlertAnswer::Acknowledged(alerts)) = answered(effect) {
                for alert in alerts {
                    if let Some(known) = self.silenced.known.get_mut(&alert.id) {
                        known.acknowledged = true;
                    }
                }
            }
        }
        for effect in effects {
            match effect {
                Effect::Alerted(alert) => self.escalation_decided(now, alert),
                Effect::AlertForgotten(id) => {
                    self.silenced.known.remove(id);
                    self.silenced.heard.remove(id);
                    self.silenced.unheard.remove(id);
                }
                _ => {}
            }
        }
    }

    fn escalation_decided(&mut self, now: Now, alert: &Alert) {
        if alert.is_over() && !self.silenced.known.contains_key(&alert.id) {
            rules!(self, what_is_heard_of_late_is_hidden_as_of_now(now.wall, alert));
        }
        let new = Known { fired_at: now.wall, acknowledged: false, escalated_at: None };
        let known = *self.silenced.known.entry(alert.id).or_insert(new);
        rules!(
            self,
            nobody_acknowledges_but_people(alert, known),
            an_alert_escalates_once(alert, known),
        );
        if alert.escalated_at.is_some() && known.escalated_at.is_none() {
            rules!(self, what_escalates_was_left_alone(now.wall, alert, known));
        }
        if let Some(known) = self.silenced.known.get_mut(&alert.id) {
            known.escalated_at = alert.escalated_at;
        }
    }

    fn what_is_heard_of_late_is_hidden_as_of_now(
        &self,
        now: WallTime,
        alert: &Alert,
    ) -> Result<(), String> {
        let silenced = &self.silenced;
        let range = silenced.surely_hides(alert, now)..=silenced.may_hide(alert, now);
        if range.contains(&alert.silenced_by.is_some()) {
            Ok(())
        } else {
            Err(format!("{alert:?}"))
        }
    }

    fn nobody_acknowledges_but_people(&self, alert: &Alert, known: Known) -> Result<(), String> {
        let acknowledged = alert.state == AlertState::Acknowledged || alert.acknowledged.is_some();
        if acknowledged == known.acknowledged { Ok(()) } else { Err(format!("{alert:?}")) }
    }

    fn an_alert_escalates_once(&self, alert: &Alert, known: Known) -> Result<(), String> {
        match known.escalated_at {
            Some(at) if alert.escalated_at != Some(at) => Err(format!("at {at:?}, and {alert:?}")),
            Some(_) | None => Ok(()),
        }
    }

    /// It fires, nobody acknowledged it, and people could have: since it fired, and since no silence hid it.
    fn what_escalates_was_left_alone(
        &self,
        now: WallTime,
        alert: &Alert,
        known: Known,
    ) -> Result<(), String> {
        let Some(after) = escalates_after(alert) else { return Ok(()) };
        if alert.is_over() || known.acknowledged {
            return Err(format!("it is over, or somebody looks after it: {alert:?}"));
        }
        if self.silenced.surely_hides(alert, now) {
            return Err(format!("it is silenced: {alert:?}"));
        }
        // who joins a group and leaves it hides it for a while, and shows it again
        let ends = self.silenced.was_hidden_until(alert, now).filter(|_| alert.group.is_none());
        let since = ends.map_or(known.fired_at, |end| end.max(known.fired_at));
        if now.since(since) < after {
            return Err(format!("{:?} after {since:?}: {alert:?}", now.since(since)));
        }
        Ok(())
    }

    /// Once a second, while the master is well.
    pub(super) fn look_at_silences(&mut self, now: Now, well: Duration) {
        let mut looks = BTreeMap::new();
        for alert in self.notices.firing() {
            let hidden = self.silenced.may_hide(alert, now.wall);
            let firing = alert.state == AlertState::Firing;
            let before = self.silenced.looks.get(&alert.id);
            let sure = hidden == self.silenced.surely_hides(alert, now.wall);
            let look =
                Look { hidden, shown_hidden: alert.silenced_by.is_some(), firing, since: now.at };
            let same = |before: &&Look| sure && Look { since: now.at, ..**before } == look;
            let since = before.filter(same).map_or(now.at, |before| before.since);
            looks.insert(alert.id, Look { since, ..look });
        }
        self.silenced.looks = looks;
        if well <= LATE_MAX * 2 {
            return;
        }
        rules!(
            self,
            what_is_hidden_is_shown_so(now),
            what_is_left_alone_escalates_in_time(now, well),
        );
        let told = |(id, look): (&Id, &Look)| {
            let long = now.at.since(look.since) > LATE_MAX;
            (long && look.firing && !look.hidden && self.silenced.unheard.contains(id))
                .then_some(*id)
        };
        for id in self.silenced.looks.iter().filter_map(told).collect::<Vec<_>>() {
            self.silenced.unheard.remove(&id);
            self.notices.owe_what_was_hidden(id);
        }
    }

    fn what_is_hidden_is_shown_so(&self, now: Now) -> Result<(), String> {
        for alert in self.notices.firing() {
            let Some(look) = self.silenced.looks.get(&alert.id) else { continue };
            let long = now.at.since(look.since) > LATE_MAX;
            if long && look.hidden != look.shown_hidden {
                return Err(format!("{look:?}: {alert:?}"));
            }
        }
        Ok(())
    }

    fn what_is_left_alone_escalates_in_time(&self, now: Now, well: Duration) -> Result<(), String> {
        for alert in self.notices.firing().filter(|alert| alert.escalated_at.is_none()) {
            let Some(look) = self.silenced.looks.get(&alert.id) else { continue };
            let Some(after) = escalates_after(alert) else { continue };
            let ended = self.silenced.was_hidden_until(alert, now.wall);
            // the end of a silence is seen to at the next look at everything, and so is what it hid
            let due = after + LATE_MAX * if ended.is_some() { 2 } else { 1 };
            let alone = now.at.since(look.since);
            let alone = ended.map_or(alone, |ended| alone.min(now.wall.since(ended)));
            if look.firing && !look.hidden && alone > due && well > due {
                return Err(format!("{alone:?}: {alert:?}"));
            }
        }
        Ok(())
    }

    /// What people are told that they have done is done for good.
    pub(super) fn what_is_answered_of_alerts_is_stored(
        &mut self,
        effect: &Effect,
        store: &Store,
    ) -> Result<(), String> {
        let Effect::Reply { request, result } = effect else { return Ok(()) };
        let ended = self.silenced.ending.remove(request);
        if let Some(ended) = ended.filter(|id| result.is_ok() && store.contains(&silence_key(*id)))
        {
            return Err(format!("silence {ended} was ended, and is stored"));
        }
        match answered(effect) {
            Some(AlertAnswer::Silenced(silence)) => {
                let stored = silences(store)?;
                if stored.get(&silence.id) == Some(silence) {
                    return Ok(());
                }
                Err(format!("{silence:?}, and stored are {stored:?}"))
            }
            Some(AlertAnswer::Acknowledged(alerts)) => {
                for alert in alerts {
                    let key = format!("{ALERTS}{:020}", alert.id.0);
                    let stored = store.values().get(&key).ok_or("it is not stored")?;
                    let stored: Alert = keys::decode(&key, stored).map_err(|e| e.to_string())?;
                    if stored.acknowledged != alert.acknowledged || stored.state != alert.state {
                        return Err(format!("{alert:?}, and stored is {stored:?}"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn silence_writes(transaction: &Transaction) -> impl Iterator<Item = (Id, &Option<Vec<u8>>)> {
    let writes = under(&transaction.writes, SILENCES);
    writes.map_while(|(key, value)| Some((Id(key.strip_prefix(SILENCES)?.parse().ok()?), value)))
}

fn answered(effect: &Effect) -> Option<&AlertAnswer> {
    match effect {
        Effect::Reply { result: Ok(Answer::Alert(answer)), .. } => Some(answer),
        _ => None,
    }
}
