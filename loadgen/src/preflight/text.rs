//! What people read of a preflight.

use super::{End, Finding, Status};
use std::fmt::Write;

impl End {
    /// To follow "at".
    fn place(self) -> &'static str {
        match self {
            Self::Generator => "the generator's end",
            Self::Server => "the server's end",
            Self::Both => "this machine, which has both ends",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Generator => "generator",
            Self::Server => "server",
            Self::Both => "both",
        }
    }
}

/// Why a run of so many clients is not started.
pub fn refusal(clients: u32, first: &Finding) -> String {
    let Finding { end, limit, current, required, clients_max, lift, .. } = first;
    let allows = clients_max.map_or(String::new(), |most| format!(", which is enough for {most} clients"));
    let lift = lift.as_deref().unwrap_or("ask for fewer clients");
    format!(
        "--clients {clients}: the first limit is {limit} at {}: it is {current}{allows}, and {required} is needed. {lift} \
         (--preflight-only shows all limits, --ignore-preflight starts all the same)",
        end.place()
    )
}

/// What may disturb a run.
pub fn warning(finding: &Finding) -> String {
    let Finding { end, limit, current, required, lift, .. } = finding;
    let lift = lift.as_ref().map_or(String::new(), |lift| format!(": {lift}"));
    format!("warning: {limit} at {} is {current}, and {required} is better{lift}", end.place())
}

/// All findings, with the first limit below.
pub fn table(clients: u32, findings: &[Finding]) -> String {
    let mut lines = vec![["end", "limit", "current", "required", "status"].map(ToOwned::to_owned)];
    for finding in findings {
        let status = match (finding.status, finding.stops) {
            (Status::Ok, _) => "ok",
            (Status::Short, true) => "SHORT",
            (Status::Short, false) => "short, warning",
            (Status::Unknown, _) => "unknown",
        };
        let Finding { end, limit, current, required, .. } = finding.clone();
        lines.push([end.name().into(), limit, current, required, status.into()]);
    }
    let mut out = format!("preflight for {clients} clients\n\n");
    for line in &lines {
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        for (column, cell) in line.iter().enumerate() {
            let width = width(column);
            // Writing to a string does not fail.
            let _ = write!(out, "{cell:<width$}  ");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    for finding in findings {
        if let Some(lift) = &finding.lift {
            let _ = write!(out, "\n{}, {}: {lift}", finding.end.name(), finding.limit);
        }
    }
    out.truncate(out.trim_end().len());
    let _ = match super::first_limit(findings) {
        Some(first) => writeln!(out, "\n\n{}", refusal(clients, first)),
        None => writeln!(out, "\n\nno limit that is known stops this run"),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_limit_end_clients_and_command() {
        let files = Finding::ok(End::Server, "RLIMIT_NOFILE", "1024", "5016")
            .short("prlimit --pid 7 --nofile=5016:5016")
            .stopping(1_008);
        let text = refusal(5_000, &files);
        for part in ["--clients 5000", "RLIMIT_NOFILE", "the server's end", "1008 clients", "prlimit --pid 7"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let table = table(5_000, std::slice::from_ref(&files));
        assert!(table.contains("server  RLIMIT_NOFILE  1024     5016      SHORT"), "{table}");
        assert!(table.contains(&text), "{table}");
    }

    #[test]
    fn what_only_disturbs_is_a_warning_and_stops_nothing() {
        let queue = Finding::ok(End::Generator, "CPUs", "1", "2").short("use another machine");
        let text = warning(&queue);
        assert!(text.starts_with("warning: CPUs at the generator's end is 1"), "{text}");
        let table = table(1, &[queue, Finding::unknown(End::Server, "files", "5", "give --gateway-pid")]);
        assert!(table.contains("short, warning") && table.contains("unknown"), "{table}");
        assert!(table.contains("no limit that is known stops this run"), "{table}");
    }
}
