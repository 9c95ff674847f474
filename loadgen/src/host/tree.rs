//! A server as its operator sees it: a process with everything that it started (workers of a cluster, a shell's child).

use procfs::process::{Process, Stat, all_processes};

/// The processes of the tree below `root`, `root` among them and first. Ours and what it started are no part of it, unless it is
/// the root: a server may have started the generator, but never is it. Empty where `root` is gone.
pub fn members(root: i32) -> Vec<i32> {
    if Process::new(root).is_err() {
        return Vec::new();
    }
    let own = std::process::id() as i32;
    let parents: Vec<(i32, i32)> = all_processes()
        .into_iter()
        .flatten()
        .filter_map(|process| process.ok()?.stat().ok())
        .map(|stat| (stat.pid, stat.ppid))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    // Each process has one parent, so that it is found once at most.
    while let Some(&parent) = found.get(next) {
        next += 1;
        let of_parent = parents.iter().filter(|(pid, ppid)| *ppid == parent && *pid != own);
        found.extend(of_parent.map(|(pid, _)| *pid));
    }
    found
}

/// The status of each process of the tree (`proc_pid_stat(5)`); those that end meanwhile are left out.
pub fn stats(root: i32) -> Vec<Stat> {
    members(root).into_iter().filter_map(|pid| Process::new(pid).ok()?.stat().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn what_a_process_started_belongs_to_it_and_its_parent_does_not() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'echo ready; read line'; true"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
        let (root, own) = (shell.id() as i32, std::process::id() as i32);
        let (found, ours) = (members(root), members(own));
        // The end of its input ends the inner shell, and that the outer one.
        drop(shell.stdin.take());
        shell.wait().expect("it is a child of ours");
        assert_eq!((found.len(), found.first()), (2, Some(&root)), "{found:?}");
        assert!(ours.contains(&root) && ours.contains(&found[1]) && !found.contains(&own), "{ours:?}");
        assert!(members(root).is_empty() && stats(root).is_empty());
    }
}
