//! A server that takes part in a comparison.

use std::str::FromStr;

/// `NAME=URL,PID`: what it is called, where it listens, and its process where that runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As it stands in the table.
    pub name: String,
    /// `ws://host[:port][/path]`.
    pub url: String,
    /// The process whose CPU and memory, with those of all it started, are the server's.
    pub pid: Option<i32>,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a server is NAME=URL,PID, or NAME=URL where its process is not on this machine";
        let (name, rest) = text.split_once('=').ok_or(form)?;
        if name.trim().is_empty() || name.contains(['|', '\n']) {
            return Err(format!("{form}; '{name}' is no name"));
        }
        let (url, pid) = match rest.rsplit_once(',') {
            Some((url, pid)) => {
                let number = pid.parse().ok().filter(|&number: &i32| number > 0);
                (url, Some(number.ok_or_else(|| format!("{form}; '{pid}' is no process number"))?))
            }
            None => (rest, None),
        };
        Ok(Self { name: name.trim().to_owned(), url: url.to_owned(), pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_name_an_address_and_perhaps_a_process() {
        let server = |text: &str| text.parse::<Server>();
        let (name, url) = ("node ws".to_owned(), "ws://a:1/x?k=v".to_owned());
        let expected = Server { name, url, pid: Some(42) };
        assert_eq!(server("node ws=ws://a:1/x?k=v,42"), Ok(expected.clone()));
        assert_eq!(server("node ws=ws://a:1/x?k=v"), Ok(Server { pid: None, ..expected }));
        for (text, reason) in [
            ("ws://a", "NAME=URL,PID"),
            ("=ws://a", "no name"),
            ("a=ws://a,-1", "'-1'"),
            ("a=ws://a,x", "'x'"),
        ] {
            let error = server(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
