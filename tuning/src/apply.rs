//! Carrying a plan out, and bringing back what was there.

use std::{fs, path::Path};

use crate::{
    error::Error,
    journal::{Changed, Journal, State},
    machine::{Machine, Reading},
    plan::{Plan, Write},
    store,
};

/// What became of a plan or of a journal.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Files that were changed, in order, each once.
    pub done: Vec<String>,
    /// Those of them that are not there any more, because they were not there before.
    pub removed: Vec<String>,
    /// What did not work; the rest was done all the same.
    pub failed: Vec<String>,
}

/// Carries a plan out: the journal first, then one write after the other. `step` is called wherever the process could be
/// stopped; tests stop it there.
///
/// A value that the kernel refuses is reported and does not hold up the others.
///
/// # Errors
/// The journal cannot be written: then nothing was changed.
pub fn apply(machine: &Machine, plan: &Plan, state: &Path, step: &mut dyn FnMut()) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    if plan.is_empty() {
        return Ok(outcome);
    }
    let folders = missing_folders(state);
    let state = State::open(state, true)?.expect("it was made");
    check_unmoved(machine, plan)?;
    let mut journal = match state.load()? {
        Some(journal) => {
            journal.check_namespace(machine, &state)?;
            journal
        }
        None => Journal::new(machine),
    };
    journal.state_folders(folders);
    journal.extend(plan);
    step();
    state.save(&journal, step)?;
    step();
    for write in &plan.writes {
        match carry_out(machine, write, &plan.folders, step) {
            Ok(()) => outcome.done.push(write.file.clone()),
            Err(error) => outcome.failed.push(error.to_string()),
        }
        step();
    }
    Ok(outcome)
}

/// The plan was made before the lock was held: another apply, or anybody, may have raised a value since.
fn check_unmoved(machine: &Machine, plan: &Plan) -> Result<(), Error> {
    for write in &plan.writes {
        let path = machine.path_to_write(&write.file)?;
        if store::save(&path)? != write.saved {
            return Err(Error::Moved { path });
        }
    }
    Ok(())
}

fn carry_out(
    machine: &Machine,
    write: &Write,
    folders: &[String],
    step: &mut dyn FnMut(),
) -> Result<(), Error> {
    let path = machine.path(&write.file);
    // A file of the kernel takes a value in one call; one of a copy is replaced in whole, as any other.
    if write.kernel && machine.is_live() {
        return store::write_kernel(&path, &write.after);
    }
    for folder in folders.iter().filter(|folder| write.file.starts_with(&format!("{folder}/"))) {
        let folder = machine.path(folder);
        if !folder.exists() {
            fs::create_dir(&folder).map_err(Error::file("make the folder", &folder))?;
            step();
        }
    }
    store::replace(&path, &write.after, write.saved.as_ref(), step)
}

/// Brings back what was there before the first apply, the last change first. What somebody else has changed since is left and
/// reported, unless `force` says otherwise; the journal stays until all is back.
///
/// # Errors
/// The journal cannot be read, or is of another network namespace.
pub fn rollback(machine: &Machine, state: &Path, force: bool) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let Some(state) = State::open(state, false)? else { return Ok(outcome) };
    let Some(journal) = state.load()? else {
        state.clear()?;
        state.remove_if_empty();
        return Ok(outcome);
    };
    journal.check_namespace(machine, &state)?;
    for changed in journal.changed.iter().rev() {
        match bring_back(machine, changed, force) {
            Ok(true) => {
                outcome.done.push(changed.file.clone());
                if changed.before.is_none() {
                    outcome.removed.push(changed.file.clone());
                }
            }
            Ok(false) => {}
            Err(why) => outcome.failed.push(why),
        }
    }
    if outcome.failed.is_empty() {
        for folder in journal.folders.iter().rev() {
            // A folder that others use by now stays.
            let _in_use = fs::remove_dir(machine.path(folder));
        }
        state.clear()?;
        state.remove_if_empty();
        for folder in journal.made_for_state.iter().rev() {
            let _in_use = fs::remove_dir(folder);
        }
    }
    Ok(outcome)
}

/// Brings one file back; tells whether there was anything to do.
fn bring_back(machine: &Machine, changed: &Changed, force: bool) -> Result<bool, String> {
    let path = machine.path_to_write(&changed.file).map_err(|error| error.to_string())?;
    let is_kernels = changed.kernel && machine.is_live();
    if !is_kernels {
        store::remove(&store::unfinished(&path)).map_err(|error| error.to_string())?;
    }
    let now = match machine.read(&changed.file) {
        Reading::Text(text) => Some(text),
        Reading::Absent => None,
        Reading::Unreadable => return Err(format!("{} cannot be read", changed.file)),
    };
    if is_back(changed, now.as_deref()) {
        return Ok(false);
    }
    let ours =
        now.as_deref().is_some_and(|now| changed.after.iter().any(|after| same(changed.kernel, after, now)));
    if !ours && !force {
        return Err(format!(
            "{} was changed by somebody else since: it is left as it is; --force brings it back all the same",
            changed.file
        ));
    }
    let done = match (&changed.before, is_kernels) {
        (None, _) => store::remove(&path),
        (Some(_), _) if changed.kernel && now.is_none() => {
            return Err(format!("{} is not there any more", changed.file));
        }
        (Some(before), true) => store::write_kernel(&path, &(chosen(&before.text) + "\n")),
        (Some(before), false) => store::replace(&path, &before.text, Some(before), &mut || {}),
    };
    done.map(|()| true).map_err(|error| error.to_string())
}

fn is_back(changed: &Changed, now: Option<&str>) -> bool {
    match (&changed.before, now) {
        (None, None) => true,
        (Some(before), Some(now)) => before.text == now,
        _ => false,
    }
}

/// Whether a file holds what was written. The kernel writes its own values in its own way.
pub fn same(kernel: bool, written: &str, now: &str) -> bool {
    if kernel { chosen(written) == chosen(now) } else { written == now }
}

/// A value of the kernel without its layout: of several choices the one in brackets, of a mask no leading zeros.
fn chosen(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    if let Some(word) = words.iter().find_map(|word| word.strip_prefix('[')?.strip_suffix(']')) {
        return word.to_owned();
    }
    let bare = |word: &&str| match word.trim_start_matches(['0', ',']) {
        "" => "0".to_owned(),
        rest => rest.to_owned(),
    };
    words.iter().map(bare).collect::<Vec<_>>().join(" ")
}

/// Folders above and including `folder` that are not there, outer ones first.
fn missing_folders(folder: &Path) -> Vec<String> {
    let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let mut missing: Vec<String> = missing.map(|folder| folder.display().to_string()).collect();
    missing.reverse();
    missing
}
