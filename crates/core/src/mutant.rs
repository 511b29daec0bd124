//! Rules broken on purpose, so that the simulator can show that it would notice (docs/adr/0007-mutants.md).
//!
//! Without the feature `mutants`, which no shipped executable has, `mutant!` is the constant `false`.

/// Every mutant of the cores, by name; the name says what it does wrong.
pub const ALL: &[&str] = &[
    "events are appended again",
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
