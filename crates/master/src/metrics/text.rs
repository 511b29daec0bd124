//! The list in Prometheus' text format.
//!
//! Written by hand: the format is a few lines, and what the usual crate writes (OpenMetrics) is not what
//! `promtool check metrics` takes.

use std::fmt::Write as _;

use super::{Kind, Labels, Sink, list};
use crate::{
    api_server::Api,
    figures::{COMMIT_BOUNDS, Commits},
};

/// The page.
pub(crate) fn page(api: &Api) -> String {
    let mut page = Page::default();
    list(&mut page, api);
    page.text
}

/// The text so far.
#[derive(Debug, Default)]
struct Page {
    text: String,
    /// The family that was begun last.
    family: String,
}

impl Sink for Page {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter | Kind::OlderCounter => "counter",
        };
        self.head(name, help, kind);
        name.clone_into(&mut self.family);
    }

    fn sample(&mut self, labels: Labels<'_>, value: f64) {
        let Self { text, family } = self;
        line(text, family, labels, value);
    }

    fn histogram(&mut self, name: &str, help: &str, commits: &Commits) {
        self.head(name, help, "histogram");
        let bucket = format!("{name}_bucket");
        for (bound, count) in COMMIT_BOUNDS.iter().zip(commits.at_most) {
            line(&mut self.text, &bucket, &[("le", &bound.to_string())], count as f64);
        }
        line(&mut self.text, &bucket, &[("le", "+Inf")], commits.count as f64);
        line(&mut self.text, &format!("{name}_sum"), &[], commits.seconds);
        line(&mut self.text, &format!("{name}_count"), &[], commits.count as f64);
    }
}

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // writing into a String cannot fail, here and below
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }
}

/// `name{node="a",status="Ready"} 1`, escaped.
fn line(text: &mut String, name: &str, labels: Labels<'_>, value: f64) {
    text.push_str(name);
    let mut before = '{';
    for (key, value) in labels {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{before}{key}=\"{value}\"");
        before = ',';
    }
    let end = if labels.is_empty() { "" } else { "}" };
    let _ = writeln!(text, "{end} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_inside_its_label() {
        let mut text = String::new();
        line(&mut text, "up", &[("node", "a\"} 1\nevil 2\\"), ("x", "")], 1.0);
        assert_eq!(text, "up{node=\"a\\\"} 1\\nevil 2\\\\\",x=\"\"} 1\n");
        line(&mut text, "up", &[], 0.5);
        assert!(text.ends_with("\nup 0.5\n"), "{text}");
    }
}
