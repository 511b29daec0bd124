//! The REST API under load: `GET /api/v1/nodes` with 200 nodes, 500 requests a second (HLD §7.1).
//!
//! The requests are made on a schedule whatever becomes of those before, and each is measured from when it was due: a stall
//! is felt by all that it delays. The nodes, the master and the askers share the cores.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use piccolo_rpc::tls::{
    clock::Clock,
    connector::{ClientOptions, Connector},
    identity::Identity,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tonic::{
    body::Body,
    client::GrpcService as _,
    codegen::{Body as _, http},
    transport::Channel,
};

use super::load::start_agents;
use crate::{figure::Figure, ground::Ground};

const NODES: usize = 200;
const PER_SECOND: u32 = 500;
const MEASURED_FOR: Duration = Duration::from_secs(20);
/// Connections that the requests are spread over.
const CONNECTIONS: usize = 8;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let cluster = ground.empty_cluster("rest", false, "")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut sessions = start_agents(&runtime, &cluster, NODES, &Arc::<AtomicUsize>::default())?;
    let identity = admin(&cluster.context())?;
    let mut took = runtime.block_on(ask_all(&cluster.https_address, &identity))?;
    runtime.block_on(sessions.shutdown());
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied();
    let [median, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| at(share).unwrap_or(0.0));
    let worst = took.last().copied().unwrap_or(0.0);
    let name = format!("REST: {NODES} nodes listed, {PER_SECOND} times a second, p99");
    let note = format!(
        "{} requests: median {median:.1}, p90 {p90:.1}, p99.9 {p999:.1}, worst {worst:.1} ms",
        took.len()
    );
    Ok(vec![Figure::one(name, "ms", p99).at_most(10.0).note(note)])
}

/// The first administrator, out of its context file.
fn admin(context: &std::path::Path) -> Result<Identity> {
    let text = std::fs::read_to_string(context)?;
    let context: serde_json::Value = serde_saphyr::from_str(&text)?;
    let part = |name: &str| context[name].as_str().context("a context without a certificate");
    let pem = [part("key")?, part("certificate")?, part("ca")?].concat();
    Ok(Identity::from_pem(&pem)?)
}

async fn ask_all(address: &str, identity: &Identity) -> Result<Vec<f64>> {
    let connector = Connector::new(identity, ClientOptions::new(Clock::with_floor(0)))?;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(connector.channel(address).await?);
    }
    let begin = Instant::now() + Duration::from_secs(2);
    let mut asked = JoinSet::new();
    for number in 0..PER_SECOND * MEASURED_FOR.as_secs() as u32 {
        let due = begin + Duration::from_secs(1) / PER_SECOND * number;
        sleep_until(due).await;
        let channel = channels[number as usize % CONNECTIONS].clone();
        asked.spawn(async move {
            let bytes = ask(channel).await?;
            ensure!(bytes > NODES * 100, "only {bytes} bytes came");
            Ok(due.elapsed().as_secs_f64() * 1000.0)
        });
    }
    asked.join_all().await.into_iter().collect()
}

/// How many bytes came.
async fn ask(mut channel: Channel) -> Result<usize> {
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    let request = http::Request::get("/api/v1/nodes").body(Body::empty())?;
    let response = channel.call(request).await?;
    ensure!(response.status() == 200, "{}", response.status());
    let mut body = std::pin::pin!(response.into_body());
    let mut bytes = 0;
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        bytes += frame?.data_ref().map_or(0, |data| data.len());
    }
    Ok(bytes)
}
