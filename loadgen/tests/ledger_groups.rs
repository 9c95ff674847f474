//! The ledger of groups turns red for each thing it is there to find, and only then.

use roost_loadgen::ledger::{Delivery, Ledger, Tally};
use roost_loadgen::schedule::{Arrivals, Odd, Plan, PlanParams, To};
use roost_proto::v1::Mark;

const CLIENTS: u32 = 6;

/// Two groups: clients 0, 2, 4 and clients 1, 3, 5.
fn plan() -> Plan {
    Plan::build(PlanParams {
        clients: CLIENTS,
        rate_per_s: 40.0,
        duration_s: 1,
        payload_bytes: 64,
        seed: 3,
        arrivals: Arrivals::Uniform,
        offline_share: 0.0,
        user_base: 100,
        to: To::Group { size: 3 },
        odd: Odd::default(),
    })
    .unwrap()
}

fn id(index: u32) -> u64 {
    1000 + u64::from(index)
}

fn seq(index: u32) -> u64 {
    1 + u64::from(index)
}

/// All messages are answered; a client gets those of its group that `gets` says, in order.
fn exchanged(plan: &Plan, gets: impl Fn(u32, u32) -> bool) -> Ledger {
    let mut ledger = Ledger::of(plan);
    (0..CLIENTS).for_each(|client| ledger.welcomed(client, 0, 0));
    for index in 0..plan.len() as u32 {
        ledger.handed(index);
        ledger.answered(plan, index, id(index));
        for client in receivers(plan, index).filter(|&client| gets(client, index)) {
            assert_eq!(deliver(&mut ledger, plan, client, index), Delivery::First);
        }
    }
    ledger
}

fn receivers(plan: &Plan, index: u32) -> impl Iterator<Item = u32> {
    (0..CLIENTS).filter(move |&client| plan.receives(index, plan.user(client)))
}

fn deliver(ledger: &mut Ledger, plan: &Plan, client: u32, index: u32) -> Delivery {
    assert!(ledger.event(client, seq(index)));
    ledger.delivered(plan, client, seq(index), index, id(index))
}

/// The last message of the group of client 0 by another, and the one before it.
fn last_two(plan: &Plan) -> (u32, u32) {
    let mut last = (0..plan.len() as u32).rev().filter(|&index| plan.receives(index, plan.user(0)));
    (last.next().unwrap(), last.next().unwrap())
}

#[test]
fn all_to_all_is_clean_and_counted() {
    let plan = plan();
    let mut ledger = exchanged(&plan, |_, _| true);
    let (last, _) = last_two(&plan);
    let (sender, id) = (plan.sender[last as usize], id(last));
    assert!(ledger.receipt(&plan, sender, Mark::DELIVERED, plan.user(0), id));
    let tally = ledger.tally(&plan);
    assert!(tally.is_clean(), "{tally:?}");
    let count = plan.len() as u64;
    let expected = Tally {
        sent: count,
        answered: count,
        received: 2 * count,
        received_in_groups: 2 * count,
        receipts_delivered: 1,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
}

#[test]
fn what_one_member_does_not_get_is_lost() {
    let plan = plan();
    let (last, _) = last_two(&plan);
    let tally = exchanged(&plan, |client, index| (client, index) != (0, last)).tally(&plan);
    assert_eq!((tally.lost, tally.is_clean()), (1, false), "{tally:?}");
}

#[test]
fn what_one_member_gets_later_than_a_newer_one_is_out_of_order() {
    let plan = plan();
    let (last, before) = last_two(&plan);
    let mut ledger = exchanged(&plan, |client, index| client != 0 || index != last && index != before);
    assert!(ledger.event(0, seq(last)));
    assert_eq!(ledger.delivered(&plan, 0, seq(last), last, id(last)), Delivery::First);
    assert!(ledger.event(0, seq(last) + 1));
    assert_eq!(ledger.delivered(&plan, 0, seq(last) + 1, before, id(before)), Delivery::First);
    let tally = ledger.tally(&plan);
    assert_eq!((tally.out_of_order, tally.lost), (1, 0), "{tally:?}");
}

#[test]
fn an_order_of_ones_own_shows_in_the_numbers() {
    let plan = plan();
    let (last, before) = last_two(&plan);
    let mut ledger = exchanged(&plan, |client, index| client != 0 || index != last && index != before);
    // Numbers rise for this member, but the messages behind them are in another order than with the others.
    for (index, number) in [(last, before), (before, last)] {
        assert!(ledger.event(0, seq(number)));
        assert_eq!(ledger.delivered(&plan, 0, seq(number), index, id(number)), Delivery::First);
    }
    assert!(ledger.tally(&plan).violations >= 2);
}

#[test]
fn the_order_of_another_workers_members_is_compared_too() {
    let plan = plan();
    let (last, _) = last_two(&plan);
    let (mut mine, mut theirs) = (exchanged(&plan, |client, _| client != 0), Ledger::of(&plan));
    theirs.welcomed(0, 0, 0);
    for index in (0..plan.len() as u32).filter(|&index| plan.receives(index, plan.user(0))) {
        let number = if index == last { id(index) + 500 } else { id(index) };
        assert!(theirs.event(0, seq(index)));
        theirs.delivered(&plan, 0, seq(index), index, number);
    }
    mine.merge(theirs);
    let tally = mine.tally(&plan);
    assert!(tally.violations >= 1 && tally.lost == 0, "{tally:?}");
}

#[test]
fn again_at_its_place_in_a_new_session_is_allowed_and_at_another_place_is_doubled() {
    let plan = plan();
    let (last, before) = last_two(&plan);
    let mut ledger = exchanged(&plan, |_, _| true);
    ledger.acknowledged(0, seq(before));
    ledger.welcomed(0, seq(before), seq(last));
    assert_eq!(deliver(&mut ledger, &plan, 0, last), Delivery::Redelivered);
    assert!(ledger.event(0, seq(last) + 1));
    assert_eq!(ledger.delivered(&plan, 0, seq(last) + 1, before, id(before)), Delivery::Duplicated);
    let tally = ledger.tally(&plan);
    assert_eq!((tally.redelivered, tally.duplicated), (1, 1), "{tally:?}");
}

#[test]
fn a_server_may_step_over_ones_own_messages_but_not_back() {
    let plan = plan();
    let mut ledger = exchanged(&plan, |_, _| true);
    ledger.acknowledged(0, 5);
    ledger.welcomed(0, 7, 9);
    assert_eq!(ledger.counted().violations, 0);
    ledger.welcomed(0, 6, 9);
    assert_eq!(ledger.tally(&plan).violations, 1);
}

#[test]
fn a_server_may_not_step_over_what_came_and_was_not_acknowledged() {
    let plan = plan();
    let (last, _) = last_two(&plan);
    let mut ledger = exchanged(&plan, |client, index| client != 0 || index == last);
    ledger.welcomed(0, seq(last) - 1, 99);
    assert_eq!(ledger.counted().violations, 0);
    ledger.welcomed(0, seq(last), 99);
    assert_eq!(ledger.counted().violations, 1);
    ledger.acknowledged(0, seq(last));
    ledger.welcomed(0, seq(last) + 1, 99);
    assert_eq!(ledger.counted().violations, 1);
}

#[test]
fn the_same_place_twice_in_a_session_is_doubled() {
    let plan = plan();
    let (last, _) = last_two(&plan);
    let mut ledger = exchanged(&plan, |_, _| true);
    assert!(!ledger.event(0, seq(last)));
    assert_eq!(ledger.tally(&plan).duplicated, 1);
}

#[test]
fn one_senders_messages_keep_their_order_unless_the_server_put_one_off() {
    let plan = plan();
    let sender = plan.sender[0];
    let later = (1..plan.len() as u32).find(|&index| plan.sender[index as usize] == sender).unwrap();
    for postponed in [false, true] {
        let mut ledger = Ledger::of(&plan);
        for (index, number) in [(0, 50), (later, 40)] {
            ledger.handed(index);
            ledger.answered(&plan, index, number);
        }
        if postponed {
            ledger.postponed(later);
        }
        assert_eq!(ledger.tally(&plan).out_of_order, u64::from(!postponed));
    }
}

#[test]
fn what_is_anothers_own_or_was_never_sent_is_against_the_contract() {
    let plan = plan();
    let (last, _) = last_two(&plan);
    let foreign = (0..CLIENTS).find(|&client| plan.groups.has(1, client)).unwrap();
    for member in [foreign, plan.sender[last as usize]] {
        let mut ledger = exchanged(&plan, |_, _| true);
        assert_eq!(ledger.delivered(&plan, member, 900, last, id(last)), Delivery::Duplicated);
        assert_eq!(ledger.tally(&plan).violations, 1, "{member}");
    }
    let mut ledger = Ledger::of(&plan);
    ledger.welcomed(0, 0, 0);
    deliver(&mut ledger, &plan, 0, last);
    assert_eq!(ledger.tally(&plan).violations, 1);
}

#[test]
fn a_receipt_by_somebody_outside_the_group_or_for_no_message_is_wrong() {
    let plan = plan();
    let (last, _) = last_two(&plan);
    let sender = plan.sender[last as usize];
    for (by, number) in [(plan.user(1), id(last)), (plan.user(sender), id(last)), (plan.user(0), 77)] {
        let mut ledger = exchanged(&plan, |_, _| true);
        assert!(!ledger.receipt(&plan, sender, Mark::DELIVERED, by, number));
        assert_eq!(ledger.tally(&plan).receipts_wrong, 1, "{by} {number}");
    }
}
