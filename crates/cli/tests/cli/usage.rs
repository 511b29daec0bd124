//! Arguments: help, examples, completion, manual pages, and what is refused before anything is
//! sent.

use assert_cmd::Command;
use clap::{Command as Clap, Parser as _};
use clap_complete::Shell;
use piccolo_cli::{args::Cli, command, completion};

use crate::support::{Home, code, stderr, stdout};

/// Every command, with the words that lead to it.
fn commands() -> Vec<(String, Clap)> {
    fn walk(command: &Clap, path: &str, all: &mut Vec<(String, Clap)>) {
        let path = format!("{path}{}", command.get_name());
        for child in command.get_subcommands() {
            walk(child, &format!("{path} "), all);
        }
        all.push((path, command.clone()));
    }
    let mut all = Vec::new();
    let mut root = command();
    root.build();
    walk(&root, "", &mut all);
    all
}

/// The command lines among the examples of a help text.
fn examples(command: &Clap) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_default();
    let lines = examples.lines().take_while(|line| !line.is_empty());
    lines.map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned()).collect()
}

/// As a shell would split it; quotes are all that the examples use.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn every_command_has_examples_and_every_example_is_a_valid_command_line() {
    for (path, clap) in commands() {
        let examples = examples(&clap);
        assert!(!examples.is_empty(), "{path} has no examples");
        for example in examples {
            let words = words(&example);
            assert_eq!(words[0], "piccolo", "{path}: {example}");
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{path}: {example}: {error}");
            }
            if !path.contains(' ') || clap.has_subcommands() {
                continue;
            }
            let names = path.split(' ').skip(1);
            assert!(
                names.into_iter().all(|name| words.contains(&name.to_owned())),
                "{path}: {example}"
            );
        }
    }
}

#[test]
fn every_command_and_argument_says_what_it_is() {
    for (path, clap) in commands() {
        assert!(clap.get_about().is_some(), "{path} has no description");
        for arg in clap.get_arguments() {
            let values = !arg.get_possible_values().is_empty();
            let named = arg.get_help().is_some() || values || arg.is_positional();
            assert!(named, "{path}: {} has no help", arg.get_id());
        }
    }
}

#[test]
fn the_executable_shows_help_on_stdout_with_code_0() {
    for words in [vec!["--help"], vec!["node", "list", "--help"], vec!["events", "-h"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_piccolo")).args(&words).output().unwrap();
        assert_eq!(code(&output), 0, "{words:?}");
        assert!(stdout(&output).contains("Examples:"), "{words:?}");
    }
}

#[test]
fn help_is_a_command_too() {
    let home = Home::new();
    let asked = home.piccolo(&["help", "node", "list"]);
    assert_eq!(code(&asked), 0);
    assert!(stdout(&asked).contains("piccolo node list -o wide"), "{}", stdout(&asked));
    let asked = home.piccolo(&["help", "node", "lsit"]);
    assert_eq!(code(&asked), 2);
    assert!(stderr(&asked).contains("node has no command \"lsit\""), "{}", stderr(&asked));
}

#[test]
fn a_wrong_command_line_is_code_2_on_stderr() {
    let home = Home::new();
    for (words, part) in [
        (vec![], "Usage: piccolo"),
        (vec!["nod"], "unrecognized subcommand 'nod'"),
        (vec!["node", "list", "-o", "xml"], "possible values: table, wide, json, yaml"),
        (vec!["node", "list", "-l", "status"], "column 1, \"status\": expected key=value"),
        (vec!["node", "list", "-l", "status=Redy"], "column 1"),
        (vec!["node", "get"], "<NODE>"),
        (vec!["node", "label", "zone-a", "x"], "expected KEY=VALUE"),
        (vec!["node", "maintenance", "maybe", "zone-a"], "possible values: on, off"),
        (vec!["node", "deploy"], "<[USER@]HOST>"),
        (vec!["node", "deploy", "root@"], "expected a host as ssh knows it"),
        (vec!["node", "deploy", "root@a:22"], "the port is another option: root@a --port 22"),
        (vec!["node", "deploy", "--jump", "a b", "c"], "expected a host as ssh knows it"),
        (vec!["node", "deploy", "--parallel", "0", "a"], "1..=32"),
        (vec!["node", "deploy", "--master", "a:0", "b"], "expected HOST or HOST:PORT"),
        (vec!["node", "deploy", "--name", "a_b", "c"], "not allowed in a host name"),
        (vec!["node", "undeploy"], "<NODE|USER@HOST>"),
        (vec!["token", "create", "--ttl", "soon"], "not a length of time"),
        (vec!["token", "create", "--uses", "1001"], "1..=1000"),
        (vec!["user", "create", "alice"], "--role"),
        (vec!["user", "create", "-x", "--role", "viewer"], "unexpected argument"),
        (vec!["events", "--since", "yesterday"], "expected a length of time"),
        (vec!["events", "--since", "5m", "--after", "3"], "cannot be used with"),
        (vec!["topology", "apply"], "--file <FILE>"),
        (vec!["completion", "tcsh"], "possible values"),
        (vec!["--timeout", "0s", "status"], "\"0s\" is no time at all"),
        (vec!["token", "create", "--role", "sub", "--ttl", "10y"], "\"y\" is no unit"),
    ] {
        let output = home.piccolo(&words);
        assert_eq!(code(&output), 2, "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{words:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{words:?}");
    }
}

#[test]
fn completion_scripts_know_every_noun_and_no_hidden_command() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
        let script = completion::script(shell);
        for noun in ["status", "node", "token", "user", "topology", "events", "audit", "log-level"]
        {
            assert!(script.contains(noun), "{shell}: {noun}");
        }
    }
    let home = Home::new();
    let output = home.piccolo(&["completion", "bash"]);
    assert_eq!((code(&output), stdout(&output)), (0, completion::script(Shell::Bash)));
}

#[test]
fn bash_accepts_its_completion_script() {
    let script = completion::script(Shell::Bash);
    let output = Command::new("bash").arg("-n").write_stdin(script).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let home = Home::new();
    let folder = home.path("man/of/piccolo");
    let folder = folder.to_str().unwrap();
    for words in [vec!["man", "--into", folder], vec!["man", folder]] {
        let output = home.piccolo(&words);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        for (path, _) in commands().iter().filter(|(_, command)| !command.is_hide_set()) {
            let name = path.replace(' ', "-");
            let page = home.path("man/of/piccolo").join(format!("{name}.1"));
            let text = std::fs::read_to_string(&page).unwrap();
            std::fs::remove_file(page).unwrap();
            let title = format!(".TH {name} 1  \"piccolo {}\" PICCOLO", env!("CARGO_PKG_VERSION"));
            assert!(text.contains(&title), "{text}");
            assert!(!text.contains("EXTRA"), "{text}");
            // Lines as they are, and nothing but examples.
            let (_, examples) = text.split_once(".SH EXAMPLES\n.nf\n").unwrap();
            let (examples, _) = examples.split_once(".fi\n").unwrap();
            assert!(examples.lines().all(|line| line.starts_with("piccolo ")), "{text}");
        }
    }
}

#[test]
fn a_manual_page_is_shown_by_man_and_plainly_where_there_is_none() {
    let home = Home::new();
    let asked = || {
        let mut command = home.command();
        command.env("PATH", home.path("bin")).args(["man", "node", "list"]).output().unwrap()
    };
    let plain = asked();
    assert_eq!(code(&plain), 0, "{}", stderr(&plain));
    assert_eq!(stdout(&plain), stdout(&home.piccolo(&["help", "node", "list"])));
    home.script("bin/man", "#!/bin/sh\necho \"$@\"\n/bin/cat\n");
    let text = stdout(&asked());
    assert!(text.starts_with("-l -\n") && text.contains(".TH piccolo-node-list 1"), "{text}");
    // as busybox, which knows no -l
    home.script("bin/man", "#!/bin/sh\nexit 1\n");
    assert_eq!(stdout(&asked()), stdout(&plain));
    let none = home.piccolo(&["man", "nosuch"]);
    assert_eq!(code(&none), 2);
    assert!(stderr(&none).contains("piccolo has no command \"nosuch\""), "{}", stderr(&none));
}

#[test]
fn a_context_in_the_environment_does_not_look_like_one_that_must_be_given() {
    let home = Home::new();
    let mut command = home.command();
    command.env("PICCOLO_CONTEXT", "c.yaml").args(["node", "approve"]);
    let output = command.output().unwrap();
    assert_eq!(code(&output), 2);
    let text = stderr(&output);
    assert!(text.contains("Usage: piccolo node approve [OPTIONS] <NODE>...\n"), "{text}");
}

#[test]
fn the_version_needs_no_context_and_no_master() {
    let home = Home::new();
    let output = home.piccolo(&["version", "--client", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let expect = format!("{{\n  \"client\": \"{}\"\n}}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&output), expect);
}

#[test]
fn store_migrate_says_where_it_looked_for_the_master() {
    let home = Home::new();
    // a copy, so that no piccolo-master of a build lies beside it
    let own = home.path("piccolo");
    std::fs::copy(env!("CARGO_BIN_EXE_piccolo"), &own).unwrap();
    let run = || {
        let mut command = home.command_of(&own);
        command.env("PATH", home.path("bin")).args(["store", "migrate", "--to", "etcd", "--help"]);
        command.output().unwrap()
    };
    let output = run();
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("neither beside this program nor on PATH"));
    home.script("bin/piccolo-master", "#!/bin/sh\necho \"$@\"\nexit 7\n");
    let output = run();
    assert_eq!((code(&output), stdout(&output).trim()), (7, "store migrate --to etcd --help"));
}
