//! `docs/operations/cli.md`: the reference, made from the command line itself so that it cannot
//! lie.

use clap::{Arg, Command};

/// What no command's help says: output shapes, exit codes, context files.
const HEAD: &str = include_str!("reference_head.md");

/// The whole document.
pub fn markdown(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut out = HEAD.to_owned();
    section(&mut out, &command, "");
    let mut text: String = out.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn section(out: &mut String, command: &Command, parents: &str) {
    let name = format!("{parents}{}", command.get_name());
    out.push_str(&format!("\n## {name}\n\n"));
    let about = command.get_long_about().or_else(|| command.get_about());
    out.push_str(&format!("{}\n\n", about.map(ToString::to_string).unwrap_or_default()));
    let usage = command.clone().render_usage().to_string();
    out.push_str(&format!("```\n{}\n```\n", usage.trim_start_matches("Usage: ")));
    arguments(out, command, parents.is_empty());
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        let (code, rest) = examples.split_once("\n\n").unwrap_or((&examples, ""));
        let code: String =
            code.lines().skip(1).map(|line| format!("{}\n", unindented(line))).collect();
        out.push_str(&format!("\n```sh\n{code}```\n"));
        if !rest.is_empty() {
            out.push_str(&format!("\n{rest}\n"));
        }
    }
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        section(out, child, &format!("{name} "));
    }
}

fn unindented(line: &str) -> &str {
    line.strip_prefix("  ").unwrap_or(line)
}

/// Global options are told once, at the top.
fn arguments(out: &mut String, command: &Command, top: bool) {
    let shown = |arg: &&Arg| {
        let help = matches!(arg.get_id().as_str(), "help" | "version");
        !help && !arg.is_hide_set() && (top || !arg.is_global_set())
    };
    let all: Vec<_> = command.get_arguments().filter(shown).collect();
    if all.is_empty() {
        return;
    }
    out.push_str("\n| argument | meaning |\n|---|---|\n");
    for arg in all {
        out.push_str(&format!("| {} | {} |\n", spelling(arg), meaning(arg)));
    }
}

fn spelling(arg: &Arg) -> String {
    let takes_value = arg.get_action().takes_values();
    let names: Vec<_> =
        arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let value = if takes_value { names.join(" ") } else { String::new() };
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags: Vec<_> = short.into_iter().chain(long).collect();
    let text = match (flags.is_empty(), value.is_empty()) {
        (true, _) => value,
        (false, true) => flags.join(", "),
        (false, false) => format!("{} {value}", flags.join(", ")),
    };
    format!("`{text}`")
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string);
    let mut text = help.unwrap_or_default().replace("\n\n", ". ").replace('\n', " ");
    // told once, under Output
    let is_format = arg.get_id() == "format" && arg.get_default_values() == ["table"];
    let values: Vec<_> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help().filter(|_| !is_format) {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if arg.get_action().takes_values() && !values.is_empty() {
        text.push_str(&format!(": {}", values.join(", ")));
    }
    let defaults: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if arg.get_action().takes_values() && !arg.is_hide_default_value_set() && !defaults.is_empty() {
        text.push_str(&format!(" (default `{}`)", defaults.join(" ")));
    }
    if let Some(env) = arg.get_env() {
        text.push_str(&format!(" (environment `{}`)", env.to_string_lossy()));
    }
    text.trim_start_matches(": ").replace('|', "\\|")
}
