//! Ids, host names, labels and addresses: what is accepted is printable and within its length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_core::model::{NodeId, NodeName, UserName, check_address, check_labels};

fuzz_target!(|text: &str| {
    if let Ok(id) = NodeId::parse("node_id", text) {
        assert!(id.as_str() == text && (1..=64).contains(&text.len()));
    }
    if let Ok(name) = NodeName::parse("hostname", text) {
        assert!((1..=253).contains(&text.len()) && text.is_ascii());
        assert_eq!(NodeName::parse("hostname", &name.key()).map(|n| n.key()), Ok(name.key()));
    }
    if let Ok(name) = UserName::parse("name", text) {
        assert!(name.as_str().is_ascii());
    }
    if check_address("ip_address", text).is_ok() {
        assert!(text.parse::<std::net::IpAddr>().is_ok());
    }
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if check_labels("labels", &[(key.to_owned(), value.to_owned())].into()).is_ok() {
        assert!(!value.chars().any(char::is_control) && key.len() <= 63 && value.len() <= 255);
    }
});
