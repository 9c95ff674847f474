//! The ledger turns red for each thing it is there to find, and only then.

use roost_loadgen::ledger::{Delivery, Ledger, Tally};
use roost_loadgen::schedule::{Arrivals, Odd, Plan, PlanParams, To};
use roost_proto::v1::Mark;

/// Two clients, a handful of messages; `from_first` are those of client 0 to client 1, in order.
fn plan() -> (Plan, Vec<u32>) {
    let plan = Plan::build(PlanParams {
        clients: 2,
        rate_per_s: 20.0,
        duration_s: 1,
        payload_bytes: 64,
        seed: 3,
        arrivals: Arrivals::Uniform,
        offline_share: 0.0,
        user_base: 100,
        to: To::OneOther,
        odd: Odd::default(),
    })
    .unwrap();
    let from_first =
        (0..plan.len() as u32).filter(|&index| plan.sender[index as usize] == 0).collect::<Vec<_>>();
    assert!(from_first.len() >= 3);
    (plan, from_first)
}

/// A ledger in which both clients are welcomed to an empty store.
fn ledger(plan: &Plan) -> Ledger {
    let mut ledger = Ledger::new(plan.len());
    ledger.welcomed(0, 0, 0);
    ledger.welcomed(1, 0, 0);
    ledger
}

/// Sends, answers and delivers `index` as the event `seq`.
fn exchange(ledger: &mut Ledger, plan: &Plan, index: u32, seq: u64) -> Delivery {
    ledger.handed(index);
    ledger.answered(plan, index, 1000 + u64::from(index));
    assert!(ledger.event(1, seq));
    ledger.delivered(plan, 1, seq, index, 1000 + u64::from(index))
}

#[test]
fn an_exchange_without_fault_is_clean_and_counted() {
    let (plan, own) = plan();
    let mut ledger = ledger(&plan);
    assert_eq!(exchange(&mut ledger, &plan, own[0], 1), Delivery::First);
    assert!(ledger.receipt(&plan, 0, Mark::DELIVERED, plan.user(1), 1000 + u64::from(own[0])));
    assert!(ledger.receipt(&plan, 0, Mark::READ, plan.user(1), 1000 + u64::from(own[0])));
    let tally = ledger.tally(&plan);
    assert!(tally.is_clean(), "{tally:?}");
    let expected = Tally {
        sent: 1,
        answered: 1,
        received: 1,
        receipts_delivered: 1,
        receipts_read: 1,
        unanswered: plan.len() as u64 - 1,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
}

#[test]
fn answered_and_never_delivered_is_lost_but_unanswered_is_not() {
    let (plan, own) = plan();
    let mut ledger = ledger(&plan);
    ledger.handed(own[0]);
    ledger.answered(&plan, own[0], 1);
    ledger.handed(own[1]);
    let tally = ledger.tally(&plan);
    assert_eq!((tally.lost, tally.is_clean()), (1, false));
}

#[test]
fn delivered_twice_in_one_session_is_doubled() {
    let (plan, own) = plan();
    let mut ledger = ledger(&plan);
    exchange(&mut ledger, &plan, own[0], 1);
    assert!(!ledger.event(1, 1), "the same place in the stream again");
    let tally = ledger.tally(&plan);
    assert_eq!((tally.duplicated, tally.is_clean()), (1, false));
}

#[test]
fn stored_twice_is_doubled() {
    let (plan, own) = plan();
    let mut ledger = ledger(&plan);
    exchange(&mut ledger, &plan, own[0], 1);
    assert_eq!(exchange(&mut ledger, &plan, own[0], 2), Delivery::Duplicated);
    let tally = ledger.tally(&plan);
    assert_eq!((tally.duplicated, tally.is_clean()), (1, false));
}

#[test]
fn delivered_again_after_its_acknowledgement_is_doubled() {
    let (plan, own) = plan();
    let mut ledger = ledger(&plan);
    exchange(&mut ledger, &plan, own[0], 1);
    ledger.acknowledged(1, 1);
    ledger.welcomed(1, 1, 1);
    assert!(!ledger.event(1, 1));
    assert_eq!(ledger.tally(&plan).duplicated, 1);
}

#[test]
fn delivered_again_unacknowledged_after_a_reconnect_is_redelivered_and_clean() {
    let (plan, own) = plan();
    let mut ledger = ledger(&plan);
    exchange(&mut ledger, &plan, own[0], 1);
    ledger.welcomed(1, 0, 1);
    assert!(ledger.event(1, 1));
    assert_eq!(ledger.delivered(&plan, 1, 1, own[0], 1000 + u64::from(own[0])), Delivery::Redelivered);
    let tally = ledger.tally(&plan);
    assert_eq!((tally.redelivered, tally.duplicated, tally.is_clean()), (1, 0, true));
}

#[test]
fn a_later_message_before_an_earlier_one_is_disordered_unless_it_had_been_refused() {
    let (plan, own) = plan();
    let mut ledger1 = ledger(&plan);
    exchange(&mut ledger1, &plan, own[1], 1);
    exchange(&mut ledger1, &plan, own[0], 2);
    let tally = ledger1.tally(&plan);
    assert_eq!((tally.out_of_order, tally.is_clean()), (1, false));

    let mut ledger2 = ledger(&plan);
    ledger2.postponed(own[0]);
    exchange(&mut ledger2, &plan, own[1], 1);
    exchange(&mut ledger2, &plan, own[0], 2);
    assert!(ledger2.tally(&plan).is_clean());
}

#[test]
fn a_receipt_for_what_was_never_sent_or_by_a_stranger_is_wrong() {
    let (plan, own) = plan();
    let mut ledger1 = ledger(&plan);
    ledger1.receipt(&plan, 0, Mark::DELIVERED, plan.user(1), 77);
    assert_eq!(ledger1.tally(&plan).receipts_wrong, 1);

    let mut ledger2 = ledger(&plan);
    exchange(&mut ledger2, &plan, own[0], 1);
    ledger2.receipt(&plan, 0, Mark::READ, 999, 1000 + u64::from(own[0]));
    assert_eq!(ledger2.tally(&plan).receipts_wrong, 1);

    let mut ledger3 = ledger(&plan);
    ledger3.handed(own[0]);
    ledger3.answered(&plan, own[0], 5);
    ledger3.receipt(&plan, 0, Mark::DELIVERED, plan.user(1), 5);
    assert_eq!(ledger3.tally(&plan).receipts_wrong, 1, "confirmed, but it never arrived");
}

#[test]
fn a_receipt_that_overtakes_its_answer_is_settled_at_the_end() {
    let (plan, own) = plan();
    let mut ledger = ledger(&plan);
    ledger.receipt(&plan, 0, Mark::DELIVERED, plan.user(1), 1000 + u64::from(own[0]));
    exchange(&mut ledger, &plan, own[0], 1);
    let tally = ledger.tally(&plan);
    assert_eq!((tally.receipts_delivered, tally.receipts_missing, tally.is_clean()), (1, 0, true));
}

#[test]
fn a_cursor_that_goes_back_or_beyond_what_was_acknowledged_is_a_violation() {
    let (plan, own) = plan();
    let mut ledger1 = ledger(&plan);
    exchange(&mut ledger1, &plan, own[0], 1);
    ledger1.acknowledged(1, 1);
    ledger1.welcomed(1, 1, 1);
    ledger1.welcomed(1, 0, 1);
    assert_eq!(ledger1.tally(&plan).violations, 1);

    let mut ledger2 = ledger(&plan);
    ledger2.welcomed(1, 9, 9);
    assert_eq!(ledger2.tally(&plan).violations, 1);
}

#[test]
fn another_receiver_another_number_or_an_unsent_message_is_a_violation() {
    let (plan, own) = plan();
    let mut ledger1 = ledger(&plan);
    ledger1.handed(own[0]);
    ledger1.answered(&plan, own[0], 1);
    ledger1.event(0, 1);
    ledger1.delivered(&plan, 0, 1, own[0], 1);
    assert_eq!(ledger1.tally(&plan).violations, 1);

    let mut ledger2 = ledger(&plan);
    ledger2.handed(own[0]);
    ledger2.answered(&plan, own[0], 1);
    ledger2.answered(&plan, own[0], 2);
    ledger2.event(1, 1);
    ledger2.delivered(&plan, 1, 1, own[0], 1);
    assert_eq!(ledger2.tally(&plan).violations, 1);

    let mut ledger3 = ledger(&plan);
    ledger3.event(1, 1);
    ledger3.delivered(&plan, 1, 1, own[0], 1);
    assert_eq!(ledger3.tally(&plan).violations, 1);
}

#[test]
fn two_workers_ledgers_give_one_verdict() {
    let (plan, own) = plan();
    let (mut senders, mut receivers) = (Ledger::new(plan.len()), Ledger::new(plan.len()));
    senders.welcomed(0, 0, 0);
    receivers.welcomed(1, 0, 0);
    for (at, &index) in own.iter().enumerate() {
        senders.handed(index);
        senders.answered(&plan, index, 50 + u64::from(index));
        if at > 0 {
            receivers.event(1, at as u64);
            receivers.delivered(&plan, 1, at as u64, index, 50 + u64::from(index));
        }
    }
    senders.merge(receivers);
    let tally = senders.tally(&plan);
    assert_eq!((tally.lost, tally.received), (1, own.len() as u64 - 1));
}
