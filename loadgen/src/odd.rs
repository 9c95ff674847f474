//! Clients that misbehave: `slow`, `halfopen` and `handshake-drip`. Their flags, and what the schedule knows of them.

use crate::limits::DRIP_MS_MAX;
use crate::options::{Cli, Kind, Scenario};
use crate::schedule::Odd;
use std::io::ErrorKind;

/// The part of the run after which slow readers stop reading.
const STALL_FROM: f64 = 0.2;

/// Who misbehaves, and how.
#[derive(clap::Args, Debug, Clone)]
pub struct OddArgs {
    /// Share of the clients that stop reading after a fifth of the measured part (slow)
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.1)]
    pub slow_share: f64,
    /// How long they do not read; to the end of the measured part, unless given. They read again after it in any case (slow)
    #[arg(long, value_name = "S")]
    pub slow_for_s: Option<u64>,
    /// Share of the clients that vanish without a FIN when the measured part begins; it ends early once the server has ended all of them
    /// (halfopen, phantoms only)
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.5)]
    pub halfopen_share: f64,
    /// Share of the clients that send their upgrade request a byte at a time, beside those that connect as usual (handshake-drip)
    #[arg(long, allow_negative_numbers = true, default_value_t = 0.5)]
    pub drip_share: f64,
    /// Pause between two bytes (handshake-drip)
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=DRIP_MS_MAX))]
    pub drip_ms: u64,
}

impl OddArgs {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// One line for the user, naming the flag.
    pub fn check(cli: &Cli) -> Result<(), String> {
        let OddArgs { slow_share, halfopen_share, drip_share, .. } = cli.odd;
        for (flag, value) in
            [("--slow-share", slow_share), ("--halfopen-share", halfopen_share), ("--drip-share", drip_share)]
        {
            // Somebody has to stay who behaves, and is hurt or not.
            if !(0.0..=0.9).contains(&value) {
                return Err(format!("{flag} must be 0 to 0.9, not {value}"));
            }
        }
        if cli.scenario == Scenario::Halfopen && cli.kind == Kind::Kernel {
            return Err(
                "halfopen needs --kind phantom: a kernel that has lost a socket answers the server's next packet with RST, which is \
                 what a vanished client does not do"
                    .into(),
            );
        }
        Ok(())
    }

    /// What the schedule has to know.
    pub fn odd(cli: &Cli) -> Odd {
        let args = &cli.odd;
        match cli.scenario {
            Scenario::Slow => {
                let lasts = args.slow_for_s.map_or(1.0, |s| s as f64 / cli.duration_s as f64);
                Odd { share: args.slow_share, stall: Some((STALL_FROM, (STALL_FROM + lasts).min(1.0))) }
            }
            Scenario::Halfopen => Odd { share: args.halfopen_share, stall: None },
            Scenario::HandshakeDrip => Odd { share: args.drip_share, stall: None },
            _ => Odd::default(),
        }
    }
}

/// How [`drip_end`] names an upgrade that the server granted.
pub const DRIPPED_THROUGH: &str = "HTTP 101";

/// What ended a request that came a byte at a time: the status of the answer, or the way in which the connection ended.
pub fn drip_end(answer: Result<&[u8], ErrorKind>) -> String {
    match answer {
        Ok([]) => "FIN".to_owned(),
        Ok(answer) => {
            let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
            let status = status.and_then(|status| str::from_utf8(status).ok());
            status.map_or_else(|| "an answer that is not HTTP".to_owned(), |status| format!("HTTP {status}"))
        }
        Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => "RST".to_owned(),
        Err(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_dripped_request_is_named() {
        for (answer, name) in [
            (Ok(&b"HTTP/1.1 408 Request Timeout\r\n"[..]), "HTTP 408"),
            (Ok(&b"HTTP/1.1 101 Switching"[..]), DRIPPED_THROUGH),
            (Ok(&b""[..]), "FIN"),
            (Ok(&b"HTTP/1.1 4"[..]), "an answer that is not HTTP"),
            (Err(ErrorKind::ConnectionReset), "RST"),
        ] {
            assert_eq!(drip_end(answer), name);
        }
    }
}
