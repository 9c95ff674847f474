//! What a phantom is while nothing happens: 24 bytes.

/// A phantom's connection (RFC 9293 section 3.3.1, the names are the RFC's). What only a busy one needs is in its
/// [`super::Flight`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phantom {
    /// SND.NXT: behind the last sequence number that was ever sent.
    pub(super) snd_nxt: u32,
    /// RCV.NXT: the next sequence number expected.
    pub(super) rcv_nxt: u32,
    /// The flight's number plus one; 0 is none. Without a flight everything sent is acknowledged: SND.UNA = SND.NXT.
    pub(super) flight: u32,
    /// SND.WND: the window the peer offers. No scaling was asked for, so it is the number in the header.
    pub(super) snd_wnd: u16,
    /// The largest segment the peer takes.
    pub(super) mss: u16,
    /// How many connections came before this one, modulo 2^16.
    pub(super) incarnation: u16,
    /// Where the connection stands.
    pub(super) state: State,
    /// Acknowledgements owed ([`ACK_NOW`], [`ACK_LATER`], [`ACK_QUEUED`]), and how it misbehaves ([`OFFERS_LITTLE`], [`STALLED`],
    /// [`SILENT`]).
    pub(super) owed: u8,
    /// Where the session on top of it stands; TCP does not look at it.
    pub stage: Stage,
    /// The session's attempts in a row that failed; likewise.
    pub failures: u8,
}

const _: () = assert!(size_of::<Phantom>() <= 32, "five million phantoms beside the gateway they load");

/// An acknowledgement leaves when the segment that came has been dealt with.
pub(super) const ACK_NOW: u8 = 1;
/// An acknowledgement leaves when its time has come, or with data before.
pub(super) const ACK_LATER: u8 = 2;
/// The phantom stands in the queue of delayed acknowledgements.
pub(super) const ACK_QUEUED: u8 = 4;

/// The phantom offers a small window ([`crate::phantom::limits::SLOW_WINDOW_BYTES`]): it will stop reading one day.
pub(super) const OFFERS_LITTLE: u8 = 8;
/// The phantom does not read.
pub(super) const STALLED: u8 = 16;
/// The phantom says nothing, whatever comes.
pub(super) const SILENT: u8 = 32;
/// What stays from one connection to the next.
pub(super) const LASTING: u8 = ACK_QUEUED | OFFERS_LITTLE;

/// The states of RFC 9293 section 3.3.2, without LISTEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No connection.
    #[default]
    Closed,
    /// SYN sent.
    SynSent,
    /// SYN sent and received, not acknowledged: both sides opened at once.
    SynReceived,
    /// Data both ways.
    Established,
    /// FIN sent, or about to be.
    FinWait1,
    /// FIN sent and acknowledged; the peer may still send.
    FinWait2,
    /// FIN received; we may still send.
    CloseWait,
    /// FIN received and sent, ours not acknowledged, theirs came first.
    LastAck,
    /// FIN received and sent, ours not acknowledged, both closed at once.
    Closing,
    /// Both FINs acknowledged, ours first. It lasts until the phantom opens again: it costs nothing, and its next ISN is
    /// above every sequence number of this connection.
    TimeWait,
}

/// Where a phantom's session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// No connection, and none wanted before somebody asks for it.
    #[default]
    Down,
    /// No connection; a new one is due after a pause.
    Pausing,
    /// SYN sent.
    Connecting,
    /// Upgrade sent.
    Upgrading,
    /// The server agreed; Welcome is to come.
    Greeting,
    /// Ready: frames may be sent.
    Up,
    /// Goodbye was said.
    Leaving,
    /// Given up.
    Failed,
    /// The upgrade request leaves a byte at a time.
    Dripping,
    /// Its part is over: it vanished, or it dripped to the end.
    Done,
}

impl Stage {
    /// Between the SYN and Welcome.
    pub fn is_coming_up(self) -> bool {
        matches!(self, Self::Connecting | Self::Upgrading | Self::Greeting)
    }
}
