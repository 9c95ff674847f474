//! The committed Rust of `contract/roost.proto` is what the code generator makes of it today.
//!
//! `ROOST_REGENERATE=1 cargo test -p roost-proto --test generated` writes it anew.

use std::{fs, path::Path};

#[test]
fn generated_code_is_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a temporary directory");
    let descriptors = protox::compile([dir.join("contract/roost.proto")], [dir.join("contract")])
        .expect("roost.proto compiles");
    let set = out.path().join("roost.bin");
    fs::write(&set, prost_encode(&descriptors)).expect("descriptor set is written");
    buffa_build::Config::new()
        .descriptor_set(&set)
        .files(&["roost.proto"])
        .out_dir(out.path())
        .generate_json(true)
        .generate_views(false)
        .preserve_unknown_fields(false)
        .use_bytes_type()
        .file_per_package(true)
        .compile()
        .expect("buffa generates");
    let fresh = fs::read_to_string(out.path().join("roost.v1.rs")).expect("generated file");
    let committed = dir.join("src/generated/roost.v1.rs");
    if std::env::var_os("ROOST_REGENERATE").is_some() {
        fs::write(&committed, &fresh).expect("generated file is written");
    }
    assert!(
        fs::read_to_string(&committed).is_ok_and(|text| text == fresh),
        "{} is not what contract/roost.proto generates: run ROOST_REGENERATE=1 cargo test -p roost-proto --test generated",
        committed.display()
    );
}

fn prost_encode(set: &impl prost::Message) -> Vec<u8> {
    set.encode_to_vec()
}
