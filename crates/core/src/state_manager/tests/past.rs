//! What events tell of a past moment is what was so: whole stories, compared moment by moment.

use super::*;
use crate::past::Fold;

/// What may happen, to one of three nodes.
#[derive(Debug, Clone, Copy)]
enum Step {
    Join,
    Approve,
    Reject,
    Open,
    Close,
    Maintenance(bool),
    Remove,
    Wait,
}

const STEPS: [Step; 9] = [
    Step::Join,
    Step::Approve,
    Step::Reject,
    Step::Open,
    Step::Close,
    Step::Maintenance(true),
    Step::Maintenance(false),
    Step::Remove,
    Step::Wait,
];
const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What is refused changes nothing, and is as good a story.
fn happen(cluster: &mut Cluster, ms: u64, step: Step, node: &str) {
    let named = node.to_owned();
    let reason = String::new();
    let mut ask = |request| drop(cluster.ask(ms, admin(), request));
    match step {
        Step::Join => {
            let hash = cluster.token(ms, 1, None);
            drop(cluster.join(ms, node, &hash));
        }
        Step::Approve => ask(Request::ApproveNode(named)),
        Step::Reject => ask(Request::RejectNode { node: named, reason }),
        Step::Open => drop(cluster.open(ms, node, &format!("s{ms}"), None)),
        Step::Close => {
            let node = NodeId::parse("node", node).unwrap();
            for session in (0..=ms).step_by(STEP_MS).map(|at| SessionId::new(format!("s{at}"))) {
                drop(cluster.input(ms, Input::SessionClosed { node: node.clone(), session }));
            }
        }
        Step::Maintenance(on) => ask(Request::SetMaintenance { node: named, on, reason }),
        Step::Remove => ask(Request::RemoveNode(named)),
        Step::Wait => {}
    }
}

const STEP_MS: usize = 7_000;

type Standing = BTreeMap<String, NodeStatus>;

fn standing(cluster: &Cluster) -> Standing {
    let all = cluster.machine.nodes().map(|view| (view.record.id.to_string(), view.record.status));
    all.filter(|(_, status)| *status != NodeStatus::Terminating).collect()
}

fn kept(cluster: &Cluster) -> Vec<Event> {
    let stored = cluster.store.iter().filter(|(key, _)| key.starts_with(keys::EVENTS));
    stored.map(|(key, value)| keys::decode(key, value).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_events_tell_of_a_moment_is_what_was_so(
        story in prop::collection::vec((0..STEPS.len(), 0..NODES.len()), 1..40),
        approval in prop::bool::ANY,
    ) {
        let approval = if approval { Approval::Auto } else { Approval::Manual };
        let mut cluster = Cluster::new(Settings { approval, ..Settings::default() });
        let mut seen: Vec<(u64, Standing)> = Vec::new();
        for (turn, (step, node)) in story.into_iter().enumerate() {
            let ms = ((turn + 1) * STEP_MS) as u64;
            let effects = cluster.machine.handle_deadline(at(ms));
            cluster.perform(&effects);
            happen(&mut cluster, ms, STEPS[step], NODES[node]);
            seen.push((ms, standing(&cluster)));
        }
        let events = kept(&cluster);
        let present: Vec<_> = cluster.machine.nodes().collect();
        for (ms, was) in seen {
            let mut fold = Fold::new(at(ms).wall);
            events.iter().for_each(|event| fold.push(event));
            let past = fold.finish(present.iter());
            let told: BTreeMap<_, _> =
                past.nodes.iter().map(|node| (node.id.to_string(), node.status)).collect();
            prop_assert_eq!(told.keys().collect::<Vec<_>>(), was.keys().collect::<Vec<_>>(), "at {}", ms);
            for (id, status) in &was {
                // how a node began is told by what came next; where that was its end nothing tells
                let begins = matches!(status, NodeStatus::Pending | NodeStatus::Initializing);
                let is_told = told[id] == Some(*status) || (told[id].is_none() && begins);
                prop_assert!(is_told, "{} was {} at {}, and is told as {:?}", id, status, ms, told[id]);
            }
        }
    }
}
