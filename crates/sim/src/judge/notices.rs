//! What channels are told of the master's alerts: all that they are owed, under one key, whatever restarts.

use std::collections::{BTreeMap, BTreeSet};

use piccolo_core::{
    monitoring_server::alerts::{
        CHANNELS,
        alert::{Alert, Id},
        channel::NoticeKind,
        outbox::{DELIVERIES, Delivery, Dispatch},
    },
    state_manager::{Effect, Transaction, keys},
};

use super::{Judge, firing::is_merged, letters, rules};
use crate::store::{Store, under};

/// The channel that hears of everything, and the one that hears of what nobody acknowledged.
pub(crate) const EVERYBODY: &str = "everybody";
pub(crate) const DUTY: &str = "duty";

/// A channel, an alert, and what of it.
type News = (String, Id, &'static str);

/// For one channel: beyond that some of it gives way.
const WAITING_MAX: usize = 200;

#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Alerts as they were stored when somebody was shown them.
    shown: BTreeMap<Id, Alert>,
    owed: BTreeSet<News>,
    told: BTreeSet<News>,
    /// By channel.
    keys: BTreeMap<(String, String), News>,
    names: BTreeMap<News, String>,
    deliveries: BTreeMap<News, Id>,
    /// Deliveries that a channel took, as the master's process knows.
    taken: BTreeSet<Id>,
    /// By its key in the store.
    waiting: BTreeMap<String, News>,
    /// Channels for which too much waited once: nobody knows what of it they are still owed.
    overflown: BTreeSet<String>,
}

impl Notices {
    /// Alerts that are not over, as people see them.
    pub(super) fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.shown.values().filter(|alert| !alert.is_over())
    }

    /// People have a delivery made again.
    pub(super) fn owe_again(&mut self, delivery: Id) {
        let made = self.deliveries.iter().find(|(_, made)| **made == delivery);
        if let Some(news) = made.map(|(news, _)| news.clone()) {
            self.told.remove(&news);
            self.owed.insert(news);
        }
    }

    /// No silence hides it any more.
    pub(super) fn owe_what_was_hidden(&mut self, id: Id) {
        let news = (EVERYBODY.to_owned(), id, NoticeKind::Firing.name());
        if !self.told.contains(&news) {
            self.owed.insert(news);
        }
    }
}

impl Judge {
    /// What the restarted master has of it, it has from the store.
    pub(super) fn notices_after_a_restart(
        &mut self,
        alerts: &BTreeMap<Id, Alert>,
        store: &Store,
        set_back: bool,
    ) {
        self.notices.taken.clear();
        self.notices.waiting.clear();
        for (key, value) in under(store.values(), DELIVERIES) {
            self.note_waiting(key, value);
        }
        // what was told while the store was away, or before it became an older one, nobody knows of any more
        let known = |(_, id, _): &News| !set_back && alerts.contains_key(id);
        self.notices.told.retain(known);
        self.notices.names.retain(|news, _| known(news));
        self.notices.deliveries.retain(|news, _| known(news));
        self.notices.keys.retain(|_, news| known(news));
        if set_back {
            self.notices.owed.clear();
            self.notices.shown.clone_from(alerts);
            return;
        }
        // what was stored and shown to nobody is told all the same
        self.notices.shown.retain(|id, _| alerts.contains_key(id));
        for alert in alerts.values() {
            self.note_owed_of(alert, store);
        }
    }

    fn note_waiting(&mut self, key: &str, value: &[u8]) {
        match keys::decode::<Delivery>(key, value) {
            Ok(Delivery { dead: Some(_), .. }) => drop(self.notices.waiting.remove(key)),
            Ok(Delivery { channel, notice, .. }) => {
                let news = (channel, notice.alert.id, notice.kind.name());
                self.notices.waiting.insert(key.to_owned(), news);
            }
            Err(why) => self.fail("what_is_stored_can_be_read", why.to_string()),
        }
    }

    /// Where too much waits for a channel.
    pub(super) fn note_what_gives_way(&mut self, transaction: &Transaction) {
        let writes: Vec<_> = under(&transaction.writes, DELIVERIES).collect();
        if writes.is_empty() {
            return;
        }
        let before: BTreeSet<_> = self.notices.waiting.values().cloned().collect();
        for (key, value) in &writes {
            if let Some(value) = value {
                self.note_waiting(key, value);
            }
        }
        let waiting = &mut self.notices.waiting;
        let mut extent = BTreeMap::new();
        for (channel, ..) in waiting.values() {
            *extent.entry(channel.clone()).or_insert(0) += 1;
        }
        let gone = writes.iter().filter(|(_, value)| value.is_none());
        let gone: BTreeSet<_> = gone.filter_map(|(key, _)| waiting.remove(*key)).collect();
        for news in gone.iter().filter(|(channel, ..)| extent.get(channel) > Some(&WAITING_MAX)) {
            self.notices.overflown.insert(news.0.clone());
            if !self.notices.told.contains(news) {
                rules!(self, what_is_over_unheard_gives_way_first(news, &before, &gone));
            }
        }
    }

    /// Before the end of what was heard.
    fn what_is_over_unheard_gives_way_first(
        &self,
        news: &News,
        before: &BTreeSet<News>,
        gone: &BTreeSet<News>,
    ) -> Result<(), String> {
        let of =
            |(channel, alert, _): &News, kind: NoticeKind| (channel.clone(), *alert, kind.name());
        let is_unheard = |news: &&News| {
            let [begins, ends] =
                [NoticeKind::Firing, NoticeKind::Resolved].map(|kind| of(news, kind));
            let told = self.notices.deliveries.contains_key(&begins);
            !told && before.contains(&begins) && before.contains(&ends) && !gone.contains(&begins)
        };
        let is_end = *news == of(news, NoticeKind::Resolved);
        if !is_end || gone.contains(&of(news, NoticeKind::Firing)) {
            return Ok(());
        }
        match before.iter().filter(|other| other.0 == news.0).find(is_unheard) {
            Some(unheard) => Err(format!("{news:?} gave way, and {unheard:?} did not")),
            None => Ok(()),
        }
    }

    /// An alert is shown: it is stored, and so is what is to be told of it.
    pub(super) fn note_owed(&mut self, effect: &Effect, store: &Store) {
        match effect {
            Effect::Alerted(alert) => self.note_owed_of(alert, store),
            Effect::AlertForgotten(id) => drop(self.notices.shown.remove(id)),
            _ => {}
        }
    }

    /// But for what a silence hides, or has just ceased to hide.
    fn note_owed_of(&mut self, alert: &Alert, store: &Store) {
        let before = self.notices.shown.insert(alert.id, alert.clone());
        let before = before.as_ref();
        let was = |known: fn(&Alert) -> bool| before.is_some_and(known);
        let there = |channel: &str| store.contains(&format!("{CHANNELS}{channel}"));
        let silenced = &mut self.silenced;
        let mut owe = |channel: &str, kind: NoticeKind| {
            let news = (channel.to_owned(), alert.id, kind.name());
            if there(channel) && !self.notices.told.contains(&news) {
                self.notices.owed.insert(news);
            }
        };
        if before.is_none() && !alert.is_over() {
            if !silenced.may_hide(alert, alert.fired_at) {
                owe(EVERYBODY, NoticeKind::Firing);
            } else if there(EVERYBODY)
                && (silenced.surely_hides(alert, alert.fired_at) || !alert.notified)
            {
                silenced.is_hidden_at_first(alert.id);
            }
        }
        if let Some(at) = alert.escalated_at
            && !was(|alert| alert.escalated_at.is_some())
            && !silenced.may_hide(alert, at)
        {
            owe(EVERYBODY, NoticeKind::Escalated);
            owe(DUTY, NoticeKind::Escalated);
        }
        // of what was over before the master heard of it somebody hears only if it is not hidden by then
        let unheard = match before {
            None => alert.silenced_by.is_some(),
            Some(_) => silenced.is_unheard(alert.id),
        };
        if alert.is_over() && !was(Alert::is_over) && !is_merged(alert) && !unheard {
            owe(EVERYBODY, NoticeKind::Resolved);
            if alert.escalated_at.is_some() {
                owe(DUTY, NoticeKind::Resolved);
            }
        }
    }

    /// The shell is to try it.
    pub(crate) fn dispatched(&mut self, dispatch: &Dispatch, store: &Store) {
        rules!(
            self,
            what_is_told_is_stored(dispatch, store),
            a_notification_has_one_key(dispatch),
            a_notification_says_what_its_alert_says(dispatch),
            news_are_told_by_one_delivery(dispatch),
            what_is_silenced_is_not_told(dispatch),
            nobody_is_told_of_the_end_alone(dispatch),
        );
        self.letter_dispatched(dispatch.delivery);
        if dispatch.notice.kind == NoticeKind::Firing {
            self.silenced.is_heard(dispatch.notice.alert.id);
        }
    }

    /// A crash between the two would lose it. While the store is away it is told all the same.
    fn what_is_told_is_stored(&self, dispatch: &Dispatch, store: &Store) -> Result<(), String> {
        let key = letters::key(dispatch.delivery);
        if dispatch.at_once || store.contains(&key) { Ok(()) } else { Err(key) }
    }

    /// At least once is for what is delivered; it is decided once.
    fn news_are_told_by_one_delivery(&mut self, dispatch: &Dispatch) -> Result<(), String> {
        let notice = &dispatch.notice;
        // told before it was stored: after a crash it may be decided again
        if notice.kind == NoticeKind::Updated || dispatch.at_once {
            return Ok(());
        }
        let news = (dispatch.channel.name.clone(), notice.alert.id, notice.kind.name());
        let first = *self.notices.deliveries.entry(news).or_insert(dispatch.delivery);
        if first == dispatch.delivery { Ok(()) } else { Err(format!("by {first}: {dispatch:?}")) }
    }

    /// But for the end of what they have heard of.
    fn what_is_silenced_is_not_told(&self, dispatch: &Dispatch) -> Result<(), String> {
        let notice = &dispatch.notice;
        if notice.kind == NoticeKind::Resolved {
            return Ok(());
        }
        // of whom it does not name nothing can be said
        let whole = notice.alert.members.len() == notice.subjects;
        if whole && self.silenced.surely_hides(&notice.alert, notice.at) {
            return Err(format!("{notice:?}"));
        }
        Ok(())
    }

    /// Of what was hidden until its end nobody hears. A channel has one line: that it fires came before.
    fn nobody_is_told_of_the_end_alone(&self, dispatch: &Dispatch) -> Result<(), String> {
        let notice = &dispatch.notice;
        let first = self.silenced.is_unheard(notice.alert.id) && dispatch.channel.name == EVERYBODY;
        if first && notice.kind == NoticeKind::Resolved {
            return Err(format!("{notice:?}"));
        }
        Ok(())
    }

    pub(super) fn what_was_taken_is_not_told_again(
        &self,
        dispatch: &Dispatch,
    ) -> Result<(), String> {
        if self.notices.taken.contains(&dispatch.delivery) {
            return Err(format!("{:?}", dispatch.notice));
        }
        Ok(())
    }

    /// By its key a receiver knows what it has heard already: never another one for the same, nor one for two.
    fn a_notification_has_one_key(&mut self, dispatch: &Dispatch) -> Result<(), String> {
        let notice = &dispatch.notice;
        if notice.kind == NoticeKind::Updated {
            return Ok(());
        }
        let (channel, key) = (dispatch.channel.name.clone(), notice.key.clone());
        let news = (channel.clone(), notice.alert.id, notice.kind.name());
        let other = self.notices.keys.insert((channel, key.clone()), news.clone());
        if let Some(other) = other.filter(|other| *other != news) {
            return Err(format!("{key} was {other:?}, and is {news:?}"));
        }
        // told before it was stored: after a crash it may be other news
        if dispatch.at_once {
            return Ok(());
        }
        let known = self.notices.names.insert(news.clone(), key.clone());
        match known.filter(|known| *known != key) {
            Some(known) => Err(format!("{news:?} was {known}, and is {key}")),
            None => Ok(()),
        }
    }

    fn a_notification_says_what_its_alert_says(&self, dispatch: &Dispatch) -> Result<(), String> {
        let notice = &dispatch.notice;
        let told = notice.alert.members.len();
        if notice.subjects == 0 || told > notice.subjects || (told < 10 && told < notice.subjects) {
            return Err(format!("{} subjects, {told} of them told", notice.subjects));
        }
        let over = notice.kind == NoticeKind::Resolved;
        if notice.alert.is_over() == over { Ok(()) } else { Err(format!("{notice:?}")) }
    }

    /// A channel took it, or never will.
    pub(crate) fn told(&mut self, dispatch: &Dispatch) {
        let notice = &dispatch.notice;
        let news = (dispatch.channel.name.clone(), notice.alert.id, notice.kind.name());
        self.notices.owed.remove(&news);
        self.notices.told.insert(news);
    }

    /// The master's process was told that a channel took it.
    pub(super) fn note_taken(&mut self, delivery: Id) {
        self.notices.taken.insert(delivery);
    }

    /// At the end: nobody waits for anything.
    pub(crate) fn notification_owed(&self) -> Option<String> {
        let mut owed =
            self.notices.owed.iter().filter(|news| !self.notices.overflown.contains(&news.0));
        owed.next().map(|news| format!("{news:?} was never told"))
    }
}
