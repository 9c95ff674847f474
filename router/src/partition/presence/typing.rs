//! Typing notices: passed on to who is connected, and forgotten.

use super::{Partition, Tx};
use crate::{
    api::UserId,
    error::StoreError,
    log::{Origin, Typed, whisper},
    partition::{frame, home, send::USER_MAX, session_of},
};
use roost_proto::v1::{Address, Code, Typing, TypingNotice, address::To};

/// Whom a Typing is for, where it names a user at all.
pub fn typed_to(typing: &Typing) -> Option<UserId> {
    match typing.to.as_option()?.to.as_ref()? {
        To::User(user) => Some(*user),
        To::Group(_) => None,
    }
}

impl Partition {
    /// In the home of the pair. Who does not talk with the other is answered no differently: it is not for him to know who that
    /// is.
    pub(in crate::partition) fn typing(
        &mut self,
        origin: &Origin,
        typing: &Typing,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let session = session_of(origin);
        let Some(to) = typed_to(typing).filter(|user| (1..=USER_MAX).contains(user)) else {
            tx.out.error(
                session,
                origin.id,
                Code::MALFORMED,
                "to is missing, or not a number from 1 to 2^63-1",
            );
            return Ok(());
        };
        tx.out.done(session, origin.id);
        if to != origin.user && self.presence.asks.take_one() && self.talk(origin.user, to, tx)? {
            let typed = Typed { user: to, from: origin.user, active: typing.active };
            self.whisper(home(to, self.outgoing.len() as u16), whisper::Body::Typed(typed.into()), tx)?;
        }
        Ok(())
    }

    /// In the receiver's home.
    pub(in crate::partition) fn typed(&mut self, typed: &Typed, tx: &mut Tx<'_>) {
        let to = Address { to: Some(To::User(typed.user)) };
        let notice = TypingNotice { user: typed.from, to: to.into(), active: typed.active };
        let mut numbers = std::mem::take(&mut self.numbers);
        self.sessions.of(typed.user, &mut numbers);
        for number in &numbers {
            let session = self.sessions.number_mut(*number).id;
            tx.out.effects.push(frame(session, 0, Some(notice.clone().into())));
        }
        self.numbers = numbers;
    }
}
