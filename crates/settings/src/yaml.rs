//! Settings as a file that says the same.

use crate::field::Shown;
use crate::schema::{Loaded, Schema};

impl<C> Schema<C> {
    /// Every setting in force, in the order of the table. What has no value has no line.
    pub fn to_yaml(&self, loaded: &mut Loaded<C>) -> String {
        let mut text = String::new();
        let mut open: Vec<&str> = Vec::new();
        for (key, shown, _) in self.show(loaded) {
            if shown == Shown::Nothing {
                continue;
            }
            let path: Vec<&str> = key.split('.').collect();
            let Some((name, sections)) = path.split_last() else { continue };
            let common = open.iter().zip(sections).take_while(|(a, b)| a == b).count();
            for (depth, section) in sections.iter().enumerate().skip(common) {
                text += &format!("{}{section}:\n", indent(depth));
            }
            open = sections.to_vec();
            text += &format!("{}{name}: {}\n", indent(sections.len()), value(&shown));
        }
        text
    }
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}

fn value(shown: &Shown) -> String {
    match shown {
        Shown::Nothing => String::new(),
        Shown::Text(text) => scalar(text),
        Shown::List(texts) => {
            format!("[{}]", texts.iter().map(|text| scalar(text)).collect::<Vec<_>>().join(", "))
        }
        Shown::Pairs(pairs) => {
            let pairs =
                pairs.iter().map(|(key, value)| format!("{}: {}", scalar(key), scalar(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Plain where nobody could take it for anything but this text.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._:-".contains(c);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let is_reserved = reserved.contains(&text.to_ascii_lowercase().as_str());
    if begins_well && !text.ends_with(':') && text.chars().all(is_plain) && !is_reserved {
        return text.to_owned();
    }
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}
