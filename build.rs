//! Compiles the protocol definitions; `protox` is pure Rust, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/optipod/v1alpha1/usage.proto", "proto/optipod/v1alpha1/recommender.proto"];
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("optipod_descriptor.bin");
    std::fs::write(out, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    // Apart, so that reflection does not tell of a service that is served on a socket only.
    let admin = protox::compile(["proto/optipod/admin/v1alpha1/admin.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(admin)?;
    Ok(())
}
