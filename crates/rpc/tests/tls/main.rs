//! Trust on a real loopback (HLD §9): both ends of every connection here are the shipped code, and
//! the certificates are made by a small authority of the tests' own, which also signs what the real
//! one never would.

#[cfg(test)]
mod files;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod joining;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod mutual;
#[cfg(test)]
mod support;
#[cfg(test)]
mod swap;
#[cfg(test)]
mod versions;
