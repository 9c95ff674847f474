//! What the real process says of the connections it can hold and of what they cost.

use std::process::{Command, Output};

use roost_client::harness::{Gateway, gateway_binary};
use roost_proto::codec::Encoding;

/// A start with far too many connections, behind `wrapper`, which is a program with its arguments or nothing.
fn start_too_large(wrapper: &[&str]) -> Output {
    let data = tempfile::tempdir().expect("a folder");
    let gateway = gateway_binary().expect("built");
    let mut words: Vec<_> = wrapper.iter().map(AsRef::as_ref).collect();
    words.push(gateway.as_os_str());
    Command::new(words[0])
        .args(&words[1..])
        .args([
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--max-connections",
            "9999999999",
            "--data",
        ])
        .arg(data.path())
        .output()
        .expect("it runs")
}

#[test]
fn more_connections_than_the_machine_holds_are_refused_at_start() {
    let start = start_too_large(&[]);
    assert_eq!(start.status.code(), Some(2));
    let said = String::from_utf8_lossy(&start.stderr);
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    for part in
        ["max_connections = 9999999999: this machine can hold ", "the lowest limit is ", "Lower it, or: "]
    {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    assert!(start.stdout.is_empty(), "it must not say that it is ready");
}

/// Linux 6.14 and later charge rings as locked memory, unless the process has `CAP_IPC_LOCK`.
#[test]
fn rings_that_are_charged_as_locked_memory_are_reckoned_with() {
    let without = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
    let start = start_too_large(&[&without[..], &["prlimit", "--memlock=8388608:8388608"]].concat());
    assert_eq!(start.status.code(), Some(2));
    let said = String::from_utf8_lossy(&start.stderr);
    let kernel = procfs::sys::kernel::Version::current().expect("/proc");
    let is_charged = (kernel.major, kernel.minor) >= (6, 14);
    assert_eq!(said.contains("the lowest limit is locked memory: 8192 KiB"), is_charged, "{said}");
}

#[test]
fn the_ready_line_and_the_metrics_tell_connections_and_what_they_cost() {
    let gateway = Gateway::start(&["--max-connections", "1000"]).expect("started");
    for word in [
        "connections=0",
        "connections_max=1000",
        "connection_kernel_bytes=",
        "connection_user_bytes=",
        "rings=",
    ] {
        assert!(gateway.ready_line().contains(word), "{word} is missing in {:?}", gateway.ready_line());
    }
    let clients: Vec<_> =
        (1..=20).map(|user| gateway.connect(user, 1, Encoding::Proto).expect("connected")).collect();
    let (_, metrics) = gateway.request("GET", "/metrics", "").expect("metrics");
    let value = |name: &str| {
        let lines = metrics.lines().filter(|line| line.split([' ', '{']).next() == Some(name));
        let values: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!values.is_empty(), "{name} is missing in {metrics}");
        values.iter().sum::<f64>() as usize
    };
    assert_eq!(value("roost_connections_max"), 1_000);
    assert!(value("roost_resident_bytes") > 1 << 20);
    // Twenty are too few for a share to be told from noise; that both are there is what counts.
    value("roost_connection_kernel_bytes");
    value("roost_connection_user_bytes");
    assert!(value("roost_rings") >= 1 && value("roost_ring_descriptors_max") >= 20);
    assert_eq!(value("roost_ring_descriptors"), clients.len());
}
