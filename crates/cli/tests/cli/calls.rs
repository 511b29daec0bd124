//! Calls: contexts, exit codes, and what an error says.

use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, process::Output, sync::Arc};

use piccolo_core::api_server::{Code, Refusal};
use piccolo_rpc::status;
use tonic::Status;

use crate::support::{Authority, Home, Peer, code, context_text, stderr, stdout};

/// A peer, and a home with an admin's context for it.
pub(crate) fn start() -> (Home, Peer, String) {
    let authority = Arc::new(Authority::new());
    let peer = Peer::start(&authority);
    let home = Home::new();
    let servers = peer.address.to_string();
    let context = home.context("admin.yaml", &servers, &authority.identity("admin", "first"));
    (home, peer, context.to_str().unwrap().to_owned())
}

#[track_caller]
pub(crate) fn check(output: &Output, exit: i32, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(code(output), exit, "{text}");
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
    assert!(!text.contains("PRIVATE KEY") && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_context_is_found_by_flag_environment_and_home() {
    let (home, _peer, context) = start();
    let listed = home.piccolo(&["--context", &context, "node", "list"]);
    check(&listed, 0, &[]);
    assert!(stdout(&listed).starts_with("NAME"), "{}", stdout(&listed));
    let by_environment =
        home.command().env("PICCOLO_CONTEXT", &context).args(["node", "list"]).output().unwrap();
    check(&by_environment, 0, &[]);
    check(&home.piccolo(&["context", "use", &context]), 0, &[]);
    let own = home.path(".config/piccolo/context.yaml");
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);
    check(&home.piccolo(&["node", "list"]), 0, &[]);
    let shown = home.piccolo(&["context", "show", "-o", "json"]);
    check(&shown, 0, &[]);
    for part in ["\"user\": \"first\"", "\"role\": \"admin\"", "\"cluster\": \"c7f3a1\""] {
        assert!(stdout(&shown).contains(part), "{}", stdout(&shown));
    }
    assert!(!stdout(&shown).contains("PRIVATE"));
}

#[test]
fn a_context_that_others_can_read_is_refused() {
    let (home, _peer, context) = start();
    for mode in [0o644, 0o640, 0o602] {
        fs::set_permissions(&context, fs::Permissions::from_mode(mode)).unwrap();
        let output = home.piccolo(&["--context", &context, "status"]);
        check(&output, 5, &["error: context", &format!("mode {mode:04o}"), "help: chmod 0600"]);
    }
}

#[test]
fn a_context_that_is_none_says_what_is_wrong_with_it() {
    let (home, _peer, _) = start();
    let authority = Authority::new();
    let identity = authority.identity("admin", "first");
    let good = context_text("127.0.0.1:1", "c7f3a1", &identity);
    let other = Authority::new().identity("admin", "first");
    let key_of = |text: &str| text.split("key: |").nth(1).unwrap().to_owned();
    let other_key = key_of(&context_text("127.0.0.1:1", "c7f3a1", &other));
    for (text, part) in [
        (String::new(), "is not a usable context"),
        (good.replace("server:", "servers:"), "servers"),
        (
            good.replace("127.0.0.1:1", "127.0.0.1"),
            "\"127.0.0.1\" is no address of the form host:port",
        ),
        (good.replace("127.0.0.1:1", "[]"), "names no master"),
        (good.replace("c7f3a1\n", "other\n"), "its certificate is of cluster \"c7f3a1\""),
        (good.replace(&key_of(&good), &other_key), "the certificate is for another private key"),
        (
            good.replace("BEGIN CERTIFICATE", "BEGIN NONSENSE"),
            "cause: ca: is not PEM: there is no line -----END NONSENSE-----",
        ),
        (
            good.replace("-BEGIN CERTIFICATE-----", "-BEGIN XER"),
            "begins with -----BEGIN does not end",
        ),
        (format!("{good}password: x\n"), "password"),
        ("x".repeat(300_000), "too large"),
    ] {
        let path = home.path("bad.yaml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let output = home.piccolo(&["--context", path.to_str().unwrap(), "status"]);
        check(&output, 1, &[part, "error:"]);
    }
    check(&home.piccolo(&["--context", "none.yaml", "status"]), 3, &["none.yaml cannot be read"]);
}

#[test]
fn a_damaged_key_is_never_shown() {
    let (home, _peer, _) = start();
    let good = context_text("127.0.0.1:1", "c7f3a1", &Authority::new().identity("admin", "first"));
    let (before, key) = good.split_once("key: |\n").unwrap();
    let lines: Vec<_> = key.lines().map(str::trim).collect();
    let secret = lines[1];
    let numbers = format!("{:?}", &secret.as_bytes()[..4]);
    for key in [
        lines.join(" "),
        lines.join(""),
        lines[..2].join(" "),
        lines[..lines.len() - 1].join("\n  "),
        lines.join("\n  ").replacen(secret, &format!("{}!{}", &secret[..9], &secret[9..]), 1),
    ] {
        let path = home.path("bad.yaml");
        fs::write(&path, format!("{before}key: |\n  {key}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let output = home.piccolo(&["--context", path.to_str().unwrap(), "status"]);
        let text = stderr(&output);
        assert_eq!(code(&output), 1, "{text}");
        assert!(text.contains("cause: key: is not PEM: "), "{text}");
        assert!(!text.contains(&secret[..9]) && !text.contains(&numbers[1..12]), "{text}");
    }
}

#[test]
fn a_master_that_does_not_answer_is_code_4_with_every_address() {
    let (home, mut peer, context) = start();
    peer.end();
    let gone = peer.address.to_string();
    let output = home.piccolo(&["--context", &context, "node", "list"]);
    check(&output, 4, &["no master answers", &gone, "refused", "systemctl status piccolo-master"]);
    let output = home.piccolo(&["--context", &context, "node", "list", "--watch"]);
    check(&output, 4, &["no master answers"]);
    let authority = Authority::new();
    let servers = format!("[\"{gone}\", \"127.0.0.1:1\"]");
    let two = home.context("two.yaml", &servers, &authority.identity("admin", "first"));
    let output = home.piccolo(&["--context", two.to_str().unwrap(), "status"]);
    check(&output, 4, &[&gone, "127.0.0.1:1: "]);
}

#[test]
fn nodes_are_listed_as_they_were_and_what_is_not_known_is_said() {
    let (home, _peer, context) = start();
    let list = ["--context", &context, "node", "list", "--at", "2026-11-23T18:00:00Z"];
    let listed = home.piccolo(&list);
    check(&listed, 0, &["events are kept since 2026-11-23T18:00:00Z"]);
    let rows: Vec<Vec<_>> = stdout(&listed)
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(rows[1][..5], ["zone-a", "Ready", "sub", "-", "1/1"]);
    assert_eq!(rows[2][..5], ["zone-b", "Unknown", "unknown", "-", "0/0"]);
    let listed = home.piccolo(&[&list[..], &["-o", "json"]].concat());
    assert!(stdout(&listed).contains("\"status\": \"Unknown\""), "{}", stdout(&listed));
    for more in [&["--watch"][..], &["-l", "status=Ready"]] {
        check(&home.piccolo(&[&list[..], more].concat()), 2, &["cannot be used with"]);
    }
}

#[test]
fn more_events_than_an_answer_holds_are_read_page_by_page() {
    let (home, _peer, context) = start();
    for (place, count, first, last) in [
        (&["-n", "2200"][..], 2_200, 301, 2_500),
        (&["-n", "9999"][..], 2_500, 1, 2_500),
        (&["-n", "2000", "--before", "2001"][..], 2_000, 1, 2_000),
        (&["-n", "2", "--before", "2001"][..], 2, 1_999, 2_000),
        (&["-n", "1500", "--after", "10"][..], 1_500, 11, 1_510),
    ] {
        let asked = [&["--context", &context, "events", "--node", "many", "-o", "json"][..], place];
        let output = home.piccolo(&asked.concat());
        let listed: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        let ids: Vec<_> = listed["events"].as_array().unwrap().iter().map(|e| &e["id"]).collect();
        assert_eq!((ids.len(), ids[0], ids[count - 1]), (count, &first.into(), &last.into()));
    }
}

#[test]
fn a_connection_that_is_closed_before_tls_is_told_as_such() {
    let authority = Authority::new();
    let home = Home::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // read first, and not: an end of the stream, and a reset
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            if n % 2 == 0 {
                let _ = (&stream).read(&mut [0; 4096]);
            }
        }
    });
    let context =
        home.context("c.yaml", &format!("\"{address}\""), &authority.identity("viewer", "kim"));
    let at = format!("{address}: it closed the connection before TLS");
    for _ in 0..4 {
        let output = home.piccolo(&["--context", context.to_str().unwrap(), "status"]);
        check(
            &output,
            4,
            &["no master answers", &at, "more than 100 a second", "no PICCOLO master"],
        );
    }
    let output = home.piccolo(&["--context", context.to_str().unwrap(), "doctor"]);
    assert!(stdout(&output).contains("more than 100 a second"), "{output:?}");
}

#[test]
fn the_next_master_is_asked_when_the_first_is_gone() {
    let authority = Arc::new(Authority::new());
    let peer = Peer::start(&authority);
    let home = Home::new();
    let servers = format!("[\"127.0.0.1:1\", \"{}\"]", peer.address);
    let context = home.context("c.yaml", &servers, &authority.identity("viewer", "kim"));
    check(&home.piccolo(&["--context", context.to_str().unwrap(), "node", "list"]), 0, &[]);
}

#[test]
fn a_master_of_another_cluster_is_not_trusted() {
    let (home, peer, _) = start();
    let stranger = Authority::new().identity("admin", "first");
    let context = home.context("s.yaml", &peer.address.to_string(), &stranger);
    let output = home.piccolo(&["--context", context.to_str().unwrap(), "node", "list"]);
    let at = format!("error: another cluster's master is at {}", peer.address);
    check(&output, 5, &[&at, "issued by another authority", "s.yaml is for cluster c7f3a1"]);
    assert!(!stderr(&output).contains("firewall"), "it answered");
    let servers = format!("[\"127.0.0.1:1\", \"{}\"]", peer.address);
    let context = home.context("two.yaml", &servers, &stranger);
    let output = home.piccolo(&["--context", context.to_str().unwrap(), "node", "list"]);
    check(&output, 4, &["no master answers", "issued by another authority", "refused"]);
}

#[test]
fn a_certificate_that_the_master_refuses_is_code_5() {
    let (home, peer, context) = start();
    // the right CA to trust, but a certificate that another one issued
    let stranger = Authority::new().identity("admin", "first");
    let text = context_text(&peer.address.to_string(), "c7f3a1", &stranger);
    let ours = fs::read_to_string(&context).unwrap();
    let part = |text: &str, from: &str, to: &str| {
        text.split(from).nth(1).unwrap().split(to).next().unwrap().to_owned()
    };
    let ca = part(&text, "ca: |\n", "certificate: |");
    let text = text.replace(&ca, &part(&ours, "ca: |\n", "certificate: |"));
    fs::write(&context, text).unwrap();
    let output = home.piccolo(&["--context", &context, "node", "list"]);
    check(&output, 5, &["does not accept the certificate of first (admin)", "help: see"]);
}

#[test]
fn refusals_keep_their_words_and_have_their_codes() {
    let (home, peer, context) = start();
    let refuse = |status: Status| {
        peer.script.lock().unwrap().refusal = Some(status);
        home.piccolo(&["--context", &context, "node", "approve", "zone-a"])
    };
    let denied = Refusal::new(
        Code::PermissionDenied,
        "RoleNotAllowed",
        "role viewer may not call ApproveNode",
    )
    .help("ask an admin for a certificate of a role that may");
    let output = refuse(status::status(&denied));
    check(
        &output,
        5,
        &[
            "error: cannot approve node zone-a\n",
            "cause: role viewer may not call ApproveNode\n",
            "help: ask an admin for a certificate of a role that may\n",
        ],
    );
    for (status, exit, part) in [
        (Status::permission_denied("no"), 5, "admin.yaml speaks for first (admin)"),
        (Status::unauthenticated("who?"), 5, "who?"),
        (Status::not_found("no such node\u{1b}[2J"), 3, "no such node\\u{1b}[2J"),
        (Status::invalid_argument("node_id: must not be empty"), 2, "cause: must not be empty"),
        (Status::invalid_argument("ttl_seconds: is more than a year"), 2, "--ttl: is more"),
        (Status::failed_precondition("it is Ready"), 1, "it is Ready"),
        (Status::unavailable("the store does not answer"), 4, "the store does not answer"),
        (Status::internal("oh"), 1, "oh"),
        (Status::resource_exhausted(""), 1, "cause: "),
    ] {
        check(&refuse(status), exit, &[part]);
    }
}

#[test]
fn a_master_that_hangs_is_code_4_after_the_timeout() {
    let (home, peer, context) = start();
    peer.script.lock().unwrap().mute = true;
    let output = home.piccolo(&["--context", &context, "--timeout", "300ms", "node", "list"]);
    check(&output, 4, &["error: cannot list nodes", "--timeout"]);
}

#[test]
fn with_several_nodes_one_failure_does_not_keep_the_others_from_it() {
    let (home, _peer, context) = start();
    let remove = ["--context", &context, "node", "remove", "zone-a", "x", "zone-b"];
    let output = home.piccolo(&[&remove[..], &["--yes"]].concat());
    check(&output, 3, &["cannot get node x", "there is no node \"x\""]);
    assert_eq!(stdout(&output), "node zone-a removed\nnode zone-b removed\n");
}

#[test]
fn a_node_is_not_removed_where_nobody_can_be_asked() {
    let (home, _peer, context) = start();
    let output = home.piccolo(&["--context", &context, "node", "remove", "zone-a"]);
    check(&output, 2, &["no terminal to ask whether the nodes are to be removed", "say --yes"]);
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_selector_and_labels_reach_the_master_as_they_were_written() {
    let (home, peer, context) = start();
    let list =
        ["--context", &context, "node", "list", "-l", "status=Ready,name~zone", "-o", "json"];
    let output = home.piccolo(&list);
    check(&output, 0, &[]);
    assert!(stdout(&output).starts_with("{\n  \"nodes\": ["), "{}", stdout(&output));
    let label = ["--context", &context, "node", "label", "zone-a", "site=hall=3", "soc-", "x="];
    let output = home.piccolo(&label);
    check(&output, 0, &[]);
    assert_eq!(stdout(&output), "node zone-a labelled: site=seoul,soc=a78\n");
    let script = peer.script.lock().unwrap();
    assert_eq!(script.filters, [Some("status=Ready,name~zone".to_owned())]);
    let request = &script.labelled[0];
    assert_eq!(request.set["site"], "hall=3");
    assert_eq!(request.set["x"], "");
    assert_eq!(request.remove, ["soc"]);
}

#[test]
fn a_token_stands_alone_on_stdout() {
    let (home, _peer, context) = start();
    let output = home.piccolo(&["--context", &context, "token", "create", "--role", "sub"]);
    check(&output, 0, &[]);
    assert_eq!(stdout(&output), "PICCOLO1-d-s\n");
}

#[test]
fn a_new_users_context_works_and_its_key_was_made_here() {
    let (home, _peer, context) = start();
    let create = ["--context", &context, "user", "create", "alice", "--role", "viewer"];
    let output = home.piccolo(&create);
    check(&output, 0, &[]);
    assert!(stdout(&output).contains("alice.context.yaml"), "{}", stdout(&output));
    let file = home.path("alice.context.yaml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let file = file.to_str().unwrap();
    check(&home.piccolo(&["--context", file, "node", "list"]), 0, &[]);
    let shown = home.piccolo(&["--context", file, "context", "show"]);
    assert!(stdout(&shown).contains("alice"), "{}", stdout(&shown));
    let again = home.piccolo(&create);
    check(&again, 1, &["alice.context.yaml could not be written", "exists", "--force"]);
    let forced = home.piccolo(&[&create[..], &["--force"]].concat());
    check(&forced, 0, &[]);
}

#[test]
fn a_user_whose_context_cannot_be_written_is_not_made() {
    let (home, peer, context) = start();
    fs::create_dir(home.path("folder")).unwrap();
    let create = ["--context", &context, "user", "create", "bob", "--role", "viewer"];
    for place in [&["--file", "no/such/folder"][..], &["--file", "folder", "--force"]] {
        let output = home.piccolo(&[&create[..], place].concat());
        check(&output, 1, &["error: user bob was not created", "could not be written", "cause: "]);
    }
    assert_eq!(peer.script.lock().unwrap().users, Vec::<String>::new());
    let output =
        home.piccolo(&["--context", &context, "user", "create", "a b", "--role", "viewer"]);
    check(&output, 2, &["' ' is not allowed"]);
}

#[test]
fn a_user_that_the_master_refuses_leaves_no_file() {
    let (home, peer, context) = start();
    peer.script.lock().unwrap().refusal = Some(Status::permission_denied("no"));
    let before = fs::read_dir(home.path("")).unwrap().count();
    let create = ["--context", &context, "user", "create", "bob", "--role", "viewer"];
    check(&home.piccolo(&create), 5, &["cannot create user bob"]);
    assert_eq!(fs::read_dir(home.path("")).unwrap().count(), before);
}

#[test]
fn a_user_whose_making_is_interrupted_leaves_no_file() {
    let (home, _peer, context) = start();
    // a master that takes connections, and says nothing
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let known = fs::read_to_string(&context).unwrap();
    let server = known.lines().find_map(|line| line.strip_prefix("server: ")).unwrap();
    let silent = known.replacen(server, &format!("\"{}\"", silent.local_addr().unwrap()), 1);
    fs::write(&context, silent).unwrap();
    let create = ["--context", &context, "user", "create", "bob", "--role", "viewer"];
    let names = || {
        let entries = fs::read_dir(home.path("")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let before = names().len();
    let mut running = home.start(&create);
    while !names().iter().any(|name| name.ends_with(".new")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.interrupt();
    assert_eq!(running.exit_code(), 1);
    assert_eq!(names().len(), before, "{:?}", names());
}

#[test]
fn a_broken_audit_log_is_code_1_with_the_place() {
    let (home, _peer, context) = start();
    let output = home.piccolo(&["--context", &context, "audit", "verify"]);
    check(&output, 1, &["broken at entry 5", "was changed after it was written"]);
}

#[test]
fn a_topology_is_read_changed_and_applied_and_told_to_programs() {
    let (home, _peer, context) = start();
    let got = home.piccolo(&["--context", &context, "topology", "get", "-o", "yaml"]);
    check(&got, 0, &[]);
    let file = home.path("t.yaml");
    fs::write(&file, stdout(&got)).unwrap();
    let apply = ["--context", &context, "topology", "apply", "-f", file.to_str().unwrap()];
    let output = home.piccolo(&apply);
    check(&output, 0, &[]);
    assert_eq!(stdout(&output), "topology robot: generation 5\n");
    let told = json(&home.piccolo(&[&apply[..], &["-o", "json"]].concat()));
    assert_eq!((&told["name"], &told["generation"]), (&"robot".into(), &5.into()));
    let set = ["--context", &context, "log-level", "master", "debug", "-o", "json"];
    assert_eq!(json(&home.piccolo(&set))["message"], "set");
    fs::write(&file, "name: robot\ntype: ring\n").unwrap();
    check(&home.piccolo(&apply), 2, &["is not a topology", "\"ring\"", "BasicEmbedded"]);
    let none = ["--context", &context, "topology", "apply", "-f", "none.yaml"];
    check(&home.piccolo(&none), 3, &["none.yaml cannot be read"]);
}

#[test]
fn every_reading_command_answers_in_every_format() {
    let (home, _peer, context) = start();
    for words in [
        vec!["status"],
        vec!["node", "list"],
        vec!["node", "get", "zone-a"],
        vec!["node", "describe", "zone-a", "zone-b"],
        vec!["token", "list"],
        vec!["user", "list"],
        vec!["topology", "get"],
        vec!["events"],
        vec!["audit", "list"],
        vec!["version"],
        vec!["context", "show"],
    ] {
        for format in ["table", "wide", "json", "yaml"] {
            let words = [&["--context", &context], &words[..], &["-o", format]].concat();
            let output = home.piccolo(&words);
            check(&output, 0, &[]);
            let text = stdout(&output);
            assert!(text.ends_with('\n') && !text.contains('\u{1b}'), "{words:?}: {text:?}");
        }
    }
    check(&home.piccolo(&["--context", &context, "topology", "graph"]), 0, &[]);
}

#[track_caller]
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_description_for_programs_has_every_node_that_is_there() {
    let (home, _peer, context) = start();
    let describe = ["--context", &context, "node", "describe", "-o", "json"];
    let output = home.piccolo(&[&describe[..], &["zone-a", "nosuch", "zone-b"]].concat());
    check(&output, 3, &["there is no node \"nosuch\""]);
    let described = json(&output);
    let names: Vec<_> =
        described["nodes"].as_array().unwrap().iter().map(|of| &of["node"]["name"]).collect();
    assert_eq!(names, ["zone-a", "zone-b"]);
    assert_eq!(described["nodes"][0]["newest_generation"], 4);
    assert_eq!(described["nodes"][0]["recent_events"][0]["kind"], "ContainerDied");
    let none = home.piccolo(&[&describe[..], &["nosuch"]].concat());
    check(&none, 3, &["there is no node"]);
    assert_eq!(stdout(&none), "");
}

#[test]
fn a_new_user_is_told_to_programs_without_the_key() {
    let (home, _peer, context) = start();
    let create = ["--context", &context, "user", "create", "alice", "--role", "viewer"];
    let output = home.piccolo(&[&create[..], &["-o", "json"]].concat());
    check(&output, 0, &[]);
    let created = json(&output);
    assert_eq!(created["user"]["name"], "alice");
    assert_eq!(created["user"]["role"], "viewer");
    assert_eq!(created["file"], "alice.context.yaml");
    assert!(!stdout(&output).contains("PRIVATE KEY"));
}

#[test]
fn who_uses_most_comes_first_and_figures_are_shown_over_time() {
    let (home, _peer, context) = start();
    let ask = |arguments: &[&str]| {
        let output = home.command().env("PICCOLO_CONTEXT", &context).args(arguments).output();
        let output = output.unwrap();
        check(&output, 0, &[]);
        stdout(&output)
    };
    let top = ask(&["top"]);
    assert!(top.starts_with("NODE"), "a pipe is not drawn again and again: {top}");
    let names = |text: &str| -> Vec<String> {
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        text.lines().skip(1).filter_map(first).collect()
    };
    let mut sorted = names(&top);
    sorted.sort();
    assert_eq!(names(&ask(&["top", "--sort", "name"])), sorted);
    let containers = ask(&["top", "containers", "-o", "json"]);
    assert!(containers.contains("\"container\": \"") && containers.contains("\"trend\""));
    assert_eq!(ask(&["metrics", "list"]), "cpu_percent\nmemory_available_bytes\n");
    let of_the_cluster = ask(&["metrics", "query", "cpu_percent", "--by", "cluster"]);
    assert!(of_the_cluster.contains("cluster  24.2 %"), "{of_the_cluster}");
    let refused = home.piccolo(&["metrics", "query", "cpu_percent", "--since", "never"]);
    check(&refused, 2, &["--since", "expected a length of time such as 10m"]);
    for (words, parts) in [
        (&["metrics", "query", "cpu"][..], ["there is no figure cpu", "did you mean cpu_percent?"]),
        (&["metrics", "query", "memory_bytes"][..], ["there is no figure", "--containers"]),
        (
            &["metrics", "query", "load1", "--node", "zone-x"][..],
            ["there is no node zone-x", "zone-a?"],
        ),
        (&["top", "--node", "zone-x"][..], ["there is no node zone-x", "did you mean zone-a?"]),
    ] {
        check(&home.piccolo(&[&["--context", context.as_str()][..], words].concat()), 3, &parts);
    }
    let nothing =
        home.piccolo(&["--context", &context, "metrics", "query", "memory_available_bytes"]);
    check(&nothing, 0, &["nothing is remembered of it in that time"]);
}

#[test]
fn all_dead_letters_are_sent_again_as_many_at_once_as_the_master_takes() {
    let (home, peer, context) = start();
    let letters = |words: &[&str]| {
        home.piccolo(
            &[&["--context", context.as_str(), "alert", "dead-letters"][..], words].concat(),
        )
    };
    let listed = letters(&["list"]);
    check(&listed, 0, &[]);
    assert!(stdout(&listed).contains("3-41") && stdout(&listed).contains("answered 422"));
    let sent = letters(&["resend", "--all"]);
    check(&sent, 0, &[]);
    assert!(stdout(&sent).ends_with("dead letter 3-41 waits for its channel again\n"));
    let cleared = letters(&["clear", "3-7"]);
    assert_eq!(stdout(&cleared), "dead letter 3-7 is cleared\n");
    check(&letters(&["clear"]), 2, &["LETTER"]);
    let counts: Vec<_> = peer.script.lock().unwrap().resent.iter().map(Vec::len).collect();
    assert_eq!(counts, [32, 8]);
}
