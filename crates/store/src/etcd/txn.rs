//! Transactions that are applied once, whatever becomes of the connection.
//!
//! When a connection breaks after a transaction was sent, nobody knows whether etcd applied it, and
//! even a read cannot tell: it may still be on its way. So every transaction also writes a marker:
//! one key per client, with a random token, on the condition that the marker is as it was before.
//! Then
//!
//! * if the marker holds our token, the transaction was applied, at the marker's revision;
//! * if not, sending it again is safe: only one of the two can find the marker as it was.
//!
//! The price is one small key more per transaction, and that a client's transactions go one after
//! the other.

use tonic::{Request, Status, transport::Channel};

use crate::{
    Error, LeaseId, Operation, PREFIX_INTERNAL, Result, Revision, Transaction,
    etcd::{
        connection::{Answer, Cluster, Failure, refusal},
        wire::{
            self,
            etcdserverpb::{
                RequestOp, ResponseOp, TxnRequest, TxnResponse, kv_client::KvClient, response_op,
            },
            mvccpb::KeyValue as WireKeyValue,
        },
    },
};

/// How often a transaction starts anew because somebody else moved our marker.
const MARKER_MOVES_MAX: usize = 8;

type Token = [u8; 16];

/// What we know about our marker, and about a transaction whose outcome nobody knows.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    marker: Option<Marker>,
    unsettled: Option<Unsettled>,
}

#[derive(Debug)]
struct Marker {
    revision: Revision,
    token: Vec<u8>,
}

#[derive(Debug)]
struct Unsettled {
    transaction: Transaction,
    token: Token,
    /// The marker's revision that the transaction was last sent with, if it may have arrived.
    sent_on: Option<Revision>,
}

/// How one attempt ended.
enum Outcome {
    Applied(Revision),
    /// Another transaction wrote the marker, which is now this.
    MarkerMoved {
        now: Marker,
        repeated: bool,
    },
}

impl Fence {
    /// Applies a transaction, or finds that it was applied already.
    pub(crate) async fn txn(
        &mut self,
        cluster: &Cluster,
        transaction: &Transaction,
    ) -> Result<Revision> {
        if transaction.operations.is_empty() {
            return check_only(cluster, transaction).await;
        }
        // An equal transaction that comes again is the same one, even if the future before was
        // dropped half-way.
        let known = self.unsettled.as_ref().is_some_and(|u| u.transaction == *transaction);
        if !known {
            let token = new_token()?;
            self.unsettled =
                Some(Unsettled { transaction: transaction.clone(), token, sent_on: None });
        }
        let result = self.settle(cluster).await;
        if !matches!(result, Err(Error::OutcomeUnknown { .. })) {
            self.unsettled = None;
        }
        result
    }

    async fn settle(&mut self, cluster: &Cluster) -> Result<Revision> {
        let Some(unsettled) = &mut self.unsettled else { return Err(Error::Closed) };
        let unknown =
            |cause: String| Error::OutcomeUnknown { store: cluster.location().to_owned(), cause };
        let key = marker_key(cluster);
        for _ in 0..MARKER_MOVES_MAX {
            let marker = match self.marker.take() {
                Some(marker) => marker,
                None => match read_marker(cluster, &key).await {
                    Ok(marker) => marker,
                    Err(error) if unsettled.sent_on.is_some() => {
                        return Err(unknown(error.to_string()));
                    }
                    Err(error) => return Err(error),
                },
            };
            if marker.token == unsettled.token {
                let revision = marker.revision;
                self.marker = Some(marker);
                return Ok(revision);
            }
            if unsettled.sent_on.is_some_and(|sent_on| sent_on != marker.revision) {
                return Err(unknown(shared_name(cluster)));
            }
            // From here on the future may be dropped at any time with the request on its way.
            let sent_before = unsettled.sent_on.replace(marker.revision).is_some();
            match attempt(cluster, &key, &marker, unsettled).await {
                Ok(Outcome::Applied(revision)) => {
                    self.marker = Some(Marker { revision, token: unsettled.token.to_vec() });
                    return Ok(revision);
                }
                Ok(Outcome::MarkerMoved { now, repeated }) => {
                    if !repeated && !sent_before {
                        unsettled.sent_on = None;
                    }
                    self.marker = Some(now);
                }
                Err(Refusal { error, maybe_sent })
                    if matches!(error, Error::CompareFailed { .. }) =>
                {
                    if !maybe_sent && !sent_before {
                        self.marker = Some(marker);
                        return Err(error);
                    }
                    // An earlier attempt may still be on its way to a time when its compares hold.
                    // Moving the marker makes sure that it comes too late; if that fails it was
                    // there, and the next round sees it.
                    match move_marker(cluster, &key, &marker).await {
                        Ok(moved) => {
                            self.marker = Some(moved);
                            return Err(error);
                        }
                        Err(Error::CompareFailed { .. }) => {}
                        Err(lost) => return Err(unknown(lost.to_string())),
                    }
                }
                Err(Refusal { error, maybe_sent }) => {
                    return Err(if maybe_sent || sent_before {
                        unknown(error.to_string())
                    } else {
                        error
                    });
                }
            }
        }
        Err(Error::Unavailable {
            store: cluster.location().to_owned(),
            cause: shared_name(cluster),
        })
    }
}

/// An attempt that did not succeed, as an error for the caller.
struct Refusal {
    error: Error,
    maybe_sent: bool,
}

async fn attempt(
    cluster: &Cluster,
    key: &str,
    marker: &Marker,
    unsettled: &Unsettled,
) -> std::result::Result<Outcome, Refusal> {
    let transaction = &unsettled.transaction;
    let mut request = request(transaction);
    request.compare.push(wire::compare(key, marker.revision));
    request.success.extend(transaction.operations.iter().map(wire::op));
    request.success.push(wire::put_op(key, &unsettled.token, None));
    request.failure.push(wire::read_op(key));
    let Answer { message, repeated } = match cluster.call(request, send).await {
        Ok(answer) => answer,
        Err(Failure::Lost { error, maybe_sent }) => return Err(Refusal { error, maybe_sent }),
        Err(Failure::Refused { status, maybe_sent }) => {
            return Err(Refusal { error: refused(cluster, transaction, &status), maybe_sent });
        }
    };
    if message.succeeded {
        return Ok(Outcome::Applied(revision_of(&message)));
    }
    let mut found = message.responses;
    let now = found.pop().and_then(first_of).map_or_else(Marker::absent, Marker::from_wire);
    if now.token == unsettled.token {
        return Ok(Outcome::Applied(now.revision));
    }
    if now.revision != marker.revision {
        return Ok(Outcome::MarkerMoved { now, repeated });
    }
    Err(Refusal { error: compare_failed(cluster, transaction, found), maybe_sent: repeated })
}

/// A transaction that writes nothing needs no marker.
async fn check_only(cluster: &Cluster, transaction: &Transaction) -> Result<Revision> {
    match cluster.call(request(transaction), send).await {
        Ok(Answer { message, .. }) if message.succeeded => Ok(revision_of(&message)),
        Ok(Answer { message, .. }) => Err(compare_failed(cluster, transaction, message.responses)),
        Err(Failure::Lost { error, .. }) => Err(error),
        Err(Failure::Refused { status, .. }) => Err(refused(cluster, transaction, &status)),
    }
}

/// Writes the marker, so that nothing sent before can find it as it was.
async fn move_marker(cluster: &Cluster, key: &str, marker: &Marker) -> Result<Marker> {
    let token = new_token()?;
    let move_it = Transaction::new().when(key, marker.revision).put(key, token);
    let mut message = request(&move_it);
    message.success.extend(move_it.operations.iter().map(wire::op));
    match cluster.call(message, send).await {
        Ok(Answer { message, .. }) if message.succeeded => {
            Ok(Marker { revision: revision_of(&message), token: token.to_vec() })
        }
        Ok(Answer { message, .. }) => Err(compare_failed(cluster, &move_it, message.responses)),
        Err(failure) => Err(failure.into_error(cluster)),
    }
}

async fn read_marker(cluster: &Cluster, key: &str) -> Result<Marker> {
    let range = wire::range_of_one(key);
    let send = async |channel, request| KvClient::new(channel).range(request).await;
    let answer = cluster.call(range, send).await.map_err(|failure| failure.into_error(cluster))?;
    let found = answer.message.kvs.into_iter().next();
    Ok(found.map_or_else(Marker::absent, Marker::from_wire))
}

impl Marker {
    fn absent() -> Self {
        Self { revision: 0, token: Vec::new() }
    }

    fn from_wire(found: WireKeyValue) -> Self {
        Self { revision: wire::revision(found.mod_revision), token: found.value }
    }
}

async fn send(
    channel: Channel,
    request: Request<TxnRequest>,
) -> std::result::Result<tonic::Response<TxnResponse>, Status> {
    KvClient::new(channel).txn(request).await
}

/// The caller's compares, and reads of the same keys that tell which did not hold.
fn request(transaction: &Transaction) -> TxnRequest {
    let compares = &transaction.compares;
    TxnRequest {
        compare: compares.iter().map(|c| wire::compare(&c.key, c.mod_revision)).collect(),
        success: Vec::new(),
        failure: compares.iter().map(|c| wire::read_op(&c.key)).collect::<Vec<RequestOp>>(),
    }
}

fn compare_failed(cluster: &Cluster, transaction: &Transaction, found: Vec<ResponseOp>) -> Error {
    for (compare, found) in transaction.compares.iter().zip(found) {
        let found = first_of(found).map_or(0, |item| wire::revision(item.mod_revision));
        if found != compare.mod_revision {
            let (key, expected) = (compare.key.clone(), compare.mod_revision);
            return Error::CompareFailed { key, expected, found };
        }
    }
    Error::Invalid {
        problem: format!("{}: refused a transaction whose compares hold", cluster.location()),
    }
}

fn refused(cluster: &Cluster, transaction: &Transaction, status: &Status) -> Error {
    if status.message().contains("requested lease not found") {
        let lease = transaction.operations.iter().find_map(|operation| match operation {
            Operation::Put { lease, .. } => *lease,
            Operation::Delete { .. } => None,
        });
        return Error::LeaseNotFound { lease: lease.unwrap_or(LeaseId(0)) };
    }
    refusal(cluster.location(), status)
}

fn first_of(response: ResponseOp) -> Option<WireKeyValue> {
    match response.response? {
        response_op::Response::ResponseRange(range) => range.kvs.into_iter().next(),
        response_op::Response::ResponsePut(_) | response_op::Response::ResponseDeleteRange(_) => {
            None
        }
    }
}

fn revision_of(message: &TxnResponse) -> Revision {
    message.header.as_ref().map_or(0, |header| wire::revision(header.revision))
}

fn marker_key(cluster: &Cluster) -> String {
    format!("{PREFIX_INTERNAL}txn/{}", cluster.options().client)
}

fn shared_name(cluster: &Cluster) -> String {
    format!("another process uses the client name {:?} at the same time", cluster.options().client)
}

fn new_token() -> Result<Token> {
    let mut token = Token::default();
    getrandom::fill(&mut token).map_err(|e| Error::invalid(format!("no random numbers: {e}")))?;
    Ok(token)
}
