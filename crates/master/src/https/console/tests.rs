//! What is served is small, loads nothing from elsewhere, and is fetched once.

use super::*;

/// Compressed, all of it: issue and `docs/operations/console.md` promise it.
const BYTES_MAX: usize = 300 * 1024;

fn headers(given: &[(HeaderName, &str)]) -> HeaderMap {
    let pairs = given.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
    pairs.collect()
}

fn get(path: &str, given: &[(HeaderName, &str)]) -> Response {
    FILES.iter().find(|file| file.path == path).unwrap().answer(&headers(given))
}

fn header_of<'a>(answer: &'a Response, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn all_of_it_is_small() {
    let sizes = FILES.iter().map(|file| Served::new(file.content).compressed.len());
    let all: usize = sizes.sum();
    assert!(all > 1024, "{all} bytes are no console");
    assert!(all <= BYTES_MAX, "{all} bytes");
}

#[test]
fn what_is_compressed_is_the_file() {
    for file in &FILES {
        let served = Served::new(file.content);
        let mut decoder = flate2::write::GzDecoder::new(Vec::new());
        decoder.write_all(&served.compressed).unwrap();
        assert!(decoder.finish().unwrap() == file.content, "{}", file.path);
    }
}

#[test]
fn the_page_holds_no_script_and_no_style_and_loads_what_is_here() {
    let page = std::str::from_utf8(FILES[0].content).unwrap();
    assert!(!page.contains("<style") && !page.contains(" style="), "{page}");
    for script in page.split("<script").skip(1) {
        let (tag, content) = script.split_once('>').unwrap();
        assert!(tag.contains("src=") && content.starts_with("</script>"), "{page}");
    }
    let attributes = ["src=\"", "href=\""].into_iter().flat_map(|name| page.split(name).skip(1));
    let mut loaded = 0;
    for attribute in attributes {
        let (address, _) = attribute.split_once('"').unwrap();
        let path = address.strip_prefix('.').unwrap();
        assert!(FILES.iter().any(|file| file.path == path), "{address}");
        loaded += 1;
    }
    assert_eq!(loaded, FILES.len() - 1, "{page}");
}

#[test]
fn a_file_that_has_not_changed_is_not_sent_again() {
    let first = get("/console.js", &[]);
    assert_eq!(first.status(), StatusCode::OK);
    let tag = header_of(&first, &header::ETAG).unwrap();
    let again = get("/console.js", &[(header::IF_NONE_MATCH, &format!("\"other\", {tag}"))]);
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(header_of(&again, &header::ETAG), Some(tag));
    let other = get("/console.js", &[(header::IF_NONE_MATCH, "\"other\"")]);
    assert_eq!(other.status(), StatusCode::OK);
}

#[track_caller]
fn check_encoding(accepted: &str, expect: Option<&str>) {
    let answer = get("/", &[(header::ACCEPT_ENCODING, accepted)]);
    assert_eq!(header_of(&answer, &header::CONTENT_ENCODING), expect, "{accepted}");
    assert_eq!(header_of(&answer, &header::VARY), Some("accept-encoding"));
}

#[test]
fn it_is_compressed_for_those_who_can_read_that() {
    check_encoding("gzip", Some("gzip"));
    check_encoding("br, GZIP;q=0.8", Some("gzip"));
    check_encoding("br", None);
    check_encoding("gzip;q=0, br", None);
    check_encoding("", None);
}

#[test]
fn every_file_goes_with_the_policy() {
    for file in &FILES {
        let answer = get(file.path, &[]);
        for (name, value) in &HEADERS {
            assert_eq!(header_of(&answer, name), Some(*value), "{}", file.path);
        }
    }
    let policy = HEADERS[0].1;
    for needed in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(needed), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}
