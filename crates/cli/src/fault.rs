//! What the master, or the way to it, answered instead of a result: as a [`Failure`] with its exit
//! code, in one exhaustive place.

use std::error::Error;

use piccolo_rpc::{
    status::ErrorView,
    tls::{
        PeerError,
        connector::{ChannelError, ConnectError},
    },
};
use tonic::{Code, Status, TimeoutExpired};

use crate::{
    context::Context,
    failure::{Exit, Failure},
};

/// A call that was refused or broke off. `what` says what was tried, e.g. `cannot list nodes`.
pub fn of_status(what: &str, status: &Status, context: &Context, address: &str) -> Failure {
    if let Some(PeerError::RefusedByPeer(alert)) = PeerError::find(status) {
        return refused_certificate(what, &alert, context);
    }
    if status.message().starts_with(NOT_GRPC) {
        return not_grpc(what, context, address);
    }
    let view = ErrorView::from(status);
    let exit = exit_of(status);
    let failure = Failure::new(exit, what);
    // The timer on this side may be the first to say that the time is over.
    let timer = find::<TimeoutExpired>(status).is_some();
    let failure = match status.message() {
        _ if timer => failure.cause("no answer in time"),
        "" => failure.cause(status.code().description()),
        message => failure.cause(spelled(message)),
    };
    if let Some(help) = view.help {
        return failure.help(help);
    }
    match view.reason.as_str() {
        NO_SESSION => {
            return failure.help(
                "wait until it is back: piccolo node list --watch;\n\
                 since when, and why: piccolo node describe NODE",
            );
        }
        NO_ANSWER => return failure.help("it may still act: look before you try again"),
        _ => {}
    }
    match exit {
        Exit::Denied => failure.help(format!(
            "{} speaks for {}; an admin can issue another role:\n\
             piccolo user create NAME --role operator",
            context.path.display(),
            context.who()
        )),
        Exit::Unreachable if is_local(status) && !timer => failure.help(format!(
            "the connection to {address} broke while the master worked: look whether it was done\n\
             before you try again"
        )),
        Exit::Unreachable => failure.help(format!(
            "{address} may be overloaded or starting; try again, or allow more with --timeout 60s"
        )),
        Exit::Done | Exit::Failed | Exit::Usage | Exit::NotFound => failure,
    }
}

/// What a node does not do, said by a master that is well: asking again soon helps nobody.
const NO_SESSION: &str = "NotConnected";
const NO_ANSWER: &str = "NoAnswer";
/// How tonic begins what it says of an answer that is HTTP/2 and no more.
const NOT_GRPC: &str = "grpc-status header missing";

/// The master's HTTPS port, or another server with a certificate of this cluster.
fn not_grpc(what: &str, context: &Context, address: &str) -> Failure {
    Failure::failed(what)
        .cause(format!("{address} answers, but it is not the gRPC port of a master"))
        .help(format!(
            "the gRPC port is 47098, unless the master's configuration says otherwise\n\
             (listen): correct server: in {}",
            context.path.display()
        ))
}

/// A message about a field of the wire, in the words of the command line.
fn spelled(message: &str) -> String {
    let Some((field, problem)) = message.split_once(": ") else { return message.to_owned() };
    let argument = match field {
        "node_id" => return problem.to_owned(),
        "ttl_seconds" => "--ttl",
        "uses" => "--uses",
        "node_name" => "--node",
        "minimum_severity" => "--severity",
        "limit" | "filter.lines" => "--lines",
        "filter.grep" => "--grep",
        "filter.level" => "--level",
        "filter.since" => "--since",
        "filter" => "the filter",
        _ => return message.to_owned(),
    };
    format!("{argument}: {problem}")
}

/// The connection broke, and nothing says why.
pub fn broke_off(status: &Status) -> bool {
    is_local(status) && exit_of(status) == Exit::Unreachable && PeerError::find(status).is_none()
}

fn exit_of(status: &Status) -> Exit {
    match status.code() {
        Code::Unknown | Code::Cancelled | Code::Internal if is_local(status) => Exit::Unreachable,
        Code::Unavailable if is_of_a_node(status) => Exit::Failed,
        Code::InvalidArgument => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unreachable,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::OutOfRange
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Exit::Failed,
    }
}

/// A node is not there, or does not answer; the master is and does.
fn is_of_a_node(status: &Status) -> bool {
    [NO_SESSION, NO_ANSWER].contains(&ErrorView::from(status).reason.as_str())
}

/// Made on this side, because the connection broke or its time was over: no master said it.
fn is_local(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether asking again, maybe another master, may help.
pub fn is_passing(status: &Status) -> bool {
    exit_of(status) == Exit::Unreachable && PeerError::find(status).is_none()
}

/// A master that could not be dialled, in one line: for the list of all that were tried.
pub fn dial_problem(error: &ChannelError) -> String {
    if let Some(peer) = PeerError::find(error) {
        return peer.to_string();
    }
    if let Some(ConnectError::Timeout(limit)) = find::<ConnectError>(error) {
        return format!("no answer within {} s", limit.as_secs_f32());
    }
    let deepest = deepest(error);
    match find::<ConnectError>(error) {
        Some(error) if is_closed_before_tls(error) => CLOSED_BEFORE_TLS.to_owned(),
        Some(tls @ ConnectError::Tls(_)) => format!("{tls}: {deepest}"),
        Some(
            ConnectError::NoAddress(_)
            | ConnectError::NoRoute { .. }
            | ConnectError::Timeout(_)
            | ConnectError::Io(_)
            | ConnectError::Peer(_),
        )
        | None => deepest,
    }
}

/// It took the connection, and ended it without a word of TLS.
pub const CLOSED_BEFORE_TLS: &str = "it closed the connection before TLS";
/// What is behind that.
pub const WHY_CLOSED_BEFORE_TLS: &str = "a master does so where connections from one address are too many: more than 100 a second, \
                                         or more at once than it takes; wait a second, and open fewer. Else it is no PICCOLO master";

/// Where the other side does not read what we say first, the end is a reset.
pub fn is_closed_before_tls(error: &ConnectError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ends = [UnexpectedEof, ConnectionReset, ConnectionAborted, BrokenPipe];
    matches!(error, ConnectError::Tls(error) if ends.contains(&error.kind()))
}

/// What it all comes from.
pub fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Whether it is about a master that is well, but not of the context's cluster.
pub fn is_another_cluster(peer: &PeerError) -> bool {
    match peer {
        PeerError::OtherCluster { .. } | PeerError::OtherAuthority => true,
        PeerError::Certificate(_)
        | PeerError::NotAMaster(_)
        | PeerError::OtherCa
        | PeerError::PinnedNotCa
        | PeerError::OtherUse
        | PeerError::Expired
        | PeerError::RefusedByPeer(_) => false,
    }
}

/// Every master of the context is another cluster's. Nothing was sent.
pub fn another_cluster(problems: &[(String, String)], context: &Context) -> Failure {
    let error = match problems {
        [(address, _)] => format!("another cluster's master is at {address}"),
        _ => "other clusters' masters are at the addresses of this context".to_owned(),
    };
    let mut failure = Failure::new(Exit::Denied, error);
    for (address, problem) in problems {
        failure = failure.cause(format!("{address}: {problem}"));
    }
    failure.help(format!(
        "{} is for cluster {}: name the context of the other with --context FILE;\n\
         if that cluster was set up anew, every context has to be made anew",
        context.path.display(),
        context.file.cluster
    ))
}

/// With TLS 1.3 a master refuses a certificate only after the handshake: by an alert.
pub fn refused_certificate(what: &str, alert: &str, context: &Context) -> Failure {
    let why = match alert {
        "CertificateRevoked" => "it is revoked",
        "CertificateExpired" => "it has expired",
        "CertificateRequired" => "it wants one of this cluster",
        "UnknownCA" => "it was issued by another authority",
        other => other,
    };
    Failure::new(Exit::Denied, what)
        .cause(format!("the master does not accept the certificate of {}: {why}", context.who()))
        .help(format!(
            "see {} with: piccolo context show;\n\
             ask an admin for a new one: piccolo user create NAME --role viewer",
            context.path.display()
        ))
}

/// The first error of that type among an error and its sources.
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An io::Error hides what it wraps from source() but not from get_ref().
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
            && let Some(found) = find::<E>(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}
