//! `piccolo doctor` against real masters: one that is well, one that is gone, and things that are no master of this
//! cluster.

use std::{error::Error, fs, io::Write as _, net::TcpListener};

use piccolo_testkit::cluster::{Cluster, Options};
use serde_json::Value;

type Story = Result<(), Box<dyn Error>>;

/// What it says, and its exit code.
fn doctor(
    cluster: &Cluster,
    context: Option<&str>,
) -> Result<(Option<i32>, Value), Box<dyn Error>> {
    let mut arguments = vec!["doctor", "-o", "json"];
    if let Some(context) = context {
        arguments.extend(["--context", context]);
    }
    let output = cluster.piccolo(&arguments)?;
    let view = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), view))
}

/// The findings of that name which are not ok, as `level about: seen`.
fn wrong(view: &Value, name: &str) -> Vec<String> {
    let findings = view["findings"].as_array().cloned().unwrap_or_default();
    let of_it = findings.into_iter().filter(|f| f["name"] == name && f["level"] != "ok");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    of_it
        .map(|f| {
            assert!(!text(&f["remedy"]).is_empty(), "no remedy: {f}");
            format!("{} {}: {}", text(&f["level"]), text(&f["subject"]), text(&f["seen"]))
        })
        .collect()
}

/// The administrator's context with another address in it.
fn context_for(cluster: &Cluster, address: &str) -> Result<String, Box<dyn Error>> {
    let text = fs::read_to_string(cluster.context())?.replace(&cluster.address, address);
    let path = cluster.folder().join(format!("{}.context.yaml", address.replace(':', "-")));
    fs::copy(cluster.context(), &path)?;
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

#[test]
fn it_finds_nothing_in_a_cluster_that_is_well_and_the_node_that_is_lost() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(folder.path())?)?;
    cluster.join("board-1")?;
    cluster.wait_for_status("board-1", "Ready")?;
    let (code, view) = doctor(&cluster, None)?;
    assert_eq!((code, &view["ok"]), (Some(0), &Value::Bool(true)), "{view:#}");
    for name in
        ["master", "clock", "version", "store", "audit", "authority", "certificate", "topology"]
    {
        let seen =
            view["findings"].as_array().is_some_and(|all| all.iter().any(|f| f["name"] == name));
        assert!(seen && wrong(&view, name).is_empty(), "{name}: {view:#}");
    }
    assert_eq!(view["not_checked"], Value::Array(Vec::new()));
    assert_eq!(wrong(&view, "backup"), ["warning : none are made by the master itself"]);

    cluster.agent("board-1")?.kill();
    cluster.wait_for_status("board-1", "NotReady")?;
    let (code, view) = doctor(&cluster, None)?;
    assert_eq!(code, Some(1));
    let found = wrong(&view, "node");
    assert!(found.len() == 1 && found[0].contains("board-1: NotReady"), "{found:?}");
    Ok(())
}

#[test]
fn what_a_viewer_may_not_see_is_named() -> Story {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(Options::new(folder.path())?)?;
    let eve = folder.path().join("eve.context.yaml").display().to_string();
    let made = cluster.piccolo(&["user", "create", "eve", "--role", "viewer", "--file", &eve])?;
    assert!(made.status.success(), "{made:?}");
    let (code, view) = doctor(&cluster, Some(&eve))?;
    assert_eq!(code, Some(0), "{view:#}");
    let names = view["not_checked"].as_array().cloned().unwrap_or_default();
    let names: Vec<_> = names.iter().filter_map(|n| n["name"].as_str()).collect();
    assert_eq!(names, ["tokens", "audit", "refusals"]);
    // and an administrator revokes her
    assert!(cluster.piccolo(&["user", "revoke", "eve"])?.status.success());
    let (code, view) = doctor(&cluster, Some(&eve))?;
    assert_eq!(code, Some(1));
    let found = wrong(&view, "master");
    assert!(found[0].contains("call: ") && found[0].contains("revoked"), "{found:?}");
    Ok(())
}

#[test]
fn it_names_the_step_on_which_the_way_to_the_master_ends() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(&folder.path().join("one"))?)?;
    let other = Cluster::start(Options::new(&folder.path().join("other"))?)?;
    // something that is there, and speaks no TLS
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let plain = listener.local_addr()?.to_string();
    let ssh = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n")
    });
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    for (address, expected) in [
        ("no-such-host.invalid:47098", "name: no-such-host.invalid cannot be resolved"),
        (free.as_str(), "cannot be connected to"),
        (plain.as_str(), "tls: no TLS there"),
        (other.address.as_str(), "certificate: "),
    ] {
        let (code, view) = doctor(&cluster, Some(&context_for(&cluster, address)?))?;
        assert_eq!(code, Some(1), "{view:#}");
        let found = wrong(&view, "master");
        assert!(found.len() == 1 && found[0].contains(expected), "{address}: {found:?}");
        assert!(found[0].starts_with(&format!("error {address}: ")), "{found:?}");
    }
    ssh.join().map_err(|_| "the listener panicked")??;
    cluster.master.kill();
    let (_, view) = doctor(&cluster, None)?;
    let found = wrong(&view, "master");
    assert!(found[0].contains("tcp: "), "{found:?}");
    let (code, view) = doctor(&cluster, Some("/no/such/context"))?;
    assert_eq!((code, wrong(&view, "context").len()), (Some(1), 1), "{view:#}");
    Ok(())
}
