//! How the document is made of the code.

use std::{collections::BTreeMap, fs, path::Path};

use utoipa::{
    IntoResponses as _, Modify, OpenApi,
    openapi::{
        OpenApi as Described, Ref, RefOr,
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};

use super::{
    super::{
        asker::COOKIE,
        described,
        problem::{Problems, Refusals},
        tags::Unchanged,
    },
    DOCUMENT,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "PICCOLO",
        description = "Clusters of embedded boards: nodes, containers, events and recovery. Whoever asks shows an API \
                       token, the cookie of a session, or a client certificate."
    ),
    modifiers(&Security)
)]
pub(in super::super) struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Described) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let cookie = ApiKey::Cookie(ApiKeyValue::new(COOKIE));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_token", SecurityScheme::Http(bearer));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
        let any = ["api_token", "session"];
        let any = any.map(|scheme| SecurityRequirement::new(scheme, Vec::<String>::new()));
        document.security = Some(any.to_vec());
    }
}

/// What many routes answer alike stands in one place, named after its status, and the routes refer to it.
pub(in super::super) fn said_once(mut document: Described) -> Described {
    let alike = [Problems::responses(), Refusals::responses(), Unchanged::responses()];
    let alike: BTreeMap<_, _> = alike.into_iter().flatten().collect();
    let name = |status: &str| format!("Status{status}");
    for path in document.paths.paths.values_mut() {
        let methods =
            [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
        for operation in methods.into_iter().flatten() {
            for (status, answer) in &mut operation.responses.responses {
                if alike.get(status) == Some(&*answer) {
                    *answer = RefOr::Ref(Ref::from_response_name(name(status)));
                }
            }
        }
    }
    let named = alike.into_iter().map(|(status, answer)| (name(&status), answer));
    document.components.get_or_insert_default().responses.extend(named);
    document
}

#[test]
fn the_document_is_what_the_code_says() {
    let made = described().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/https/v1/openapi.json");
        fs::write(path, made).unwrap();
        return;
    }
    let first = DOCUMENT.lines().zip(made.lines()).find(|(is, should)| is != should);
    assert!(
        DOCUMENT == made,
        "not up to date: UPDATE=1 cargo test -p piccolo-master the_document; first {first:?}"
    );
}
