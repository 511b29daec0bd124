//! Silences: for a time nobody is told of some alerts. They are still there to be seen.

use serde::{Deserialize, Serialize};

use super::{
    alert::{Alert, Id},
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
    pub(super) fn covers(&self, alert: &Alert, now: WallTime) -> bool {
        now < self.until && self.matcher.matches(|key| alert.values(key))
    }
}
