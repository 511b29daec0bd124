//! Silences: for a time nobody is told of some alerts. They are still there to be seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    alert::{Alert, Id, Member},
    matcher::Matcher,
};
use crate::time::WallTime;

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
    fn covers(&self, alert: &Alert, member: &Member, now: WallTime) -> bool {
        let only = std::slice::from_ref(member);
        now < self.until && self.matcher.matches(|key| alert.values_of(only, key))
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
    let each: Option<Vec<_>> = alert.spoken_of().map(longest).collect();
    each?.into_iter().min_by_key(|silence| silence.until).map(|silence| silence.id)
}
