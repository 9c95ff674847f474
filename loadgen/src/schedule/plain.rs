//! The schedule of all scenarios but a mix: one rate, one size, everybody alike.

use super::{Arrivals, Draft, Groups, Plan, PlanParams, Target, To, Window, Windows};
use crate::limits::{DELIVERIES_MAX, MESSAGES_MAX};
use rand::RngExt;
use rand::rngs::StdRng;

impl Plan {
    pub(super) fn fill_plain(&mut self, rng: &mut StdRng) -> Result<(), String> {
        let params = &self.params;
        check(params)?;
        let end_us = self.end_us();
        // Millions of phantoms that stay take no entry each.
        if params.offline_share > 0.0 {
            self.offline = Windows::new(params.clients, |_, own| {
                if rng.random::<f64>() < params.offline_share {
                    own.push(offline_window(rng, end_us));
                }
            });
        }
        if let To::Group { size } = params.to {
            self.groups = Groups::spread(params.clients, size);
        }
        if self.params.rate_per_s <= 0.0 {
            return Ok(());
        }
        let gap_us = 1e6 / self.params.rate_per_s;
        let bytes = self.params.payload_bytes as u32;
        let mut at = 0.0_f64;
        for index in 0..MESSAGES_MAX {
            at = match self.params.arrivals {
                Arrivals::Uniform => index as f64 * gap_us,
                Arrivals::Poisson => at - (1.0 - rng.random::<f64>()).ln() * gap_us,
            };
            let at_us = at as u64;
            if at_us >= end_us {
                break;
            }
            let (sender, to) = self.pair(rng, at_us);
            self.push(Draft { at_us, sender, to, bytes });
        }
        Ok(())
    }

    fn pair(&self, rng: &mut StdRng, at_us: u64) -> (u32, Target) {
        let clients = self.params.clients;
        // At most nine tenths are offline or do not read, so that this ends long before its bound.
        let sender = (0..1000)
            .map(|_| rng.random_range(0..clients))
            .find(|&client| self.can_send(client, at_us))
            .unwrap_or(0);
        let to = match self.params.to {
            To::OneOther => {
                let other = rng.random_range(0..clients - 1);
                Target::Client(if other >= sender { other + 1 } else { other })
            }
            _ => self.groups.of(sender).first().map_or(Target::Server, |&group| Target::Group(group)),
        };
        (sender, to)
    }
}

fn check(params: &PlanParams) -> Result<(), String> {
    let expected = params.rate_per_s * params.duration_s as f64;
    if expected > MESSAGES_MAX as f64 {
        return Err(format!(
            "{expected:.0} messages are more than the {MESSAGES_MAX} one run may have; lower --rate-per-s or --duration-s"
        ));
    }
    if let To::Group { size } = params.to
        && expected * f64::from(size) > DELIVERIES_MAX as f64
    {
        return Err(format!(
            "{expected:.0} messages to {size} members each are more than the {DELIVERIES_MAX} deliveries one run may have; lower \
             --rate-per-s, --duration-s or --group-size"
        ));
    }
    Ok(())
}

/// Away for 10 to 30 percent of the run, back before its last tenth.
fn offline_window(rng: &mut StdRng, end_us: u64) -> Window {
    let length = rng.random_range(0.1..0.3);
    let from = rng.random_range(0.1..0.9 - length);
    let us = |share: f64| (share * end_us as f64) as u64;
    (us(from), us(from + length))
}

#[cfg(test)]
mod tests {
    use super::super::Odd;
    use super::*;

    fn params(seed: u64) -> PlanParams {
        PlanParams {
            clients: 50,
            rate_per_s: 500.0,
            duration_s: 4,
            payload_bytes: 100,
            seed,
            arrivals: Arrivals::Poisson,
            offline_share: 0.3,
            user_base: 1000,
            to: To::OneOther,
            odd: Odd::default(),
        }
    }

    #[test]
    fn arrivals_keep_rate_order_and_never_come_from_somebody_offline_or_stalled() {
        for arrivals in [Arrivals::Poisson, Arrivals::Uniform] {
            let odd = Odd { share: 0.2, stall: Some((0.3, 1.0)) };
            let plan = Plan::build(PlanParams { arrivals, odd, ..params(7) }).unwrap();
            assert!((1700..2300).contains(&plan.len()), "{}", plan.len());
            assert!(plan.at_us.is_sorted());
            assert!((3..20).contains(&plan.odd_clients()), "{}", plan.odd_clients());
            assert_eq!(plan.stalled.len(), plan.odd_clients() as usize);
            for index in 0..plan.len() {
                assert_ne!(plan.target(index as u32), Target::Client(plan.sender[index]));
                assert!(!plan.is_offline(plan.sender[index], plan.at_us[index]));
                assert!(!plan.is_stalled(plan.sender[index], plan.at_us[index]));
            }
        }
    }

    #[test]
    fn a_share_of_the_clients_goes_offline_and_returns_before_the_end() {
        let plan = Plan::build(PlanParams { clients: 1000, ..params(7) }).unwrap();
        let windows: Vec<_> = plan.offline.iter().flat_map(|(_, own)| own).collect();
        assert!((230..370).contains(&windows.len()), "{}", windows.len());
        assert!(windows.iter().all(|(from, to)| from < to && *to <= 3_600_000));
    }

    #[test]
    fn a_groups_message_is_for_all_its_members_but_the_sender() {
        for (clients, size) in [(50, 16), (33, 32), (4, 3), (3, 3), (1024, 1024)] {
            let plan = Plan::build(PlanParams { clients, to: To::Group { size }, ..params(7) }).unwrap();
            let sender = plan.sender[0];
            let others = plan.groups.members(plan.groups.of(sender)[0]).len() - 1;
            assert_eq!(plan.deliveries(0), others as u64);
            assert_eq!((0..clients).filter(|&client| plan.receives(0, plan.user(client))).count(), others);
            assert!(!plan.receives(0, plan.user(sender)) && !plan.receives(0, plan.user(clients)));
        }
    }

    #[test]
    fn a_schedule_out_of_bounds_is_refused_with_the_flag_to_change() {
        let error = Plan::build(PlanParams { rate_per_s: 1e9, ..params(7) }).unwrap_err();
        assert!(error.contains("--rate-per-s"), "{error}");
        let many = PlanParams { rate_per_s: 2e6, to: To::Group { size: 1024 }, ..params(7) };
        let error = Plan::build(many).unwrap_err();
        assert!(error.contains("--group-size"), "{error}");
        let error = Plan::build(PlanParams { clients: 1, ..params(7) }).unwrap_err();
        assert!(error.contains("--clients"), "{error}");
    }
}
