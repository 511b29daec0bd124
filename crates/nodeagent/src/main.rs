//! The NodeAgent's executable.

fn main() {}
