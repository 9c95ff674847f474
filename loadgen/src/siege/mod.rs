//! `siege`: clients that behave, and what becomes of them while others attack the server beside them.
//!
//! The measured part is cut into phases of one length: undisturbed, and for each attack one with it and one to recover from it.
//! [`script`] is what an attacker says, a pure function of the seed; [`attacker`] says it over a socket; [`host`] is the thread that
//! leads them, at a low priority, and reads the server's memory and CPU meanwhile. The clients that behave are those of any other
//! run, in threads of their own.

mod attacker;
mod host;
pub mod script;

pub use attacker::Tally;
pub use host::{Besieger, Observed, Seen};

use crate::limits::{ATTACKERS_MAX, SIEGE_ATTACKS_MAX};
use crate::options::{Cli, Kind, Scenario};
use clap::ValueEnum;

/// Who attacks, and how.
#[derive(clap::Args, Debug, Clone)]
pub struct SiegeArgs {
    /// How the server is attacked, one way after the other; all of them, unless given (siege)
    #[arg(long = "attack", value_enum, value_delimiter = ',', value_name = "KIND,...")]
    pub attacks: Vec<Attack>,
    /// Attackers of each kind; the kind's own number, unless given (siege)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(ATTACKERS_MAX)))]
    pub attackers: Option<u32>,
    /// Priority of the attackers' thread, as nice(1) takes it: the clients that behave go first where they share a CPU (siege)
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub attack_nice: i32,
    /// Bytes of the message of which buffer-hog sends all but the last: no more than the server takes (siege)
    #[arg(long, value_name = "N", default_value_t = 128 * 1024, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub hog_bytes: u32,
}

/// A way to attack a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// Half a request line, and nothing more
    Slowloris,
    /// A request head without end, a byte at a time
    Drip,
    /// A connection, and not a byte
    Silent,
    /// Messages a byte at a time, each in a segment of its own
    Bytewise,
    /// Messages as fast as the server takes them, and a small receive buffer that is never read
    ZeroWindow,
    /// Messages of a byte as fast as the server takes them, and all answers are read
    Flood,
    /// The same, and no answer is read
    FloodUnread,
    /// Pings as fast as the server takes them, and all answers are read
    PingFlood,
    /// A message of small and empty fragments without end
    Fragments,
    /// All of a large message but its last byte
    BufferHog,
}

impl Attack {
    /// The name in the report and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slowloris => "slowloris",
            Self::Drip => "drip",
            Self::Silent => "silent",
            Self::Bytewise => "bytewise",
            Self::ZeroWindow => "zero-window",
            Self::Flood => "flood",
            Self::FloodUnread => "flood-unread",
            Self::PingFlood => "ping-flood",
            Self::Fragments => "fragments",
            Self::BufferHog => "buffer-hog",
        }
    }

    /// Attackers unless the user says otherwise: many where each takes a place, few where each takes time.
    fn attackers(self) -> u32 {
        match self {
            Self::Silent => 10_000,
            Self::Slowloris | Self::Drip => 1_000,
            Self::BufferHog => 2_000,
            Self::ZeroWindow => 500,
            Self::Bytewise => 200,
            Self::Flood | Self::FloodUnread | Self::PingFlood | Self::Fragments => 50,
        }
    }
}

/// The phases of a siege, by time and in order: undisturbed, an attack, its recovery, the next attack, ...
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    attacks: Vec<Attack>,
    length_us: u64,
}

impl Phases {
    /// Of a run; none in other scenarios.
    pub fn of(cli: &Cli) -> Self {
        if cli.scenario != Scenario::Siege {
            return Self::default();
        }
        let attacks = match &cli.siege.attacks[..] {
            [] => Attack::value_variants().to_vec(),
            given => given.to_vec(),
        };
        let count = 1 + 2 * attacks.len() as u64;
        Self { attacks, length_us: cli.duration_s * 1_000_000 / count }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        if self.attacks.is_empty() { 0 } else { 1 + 2 * self.attacks.len() }
    }

    /// The attacks, in order; that number `n` is in phase `2 * n + 1`.
    pub fn attacks(&self) -> &[Attack] {
        &self.attacks
    }

    /// The attack of a phase.
    pub fn attack(&self, phase: usize) -> Option<Attack> {
        if phase.is_multiple_of(2) { None } else { self.attacks.get(phase / 2).copied() }
    }

    /// The phase at a time of the measured part; `None` where there are none.
    pub fn at(&self, at_us: u64) -> Option<usize> {
        let last = self.count().checked_sub(1)?;
        Some((at_us / self.length_us.max(1)).min(last as u64) as usize)
    }

    /// When a phase ends, in microseconds of the measured part.
    pub fn end_us(&self, phase: usize) -> u64 {
        self.length_us * (phase as u64 + 1)
    }
}

/// Checks what clap cannot.
///
/// # Errors
/// One line for the user, naming the flag.
pub fn check(cli: &Cli) -> Result<(), String> {
    let args = &cli.siege;
    if cli.scenario != Scenario::Siege {
        let given = !args.attacks.is_empty() || args.attackers.is_some();
        return if given {
            Err(format!("--attack and --attackers are for siege, not for {}", cli.scenario.name()))
        } else {
            Ok(())
        };
    }
    if cli.kind != Kind::Kernel || !cli.agents.agents.is_empty() {
        return Err(
            "siege attacks with kernel sockets from this machine: leave --kind phantom and --agents out"
                .into(),
        );
    }
    if args.attacks.len() > SIEGE_ATTACKS_MAX {
        return Err(format!("--attack: {} are more than {SIEGE_ATTACKS_MAX}", args.attacks.len()));
    }
    let phases = Phases::of(cli).count() as u64;
    if cli.duration_s < phases {
        return Err(format!(
            "--duration-s {}: a siege with so many attacks has {phases} phases (undisturbed, then an attack and a recovery for each), \
             and each takes a second or more",
            cli.duration_s
        ));
    }
    Ok(())
}

/// Attackers of a kind in this run.
pub fn attackers(cli: &Cli, attack: Attack) -> u32 {
    cli.siege.attackers.unwrap_or(attack.attackers())
}

/// Attackers of the largest attack of this run; none in other scenarios.
pub fn attackers_max(cli: &Cli) -> u32 {
    Phases::of(cli).attacks().iter().map(|attack| attackers(cli, *attack)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attack_has_a_phase_between_two_without_one() {
        let phases = Phases { attacks: vec![Attack::Flood, Attack::Drip], length_us: 10 };
        assert_eq!(phases.count(), 5);
        let of = |at_us| phases.at(at_us).map(|phase| (phase, phases.attack(phase)));
        assert_eq!(of(0), Some((0, None)));
        assert_eq!(of(10), Some((1, Some(Attack::Flood))));
        assert_eq!((of(29), of(39)), (Some((2, None)), Some((3, Some(Attack::Drip)))));
        assert_eq!(of(1_000), Some((4, None)), "what is late belongs to the last");
        assert_eq!(phases.end_us(4), 50);
        assert_eq!(Phases::default().at(5), None);
    }
}
