//! The embedded store against a model of a few lines, over random transactions, compactions and
//! restarts.

use std::collections::BTreeMap;

use piccolo_store::{
    Change, EmbeddedOptions, EmbeddedStore, Error, KeyValue, Range, Revision, Store, Transaction,
    list,
};
use proptest::prelude::*;

use crate::{
    contract::next,
    embedded::{Folder, create},
};

const PREFIX: &str = "/piccolo/v1/model/";
/// Few keys, some a prefix of others, so that they meet often.
const KEYS: [&str; 6] = ["a", "a/b", "a/c", "ab", "b", "한"];

/// The whole store as it was at each revision, and what each revision changed.
#[derive(Debug, Default)]
struct Model {
    states: BTreeMap<Revision, BTreeMap<String, KeyValue>>,
    changes: BTreeMap<Revision, Vec<Change>>,
    compacted: Revision,
}

#[derive(Debug, Clone)]
enum Step {
    Txn(Vec<(usize, Expect)>, Vec<(usize, Option<Vec<u8>>)>),
    Compact(u8),
    Reopen,
    Read { prefix: usize, limit: usize, back: u8 },
    Watch { prefix: usize, back: u8 },
}

/// What a compare expects.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Right,
    Wrong,
}

impl Model {
    fn current(&self) -> Revision {
        self.states.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    fn at(&self, revision: Revision) -> BTreeMap<String, KeyValue> {
        self.states
            .range(..=revision)
            .next_back()
            .map_or_else(BTreeMap::new, |(_, state)| state.clone())
    }

    fn now(&self) -> BTreeMap<String, KeyValue> {
        self.at(Revision::MAX)
    }

    fn apply(&mut self, operations: &[(usize, Option<Vec<u8>>)]) -> Revision {
        let mut state = self.now();
        let revision = self.current() + 1;
        let mut changes = Vec::new();
        for (key, value) in operations {
            let key = key_of(*key);
            let before = state.remove(&key);
            match value {
                Some(value) => {
                    let item = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: before.as_ref().map_or(revision, |b| b.create_revision),
                        mod_revision: revision,
                        version: before.map_or(1, |b| b.version + 1),
                        lease: None,
                    };
                    changes.push(Change::Put(item.clone()));
                    state.insert(key, item);
                }
                None if before.is_some() => changes.push(Change::Delete { key }),
                None => {}
            }
        }
        if changes.is_empty() {
            return revision - 1;
        }
        self.states.insert(revision, state);
        self.changes.insert(revision, changes);
        revision
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let folder = Folder::new();
    let mut store = Some(create(&folder.path));
    let mut model = Model::default();
    for step in steps {
        if matches!(step, Step::Reopen) {
            drop(store.take());
            store = Some(EmbeddedStore::open(EmbeddedOptions::new(&folder.path)).unwrap());
            continue;
        }
        check(store.as_ref().unwrap(), &mut model, step).await;
    }
    let (items, revision) = list(store.as_ref().unwrap(), PREFIX).await.unwrap();
    assert_eq!(items, model.now().into_values().collect::<Vec<_>>());
    assert_eq!(revision, model.current());
}

async fn check(store: &EmbeddedStore, model: &mut Model, step: Step) {
    match step {
        Step::Txn(compares, operations) => check_txn(store, model, compares, operations).await,
        Step::Compact(back) => {
            let revision = model.current().saturating_sub(u64::from(back));
            store.compact(revision).await.unwrap();
            model.compacted = model.compacted.max(revision);
        }
        Step::Reopen => {}
        Step::Read { prefix, limit, back } => {
            let revision = model.current().saturating_sub(u64::from(back)).max(1);
            check_pages(store, model, &key_of(prefix), limit, revision).await;
        }
        Step::Watch { prefix, back } => {
            let from =
                (model.current() + 1).saturating_sub(u64::from(back)).max(model.compacted + 1);
            check_watch(store, model, &key_of(prefix), from).await;
        }
    }
}

async fn check_txn(
    store: &EmbeddedStore,
    model: &mut Model,
    compares: Vec<(usize, Expect)>,
    mut operations: Vec<(usize, Option<Vec<u8>>)>,
) {
    operations.sort_by_key(|(key, _)| *key);
    operations.dedup_by_key(|(key, _)| *key);
    let now = model.now();
    let revision_of = |key: &str| now.get(key).map_or(0, |item| item.mod_revision);
    let mut transaction = Transaction::new();
    let mut wrong = None;
    for (key, expect) in compares {
        let key = key_of(key);
        let right = revision_of(&key);
        match expect {
            Expect::Right => transaction = transaction.when(key, right),
            Expect::Wrong => {
                wrong = wrong.or(Some((key.clone(), right)));
                transaction = transaction.when(key, right + 1);
            }
        }
    }
    for (key, value) in &operations {
        transaction = match value {
            Some(value) => transaction.put(key_of(*key), value.clone()),
            None => transaction.delete(key_of(*key)),
        };
    }
    match (store.txn(&transaction).await, wrong) {
        (Ok(revision), None) => assert_eq!(revision, model.apply(&operations)),
        (Err(Error::CompareFailed { key, expected, found }), Some((wrong, right))) => {
            assert_eq!((key, expected, found), (wrong, right + 1, right));
        }
        (result, wrong) => panic!("{result:?}, though the wrong compare was {wrong:?}"),
    }
}

async fn check_pages(
    store: &EmbeddedStore,
    model: &Model,
    prefix: &str,
    limit: usize,
    revision: Revision,
) {
    let mut range = Range { limit, revision: Some(revision), ..Range::prefix(prefix) };
    if revision < model.compacted {
        let result = store.range(&range).await;
        assert!(
            matches!(result, Err(Error::Compacted { compact_revision, .. }) if compact_revision == model.compacted)
        );
        return;
    }
    let mut found = Vec::new();
    loop {
        let page = store.range(&range).await.unwrap();
        assert!(page.items.len() == limit || page.next.is_none());
        found.extend(page.items);
        range.start = page.next;
        if range.start.is_none() {
            break;
        }
    }
    let expected: Vec<_> =
        model.at(revision).into_values().filter(|item| item.key.starts_with(prefix)).collect();
    assert_eq!(found, expected);
}

async fn check_watch(store: &EmbeddedStore, model: &Model, prefix: &str, from: Revision) {
    let mut watch = store.watch(prefix, from).await.unwrap();
    for (revision, changes) in model.changes.range(from..) {
        let expected: Vec<_> =
            changes.iter().filter(|change| change.key().starts_with(prefix)).cloned().collect();
        if !expected.is_empty() {
            assert_eq!(next(&mut watch).await, (*revision, expected));
        }
    }
}

fn key_of(index: usize) -> String {
    format!("{PREFIX}{}", KEYS[index])
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let expect = prop_oneof![9 => Just(Expect::Right), 1 => Just(Expect::Wrong)];
    let compares = prop::collection::vec((key.clone(), expect), 0..3);
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..20));
    let operations = prop::collection::vec((key.clone(), value), 0..5);
    prop_oneof![
        12 => (compares, operations).prop_map(|(compares, operations)| Step::Txn(compares, operations)),
        1 => any::<u8>().prop_map(|back| Step::Compact(back % 16)),
        1 => Just(Step::Reopen),
        3 => (key.clone(), 1..4_usize, 0..24_u8).prop_map(|(prefix, limit, back)| Step::Read { prefix, limit, back }),
        2 => (key, 0..24_u8).prop_map(|(prefix, back)| Step::Watch { prefix, back }),
    ]
}
