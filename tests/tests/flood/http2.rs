//! HTTP/2 by hand (RFC 9113), for what no well-behaved client says.

use std::error::Error;

use piccolo_rpc::tls::connector::Connector;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Bytes of a frame's payload at most, where nobody has asked for more.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) type Writer = WriteHalf<TlsStream<TcpStream>>;
pub(crate) type Reader = ReadHalf<TlsStream<TcpStream>>;

/// Connects, and says the first words with `settings`.
pub(crate) async fn connect(
    connector: &Connector,
    address: &str,
    settings: &[u8],
) -> Result<(Reader, Writer), Box<dyn Error + Send + Sync>> {
    let (host, port) = address.split_once(':').ok_or("no port")?;
    let stream = connector.connect(host, port.parse()?).await?;
    let (reader, mut writer) = tokio::io::split(stream);
    writer.write_all(PREFACE).await?;
    writer.write_all(&frame(SETTINGS, 0, 0, settings)).await?;
    writer.flush().await?;
    Ok((reader, writer))
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// One setting, for a SETTINGS frame.
pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
}

/// The head of a call of `ApiServerService`, as HPACK's plainest words (RFC 7541 §6.2.2: literal, not indexed).
pub(crate) fn head(call: &str, filling_bytes: usize) -> Vec<u8> {
    let path = format!("/piccolo.v1.ApiServerService/{call}");
    let filling = "x".repeat(filling_bytes);
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path.as_str()),
        (":authority", "piccolo-master"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-filling", filling.as_str()),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// HPACK's integers with a prefix of seven bits.
fn integer(block: &mut Vec<u8>, value: usize) {
    if value < 127 {
        block.push(u8::try_from(value).unwrap_or(127));
        return;
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap_or_default());
}

/// A gRPC message that is empty, and one that says it is larger than what comes.
pub(crate) const EMPTY_MESSAGE: [u8; 5] = [0; 5];
pub(crate) const UNFINISHED_MESSAGE: [u8; 5] = [0, 0, 0, 0x40, 0];

/// Kind, flags and stream of the next frame; none when the connection is over.
pub(crate) async fn next_frame(reader: &mut Reader) -> Option<(u8, u8, u32)> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, u32::from_be_bytes(stream)))
}
