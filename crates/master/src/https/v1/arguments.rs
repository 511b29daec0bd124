//! What a handler takes, found in its own arguments, so that nobody has to say it a second time.
//!
//! A handler without [`Params`] takes nothing behind `?`, and is never asked with something there: what is misspelt, or
//! meant for another route, would otherwise be carried out as if it had not been said.

use axum::{
    Extension,
    extract::{Query, RawQuery, Request},
    http::HeaderMap,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{
    asker::{Asker, AtTheDoor, Named, Params, bad_parameters},
    body::{Digested, Given, Optional, Small},
    once::Once,
};

/// All arguments of a handler, as axum has them, or one of them.
pub(super) trait Arguments {
    /// Behind `?`.
    const TAKE_PARAMS: bool;
}

impl<T> Arguments for Params<T> {
    const TAKE_PARAMS: bool = true;
}

macro_rules! takes_none {
    ($($argument:ty $(, $given:ident)?);+ $(;)?) => {
        $(impl$(<$given>)? Arguments for $argument {
            const TAKE_PARAMS: bool = false;
        })+
    };
}

takes_none! {
    Asker;
    AtTheDoor;
    HeaderMap;
    Once;
    RawQuery;
    Named<T>, T;
    Extension<T>, T;
    Given<T>, T;
    Digested<T>, T;
    Optional<T>, T;
    Small<T>, T;
}

/// The first is how axum gets at the last argument.
macro_rules! all_of {
    ($($argument:ident),+) => {
        impl<Via, $($argument: Arguments),+> Arguments for (Via, $($argument,)+) {
            const TAKE_PARAMS: bool = $($argument::TAKE_PARAMS)||+;
        }
    };
}

all_of!(A);
all_of!(A, B);
all_of!(A, B, C);
all_of!(A, B, C, D);
all_of!(A, B, C, D, E);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Goes on only where nothing is behind `?`.
pub(super) async fn no_params(request: Request, next: Next) -> Response {
    match Query::<Nothing>::try_from_uri(request.uri()) {
        Ok(_) => next.run(request).await,
        Err(error) => bad_parameters(&error).into_response(),
    }
}
