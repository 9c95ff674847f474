//! What `io_uring` of the running kernel does: each set-up flag, registration and operation that the gateway uses.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::limits;

/// Operations the gateway submits (`gateway/src/ring/set.rs`), with their names in `io_uring_enter(2)`.
pub const OPERATIONS: &[(&str, u8)] = &[
    ("ACCEPT", opcode::Accept::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("RECV", opcode::Recv::CODE),
    ("SEND", opcode::Send::CODE),
    ("SHUTDOWN", opcode::Shutdown::CODE),
    ("CLOSE", opcode::Close::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
];

/// Operations the gateway can do without (Linux 6.8): by this one operators are told the address of a peer.
pub const OPTIONAL: &[(&str, u8)] = &[("FIXED_FD_INSTALL", opcode::FixedFdInstall::CODE)];

/// What the kernel said when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its words.
    pub said: String,
    /// It was for want of memory that the user may lock: there is `io_uring` all the same.
    pub for_memory: bool,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { for_memory: error.kind() == io::ErrorKind::OutOfMemory, said: error.to_string() }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingProbe {
    /// Whether a ring opens with the gateway's flags, or what the kernel said.
    pub setup: Result<(), Refusal>,
    /// Operations and features that are missing, by name.
    pub missing: Vec<&'static str>,
    /// Those of [`OPTIONAL`] that are missing.
    pub without: Vec<&'static str>,
    /// Whether a table of [`limits::RING_PLACES`] direct descriptors is accepted, or what the kernel said.
    pub table: Result<(), Refusal>,
}

impl RingProbe {
    /// Opens a ring as the gateway does, asks it, and closes it.
    pub fn of_this_kernel() -> Self {
        let ring: IoUring = match IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(limits::RING_COMPLETIONS)
            .build(limits::RING_SUBMISSIONS)
        {
            Ok(ring) => ring,
            Err(error) => {
                let refusal = Refusal::from(error);
                let setup = Err(refusal.clone());
                return Self { setup, missing: Vec::new(), without: Vec::new(), table: Err(refusal) };
            }
        };
        let table = ring.submitter().register_files_sparse(limits::RING_PLACES as u32);
        let (missing, without) = missing(&ring);
        Self { setup: Ok(()), missing, without, table: table.map_err(Refusal::from) }
    }
}

/// Multishot poll, receive and accept have no bit of their own; they are older than `DEFER_TASKRUN` (6.1), without which
/// no ring opens here.
fn missing(ring: &IoUring) -> (Vec<&'static str>, Vec<&'static str>) {
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe).is_ok();
    let missing_of = |operations: &[(&'static str, u8)]| -> Vec<&'static str> {
        let missing = operations.iter().filter(|(_, code)| !asked || !probe.is_supported(*code));
        missing.map(|(name, _)| *name).collect()
    };
    let mut missing = missing_of(OPERATIONS);
    let features = ring.params();
    if !features.is_feature_nodrop() {
        missing.push("FEAT_NODROP");
    }
    if !features.is_feature_ext_arg() {
        missing.push("FEAT_EXT_ARG");
    }
    (missing, missing_of(OPTIONAL))
}
