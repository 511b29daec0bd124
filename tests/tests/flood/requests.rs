//! Requests that never end: some drip, and some promise a lot and stop just before.

use std::{
    collections::BTreeSet,
    error::Error,
    thread::sleep,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use piccolo_rpc::tls::{connector::Connector, identity::Identity};
use piccolo_testkit::cluster::{Cluster, PATIENCE};
use tokio::{io::AsyncWriteExt as _, runtime::Runtime, task::JoinSet};
use tonic::{Code, Status, body::Body, codegen::http};
use tower::ServiceExt as _;

use crate::{
    CONNECTION_KIB_MAX, STREAMS_MAX, Story, cluster, http2,
    http2::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, UNFINISHED_MESSAGE, frame, head},
    list_works, memory_kib, nobody_noticed, options, stranger,
};

/// Connections of those who promise much, with and without a certificate.
const CONNECTIONS: usize = 8;
/// Bytes that come of each of their requests: of a member's nearly all that a message may have.
const MEMBERS_BYTES: usize = 62 * PIECE_BYTES;
const STRANGERS_BYTES: usize = 3 * PIECE_BYTES;
/// One frame's worth.
const PIECE_BYTES: usize = 16 * 1024;
/// Of all requests that are arriving, as docs/operations/security.md says: 4 MiB and 24 MiB. Memory comes in larger
/// pieces than it is asked for, so twice that.
const ARRIVING_KIB_MAX: u64 = 2 * (4 + 24) * 1024;

fn stream_id(number: u32) -> u32 {
    2 * number + 1
}

/// Opens as many calls as it may, says a byte of each now and then, and waits for the master to end them.
async fn drip(connector: Connector, address: String) -> usize {
    let connected = http2::connect(&connector, &address, &[]).await;
    let (mut reader, mut writer) = connected.expect("a place for one more connection");
    for number in 0..STREAMS_MAX {
        let open = frame(HEADERS, END_HEADERS, stream_id(number), &head("GetNodes", 0));
        let begun = frame(DATA, 0, stream_id(number), &UNFINISHED_MESSAGE);
        writer.write_all(&[open, begun].concat()).await.expect("it is listened to");
    }
    writer.flush().await.expect("it is listened to");
    let dripping = tokio::spawn(async move {
        loop {
            for number in 0..STREAMS_MAX {
                if writer.write_all(&frame(DATA, 0, stream_id(number), b"x")).await.is_err() {
                    return;
                }
            }
            if writer.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let mut over = BTreeSet::new();
    while over.len() < STREAMS_MAX as usize {
        let Some((kind, flags, stream)) = http2::next_frame(&mut reader).await else { break };
        let ends =
            kind == RST_STREAM || (flags & END_STREAM != 0 && (kind == HEADERS || kind == DATA));
        if ends {
            over.insert(stream);
        }
    }
    dripping.abort();
    over.len()
}

/// Sends all of a message but its end, on as many streams as there may be; says how each was ended.
async fn promise(connector: Connector, address: String, bytes: usize) -> Vec<Code> {
    let channel = connector.channel(&address).await.expect("a place for one more connection");
    let mut calls = JoinSet::new();
    for _ in 0..STREAMS_MAX {
        let head = [&[0][..], &u32::try_from(bytes + 1).unwrap_or(0).to_be_bytes()].concat();
        let pieces = std::iter::once(Bytes::from(head)).chain(std::iter::repeat_n(
            Bytes::from_static(&[b'x'; PIECE_BYTES]),
            bytes / PIECE_BYTES,
        ));
        let pieces = stream::iter(pieces.map(|piece| Ok::<_, Status>(Frame::data(piece))));
        let body = Body::new(StreamBody::new(pieces.chain(stream::pending())));
        let path = format!("http://{address}/piccolo.v1.ApiServerService/GetNodes");
        let request = http::Request::post(path).header("content-type", "application/grpc");
        let request = request.body(body).expect("a request");
        let channel = channel.clone();
        calls.spawn(async move {
            let answer = channel.oneshot(request).await.expect("an answer");
            let status = Status::from_header_map(answer.headers());
            status.map_or(Code::Ok, |status| status.code())
        });
    }
    calls.join_all().await
}

#[test]
fn requests_that_never_end_are_ended_and_hold_little() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = cluster(folder.path())?;
    let identity = Identity::load(&cluster.agent_folder("board-2").join("identity.pem"))?;
    let pid = cluster.master.pid();
    let before = memory_kib(pid, "VmRSS");
    let runtime = Runtime::new()?;
    let begun = Instant::now();
    let (mut drips, mut promises) = (JoinSet::new(), JoinSet::new());
    let member = Connector::new(&identity, options())?;
    let callers = [(member, MEMBERS_BYTES), (stranger(&identity)?, STRANGERS_BYTES)];
    for (connector, bytes) in callers {
        let address = || cluster.address.clone();
        drips.spawn_on(drip(connector.clone(), address()), runtime.handle());
        for _ in 0..CONNECTIONS {
            let promise = promise(connector.clone(), address(), bytes);
            promises.spawn_on(async move { (bytes, promise.await) }, runtime.handle());
        }
    }
    while !served_meanwhile(&cluster, &mut drips, &mut promises)? {
        assert!(begun.elapsed() < PATIENCE, "the master waits for ever");
        sleep(Duration::from_millis(100));
    }
    let peak = memory_kib(pid, "VmHWM");
    let connections = 2 * (CONNECTIONS as u64 + 1);
    let bound = before + ARRIVING_KIB_MAX + connections * CONNECTION_KIB_MAX;
    assert!(peak <= bound, "the master went from {before} to {peak} KiB, over {bound}");
    nobody_noticed(&mut cluster)
}

/// Whether all of them were ended; the list is answered all the while.
fn served_meanwhile(
    cluster: &Cluster,
    drips: &mut JoinSet<usize>,
    promises: &mut JoinSet<(usize, Vec<Code>)>,
) -> Result<bool, Box<dyn Error>> {
    list_works(cluster)?;
    while let Some(ended) = drips.try_join_next() {
        assert_eq!(ended?, STREAMS_MAX as usize, "not every call was ended");
    }
    while let Some(ended) = promises.try_join_next() {
        let (bytes, codes) = ended?;
        let is_right =
            |code: &Code| matches!(code, Code::ResourceExhausted | Code::DeadlineExceeded);
        assert!(codes.iter().all(is_right), "{bytes} bytes: {codes:?}");
    }
    Ok(drips.is_empty() && promises.is_empty())
}
