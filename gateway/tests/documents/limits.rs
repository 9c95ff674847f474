//! docs/LIMITS.md is generated from the limits.rs files: what each constant bounds, who uses it, and what happens when it is reached. A
//! limit of which the last is not said, or that nobody uses, fails the test.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta, Visibility, spanned::Spanned};

use super::{is_current, path, read};

const INTRODUCTION: &str = "\
# Limits

Nothing in the server is unbounded: each queue, pool, buffer, wait and retry has a constant with a name, and something that happens when it is
reached. This page is generated from the doc comments of the `limits.rs` files (`ROOST_REGENERATE=1 cargo test -p roost-gateway --test
documents`); a test fails where a limit has no owner or no such sentence. What operators set themselves is in `roost.toml` (`--help` lists it), and what of that is
bounded again stands here. The load generator has limits of its own: `loadgen/src/limits.rs`, `loadgen/src/phantom/limits.rs`.

Owners are the source files that use the constant. Relations between limits are asserted at compile time at the end of each file.
";

/// A part of the page, its file, and the folder of those who may use it.
const FILES: [(&str, &str, &str); 5] = [
    ("Gateway", "gateway/src/limits.rs", "gateway/src"),
    ("Tokens and keys", "gateway/src/auth/limits.rs", "gateway/src"),
    ("HTTP service", "gateway/src/http/limits.rs", "gateway/src"),
    ("Router and store", "router/src/limits.rs", "router/src"),
    ("Frames and handshake", "proto/src/limits.rs", "proto/src"),
];

/// How a sentence begins that says what happens when a limit is reached.
const REACHED: [&str; 17] = [
    "Full",
    "All full",
    "None left",
    "None free",
    "Used up",
    "More",
    "Longer",
    "Larger",
    "Past it",
    "Past the limit",
    "Reached",
    "So many:",
    "Further",
    "One larger",
    "The rest",
    "A longer",
    "A larger",
];

/// A constant of a limits.rs.
struct Limit {
    name: String,
    value: String,
    what: String,
    reached: Option<String>,
    owners: Vec<String>,
}

/// The doc comment, in one line.
fn documentation(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Splits what a constant is from what happens when it is reached: a sentence of its own, what stands behind a semicolon, or an HTTP
/// status in parentheses.
fn split(text: &str) -> (String, Option<String>) {
    let sentences: Vec<&str> = text.split_inclusive(". ").map(str::trim).collect();
    let begins = |sentence: &&&str| REACHED.iter().any(|word| sentence.starts_with(word));
    let reached: Vec<&str> = sentences.iter().skip(1).filter(begins).copied().collect();
    if !reached.is_empty() {
        let what = sentences.iter().enumerate().filter(|(at, sentence)| *at == 0 || !begins(sentence));
        return (what.map(|(_, sentence)| *sentence).collect::<Vec<_>>().join(" "), Some(reached.join(" ")));
    }
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    if let Some(status) = text.split(" (").skip(1).map(digits).find(|status| status.len() == 3) {
        return (text.to_owned(), Some(format!("Answered {status}.")));
    }
    match text.split_once("; ") {
        Some((what, then)) => (what.to_owned(), Some(format!("{}{}", then[..1].to_uppercase(), &then[1..]))),
        None => (text.to_owned(), None),
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    let is_source = |path: &PathBuf| path.extension().is_some_and(|end| end == "rs");
    entries
        .into_iter()
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(is_source)
        .collect()
}

/// The words of each source file of a crate, but for its tests, by its path below `src` without the ending.
fn words(folder: &str) -> BTreeMap<String, Vec<String>> {
    let root = path(folder);
    let of = |file: PathBuf| {
        let name = file.strip_prefix(&root).expect("below it").with_extension("").display().to_string();
        let source = fs::read_to_string(&file).expect("a source file");
        let code: String = source
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = code.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        (name.trim_end_matches("/mod").to_owned(), words)
    };
    rust_files(&root).into_iter().map(of).filter(|(name, _)| is_owner(name)).collect()
}

/// Tests own nothing, nor does the list of metrics, whose names are often those of what they tell of.
fn is_owner(name: &str) -> bool {
    !name.contains("tests") && !name.ends_with("_test") && name != "families"
}

/// The constants of a file with their owners, in its order.
fn limits(file: &str, folder: &str) -> Vec<Limit> {
    let source = read(file);
    let users = words(folder);
    let own = file.strip_prefix(&format!("{folder}/")).unwrap_or(file).trim_end_matches(".rs");
    let parsed = syn::parse_file(&source).unwrap_or_else(|error| panic!("{file}: {error}"));
    let constant = |item: Item| {
        let Item::Const(constant) = item else { return None };
        if !matches!(constant.vis, Visibility::Public(_)) {
            return None;
        }
        let name = constant.ident.to_string();
        let (what, reached) = split(&documentation(&constant.attrs));
        let uses = |(user, words): (&String, &Vec<String>)| {
            let times = words.iter().filter(|word| **word == name).count();
            // In its own file it stands once as itself; more often where others are made of it.
            (times > usize::from(user == own)).then(|| user.clone())
        };
        let value = constant
            .expr
            .span()
            .source_text()
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        Some(Limit { owners: users.iter().filter_map(uses).collect(), name, value, what, reached })
    };
    parsed.items.into_iter().filter_map(constant).collect()
}

/// "See `X`" takes what is said of X.
fn resolve(limits: &mut [Limit]) {
    let known: BTreeMap<String, Option<String>> =
        limits.iter().map(|limit| (limit.name.clone(), limit.reached.clone())).collect();
    for limit in limits {
        let other =
            limit.what.strip_prefix("See [`").and_then(|rest| rest.split("`]").next()).map(str::to_owned);
        if let Some(other) = other.filter(|_| limit.reached.is_none()) {
            limit
                .reached
                .clone_from(known.get(&other).unwrap_or_else(|| panic!("{}: no {other}", limit.name)));
        }
    }
}

fn cell(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`").replace('|', "\\|").trim_end_matches('.').to_owned()
}

fn owners(limit: &Limit) -> String {
    let shown: Vec<String> = limit.owners.iter().take(3).map(|owner| format!("`{owner}`")).collect();
    let rest = limit.owners.len().saturating_sub(3);
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (part, file, folder) in FILES {
        let mut limits = limits(file, folder);
        resolve(&mut limits);
        write!(page, "\n## {part}\n\n`{file}`\n\n| limit | value | of what | when it is reached | owner |\n|---|---|---|---|---|\n")
            .expect("a string");
        for limit in limits.iter().filter(|limit| limit.reached.is_some()) {
            let reached = cell(limit.reached.as_deref().unwrap_or_default());
            let Limit { name, value, what, .. } = limit;
            writeln!(page, "| `{name}` | `{value}` | {} | {reached} | {} |", cell(what), owners(limit))
                .expect("a string");
        }
        let sizes: Vec<_> = limits.iter().filter(|limit| limit.reached.is_none()).collect();
        if !sizes.is_empty() {
            page.push_str("\nSizes and times that nothing runs into:\n\n| name | value | what it is | owner |\n|---|---|---|---|\n");
        }
        for size in sizes {
            let Limit { name, value, what, .. } = size;
            writeln!(page, "| `{name}` | `{value}` | {} | {} |", cell(what), owners(size)).expect("a string");
        }
    }
    page
}

#[test]
fn every_limit_has_an_owner_and_says_what_happens_when_it_is_reached() {
    let mut wrong = Vec::new();
    for (_, file, folder) in FILES {
        let mut limits = limits(file, folder);
        resolve(&mut limits);
        assert!(limits.len() > 5, "{file} was not understood");
        for Limit { name, what, reached, owners, .. } in &limits {
            let is_silent = reached.is_none() && name.ends_with("_MAX");
            let faults = [
                (what.is_empty(), "has no doc comment"),
                (owners.is_empty(), "is used by nobody"),
                (is_silent, "does not say what happens when it is reached"),
            ];
            let faults = faults.iter().filter(|(is_one, _)| *is_one);
            wrong.extend(faults.map(|(_, fault)| format!("{file}: {name} {fault}")));
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong:#?}; what happens is told by a sentence that begins with one of {REACHED:?}"
    );
}

#[test]
fn the_page_is_what_the_limits_say() {
    is_current("docs/LIMITS.md", &page());
}

#[test]
fn what_happens_is_told_from_what_it_is() {
    let told = |text: &str| split(text).1;
    assert_eq!(told("Items of a queue. Full: the sender waits."), Some("Full: the sender waits.".to_owned()));
    assert_eq!(told("Largest body, in bytes (413)."), Some("Answered 413.".to_owned()));
    assert_eq!(told("How long it lives; then it is closed."), Some("Then it is closed.".to_owned()));
    assert_eq!(told("Largest number (`roost.proto`: 1 to 7)."), None);
    assert_eq!(told("Items of a queue."), None);
    assert_eq!(split("Full: it is the first sentence.").1, None, "a limit is named before its end is");
}
