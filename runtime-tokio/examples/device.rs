//! A whole device on tokio: connects, shows what happens, updates its disk, and ends politely at Ctrl-C.
//!
//! ```console
//! cargo run -p nerves-hub-link-tokio --example device -- \
//!     wss://devices.example.com my-device-1 nhp_KEY SECRET disk.img fwup-key.pub [ca.pem]
//! ```
//!
//! `disk.img` is an image of a device's disk, with the environment of U-Boot where `nerves-hub-link run` looks for it.
//! `/dev/mmcblk0` and the like need `allow_block_device`.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use nerves_hub_link_platform::identity::Identity;
use nerves_hub_link_platform::install::{DiskPolicy, FwupStreamInstaller};
use nerves_hub_link_platform::kv::UbootStore;
use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_protocol::{Auth, Config, Decision, Event, SharedSecret};
use nerves_hub_link_tokio::{Device, Events, Exit, Options, Runner, device_config, events};
use nerves_hub_link_transport::{Roots, Tls, TlsOptions};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, serial, key, secret, disk, public_key, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: device URL SERIAL KEY SECRET DISK PUBLIC_KEY_FILE [CA_FILE]");
        return ExitCode::from(2);
    };
    let auth = Auth::SharedSecret(SharedSecret::new(key, secret, serial));
    match start(host, auth, disk.as_ref(), public_key, rest.first().map(String::as_str)) {
        Ok((device, news)) => run(device, news).await,
        Err(error) => {
            eprintln!("device: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sets the device up: who it is, what it runs, whom it trusts, what it may write.
fn start(
    host: &str,
    auth: Auth,
    disk: &Path,
    public_key: &str,
    ca: Option<&str>,
) -> Result<(Device, Events), Box<dyn Error>> {
    let first = Location { path: disk.to_owned(), offset: 0x2000, size: 0x2000 };
    let identity = Identity::load(&UbootStore::new(FwEnvConfig::new(first, None)?))?;
    let mut config: Config = device_config(host, auth, &identity);
    config.public_keys = vec![std::fs::read_to_string(public_key)?.trim().to_owned()];
    let roots = match ca {
        Some(file) => Roots::Pem(std::fs::read(file)?),
        None => Roots::default(),
    };
    let installer = FwupStreamInstaller::new(DiskPolicy::new(disk));
    // Offers are decided below; all else is as the default callbacks have it.
    let (client, news) = events();
    let options = Options::new(Tls::new(&TlsOptions::new(roots))?, installer, client.decide_later())
        .on_notice(|notice| println!("note: {notice}"));
    Ok((Runner::new(config, options)?.spawn()?, news))
}

/// Takes one event after the other, until the device has ended.
async fn run(device: Device, mut news: Events) -> ExitCode {
    loop {
        let event = tokio::select! {
            event = news.next() => event,
            _ = tokio::signal::ctrl_c() => {
                println!("leaving");
                device.shutdown().await;
                return ExitCode::SUCCESS;
            }
        };
        match event {
            Some(Event::UpdateOffered { offer, info }) => {
                println!("offered: {} {}", info.firmware.product, info.firmware.version);
                // A real device would ask itself whether this is a good moment, for as long as it takes.
                if let Err(error) = device.decide(offer, Decision::Apply) {
                    println!("{error}");
                }
            }
            Some(Event::UpdateProgress { stage, percent, .. }) => println!("{stage:?}: {percent} %"),
            Some(event) => println!("{event:?}"),
            None => break,
        }
    }
    match device.wait().await {
        Exit::Reboot { reason } => {
            println!("restart the device now: {reason}");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("device: {other:?}");
            ExitCode::FAILURE
        }
    }
}
