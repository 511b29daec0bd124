//! Mutants of what a shell must do, beside those that `piccolo_core::mutant` lists of the cores.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShellMutant {
    /// After a stall the clock is served before what waits in the channel.
    InputsAfterDeadlines,
    /// Effects of one input are performed with their commit last.
    RevealBeforeCommit,
    /// The master's loop wakes up two seconds late.
    LateDeadline,
}

impl ShellMutant {
    pub(crate) const ALL: [(&'static str, Self); 3] = [
        ("shell: inputs after deadlines", Self::InputsAfterDeadlines),
        ("shell: reveal before commit", Self::RevealBeforeCommit),
        ("shell: late deadline", Self::LateDeadline),
    ];
}
