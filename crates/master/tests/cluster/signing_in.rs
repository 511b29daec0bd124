//! Signing in: API tokens and codes become sessions, and who guesses is locked out (HLD §9).

use piccolo_rpc::v1;
use serde_json::Value;

use super::{
    harness::Cluster,
    rest::{api_token, ask, get, post},
};

#[tokio::test]
async fn a_browser_signs_in_acts_with_its_header_and_signs_out() {
    let cluster = Cluster::start().await;
    let token = api_token(&cluster, "console", "admin").await;
    let shown = format!("{{\"token\":\"{token}\"}}");
    let session = post(&cluster, None, "/api/v1/session", &[], &shown).await;
    assert_eq!(session.status, 201, "{session:?}");
    let cookie = session.headers["set-cookie"].clone();
    for attribute in ["__Host-piccolo=", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"]
    {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    let stale = [("Cookie", "__Host-piccolo=old")];
    let again = post(&cluster, None, "/api/v1/session", &stale, &shown).await;
    assert_eq!(again.status, 201, "an old cookie keeps nobody out");
    let me = ask(&cluster, None, "GET", "/api/v1/session", &[("Cookie", cookie)], "").await;
    assert_eq!((&me.json()["role"], &me.json()["proof"]), (&"admin".into(), &"session".into()));
    assert!(me.json()["expires_at"].is_string(), "{me:?}");
    assert_eq!(me.json()["expires_at"], session.json()["expires_at"]);
    let wish = "{\"role\":\"sub\"}";
    let make = async |headers: &[(&str, &str)]| {
        let answer = post(&cluster, None, "/api/v1/tokens", headers, wish).await;
        (answer.status, if answer.status == 201 { String::new() } else { answer.reason() })
    };
    let csrf = ("X-Piccolo-Csrf", "1");
    assert_eq!(make(&[("Cookie", cookie)]).await, (403, "CsrfHeaderMissing".to_owned()));
    let foreign = [("Cookie", cookie), csrf, ("Origin", "https://evil.example")];
    assert_eq!(make(&foreign).await, (403, "ForeignOrigin".to_owned()));
    assert_eq!(make(&[("Cookie", cookie), csrf, ("Origin", "https://x")]).await.0, 201);
    let admin = cluster.admin_identity();
    let ambient = post(&cluster, Some(&admin), "/api/v1/tokens", &[("Origin", "https://e")], wish);
    assert_eq!(ambient.await.status, 403, "a browser's certificate is no better");

    let out =
        ask(&cluster, None, "DELETE", "/api/v1/session", &[("Cookie", cookie), csrf], "").await;
    assert_eq!(out.status, 200, "{out:?}");
    assert!(out.headers["set-cookie"].contains("Max-Age=0"));
    let after = ask(&cluster, None, "GET", "/api/v1/session", &[("Cookie", cookie)], "").await;
    assert_eq!((after.status, after.reason().as_str()), (401, "SessionOver"));
}

#[tokio::test]
async fn a_code_of_the_command_line_opens_one_session() {
    let cluster = Cluster::start().await;
    let request = v1::OpenConsoleRequest {};
    let opened = cluster.admin().await.open_console(request).await.unwrap().into_inner();
    assert_eq!(u32::from(cluster.master.https_address().unwrap().port()), opened.https_port);
    let shown = format!("{{\"code\":\"{}\"}}", opened.code);
    let first = post(&cluster, None, "/api/v1/session", &[], &shown).await;
    assert_eq!(
        (first.status, &first.json()["who"]),
        (201, &Value::from("admin:first")),
        "{first:?}"
    );
    let me = get(&cluster, Some(&cluster.admin_identity()), "/api/v1/session").await.json();
    assert!(me["proof"] == "certificate" && me["expires_at"].is_string(), "{me}");
    let second = post(&cluster, None, "/api/v1/session", &[], &shown).await;
    assert_eq!((second.status, second.reason().as_str()), (401, "CodeNotGood"));
}

#[tokio::test]
async fn a_code_of_the_rest_api_opens_one_session_of_who_asked_and_no_session_makes_one() {
    let cluster = Cluster::start().await;
    let token = api_token(&cluster, "kiosk", "viewer").await;
    let bearer = format!("Bearer {token}");
    let with = [("Authorization", bearer.as_str())];
    let made = ask(&cluster, None, "POST", "/api/v1/session/code", &with, "").await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let code = made["code"].as_str().unwrap();
    assert_eq!(made["path"], format!("/#code={code}"));
    assert!(made["expires_at"].is_string(), "{made}");
    let shown = format!("{{\"code\":\"{code}\"}}");
    let session = post(&cluster, None, "/api/v1/session", &[], &shown).await;
    assert_eq!((session.status, &session.json()["role"]), (201, &Value::from("viewer")));
    let second = post(&cluster, None, "/api/v1/session", &[], &shown).await;
    assert_eq!((second.status, second.reason().as_str()), (401, "CodeNotGood"));
    let cookie = session.headers["set-cookie"].split(';').next().unwrap();
    let with = [("Cookie", cookie), ("X-Piccolo-Csrf", "1")];
    let another = ask(&cluster, None, "POST", "/api/v1/session/code", &with, "").await;
    assert_eq!((another.status, another.reason().as_str()), (409, "InSession"), "{another:?}");
}

#[tokio::test]
async fn who_guesses_tokens_is_locked_out_and_who_has_a_good_one_beside_them_is_not() {
    let cluster = Cluster::start().await;
    let token = api_token(&cluster, "console", "viewer").await;
    let shown = format!("{{\"token\":\"{token}\"}}");
    let session = post(&cluster, None, "/api/v1/session", &[], &shown).await;
    let cookie = session.headers["set-cookie"].split(';').next().unwrap().to_owned();
    let mut statuses = Vec::new();
    for n in 0..12 {
        let guess = format!("Bearer piccolo_api_{n:064}");
        let with = [("Authorization", guess.as_str())];
        statuses.push(ask(&cluster, None, "GET", "/api/v1/nodes", &with, "").await.status);
    }
    assert_eq!(statuses, [[401; 10].as_slice(), &[429; 2]].concat());
    let wrong = format!("Bearer piccolo_api_{:064}", 0);
    let with = [("Authorization", wrong.as_str())];
    let locked = ask(&cluster, None, "GET", "/api/v1/nodes", &with, "").await;
    assert_eq!((locked.status, locked.reason().as_str()), (429, "LockedOut"));
    let wait = locked.headers["retry-after"].clone();
    let detail = locked.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.ends_with(&format!("locked out for {wait} s")), "{wait}: {detail}");
    let right = format!("Bearer {token}");
    let with = [("Authorization", right.as_str())];
    for path in ["/api/v1/nodes", "/metrics"] {
        let beside = ask(&cluster, None, "GET", path, &with, "").await;
        assert_eq!(beside.status, 200, "{path}: {beside:?}");
    }
    let signed_in = post(&cluster, None, "/api/v1/session", &[], &shown).await;
    assert_eq!(signed_in.status, 201, "{signed_in:?}");
    let beside = ask(&cluster, None, "GET", "/api/v1/nodes", &[("Cookie", &cookie)], "").await;
    assert_eq!(beside.status, 200, "{beside:?}");
    cluster.audited(|e| e.call == "OpenSession" && e.outcome.contains("ApiTokenNotGood")).await;
}
