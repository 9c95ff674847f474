//! The opening handshake of one connection, RFC 6455 section 4.2.

use std::{hash::Hasher as _, num::NonZeroU64};

use roost_proto::{
    codec::Encoding,
    handshake::{self, Refusal, Upgrade},
};
use rustc_hash::FxHasher;

use super::{Allowance, Ask, Backend, Conn, EncodingCell, Identity, Next, Note, Phase, Rules, Turn};
use crate::limits;

/// Where the product's WebSocket lives.
pub const PATH: &str = "/v1/ws";

/// What an accepted upgrade settles.
struct Settled {
    identity: Option<Identity>,
    encoding: Encoding,
    consumed: usize,
}

impl Conn {
    /// Takes (a part of) the request head; what follows a whole head are frames already.
    pub(super) fn receive_head(&mut self, input: &mut [u8], rules: &Rules, turn: &mut Turn<'_>) -> Next {
        if self.partial.is_none() {
            // The usual case: the whole head in one segment.
            return match settle(input, self.phase, rules, turn.out) {
                Ok(Some(settled)) => {
                    let consumed = settled.consumed;
                    self.upgraded(&settled, turn);
                    self.receive_after_head(&mut input[consumed..], rules, turn)
                }
                Ok(None) => self.hold_head(input, rules, turn),
                Err(refusal) => self.refuse(refusal, turn),
            };
        }
        if !self.assemble(input, rules, turn.assembly_bytes) {
            return self.refuse(unavailable(input), turn);
        }
        let mut head =
            self.partial.as_mut().map(|partial| std::mem::take(&mut partial.bytes)).unwrap_or_default();
        *turn.assembly_bytes -= head.capacity();
        match settle(&head, self.phase, rules, turn.out) {
            Ok(Some(settled)) => {
                self.partial = None;
                self.upgraded(&settled, turn);
                self.receive_after_head(&mut head[settled.consumed..], rules, turn)
            }
            Ok(None) => {
                *turn.assembly_bytes += head.capacity();
                if let Some(partial) = &mut self.partial {
                    partial.bytes = head;
                }
                Next::Stay
            }
            Err(refusal) => self.refuse(refusal, turn),
        }
    }

    fn hold_head(&mut self, input: &[u8], rules: &Rules, turn: &mut Turn<'_>) -> Next {
        if self.assemble(input, rules, turn.assembly_bytes) {
            return Next::Stay;
        }
        self.refuse(unavailable(input), turn)
    }

    fn upgraded(&mut self, settled: &Settled, turn: &mut Turn<'_>) {
        self.phase = if settled.identity.is_some() { Phase::Attaching } else { Phase::Open };
        self.encoding = match settled.encoding {
            Encoding::Proto => EncodingCell::Proto,
            Encoding::Json => EncodingCell::Json,
        };
        self.user = settled.identity.and_then(|identity| NonZeroU64::new(identity.user));
        self.device = settled.identity.map_or(0, |identity| identity.device);
        self.allowance = Allowance::full(turn.now);
        turn.notes.push(Note::Upgraded);
        if self.user.is_some() {
            turn.asks.push(Ask::Attach);
        }
    }

    fn receive_after_head(&mut self, rest: &mut [u8], rules: &Rules, turn: &mut Turn<'_>) -> Next {
        if rest.is_empty() { Next::Stay } else { self.receive(rest, rules, turn) }
    }

    fn refuse(&mut self, refusal: Refusal, turn: &mut Turn<'_>) -> Next {
        turn.notes.push(Note::Refused(refusal.status()));
        refusal.write(turn.out);
        self.end(turn.assembly_bytes);
        Next::Finish
    }
}

/// Judges a head; writes the 101 when it is whole and right.
fn settle(head: &[u8], phase: Phase, rules: &Rules, out: &mut Vec<u8>) -> Result<Option<Settled>, Refusal> {
    let Some((upgrade, consumed)) = handshake::parse(head)? else {
        return Ok(None);
    };
    if phase == Phase::Refusing {
        return Err(unavailable(upgrade.key.as_bytes()));
    }
    let (identity, encoding, sub_protocol) = match &rules.backend {
        Backend::Echo => (None, Encoding::Json, upgrade.protocols().next()),
        Backend::Router(authenticator) => {
            if upgrade.path != PATH {
                return Err(Refusal::NotFound);
            }
            let (encoding, sub_protocol) = choose_encoding(&upgrade)?;
            (Some(authenticator.authenticate(&upgrade)?), encoding, sub_protocol)
        }
    };
    handshake::write_accept(upgrade.key, sub_protocol, out);
    Ok(Some(Settled { identity, encoding, consumed }))
}

/// 503 with a time to come back that what the client sent chooses: its nonce is random (RFC 6455 section 4.1), so those who are refused
/// together come back apart.
fn unavailable(sent: &[u8]) -> Refusal {
    let (least, most) = limits::REFUSED_RETRY_S;
    let mut hasher = FxHasher::default();
    hasher.write(sent);
    let spread = hasher.finish() % u64::from(most - least + 1);
    Refusal::Unavailable { retry_after_s: least + spread as u32 }
}

/// The first of the client's sub-protocols that we speak; JSON for a client that names none, so that a program with
/// any WebSocket library gets along. Naming only others is an error a developer wants to hear about.
fn choose_encoding(upgrade: &Upgrade<'_>) -> Result<(Encoding, Option<&'static str>), Refusal> {
    let mut offered = false;
    for protocol in upgrade.protocols() {
        offered = true;
        if let Some(encoding) = Encoding::from_sub_protocol(protocol) {
            return Ok((encoding, Some(encoding.sub_protocol())));
        }
    }
    if offered {
        return Err(Refusal::BadRequest(
            "none of the sub-protocols is known here; use roost.v1.json or roost.v1.proto",
        ));
    }
    Ok((Encoding::Json, None))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn those_refused_together_come_back_apart() {
        let (least, most) = limits::REFUSED_RETRY_S;
        let told: BTreeSet<u32> = (0..2_000_u32)
            .map(|client| match unavailable(format!("AAAAAAAAAAAAAAAAAA{client:04}==").as_bytes()) {
                Refusal::Unavailable { retry_after_s } => retry_after_s,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(told.iter().copied().eq(least..=most), "{told:?}");
    }
}
