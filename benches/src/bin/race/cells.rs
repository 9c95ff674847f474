//! What is measured, and what is asked of it.

use crate::server::{Server, Wire};

/// One load on all servers.
pub struct Cell {
    /// On the command line.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What the client does.
    pub load: Load,
    /// By the name of the other server: the ratio that the first one has to reach.
    pub asked: &'static [(&'static str, f64)],
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Messages, and what comes back.
    Echo(Echo),
    /// Connects and upgrades, counted while all stay.
    Upgrades,
    /// Connects, upgrades and says goodbye.
    Churn,
}

/// A closed loop: a message leaves when an echo has come.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// Of each message.
    pub payload_bytes: usize,
    /// Clients.
    pub connections: usize,
    /// Unanswered messages of each.
    pub in_flight: usize,
}

const SMALL: &[(&str, f64)] = &[
    ("uwebsockets", 1.2),
    ("tokio-tungstenite", 1.3),
    ("fastwebsockets", 1.3),
    ("sockudo-ws", 1.3),
    ("ntex", 1.3),
    ("bare", 0.9),
];
const OTHERS: &[(&str, f64)] = &[
    ("uwebsockets", 1.1),
    ("tokio-tungstenite", 1.3),
    ("fastwebsockets", 1.3),
    ("sockudo-ws", 1.3),
    ("ntex", 1.3),
    ("bare", 0.9),
];

/// All of them.
pub const CELLS: &[Cell] = &[
    Cell {
        name: "512x100x1",
        title: "echo 512 B, 100 connections, 1 in flight",
        load: Load::Echo(Echo { payload_bytes: 512, connections: 100, in_flight: 1 }),
        asked: OTHERS,
    },
    Cell {
        name: "16x100x16",
        title: "echo 16 B, 100 connections, 16 in flight",
        load: Load::Echo(Echo { payload_bytes: 16, connections: 100, in_flight: 16 }),
        asked: SMALL,
    },
    Cell {
        name: "128x5000x1",
        title: "echo 128 B, 5,000 connections, 1 in flight",
        load: Load::Echo(Echo { payload_bytes: 128, connections: 5_000, in_flight: 1 }),
        asked: OTHERS,
    },
    Cell {
        name: "upgrades",
        title: "connect and upgrade, 64 at a time, 2,000 held",
        load: Load::Upgrades,
        asked: &[("uwebsockets", 1.2)],
    },
    Cell {
        name: "churn",
        title: "connect, upgrade, Close, closed by the server, 64 at a time",
        load: Load::Churn,
        asked: &[],
    },
];

impl Cell {
    /// The cell of that name.
    ///
    /// # Errors
    /// There is none; the message lists them.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        let names = || CELLS.iter().map(|cell| cell.name).collect::<Vec<_>>().join(", ");
        CELLS.iter().find(|cell| cell.name == name).ok_or_else(|| format!("the cells are {}", names()))
    }

    /// Whether a server can take part: the bare echo has no upgrades.
    pub fn fits(&self, server: &Server) -> bool {
        server.wire == Wire::WebSocket || matches!(self.load, Load::Echo(_))
    }

    /// What the first server has to reach against that one; `bare-poll` is a `bare`.
    pub fn asked_against(&self, name: &str) -> Option<f64> {
        let kind = |asked: &str| {
            name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.asked.iter().find(|(asked, _)| kind(asked)).map(|(_, ratio)| *ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_stands_by_the_name_of_the_other_or_of_its_kind() {
        let small = Cell::named("16x100x16").expect("a cell");
        assert_eq!(small.asked_against("uwebsockets"), Some(1.2));
        assert_eq!(small.asked_against("bare-poll"), Some(0.9));
        assert_eq!(small.asked_against("barely"), None);
        assert!(Cell::named("17x1x1").is_err_and(|message| message.contains("512x100x1, 16x100x16")));
    }
}
