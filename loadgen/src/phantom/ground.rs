//! What phantoms stand on: the network namespace, the TUN device, the gateway in it, and the watch over them.

use super::gateway::{Gateway, argument};
use super::namespace;
use super::watch::Watch;
use crate::auth::Credentials;
use crate::limits::QUEUE_PACKETS;
use crate::net;
use crate::options::{Auth, Options, Scenario};
use crate::run::Usage;
use crate::tun::{Capture, DEVICE, Device, Queue};
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

/// The gateway's address: the first of 198.18.0.0/15, the block for benchmarks (RFC 2544, RFC 6890). The phantoms have
/// the others.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Bits of the block's prefix.
pub const PREFIX: u32 = 15;

/// The ground of a run. Dropped, it ends the gateway; namespace and device go with the last process and queue in them.
#[derive(Debug)]
pub struct Ground {
    /// One queue of the device for each thread; [`crate::tun::steer::queue_of`] says which packets come out of it.
    pub queues: Vec<Queue>,
    /// Where the gateway listens.
    pub server: SocketAddrV4,
    /// The gateway's process.
    pub gateway_pid: i32,
    /// Buckets of the namespace's TCP hash table; `None` where the namespace is the gateway's own.
    pub hash_buckets: Option<u64>,
    gateway: Option<Gateway>,
    capture: Option<Arc<Capture>>,
    watch: Arc<Watch>,
}

/// Makes the ground that `options` ask for. They then know the target, the credentials and the gateway's process. Call it
/// from the thread that stays until the end, before any other is started: the namespace is the calling thread's, and
/// the gateway is killed when that thread ends.
///
/// # Errors
/// [`Usage`] for what the user can mend; anything else where the machine did not do as asked.
pub fn prepare(options: &mut Options) -> anyhow::Result<Ground> {
    // Inherited by the gateway, whose rings' tables are bounded by it.
    net::raise_file_limit().context("cannot raise the limit of open files")?;
    let watch = Watch::start(options.cli.memory_floor_mb << 20).context("cannot watch over the run")?;
    let watch = Arc::new(watch);
    let hash_buckets = match options.cli.gateway_pid {
        Some(pid) => {
            namespace::enter(pid)?;
            None
        }
        None => Some(namespace::make(options.cli.clients)?),
    };
    let mut queues = device(options.cli.threads)?;
    let capture = match &options.cli.pcap {
        Some(path) => Some(Arc::new(
            Capture::create(path, options.cli.pcap_packets)
                .map_err(|error| Usage::new(format!("cannot write --pcap {}: {error}", path.display())))?,
        )),
        None => None,
    };
    if let Some(capture) = &capture {
        for queue in &mut queues {
            queue.record(capture.clone());
        }
    }
    let (gateway, gateway_pid, server) = if let Some(pid) = options.cli.gateway_pid {
        (None, pid, attached(options)?)
    } else {
        let longest = Duration::from_secs(options.cli.ready_s);
        let gateway = Gateway::start(&options.cli.command, SERVER, longest, watch.clone())?;
        introduce(options, &gateway)?;
        let (pid, server) = (gateway.pid(), gateway.ws);
        (Some(gateway), pid, server)
    };
    Ok(Ground { queues, server, gateway_pid, hash_buckets, gateway, capture, watch })
}

impl Ground {
    /// Why the run cannot go on, in a sentence: memory, or a gateway that is gone. Look now and then.
    pub fn stopped(&mut self) -> Option<String> {
        self.watch.shortage().or_else(|| self.gateway.as_mut().and_then(Gateway::ended))
    }

    /// Ends the gateway where it is ours, and the capture. The queues' threads have stopped.
    ///
    /// # Errors
    /// The gateway did not end in order, or the capture could not be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let captured = self.capture.take().map_or(Ok(()), |capture| capture.finish());
        self.gateway.take().map_or(Ok(()), |mut gateway| gateway.stop())?;
        captured.context("cannot write --pcap")
    }
}

fn device(queues: u32) -> anyhow::Result<Vec<Queue>> {
    let (device, queues) = Device::open(DEVICE, queues, QUEUE_PACKETS).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => anyhow::Error::new(Usage::new(format!(
            "--kind phantom: {error}; it needs CAP_NET_ADMIN and CAP_BPF: run it as root, or use --kind kernel"
        ))),
        ErrorKind::AlreadyExists => {
            Usage::new(format!("--kind phantom: {error}; is another roost-loadgen attached to this gateway?")).into()
        }
        ErrorKind::NotFound => Usage::new(format!("--kind phantom: {error}")).into(),
        _ => anyhow::Error::new(error).context("--kind phantom needs a TUN device"),
    })?;
    namespace::prepare_device(device.name())?;
    device.up(SERVER, PREFIX).with_context(|| format!("cannot set {} up", device.name()))?;
    Ok(queues)
}

/// The address of a gateway that was there already.
fn attached(options: &Options) -> Result<SocketAddrV4, Usage> {
    match options.target.address {
        SocketAddr::V4(address) if *address.ip() == SERVER => Ok(address),
        other => Err(Usage::new(format!(
            "--url: phantoms reach {SERVER} only, not {other}; let the gateway listen on 0.0.0.0, and give --url \
             ws://{SERVER}:PORT/v1/ws"
        ))),
    }
}

/// Puts what a gateway of ours told into the options.
fn introduce(options: &mut Options, gateway: &Gateway) -> anyhow::Result<()> {
    options.cli.gateway_pid = Some(gateway.pid());
    options.target.address = gateway.ws.into();
    if options.cli.url.is_none() {
        options.target.authority = gateway.ws.to_string();
    }
    if options.cli.secret_file.is_some()
        || options.cli.auth.is_some()
        || options.cli.scenario == Scenario::Echo
    {
        return Ok(());
    }
    let is = |flag, value| is_set(&options.cli.command, flag, value);
    options.credentials = if is("--backend", "echo") {
        Credentials::Anonymous
    } else if is("--auth", "none") {
        Credentials::Query
    } else {
        let secret = gateway.data.join("secret");
        match Credentials::load(Some(&secret), None::<Auth>, Duration::ZERO, |_| ()) {
            Ok(credentials) => credentials,
            Err(reason) => bail!("{reason}"),
        }
    };
    Ok(())
}

fn is_set(command: &[OsString], flag: &str, value: &str) -> bool {
    argument(command, flag).is_some_and(|given| given == value)
}
