//! `docs/PROTOCOL.md` taken apart.

use std::{fmt::Display, path::Path};

use serde_json::Value;

/// Who says a JSON block.
pub enum Role {
    /// `POST` to this path of the HTTP service.
    Request(String),
    /// The answer to the request before, with this status.
    Answer(u16),
    /// A session's frame upwards.
    Client(String),
    /// The next frame that each of these sessions receives.
    Server(Vec<String>),
}

/// A fenced block of JSON.
pub struct Block {
    /// Line of its fence, from 1.
    pub line: usize,
    pub role: Role,
    pub text: String,
}

impl Block {
    /// Its JSON.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| self.fail(&error))
    }

    /// Ends the test with the block's place.
    pub fn fail(&self, why: &dyn Display) -> ! {
        panic!("PROTOCOL.md:{}: {why}: {}", self.line, self.text)
    }
}

/// The page.
pub fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Its JSON blocks, in order.
pub fn blocks() -> Vec<Block> {
    let json = fences().into_iter().filter(|(_, info, _)| info.starts_with("json"));
    json.map(|(line, info, text)| Block { line, role: role(line, &info), text }).collect()
}

/// Its Python program.
pub fn program() -> String {
    let mut programs = fences().into_iter().filter(|(_, info, _)| info == "python");
    match (programs.next(), programs.next()) {
        (Some((_, _, program)), None) => program,
        _ => panic!("PROTOCOL.md has one block of Python"),
    }
}

/// The rows of the last table under a heading, without its head; backticks around a cell are left out.
pub fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = text();
    let (_, section) =
        text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let (_, table) = section.rsplit_once("---|\n").unwrap_or_else(|| panic!("no table in {heading}"));
    let lines = table.lines().map_while(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines
        .map(|line| line.split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect()
}

/// Line, info string and content of each fenced block.
fn fences() -> Vec<(usize, String, String)> {
    let mut fences = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (number, line) in (1..).zip(text().lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((number, info.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => fences.extend(open.take()),
            (Some((_, _, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "PROTOCOL.md: a block is not closed");
    fences
}

fn role(line: usize, info: &str) -> Role {
    match info.split(' ').collect::<Vec<_>>()[..] {
        ["json", "http", "POST", path] => Role::Request(path.to_owned()),
        ["json", "http", status] => Role::Answer(status.parse().expect("a status")),
        ["json", "client", name] => Role::Client(name.to_owned()),
        ["json", "server", ref names @ ..] if !names.is_empty() => {
            Role::Server(names.iter().map(ToString::to_string).collect())
        }
        _ => panic!("PROTOCOL.md:{line}: a JSON block says who speaks, and {info:?} does not"),
    }
}
