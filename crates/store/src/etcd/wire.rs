//! Generated messages of etcd's API, and the few conversions between them and ours.

/// `package mvccpb`
#[allow(clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub(crate) mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// `package etcdserverpb`
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated"
)]
pub(crate) mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

use self::etcdserverpb::{
    Compare as WireCompare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, compare, request_op,
};
use crate::{Change, Error, KeyValue, LeaseId, Operation, Result, Revision};

/// A revision as etcd counts it: never negative.
pub(crate) fn revision(wire: i64) -> Revision {
    u64::try_from(wire).unwrap_or(0)
}

pub(crate) fn wire_revision(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// The first key after all keys with this prefix. The last byte of UTF-8 is never 0xff.
pub(crate) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

pub(crate) fn range_of_one(key: &str) -> RangeRequest {
    RangeRequest { key: key.as_bytes().to_vec(), ..RangeRequest::default() }
}

/// "Key was changed last at this revision", 0 = does not exist.
pub(crate) fn compare(key: &str, mod_revision: Revision) -> WireCompare {
    WireCompare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.as_bytes().to_vec(),
        target_union: Some(compare::TargetUnion::ModRevision(wire_revision(mod_revision))),
    }
}

pub(crate) fn read_op(key: &str) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestRange(range_of_one(key))) }
}

pub(crate) fn put_op(key: &str, value: &[u8], lease: Option<LeaseId>) -> RequestOp {
    let put = PutRequest {
        key: key.as_bytes().to_vec(),
        value: value.to_vec(),
        lease: lease.map_or(0, |lease| lease.0),
    };
    RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

pub(crate) fn op(operation: &Operation) -> RequestOp {
    match operation {
        Operation::Put { key, value, lease } => put_op(key, value, *lease),
        Operation::Delete { key } => {
            let delete = DeleteRangeRequest {
                key: key.as_bytes().to_vec(),
                ..DeleteRangeRequest::default()
            };
            RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
        }
    }
}

pub(crate) fn item(wire: mvccpb::KeyValue) -> Result<KeyValue> {
    Ok(KeyValue {
        key: text(wire.key)?,
        value: wire.value,
        create_revision: revision(wire.create_revision),
        mod_revision: revision(wire.mod_revision),
        version: revision(wire.version),
        lease: (wire.lease != 0).then_some(LeaseId(wire.lease)),
    })
}

/// What an event says, and at which revision.
pub(crate) fn change(event: mvccpb::Event) -> Result<(Revision, Change)> {
    let kind = event.r#type();
    let kv = event.kv.unwrap_or_default();
    let at = revision(kv.mod_revision);
    let change = match kind {
        mvccpb::event::EventType::Put => Change::Put(item(kv)?),
        mvccpb::event::EventType::Delete => Change::Delete { key: text(kv.key)? },
    };
    Ok((at, change))
}

fn text(key: Vec<u8>) -> Result<String> {
    String::from_utf8(key).map_err(|e| Error::Corrupt {
        what: format!("key {:?} in etcd", String::from_utf8_lossy(e.as_bytes())),
        problem: "it is not UTF-8, PICCOLO never wrote it".to_owned(),
        remedy: "find out who writes under /piccolo/ and delete the key with etcdctl".to_owned(),
    })
}

/// Answers that say which cluster made them, and at which revision.
pub(crate) trait HasHeader {
    fn header(&self) -> Option<&ResponseHeader>;

    /// Whether the revision is at least that of every answer seen before the question.
    fn is_linearizable(&self) -> bool;
}

macro_rules! has_header {
    ($($message:ty: $linearizable:literal),* $(,)?) => {$(
        impl HasHeader for $message {
            fn header(&self) -> Option<&ResponseHeader> {
                self.header.as_ref()
            }

            fn is_linearizable(&self) -> bool {
                $linearizable
            }
        }
    )*};
}

has_header! {
    etcdserverpb::RangeResponse: true,
    etcdserverpb::TxnResponse: true,
    etcdserverpb::CompactionResponse: false,
    etcdserverpb::LeaseGrantResponse: false,
    etcdserverpb::LeaseRevokeResponse: false,
    etcdserverpb::LeaseKeepAliveResponse: false,
    etcdserverpb::StatusResponse: false,
    etcdserverpb::WatchResponse: false,
}
