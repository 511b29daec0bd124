//! Calls that are forbidden, as fast as they can be made: the audit log keeps what matters.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use piccolo_rpc::{
    tls::connector::Connector,
    v1::{self, api_server_service_client::ApiServerServiceClient},
};
use serde_json::Value;
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::Code;

use crate::{Story, cluster, list_works, nobody_noticed, options, stranger, user};

/// As docs/operations/security.md says: refusals of one caller that are audited per minute.
const AUDITED_PER_MINUTE: u64 = 20;
/// Calls of each flood, and how many of them are under way at once.
const CALLS: usize = 4000;
const AT_ONCE: usize = 40;
/// What the store may grow by: its log, which is cut at 1 MiB, and some pages for what was audited.
const STORE_GROWTH_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Asks for what it may not have; says how often.
async fn flood(connector: Connector, address: String, code: Code) -> usize {
    let channel = connector.channel(&address).await.expect("a place for one more connection");
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let mut client = ApiServerServiceClient::new(channel.clone());
        callers.spawn(async move {
            for _ in 0..CALLS / AT_ONCE {
                let request = v1::RemoveNodeRequest { node_id: "board-1".to_owned() };
                let refused = client.remove_node(request).await.expect_err("it is forbidden");
                assert_eq!(refused.code(), code, "{refused:?}");
            }
            CALLS / AT_ONCE
        });
    }
    callers.join_all().await.into_iter().sum()
}

fn bytes_below(folder: &Path) -> Result<u64, std::io::Error> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

#[test]
fn a_flood_of_forbidden_calls_leaves_the_audit_log_small_whole_and_useful() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path())?;
    let (eve, _) = user(&cluster, "eve")?;
    let (_, mallory) = user(&cluster, "mallory")?;
    let store = cluster.folder().join("master");
    let (bytes_before, begun) = (bytes_below(&store)?, Instant::now());
    let runtime = Runtime::new()?;
    let mut floods = JoinSet::new();
    let member = Connector::new(&eve, options())?;
    for (connector, code) in
        [(member, Code::PermissionDenied), (stranger(&eve)?, Code::Unauthenticated)]
    {
        floods.spawn_on(flood(connector, cluster.address.clone(), code), runtime.handle());
    }
    let mut refused = 0;
    while !floods.is_empty() {
        list_works(&cluster)?;
        while let Some(flood) = floods.try_join_next() {
            refused += flood?;
        }
    }
    assert_eq!(refused, 2 * CALLS);
    // who tries something quietly meanwhile is on record
    let quiet = cluster.piccolo(&["--context", &mallory, "node", "remove", "board-1", "--yes"])?;
    assert_eq!(quiet.status.code(), Some(5), "{quiet:?}");
    let minutes = begun.elapsed().as_secs() / Duration::from_secs(60).as_secs() + 2;
    let audit = cluster.json(&["audit", "list", "-n", "1000", "-o", "json"])?;
    let entries = audit["entries"].as_array().cloned().unwrap_or_default();
    let of = |who: &str| entries.iter().filter(|entry| entry["who"] == who).count() as u64;
    for flooder in ["viewer:eve", "anonymous"] {
        let count = of(flooder);
        let bound = AUDITED_PER_MINUTE * minutes;
        assert!(0 < count && count <= bound, "{flooder} has {count} entries, of {bound}");
    }
    assert_eq!(of("viewer:mallory"), 1, "{audit}");
    let outcome = |entry: &Value| entry["outcome"].as_str().unwrap_or_default().to_owned();
    assert!(
        entries.iter().any(|e| outcome(e).contains("more refusals were only counted)")),
        "{audit}"
    );
    // what an administrator did before is still there
    let made = |name: &str| {
        entries
            .iter()
            .any(|e| e["call"] == "CreateUser" && e["target"] == name && outcome(e) == "ok")
    };
    assert!(made("eve") && made("mallory"), "{audit}");
    let verified = cluster.piccolo(&["audit", "verify"])?;
    assert!(verified.status.success(), "{verified:?}");
    let grown = bytes_below(&store)?.saturating_sub(bytes_before);
    assert!(grown <= STORE_GROWTH_BYTES_MAX, "the store has grown by {grown} bytes");
    nobody_noticed(&mut cluster)
}
