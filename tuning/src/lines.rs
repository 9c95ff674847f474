//! The files of settings that this tool writes: parsed, raised and rendered so that the same settings give the same bytes.

use std::fmt::Write as _;

/// How a file's lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `key = value`, `sysctl.d(5)`.
    Sysctl,
    /// `Key=value` below `[Service]`, `systemd.unit(5)`.
    Unit,
    /// `w path - - - - value`, `tmpfiles.d(5)`.
    Tmpfiles,
    /// `domain - item value`, `limits.conf(5)`; the key is domain and item.
    Login,
}

/// The settings of one file, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    syntax: Syntax,
    settings: Vec<(String, String)>,
}

impl Lines {
    /// Reads the settings of a file; comments, sections and what is no setting are passed over.
    pub fn parse(syntax: Syntax, text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '[']));
        Self { syntax, settings: lines.filter_map(|line| setting(syntax, line)).collect() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Its settings in their order.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// The value of a key; the last one counts.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Sets a key, but lowers none of its numbers.
    pub fn raise(&mut self, key: &str, value: &str) {
        match self.settings.iter_mut().rev().find(|(name, _)| name == key) {
            Some((_, current)) => *current = higher(key, current, value),
            None => self.settings.push((key.to_owned(), value.to_owned())),
        }
    }

    /// The file: `head` as a comment, then each setting below what `why` says of it.
    pub fn render(&self, head: &str, why: impl Fn(&str) -> Option<&'static str>) -> String {
        let mut text = comment(head);
        if self.syntax == Syntax::Unit {
            text.push_str("[Service]\n");
        }
        for (key, value) in &self.settings {
            text.push('\n');
            text.extend(why(key).map(comment));
            let written = match self.syntax {
                Syntax::Sysctl => writeln!(text, "{key} = {value}"),
                Syntax::Unit => writeln!(text, "{key}={value}"),
                Syntax::Tmpfiles => writeln!(text, "w {key} - - - - {value}"),
                Syntax::Login => {
                    let (domain, item) = key.split_once(' ').unwrap_or(("*", key));
                    writeln!(text, "{domain} - {item} {value}")
                }
            };
            written.expect("a String takes all");
        }
        text
    }
}

fn setting(syntax: Syntax, line: &str) -> Option<(String, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match syntax {
        Syntax::Sysctl => {
            let (key, value) = line.split_once('=')?;
            let key = key.trim().trim_start_matches('-').replace('/', ".");
            Some((key, value.split_whitespace().collect::<Vec<_>>().join(" ")))
        }
        Syntax::Unit => {
            line.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        }
        Syntax::Tmpfiles => match words.as_slice() {
            ["w", path, _, _, _, _, value @ ..] => Some(((*path).to_owned(), value.join(" "))),
            _ => None,
        },
        Syntax::Login => match words.as_slice() {
            [domain, "-", item, value] => Some((format!("{domain} {item}"), (*value).to_owned())),
            _ => None,
        },
    }
}

/// The higher of two values, number by number; of a range of ports the wider. Where they are no numbers, the new one.
fn higher(key: &str, current: &str, value: &str) -> String {
    let numbers = |text: &str| crate::machine::numbers(text);
    match (numbers(current), numbers(value)) {
        (Some(old), Some(new)) if old.len() == new.len() => {
            let widens_down = |at: usize| at == 0 && key.ends_with("ip_local_port_range");
            let pairs = old.iter().zip(&new).enumerate();
            let highest =
                pairs.map(|(at, (old, new))| if widens_down(at) { old.min(new) } else { old.max(new) });
            highest.map(u64::to_string).collect::<Vec<_>>().join(" ")
        }
        _ => value.to_owned(),
    }
}

/// Words of `text` in comment lines of at most 100 characters.
pub fn comment(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), "#".to_owned());
    for word in text.split_whitespace() {
        if line.len() + word.len() >= 100 {
            lines.push_str(&line);
            lines.push('\n');
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}
