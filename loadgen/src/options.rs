//! What the user asks for (CLI.md, section roost-loadgen), parsed and checked before anything starts.

mod cli;

pub use cli::{Auth, Cli, EXIT_CODES, Encoding, Kind, Scenario};

use crate::agent;
use crate::auth::Credentials;
use crate::limits::{CLIENTS_MAX, PAYLOAD_BYTES_MAX};
use crate::mix::Mix;
use crate::net::Target;
use crate::odd::OddArgs;
use crate::payload::HEADER_BYTES;
use crate::phantom::{self, impair::Impairment};
use crate::schedule::{PlanParams, To};
use crate::siege;
use cli::GATEWAY_URL;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The checked options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// As the user gave them.
    pub cli: Cli,
    /// Where to connect.
    pub target: Target,
    /// How to authenticate.
    pub credentials: Credentials,
    /// What the scenario mix plays.
    pub mix: Option<Arc<Mix>>,
}

impl Options {
    /// Checks what clap cannot: relations, files, addresses, and what this version does not have.
    ///
    /// # Errors
    /// One line for the user, naming the flag; exit 2.
    pub fn check(cli: Cli) -> Result<Self, String> {
        let mut options = Self::with_credentials(cli, Credentials::Anonymous)?;
        let cli = &options.cli;
        let waiting = |path: &Path| {
            if !cli.quiet {
                eprintln!("roost-loadgen: waiting for --secret-file {}", path.display());
            }
        };
        let ready = Duration::from_secs(cli.ready_s);
        options.credentials = Credentials::load(cli.secret_file.as_deref(), cli.auth, ready, waiting)?;
        Ok(options)
    }

    /// The same with credentials that are known already; --secret-file is not read.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn with_credentials(cli: Cli, credentials: Credentials) -> Result<Self, String> {
        check_kind(&cli)?;
        check_impairment(&cli)?;
        agent::check(&cli)?;
        OddArgs::check(&cli)?;
        siege::check(&cli)?;
        share("--offline-share", cli.offline_share, 0.9)?;
        share("--read-share", cli.read_share.unwrap_or_default(), 1.0)?;
        share("--lag-share-max", cli.lag_share_max, 1.0)?;
        if !(0.01..=1.0).contains(&cli.heartbeat_share) {
            return Err(format!("--heartbeat-share must be 0.01 to 1, not {}", cli.heartbeat_share));
        }
        rate("--ramp-per-s", cli.ramp_per_s, 0.1)?;
        rate("--rate-per-s", cli.rate_per_s, 0.0)?;
        let talks = cli.scenario.talks();
        if cli.scenario != Scenario::Mix && cli.mix.is_some() {
            return Err(format!("--mix is for the scenario mix, not for {}", cli.scenario.name()));
        }
        let mix = match (&cli.mix_text, &cli.mix) {
            (Some(text), _) => Some(Mix::parse(text)?),
            (None, file) => file.as_deref().map(Mix::load).transpose()?,
        };
        let mix = mix.map(Arc::new);
        if cli.rate_per_s == 0.0 && (talks || cli.scenario == Scenario::Siege) {
            let name = cli.scenario.name();
            return Err(format!("--rate-per-s 0 (closed loop) is for echo only; give {name} a rate"));
        }
        if cli.kind == Kind::Phantom && cli.payload_bytes > phantom::limits::PAYLOAD_BYTES_MAX {
            let most = phantom::limits::PAYLOAD_BYTES_MAX;
            return Err(format!("--payload-bytes must be {HEADER_BYTES} to {most} with --kind phantom"));
        }
        if !(HEADER_BYTES..=PAYLOAD_BYTES_MAX).contains(&cli.payload_bytes) {
            return Err(format!(
                "--payload-bytes must be {HEADER_BYTES} to {PAYLOAD_BYTES_MAX}: number, time and checksum take {HEADER_BYTES}"
            ));
        }
        if cli.user_base == 0 || cli.user_base > (1 << 62) {
            return Err("--user-base must be 1 to 2^62".into());
        }
        // A gateway of ours tells its secret itself.
        let knows = cli.secret_file.is_some() || cli.auth.is_some() || !cli.command.is_empty();
        if talks && !knows {
            let name = cli.scenario.name();
            return Err(format!(
                "{name} needs to know who its clients are: give --secret-file FILE (the gateway's <data>/secret) or \
                 --auth none"
            ));
        }
        let target = Target::parse(cli.url.as_deref().unwrap_or(GATEWAY_URL))?;
        Ok(Self { cli, target, credentials, mix })
    }

    /// What the schedule is computed from.
    pub fn plan_params(&self) -> PlanParams {
        PlanParams {
            clients: self.cli.clients,
            rate_per_s: if self.stays() { 0.0 } else { self.cli.rate_per_s },
            duration_s: self.cli.duration_s,
            payload_bytes: self.cli.payload_bytes,
            seed: self.cli.seed,
            arrivals: self.cli.arrivals,
            // Whether a slow client was ended by the server must not depend on its own times away.
            offline_share: match self.cli.scenario {
                Scenario::Chat | Scenario::Group => self.cli.offline_share,
                _ => 0.0,
            },
            user_base: self.cli.user_base,
            to: match self.cli.scenario {
                Scenario::Chat | Scenario::Slow => To::OneOther,
                Scenario::Siege if self.talks() => To::OneOther,
                Scenario::Group => To::Group { size: self.cli.group_size },
                _ => self.mix.clone().map_or(To::Nobody, To::Mix),
            },
            odd: OddArgs::odd(&self.cli),
        }
    }

    /// Whether the clients send messages to each other.
    pub fn talks(&self) -> bool {
        self.cli.scenario.talks() || (self.cli.scenario == Scenario::Siege && self.credentials.is_known())
    }

    /// Whether what the clients send comes back to them.
    pub fn echoes(&self) -> bool {
        self.cli.scenario == Scenario::Echo || (self.cli.scenario == Scenario::Siege && !self.talks())
    }

    /// Share of the received messages that are marked as read.
    pub fn read_share(&self) -> f64 {
        let group = self.cli.scenario == Scenario::Group;
        let own = self.cli.read_share.unwrap_or(if group { 0.0 } else { 0.5 });
        self.mix.as_ref().map_or(own, |mix| mix.conversation.read_share)
    }

    /// Whether the clients only stay, and send nothing but heartbeats.
    pub fn stays(&self) -> bool {
        !self.talks() && !self.echoes()
    }

    /// How bad the phantoms' way is made.
    pub fn impairment(&self) -> Impairment {
        let Cli { loss, reorder, duplicate, .. } = self.cli;
        Impairment { loss, reorder, duplicate }
    }

    /// Whether echo sends as fast as answers come.
    pub fn is_closed_loop(&self) -> bool {
        self.cli.scenario == Scenario::Echo && self.cli.rate_per_s == 0.0
    }
}

/// What belongs to one kind of client only.
fn check_kind(cli: &Cli) -> Result<(), String> {
    let starts = !cli.command.is_empty();
    if cli.kind == Kind::Kernel {
        if starts {
            return Err(
                "a gateway is started for phantoms only: add --kind phantom, or start it yourself".into()
            );
        }
        if cli.pcap.is_some() {
            return Err("--pcap is for --kind phantom; kernel sockets are recorded with tcpdump".into());
        }
        if cli.clients > CLIENTS_MAX {
            return Err(format!("--clients must be 1 to {CLIENTS_MAX} with --kind kernel"));
        }
    } else if starts && cli.gateway_pid.is_some() {
        return Err("either --gateway-pid, or a gateway to start after --, but not both".into());
    } else if !starts && cli.gateway_pid.is_none() {
        return Err(
            "--kind phantom starts a gateway (-- roost-gateway ... after the options), or joins the network \
                    namespace of one (--gateway-pid PID)"
                .into(),
        );
    }
    if cli.url.is_none() && !starts {
        return Err("--url is missing: the server's WebSocket address, like ws://127.0.0.1:9000/v1/ws".into());
    }
    Ok(())
}

/// What makes the phantoms' way worse.
fn check_impairment(cli: &Cli) -> Result<(), String> {
    for (flag, value) in [("--loss", cli.loss), ("--reorder", cli.reorder), ("--duplicate", cli.duplicate)] {
        share(flag, value, 0.5)?;
        if value > 0.0 && cli.kind == Kind::Kernel {
            return Err(format!("{flag} is for --kind phantom; the way of kernel sockets is tc-netem(8)'s"));
        }
    }
    Ok(())
}

fn share(flag: &str, value: f64, max: f64) -> Result<(), String> {
    if (0.0..=max).contains(&value) { Ok(()) } else { Err(format!("{flag} must be 0 to {max}, not {value}")) }
}

fn rate(flag: &str, value: f64, min: f64) -> Result<(), String> {
    if (min..=1e9).contains(&value) {
        Ok(())
    } else {
        Err(format!("{flag} must be {min} to 1e9, not {value}"))
    }
}
