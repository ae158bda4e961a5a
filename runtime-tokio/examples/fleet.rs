//! A thousand idle devices in one process, and what they cost.
//!
//! ```console
//! cargo run --release -p nerves-hub-link-tokio --example fleet -- [DEVICES] [SECONDS]
//! ```
//!
//! The devices speak to test hubs in a process of their own, over TLS. When all are joined, the processor time and the
//! memory of the devices' process alone are looked at for a while. All run on one thread.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nerves_hub_link_platform::install::{DiskPolicy, FwupStreamInstaller};
use nerves_hub_link_protocol::{Auth, Client, Config, FirmwareMeta, SharedSecret};
use nerves_hub_link_testkit::server::{HubOptions, HubServer};
use nerves_hub_link_tokio::{Device, Options, Runner, Status};
use nerves_hub_link_transport::{Roots, Tls, TlsOptions};

/// Devices per hub: it has a thread for each, and a limit.
const PER_HUB: usize = 200;

struct Quiet;

impl Client for Quiet {}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    if arguments.first().is_some_and(|first| first == "serve") {
        return serve(number(1, 1)?);
    }
    let (devices, seconds) = (number(0, 1000)?, number(1, 30)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(devices, Duration::from_secs(seconds.try_into()?)))
}

async fn run(number: usize, idle: Duration) -> Result<(), Box<dyn Error>> {
    let (mut hubs, addresses) = hubs(number.div_ceil(PER_HUB))?;
    let before = resident_kib();
    let tls: Vec<Tls> = addresses.iter().map(|hub| tls(&hub.ca)).collect::<Result<_, _>>()?;
    let begin = Instant::now();
    let mut devices: Vec<Device> = Vec::new();
    for at in 0..number {
        let (hub, tls) = (at / PER_HUB, tls.get(at / PER_HUB).cloned());
        let (Some(hub), Some(tls)) = (addresses.get(hub), tls) else { return Err("too few hubs".into()) };
        devices.push(device(at, hub, tls)?);
    }
    for device in &devices {
        let (status, joined) = device.wait_until(Duration::from_secs(120), Status::joined).await;
        if !joined {
            return Err(format!("a device did not get online: {:?}", status.last_error).into());
        }
    }
    println!("{number} devices joined after {:.1} s", begin.elapsed().as_secs_f64());
    // What joining leaves to do is no part of being idle.
    tokio::time::sleep(idle / 10).await;
    let (busy, start) = (processor_time(), Instant::now());
    tokio::time::sleep(idle).await;
    let (busy, elapsed) = (processor_time().saturating_sub(busy), start.elapsed());
    let joined = devices.iter().filter(|device| device.joined()).count();
    println!(
        "{joined} joined after {:.0} s more, which took {:.2} s of processor time: {:.3} % of a core",
        elapsed.as_secs_f64(),
        busy.as_secs_f64(),
        100.0 * busy.as_secs_f64() / elapsed.as_secs_f64().max(0.001)
    );
    let memory = resident_kib().saturating_sub(before);
    println!("memory: {memory} KiB beside {before}, {:.1} KiB for each device", per(memory, number));
    println!("threads: {}", std::fs::read_dir("/proc/self/task")?.count());
    let begin = Instant::now();
    for device in &devices {
        device.request_stop();
    }
    for device in devices {
        device.shutdown().await;
    }
    println!("all stopped after {:.2} s", begin.elapsed().as_secs_f64());
    hubs.kill()?;
    hubs.wait()?;
    Ok(())
}

fn device(at: usize, hub: &Hub, tls: Tls) -> Result<Device, Box<dyn Error>> {
    let running = FirmwareMeta {
        uuid: "0b2d4c1e-6f0a-5d3b-8f0e-000000000000".to_owned(),
        product: "lift".to_owned(),
        version: "1.0.0".to_owned(),
        platform: "testkit".to_owned(),
        architecture: "generic".to_owned(),
        ..FirmwareMeta::default()
    };
    let auth = Auth::SharedSecret(SharedSecret::new(&*hub.key, &*hub.secret, format!("device-{at}")));
    let mut config = Config::new(&*hub.url, auth, running);
    config.wait_for_network = false;
    config.public_keys = vec!["u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=".to_owned()];
    let options = Options::new(tls, FwupStreamInstaller::new(DiskPolicy::new("disk.img")), Quiet);
    Ok(Runner::new(config, options)?.spawn()?)
}

fn tls(ca: &str) -> Result<Tls, Box<dyn Error>> {
    Ok(Tls::new(&TlsOptions::new(Roots::Pem(ca.replace('|', "\n").into_bytes())))?)
}

/// Where a hub is and what it takes.
struct Hub {
    url: String,
    key: String,
    secret: String,
    ca: String,
}

/// Starts hubs in a process of their own.
fn hubs(number: usize) -> Result<(Child, Vec<Hub>), Box<dyn Error>> {
    let mut hubs = Command::new(std::env::current_exe()?)
        .args(["serve", &number.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(hubs.stdout.take().ok_or("no output")?);
    let mut addresses = Vec::new();
    for line in said.lines().take(number) {
        let line = line?;
        let mut words = line.split('\t').map(str::to_owned);
        let mut next = || words.next().ok_or("a short line");
        addresses.push(Hub { url: next()?, key: next()?, secret: next()?, ca: next()? });
    }
    Ok((hubs, addresses))
}

/// Is the hubs, until the input ends.
fn serve(number: usize) -> Result<(), Box<dyn Error>> {
    let hubs: Vec<HubServer> =
        (0..number).map(|_| HubServer::start(HubOptions::default())).collect::<Result<_, _>>()?;
    for hub in &hubs {
        let (product, ca) = (hub.product(), hub.ca_pem().replace('\n', "|"));
        println!("{}\t{}\t{}\t{ca}", hub.url(), product.key, product.secret);
    }
    std::io::stdout().flush()?;
    std::io::stdin().lines().for_each(drop);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn per(memory: u64, number: usize) -> f64 {
    memory as f64 / number as f64
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The processor time of this process so far, in ticks of ten milliseconds.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
