//! MQTT 3.1.1: one message with quality of service 1 on one connection: CONNECT, PUBLISH, and the broker's word that it
//! has it. That is all of MQTT that is needed here, and less than a client for all of it would bring.

use piccolo_core::monitoring_server::alerts::channel::{Notice, Protection};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Failed, Login, Server, message, tls};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
/// Quality of service 1.
const PUBLISH: u8 = 0x32;
const PUBACK: u8 = 0x40;
const DISCONNECT: [u8; 2] = [0xe0, 0];
const KEEP_ALIVE_S: u16 = 60;
const PACKET_ID: u16 = 1;
/// Characters of a client id that every broker takes.
const CLIENT_ID_MAX: usize = 23;

pub(super) async fn publish(
    notice: &Notice,
    server: &Server<'_>,
    login: &Login<'_>,
    topic: &str,
) -> Result<(), Failed> {
    let stream = server.connect().await?;
    let payload = message::document(notice).to_string();
    match server.protection {
        Protection::None => exchange(stream, &notice.key, login, topic, &payload).await,
        Protection::Tls | Protection::StartTls => {
            let trust = tls::client(server.ca).await?;
            let stream = tls::wrap(stream, server.host, trust).await?;
            exchange(stream, &notice.key, login, topic, &payload).await
        }
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    key: &str,
    login: &Login<'_>,
    topic: &str,
    payload: &str,
) -> Result<(), Failed> {
    stream.write_all(&connect(key, login)?).await.map_err(Failed::now)?;
    stream.flush().await.map_err(Failed::now)?;
    match answer(&mut stream, CONNACK).await? {
        [_, 0] => {}
        [_, code] => return Err(Failed::now(format!("the broker refused us: {}", refusal(code)))),
    }
    let mut body = Vec::new();
    put(&mut body, topic)?;
    body.extend(PACKET_ID.to_be_bytes());
    body.extend(payload.as_bytes());
    stream.write_all(&packet(PUBLISH, &body)).await.map_err(Failed::now)?;
    stream.flush().await.map_err(Failed::now)?;
    if answer(&mut stream, PUBACK).await? != PACKET_ID.to_be_bytes() {
        return Err(Failed::now("the broker acknowledged another message"));
    }
    // it has it: what comes of the goodbye does not matter
    stream.write_all(&DISCONNECT).await.ok();
    stream.flush().await.ok();
    Ok(())
}

fn connect(key: &str, login: &Login<'_>) -> Result<Vec<u8>, Failed> {
    let mut body = Vec::new();
    put(&mut body, "MQTT")?;
    let with_login = !login.user.is_empty();
    // version 4, a clean session
    body.extend([4, if with_login { 0b1100_0010 } else { 0b0000_0010 }]);
    body.extend(KEEP_ALIVE_S.to_be_bytes());
    let id: String = "piccolo"
        .chars()
        .chain(key.chars().rev().filter(char::is_ascii_alphanumeric))
        .take(CLIENT_ID_MAX)
        .collect();
    put(&mut body, &id)?;
    if with_login {
        put(&mut body, login.user)?;
        put(&mut body, login.password)?;
    }
    Ok(packet(CONNECT, &body))
}

fn put(body: &mut Vec<u8>, text: &str) -> Result<(), Failed> {
    let length = u16::try_from(text.len())
        .map_err(|_| Failed::ForGood("a text is too long for MQTT".to_owned()))?;
    body.extend(length.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}

/// Its kind, its length in sevens of bits, and what is in it.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let seven = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        packet.push(if length > 0 { seven | 0x80 } else { seven });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// Both answers that we wait for have two bytes.
async fn answer(stream: &mut (impl AsyncRead + Unpin), kind: u8) -> Result<[u8; 2], Failed> {
    let mut answer = [0; 4];
    let read = stream.read_exact(&mut answer).await;
    read.map_err(|error| Failed::now(format!("the broker ended the connection: {error}")))?;
    match answer {
        [found, 2, a, b] if found == kind => Ok([a, b]),
        _ => Err(Failed::now("the broker speaks no MQTT 3.1.1")),
    }
}

fn refusal(code: u8) -> &'static str {
    match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it does not take our client id",
        3 => "it is not available",
        4 => "the user or the password is wrong",
        5 => "we are not allowed to",
        _ => "for a reason that it does not know a word for",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_sevens_of_bits() {
        for (length, head) in
            [(0, vec![0x32, 0]), (127, vec![0x32, 127]), (128, vec![0x32, 0x80, 1])]
        {
            assert_eq!(packet(PUBLISH, &vec![7; length])[..head.len()], head);
        }
    }
}
