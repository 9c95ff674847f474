//! Every bound of agents and their coordinator, with its owner and what happens when it is reached.

use std::time::Duration;

/// Agents of one run. Full: bad usage.
pub const AGENTS_MAX: usize = 64;

/// A shared secret at least, in bytes: whoever records a handshake may try guesses at home. Shorter: bad usage.
pub const SECRET_BYTES_MIN: usize = 16;
/// A shared secret at most, in bytes. Longer: bad usage; it is another file.
pub const SECRET_BYTES_MAX: u64 = 4096;

/// A Noise message at most (its specification, section 3), the tag included. The length before it has two bytes, so that a peer cannot name more.
pub const NOISE_BYTES_MAX: usize = 65_535;
/// The tag of a Noise message.
pub const TAG_BYTES: usize = 16;
/// One message of ours. Longer: the sender is told, and nothing leaves.
pub const MESSAGE_BYTES_MAX: usize = NOISE_BYTES_MAX - TAG_BYTES;
/// A part of a worker's results, its own length and number included.
pub const PART_BYTES: usize = 60_000;
/// The results of one agent. Owner: the coordinator. Full: the agent is given up.
pub const RESULTS_BYTES_MAX: usize = 1 << 30;
/// The largest live count, or time in microseconds, that an agent may tell: more than can happen, and sums of some cannot overflow. Full: the
/// agent is given up.
pub const COUNT_MAX: u64 = 1 << 48;
/// The encoded histogram of a worker: 6 bytes a bucket at the very most, of which the bounds allow some 20,000. Full: the agent is given up.
pub const HISTOGRAM_BYTES_MAX: usize = 1 << 20;

/// How long an agent may take to answer the call. One that closes the connection instead is called again until then.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The pause before such a further call.
pub const CALL_AGAIN: Duration = Duration::from_millis(100);
/// How long a peer may take to prove that it knows the secret. Reached: the connection ends.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long either end may be silent before the run begins: an agent computes the schedule meanwhile, the coordinator waits for all of them.
pub const SETUP_MAX: Duration = Duration::from_mins(1);
/// How long either end may be silent in a run. Reached: it counts as gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long agents may take to hand in their results, beyond the workers' own time.
pub const HAND_IN_MAX: Duration = Duration::from_mins(2);
/// How long an agent waits at the end for its coordinator to hang up, so that its last words arrive.
pub const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// Connections to an agent that have not proved anything yet, or have not told their version, a thread each. Full: the oldest that has proved
/// nothing is closed, so that silent ones cannot keep a coordinator out.
pub const STRANGERS_MAX: usize = 16;

/// The farthest moment that a coordinator may name. Farther: it counts as this.
pub const FUTURE_MAX: Duration = Duration::from_hours(1);

/// How often counts and phases are passed on.
pub const FORWARD_EVERY: Duration = Duration::from_millis(10);
/// How often the clocks are compared while a run goes on, which also shows that the coordinator is there.
pub const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Round trips to an agent's clock before the run; the shortest counts.
pub const PROBES: u32 = 32;

const _: () = assert!(PART_BYTES + 16 < MESSAGE_BYTES_MAX, "a part and what names it fit one message");
const _: () = assert!(SILENCE_MAX.as_millis() > 4 * PROBE_EVERY.as_millis(), "a lost probe is no silence");
