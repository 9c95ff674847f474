//! Where a run's report goes besides the terminal, and who may watch.

use crate::limits::COMMAND_BYTES_MAX;
use crate::report::{Report, html};
use anyhow::Context as _;
use clap::Args;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Reports in files, and metrics.
#[derive(Args, Clone, Debug, Default)]
pub struct Outputs {
    /// Where the HTML report goes: one file with all plots and numbers, to be opened with any browser
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Serves Prometheus metrics at /metrics of this address while it runs; port 0 takes a free one and tells it on stderr
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
}

/// Whether the reports have a folder to be written to: who has waited for a run wants its report.
///
/// # Errors
/// One line for the user, naming the flag.
pub fn check(json: Option<&Path>, outputs: &Outputs) -> Result<(), String> {
    for (flag, path) in [("--json", json), ("--html", outputs.html.as_deref())] {
        let folder = path.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
        if let (Some(path), Some(folder)) = (path, folder)
            && !folder.is_dir()
        {
            return Err(format!("{flag} {}: there is no folder {}", path.display(), folder.display()));
        }
    }
    Ok(())
}

/// Writes the reports and prints the summary.
///
/// # Errors
/// Where a file cannot be written.
pub fn tell(report: &Report, json: Option<&Path>, outputs: &Outputs) -> anyhow::Result<()> {
    let mut summary_to_stderr = false;
    if let Some(path) = json {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        if path == Path::new("-") {
            summary_to_stderr = true;
            print!("{text}");
        } else {
            std::fs::write(path, text).with_context(|| format!("cannot write --json {}", path.display()))?;
        }
    }
    if summary_to_stderr {
        eprint!("{}", report.summary());
    } else {
        print!("{}", report.summary());
    }
    if let Some(path) = &outputs.html {
        std::fs::write(path, html::page(report)?)
            .with_context(|| format!("cannot write --html {}", path.display()))?;
    }
    Ok(())
}

/// What stands for a secret.
const HIDDEN: &str = "***";
/// Parts of the names of options and query parameters whose values are secrets.
const SECRETS: [&str; 4] = ["token", "secret", "password", "key"];

/// The command line for the report. Values of options and query parameters that are named like a secret are left out, as is a
/// password in a URL; a file's name may stand.
pub fn command(arguments: &[OsString]) -> Vec<String> {
    let mut hidden = false;
    arguments
        .iter()
        .map(|argument| {
            let text = argument.to_string_lossy();
            let end = text.floor_char_boundary(COMMAND_BYTES_MAX);
            let text = &text[..end];
            if std::mem::take(&mut hidden) && !text.starts_with("--") {
                return HIDDEN.to_owned();
            }
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let is_secret = name.starts_with("--") && is_secret(name) && !name.ends_with("-file");
            hidden = is_secret && value.is_empty();
            if is_secret && !hidden { format!("{name}={HIDDEN}") } else { without_secrets(text) }
        })
        .collect()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRETS.iter().any(|secret| name.contains(secret))
}

/// A URL without the password before its host and without the values of secret query parameters; anything else as it is.
fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let host_end = place.find('/').unwrap_or(place.len());
    let place = match place[..host_end].rfind('@') {
        Some(at) => format!("{HIDDEN}{}", &place[at..]),
        None => place.to_owned(),
    };
    let parameter = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    };
    let query =
        query.map(|query| format!("?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&")));
    format!("{scheme}://{place}{}", query.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_stands_in_the_command_line_of_the_report() {
        let arguments = [
            ("roost-loadgen", "roost-loadgen"),
            (
                "ws://me:hunter2@host/v1/ws?user=4&access_token=abc.def",
                "ws://***@host/v1/ws?user=4&access_token=***",
            ),
            ("--secret-file", "--secret-file"),
            ("/data/secret", "/data/secret"),
            ("--token", "--token"),
            ("abc", "***"),
            ("--api-key=abc", "--api-key=***"),
            ("--clients=5", "--clients=5"),
            ("--password", "--password"),
            ("--quiet", "--quiet"),
            ("ws://host/?x=https://a@b", "ws://host/?x=https://a@b"),
        ];
        let given: Vec<OsString> = arguments.iter().map(|(given, _)| given.into()).collect();
        let told: Vec<_> = arguments.iter().map(|(_, told)| *told).collect();
        assert_eq!(command(&given), told);
        assert_eq!(command(&["ä".repeat(COMMAND_BYTES_MAX).into()])[0].len(), COMMAND_BYTES_MAX);
    }
}
