//! Frames that are each allowed, or nearly, by the ten thousand.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use piccolo_rpc::tls::connector::Connector;
use piccolo_testkit::cluster::PATIENCE;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{
    CONNECTION_KIB_MAX, STREAMS_MAX, Story, cluster, http2,
    http2::{
        CONTINUATION, DATA, EMPTY_MESSAGE, END_HEADERS, END_STREAM, HEADERS, PAYLOAD_BYTES_MAX,
        PING, RST_STREAM, SETTINGS, frame, head, setting,
    },
    list_works, memory_kib, nobody_noticed, options, stranger, user,
};

const INITIAL_WINDOW_SIZE: u16 = 4;
/// Changes of a node while the floods go on, at least.
const CHANGES_MIN: usize = 20;

/// Bytes that are said again and again, until they were said often enough or nobody listens any more.
struct Attack {
    name: &'static str,
    settings: Vec<u8>,
    /// What is said as number so much.
    words: fn(u32) -> Vec<u8>,
    times: u32,
    /// Whether what comes back is read.
    reads: bool,
    /// Whether the master must end the connection.
    is_ended: bool,
}

impl Attack {
    fn new(name: &'static str, times: u32, words: fn(u32) -> Vec<u8>) -> Self {
        Self { name, settings: Vec::new(), words, times, reads: true, is_ended: false }
    }
}

fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// A call with an empty request.
fn call(name: &str, number: u32) -> Vec<u8> {
    let stream = stream(number);
    let head = frame(HEADERS, END_HEADERS, stream, &head(name, 0));
    [head, frame(DATA, END_STREAM, stream, &EMPTY_MESSAGE)].concat()
}

fn reset(number: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes())
}

fn attacks() -> Vec<Attack> {
    let no_window = || setting(INITIAL_WINDOW_SIZE, 0);
    vec![
        Attack::new("streams are opened and reset", 20_000, |number| {
            let open = frame(HEADERS, END_HEADERS, stream(number), &head("GetNodes", 0));
            [open, reset(number)].concat()
        }),
        Attack::new("calls are made and reset", 20_000, |number| {
            [call("GetNodes", number), reset(number)].concat()
        }),
        Attack {
            reads: false,
            ..Attack::new("settings, and nobody reads their acknowledgements", 200_000, |number| {
                frame(SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, number % 60_000))
            })
        },
        Attack {
            reads: false,
            ..Attack::new("pings, and nobody reads their answers", 200_000, |number| {
                frame(PING, 0, 0, &u64::from(number).to_be_bytes())
            })
        },
        Attack {
            is_ended: true,
            ..Attack::new("a head that never ends", 4096, |number| {
                let kind = if number == 0 { HEADERS } else { CONTINUATION };
                frame(kind, 0, 1, &[0; PAYLOAD_BYTES_MAX])
            })
        },
        Attack::new("more large heads than there are streams", 2000, |number| {
            frame(HEADERS, END_HEADERS, stream(number), &head("GetNodes", 15_000))
        }),
        Attack {
            is_ended: true,
            ..Attack::new("more data than the window lets in", 4096, |number| {
                let open = frame(HEADERS, END_HEADERS, 1, &head("GetNodes", 0));
                let data = frame(DATA, 0, 1, &[0x7f; PAYLOAD_BYTES_MAX]);
                if number == 0 { [open, data].concat() } else { data }
            })
        },
        Attack {
            reads: false,
            ..Attack::new("calls whose answers nobody reads", 20_000, |n| call("GetNodes", n))
        },
        Attack {
            settings: no_window(),
            ..Attack::new("watches that have no window", 2 * STREAMS_MAX, |number| {
                call("WatchNodes", number)
            })
        },
    ]
}

impl Attack {
    /// Says everything, unless the master ends it, and counts that as said; then stays until `stay` is over.
    async fn run(
        self,
        connector: Connector,
        address: String,
        said: Arc<AtomicUsize>,
        mut stay: watch::Receiver<()>,
    ) {
        let connected = http2::connect(&connector, &address, &self.settings).await;
        let (mut reader, mut writer) = connected.expect("a place for one more connection");
        let read = self.reads;
        let reading = tokio::spawn(async move {
            let mut bytes = vec![0; PAYLOAD_BYTES_MAX];
            if !read {
                std::future::pending::<()>().await;
            }
            while reader.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        });
        let saying = async {
            for number in 0..self.times {
                if writer.write_all(&(self.words)(number)).await.is_err() {
                    return;
                }
            }
            // then it is over already
            writer.flush().await.ok();
        };
        if self.reads {
            saying.await;
            if self.is_ended {
                let ended = timeout(PATIENCE, reading).await;
                assert!(ended.is_ok(), "{}: the master lets it go on", self.name);
            }
            said.fetch_add(1, Ordering::Relaxed);
            stay.changed().await.ok();
        } else {
            // the master stops listening to who does not read
            tokio::select! {
                () = async { saying.await; std::future::pending().await } => {}
                _ = stay.changed() => {}
            }
        }
    }
}

#[test]
fn floods_of_frames_cost_bounded_memory_and_disturb_nobody() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path())?;
    let (viewer, _) = user(&cluster, "eve")?;
    let pid = cluster.master.pid();
    let before = memory_kib(pid, "VmRSS");
    let runtime = Runtime::new()?;
    let (stop, stay) = watch::channel(());
    let said = Arc::new(AtomicUsize::new(0));
    let (mut running, mut connections, mut readers) = (JoinSet::new(), 0, 0);
    let (member, stranger) = (Connector::new(&viewer, options())?, stranger(&viewer)?);
    // the HTTPS port knows none of these calls, so it ends streams where the other ends the connection
    let ports = [(&cluster.address, true), (&cluster.https_address, false)];
    let everybody = [&member, &stranger].into_iter().flat_map(|who| ports.map(|port| (who, port)));
    for (connector, (address, is_grpc)) in everybody {
        for mut attack in attacks() {
            attack.is_ended &= is_grpc;
            connections += 1;
            readers += usize::from(attack.reads);
            let (connector, said) = (connector.clone(), Arc::clone(&said));
            let run = attack.run(connector, address.clone(), said, stay.clone());
            running.spawn_on(run, runtime.handle());
        }
    }
    cluster.wait("the watches without a window are open", |c| {
        Ok(c.json(&["status", "-o", "json"])?["watchers"] == STREAMS_MAX)
    })?;
    // whoever watches without a window misses all of this, at nobody's cost
    let mut number = 0;
    while number < CHANGES_MIN || said.load(Ordering::Relaxed) < readers {
        let label = format!("number={number}");
        let labelled = cluster.piccolo(&["node", "label", "board-1", &label])?;
        assert!(labelled.status.success(), "{labelled:?}");
        list_works(&cluster)?;
        // none is over before it is told to be, unless it failed
        if let Some(failed) = running.try_join_next() {
            failed?;
        }
        number += 1;
    }
    stop.send_replace(());
    runtime.block_on(running.join_all());
    let peak = memory_kib(pid, "VmHWM");
    let bound = before + connections as u64 * CONNECTION_KIB_MAX;
    assert!(peak <= bound, "the master went from {before} to {peak} KiB, over {bound}");
    // what strangers asked for did get as far as being refused
    let audit = cluster.piccolo(&["audit", "list", "-n", "1000"])?;
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    let is_refused = |line: &str| line.contains("anonymous") && line.contains("refused");
    assert!(audit.lines().any(is_refused), "{audit}");
    nobody_noticed(&mut cluster)
}
