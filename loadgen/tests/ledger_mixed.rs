//! One ledger over messages to users and to groups: it turns red for either, and tells which.

use roost_loadgen::ledger::{Delivery, Ledger, Tally};
use roost_loadgen::mix::Mix;
use roost_loadgen::schedule::{Arrivals, Odd, Plan, PlanParams, Target, To};
use std::sync::Arc;

const CLIENTS: u32 = 9;

fn plan() -> Plan {
    let mix = "
        [[population]]
        name = 'people'
        share = 1
        messages_per_s = 5
        bytes = { uniform = { min = 28, max = 99 } }
        group_share = 0.5
        [[groups]]
        name = 'friends'
        count = 4
        members = { constant = 5 }
        ";
    Plan::build(PlanParams {
        clients: CLIENTS,
        rate_per_s: 0.0,
        duration_s: 4,
        payload_bytes: 128,
        seed: 1,
        arrivals: Arrivals::Poisson,
        offline_share: 0.0,
        user_base: 100,
        to: To::Mix(Arc::new(Mix::parse(mix).unwrap())),
        odd: Odd::default(),
    })
    .unwrap()
}

fn id(index: u32) -> u64 {
    1000 + u64::from(index)
}

/// All messages are answered; each of their receivers gets those that `gets` says, as the events of those numbers.
fn exchanged(plan: &Plan, gets: impl Fn(u32, u32) -> bool) -> Ledger {
    let mut ledger = Ledger::of(plan);
    (0..CLIENTS).for_each(|client| ledger.welcomed(client, 0, 0));
    for index in 0..plan.len() as u32 {
        ledger.handed(index);
        ledger.answered(plan, index, id(index));
        let receivers = (0..CLIENTS).filter(|&client| plan.receives(index, plan.user(client)));
        for client in receivers.filter(|&client| gets(client, index)) {
            assert!(ledger.event(client, id(index)));
            assert_eq!(ledger.delivered(plan, client, id(index), index, id(index)), Delivery::First);
        }
    }
    ledger
}

/// A late message of either kind, and a receiver of it.
fn late(plan: &Plan, to_group: bool) -> (u32, u32) {
    let is_meant = |index: &u32| matches!(plan.target(*index), Target::Group(_)) == to_group;
    let index = (0..plan.len() as u32).rev().find(is_meant).unwrap();
    (index, (0..CLIENTS).find(|&client| plan.receives(index, plan.user(client))).unwrap())
}

#[test]
fn all_of_both_kinds_is_clean_and_counted_apart() {
    let plan = plan();
    let tally = exchanged(&plan, |_, _| true).tally(&plan);
    assert!(tally.is_clean(), "{tally:?}");
    let messages = plan.len() as u64;
    let to_groups = (0..plan.len() as u32).filter(|&index| matches!(plan.target(index), Target::Group(_)));
    let deliveries: u64 = to_groups.map(|index| plan.deliveries(index)).sum();
    let direct = (0..plan.len() as u32).filter(|&index| matches!(plan.target(index), Target::Client(_)));
    let direct = direct.count() as u64;
    assert!(direct > 30 && deliveries > 120 && messages > direct + 30, "{direct} {deliveries} {messages}");
    let expected = Tally {
        sent: messages,
        answered: messages,
        received: direct + deliveries,
        received_in_groups: deliveries,
        receipts_missing: direct,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
}

#[test]
fn a_loss_a_double_and_a_disorder_are_found_in_either_kind() {
    let plan = plan();
    for to_group in [false, true] {
        let (index, client) = late(&plan, to_group);
        let lost = exchanged(&plan, |receiver, message| (receiver, message) != (client, index)).tally(&plan);
        assert_eq!((lost.lost, lost.is_clean()), (1, false), "{to_group} {lost:?}");

        let mut ledger = exchanged(&plan, |_, _| true);
        assert!(ledger.event(client, 9_000));
        assert_eq!(ledger.delivered(&plan, client, 9_000, index, id(index)), Delivery::Duplicated);
        let doubled = ledger.tally(&plan);
        assert_eq!((doubled.duplicated, doubled.lost), (1, 0), "{to_group} {doubled:?}");

        // An earlier one of the same conversation comes after it.
        let talk = |other: u32| match plan.target(index) {
            Target::Group(_) => plan.target(other) == plan.target(index),
            _ => {
                plan.target(other) == plan.target(index)
                    && plan.sender[other as usize] == plan.sender[index as usize]
            }
        };
        let earlier = (0..index).find(|&other| talk(other) && plan.receives(other, plan.user(client)));
        let earlier = earlier.expect("the late one is not the first of its conversation");
        let mut ledger = exchanged(&plan, |receiver, message| (receiver, message) != (client, earlier));
        assert!(ledger.event(client, 9_000));
        assert_eq!(ledger.delivered(&plan, client, 9_000, earlier, id(earlier)), Delivery::First);
        let disordered = ledger.tally(&plan);
        assert_eq!((disordered.out_of_order, disordered.lost), (1, 0), "{to_group} {disordered:?}");
    }
}

#[test]
fn what_goes_to_another_is_against_the_contract_in_either_kind() {
    let plan = plan();
    for to_group in [false, true] {
        let (index, _) = late(&plan, to_group);
        let stranger = (0..CLIENTS)
            .find(|&client| !plan.receives(index, plan.user(client)) && plan.sender[index as usize] != client)
            .unwrap();
        let mut ledger = exchanged(&plan, |_, _| true);
        assert!(ledger.event(stranger, 9_000));
        ledger.delivered(&plan, stranger, 9_000, index, id(index));
        assert!(ledger.tally(&plan).violations > 0, "{to_group}");
    }
}
