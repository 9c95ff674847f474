//! Network devices as `/sys/class/net` tells them: their queues, and what spreads packets over processors.

use std::{collections::BTreeSet, fs};

use crate::{
    limits,
    machine::Machine,
    setting::{Change, Judgement},
};

const FOLDER: &str = "/sys/class/net";

/// A network device that has hardware behind it, virtual machines' devices included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Queues for receiving.
    pub receive: usize,
    /// Queues for sending.
    pub transmit: usize,
}

impl Device {
    fn files(&self, direction: &str, file: &str) -> Vec<String> {
        let count = if direction == "rx" { self.receive } else { self.transmit };
        let queue = |at| format!("{FOLDER}/{}/queues/{direction}-{at}/{file}", self.name);
        (0..count.min(limits::QUEUES_MAX)).map(queue).collect()
    }
}

/// Devices with hardware: those with a `device` link. Loopback, TUN, veth and bridges have none.
pub fn hardware(machine: &Machine) -> Vec<Device> {
    let names = machine.names(FOLDER).into_iter();
    let real = names.filter(|name| machine.path(format!("{FOLDER}/{name}/device")).exists());
    real.map(|name| {
        let queues = machine.names(format!("{FOLDER}/{name}/queues"));
        let count = |kind: &str| queues.iter().filter(|queue| queue.starts_with(kind)).count();
        let (receive, transmit) = (count("rx-"), count("tx-"));
        Device { name, receive, transmit }
    })
    .collect()
}

/// Devices with fewer queues for receiving than there are processors.
pub fn few_queues(machine: &Machine) -> Vec<Device> {
    let processors = machine.processors();
    hardware(machine).into_iter().filter(|device| (1..processors).contains(&device.receive)).collect()
}

/// Receive packet steering: a mask of processors for each queue. One that is set is left as it is.
pub fn packet_steering(machine: &Machine) -> Judgement {
    let files = queue_files(machine, few_queues(machine), "rx", "rps_cpus");
    let all = mask(machine.processors());
    each(machine, &files, &all, |text| text.contains(|digit| !matches!(digit, '0' | ',')))
}

/// Receive flow steering: the flows of each queue.
pub fn flow_steering(machine: &Machine, flows: u64) -> Judgement {
    let devices = few_queues(machine);
    let most = devices.iter().map(|device| device.receive).max().unwrap_or(1).max(1) as u64;
    let share = (flows / most).max(1);
    let files = queue_files(machine, devices, "rx", "rps_flow_cnt");
    each(machine, &files, &share.to_string(), |text| text.parse().is_ok_and(|count: u64| count >= share))
}

/// Transmit packet steering: which processors send by which of several queues.
pub fn transmit_steering(machine: &Machine) -> Judgement {
    let several = hardware(machine).into_iter().filter(|device| device.transmit > 1);
    let files = queue_files(machine, several.collect(), "tx", "xps_cpus");
    let is_set = |text: &str| text.contains(|digit| !matches!(digit, '0' | ','));
    if files.is_empty() {
        return Judgement::absent("no device with several queues");
    }
    if files.iter().any(|file| machine.text(file).is_some_and(|text| is_set(&text))) {
        return Judgement::ok("set", "set");
    }
    let processors = machine.processors();
    let changes = files.iter().enumerate().map(|(at, file)| {
        let mine = (0..processors).filter(|processor| processor % files.len() == at % files.len());
        Change::Kernel { file: file.clone(), value: mask_of(mine) }
    });
    let changes: Vec<Change> = changes.collect();
    Judgement::short("none", "set", "roost-tune plan shows the masks").changing(changes)
}

/// Whether the interrupts of several queues go to several processors.
pub fn interrupts(machine: &Machine) -> Judgement {
    let devices = hardware(machine).into_iter().filter(|device| device.receive > 1);
    for device in devices {
        let irqs = interrupt_numbers(machine, &device.name);
        let processors: BTreeSet<String> = irqs
            .iter()
            .filter_map(|irq| machine.text(format!("/proc/irq/{irq}/effective_affinity_list")))
            .collect();
        if irqs.len() > 1 && processors.len() == 1 && machine.processors() > 1 {
            return Judgement::short(
                format!(
                    "{}: all on processor {}",
                    device.name,
                    processors.first().map_or("", String::as_str)
                ),
                "spread",
                "start irqbalance, or write /proc/irq/N/smp_affinity_list",
            );
        }
    }
    if hardware(machine).iter().all(|device| device.receive <= 1) {
        return Judgement::absent("no device with several queues");
    }
    Judgement::ok("spread", "spread")
}

/// Interrupts of a device: its own, or those of the bus device that a virtio device stands on.
fn interrupt_numbers(machine: &Machine, name: &str) -> Vec<String> {
    let Ok(device) = fs::canonicalize(machine.path(format!("{FOLDER}/{name}/device"))) else {
        return Vec::new();
    };
    let folders = device.ancestors().take(2).map(|folder| folder.join("msi_irqs"));
    let found = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    found.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).take(limits::QUEUES_MAX).collect()
}

fn queue_files(machine: &Machine, devices: Vec<Device>, direction: &str, file: &str) -> Vec<String> {
    let files = devices.into_iter().flat_map(|device| device.files(direction, file));
    files.filter(|file| machine.text(file).is_some()).collect()
}

/// Judges files that shall all be `set`, and be given `value` where they are not.
fn each(machine: &Machine, files: &[String], value: &str, set: impl Fn(&str) -> bool) -> Judgement {
    let Some(first) = files.first() else { return Judgement::absent("no device with few queues") };
    let current = |file: &String| machine.text(file).unwrap_or_default();
    let Some(missing) = files.iter().find(|file| !set(&current(file))) else {
        return Judgement::ok(current(first), value);
    };
    let lift = format!("echo {value} > {missing}");
    let change = |file: &String| Change::Kernel { file: file.clone(), value: value.to_owned() };
    let changes = files.iter().filter(|file| !set(&current(file))).map(change).collect();
    Judgement::short(current(missing), value, lift).changing(changes)
}

/// The mask of the first `processors` processors, as the kernel writes it: hexadecimal, commas between words of 32 bits.
fn mask(processors: usize) -> String {
    mask_of(0..processors)
}

fn mask_of(processors: impl Iterator<Item = usize>) -> String {
    let mut words: Vec<u32> = vec![0];
    for processor in processors {
        let word = processor / 32;
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        words[word] |= 1 << (processor % 32);
    }
    let mut text: Vec<String> = words.iter().rev().map(|word| format!("{word:08x}")).collect();
    let first = text[0].trim_start_matches('0');
    text[0] = if first.is_empty() { "0".to_owned() } else { first.to_owned() };
    text.join(",")
}
