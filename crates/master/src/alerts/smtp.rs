//! E-mail: one message on one connection, by SMTP (RFC 5321), with TLS from the first byte or after STARTTLS (RFC
//! 3207), and a login by PLAIN or LOGIN (RFC 4954).
//!
//! The message is plain text in base64: no line of it means anything to the server, whatever an alert says.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use piccolo_core::{
    monitoring_server::alerts::channel::{Notice, Protection},
    time::WallTime,
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use super::{Failed, Login, Server, message, tls};

/// Bytes of one answer's line at most, and lines of one answer.
const LINE_BYTES_MAX: u64 = 2048;
const LINES_MAX: usize = 64;
/// Bytes of a subject's piece: an encoded word has 75 characters at most.
const WORD_BYTES_MAX: usize = 42;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

struct Reply {
    code: u16,
    lines: Vec<String>,
}

pub(super) async fn send(
    notice: &Notice,
    server: &Server<'_>,
    login: &Login<'_>,
    from: &str,
    to: &[String],
) -> Result<(), Failed> {
    let stream = server.connect().await?;
    let mut connection = if server.protection == Protection::Tls {
        Connection::new(Box::new(tls::wrap(stream, server.host, server.ca).await?))
    } else {
        Connection::new(Box::new(stream))
    };
    connection.expect("the greeting", 220).await?;
    let mut offers = connection.hello().await?;
    if server.protection == Protection::StartTls {
        connection.ask("STARTTLS", 220).await?;
        // what came before the handshake in the clear is nothing that we believe
        if !connection.stream.buffer().is_empty() {
            return Err(Failed::now("the server said more before TLS than it should"));
        }
        let wrapped = tls::wrap(connection.stream.into_inner(), server.host, server.ca).await?;
        connection = Connection::new(Box::new(wrapped));
        offers = connection.hello().await?;
    }
    if !login.user.is_empty() {
        connection.login(&offers, login).await?;
    }
    connection.ask(&format!("MAIL FROM:<{from}>"), 250).await?;
    let mut refused = None;
    let mut taken = 0;
    for to in to {
        match connection.ask(&format!("RCPT TO:<{to}>"), 250).await {
            Ok(()) => taken += 1,
            Err(error) => refused = Some(error),
        }
    }
    if let Some(refused) = refused.filter(|_| taken == 0) {
        return Err(refused);
    }
    connection.ask("DATA", 354).await?;
    let text = text(notice, from, to);
    connection.write(&text).await?;
    connection.ask("\r\n.", 250).await?;
    // it was taken: what comes of the goodbye does not matter
    connection.write("QUIT\r\n").await.ok();
    Ok(())
}

impl Connection {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// What the server offers, in capitals.
    async fn hello(&mut self) -> Result<Vec<String>, Failed> {
        self.write("EHLO piccolo\r\n").await?;
        let reply = self.expect("EHLO", 250).await?;
        Ok(reply.lines.iter().map(|line| line.to_ascii_uppercase()).collect())
    }

    async fn login(&mut self, offers: &[String], login: &Login<'_>) -> Result<(), Failed> {
        let offered = |way: &str| {
            let methods = offers.iter().filter_map(|line| line.strip_prefix("AUTH"));
            methods.into_iter().any(|methods| methods.split([' ', '=']).any(|method| method == way))
        };
        let Login { user, password } = login;
        let told = "the login";
        if offered("PLAIN") {
            let both = BASE64.encode(format!("\0{user}\0{password}"));
            self.write(&format!("AUTH PLAIN {both}\r\n")).await?;
        } else if offered("LOGIN") {
            self.ask("AUTH LOGIN", 334).await?;
            self.write(&format!("{}\r\n", BASE64.encode(user))).await?;
            self.expect(told, 334).await?;
            self.write(&format!("{}\r\n", BASE64.encode(password))).await?;
        } else {
            return Err(Failed::now("the server offers no login by PLAIN or LOGIN"));
        }
        match self.expect(told, 235).await {
            Ok(_) => Ok(()),
            // it may be corrected at the server: nothing is wrong with the message
            Err(Failed::ForGood(problem) | Failed::ForNow(problem)) => Err(Failed::ForNow(problem)),
        }
    }

    async fn ask(&mut self, line: &str, expect: u16) -> Result<(), Failed> {
        self.write(line).await?;
        self.write("\r\n").await?;
        let word = if line.starts_with('\r') { "the message" } else { line };
        self.expect(word, expect).await.map(drop)
    }

    async fn write(&mut self, text: &str) -> Result<(), Failed> {
        self.stream.write_all(text.as_bytes()).await.map_err(Failed::now)?;
        self.stream.flush().await.map_err(Failed::now)
    }

    async fn expect(&mut self, to: &str, code: u16) -> Result<Reply, Failed> {
        let reply = self.reply().await?;
        if reply.code == code || (code == 250 && reply.code == 251) {
            return Ok(reply);
        }
        let said = reply.lines.first().map_or("", String::as_str);
        let problem = format!("the server answered {to} with {} {said}", reply.code);
        // 5yz: it would be refused again
        Err(if reply.code / 100 == 5 { Failed::ForGood(problem) } else { Failed::ForNow(problem) })
    }

    async fn reply(&mut self) -> Result<Reply, Failed> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            (&mut self.stream)
                .take(LINE_BYTES_MAX)
                .read_line(&mut line)
                .await
                .map_err(Failed::now)?;
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            let (Some(code), true) = (code, line.ends_with('\n') && lines.len() < LINES_MAX) else {
                return Err(Failed::now("the server speaks no SMTP, or ended the connection"));
            };
            let rest = line.get(3..).unwrap_or_default();
            lines.push(rest.trim_start_matches(['-', ' ']).trim_end().to_owned());
            if !rest.starts_with('-') {
                return Ok(Reply { code, lines });
            }
        }
    }
}

/// The whole message, without the end.
fn text(notice: &Notice, from: &str, to: &[String]) -> String {
    let host = from.rsplit_once('@').map_or("piccolo", |(_, host)| host);
    let head = [
        format!("From: PICCOLO <{from}>"),
        format!("To: {}", to.join(",\r\n ")),
        format!("Subject: {}", encoded(&notice.title())),
        format!("Date: {}", date(notice.at)),
        // the same at every attempt: a mailbox that has it already may show it once
        format!("Message-ID: <{}@{host}>", notice.key),
        "Auto-Submitted: auto-generated".to_owned(),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "Content-Transfer-Encoding: base64".to_owned(),
    ];
    let body = BASE64.encode(message::letter(notice));
    let lines: Vec<_> = body.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
    format!("{}\r\n\r\n{}", head.join("\r\n"), lines.join("\r\n"))
}

/// Encoded words (RFC 2047).
fn encoded(text: &str) -> String {
    let mut words = vec![String::new()];
    for c in text.chars() {
        if words.last().is_some_and(|word| word.len() + c.len_utf8() > WORD_BYTES_MAX) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let words = words.iter().map(|word| format!("=?utf-8?B?{}?=", BASE64.encode(word)));
    words.collect::<Vec<_>>().join("\r\n ")
}

fn date(at: WallTime) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000));
    time.ok().and_then(|time| time.format(&Rfc2822).ok()).unwrap_or_default()
}
