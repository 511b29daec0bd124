//! Bytes of the NodeAgent as it is shipped.

use anyhow::Result;

use crate::{figure::Figure, ground::Ground};

const ARCHITECTURES: [&str; 3] = ["x86_64", "aarch64", "armv7"];
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for architecture in ARCHITECTURES {
        let name = format!("NodeAgent executable, static, {architecture}");
        let path = ground.target.join("dist").join(architecture).join("piccolo-nodeagent");
        let figure = match std::fs::metadata(&path) {
            Ok(file) => Figure::one(name, "MiB", file.len() as f64 / MIB),
            Err(_) => Figure::missing(name, "MiB", "not built: cargo xtask dist"),
        };
        figures.push(figure.at_most(4.0));
    }
    Ok(figures)
}
