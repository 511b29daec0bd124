//! Rules broken on purpose, so that the simulator can show that it would notice (docs/adr/0007-mutants.md).
//!
//! Without the feature `mutants`, which no shipped executable has, `mutant!` is the constant `false`.

/// Every mutant of the cores, by name; the name says what it does wrong.
pub const ALL: &[&str] = &[
    "Ready before the system was checked",
    "Ready without configuration",
    "a broken session is not noticed",
    "a channel is told faster than it bears",
    "a check that failed stays failed",
    "a clock that was wrong stays wrong",
    "a dead letter is not sent again",
    "a dead letter is not stored",
    "a dead letter that was cleared is kept",
    "a deadline is judged before it is served",
    "a deadline is served late",
    "a dropped session stays live",
    "a failed check is not repeated soon",
    "a failed check keeps nobody out",
    "a forced step takes an attempt of the plan's",
    "a generation is not saved",
    "a group does not name who joins it",
    "a key that cannot be kept is made",
    "a lost attempt is waited for",
    "a master that is there is passed over",
    "a new pace counts before it is known",
    "a new pace waits for the next beat",
    "a new start knows nothing of what was never sent",
    "a node in Maintenance alerts its master",
    "a node in Maintenance alerts",
    "a node is rebooted for a folder that can be written",
    "a notification is lost with its first attempt",
    "a notification is not stored",
    "a notification's key is that of other news",
    "a pause holds nothing",
    "a person is told again and again",
    "a probe changes the pace",
    "a probe is a way to live",
    "a problem is over at once",
    "a reboot that nobody will remember is done",
    "a restart softens a verdict",
    "a restore brings tokens back",
    "a revoked token is kept",
    "a second live session is accepted",
    "a silence has no end",
    "a silence hides nothing",
    "a silence hides the end of what was told",
    "a silence is forgotten by a restart",
    "a silence is not stored",
    "a silence of one hides its group",
    "a silence that was ended is kept",
    "a silent master is not noticed",
    "a spent token readmits its node",
    "a storm has no budget",
    "an agent trusts its own clock",
    "an alert does not wait for its time",
    "an alert ends while its condition holds",
    "an alert escalates again and again",
    "an alert escalates at once",
    "an alert goes on when it is over",
    "an alert is not stored",
    "an alert is over before its time",
    "an alert outlives what it is about",
    "an earlier life is not stepped over",
    "an end is told before its code is known",
    "an end is told of what nobody was told of",
    "an end is told to nobody",
    "an end without its code passes for a success",
    "an expired agent is not told why",
    "an older generation is accepted",
    "any session may speak",
    "attempts are not counted",
    "back-off may shrink",
    "dropped events are not told",
    "drops are not counted",
    "events are appended again",
    "expired certificates are good",
    "generations of a restored master begin again",
    "ids of a restored master's events begin again",
    "no double allowance",
    "no hysteresis",
    "nobody is told",
    "old errors are news",
    "one container's alert stands for all of its node",
    "only a new session counts as heard",
    "only one older key is remembered",
    "records are not stored",
    "removal does not revoke",
    "removal is only said",
    "retirement has no bound",
    "revisions of a restored master begin again",
    "roles are not checked",
    "straight to Ready",
    "texts are sent as they are",
    "the acknowledged sequence is not stored",
    "the audit chain is not linked",
    "the journal has no bound",
    "the journal is cleared when it is sent",
    "the oldest gives way whatever it is",
    "uses are not counted",
    "what a silence hid is never told",
    "what fires is forgotten by a restart",
    "what fires is not kept",
    "what is not known yet is told as nothing",
    "what is silenced escalates",
    "what joins a group fires alone too",
    "what nobody acknowledged is not told again",
    "what was acknowledged escalates",
    "what was given up is tried again",
    "what was taken is told again",
    "who joined since the backup is turned away",
    "who was removed before the backup is believed",
    "who was removed since the restore is believed",
    "whom an earlier restore believed is forgotten",
];

#[cfg(feature = "mutants")]
mod active {
    use std::cell::Cell;

    thread_local! {
        pub(super) static ACTIVE: Cell<Option<&'static str>> = const { Cell::new(None) };
    }
}

/// Makes one mutant active on this thread, or none. Without the feature it does nothing.
pub fn activate(name: Option<&'static str>) {
    #[cfg(feature = "mutants")]
    active::ACTIVE.set(name);
    #[cfg(not(feature = "mutants"))]
    let _ = name;
}

#[cfg(feature = "mutants")]
pub(crate) fn is_active(name: &'static str) -> bool {
    debug_assert!(ALL.contains(&name), "{name:?} is not in the list of mutants");
    active::ACTIVE.get() == Some(name)
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is_active(_: &'static str) -> bool {
    false
}

/// Whether this mutant is active; `false` in everything that is shipped.
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutant::is_active($name)
    };
}
pub(crate) use mutant;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    fn named_in(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named_in(&path, names);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("mutant.rs") {
                let text = fs::read_to_string(&path).unwrap();
                for part in text.split("mutant!(\"").skip(1) {
                    names.insert(part.split('"').next().unwrap().to_owned());
                }
            }
        }
    }

    #[test]
    fn the_list_names_what_the_code_has() {
        let mut names = BTreeSet::new();
        named_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
        let listed: BTreeSet<_> = super::ALL.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(names, listed);
        assert!(listed.len() >= 20, "a rule has a mutant");
    }
}
