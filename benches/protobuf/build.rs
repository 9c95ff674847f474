//! Both crates' types of `roost.proto`, with the options the gateway would use.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let contract = "../../proto/contract";
    println!("cargo::rerun-if-changed={contract}/roost.proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let set = protox::compile(["roost.proto"], [contract])?;
    let bytes = set.encode_to_vec();
    let descriptors = out.join("descriptors");
    fs::write(&descriptors, &bytes)?;

    let prost_dir = out.join("prost");
    fs::create_dir_all(&prost_dir)?;
    prost_build::Config::new().out_dir(&prost_dir).bytes(["."]).compile_fds(set)?;
    pbjson_build::Builder::new().register_descriptors(&bytes)?.out_dir(&prost_dir).build(&[".roost.v1"])?;

    let buffa_dir = out.join("buffa");
    fs::create_dir_all(&buffa_dir)?;
    buffa_build::Config::new()
        .descriptor_set(&descriptors)
        .files(&["roost.proto"])
        .out_dir(&buffa_dir)
        .generate_json(true)
        .generate_views(false)
        .preserve_unknown_fields(false)
        .use_bytes_type()
        .file_per_package(true)
        .compile()?;
    Ok(())
}
