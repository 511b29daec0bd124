//! Bytes that are no message: text that is no UTF-8, messages, frames and connections that are cut off. Each
//! is refused by its field where it has one, stores nothing, and harms nobody.

use std::marker::PhantomData;

use axum::body::{Body, Bytes};
use piccolo_rpc::{
    status::ErrorView,
    tls::identity::{Identity, PrivateKey},
    v1::{self, agent_message::Message as Say, master_message::Message as Heard},
};
use prost::{Message, bytes::BufMut as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    client::{Grpc, GrpcService as _},
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http,
    transport::Channel,
};

use crate::harness::{
    Cluster, PATIENCE, Session, eventually, goodbye, hello, refused, registration,
};

/// The path of a call of `NodeAgentService`.
fn call_of_agents(name: &'static str) -> http::uri::PathAndQuery {
    format!("/piccolo.v1.NodeAgentService/{name}").parse().unwrap()
}

/// Sends bytes as they are, and reads answers.
struct Raw<D>(PhantomData<D>);

impl<D: Message + Default + 'static> Codec for Raw<D> {
    type Encode = Vec<u8>;
    type Decode = D;
    type Encoder = RawEncoder;
    type Decoder = Self;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

struct RawEncoder;

impl Encoder for RawEncoder {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&bytes);
        Ok(())
    }
}

impl<D: Message + Default> Decoder for Raw<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        D::decode(from).map(Some).map_err(|error| Status::data_loss(error.to_string()))
    }
}

/// One unary call with these bytes as its message.
async fn ask<D>(channel: &Channel, call: &'static str, bytes: Vec<u8>) -> Result<D, Status>
where
    D: Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let answer = grpc.unary(Request::new(bytes), call_of_agents(call), Raw(PhantomData)).await;
    answer.map(tonic::Response::into_inner)
}

/// The message with the first byte of `text` in it made one that no UTF-8 has.
fn spoilt(message: &impl Message, text: &str) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    let places: Vec<_> =
        (0..bytes.len()).filter(|&i| bytes[i..].starts_with(text.as_bytes())).collect();
    assert_eq!(places.len(), 1, "{text:?} must be there once");
    bytes[places[0]] = 0xff;
    bytes
}

#[track_caller]
fn names(view: &ErrorView, field: &str) {
    let got = (view.code, view.reason.as_str(), view.field.as_deref());
    assert_eq!(got, (Code::InvalidArgument, "InvalidField", Some(field)), "{view:?}");
}

#[tokio::test]
async fn text_that_is_no_utf8_is_refused_by_its_field() {
    let cluster = Cluster::start().await;
    let token = cluster.token(|_| {}).await;
    let channel = cluster.strange_channel(&token).await;
    let mut request = registration("the-id", &token, &PrivateKey::generate().unwrap());
    request.hostname = "the-name".to_owned();
    request.ip_address = "10.9.8.7".to_owned();
    request.labels = [("the-key".to_owned(), "the-value".to_owned())].into();
    for (text, field) in [
        ("the-id", "node_id"),
        ("the-name", "hostname"),
        ("10.9.8.7", "ip_address"),
        ("the-key", "labels"),
        ("the-value", "labels"),
        (token.as_str(), "credentials.token"),
    ] {
        let bytes = spoilt(&request, text);
        let answer = ask::<v1::NodeRegistrationResponse>(&channel, "RegisterNode", bytes).await;
        let view = refused(answer);
        names(&view, field);
        assert!(view.message.contains("not UTF-8"), "{}", view.message);
    }
    let mut admin = cluster.admin().await;
    let nodes = admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner().nodes;
    assert_eq!(nodes, []);

    let identity = cluster.join("n1").await;
    let channel = cluster.channel(&identity).await;
    let report = v1::StatusReport {
        node_id: "n1".to_owned(),
        metrics: [("good".to_owned(), "1".to_owned())].into(),
        containers: vec![v1::ContainerStatus { name: "the-web".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let spoilt = spoilt(&report, "the-web");
    names(
        &refused(ask::<v1::StatusAck>(&channel, "ReportStatus", spoilt).await),
        "containers.name",
    );
    let node = cluster.node("n1").await;
    assert!(node.metrics.is_empty() && node.containers.is_empty(), "nothing of it was taken");
    ask::<v1::StatusAck>(&channel, "ReportStatus", report.encode_to_vec()).await.unwrap();
}

#[tokio::test]
async fn a_message_cut_anywhere_registers_nobody() {
    let cluster = Cluster::start().await;
    let token = cluster.token(|_| {}).await;
    let request = registration("n1", &token, &PrivateKey::generate().unwrap()).encode_to_vec();
    // each a try of this address, of which twenty a minute may fail: those that cannot be read are none
    for part in 1..40 {
        let channel = cluster.strange_channel(&token).await;
        let bytes = request[..request.len() * part / 40].to_vec();
        let view =
            refused(ask::<v1::NodeRegistrationResponse>(&channel, "RegisterNode", bytes).await);
        assert_eq!(view.code, Code::InvalidArgument, "{view:?}");
        assert!(view.field.is_some(), "{view:?}");
    }
    let mut admin = cluster.admin().await;
    let nodes = admin.get_nodes(v1::GetNodesRequest::default()).await.unwrap().into_inner().nodes;
    assert_eq!(nodes, []);
    cluster.join_with(&token, "n1").await.unwrap();
}

/// As gRPC frames it: not compressed, its length, itself.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// One call whose frames are written by hand.
async fn post(
    channel: &Channel,
    call: &'static str,
    body: Body,
) -> http::Response<tonic::body::Body> {
    let request = http::Request::post(http::Uri::from(call_of_agents(call)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body))
        .unwrap();
    let mut channel = channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    channel.call(request).await.unwrap()
}

#[tokio::test]
async fn frames_that_are_none_are_refused() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let channel = cluster.channel(&identity).await;
    let beat = v1::HeartbeatRequest { node_id: "n1".to_owned(), sent_at: None }.encode_to_vec();
    let whole = frame(&beat);
    let promised = [&[0, 0, 0, 1, 0], &beat[..]].concat();
    let endless = [&[0, 255, 255, 255, 255], &beat[..]].concat();
    let compressed = [&[1], &whole[1..]].concat();
    let unknown = [&[7], &whole[1..]].concat();
    for (bytes, said) in [
        (Vec::new(), "Missing request message"),
        (whole[..3].to_vec(), "Unexpected EOF"),
        (whole[..whole.len() - 1].to_vec(), "Unexpected EOF"),
        (promised, "Unexpected EOF"),
        (endless, "decoded message length too large"),
        (compressed, "compress"),
        (unknown, "compression flag"),
    ] {
        let answer = post(&channel, "Heartbeat", Body::from(bytes)).await;
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_ne!(status.code(), Code::Ok);
        assert!(status.message().contains(said), "{status:?}");
    }
    let answer = post(&channel, "Heartbeat", Body::from(whole)).await;
    assert!(Status::from_header_map(answer.headers()).is_none(), "this one is good");
}

#[tokio::test]
async fn a_session_with_text_that_is_no_utf8_ends_and_says_where() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let channel = cluster.channel(&identity).await;
    let say = |message| v1::AgentMessage { message: Some(message) };
    let event = v1::Event {
        node_sequence: 1,
        severity: 1,
        kind: "TheKind".to_owned(),
        ..Default::default()
    };
    let batch = say(Say::Events(v1::EventBatch { events: vec![event] }));
    let (to, messages) = mpsc::channel(4);
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let request = Request::new(ReceiverStream::new(messages));
    let answer = grpc.streaming(request, call_of_agents("Session"), Raw(PhantomData)).await;
    let from: Streaming<v1::MasterMessage> = answer.unwrap().into_inner();
    to.send(say(Say::Hello(hello("n1"))).encode_to_vec()).await.unwrap();
    to.send(spoilt(&batch, "TheKind")).await.unwrap();
    let mut session = Session { to: mpsc::channel(1).0, from };
    let farewell = session.next_that(goodbye).await;
    assert_eq!(farewell.reason, "Protocol");
    assert!(farewell.message.contains("message.events.kind: cannot be read"), "{farewell:?}");
    assert!(session.next().await.is_none());
    assert!(cluster.events().await.iter().all(|event| event.node_sequence != 1));
}

/// Says hello and half a batch of events by hand; gives the stream's answer, and what keeps it open.
async fn half_a_batch(
    cluster: &Cluster,
    identity: &Identity,
    batch: &v1::AgentMessage,
) -> (http::Response<tonic::body::Body>, mpsc::Sender<Result<Bytes, std::io::Error>>) {
    let channel = cluster.channel(identity).await;
    let (to, bytes) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    let hello = v1::AgentMessage { message: Some(Say::Hello(hello("n1"))) };
    let batch = frame(&batch.encode_to_vec());
    to.send(Ok(frame(&hello.encode_to_vec()).into())).await.unwrap();
    to.send(Ok(batch[..batch.len() / 2].to_vec().into())).await.unwrap();
    (post(&channel, "Session", Body::from_stream(ReceiverStream::new(bytes))).await, to)
}

#[tokio::test]
async fn a_stream_cut_in_the_middle_of_a_message_loses_nothing_and_stores_nothing() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("n1").await;
    let event = |node_sequence| v1::Event {
        node_sequence,
        severity: 1,
        kind: "Alert".to_owned(),
        ..Default::default()
    };
    let batch = v1::EventBatch { events: vec![event(1), event(2)] };
    let wire = v1::AgentMessage { message: Some(Say::Events(batch.clone())) };
    let told = async || {
        let events = cluster.events().await;
        events.iter().filter(|event| event.node_sequence > 0).count()
    };
    let open = async || cluster.node("n1").await.connected;

    // the stream is ended properly, the connection lives
    let (answer, to) = half_a_batch(&cluster, &identity, &wire).await;
    eventually("the session is open", async || open().await).await;
    drop(to);
    let all = axum::body::to_bytes(Body::new(answer.into_body()), 64 * 1024);
    tokio::time::timeout(PATIENCE, all).await.expect("the master ends it too").unwrap();
    eventually("the session is closed", async || !open().await).await;

    // the connection is gone with it
    let (answer, to) = half_a_batch(&cluster, &identity, &wire).await;
    eventually("the session is open", async || open().await).await;
    drop((answer, to));
    eventually("the session is closed", async || !open().await).await;
    assert_eq!(told().await, 0);

    let mut session = Session::open(&mut cluster.agent(&identity).await, hello("n1")).await;
    session.say(Say::Events(batch)).await;
    let acknowledged = session.next_that(|message| match message {
        Heard::EventAck(ack) => Some(ack.sequence),
        _ => None,
    });
    assert_eq!(acknowledged.await, 2);
    assert_eq!(told().await, 2);
}
