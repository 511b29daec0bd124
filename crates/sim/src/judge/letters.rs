//! What could not be delivered waits for people, who have it sent again or clear it; and no channel is told faster than
//! it bears.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use piccolo_core::{
    monitoring_server::alerts::{
        alert::Id,
        outbox::{DELIVERIES, Delivery, Dispatch},
        requests::AlertRequest,
    },
    state_manager::{Effect, Input, Request, RequestId, keys},
    time::Timestamp,
};

use super::{Judge, rules};
use crate::store::{Store, under};

/// Kept for people; the oldest beyond that may go.
const KEPT_MAX: usize = 100;
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Asked {
    letters: Vec<Id>,
    /// Or cleared.
    send: bool,
}

#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Given up, and whether the store was seen to have them so.
    dead: BTreeMap<Id, bool>,
    /// To be sent again, and not under way yet.
    waiting: BTreeSet<Id>,
    asked: BTreeMap<RequestId, Asked>,
    /// When each channel was told, of the last minute.
    paces: BTreeMap<String, VecDeque<Timestamp>>,
}

pub(super) fn key(id: Id) -> String {
    format!("{DELIVERIES}{:020}", id.0)
}

fn is_dead(store: &Store, key: &str) -> Result<bool, String> {
    let Some(value) = store.values().get(key) else { return Ok(false) };
    let delivery: Delivery = keys::decode(key, value).map_err(|e| e.to_string())?;
    Ok(delivery.dead.is_some())
}

impl Judge {
    pub(super) fn letters_after_a_restart(&mut self, store: &Store) {
        self.letters = Letters::default();
        for (key, _) in under(store.values(), DELIVERIES) {
            let id = key.strip_prefix(DELIVERIES).and_then(|number| number.parse().ok());
            match is_dead(store, key) {
                Ok(true) => self.letters.dead.extend(id.map(|id| (Id(id), true))),
                Ok(false) => {}
                Err(why) => self.fail("what_is_stored_can_be_read", why),
            }
        }
    }

    pub(super) fn note_letters(&mut self, input: &Input) {
        match input {
            Input::Delivered { delivery, result: Err(error) } if error.is_final => {
                self.letters.dead.insert(*delivery, false);
            }
            // by an attempt after the one that was given up, whose answer came late
            Input::Delivered { delivery, result: Ok(()) } => {
                self.letters.dead.remove(delivery);
            }
            Input::Request { id, request: Request::Alert(request), .. } => {
                let (letters, send) = match &**request {
                    AlertRequest::ResendDeadLetters(letters) => (letters, true),
                    AlertRequest::ClearDeadLetters(letters) => (letters, false),
                    _ => return,
                };
                self.letters.asked.insert(*id, Asked { letters: letters.clone(), send });
            }
            _ => {}
        }
    }

    pub(super) fn letters_decided(&mut self, at: Timestamp, effects: &[Effect]) {
        let letters = &mut self.letters;
        for effect in effects {
            if let Effect::Reply { request, result: Ok(_) } = effect
                && let Some(asked) = letters.asked.get(request)
            {
                letters.dead.retain(|letter, _| !asked.letters.contains(letter));
                letters.waiting.extend(asked.letters.iter().filter(|_| asked.send));
            }
        }
        for effect in effects {
            if let Effect::Dispatch(dispatch) = effect {
                rules!(
                    self,
                    what_was_given_up_waits_for_people(dispatch),
                    a_channel_is_told_no_faster_than_it_bears(at, dispatch),
                );
            }
        }
    }

    fn what_was_given_up_waits_for_people(&self, dispatch: &Dispatch) -> Result<(), String> {
        if self.letters.dead.contains_key(&dispatch.delivery) {
            return Err(format!("{dispatch:?}"));
        }
        Ok(())
    }

    fn a_channel_is_told_no_faster_than_it_bears(
        &mut self,
        at: Timestamp,
        dispatch: &Dispatch,
    ) -> Result<(), String> {
        let told = self.letters.paces.entry(dispatch.channel.name.clone()).or_default();
        while told.front().is_some_and(|before| at.since(*before) >= MINUTE) {
            told.pop_front();
        }
        told.push_back(at);
        let most = usize::try_from(dispatch.channel.per_minute).unwrap_or(usize::MAX);
        if told.len() <= most { Ok(()) } else { Err(format!("{} a minute", told.len())) }
    }

    /// One that was sent again is under way: it is owed anew.
    pub(super) fn letter_dispatched(&mut self, delivery: Id) {
        if self.letters.waiting.remove(&delivery) {
            self.notices.owe_again(delivery);
        }
    }

    pub(super) fn letters_are_as_people_were_answered(
        &mut self,
        effect: &Effect,
        store: &Store,
    ) -> Result<(), String> {
        let Effect::Reply { request, result } = effect else { return Ok(()) };
        let Some(asked) = self.letters.asked.remove(request).filter(|_| result.is_ok()) else {
            return Ok(());
        };
        if asked.send {
            let waiting = asked.letters.iter().filter(|id| self.letters.waiting.contains(*id));
            waiting.for_each(|letter| self.notices.owe_again(*letter));
            return Ok(());
        }
        match asked.letters.iter().find(|letter| store.contains(&key(**letter))) {
            Some(letter) => Err(format!("{letter} was cleared, and is stored")),
            None => Ok(()),
        }
    }

    /// While nothing waits to be stored.
    pub(super) fn dead_letters_are_kept(&mut self, store: &Store) -> Result<(), String> {
        let all = self.letters.dead.len() < KEPT_MAX;
        for (letter, seen) in self.letters.dead.iter_mut().filter(|_| all) {
            let key = key(*letter);
            if !store.contains(&key) || !(*seen || is_dead(store, &key)?) {
                return Err(format!("{letter} was given up, and is not stored as such"));
            }
            *seen = true;
        }
        Ok(())
    }
}
