//! Alerts of boards that are alone: each is told under one key, from its beginning to its end.

use std::collections::BTreeMap;

use piccolo_core::node_agent::local_alerts::LocalNotice;

use super::Judge;

/// By board, node, rule and container: the key under which its beginning was told.
pub(crate) type Firing = BTreeMap<(usize, String), String>;

impl Judge {
    /// The board could not write down what it had told.
    pub(crate) fn forgets_what_it_told(&mut self, b: usize) {
        self.local_alerts.retain(|(board, _), _| *board != b);
    }

    /// A channel has taken it.
    pub(crate) fn told_locally(&mut self, b: usize, notice: &LocalNotice) {
        let parts: Vec<_> = notice.key.split('/').collect();
        let Some((kind, rest)) = parts.split_last() else { return };
        let subject = (b, rest.get(..3).unwrap_or(rest).join("/"));
        if *kind == "resolved" {
            self.local_alerts.remove(&subject);
            return;
        }
        let known = self.local_alerts.insert(subject, notice.key.clone());
        if let Some(known) = known.filter(|known| *known != notice.key) {
            let what = format!("board-{b}: {known}, and again {}", notice.key);
            self.fail("an_alert_is_told_under_one_key", what);
        }
    }
}
