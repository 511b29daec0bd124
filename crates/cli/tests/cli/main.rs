//! The command line as its users meet it: the executable for arguments, exit codes and watches, and
//! the rendering functions for whole tables over fixed data.

#![allow(clippy::unwrap_used, reason = "what fails here fails its test, which is the point")]

mod alerts;
mod bundles;
mod calls;
mod deploys;
mod doctor;
mod faults;
mod fixtures;
mod reference;
mod support;
mod tables;
mod usage;
mod watches;
