//! Why a step on a host was not done: what was said there, and what to do.

/// Lines of what was said that are shown.
const LINES_SHOWN_MAX: usize = 12;

/// The step is known to whoever catches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What the host, ssh or the master said, at most the last lines of it.
    pub said: String,
    pub help: String,
}

impl Trouble {
    pub fn new(said: impl AsRef<str>) -> Self {
        let lines: Vec<&str> =
            said.as_ref().lines().filter(|line| !line.trim().is_empty()).collect();
        let shown = lines.get(lines.len().saturating_sub(LINES_SHOWN_MAX)..).unwrap_or_default();
        Self { said: shown.join("\n"), help: "run this again: what is done already is kept".into() }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

/// What the master, or the way to it, said.
impl From<crate::failure::Failure> for Trouble {
    fn from(failure: crate::failure::Failure) -> Self {
        let said = [&failure.error].into_iter().chain(&failure.causes).cloned().collect::<Vec<_>>();
        let trouble = Self::new(said.join("\n"));
        if failure.help.is_empty() { trouble } else { trouble.help(failure.help.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_shown() {
        let long: String = (1..=40).map(|number| format!("line {number}\n\n")).collect();
        let trouble = Trouble::new(long);
        assert!(trouble.said.starts_with("line 29\n") && trouble.said.ends_with("line 40"));
        assert_eq!(Trouble::new("").said, "");
    }
}
