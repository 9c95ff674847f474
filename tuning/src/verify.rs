//! Whether what was applied is still there, and will be after the next start.

use serde::Serialize;

use crate::{
    apply::same,
    error::Error,
    journal::State,
    machine::{Machine, Reading},
    plan,
};

/// Something that is not as `apply` left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The file it was found in.
    pub file: String,
    /// What apply left, or what the setting must be.
    pub expected: String,
    /// What is there.
    pub current: String,
    /// What that means.
    pub meaning: String,
}

/// Re-reads every file of the journal, and the files that are read after ours at the next start.
///
/// # Errors
/// The journal cannot be read.
pub fn drift(machine: &Machine, state: &std::path::Path) -> Result<Vec<Drift>, Error> {
    let mut found = Vec::new();
    let journal = match State::open(state, false)? {
        Some(state) => state.load()?,
        None => None,
    };
    for changed in journal.iter().flat_map(|journal| &journal.changed) {
        let Some(expected) = changed.after.last() else { continue };
        let (current, is_there) = match machine.read(&changed.file) {
            Reading::Text(text) => (text.trim_end().to_owned(), same(changed.kernel, expected, &text)),
            Reading::Absent => ("no such file".to_owned(), false),
            Reading::Unreadable => ("not readable".to_owned(), false),
        };
        if !is_there {
            found.push(Drift {
                file: changed.file.clone(),
                expected: expected.trim_end().to_owned(),
                current,
                meaning: "changed since it was applied".to_owned(),
            });
        }
    }
    let overridden = plan::overridden(machine).into_iter();
    found.extend(overridden.map(|(file, key, theirs, ours)| Drift {
        meaning: format!("sets {key} lower at the next start, because it is read after ours"),
        file,
        expected: ours,
        current: theirs,
    }));
    Ok(found)
}
