//! What people ask of alerts: to see them, to acknowledge and silence them, and to change rules and channels.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Alert, AlertState, Alerts, CHANNELS, GENERATION, Id, Out, RULES,
    alert::Acknowledgement,
    channel::{CHANNELS_MAX, Channel, Notice, NoticeKind},
    matcher::Matcher,
    outbox::{Delivery, Dispatch},
    rule::{self, Compiled, Rule},
    silence::{SILENCES_MAX, Silence},
    silence_key,
};
use crate::{
    api_server::{Call, Code, Refusal},
    model::{EventKind, FieldError, Severity, check_text},
    mutant::mutant,
    state_manager::{RequestId, keys},
    time::Now,
};

pub const RULES_MAX: usize = 200;
const COMMENT_BYTES_MAX: usize = 256;
const SILENCE_MAX: Duration = Duration::from_secs(90 * 86_400);
/// Acknowledged at once at most.
const ACKNOWLEDGED_MAX: usize = 32;
/// Sent again, or cleared, at once at most.
const LETTERS_AT_ONCE_MAX: usize = 32;
/// Channels of one request at most, and bytes of a channel and of a rule as they are stored: a commit has its limit.
const CHANNELS_AT_ONCE_MAX: usize = 16;
const CHANNEL_BYTES_MAX: usize = 24 * 1024;
const RULE_BYTES_MAX: usize = 8 * 1024;
/// Test notifications under way at once.
const TESTS_MAX: usize = 8;
/// Beyond the channel's own time limit.
const TEST_MARGIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertRequest {
    /// With those that wait for their time, and where wanted those that are over.
    List {
        only: Matcher,
        over: bool,
    },
    Acknowledge {
        ids: Vec<Id>,
        comment: String,
    },
    Silence {
        matcher: Matcher,
        span: Duration,
        comment: String,
    },
    Unsilence(Id),
    ListRules,
    /// All or none; those that are not named stay.
    ApplyRules {
        rules: Vec<Rule>,
        generation: u64,
        dry_run: bool,
    },
    /// Of a rule that takes the place of one that comes with this version, that one is back.
    DeleteRule(String),
    ListChannels,
    ApplyChannels(Vec<Channel>),
    DeleteChannel(String),
    SwitchChannel {
        name: String,
        disabled: bool,
    },
    /// Answered when it was delivered, or was not.
    TestChannel(String),
    /// All or none of them wait for their channels again.
    ResendDeadLetters(Vec<Id>),
    /// All or none.
    ClearDeadLetters(Vec<Id>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum AlertAnswer {
    Alerts { alerts: Vec<Alert>, silences: Vec<Silence>, refused: u64, revision: u64 },
    Acknowledged(Vec<Alert>),
    Silenced(Silence),
    Rules { rules: Vec<Compiled>, generation: u64 },
    Channels { channels: Vec<ChannelView>, dead_letters: Vec<Delivery> },
    Done,
}

/// A channel, and how it does. Whoever shows it leaves its secrets out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    pub channel: Channel,
    pub waiting: usize,
    /// Why the newest attempt failed.
    pub problem: String,
}

impl AlertRequest {
    /// The row of the role table.
    pub fn call(&self) -> Call {
        match self {
            Self::List { .. } => Call::ListAlerts,
            Self::Acknowledge { .. } => Call::AcknowledgeAlerts,
            Self::Silence { .. } => Call::SilenceAlerts,
            Self::Unsilence(_) => Call::UnsilenceAlerts,
            Self::ListRules => Call::ListAlertRules,
            Self::ApplyRules { .. } => Call::ApplyAlertRules,
            Self::DeleteRule(_) => Call::DeleteAlertRule,
            Self::ListChannels => Call::ListAlertChannels,
            Self::ApplyChannels(_) => Call::ApplyAlertChannels,
            Self::DeleteChannel(_) => Call::DeleteAlertChannel,
            Self::SwitchChannel { .. } => Call::SwitchAlertChannel,
            Self::TestChannel(_) => Call::TestAlertChannel,
            Self::ResendDeadLetters(_) => Call::ResendDeadLetters,
            Self::ClearDeadLetters(_) => Call::ClearDeadLetters,
        }
    }

    /// What it is about, for the audit log.
    pub fn target(&self) -> String {
        let joined = |names: Vec<String>| {
            let mut text = names.join(",");
            text.truncate(200);
            text
        };
        match self {
            Self::List { .. } | Self::ListRules | Self::ListChannels => String::new(),
            Self::Acknowledge { ids, .. }
            | Self::ResendDeadLetters(ids)
            | Self::ClearDeadLetters(ids) => joined(ids.iter().map(Id::to_string).collect()),
            Self::Silence { matcher, .. } => {
                joined(vec![matcher.as_str().escape_debug().to_string()])
            }
            Self::Unsilence(id) => id.to_string(),
            Self::ApplyRules { rules, .. } => {
                joined(rules.iter().map(|rule| rule.name.escape_default().to_string()).collect())
            }
            Self::ApplyChannels(channels) => joined(
                channels.iter().map(|channel| channel.name.escape_default().to_string()).collect(),
            ),
            Self::DeleteRule(name)
            | Self::DeleteChannel(name)
            | Self::SwitchChannel { name, .. }
            | Self::TestChannel(name) => name.clone(),
        }
    }
}

fn check_size(field: &str, bytes: usize, most: usize) -> Result<(), FieldError> {
    if bytes > most {
        return Err(FieldError::new(field, format!("takes {bytes} bytes, more than {most}")));
    }
    Ok(())
}

impl Alerts {
    /// `Ok(None)`: answered later. An `Err` has changed nothing.
    pub fn request(
        &mut self,
        now: Now,
        id: RequestId,
        by: &str,
        request: AlertRequest,
        out: &mut Out,
    ) -> Result<Option<AlertAnswer>, Refusal> {
        let answer = match request {
            AlertRequest::List { only, over } => self.list(&only, over),
            AlertRequest::Acknowledge { ids, comment } => {
                self.acknowledge(now, by, &ids, &comment, out)?
            }
            AlertRequest::Silence { matcher, span, comment } => {
                self.silence(now, by, (matcher, span, comment), out)?
            }
            AlertRequest::Unsilence(silence) => {
                if !self.silences.contains_key(&silence) {
                    let message = format!("there is no silence {silence}");
                    return Err(Refusal::new(Code::NotFound, "NoSuchSilence", message)
                        .help("piccolo alert list"));
                }
                self.forget_silence(silence, out);
                self.see_to_silenced(now, out);
                AlertAnswer::Done
            }
            AlertRequest::ListRules => self.list_rules(),
            AlertRequest::ApplyRules { rules, generation, dry_run } => {
                self.apply_rules(now, rules, generation, dry_run, out)?
            }
            AlertRequest::DeleteRule(name) => self.delete_rule(now, &name, out)?,
            AlertRequest::ListChannels => self.list_channels(),
            AlertRequest::ApplyChannels(channels) => self.apply_channels(now, channels, out)?,
            AlertRequest::DeleteChannel(name) => {
                self.channel(&name)?;
                self.channels.remove(&name);
                self.outbox.forget_channel(&name, out);
                out.delete(format!("{CHANNELS}{name}"));
                AlertAnswer::Done
            }
            AlertRequest::SwitchChannel { name, disabled } => {
                let channel =
                    Channel { disabled, changed_at: now.wall, ..self.channel(&name)?.clone() };
                self.put_channel(channel, out);
                self.list_channels()
            }
            AlertRequest::TestChannel(name) => {
                self.test(now, id, &name, out)?;
                return Ok(None);
            }
            AlertRequest::ResendDeadLetters(letters) => {
                for letter in self.dead_letters(&letters)? {
                    self.outbox.resend(now, letter, out);
                }
                AlertAnswer::Done
            }
            AlertRequest::ClearDeadLetters(letters) => {
                let keeps = mutant!("a dead letter that was cleared is kept");
                for letter in self.dead_letters(&letters)?.into_iter().filter(|_| !keeps) {
                    self.outbox.forget(letter, out);
                }
                AlertAnswer::Done
            }
        };
        self.dispatch(now, out);
        Ok(Some(answer))
    }

    /// Of what the request changes, as a reader is told it: the revision of an alert, or the generation of the rules.
    pub fn version_of(&self, request: &AlertRequest) -> Option<u64> {
        match request {
            AlertRequest::Acknowledge { ids, .. } => match ids[..] {
                [id] => self.alerts.get(&id).map(|alert| alert.revision),
                [..] => None,
            },
            AlertRequest::ApplyRules { .. } | AlertRequest::DeleteRule(_) => Some(self.generation),
            AlertRequest::List { .. }
            | AlertRequest::Silence { .. }
            | AlertRequest::Unsilence(_)
            | AlertRequest::ListRules
            | AlertRequest::ListChannels
            | AlertRequest::ApplyChannels(_)
            | AlertRequest::DeleteChannel(_)
            | AlertRequest::SwitchChannel { .. }
            | AlertRequest::TestChannel(_)
            | AlertRequest::ResendDeadLetters(_)
            | AlertRequest::ClearDeadLetters(_) => None,
        }
    }

    fn list(&self, only: &Matcher, over: bool) -> AlertAnswer {
        let pending = self.tracks.values().flatten().filter(|(_, track)| track.alert.is_none());
        let pending = pending.filter_map(|(rule, track)| {
            let rule = &self.rules.get(rule)?.rule;
            let message =
                format!("it holds for {}, but not for long enough yet", track.member.name());
            let as_what = (rule.severity, AlertState::Pending);
            Some(Alert {
                labels: rule.labels.clone(),
                members: vec![track.member.clone()],
                ..Alert::begun(Id(0), &rule.name, as_what, message, track.member.since)
            })
        });
        let alerts = self.alerts.values().filter(|alert| over || !alert.is_over()).cloned();
        let wanted = |alert: &Alert| only.is_empty() || only.matches(|key| alert.values(key));
        AlertAnswer::Alerts {
            alerts: alerts.chain(pending.take(1000)).filter(wanted).collect(),
            silences: self.silences.values().cloned().collect(),
            refused: self.refused,
            revision: self.revision,
        }
    }

    fn acknowledge(
        &mut self,
        now: Now,
        by: &str,
        ids: &[Id],
        comment: &str,
        out: &mut Out,
    ) -> Result<AlertAnswer, Refusal> {
        check_text("comment", comment, COMMENT_BYTES_MAX)?;
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        if ids.is_empty() || ids.len() > ACKNOWLEDGED_MAX {
            return Err(
                FieldError::new("ids", format!("names 1 to {ACKNOWLEDGED_MAX} alerts")).into()
            );
        }
        for id in &ids {
            match self.alerts.get(id).map(|alert| alert.state) {
                Some(AlertState::Firing | AlertState::Acknowledged) => {}
                Some(AlertState::Resolved | AlertState::Pending) => {
                    let message = format!("alert {id} is over");
                    return Err(Refusal::new(Code::FailedPrecondition, "AlertOver", message)
                        .help("piccolo alert list"));
                }
                None => {
                    let message = format!("there is no alert {id}");
                    return Err(Refusal::new(Code::NotFound, "NoSuchAlert", message)
                        .help("piccolo alert list"));
                }
            }
        }
        let mut acknowledged = Vec::new();
        for id in ids {
            let Some(alert) = self.alerts.get_mut(&id) else { continue };
            alert.state = AlertState::Acknowledged;
            // who has nothing to add takes nobody's words away
            if alert.acknowledged.is_none() || !comment.is_empty() {
                alert.acknowledged = Some(Acknowledgement {
                    by: by.to_owned(),
                    at: now.wall,
                    comment: comment.to_owned(),
                });
            }
            let message = format!("{by} acknowledged alert {id}: {}", alert.message);
            out.tell(Severity::Info, EventKind::AlertAcknowledged, Some(&alert.clone()), message);
            self.changed(id, out);
            acknowledged.extend(self.alerts.get(&id).cloned());
        }
        Ok(AlertAnswer::Acknowledged(acknowledged))
    }

    fn silence(
        &mut self,
        now: Now,
        by: &str,
        (matcher, span, comment): (Matcher, Duration, String),
        out: &mut Out,
    ) -> Result<AlertAnswer, Refusal> {
        check_text("comment", &comment, COMMENT_BYTES_MAX)?;
        if matcher.is_empty() {
            return Err(FieldError::new("only", "is empty: that would silence everything").into());
        }
        if span.is_zero() || span > SILENCE_MAX {
            return Err(FieldError::new(
                "span_seconds",
                "must be more than 0, and 90 days at most",
            )
            .into());
        }
        if self.silences.len() >= SILENCES_MAX {
            let message = format!("there are {SILENCES_MAX} silences, and no more may be made");
            return Err(Refusal::new(Code::ResourceExhausted, "TooManySilences", message)
                .help("piccolo alert unsilence those that are not needed"));
        }
        let silence = Silence {
            id: self.take_id(),
            matcher,
            created_at: now.wall,
            until: now.wall.plus(span),
            by: by.to_owned(),
            comment,
        };
        if !mutant!("a silence is not stored") {
            out.put(silence_key(silence.id), &silence);
        }
        self.silences.insert(silence.id, silence.clone());
        self.see_to_silenced(now, out);
        Ok(AlertAnswer::Silenced(silence))
    }

    fn list_rules(&self) -> AlertAnswer {
        AlertAnswer::Rules {
            rules: self.rules.values().cloned().collect(),
            generation: self.generation,
        }
    }

    fn apply_rules(
        &mut self,
        now: Now,
        rules: Vec<Rule>,
        generation: u64,
        dry_run: bool,
        out: &mut Out,
    ) -> Result<AlertAnswer, Refusal> {
        if generation != 0 && generation != self.generation {
            let newest = self.generation;
            let message = format!("generation: {generation} was read, but {newest} is the newest");
            return Err(Refusal {
                field: Some("generation".to_owned()),
                ..Refusal::new(Code::Aborted, "GenerationOutdated", message)
            }
            .help("get the rules again, and apply the change to those"));
        }
        if rules.is_empty() || rules.len() > super::WRITES_MAX {
            return Err(FieldError::new("rules", "has 1 to 48 rules").into());
        }
        let mut names = BTreeSet::new();
        for (index, rule) in rules.iter().enumerate() {
            let field = format!("rules[{index}]");
            rule.check(&field)?;
            check_size(&field, keys::encode(rule).len(), RULE_BYTES_MAX)?;
            if !names.insert(&rule.name) {
                let problem = format!("there is another rule {} before it", rule.name);
                return Err(FieldError::new(format!("rules[{index}].name"), problem).into());
            }
        }
        let new = names.iter().filter(|name| !self.rules.contains_key(**name)).count();
        if self.rules.len() + new > RULES_MAX {
            let message = format!("there would be more than {RULES_MAX} rules");
            return Err(Refusal::new(Code::ResourceExhausted, "TooManyRules", message)
                .help("piccolo alert rules delete those that are not needed"));
        }
        if dry_run {
            return Ok(AlertAnswer::Rules {
                rules: rules.into_iter().map(|rule| Compiled::new(rule, false)).collect(),
                generation: self.generation,
            });
        }
        for rule in rules {
            out.put(format!("{RULES}{}", rule.name), &rule);
            self.set_rule(rule.name.clone(), Some(Compiled::new(rule, false)));
        }
        self.rules_changed(now, out);
        Ok(self.list_rules())
    }

    fn delete_rule(&mut self, now: Now, name: &str, out: &mut Out) -> Result<AlertAnswer, Refusal> {
        match self.rules.get(name) {
            Some(rule) if !rule.builtin => {}
            Some(_) => {
                let message = format!("rule {name} comes with this version, and cannot be deleted");
                return Err(Refusal::new(Code::FailedPrecondition, "BuiltinRule", message)
                    .help("apply a rule of its name with `disabled: true`"));
            }
            None => {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
                let message = format!("there is no rule {shown:?}");
                return Err(Refusal::new(Code::NotFound, "NoSuchRule", message)
                    .help("piccolo alert rules list"));
            }
        }
        out.delete(format!("{RULES}{name}"));
        self.set_rule(name.to_owned(), rule::builtin().remove(name));
        self.rules_changed(now, out);
        Ok(AlertAnswer::Done)
    }

    /// What waited for its time under the old rule waits anew.
    fn set_rule(&mut self, name: String, rule: Option<Compiled>) {
        for tracks in self.tracks.values_mut() {
            tracks.retain(|of, track| *of != name || track.alert.is_some());
        }
        self.tracks.retain(|_, tracks| !tracks.is_empty());
        match rule {
            Some(rule) => drop(self.rules.insert(name, rule)),
            None => drop(self.rules.remove(&name)),
        }
    }

    fn rules_changed(&mut self, now: Now, out: &mut Out) {
        self.generation += 1;
        out.put(GENERATION, &self.generation);
        self.sort_rules();
        self.end_ruleless(now, out);
        // a look at everything, soon
        self.tick_at = now.at;
    }

    /// What fires by a rule that is not there any more, or not evaluated, is over.
    pub(super) fn end_ruleless(&mut self, now: Now, out: &mut Out) {
        let has_rule = |alert: &Alert| {
            self.rules.get(&alert.rule).is_some_and(|rule| rule.is_on(rule.rule.on))
        };
        let orphans = self.alerts.values().filter(|alert| !alert.is_over() && !has_rule(alert));
        let orphans: Vec<_> = orphans.map(|alert| (alert.id, alert.rule.clone())).collect();
        for (id, rule) in orphans {
            if out.is_full() {
                return;
            }
            for tracks in self.tracks.values_mut() {
                tracks.remove(&rule);
            }
            self.tracks.retain(|_, tracks| !tracks.is_empty());
            self.resolve(now, id, "its rule is not there any more", out);
        }
    }

    fn list_channels(&self) -> AlertAnswer {
        let view = |channel: &Channel| ChannelView {
            channel: channel.clone(),
            waiting: self.outbox.waiting(&channel.name),
            problem: self.outbox.problem(&channel.name).unwrap_or_default().to_owned(),
        };
        AlertAnswer::Channels {
            channels: self.channels.values().map(view).collect(),
            dead_letters: self.outbox.dead_letters().cloned().collect(),
        }
    }

    fn apply_channels(
        &mut self,
        now: Now,
        channels: Vec<Channel>,
        out: &mut Out,
    ) -> Result<AlertAnswer, Refusal> {
        if channels.len() > CHANNELS_AT_ONCE_MAX {
            let problem = format!("has more than {CHANNELS_AT_ONCE_MAX} channels");
            return Err(FieldError::new("channels", problem).into());
        }
        for (index, channel) in channels.iter().enumerate() {
            let field = format!("channels[{index}]");
            channel.check(&field)?;
            check_size(&field, keys::encode(channel).len(), CHANNEL_BYTES_MAX)?;
        }
        let new =
            channels.iter().filter(|channel| !self.channels.contains_key(&channel.name)).count();
        if channels.is_empty() || self.channels.len() + new > CHANNELS_MAX {
            let message = format!("there may be 1 to {CHANNELS_MAX} channels");
            return Err(Refusal::new(Code::ResourceExhausted, "TooManyChannels", message)
                .help("piccolo alert channel delete those that are not needed"));
        }
        for channel in channels {
            self.put_channel(Channel { changed_at: now.wall, ..channel }, out);
        }
        Ok(self.list_channels())
    }

    fn put_channel(&mut self, channel: Channel, out: &mut Out) {
        out.put(format!("{CHANNELS}{}", channel.name), &channel);
        self.channels.insert(channel.name.clone(), channel);
    }

    fn channel(&self, name: &str) -> Result<&Channel, Refusal> {
        self.channels.get(name).ok_or_else(|| {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
            Refusal::new(Code::NotFound, "NoSuchChannel", format!("there is no channel {shown:?}"))
                .help("piccolo alert channel list")
        })
    }

    /// Each once, and every one of them is there.
    fn dead_letters(&self, ids: &[Id]) -> Result<BTreeSet<Id>, Refusal> {
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        if ids.is_empty() || ids.len() > LETTERS_AT_ONCE_MAX {
            let problem = format!("names 1 to {LETTERS_AT_ONCE_MAX} dead letters");
            return Err(FieldError::new("ids", problem).into());
        }
        match ids.iter().find(|id| !self.outbox.is_dead(**id)) {
            Some(missing) => {
                let message = format!("there is no dead letter {missing}");
                Err(Refusal::new(Code::NotFound, "NoSuchDeadLetter", message)
                    .help("piccolo alert dead-letters list"))
            }
            None => Ok(ids),
        }
    }

    /// Past the outbox: it is about this moment.
    fn test(
        &mut self,
        now: Now,
        request: RequestId,
        name: &str,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let channel = self.channel(name)?.clone();
        if self.tests.len() >= TESTS_MAX {
            let message =
                format!("{TESTS_MAX} channels are being tested, and no more may be at once");
            return Err(Refusal::new(Code::ResourceExhausted, "TooManyTests", message)
                .help("try again in a minute"));
        }
        let id = self.take_id();
        let as_what = (Severity::Info, AlertState::Firing);
        let message = format!("this is a test of channel {name}");
        let alert = Alert::begun(id, "Test", as_what, message, now.wall);
        let notice = Notice {
            key: format!("test-{id}"),
            kind: NoticeKind::Test,
            at: now.wall,
            cluster: self.cluster.clone(),
            subjects: 0,
            alert,
        };
        let limit = Duration::from_secs(channel.timeout_s.into()) + TEST_MARGIN;
        self.tests.insert(id, (request, now.at + limit));
        out.dispatches.push(Dispatch { delivery: id, channel, notice, at_once: false });
        self.reschedule();
        Ok(())
    }

    pub(super) fn give_up_tests(&mut self, now: Now, out: &mut Out) {
        let late = self.tests.iter().filter(|(_, (_, until))| *until <= now.at).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            if let Some((request, _)) = self.tests.remove(&id) {
                out.tested.push((request, Err("it did not end in time".to_owned())));
            }
        }
    }

    /// Whoever waited for a test is gone.
    pub fn cancelled(&mut self, request: RequestId) {
        self.tests.retain(|_, (waiting, _)| *waiting != request);
    }
}
