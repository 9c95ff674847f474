//! The committed JSON Schema of `contract/roost.proto` is what its descriptor says today.
//!
//! `ROOST_REGENERATE=1 cargo test -p roost-proto --test json_schema` writes it anew.

use std::{collections::HashMap, fs, path::Path};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value, json};

/// Field numbers of `descriptor.proto`, of which the path of a comment is made.
const FILE_MESSAGE: i32 = 4;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED: i32 = 3;

#[test]
fn the_json_schema_is_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = format!("{:#}\n", schemas(&descriptor(dir)));
    let committed = dir.join("src/generated/roost.v1.schema.json");
    if std::env::var_os("ROOST_REGENERATE").is_some() {
        fs::write(&committed, &fresh).expect("the schema is written");
    }
    assert!(
        fs::read_to_string(&committed).is_ok_and(|text| text == fresh),
        "{} is not what contract/roost.proto says: run ROOST_REGENERATE=1 cargo test -p roost-proto --test json_schema",
        committed.display()
    );
}

#[test]
fn each_kind_of_field_has_its_json_type() {
    let schemas: Value = serde_json::from_str(roost_proto::JSON_SCHEMAS).expect("JSON");
    let send = &schemas["Send"]["properties"];
    assert_eq!(send["to"]["$ref"], "#/components/schemas/Address");
    assert_eq!(send["clientId"]["contentEncoding"], "base64");
    assert_eq!(send["sealed"]["items"]["$ref"], "#/components/schemas/Sealed");
    assert_eq!(schemas["Kind"]["enum"][0], "TEXT");
    assert_eq!(schemas["Ack"]["properties"]["upTo"]["type"], "string");
    assert_eq!(schemas["GroupInfo.Member"]["properties"]["admin"]["type"], "boolean");
    let one_of_two = &schemas["Address"]["not"]["required"];
    assert_eq!(*one_of_two, json!(["user", "group"]));
    let said = send["client_id"].is_null() && send["clientId"]["description"].as_str().is_some();
    assert!(said, "comments of the contract are descriptions: {send}");
}

fn descriptor(dir: &Path) -> FileDescriptorProto {
    let mut compiler = protox::Compiler::new([dir.join("contract")]).expect("a compiler");
    compiler.include_source_info(true).open_file("roost.proto").expect("roost.proto compiles");
    let mut files = compiler.file_descriptor_set().file;
    files.pop().expect("one file")
}

/// Schemas of all messages and enums by their names within the package, `Outer.Inner` where nested
/// (<https://protobuf.dev/programming-guides/json/>).
fn schemas(file: &FileDescriptorProto) -> Value {
    let mut all = Map::new();
    let comments = comments(file);
    for item in &file.enum_type {
        all.insert(item.name().to_owned(), enumeration(item));
    }
    for (index, item) in (0..).zip(&file.message_type) {
        message(item, item.name(), &[FILE_MESSAGE, index], &comments, &mut all);
    }
    Value::Object(all)
}

fn enumeration(item: &EnumDescriptorProto) -> Value {
    let names: Vec<_> = item.value.iter().map(prost_types::EnumValueDescriptorProto::name).collect();
    json!({ "type": "string", "enum": names })
}

fn message(
    item: &DescriptorProto,
    name: &str,
    path: &[i32],
    comments: &HashMap<Vec<i32>, String>,
    all: &mut Map<String, Value>,
) {
    let mut properties = Map::new();
    for (index, field) in (0..).zip(&item.field) {
        let mut schema = type_of(field);
        if let Some(comment) = comments.get(&[path, &[MESSAGE_FIELD, index]].concat()) {
            schema["description"] = comment.as_str().into();
        }
        properties.insert(field.json_name().to_owned(), schema);
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if let Some(comment) = comments.get(path) {
        schema["description"] = comment.as_str().into();
    }
    // Where a oneof has two members, that they exclude each other is short enough to be said.
    for (index, _) in (0..).zip(&item.oneof_decl) {
        let members = item.field.iter().filter(|field| field.oneof_index == Some(index));
        let members: Vec<_> = members.map(FieldDescriptorProto::json_name).collect();
        if members.len() == 2 {
            schema["not"] = json!({ "required": members });
        }
    }
    all.insert(name.to_owned(), schema);
    for (index, nested) in (0..).zip(&item.nested_type) {
        let path = [path, &[MESSAGE_NESTED, index]].concat();
        message(nested, &format!("{name}.{}", nested.name()), &path, comments, all);
    }
}

fn type_of(field: &FieldDescriptorProto) -> Value {
    let one = match field.r#type() {
        Type::Uint64 => json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]+$" }),
        Type::Uint32 => json!({ "type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::String => json!({ "type": "string" }),
        Type::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Type::Message | Type::Enum => {
            let name = field.type_name().trim_start_matches(".roost.v1.");
            json!({ "$ref": format!("#/components/schemas/{name}") })
        }
        other => panic!("{}: the JSON type of {other:?} is to be written here", field.name()),
    };
    match field.label() {
        Label::Repeated => json!({ "type": "array", "items": one }),
        _ => one,
    }
}

/// What the contract says before an item, or behind it, by the item's path.
fn comments(file: &FileDescriptorProto) -> HashMap<Vec<i32>, String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let said = locations.filter_map(|location| {
        let text = [location.leading_comments(), location.trailing_comments()].join(" ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then(|| (location.path.clone(), text))
    });
    said.collect()
}
