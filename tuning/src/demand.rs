//! What the machine is to be fit for.

use clap::ValueEnum;
use serde::Serialize;

use crate::limits;

/// Which end of the connections the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// It runs `roost-gateway`.
    #[default]
    Gateway,
    /// It runs `roost-loadgen`.
    Loadgen,
}

/// What the clients of the loadgen profile are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A kernel socket each.
    #[default]
    Kernel,
    /// TCP in user space over a TUN device.
    Phantom,
}

/// What is asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// Connections at a time, at most [`limits::CONNECTIONS_MAX`].
    pub connections: u64,
    /// The end it is.
    pub profile: Profile,
    /// Of the loadgen profile: what its clients are.
    pub kind: Kind,
    /// Of the loadgen profile: pairs of a source address and a destination (address and port) that the clients are spread
    /// over; each pair has at most [`limits::PORTS`] connections.
    pub pairs: u64,
}

impl Demand {
    /// `connections` at the gateway's end.
    pub fn gateway(connections: u64) -> Self {
        Self { connections, profile: Profile::Gateway, kind: Kind::Kernel, pairs: 1 }
    }

    /// `connections` clients of `kind`, all from one address to one address and port.
    pub fn loadgen(connections: u64, kind: Kind) -> Self {
        Self { connections, profile: Profile::Loadgen, kind, pairs: 1 }
    }

    /// The same for another number of connections.
    #[must_use]
    pub fn of(self, connections: u64) -> Self {
        Self { connections, ..self }
    }

    /// Whether each connection is a kernel socket on this machine.
    pub fn has_sockets(&self) -> bool {
        self.profile == Profile::Gateway || self.kind == Kind::Kernel
    }

    /// Whether it is the gateway's end.
    pub fn is_gateway(&self) -> bool {
        self.profile == Profile::Gateway
    }

    /// Rings the gateway opens for them, with a spare one for each of a few shards.
    pub fn rings(&self) -> u64 {
        self.connections.div_ceil(limits::RING_PLACES) + 16
    }
}
