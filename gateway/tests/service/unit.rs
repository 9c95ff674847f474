//! The gateway as the unit file runs it: no capability, no new privileges, the unit's filter of system calls, files for its own
//! user alone.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use roost_client::harness::{Gateway, gateway_binary};
use roost_proto::codec::Encoding;
use seccompiler::{BpfProgram, TargetArch};
use serde_json::{Value, json};

const WRITE: u64 = libc::PROT_WRITE as u64;
const EXEC: u64 = libc::PROT_EXEC as u64;

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The system calls that the unit's filter leaves, where the list beside this file is of the unit's own lines.
fn calls() -> Vec<String> {
    let (unit, list) = (read("../tuning/units/roost-gateway.service"), read("tests/service/syscalls.txt"));
    let of_unit: Vec<&str> = unit.lines().filter(|line| line.starts_with("SystemCallFilter=")).collect();
    let of_list: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix("= ")).collect();
    assert_eq!(
        of_unit, of_list,
        "expand the unit's lines anew with `systemd-analyze syscall-filter` into syscalls.txt"
    );
    let names = list.lines().filter(|line| !line.starts_with(['#', '=']));
    names.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// What is allowed of a call: `MemoryDenyWriteExecute=` and `RestrictAddressFamilies=` look at its arguments.
fn rules(call: &str) -> Vec<Value> {
    let masked = |index: u32, mask: u64, is: u64| json!({"index": index, "type": "qword", "op": {"masked_eq": mask}, "val": is});
    let is = |index: u32, value: i32| json!({"index": index, "type": "dword", "op": "eq", "val": value});
    let arguments = match call {
        "mmap" => vec![masked(2, EXEC, 0), masked(2, WRITE | EXEC, EXEC)],
        "mprotect" | "pkey_mprotect" => vec![masked(2, EXEC, 0)],
        "socket" => vec![is(0, libc::AF_INET), is(0, libc::AF_INET6), is(0, libc::AF_UNIX)],
        _ => return vec![json!({"syscall": call})],
    };
    arguments.into_iter().map(|argument| json!({"syscall": call, "args": [argument]})).collect()
}

fn compile(calls: &[String]) -> Option<BpfProgram> {
    let allowed: Vec<Value> = calls.iter().flat_map(|call| rules(call)).collect();
    let filter = json!({"unit": {"mismatch_action": {"errno": libc::EPERM}, "match_action": "allow", "filter": allowed}});
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("x86_64 or aarch64");
    let programs: BTreeMap<String, BpfProgram> =
        seccompiler::compile_from_json(filter.to_string().as_bytes(), architecture)
            .ok()?
            .into_iter()
            .collect();
    programs.into_values().next()
}

/// The gateway without privileges, under the filter: started by a thread that has applied it to itself.
fn confined(filter: &BpfProgram, arguments: &[&str]) -> Gateway {
    let mut program = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        program.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        program.args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]);
    }
    program.arg("--no-new-privs");
    let program = std::thread::scope(|scope| {
        let start = move || {
            seccompiler::apply_filter(filter).expect("the kernel takes the filter");
            program.arg(gateway_binary().expect("built"));
            Gateway::start_by(program, arguments)
        };
        scope.spawn(start).join().expect("no panic")
    });
    program.expect("the gateway starts under the unit's filter")
}

fn modes(folder: &Path, into: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let metadata = entry.metadata().expect("there");
        into.push((entry.path(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            modes(&entry.path(), into);
        }
    }
}

#[test]
fn it_serves_without_a_privilege_under_the_units_filter_of_system_calls() {
    // Of the names, those of this architecture; setpriv's own calls come on top, which the unit's gateway has no use for.
    let mut calls = calls();
    assert!(!calls.iter().any(|call| call == "chroot" || call == "setuid"), "the list is the unit's");
    calls.extend(["setresuid", "setresgid", "setgroups", "capset"].map(str::to_owned));
    calls.retain(|call| compile(std::slice::from_ref(call)).is_some());
    assert!(calls.len() > 200, "only {} calls are known here", calls.len());
    let filter = compile(&calls).expect("a filter");
    let mut gateway = confined(&filter, &["--shards", "2"]);

    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("a process");
    let of = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
    };
    assert_eq!((of("Seccomp:"), of("NoNewPrivs:")), ("2".to_owned(), "1".to_owned()), "confined");
    if rustix::process::geteuid().is_root() {
        assert_eq!((of("CapEff:"), of("CapBnd:")), ("0".repeat(16), "0".repeat(16)), "no capability");
    }
    let (mut alice, _) = gateway.connect(1, 1, Encoding::Proto).expect("a session");
    let (mut bob, _) = gateway.connect(2, 1, Encoding::Json).expect("a session");
    alice.say(2, b"1", b"confined").expect("sent");
    assert_eq!(bob.message().expect("delivered").1.payload, &b"confined"[..]);
    let (status, _) = gateway
        .request("POST", "/v1/users", r#"{"user":"42","password":"correct horse"}"#)
        .expect("answered");
    assert_eq!(status, 201, "accounts are hashed in threads of their own");
    for path in ["/healthz", "/readyz", "/metrics", "/"] {
        assert_eq!(gateway.request("GET", path, "").expect("answered").0, 200, "{path}");
    }

    let mut all = Vec::new();
    modes(gateway.data(), &mut all);
    all.retain(|(path, _)| !path.ends_with("stderr.log"));
    assert!(all.len() > 10, "{all:?}");
    let open: Vec<_> = all.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
    assert!(open.is_empty(), "files that others can use: {open:?}");
    assert_eq!(gateway.terminate().expect("it ends").code(), Some(0));
    assert!(!gateway.said().expect("a log").contains("ERROR"), "{}", gateway.said().expect("a log"));
}

#[test]
fn the_filter_is_one() {
    let calls: Vec<String> =
        calls().into_iter().filter(|call| compile(std::slice::from_ref(call)).is_some()).collect();
    let filter = compile(&calls).expect("a filter");
    let (forbidden, family) = std::thread::scope(|scope| {
        let tried = scope.spawn(|| {
            seccompiler::apply_filter(&filter).expect("the kernel takes the filter");
            let netlink = socket2::Socket::new(libc::AF_NETLINK.into(), socket2::Type::RAW, None);
            (nix::unistd::chroot("/"), netlink.map(drop).map_err(|error| error.raw_os_error()))
        });
        tried.join().expect("no panic")
    });
    assert_eq!((forbidden, family), (Err(nix::errno::Errno::EPERM), Err(Some(libc::EPERM))));
}

#[test]
fn the_unit_keeps_what_it_promises() {
    let unit = read("../tuning/units/roost-gateway.service");
    for line in [
        "Type=notify",
        "WatchdogSec=30",
        "UMask=0077",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "RestrictNamespaces=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "SystemCallErrorNumber=EPERM",
    ] {
        assert!(unit.lines().any(|has| has == line), "{line} is missing");
    }
    for name in ["roost-gateway.socket", "roost-gateway-http.socket"] {
        let socket = read(&format!("../tuning/units/{name}"));
        assert!(
            socket.contains("FileDescriptorName=") && socket.contains("Service=roost-gateway.service"),
            "{name}"
        );
        assert!(unit.contains(name), "enabling the service enables {name}");
    }
}
