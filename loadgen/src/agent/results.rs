//! What a worker hands in, on its way from an agent to the coordinator: histograms in their crate's V2 form, which keeps every bucket, and the
//! ledger ([`crate::ledger::Packed`]). Merged over there it gives what it would have given here.

use super::limits::HISTOGRAM_BYTES_MAX;
use crate::ledger::Packed;
use crate::meters::{Meter, Meters};
use crate::phantom::Tallies;
use crate::schedule::Plan;
use crate::worker::Results;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

/// The V2 form's fixed part: cookie, length of the rest, offset, digits, lowest, highest, ratio (`HdrHistogram`'s V2 encoding).
const V2_HEADER_BYTES: usize = 40;

/// [`Results`] on their way.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PackedResults {
    latency: Vec<u8>,
    latency_sent: Vec<u8>,
    latency_offline: Vec<u8>,
    latency_slow: Vec<u8>,
    held: Vec<u8>,
    lag: Vec<u8>,
    write: Vec<u8>,
    connect: Vec<u8>,
    late: u64,
    left_late: u64,
    errors: Vec<(String, u64)>,
    ends: Vec<(String, u64)>,
    ledger: Packed,
}

/// The bytes of what a worker hands in.
///
/// # Errors
/// In a sentence; only where memory's or the format's bounds are reached.
pub fn pack(results: &Results) -> Result<Vec<u8>, String> {
    let Results { meters, ledger, tallies: _ } = results;
    let packed = PackedResults {
        latency: pack_histogram(&meters.latency.sum())?,
        latency_sent: pack_histogram(&meters.latency_sent.sum())?,
        latency_offline: pack_histogram(&meters.latency_offline.sum())?,
        latency_slow: pack_histogram(&meters.latency_slow.sum())?,
        held: pack_histogram(&meters.held.sum())?,
        lag: pack_histogram(&meters.lag.sum())?,
        write: pack_histogram(&meters.write)?,
        connect: pack_histogram(&meters.connect.sum())?,
        late: meters.late,
        left_late: meters.left_late,
        errors: meters.errors().to_vec(),
        ends: meters.ends().to_vec(),
        ledger: ledger.pack(),
    };
    postcard::to_stdvec(&packed).map_err(|error| error.to_string())
}

/// What a worker of another process handed in. Its phantoms are none: agents have kernel sockets.
///
/// # Errors
/// In a sentence, where the bytes are no results of this schedule.
pub fn unpack(bytes: &[u8], plan: &Plan) -> Result<Results, String> {
    let packed: PackedResults =
        postcard::from_bytes(bytes).map_err(|error| format!("its results cannot be read ({error})"))?;
    let mut meters = Meters::new(0);
    for (meter, bytes) in [
        (&mut meters.latency, &packed.latency),
        (&mut meters.latency_sent, &packed.latency_sent),
        (&mut meters.latency_offline, &packed.latency_offline),
        (&mut meters.latency_slow, &packed.latency_slow),
        (&mut meters.held, &packed.held),
        (&mut meters.lag, &packed.lag),
        (&mut meters.connect, &packed.connect),
    ] {
        *meter = Meter::of(unpack_histogram(bytes, &meters.write)?);
    }
    meters.write = unpack_histogram(&packed.write, &meters.write)?;
    (meters.late, meters.left_late) = (packed.late, packed.left_late);
    for (text, count) in &packed.errors {
        meters.take_error(text, *count);
    }
    for (how, count) in &packed.ends {
        meters.take_end(how, *count);
    }
    Ok(Results { meters, ledger: packed.ledger.unpack(plan)?, tallies: Tallies::default() })
}

fn pack_histogram(histogram: &Histogram<u64>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The histogram of these bytes, where it has the bounds of `like`.
fn unpack_histogram(bytes: &[u8], like: &Histogram<u64>) -> Result<Histogram<u64>, String> {
    let odd = || "its results hold a histogram that is none of ours".to_owned();
    // The crate believes the length that the bytes tell: it has to be theirs, before anything is reserved for it.
    let length = bytes.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    let fits = length.is_some_and(|length| length as usize + V2_HEADER_BYTES == bytes.len());
    // The bounds, too: they are what memory is reserved for.
    let bounds = [like.low().to_be_bytes(), like.high().to_be_bytes()].concat();
    let ours = bytes.get(16..32) == Some(&bounds) && bytes.get(15) == Some(&like.sigfig());
    if !fits || !ours || bytes.len() > HISTOGRAM_BYTES_MAX {
        return Err(odd());
    }
    Deserializer::new().deserialize(&mut &bytes[..]).map_err(|_| odd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::schedule::{Arrivals, Odd, PlanParams, To};
    use proptest::prelude::*;
    use roost_proto::v1::Mark;

    fn plan(to: To) -> Plan {
        let params = PlanParams {
            clients: 6,
            rate_per_s: 50.0,
            duration_s: 1,
            payload_bytes: 28,
            seed: 3,
            arrivals: Arrivals::Uniform,
            offline_share: 0.0,
            user_base: 1000,
            to,
            odd: Odd::default(),
        };
        Plan::build(params).unwrap()
    }

    fn results(plan: &Plan) -> Results {
        Results { meters: Meters::new(10), ledger: Ledger::of(plan), tallies: Tallies::default() }
    }

    #[test]
    fn merged_histograms_are_the_histogram_of_all_values() {
        let plan = plan(To::OneOther);
        let mut all = Meters::new(10);
        let mut merged = Meters::new(0);
        for worker in 0..5_u64 {
            let mut one = results(&plan);
            for at in 0..2000_u64 {
                // From below a microsecond to above the largest that fits.
                let us = (at * 7919 + worker) * (at % 13).pow(5);
                for meters in [&mut all, &mut one.meters] {
                    meters.latency.saturating_record(us);
                    meters.latency_offline.saturating_record(us / 3);
                    meters.latency_slow.saturating_record(us / 5);
                    meters.ended(us / 7, &format!("HTTP {}", us % 2));
                    meters.lagged(us % 23);
                    meters.error(&format!("error {}", us % 3));
                }
            }
            let bytes = pack(&one).unwrap();
            merged.merge(&unpack(&bytes, &plan).unwrap().meters);
        }
        for (merged, all) in [
            (&merged.latency, &all.latency),
            (&merged.latency_sent, &all.latency_sent),
            (&merged.latency_offline, &all.latency_offline),
            (&merged.latency_slow, &all.latency_slow),
            (&merged.held, &all.held),
            (&merged.lag, &all.lag),
        ] {
            let (merged, all) = (merged.sum(), all.sum());
            assert_eq!(merged, all);
            assert_eq!((merged.min(), merged.max(), merged.len()), (all.min(), all.max(), all.len()));
        }
        assert!(all.late > 0 && all.latency.len() == 10_000);
        assert_eq!((merged.late, merged.errors().len()), (all.late, all.errors().len()));
        let sum = |ends: &[(String, u64)]| ends.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!((sum(merged.ends()), merged.ends().len()), (sum(all.ends()), 2));
    }

    #[test]
    fn ledgers_give_the_same_tally_over_the_wire_as_beside_each_other() {
        for to in [To::OneOther, To::Group { size: 3 }] {
            let plan = plan(to);
            let sides = || {
                let (mut one, mut two) = (results(&plan), results(&plan));
                for index in 0..plan.len() as u32 {
                    let sender = plan.sender[index as usize];
                    let id = u64::from(index) + 100;
                    one.ledger.handed(index);
                    if index == 1 {
                        one.ledger.refused(index);
                        continue;
                    }
                    one.ledger.answered(&plan, index, id);
                    let receivers = (0..6).filter(|&client| plan.receives(index, plan.user(client)));
                    // Message 7 is lost on its way to all; what arrives of 9 arrives again.
                    for receiver in receivers.filter(|_| index != 7) {
                        two.ledger.event(receiver, id);
                        two.ledger.delivered(&plan, receiver, id, index, id);
                        if index == 9 {
                            two.ledger.delivered(&plan, receiver, id + 1000, index, id);
                        }
                        // A receipt of which the other side knows the message.
                        two.ledger.receipt(&plan, sender, Mark::DELIVERED, plan.user(receiver), id);
                    }
                }
                one.ledger.welcomed(0, 0, 0);
                two.ledger.violation();
                [one, two]
            };
            let mut beside = Ledger::of(&plan);
            for side in sides() {
                beside.merge(side.ledger);
            }
            let mut over = Ledger::of(&plan);
            for side in sides() {
                over.merge(unpack(&pack(&side).unwrap(), &plan).unwrap().ledger);
            }
            let (beside, over) = (beside.tally(&plan), over.tally(&plan));
            assert_eq!(beside, over);
            assert!(
                over.lost > 0 && over.duplicated > 0 && over.refused == 1 && over.violations > 0,
                "{over:?}"
            );
            assert!(over.receipts_delivered > 10, "{over:?}");
        }
    }

    #[test]
    fn what_a_schedule_does_not_have_is_refused() {
        let (small, large) = (plan(To::OneOther), plan(To::Group { size: 3 }));
        let mut of_groups = results(&large);
        of_groups.ledger.delivered(&large, 1, 1, 0, 5);
        let error = unpack(&pack(&of_groups).unwrap(), &small).err().unwrap();
        assert!(error.contains("groups"), "{error}");
        let longer = Plan::build(PlanParams { duration_s: 9, ..small.params.clone() }).unwrap();
        let mut late = results(&longer);
        late.ledger.handed(longer.len() as u32 - 1);
        let error = unpack(&pack(&late).unwrap(), &small).err().unwrap();
        assert!(error.contains("message"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_reserve_without_bound(at in 0_usize..400, flip in 1_u8.., cut in 0_usize..400, noise: Vec<u8>) {
            let plan = plan(To::Group { size: 3 });
            let mut whole = results(&plan);
            whole.meters.latency.saturating_record(77);
            whole.ledger.handed(3);
            whole.ledger.delivered(&plan, 1, 1, 0, 5);
            let mut bytes = pack(&whole).unwrap();
            let place = at % bytes.len();
            bytes[place] ^= flip;
            bytes.truncate(bytes.len() - cut % bytes.len() / 2);
            for bytes in [&bytes, &noise] {
                if let Ok(results) = unpack(bytes, &plan) {
                    let mut ledger = Ledger::of(&plan);
                    ledger.merge(results.ledger);
                    ledger.tally(&plan);
                }
            }
        }
    }
}
