//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::error::Error;
use std::path::Path;

const ROOT: &str = "proto";
const FILES: [&str; 3] = [
    "trainyard/v1/types.proto",
    "trainyard/v1/jobs.proto",
    "trainyard/v1/workers.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES.map(|file| Path::new(ROOT).join(file)), [ROOT])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
