//! Watches: a line per change, a live table, and the loss and return of a master.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    process::Stdio,
    sync::{Arc, mpsc},
};

use piccolo_rpc::v1::{self, watch_nodes_response::Item};
use tonic::Status;

use crate::{
    fixtures,
    support::{Authority, Home, PATIENCE, Peer, drop_reader, exit_code},
};

fn start() -> (Home, Peer, String) {
    let authority = Arc::new(Authority::new());
    let peer = Peer::start(&authority);
    let home = Home::new();
    let identity = authority.identity("viewer", "kim");
    let context = home.context("viewer.yaml", &peer.address.to_string(), &identity);
    (home, peer, context.to_str().unwrap().to_owned())
}

fn node(name: &str, status: v1::NodeStatus) -> v1::Node {
    let id = format!("id-of-{name}");
    v1::Node { id, name: name.to_owned(), status: status as i32, ..v1::Node::default() }
}

fn item(item: Item, revision: u64) -> Result<v1::WatchNodesResponse, Status> {
    Ok(v1::WatchNodesResponse { item: Some(item), revision })
}

fn snapshot(nodes: Vec<v1::Node>, revision: u64) -> Vec<Result<v1::WatchNodesResponse, Status>> {
    let begin =
        Item::SnapshotBegin(v1::SnapshotBegin { reason: "revision 7 is not kept".to_owned() });
    let end = Item::SnapshotEnd(v1::SnapshotEnd {});
    let nodes = nodes.into_iter().map(Item::Changed);
    [begin].into_iter().chain(nodes).chain([end]).map(|one| item(one, revision)).collect()
}

fn event(id: u64) -> Result<v1::WatchEventsResponse, Status> {
    let event = v1::Event { id, ..fixtures::events()[3].clone() };
    Ok(v1::WatchEventsResponse { item: Some(v1::watch_events_response::Item::Event(event)) })
}

#[test]
fn a_pipe_gets_a_line_per_change_across_a_restart_of_the_master() {
    let (home, peer, context) = start();
    let mut first = snapshot(vec![node("zone-a", v1::NodeStatus::Ready)], 7);
    first.push(item(Item::Changed(node("zone-a", v1::NodeStatus::NotReady)), 8));
    peer.script.lock().unwrap().node_streams.push_back(first);
    let mut running = home.start(&["--context", &context, "node", "list", "--watch"]);
    assert_eq!(running.stdout.next_untimed(), "zone-a  Ready");
    assert_eq!(running.stdout.next_untimed(), "zone-a  Ready -> NotReady");
    // resumes where it was
    let resumed = vec![item(Item::Changed(node("zone-a", v1::NodeStatus::Ready)), 9)];
    peer.script.lock().unwrap().node_streams.push_back(resumed);
    let peer = peer.restart();
    assert!(running.stderr.next().contains("lost"));
    assert!(running.stderr.next().starts_with("reconnected to "));
    assert_eq!(running.stdout.next_untimed(), "zone-a  NotReady -> Ready");
    // cannot resume: what happened meanwhile is told all the same
    let again = snapshot(vec![node("zone-b", v1::NodeStatus::Pending)], 40);
    peer.script.lock().unwrap().node_streams.push_back(again);
    let peer = peer.restart();
    assert_eq!(running.stdout.next_untimed(), "zone-b  added, Pending");
    assert_eq!(running.stdout.next_untimed(), "zone-a  removed");
    let said = [running.stderr.next(), running.stderr.next(), running.stderr.next()];
    assert!(said[2].contains("sends everything again: revision 7 is not kept"), "{said:?}");
    assert_eq!(peer.script.lock().unwrap().resumed_from, [0, 8, 9]);
    running.interrupt();
    assert_eq!(running.exit_code(), 0);
}

#[test]
fn a_watch_for_programs_is_a_document_per_line() {
    let (home, peer, context) = start();
    let mut items = snapshot(vec![node("zone-a", v1::NodeStatus::Ready)], 7);
    items.push(item(Item::Removed("id-of-zone-a".to_owned()), 8));
    peer.script.lock().unwrap().node_streams.push_back(items);
    let running = home.start(&["--context", &context, "node", "list", "--watch", "-o", "json"]);
    let begin = running.stdout.next();
    assert!(begin.starts_with("{\"type\":\"snapshot_begin\",\"revision\":7,"), "{begin}");
    let changed = running.stdout.next();
    assert!(changed.contains("\"type\":\"changed\"") && changed.contains("\"status\":\"Ready\""));
    assert_eq!(running.stdout.next(), "{\"type\":\"snapshot_end\",\"revision\":7}");
    let removed = "{\"type\":\"removed\",\"revision\":8,\"node_id\":\"id-of-zone-a\"}";
    assert_eq!(running.stdout.next(), removed);
}

#[test]
fn events_resume_after_the_last_and_missed_ones_are_told() {
    let (home, peer, context) = start();
    {
        let mut script = peer.script.lock().unwrap();
        let dropped = Status::resource_exhausted("this watcher is too slow");
        script.event_streams.push_back(vec![event(45), event(46), Err(dropped)]);
        let missed = v1::EventsMissed { first_id: 47, last_id: 60 };
        let missed = v1::watch_events_response::Item::Missed(missed);
        let missed = v1::WatchEventsResponse { item: Some(missed) };
        script.event_streams.push_back(vec![Ok(missed), event(61)]);
    }
    let mut running =
        home.start(&["--context", &context, "events", "--watch", "-n", "1", "-o", "json"]);
    let ids = [44, 45, 46].map(|id| (id, running.stdout.next()));
    for (id, line) in ids {
        let part = format!("{{\"type\":\"event\",\"event\":{{\"id\":{id},");
        assert!(line.starts_with(&part), "{line}");
    }
    assert_eq!(running.stdout.next(), "{\"type\":\"missed\",\"first_id\":47,\"last_id\":60}");
    assert!(running.stdout.next().contains("\"id\":61"));
    assert!(running.stderr.next().contains("this watcher is too slow"));
    assert!(running.stderr.next().starts_with("reconnected"));
    assert_eq!(running.stderr.next(), "events 47 to 60 are no longer kept and were missed");
    assert_eq!(peer.script.lock().unwrap().resumed_from, [44, 46]);
    running.interrupt();
    assert_eq!(running.exit_code(), 0);
}

#[test]
fn a_master_that_freezes_is_noticed_although_its_connection_stays_open() {
    let (home, peer, context) = start();
    let words = ["--context", &context, "--timeout", "300ms", "node", "list", "--watch"];
    let items = snapshot(vec![node("zone-a", v1::NodeStatus::Ready)], 7);
    peer.script.lock().unwrap().node_streams.push_back(items);
    let running = home.start(&words);
    assert_eq!(running.stdout.next_untimed(), "zone-a  Ready");
    peer.script.lock().unwrap().mute = true;
    let lost = running.stderr.next();
    assert!(lost.contains("lost: no answer within 0.3 s; reconnecting"), "{lost}");
    let again = vec![item(Item::Changed(node("zone-a", v1::NodeStatus::NotReady)), 8)];
    {
        let mut script = peer.script.lock().unwrap();
        script.node_streams.push_front(again.clone());
        script.node_streams.push_front(again);
        script.mute = false;
    }
    assert!(running.stderr.next().starts_with("reconnected"));
    assert_eq!(running.stdout.next_untimed(), "zone-a  Ready -> NotReady");
}

#[test]
fn a_watch_that_is_refused_ends_with_code_5() {
    let (home, peer, context) = start();
    let mut items = snapshot(vec![], 7);
    items.push(Err(Status::permission_denied("the user was revoked")));
    peer.script.lock().unwrap().node_streams.push_back(items);
    let mut running = home.start(&["--context", &context, "node", "list", "--watch"]);
    assert_eq!(running.exit_code(), 5);
    assert_eq!(running.stderr.next(), "error: cannot watch nodes");
    assert_eq!(running.stderr.next(), "cause: the user was revoked");
}

#[test]
fn a_watch_whose_reader_has_gone_ends_quietly_even_if_nothing_happens() {
    let (home, peer, context) = start();
    let words = ["--context", &context, "node", "list", "--watch"];
    let mut child = home.start_on(&words, Stdio::piped(), Stdio::piped());
    peer.eventually("the watch is open", |script| script.resumed_from == [0]);
    drop_reader(&mut child);
    assert_eq!(exit_code(&mut child), 0);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn waiting_ends_when_it_is_so_or_says_what_is_missing() {
    let (home, peer, context) = start();
    let queue = |items| peer.script.lock().unwrap().node_streams.push_back(items);
    let ready = || v1::Node { id: "zone-a".to_owned(), ..node("zone-a", v1::NodeStatus::Ready) };
    let initializing = || v1::Node { status: v1::NodeStatus::Initializing as i32, ..ready() };
    let mut items = snapshot(vec![initializing()], 7);
    items.push(item(Item::Changed(ready()), 8));
    queue(items);
    let approve = ["--context", &context, "node", "approve", "zone-a", "--wait"];
    let output = home.piccolo(&approve);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    queue(snapshot(vec![initializing()], 9));
    let output = home.piccolo(&[&approve[..], &["--wait-timeout", "300ms"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("not every node is Ready after 0.3 s"), "{text}");
    assert!(text.contains("cause: zone-a is Initializing"), "{text}");
    queue(snapshot(vec![], 10));
    let remove = ["--context", &context, "node", "remove", "zone-a", "--yes", "--wait"];
    assert_eq!(home.piccolo(&remove).status.code(), Some(0));
}

/// The two ends of a terminal of that size.
pub(crate) fn terminal(columns: u16, rows: u16) -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let size =
        rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&theirs, size).unwrap();
    (ours.into(), theirs)
}

/// What is drawn on it, piece by piece.
fn screen_of(mut terminal: File) -> mpsc::Receiver<String> {
    let (sender, screen) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = terminal.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if count == 0 || sender.send(text).is_err() {
                return;
            }
        }
    });
    screen
}

/// Reads from a terminal until all parts have come, in this order.
#[track_caller]
fn expect(screen: &mpsc::Receiver<String>, seen: &mut String, parts: &[&str]) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut rest = seen.as_str();
        let mut all = true;
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => all = false,
            }
        }
        if all {
            return;
        }
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match screen.recv_timeout(left) {
            Ok(text) => seen.push_str(&text),
            Err(error) => {
                let end: String = seen.chars().rev().take(2_000).collect();
                let end: String = end.chars().rev().collect();
                panic!("{error}: {parts:?} not in what ends with {end:?}");
            }
        }
    }
}

#[test]
fn a_terminal_gets_a_live_table_that_fits_it() {
    let (home, peer, context) = start();
    let mut items = snapshot(fixtures::nodes(), 7);
    items.push(item(Item::Removed("6f1c2d3e-0002".to_owned()), 8));
    peer.script.lock().unwrap().node_streams.push_back(items);
    let (ours, theirs) = terminal(80, 30);
    let words = ["--context", &context, "node", "list", "--watch"];
    let stdout = theirs.try_clone().unwrap();
    let mut child = home.start_on(&words, stdout.into(), theirs.into());
    let screen = screen_of(ours);
    let mut seen = String::new();
    // drawn, then drawn again over itself without the node that was removed
    expect(&screen, &mut seen, &["NAME", "zone-b", "\u{1b}[5A\r", "NAME"]);
    let again = seen.rsplit("\u{1b}[5A\r").next().unwrap().to_owned();
    assert!(!again.contains("zone-b"), "{again:?}");
    let mut peer = peer;
    peer.end();
    expect(
        &screen,
        &mut seen,
        &["lost: ", "reconnecting", "NAME", "not connected: this is how it was"],
    );
    let _peer = peer.restart();
    expect(&screen, &mut seen, &["not connected", "reconnected to ", "NAME"]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(exit_code(&mut child), 0);
}

#[test]
fn top_is_drawn_until_it_is_interrupted_and_says_that_the_master_is_away() {
    let (home, mut peer, context) = start();
    let (ours, theirs) = terminal(80, 30);
    let words = ["--context", &context, "--timeout", "1s", "top", "--every", "100ms"];
    let stdout = theirs.try_clone().unwrap();
    let mut child = home.start_on(&words, stdout.into(), theirs.into());
    let screen = screen_of(ours);
    let mut seen = String::new();
    expect(&screen, &mut seen, &["NODE", "STATUS", "zone-a"]);
    peer.end();
    expect(&screen, &mut seen, &["error: ", "help: "]);
    let _peer = peer.restart();
    expect(&screen, &mut seen, &["help: ", "NODE", "zone-a"]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(exit_code(&mut child), 0);
}

#[test]
fn keys_sort_top_and_end_it_and_the_terminal_is_as_it_was() {
    let (home, _peer, context) = start();
    let (mut ours, theirs) = terminal(100, 30);
    let modes = || rustix::termios::tcgetattr(&theirs).unwrap().local_modes;
    let before = modes();
    let mut child = home.start_at(&["--context", &context, "top", "--every", "1h"], &theirs);
    let screen = screen_of(ours.try_clone().unwrap());
    let mut seen = String::new();
    expect(&screen, &mut seen, &["NODE", "zone-a", "\u{1b}[1mc CPU", "\u{1b}[2mn name", "q end"]);
    assert_ne!(modes(), before, "a key is no line");
    ours.write_all(b"#n").unwrap();
    expect(&screen, &mut seen, &["q end", "NODE", "\u{1b}[2mc CPU", "\u{1b}[1mn name", "q end"]);
    assert!(!seen.contains('#'), "what is typed is not shown: {seen:?}");
    ours.write_all(b"q").unwrap();
    assert_eq!(exit_code(&mut child), 0);
    assert_eq!(modes(), before);
    let mut child = home.start_at(&["--context", &context, "top", "--every", "1h"], &theirs);
    expect(&screen, &mut seen, &["q end", "q end", "q end"]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(exit_code(&mut child), 0);
    assert_eq!(modes(), before);
}

#[test]
fn who_removes_a_node_is_told_what_is_lost_and_asked() {
    let (home, _peer, context) = start();
    for (answer, code, done) in [("n\n", 1, "zone-a was not removed"), ("y\n", 0, "zone-a removed")]
    {
        let (mut ours, theirs) = terminal(80, 30);
        let words = ["--context", &context, "node", "remove", "zone-a"];
        let out = || theirs.try_clone().unwrap();
        let mut child = home.start_asking(&words, [out(), out(), out()]);
        drop(theirs);
        let screen = screen_of(ours.try_clone().unwrap());
        let mut seen = String::new();
        let question = ["2 containers", "revoked", "site=seoul,soc=a78", "Remove node zone-a?"];
        expect(&screen, &mut seen, &question);
        ours.write_all(answer.as_bytes()).unwrap();
        expect(&screen, &mut seen, &[done]);
        assert_eq!(exit_code(&mut child), code, "{seen}");
    }
}
