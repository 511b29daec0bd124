//! How the server's side reads a request: as prost does, but what cannot be read is an InvalidArgument that
//! names the field, as for a field that can be read and is wrong. (tonic says Internal, which sounds like
//! the server's own fault.) The client's side keeps tonic's codec: there it is the server's fault.

use std::marker::PhantomData;

use piccolo_core::model::FieldError;
use prost::{DecodeError, Message};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use crate::status::field_status;

/// Where prost cannot say in which field it was lost.
const NO_FIELD: &str = "request";

/// Named in `build.rs` for the generated servers.
#[derive(Debug)]
pub struct RequestCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for RequestCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for RequestCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = RequestDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

#[derive(Debug)]
pub struct RequestDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for RequestDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buf).map(Some).map_err(|error| field_status(unreadable(&error)))
    }
}

/// prost tells only in its text where it was: `Inner.field: Outer.field: what is wrong`.
fn unreadable(error: &DecodeError) -> FieldError {
    let text = error.to_string();
    let (_, mut rest) = text.split_once(": ").unwrap_or(("", &text));
    let mut path = Vec::new();
    while let Some((place, after)) = rest.split_once(": ") {
        let Some((_, field)) = place.split_once('.').filter(|_| !place.contains(' ')) else {
            break;
        };
        path.insert(0, field.trim_start_matches("r#"));
        rest = after;
    }
    let field = if path.is_empty() { NO_FIELD.to_owned() } else { path.join(".") };
    FieldError::new(field, format!("cannot be read: {rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[track_caller]
    fn check<M: Message + Default>(bytes: &[u8], field: &str, problem: &str) {
        let error = unreadable(&M::decode(bytes).map(|_| ()).unwrap_err());
        assert_eq!((error.field.as_str(), error.problem.as_str()), (field, problem));
    }

    #[test]
    fn what_cannot_be_read_names_its_field() {
        type Registration = v1::NodeRegistrationRequest;
        let not_utf8 = "cannot be read: invalid string value: data is not UTF-8 encoded";
        check::<Registration>(b"\x0a\x02\xc3\x28", "node_id", not_utf8);
        let cut = "cannot be read: buffer underflow";
        check::<Registration>(b"\x0a\x05ab", "node_id", cut);
        // a map's key, and a message in a message
        check::<v1::StatusReport>(b"\x1a\x03\x0a\x01\xff", "metrics", not_utf8);
        let topology = b"\x0a\x04\x12\x02\xff\xff";
        check::<v1::UpdateTopologyRequest>(topology, "topology.name", not_utf8);
        check::<Registration>(b"\x00", NO_FIELD, "cannot be read: invalid tag value: 0");
    }
}
