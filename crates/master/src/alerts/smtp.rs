//! E-mail: one message on one connection, with TLS from the first byte or after STARTTLS, and a login by PLAIN or LOGIN.
//!
//! The protocol and the message are lettre's; what we add is that the connection is read with care (`lines`), and that
//! a letter is on its way as soon as one of those that it is for takes it.

use std::{
    error::Error as _,
    time::{Duration, SystemTime},
};

use lettre::{
    Address, Message,
    message::{
        Body, Mailbox,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{
            AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
        },
        commands::{Data, Mail, Quit, Rcpt},
        extension::ClientId,
    },
};
use piccolo_core::monitoring_server::alerts::channel::{Notice, Protection};

use super::{Failed, Login, Server, lines::Lines, message, tls};

pub(super) async fn send(
    notice: &Notice,
    server: &Server<'_>,
    login: &Login<'_>,
    from: &str,
    to: &[String],
) -> Result<(), Failed> {
    let from = address(from)?;
    let to = to.iter().map(|to| address(to)).collect::<Result<Vec<_>, _>>()?;
    let letter = letter(notice, &from, &to)?;
    let mut connection = connect(server).await?;
    if !login.user.is_empty() {
        let credentials = Credentials::new(login.user.to_owned(), login.password.to_owned());
        let known = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
        // it may be corrected at the server: nothing is wrong with the message
        known.map_err(|error| Failed::now(told("the login", &error)))?;
    }
    let asked = connection.command(Mail::new(Some(from), Vec::new())).await;
    asked.map_err(|error| failed("the sender", &error))?;
    let mut refused = None;
    let mut taken = 0;
    for to in to {
        match connection.command(Rcpt::new(to, Vec::new())).await {
            Ok(_) => taken += 1,
            Err(error) => refused = Some(failed("the recipient", &error)),
        }
    }
    if let Some(refused) = refused.filter(|_| taken == 0) {
        return Err(refused);
    }
    connection.command(Data).await.map_err(|error| failed("DATA", &error))?;
    let sent = connection.message(&letter).await;
    sent.map_err(|error| failed("the message", &error))?;
    // it was taken: what comes of the goodbye does not matter
    connection.command(Quit).await.ok();
    Ok(())
}

async fn connect(server: &Server<'_>) -> Result<AsyncSmtpConnection, Failed> {
    let stream = server.connect().await?;
    let peer = stream.peer_addr().map_err(Failed::now)?;
    let stream: Box<dyn AsyncTokioStream> = if server.protection == Protection::Tls {
        let trust = tls::client(server.ca).await?;
        Box::new(Lines::new(tls::wrap(stream, server.host, trust).await?, peer))
    } else {
        Box::new(Lines::new(stream, peer))
    };
    let name = ClientId::Domain("piccolo".to_owned());
    let connected = AsyncSmtpConnection::connect_with_transport(stream, &name).await;
    let mut connection = connected.map_err(|error| failed("the greeting", &error))?;
    if server.protection == Protection::StartTls {
        let parameters = parameters(server)?;
        let wrapped = connection.starttls(parameters, &name).await;
        wrapped.map_err(|error| match error.status() {
            Some(_) => failed("STARTTLS", &error),
            None => Failed::now(format!("TLS with {}: {error}", server.host)),
        })?;
    }
    Ok(connection)
}

fn parameters(server: &Server<'_>) -> Result<TlsParameters, Failed> {
    let mut parameters = TlsParameters::builder(server.host.to_owned());
    if !server.ca.is_empty() {
        parameters = parameters.certificate_store(CertificateStore::None);
        for certificate in tls::certificates(server.ca)? {
            let certificate = Certificate::from_der(certificate.to_vec()).map_err(Failed::now)?;
            parameters = parameters.add_root_certificate(certificate);
        }
    }
    parameters.build_rustls().map_err(Failed::now)
}

fn address(text: &str) -> Result<Address, Failed> {
    text.parse().map_err(|error| Failed::ForGood(format!("{text} is no address: {error}")))
}

fn failed(to: &str, error: &Error) -> Failed {
    let problem = told(to, error);
    // 5yz: it would be refused again
    if error.is_permanent() { Failed::ForGood(problem) } else { Failed::ForNow(problem) }
}

fn told(to: &str, error: &Error) -> String {
    let said = error.source().map(ToString::to_string).unwrap_or_default();
    match error.status() {
        Some(code) => format!("the server answered {to} with {code} {said}"),
        None => format!("no answer to {to}: {error}"),
    }
}

fn letter(notice: &Notice, from: &Address, to: &[Address]) -> Result<Vec<u8>, Failed> {
    let at = Duration::from_millis(notice.at.0.try_into().unwrap_or_default());
    let by_itself = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut builder = Message::builder()
        .from(Mailbox::new(Some("PICCOLO".to_owned()), from.clone()))
        .subject(notice.title())
        .date(SystemTime::UNIX_EPOCH + at)
        // the same at every attempt: a mailbox that has it already may show it once
        .message_id(Some(format!("<{}@{}>", notice.key, from.domain())))
        .raw_header(HeaderValue::new(by_itself, "auto-generated".to_owned()))
        .header(ContentType::TEXT_PLAIN);
    for to in to {
        builder = builder.to(Mailbox::new(None, to.clone()));
    }
    // no line of it means anything to the server, whatever an alert says
    let encoding = ContentTransferEncoding::Base64;
    let body = Body::new_with_encoding(message::letter(notice), encoding)
        .map_err(|_| Failed::ForGood("the letter cannot be encoded".to_owned()))?;
    let letter = builder.body(body).map_err(|error| Failed::ForGood(error.to_string()))?;
    Ok(letter.formatted())
}
