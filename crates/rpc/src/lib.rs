//! The wire of PICCOLO: generated gRPC code, its conversions from and to the model of `piccolo_core`,
//! and the mTLS channel and acceptor. No decision is taken here (design: house, `rpc -> core`).

/// The messages and services of `proto/piccolo/v1` (HLD §7.1).
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    rustdoc::invalid_html_tags,
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("piccolo.v1");
    include!(concat!(env!("OUT_DIR"), "/clients/piccolo.v1.rs"));
}

pub mod codec;
pub mod convert;
pub mod status;
pub mod tls;
#[cfg(feature = "view")]
pub mod view;

/// Every file of `proto/`, encoded: what gRPC reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/piccolo_descriptor.bin"));
