//! The committed Rust of `proto/log.proto` is what the code generator makes of it today.
//!
//! `ROOST_REGENERATE=1 cargo test -p roost-router --test generated` writes it anew.

use std::{fs, path::Path};

#[test]
fn generated_code_is_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a temporary directory");
    let contract = dir.join("../proto/contract");
    let descriptors = protox::compile([dir.join("proto/log.proto")], [dir.join("proto"), contract])
        .expect("log.proto compiles");
    let set = out.path().join("log.bin");
    fs::write(&set, prost::Message::encode_to_vec(&descriptors)).expect("descriptor set is written");
    buffa_build::Config::new()
        .descriptor_set(&set)
        .files(&["log.proto"])
        .extern_path(".roost.v1", "::roost_proto::v1")
        .out_dir(out.path())
        .generate_json(false)
        .generate_views(false)
        .preserve_unknown_fields(false)
        .use_bytes_type()
        .file_per_package(true)
        .compile()
        .expect("buffa generates");
    let fresh = fs::read_to_string(out.path().join("roost.log.v1.rs")).expect("generated file");
    let committed = dir.join("src/generated/roost.log.v1.rs");
    if std::env::var_os("ROOST_REGENERATE").is_some() {
        fs::write(&committed, &fresh).expect("generated file is written");
    }
    assert!(
        fs::read_to_string(&committed).is_ok_and(|text| text == fresh),
        "{} is not what proto/log.proto generates: run ROOST_REGENERATE=1 cargo test -p roost-router --test generated",
        committed.display()
    );
}
