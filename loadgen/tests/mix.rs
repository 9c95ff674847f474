//! A mix: what its file may say and how its mistakes are told, what the schedule makes of it, and the examples played against the real
//! gateway, with kernel sockets and with phantoms.

mod common;

use common::{loadgen, report, report_before};
use roost_client::harness::{Gateway, gateway_binary};
use roost_loadgen::mix::Mix;
use roost_loadgen::schedule::{Arrivals, Odd, Plan, PlanParams, Target, To};
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread;

const EXAMPLES: [&str; 3] = ["messenger-day", "match-day", "reconnect-storm"];

fn example(name: &str) -> String {
    format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

const SMALL: &str = "
[time]
compression = 100

[[population]]
name = 'people'
share = 1
messages_per_day = 864
bytes = { uniform = { min = 100, max = 300 } }
group_share = 0.5

[[population]]
name = 'bots'
users = 10
messages_per_s = 0.1
bytes = { constant = 50 }

[[groups]]
name = 'friends'
of = 'people'
per_user = 2
members = { uniform = { min = 4, max = 6 } }

[[groups]]
name = 'news'
written_by = 'bots'
count = 3
members = { constant = 60 }
";

fn plan(text: &str, clients: u32, duration_s: u64) -> Result<Plan, String> {
    let mix = Mix::parse(text)?;
    Plan::build(PlanParams {
        clients,
        rate_per_s: 1.0,
        duration_s,
        payload_bytes: 128,
        seed: 7,
        arrivals: Arrivals::Poisson,
        offline_share: 0.0,
        user_base: 1000,
        to: To::Mix(Arc::new(mix)),
        odd: Odd::default(),
    })
}

#[test]
fn a_mistake_is_told_by_key_and_value_in_one_line() {
    for (from, to, told) in [
        ("group_share = 0.5", "grup_share = 0.5", "population[0].grup_share"),
        ("group_share = 0.5", "group_share = 1.5", "population[0].group_share = 1.5: must be 0 to 1"),
        ("share = 1\n", "share = 1\nusers = 5\n", "population[0].share = 1: give either this or users"),
        ("compression = 100", "compression = 'fast'", "time.compression = \"fast\": invalid type"),
        ("compression = 100", "compression = 100\nspan_s = 5", "time.compression = 100: give either"),
        ("min = 100", "min = 400", "population[0].bytes.uniform.max = 300: must not be below min"),
        ("constant = 50", "constant = 20", "population[1].bytes.constant = 20: must be 28 to"),
        ("constant = 50", "constnat = 50", "population[1].bytes"),
        ("name = 'bots'", "name = 'people'", "population[1].name = \"people\": another population"),
        ("of = 'people'", "of = 'nobody'", "groups[0].of = \"nobody\": no population"),
        ("written_by = 'bots'", "written_by = 'dogs'", "groups[1].written_by = \"dogs\": no population"),
        ("count = 3", "count = 3\nper_user = 1", "groups[1].count = 3: give either this or per_user"),
        ("messages_per_s = 0.1", "messages_per_s = -1", "population[1].messages_per_s = -1: must be 0 to"),
        ("[time]", "[time", "line 2: "),
        ("[time]", "[times]", "times"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let error = Mix::parse(&SMALL.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(told) && !error.contains('\n'), "{to}: {error}");
    }
    let parts = "bytes = { constant = 99 }\nshare = 1\nmessages_per_s = 1\nname = 'a'\n";
    for (table, told) in [
        (
            "presence = { online_s = { constant = 5 } }",
            "presence.share_online: give either this or offline_s",
        ),
        (
            "presence = { online_s = { constant = 0 }, share_online = 0.5 }",
            "presence.online_s.constant = 0: must",
        ),
        ("presence = { online_s = { constant = 5 }, share_online = 2 }", "presence.share_online = 2: must"),
        ("[[outage]]\nat_s = 1\nlasts_s = 2\nshare = 7", "outage[0].share = 7: must be 0 to 1"),
        ("[conversation]\nreply_share = 1", "conversation.reply_share = 1: must be 0 to 0.95"),
        ("[[time.peak]]\nat_s = 0\nlasts_s = 1\nfactor = -1", "time.peak[0].factor = -1: must be 0 to"),
        ("[time]\ncurve = [0, 0]", "time.curve (array): needs"),
    ] {
        let error = Mix::parse(&format!("[[population]]\n{parts}{table}\n")).unwrap_err();
        assert!(error.contains(told), "{table}: {error}");
    }
}

#[test]
fn mistakes_that_beginners_make_are_told_with_what_to_write() {
    for (from, to, told) in [
        (
            "bytes = { constant = 50 }",
            "bytes = 50",
            "population[1].bytes = 50: expected one of { constant = ",
        ),
        (
            "bytes = { constant = 50 }",
            "bytes = 'constant'",
            "population[1].bytes = \"constant\": expected one of { ",
        ),
        ("members = { constant = 60 }", "members = [60]", "groups[1].members (array): expected one of { "),
        ("bytes = { constant = 50 }", "", "population[1] (table): missing field `bytes`"),
        ("users = 10", "users = 0", "groups[1].written_by = \"bots\": this population has no users"),
        ("share = 1", "share = 0", "groups[0].of = \"people\": this population has no users"),
        (
            "count = 3",
            "count = 3\nof = 'people'",
            "groups[1].written_by = \"bots\": this population is not among",
        ),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let error = Mix::parse(&SMALL.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(told) && !error.contains('\n'), "{to}: {error}");
    }
    let only = "[[population]]\nname = 'a'\nmessages_per_s = 1\nbytes = { constant = 99 }\n";
    for (own, told) in [
        ("users = 0", "population[0].users = 0: a mix needs a population with users"),
        ("share = 0", "population[0].share = 0: a mix needs a population with users"),
    ] {
        let error = Mix::parse(&format!("{only}{own}\n")).unwrap_err();
        assert!(error.contains(told), "{own}: {error}");
    }
    assert_eq!(Mix::parse("").unwrap_err(), "missing field `population`");
    // A value is shown as far as 60 characters, whatever those are.
    let long = SMALL.replacen("compression = 100", &format!("compression = '{}'", "\u{e9}".repeat(5000)), 1);
    let error = Mix::parse(&long).unwrap_err();
    let shown = error.strip_prefix("time.compression = ").and_then(|rest| rest.split(": invalid").next());
    assert_eq!(shown.map(|shown| shown.chars().count()), Some(63), "{error}");
    assert!(error.chars().count() < 200, "{error}");
}

#[test]
fn the_program_refuses_a_bad_file_and_a_mix_out_of_bounds_as_bad_usage() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, SMALL.replace("compression = 100", "compression = -5")).unwrap();
    let file = file.to_str().expect("text");
    let base = ["mix", "--url", "ws://127.0.0.1:1/", "--auth", "none"];
    for (more, told) in [
        (vec!["--mix", file], format!("--mix {file}: time.compression = -5: must be")),
        (vec!["--mix", "/nowhere.toml"], "cannot read --mix /nowhere.toml".into()),
        (vec![], "--mix".into()),
    ] {
        let output = loadgen(&[&base[..], &more].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&told), "{error}");
    }
    let small = |clients| plan(SMALL, clients, 60).unwrap_err();
    assert!(small(5).contains("names 10 users; --clients 5 is too few"), "{}", small(5));
    let few = SMALL.replace("share = 1\n", "share = 0.001\n").replace("users = 10", "share = 1");
    let error = plan(&few, 100, 60).unwrap_err();
    assert!(
        error.contains("population 'people' has no users at --clients 100, and groups 'friends' need"),
        "{error}"
    );
    let fast = SMALL.replace("compression = 100", "compression = 100000");
    let error = plan(&fast, 10_000, 60).unwrap_err();
    assert!(error.contains("messages in this run, more than the 10000000"), "{error}");
}

#[test]
fn the_schedule_has_the_rates_sizes_and_groups_of_the_file() {
    // 90 people with a message in a second of the run each, 10 bots with ten.
    let plan = plan(SMALL, 100, 60).unwrap();
    let count = |of: &dyn Fn(u32) -> bool| (0..plan.len() as u32).filter(|&index| of(index)).count();
    let from_bot = |index: u32| plan.sender[index as usize] >= 90;
    let to_group = |index: u32| matches!(plan.target(index), Target::Group(_));
    assert!(
        (5_000..5_800).contains(&count(&|index| !from_bot(index))),
        "{}",
        count(&|index| !from_bot(index))
    );
    assert!((5_600..6_400).contains(&count(&from_bot)), "{}", count(&from_bot));
    let groups = count(&to_group);
    assert!((2_100..2_700).contains(&groups), "{groups}");
    for index in 0..plan.len() as u32 {
        let bytes = plan.payload_bytes(index);
        assert_eq!(plan.payload(index).len(), bytes);
        assert!(if from_bot(index) { bytes == 50 } else { (100..=300).contains(&bytes) }, "{bytes}");
        if let Target::Group(group) = plan.target(index) {
            assert!(plan.groups.has(group, plan.sender[index as usize]) && !from_bot(index));
        }
    }
    assert_eq!((plan.payload_bytes_max(), plan.groups.members_max()), (300, 60));
    // 90 people, each in two groups of five on average, and one in seven in none; the three of the news are everybody's.
    assert!((36 + 3 - 4..=36 + 3 + 4).contains(&plan.groups.len()), "{}", plan.groups.len());
    assert!((0..36).all(|group| plan.groups.members(group).iter().all(|&member| member < 90)));
    // Bots write to the news, and to nothing else, where they are asked to.
    let loud = SMALL.replace("messages_per_s = 0.1", "messages_per_s = 0.1\ngroup_share = 1.0");
    let loud = self::plan(&loud, 100, 60).unwrap();
    let news = (0..loud.len() as u32).filter_map(|index| match loud.target(index) {
        Target::Group(group) if loud.sender[index as usize] >= 90 => Some(loud.groups.members(group).len()),
        _ => None,
    });
    let news: Vec<_> = news.collect();
    assert!(news.len() > 3_000 && news.iter().all(|&members| members == 60), "{}", news.len());
}

#[test]
fn answers_come_after_a_time_to_think_and_make_up_their_share() {
    let talk = "\n[conversation]\nreply_share = 0.75\nthink_s = { constant = 200 }\nreplies_max = 50\n";
    let alone =
        SMALL.replace("group_share = 0.5", "").replacen("[[groups]]", &format!("{talk}[[groups]]"), 1);
    let (with, without) = (plan(&alone, 100, 600).unwrap(), plan(SMALL, 100, 600).unwrap());
    // The rates count answers; those that would come after the run's end are missing.
    let share = with.len() as f64 / without.len() as f64;
    assert!((0.97..1.02).contains(&share), "{share}");
    // 200 s of the span are 2 s of the run.
    let pair = |index: usize| (with.sender[index], with.target(index as u32));
    let mut answers = 0;
    let mut seen = std::collections::HashSet::new();
    for index in 0..with.len() {
        let (sender, Target::Client(receiver)) = pair(index) else { continue };
        if with.at_us[index]
            .checked_sub(2_000_000)
            .is_some_and(|asked| seen.contains(&(receiver, sender, asked)))
        {
            answers += 1;
        }
        seen.insert((sender, receiver, with.at_us[index]));
    }
    let share = f64::from(answers) / with.len() as f64;
    assert!((0.70..0.78).contains(&share), "{share}");
}

#[test]
fn users_come_and_go_as_the_file_says_and_outages_strike_together() {
    let presence =
        "presence = { online_s = { exponential = { mean = 1000, max = 100000 } }, share_online = 0.25 }";
    let outage = "[[outage]]\nat_s = 3000\nlasts_s = 500\nshare = 1.0\nof = 'bots'\n[[groups]]";
    let text = SMALL.replace("group_share = 0.5", presence).replacen("[[groups]]", outage, 1);
    let plan = plan(&text, 1010, 60).unwrap();
    let mut offline = 0;
    let times: Vec<u64> = (0..600).map(|step| step * 100_000).collect();
    for &at in &times {
        offline += (0..1000).filter(|&client| plan.is_offline(client, at)).count();
        let bots = (1000..1010).filter(|&client| plan.is_offline(client, at)).count();
        assert_eq!(bots, if (30_000_000..35_000_000).contains(&at) { 10 } else { 0 }, "{at}");
    }
    let share = offline as f64 / (1000 * times.len()) as f64;
    assert!((0.72..0.78).contains(&share), "{share}");
    for index in 0..plan.len() {
        assert!(!plan.is_offline_within(plan.sender[index], plan.at_us[index], plan.at_us[index]));
    }
    // A hundred times as fast is more than clients can follow where they stay for 50 s.
    let hurried = Mix::parse(&text.replace("mean = 1000", "mean = 50")).unwrap();
    let stay = hurried.stay(hurried.population[0].presence.as_ref().unwrap(), 60.0);
    assert!(
        (3.8..4.2).contains(&stay.stretch) && (stay.offline_us / stay.online_us - 3.0).abs() < 1e-9,
        "{stay:?}"
    );
}

#[test]
fn the_examples_are_read_and_their_figures_are_what_they_say() {
    let day = Mix::load(example("messenger-day").as_ref()).unwrap();
    let plan = Plan::build(PlanParams {
        clients: 2_000,
        rate_per_s: 0.0,
        duration_s: 600,
        payload_bytes: 128,
        seed: 1,
        arrivals: Arrivals::Poisson,
        offline_share: 0.0,
        user_base: 1,
        to: To::Mix(Arc::new(day.clone())),
        odd: Odd::default(),
    })
    .unwrap();
    let people = day.populations(2_000).unwrap()[0].clone();
    let theirs: Vec<u32> =
        (0..plan.len() as u32).filter(|&index| people.contains(&plan.sender[index as usize])).collect();
    let each = theirs.len() as f64 / people.len() as f64;
    assert!((40.0..=60.0).contains(&each), "{each} messages a user a day");
    assert!((0..plan.len() as u32).all(|index| (100..=1_000).contains(&plan.payload_bytes(index))));
    for name in EXAMPLES {
        Mix::load(example(name).as_ref()).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_page_about_mixes_shows_one_that_is_right_and_has_every_key() {
    let page = include_str!("../../docs/MIX.md");
    let block = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a file");
    Mix::parse(block).unwrap_or_else(|error| panic!("{error}"));
    let plan = plan(block, 500, 60).unwrap();
    assert!(plan.len() > 10_000 && plan.groups.len() > 50 && plan.offline.len() > 500);
    // Each key of the file's types is told by the error about one that is not known.
    for table in
        ["", "[time]", "[[time.peak]]", "[conversation]", "[[population]]", "[[groups]]", "[[outage]]"]
    {
        let error = Mix::parse(&format!("{table}\nnothing_of_this = 1\n")).unwrap_err();
        let known = error.split("expected").nth(1).unwrap_or_else(|| panic!("{error}"));
        for key in known.split('`').skip(1).step_by(2) {
            assert!(page.contains(key), "{table} {key}");
        }
    }
}

const PATIENT: [&str; 8] =
    ["--lag-us-max", "60000000", "--lag-share-max", "1", "--ready-s", "120", "--drain-s", "60"];

fn assert_played(code: i32, report: &Value, clients: u64) {
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert_eq!(report["clients_connected"], json!(clients), "{report:#}");
    let (mix, group) = (&report["mix"], &report["group"]);
    let sent = report["messages_sent"].as_u64().unwrap_or_default();
    let (direct, to_groups) = (&mix["messages_direct"], &mix["messages_to_groups"]);
    assert!(sent > 50 && direct.as_u64() > Some(0) && to_groups.as_u64() > Some(0), "{report:#}");
    assert_eq!(direct.as_u64().unwrap() + to_groups.as_u64().unwrap(), sent, "{report:#}");
    assert_eq!(group["deliveries"], group["deliveries_planned"], "{report:#}");
    let received = group["deliveries"].as_u64().unwrap() + direct.as_u64().unwrap();
    assert_eq!(report["messages_received"], json!(received), "{report:#}");
    assert_eq!(report["receipts_delivered"], json!(sent), "{report:#}");
}

#[test]
fn the_examples_are_clean_against_the_real_gateway() {
    let gateway = Gateway::start(&[]).unwrap();
    let (url, secret) = (format!("ws://{}/v1/ws", gateway.ws), gateway.data().join("secret"));
    let own = ["--url", &url, "--secret-file", secret.to_str().expect("text"), "--threads", "2"];
    // Different seeds have different users, so that all can play at once.
    thread::scope(|scope| {
        for (seed, name) in EXAMPLES.iter().enumerate() {
            scope.spawn(move || {
                let (file, seed) = (example(name), seed.to_string());
                let mix = ["mix", "--mix", &file, "--clients", "60", "--duration-s", "4", "--seed", &seed];
                let (code, report) = report(&[&mix[..], &own, &PATIENT].concat());
                assert_played(code, &report, 60);
                let returned = report["reconnects"].as_u64() > Some(0);
                assert_eq!(*name != "match-day", returned, "{name} {report:#}");
            });
        }
    });
}

#[test]
fn phantoms_play_a_mix_too() {
    let file = example("reconnect-storm");
    let binary = gateway_binary().expect("built");
    let mix = ["mix", "--mix", &file, "--clients", "200", "--duration-s", "4", "--kind", "phantom"];
    let command = ["--", binary.to_str().expect("text")];
    let (code, report) = report_before(&[&mix[..], &PATIENT].concat(), &command);
    assert_played(code, &report, 200);
    assert!(report["reconnects"].as_u64() > Some(200), "{report:#}");
    assert!(report["latency_offline_us"]["count"].as_u64() > Some(0), "{report:#}");
}
