//! Network hardware, how its interrupts are spread, and the clock.

use crate::{
    check,
    demand::Demand,
    devices,
    machine::Machine,
    setting::{Change, Judgement, Rule, Scope, Setting},
};

const SCALING: &str = "kernel: Documentation/networking/scaling.rst";
/// Flows remembered where receive packet steering is in use.
const FLOWS: u64 = 32_768;

/// See the module.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "net.core.netdev_max_backlog",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(backlog),
        needs: "1,000; 16,384 for loadgen, or where packets were dropped (/proc/net/softnet_stat)",
        why: "Packets waiting for a processor that come by loopback, TUN, veth or packet steering; drivers with NAPI do not use \
              it. A storm over loopback overruns the default.",
        cost: "Up to so many packets for each processor, while they wait; longer queues hide an overload.",
        source: SCALING,
    },
    Setting {
        name: "nic queues",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(queues),
        needs: "told, not required: one for each processor, or packet steering",
        why: "With one queue a single processor takes all packets; idle connections do not notice, traffic does.",
        cost: "An interrupt and buffers for each queue.",
        source: SCALING,
    },
    Setting {
        name: "rps",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, _| devices::packet_steering(machine)),
        needs: "every processor, on devices with fewer queues than processors",
        why: "Spreads the packets of a queue over processors by their hash, which hardware with few queues cannot do.",
        cost: "An interrupt between processors for a batch of packets.",
        source: SCALING,
    },
    Setting {
        name: "net.core.rps_sock_flow_entries",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, _| {
            if devices::few_queues(machine).is_empty() {
                return Judgement::absent("no device with few queues");
            }
            check::at_least(machine, "net.core.rps_sock_flow_entries", &[FLOWS])
        }),
        needs: "32,768, where packet steering is needed",
        why: "With it packets go to the processor whose shard reads the connection. The table remembers the flows that are \
              busy, not all of them.",
        cost: "4 bytes a flow, and a look-up a packet.",
        source: SCALING,
    },
    Setting {
        name: "rfs",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, _| devices::flow_steering(machine, FLOWS)),
        needs: "32,768 flows divided by the queues, where packet steering is needed",
        why: "The share of each queue in rps_sock_flow_entries; without it that table is not used.",
        cost: "8 bytes a flow.",
        source: SCALING,
    },
    Setting {
        name: "xps",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, _| devices::transmit_steering(machine)),
        needs: "each processor in the mask of some queue, on devices with several",
        why: "Each processor sends by a queue of its own, without contending for its lock.",
        cost: "Nothing.",
        source: SCALING,
    },
    Setting {
        name: "irq affinity",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(|machine, _| devices::interrupts(machine)),
        needs: "the interrupts of several queues on as many processors",
        why: "Queues whose interrupts all go to one processor are one queue. apply leaves it alone: irqbalance and \
              drivers that manage their interrupts would undo it.",
        cost: "Nothing.",
        source: "kernel: Documentation/core-api/irq/irq-affinity.rst",
    },
    Setting {
        name: "net.core.busy_poll",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(busy_poll),
        needs: "as it is",
        why: "Saves microseconds a message by burning a processor while nothing comes. It acts in poll, select and blocking \
              reads; the gateway sleeps in io_uring, which it does not touch, and has a --busy-poll-us of its own.",
        cost: "A processor at full load for each thread that polls.",
        source: "kernel: Documentation/networking/napi.rst; man 3 io_uring_register_napi",
    },
    Setting {
        name: "clock source",
        stops: false,
        scope: Scope::Host,
        rule: Rule::Judged(clock),
        needs: "one that programs read without a system call: tsc, kvm-clock, hyperv_clocksource_tsc_page, arch_sys_counter",
        why: "Gateway and load generator read the clock for every batch and message. With hpet or acpi_pm that is a system \
              call and a slow device each time.",
        cost: "A tsc the kernel does not trust may drift: it says so at start.",
        source: "kernel: Documentation/admin-guide/kernel-parameters.txt (clocksource); man 7 vdso",
    },
];

fn backlog(machine: &Machine, demand: &Demand) -> Judgement {
    let text = machine.text("/proc/net/softnet_stat").unwrap_or_default();
    // The second column: packets dropped because the queue was full, hexadecimal.
    let dropped = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .any(|word| word.contains(|digit| digit != '0'));
    let required = if dropped || !demand.is_gateway() { 16_384 } else { 1_000 };
    check::at_least(machine, "net.core.netdev_max_backlog", &[required])
}

fn queues(machine: &Machine, _demand: &Demand) -> Judgement {
    let devices = devices::hardware(machine);
    if devices.is_empty() {
        return Judgement::absent("no hardware");
    }
    let told = devices
        .iter()
        .map(|device| format!("{}: {} rx, {} tx", device.name, device.receive, device.transmit));
    Judgement::ok(
        told.collect::<Vec<_>>().join("; "),
        format!("as it is ({} processors)", machine.processors()),
    )
}

fn busy_poll(machine: &Machine, _demand: &Demand) -> Judgement {
    if devices::hardware(machine).is_empty() {
        return Judgement::absent("no hardware");
    }
    check::at_least(machine, "net.core.busy_poll", &[])
}

fn clock(machine: &Machine, _demand: &Demand) -> Judgement {
    const FOLDER: &str = "/sys/devices/system/clocksource/clocksource0";
    const READ_BY_PROGRAMS: &[&str] =
        &["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
    let Some(current) = machine.text(format!("{FOLDER}/current_clocksource")) else {
        return Judgement::absent("not told");
    };
    if READ_BY_PROGRAMS.contains(&current.as_str()) {
        return Judgement::ok(current, "tsc");
    }
    let available = machine.text(format!("{FOLDER}/available_clocksource")).unwrap_or_default();
    let better = available.split_whitespace().find(|name| READ_BY_PROGRAMS.contains(name));
    match better {
        Some(name) => {
            let file = format!("{FOLDER}/current_clocksource");
            Judgement::short(current, name, format!("echo {name} > {file}"))
                .changing(vec![Change::Kernel { file, value: name.to_owned() }])
        }
        None => Judgement::short(
            current,
            "tsc",
            "see what the kernel says of the tsc: dmesg | grep -i clocksource",
        ),
    }
}
