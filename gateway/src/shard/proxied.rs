//! Connections behind a proxy that says whose they are: the header that comes first on each, and the address it tells, kept beside the
//! slots so that a slot stays as small as it is where no proxy is.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use rustc_hash::FxBuildHasher;

use super::{
    Shard,
    input::Source,
    slot::{Life, UNPROXIED},
    trace::Step,
};
use crate::{
    conn::{BadProxyHeader, Proxied, parse_proxy},
    limits,
    ring::Ring,
};

/// Addresses of clients by slot, in pages that are there while one of their slots has an address; and headers of which a part has come.
///
/// Invariant: `Page::used` of its entries are `Some`, and no page without any is kept.
#[derive(Default)]
pub struct Clients {
    pages: Vec<Option<Page>>,
    used: u64,
    partial: HashMap<u32, Vec<u8>, FxBuildHasher>,
}

const PAGE_SLOTS: usize = 1_024;

/// An address without what `SocketAddr` keeps of IPv6 besides: 20 bytes in place of 32.
type Entry = Option<(IpAddr, u16)>;

const _: () = assert!(size_of::<Entry>() == 20, "what docs/MEMORY.md says of an address");

struct Page {
    entries: Box<[Entry]>,
    used: usize,
}

impl Clients {
    /// Takes input of a connection whose header has not come whole: the header, with the bytes of this input that belong to it.
    ///
    /// # Errors
    /// It is no header, or there are too many of which only a part has come.
    fn receive(&mut self, slot: u32, input: &[u8]) -> Result<Option<Proxied>, BadProxyHeader> {
        let Some(mut partial) = self.partial.remove(&slot) else {
            let proxied = parse_proxy(input)?;
            if proxied.is_none() {
                self.keep(slot, input.to_vec())?;
            }
            return Ok(proxied);
        };
        let before = partial.len();
        let room = limits::PROXY_HEADER_BYTES_MAX - before;
        partial.extend_from_slice(&input[..input.len().min(room)]);
        match parse_proxy(&partial)? {
            Some(proxied) => Ok(Some(Proxied { bytes: proxied.bytes - before, ..proxied })),
            None => self.keep(slot, partial).map(|()| None),
        }
    }

    fn keep(&mut self, slot: u32, partial: Vec<u8>) -> Result<(), BadProxyHeader> {
        if self.partial.len() >= limits::PROXY_PARTIAL_MAX {
            return Err(BadProxyHeader::Invalid);
        }
        self.partial.insert(slot, partial);
        Ok(())
    }

    fn remember(&mut self, slot: u32, client: SocketAddr) {
        let (number, place) = (slot as usize / PAGE_SLOTS, slot as usize % PAGE_SLOTS);
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, || None);
        }
        let page = self.pages[number]
            .get_or_insert_with(|| Page { entries: vec![None; PAGE_SLOTS].into_boxed_slice(), used: 0 });
        if page.entries[place].replace((client.ip(), client.port())).is_none() {
            page.used += 1;
            self.used += 1;
        }
    }

    /// The address a proxy told for the connection in `slot`.
    pub fn address(&self, slot: u32) -> Option<SocketAddr> {
        let page = self.pages.get(slot as usize / PAGE_SLOTS)?.as_ref()?;
        page.entries[slot as usize % PAGE_SLOTS].map(SocketAddr::from)
    }

    /// The connection in `slot` is gone.
    pub fn forget(&mut self, slot: u32) {
        if !self.partial.is_empty() {
            self.partial.remove(&slot);
        }
        let number = slot as usize / PAGE_SLOTS;
        let Some(Some(page)) = self.pages.get_mut(number) else { return };
        if page.entries[slot as usize % PAGE_SLOTS].take().is_some() {
            page.used -= 1;
            self.used -= 1;
        }
        if page.used == 0 {
            self.pages[number] = None;
            while self.pages.last().is_some_and(Option::is_none) {
                self.pages.pop();
            }
        }
    }

    /// Addresses kept.
    pub fn used(&self) -> u64 {
        self.used
    }
}

impl<R: Ring> Shard<R> {
    /// How many bytes of a connection's input belong to the header of its proxy; `None` when there is nothing else to look at.
    #[inline]
    pub(super) fn past_proxy_header(&mut self, slot: u32, input: &Source<'_>) -> Option<usize> {
        if self.slab[slot].flags.has(UNPROXIED) { self.take_proxy_header(slot, input) } else { Some(0) }
    }

    #[cold]
    fn take_proxy_header(&mut self, slot: u32, input: &Source<'_>) -> Option<usize> {
        if self.slab[slot].life != Life::Live {
            return None;
        }
        let input: &[u8] = match input {
            Source::Buffer(buffer, bytes) => self.parts.ring.buffer(*buffer, *bytes),
            Source::Kept(bytes) => bytes,
        };
        let (length, taken) = (input.len(), self.clients.receive(slot, input));
        match taken {
            Ok(None) => None,
            Ok(Some(Proxied { client, bytes })) => {
                self.slab[slot].flags.set(UNPROXIED, false);
                if let Some(client) = client {
                    self.clients.remember(slot, client);
                }
                self.trace(slot, Step::Proxied);
                (bytes < length).then_some(bytes)
            }
            Err(bad) => {
                self.parts.stats.proxy_headers_refused.add(1);
                self.trace(slot, Step::Unproxied(bad));
                // Nothing is said: whoever it is, it does not speak for a client of ours.
                self.end(slot);
                self.touch(slot);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(last: u8) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C".to_vec();
        header.extend([203, 0, 113, last, 192, 0, 2, 1, 156, 64, 35, 40]);
        header
    }

    fn client(last: u8) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, last], 40_000))
    }

    #[test]
    fn a_header_in_pieces_is_put_together_and_what_follows_it_is_left() {
        let whole = [&header(7)[..], b"GET"].concat();
        for cut in 1..header(7).len() {
            let mut clients = Clients::default();
            assert_eq!(clients.receive(3, &whole[..cut]), Ok(None));
            let rest = Proxied { client: Some(client(7)), bytes: header(7).len() - cut };
            assert_eq!(clients.receive(3, &whole[cut..]), Ok(Some(rest)), "cut at {cut}");
            assert!(clients.partial.is_empty());
        }
        let mut clients = Clients::default();
        for byte in &header(7)[..27] {
            assert_eq!(clients.receive(3, &[*byte]), Ok(None));
        }
        assert_eq!(clients.receive(3, &header(7)[27..]).map(|proxied| proxied.map(|p| p.bytes)), Ok(Some(1)));
    }

    #[test]
    fn headers_of_which_a_part_has_come_are_bounded_and_given_back() {
        let mut clients = Clients::default();
        for slot in 0..limits::PROXY_PARTIAL_MAX as u32 {
            assert_eq!(clients.receive(slot, b"\r\n"), Ok(None));
        }
        let more = limits::PROXY_PARTIAL_MAX as u32;
        assert_eq!(clients.receive(more, b"\r\n"), Err(BadProxyHeader::Invalid));
        assert!(clients.receive(more, &header(1)).is_ok(), "one that comes whole needs no room");
        clients.forget(0);
        assert_eq!(clients.receive(more, b"\r\n"), Ok(None));
        assert_eq!(clients.receive(more, b"x"), Err(BadProxyHeader::Missing));
        assert_eq!(clients.partial.len(), limits::PROXY_PARTIAL_MAX - 1, "a bad one is gone at once");
    }

    #[test]
    fn addresses_are_kept_by_slot_and_their_pages_given_back() {
        let mut clients = Clients::default();
        let slots = [0, 1, PAGE_SLOTS as u32, 5 * PAGE_SLOTS as u32 + 7];
        for (slot, last) in slots.into_iter().zip(1..) {
            assert_eq!(clients.address(slot), None);
            clients.remember(slot, client(last));
        }
        for (slot, last) in slots.into_iter().zip(1..) {
            assert_eq!(clients.address(slot), Some(client(last)));
        }
        assert_eq!((clients.used(), clients.pages.len()), (4, 6));
        clients.forget(slots[3]);
        clients.forget(slots[3]);
        assert_eq!((clients.used(), clients.pages.len()), (3, 2), "the empty ones in between go too");
        clients.forget(u32::MAX - 1);
        for slot in slots {
            clients.forget(slot);
        }
        assert_eq!((clients.used(), clients.pages.len()), (0, 0));
    }
}
