//! A client's life: connections, the pauses between them, and attempts in a row, which are bounded.

use super::slots::Slot;
use super::{Context, Next, Phase, Session};
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, CONNECT_ATTEMPTS_MAX, SERVER_PAUSE_MAX, SLOW_RECEIVE_BYTES};
use crate::link::{Link, LinkError};
use crate::meters::Counters;
use crate::net::Way;
use rand::RngExt;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A client's life: connected while it is meant to be, until the run stops or it gives up.
pub(super) async fn live<S: Session>(context: Rc<Context>, slot: Rc<Slot<S>>) {
    let mut failures = 0;
    let mut connected_once = false;
    // Each round is a connection, an attempt at one, or a pause; attempts in a row are bounded.
    while context.phase.get() != Phase::Stop {
        if !slot.online.get() {
            slot.wake.notified().await;
            continue;
        }
        let pause = match connect(&context, &slot).await {
            Ok(link) => {
                if std::mem::replace(&mut connected_once, true) {
                    Counters::add(&context.shared.counters.reconnects);
                }
                failures = 0;
                hold(&context, &slot, link).await
            }
            Err(error) => {
                context.meters.borrow_mut().error(&error.to_string());
                failures += 1;
                if error.is_final() || failures >= CONNECT_ATTEMPTS_MAX {
                    Counters::add(&context.shared.counters.failed);
                    break;
                }
                backoff(failures)
            }
        };
        // Ends early where the run stops.
        let _ = tokio::time::timeout(pause, slot.wake.notified()).await;
    }
    context.alive.set(context.alive.get() - 1);
}

async fn connect<S: Session>(context: &Context, slot: &Slot<S>) -> Result<Rc<Link>, LinkError> {
    let Ok(_turn) = context.connecting.acquire().await else { return Err(LinkError::Ended) };
    let options = &context.shared.options;
    let request = slot.session.request().map_err(|error| LinkError::Io(std::io::Error::other(error)))?;
    Link::open(options.target.address, way(context, slot.client), request, &context.link).await
}

/// How a client's connection is made.
pub(super) fn way(context: &Context, client: u32) -> Way {
    let options = &context.shared.options;
    Way {
        source: options.target.source(client, options.cli.source_addresses),
        receive_bytes: context.shared.plan.is_slow(client).then_some(SLOW_RECEIVE_BYTES),
    }
}

/// Holds a connection until it ends; the pause before the next one comes back.
async fn hold<S: Session>(context: &Context, slot: &Slot<S>, link: Rc<Link>) -> Duration {
    let counters = &context.shared.counters;
    *slot.link.borrow_mut() = Some(link.clone());
    counters.open.fetch_add(1, Relaxed);
    slot.session.opened(&link);
    // The schedule or the end of the run may have wanted the client away while it connected.
    if !slot.online.get() {
        link.cut();
    }
    let mut pause = Duration::ZERO;
    let end = loop {
        let message = match link.next().await {
            Ok(message) => message,
            Err(error) => break error.to_string(),
        };
        match slot.session.message(&link, &message) {
            Ok(Next::Continue) => (),
            Ok(Next::Reconnect(after)) => {
                pause = after.min(SERVER_PAUSE_MAX);
                link.cut();
            }
            Err(error) => {
                context.ledger.borrow_mut().violation();
                break error;
            }
        }
    };
    counters.open.fetch_sub(1, Relaxed);
    *slot.link.borrow_mut() = None;
    slot.session.closed();
    if !link.is_closing() {
        link.cut();
        Counters::add(&counters.dropped);
        context.meters.borrow_mut().error(&end);
        pause = pause.max(backoff(1));
    }
    pause
}

/// The pause before attempt `failures + 1`: doubled each time, half of it at random (RFC 6455 section 7.2.3).
fn backoff(failures: u32) -> Duration {
    let full = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    full.mul_f64(rand::rng().random_range(0.5..1.0))
}
