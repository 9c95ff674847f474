//! A client that sends its upgrade request a byte at a time, until the server has had enough (`handshake-drip`).

use super::life::way;
use super::slots::Slot;
use super::{Context, Phase, Session};
use crate::limits::{CONNECT_TIMEOUT, DRIP_ANSWER_BYTES};
use crate::meters::Counters;
use crate::net;
use crate::odd::drip_end;
use crate::ws::WsClient;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio_uring::net::TcpStream;

/// Connects once and drips.
pub(super) async fn drip<S: Session>(context: Rc<Context>, slot: Rc<Slot<S>>) {
    let counters = &context.shared.counters;
    let target = context.shared.options.target.address;
    let connecting =
        tokio::time::timeout(CONNECT_TIMEOUT, net::connect(target, way(&context, slot.client))).await;
    match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            Counters::add(&counters.ready);
            Counters::add(&counters.odd_begun);
            hold(&context, &slot, &TcpStream::from_std(stream)).await;
        }
        Err(error) => {
            context.meters.borrow_mut().error(&format!("cannot connect to {target}: {error}"));
            Counters::add(&counters.failed);
        }
    }
    context.alive.set(context.alive.get() - 1);
}

/// Sends byte after byte until something comes back, or the run stops.
async fn hold<S: Session>(context: &Context, slot: &Slot<S>, stream: &TcpStream) {
    let begun = context.shared.clock.now();
    let request = slot.session.request().map(WsClient::new);
    let Ok(Ok(mut client)) = request else { return context.meters.borrow_mut().error("no upgrade request") };
    let pause = Duration::from_millis(context.shared.options.cli.odd.drip_ms);
    let mut answer = pin!(stream.read(vec![0; DRIP_ANSWER_BYTES]));
    let mut bytes = client.take_output(Vec::new()).into_iter();
    // Ends with an answer or the run; behind the last byte it only waits.
    let (read, buffer) = loop {
        if let Some(byte) = bytes.next() {
            // Where it cannot be written, the reading side tells why.
            let _ = stream.write_all(vec![byte]).await;
        }
        tokio::select! {
            answer = &mut answer => break answer,
            () = tokio::time::sleep(pause) => (),
            () = slot.wake.notified() => {
                // The read ends with it.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    };
    if context.phase.get() == Phase::Stop {
        return;
    }
    let held_us = context.shared.clock.now().saturating_duration_since(begun).as_micros() as u64;
    let answer = read.map(|bytes| &buffer[..bytes]);
    let how = answer.map_or_else(|error| drip_end(Err(error.kind())), |answer| drip_end(Ok(answer)));
    context.drip_ended(held_us, &how);
}
