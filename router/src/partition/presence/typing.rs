//! Typing notices: passed on to who is connected, and forgotten.

use super::{Partition, Tx};
use crate::{
    api::UserId,
    error::StoreError,
    limits::TYPING_NOTICES_TICK_MAX,
    log::{Origin, Typed, whisper},
    partition::{frame, home, send::USER_MAX, session_of},
};
use roost_proto::v1::{Address, Code, Typing, TypingNotice, address::To};

impl Partition {
    /// In the home of the pair, or of the group. Who does not talk with the other, or is no member, is answered no differently: it is
    /// not for him to know who that is.
    pub(in crate::partition) fn typing(
        &mut self,
        origin: &Origin,
        typing: &Typing,
        tx: &mut Tx<'_>,
    ) -> Result<(), StoreError> {
        let (session, from) = (session_of(origin), origin.user);
        let to = typing.to.as_option().and_then(|address| address.to.as_ref());
        let Some(to) = to.filter(|to| !matches!(to, To::User(user) if !(1..=USER_MAX).contains(user))) else {
            tx.out.error(
                session,
                origin.id,
                Code::MALFORMED,
                "to is missing, or not a number from 1 to 2^63-1",
            );
            return Ok(());
        };
        tx.out.done(session, origin.id);
        let typed = Typed { from, active: typing.active, ..Typed::default() };
        match *to {
            To::User(user)
                if user != from && self.presence.asks.take_one() && self.talk(from, user, tx)? =>
            {
                let typed = Typed { user, ..typed };
                self.whisper(home(user, self.outgoing.len() as u16), whisper::Body::Typed(typed.into()), tx)
            }
            To::User(_) => Ok(()),
            To::Group(group) => {
                let homes = self.homes_of_group(group, from, tx)?;
                homes.into_iter().try_for_each(|to| {
                    let typed = Typed { group, ..typed.clone() };
                    self.whisper(to, whisper::Body::Typed(typed.into()), tx)
                })
            }
        }
    }

    /// In the home of a receiver, or of members.
    pub(in crate::partition) fn typed(&mut self, typed: &Typed, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if typed.group == 0 {
            self.tell_typed(typed.user, To::User(typed.user), typed, tx);
            return Ok(());
        }
        let entries = &self.roster(typed.group, tx)?.entries;
        let others = entries.iter().filter(|entry| entry.until == 0 && entry.user != typed.from);
        for user in others.map(|entry| entry.user).collect::<Vec<_>>() {
            self.tell_typed(user, To::Group(typed.group), typed, tx);
        }
        Ok(())
    }

    fn tell_typed(&mut self, user: UserId, to: To, typed: &Typed, tx: &mut Tx<'_>) {
        let address = Address { to: Some(to) };
        let notice = TypingNotice { user: typed.from, to: address.into(), active: typed.active };
        let mut numbers = std::mem::take(&mut self.numbers);
        self.sessions.of(user, &mut numbers);
        for number in &numbers {
            if self.presence.typed < TYPING_NOTICES_TICK_MAX {
                self.presence.typed += 1;
                let session = self.sessions.number_mut(*number).id;
                tx.out.effects.push(frame(session, 0, Some(notice.clone().into())));
            }
        }
        self.numbers = numbers;
    }
}
