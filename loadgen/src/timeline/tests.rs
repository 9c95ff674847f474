use super::*;
use crate::limits::HISTOGRAM_BUCKETS_MAX;
use crate::report::Latency;

fn sample(second: u64, clients_open: u64, sent: u64) -> Sample {
    let mut latency = Buckets::default();
    (0..sent).for_each(|us| latency.record(us * 100, 1));
    Sample {
        until_s: second as f64 + 1.0,
        seconds: 1.0,
        stage: Stage::Run,
        clients_open,
        sent,
        latency,
        generator_cpu_s: 0.5,
        ..Sample::default()
    }
}

fn timeline(seconds: u64, clients_open: u64) -> Timeline {
    let mut timeline = Timeline::default();
    (0..seconds).for_each(|second| timeline.sample(second, &sample(second, clients_open, second % 7)));
    timeline
}

fn total(timeline: &Timeline) -> (u64, Buckets, f64) {
    let mut sum = (0, Buckets::default(), 0.0);
    for sample in timeline.samples() {
        sum.0 += sample.sent;
        sum.1.add(&sample.latency);
        sum.2 += sample.seconds;
    }
    sum
}

#[test]
fn neighbours_are_merged_where_there_are_too_many_and_nothing_is_lost() {
    let most = u64::from(TIMELINE_SAMPLES_MAX);
    assert_eq!((timeline(most, 5).interval_s(), timeline(most, 5).points().len() as u64), (1, most));
    for (seconds, interval_s) in [(most + 1, 2), (5 * most, 8)] {
        let mut expected = (0, Buckets::default(), seconds as f64);
        for second in 0..seconds {
            expected.0 += second % 7;
            expected.1.add(&sample(second, 5, second % 7).latency);
        }
        let long = timeline(seconds, 5);
        assert_eq!(long.interval_s(), interval_s);
        assert_eq!(long.points().len() as u64, seconds.div_ceil(interval_s));
        assert_eq!(total(&long), expected);
        let point = &long.points()[1];
        assert!((point.at_s - 2.0 * interval_s as f64).abs() < 1e-9 && point.clients_open == 5, "{point:?}");
        assert!((point.generator_cpus - 0.5).abs() < 1e-9, "{point:?}");
    }
}

#[test]
fn what_a_worker_hands_over_late_is_counted_in_its_own_second() {
    let mut timeline = timeline(3, 5);
    let (mut late, mut meters) = (timeline.clone(), crate::meters::Meters::new(0));
    meters.latency.saturating_record(9_999);
    meters.error("x");
    late.record(1, &meters.hand_over());
    assert_eq!((late.points()[1].latency_us.max, late.points()[1].errors), (10_047, 1));
    assert_eq!((late.points().len(), late.points()[2].clone()), (3, timeline.points()[2].clone()));
    // Without a sample there is no point: its length is not known yet.
    let error = crate::meters::Interval { errors: 1, ..Default::default() };
    timeline.record(3, &error);
    assert_eq!(timeline.points().len(), 3);
    // The sampler was late: the sample of the sixth second covers the two before.
    timeline.record(4, &error);
    timeline.sample(5, &sample(5, 5, 0));
    timeline.record(7, &error);
    timeline.close();
    let errors: Vec<_> = timeline.points().iter().map(|point| point.errors).collect();
    assert_eq!(errors, [0, 0, 0, 3]);
}

#[test]
fn two_machines_are_merged_exactly_whatever_their_intervals() {
    let most = u64::from(TIMELINE_SAMPLES_MAX);
    for (one_s, other_s) in [(10, 10), (most, most + 1), (4 * most, 3)] {
        let (one, other) = (timeline(one_s, 5), timeline(other_s, 7));
        let (mut forth, mut back) = (one.clone(), other.clone());
        forth.merge(other.clone());
        back.merge(one.clone());
        assert_eq!(forth.interval_s(), back.interval_s());
        let mut latency = total(&one).1;
        latency.add(&total(&other).1);
        for merged in [&forth, &back] {
            assert_eq!((total(merged).0, &total(merged).1), (total(&one).0 + total(&other).0, &latency));
            let (points, last) = (merged.points(), merged.points().pop().expect("points"));
            assert_eq!(points.len() as u64, one_s.max(other_s).div_ceil(merged.interval_s()));
            // One that ended before still counts with what it held.
            assert_eq!((points[0].clients_open, last.clients_open), (12, 12));
        }
        let max = forth.points().iter().map(|point| point.latency_us.max).max();
        assert_eq!(max, Some(latency.max()));
    }
}

#[test]
fn the_machine_with_the_gateway_speaks_for_its_memory() {
    let with = Held {
        kernel_growth_bytes: 8000,
        gateway_growth_bytes: Some(400),
        gateway_rss_bytes: Some(900),
        gateway_cpu_s: Some(0.5),
    };
    let without = Held { kernel_growth_bytes: 70_000, ..Held::default() };
    let one = Sample { held: without, ..sample(0, 5, 1) };
    let other = Sample { held: with, ..sample(0, 5, 1) };
    for (mut merged, more) in [(one.clone(), &other), (other.clone(), &one)] {
        merged.beside(more);
        let point = Point::from(&merged);
        let memory = point.memory_bytes_per_client;
        assert_eq!((memory.kernel, memory.gateway, memory.total), (Some(800.0), Some(40.0), Some(840.0)));
        assert_eq!((point.gateway_rss_bytes, point.gateway_cpus), (Some(900), Some(0.5)));
    }
    let nobody = Point::from(&Sample { clients_open: 0, ..other });
    assert_eq!(nobody.memory_bytes_per_client, MemoryPoint::default());
}

#[test]
fn a_timeline_travels_as_it_is_and_one_out_of_bounds_is_refused() {
    let timeline = timeline(20, 5);
    let text = serde_json::to_string(&timeline).expect("JSON");
    let back: Timeline = serde_json::from_str(&text).expect("valid");
    assert_eq!((&back.samples, &back.totals.latency), (&timeline.samples, &total(&timeline).1));
    assert_eq!(serde_json::to_string(&back).expect("JSON"), text);
    let beyond = serde_json::json!({"interval_s": 1, "samples": [[TIMELINE_SAMPLES_MAX, sample(0, 1, 1)]]});
    for bad in [
        beyond,
        serde_json::json!({"interval_s": 3, "samples": []}),
        serde_json::json!({"interval_s": 0, "samples": []}),
    ] {
        assert!(serde_json::from_value::<Timeline>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn the_reports_histogram_has_every_value_in_a_bucket_that_holds_it() {
    assert_eq!(histogram_buckets(&Buckets::default()), []);
    let mut buckets = Buckets::default();
    for us in (0..40).map(|power| 3_u64.pow(power).min(crate::limits::LATENCY_US_MAX)) {
        buckets.record(us, 2);
    }
    let shown = histogram_buckets(&buckets);
    assert!(shown.len() as u32 <= HISTOGRAM_BUCKETS_MAX, "{}", shown.len());
    assert_eq!(shown.iter().map(|bucket| bucket.count).sum::<u64>(), buckets.count());
    assert!(
        shown.windows(2).all(|pair| pair[0].to_us + 1 == pair[1].from_us && pair[0].from_us <= pair[0].to_us)
    );
    assert!(
        shown.first().is_some_and(|bucket| bucket.count > 0)
            && shown.last().is_some_and(|bucket| bucket.count > 0)
    );
    for (us, count) in buckets.iter() {
        assert!(
            shown.iter().any(|bucket| (bucket.from_us..=bucket.to_us).contains(&us) && bucket.count >= count),
            "{us}"
        );
    }
    assert_eq!(Latency::from(&buckets).count, 80);
}
