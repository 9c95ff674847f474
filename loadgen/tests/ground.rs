//! The ground of phantom runs as processes see it: what is made, what is refused, and that nothing is left. Needs root.

mod common;

use common::loadgen;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use roost_client::harness::{Gateway, gateway_binary};
use roost_loadgen::tun::{DEVICE, loopback_up};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for any machine: what is waited for comes soon, or the test fails.
const PATIENCE: Duration = Duration::from_mins(1);

const PHANTOM: [&str; 7] = ["idle", "--kind", "phantom", "--clients", "10", "--quiet", "--ramp-per-s"];

/// A phantom run with these options and this gateway.
fn phantom(options: &[&str], gateway: &[&str]) -> Vec<String> {
    let gateway = if gateway.is_empty() { vec![] } else { [&["--"], gateway].concat() };
    PHANTOM.iter().chain(&["1000"]).chain(options).chain(&gateway).map(ToString::to_string).collect()
}

fn run(options: &[&str], gateway: &[&str]) -> (Option<i32>, String) {
    let arguments = phantom(options, gateway);
    let Output { status, stderr, .. } = loadgen(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// The same, going on meanwhile, with its temporary files in `folder`.
fn begin(options: &[&str], gateway: &[&str], folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"));
    command.args(phantom(options, gateway)).env("TMPDIR", folder);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("built with this test")
}

fn gateway() -> String {
    gateway_binary().expect("built").to_str().expect("text").to_owned()
}

/// Looks until there is something.
fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The only child of a process, once it has one.
fn child_of(parent: &Child) -> u32 {
    let path = format!("/proc/{0}/task/{0}/children", parent.id());
    wait_for("a child process", || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

fn namespace_of(process: impl std::fmt::Display) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

/// Whether a process is in this network namespace.
fn is_inhabited(namespace: &Path) -> bool {
    let processes = fs::read_dir("/proc").expect("readable").flatten();
    processes.filter_map(|entry| namespace_of(entry.file_name().to_str()?)).any(|found| found == namespace)
}

fn devices_of(process: impl std::fmt::Display) -> String {
    fs::read_to_string(format!("/proc/{process}/net/dev")).unwrap_or_default()
}

#[test]
fn killed_it_leaves_no_gateway_no_namespace_and_no_device() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut generator = begin(&[], &["sh", "-c", "exec sleep 600"], folder.path());
    let gateway = child_of(&generator);
    let namespace = wait_for("a namespace", || namespace_of(gateway));
    assert_ne!(Some(&namespace), namespace_of("self").as_ref());
    assert_eq!(namespace_of(generator.id()).as_ref(), Some(&namespace));
    assert!(devices_of(gateway).contains(DEVICE), "{}", devices_of(gateway));
    generator.kill().expect("SIGKILL");
    generator.wait().expect("waited for");
    wait_for("the end of the gateway", || (!is_inhabited(&namespace)).then_some(()));
    assert!(!devices_of("self").contains(DEVICE));
}

#[test]
fn a_signal_ends_the_gateway_in_order_and_removes_its_data() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let generator = begin(&["--duration-s", "600"], &[&gateway()], folder.path());
        let gateway = child_of(&generator);
        let secret = |entry: fs::DirEntry| entry.path().join("secret").exists().then_some(());
        wait_for("the gateway's secret", || fs::read_dir(&folder).ok()?.flatten().find_map(secret));
        kill(Pid::from_raw(generator.id() as i32), signal).expect("signalled");
        let output = generator.wait_with_output().expect("waited for");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("ended by a signal"), "{told}");
        assert_eq!(namespace_of(gateway), None, "the gateway is still there");
        assert_eq!(fs::read_dir(&folder).expect("readable").count(), 0, "its data is still there");
    }
}

#[test]
fn a_gateway_that_fails_or_cannot_be_reached_is_told_with_its_words() {
    for (gateway, code, reason) in [
        (&["sh", "-c", "echo the disk is full >&2; exit 3"][..], 1, "gateway: the disk is full"),
        (&["./no-such-gateway"], 2, "cannot start ./no-such-gateway"),
        (&[&gateway(), "--listen", "127.0.0.1:0"], 2, "leave --listen out"),
        (&[&gateway(), "--frobnicate"], 1, "--frobnicate"),
    ] {
        let (found, told) = run(&[], gateway);
        assert_eq!(found, Some(code), "{gateway:?}: {told}");
        assert!(told.contains(reason), "{gateway:?}: {told}");
    }
    let (code, told) = run(&["--ready-s", "1"], &["sh", "-c", "exec sleep 600"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("not ready within 1 s"), "{told}");
}

#[test]
fn a_gateway_in_our_own_namespace_is_refused_with_what_to_do() {
    let own = std::process::id().to_string();
    let (code, told) = run(&["--gateway-pid", &own, "--url", "ws://198.18.0.1:9000/v1/ws"], &[]);
    assert_eq!(code, Some(2), "{told}");
    for text in ["-- roost-gateway", "unshare -n", "ip netns exec"] {
        assert!(told.contains(text), "{told}");
    }
}

#[test]
fn a_gateway_in_a_namespace_of_its_own_is_joined_and_the_device_removed() {
    let joined = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root: CAP_SYS_ADMIN makes namespaces");
        loopback_up().expect("lo is up");
        let gateway = Gateway::start_on("0.0.0.0:0", &[]).expect("a gateway");
        let (pid, url) = (gateway.pid().to_string(), format!("ws://198.18.0.1:{}/v1/ws", gateway.ws.port()));
        let secret = gateway.data().join("secret");
        let secret = ["--secret-file", secret.to_str().expect("text"), "--duration-s", "1"];
        // It is in the thread's namespace already, which is the gateway's: from another one it has to join.
        let attached = [&["--gateway-pid", &pid, "--url", &url][..], &secret].concat();
        let (code, told) = thread::scope(|scope| {
            let outside = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("root");
                run(&attached, &[])
            });
            outside.join().expect("no panic")
        });
        assert_eq!(code, Some(0), "{told}");
        assert!(!devices_of(&pid).contains(DEVICE), "{}", devices_of(&pid));
        let elsewhere = [&["--gateway-pid", &pid, "--url", "ws://127.0.0.1:1/"][..], &secret].concat();
        thread::scope(|scope| {
            let outside = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("root");
                run(&elsewhere, &[])
            });
            let (code, told) = outside.join().expect("no panic");
            assert_eq!(code, Some(2), "{told}");
            assert!(told.contains("phantoms reach 198.18.0.1 only"), "{told}");
        });
    });
    if let Err(panic) = joined.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn runs_side_by_side_do_not_meet() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let gateway = gateway();
    let runs: Vec<_> = (0..2).map(|_| begin(&["--duration-s", "1"], &[&gateway], folder.path())).collect();
    for run in runs {
        let output = run.wait_with_output().expect("waited for");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(fs::read_dir(&folder).expect("readable").count(), 0, "data was left");
}

#[test]
fn a_run_ends_when_less_memory_is_left_than_the_floor() {
    let floor = ["--memory-floor-mb", "1000000000", "--duration-s", "600"];
    // It is refused at once; started all the same, it ends.
    let (code, told) = run(&floor, &[&gateway()]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("the first limit is memory available"), "{told}");
    let (code, told) = run(&[&floor[..], &["--ignore-preflight"]].concat(), &[&gateway()]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("--memory-floor-mb is 1000000000"), "{told}");
}

#[test]
fn without_the_capabilities_it_says_so() {
    let output = Command::new("setpriv")
        .args(["--bounding-set=-sys_admin,-net_admin", env!("CARGO_BIN_EXE_roost-loadgen")])
        .args(phantom(&[], &["roost-gateway"]))
        .output()
        .expect("setpriv of util-linux");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("CAP_SYS_ADMIN"), "{told}");
}
