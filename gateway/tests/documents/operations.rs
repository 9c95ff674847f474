//! docs/OPERATIONS.md has every line that the gateway and the router write to the log at warn or error.

use std::{fs, path::PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use roost_gateway::families::{ALL, Family};

use super::{path, read};

/// Crates whose code runs in the gateway's process.
const CRATES: [&str; 3] = ["gateway/src", "router/src", "proto/src"];

fn rust_files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let all = entries.flat_map(|path| if path.is_dir() { rust_files(path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

/// The texts of `warn!` and `error!` in a stream of tokens.
fn lines(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let is_macro = at >= 2
            && matches!(&tokens[at - 1], TokenTree::Punct(mark) if mark.as_char() == '!')
            && matches!(&tokens[at - 2], TokenTree::Ident(name) if name == "warn" || name == "error");
        if is_macro && group.delimiter() == Delimiter::Parenthesis {
            found.extend(text(group.stream()));
        } else {
            lines(group.stream(), found);
        }
    }
}

/// The last literal text among the macro's own arguments before those of its format.
fn text(arguments: TokenStream) -> Option<String> {
    let texts = arguments.into_iter().filter_map(|token| match token {
        TokenTree::Literal(literal) => match syn::parse_str::<syn::Lit>(&literal.to_string()) {
            Ok(syn::Lit::Str(text)) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    texts.last()
}

fn all_lines() -> Vec<String> {
    let mut found = Vec::new();
    for file in CRATES.into_iter().flat_map(|folder| rust_files(path(folder))) {
        let source = fs::read_to_string(&file).expect("a source file");
        let tokens = source.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        lines(tokens, &mut found);
    }
    found
}

/// As the page writes it: `...` for what differs, one space between words.
fn shown(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        shown += before;
        shown += "...";
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    (shown + rest).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_line_at_warn_or_error_is_explained() {
    let page = read("docs/OPERATIONS.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = all_lines();
    assert!(lines.len() > 12, "only {lines:?} were found");
    let missing: Vec<String> =
        lines.iter().map(|line| shown(line)).filter(|line| !page.contains(&format!("`{line}`"))).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md does not explain {missing:#?}");
}

#[test]
fn metrics_and_files_that_the_page_names_are_there() {
    for name in ["docs/OPERATIONS.md", "docs/SECURITY.md"] {
        let page = read(name);
        let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let is_metric = |word: &&str| word.starts_with("roost_") || word.starts_with("process_");
        // The crate, as RUST_LOG names it.
        for metric in words.filter(is_metric).filter(|word| *word != "roost_gateway") {
            let is_it = |family: &Family| {
                let suffix = metric.strip_prefix(family.name);
                suffix.is_some_and(|suffix| ["", "_total", "_bucket", "_count", "_sum"].contains(&suffix))
            };
            assert!(ALL.iter().any(is_it), "{name}: no family {metric}");
        }
        for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            assert!(target.contains("://") || path("docs").join(file).exists(), "{name} links to {target}");
        }
    }
}

#[test]
fn lines_are_found_with_their_fields_and_across_breaks() {
    let mut found = Vec::new();
    let source = "fn f() { tracing::warn!(path = %\"x\".y(), %error, \"cannot {error:?} \\\n  go on\"); if a { error!(\"b\") } info!(\"c\") }";
    lines(source.parse().expect("tokens"), &mut found);
    assert_eq!(found.iter().map(|line| shown(line)).collect::<Vec<_>>(), ["cannot ... go on", "b"]);
}
