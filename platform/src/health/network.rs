//! Network interfaces and what went over them.

use std::collections::BTreeMap;
use std::path::Path;

use super::{float, read};
use crate::limits::{INTERFACES_MAX, TRAFFIC_INTERFACES_MAX};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its kind.
    pub kind: InterfaceKind,
    /// The kernel's word for its state (`operstate`): `up`, `down`, `dormant`, `unknown`, …
    pub state: String,
}

/// The kind of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// A cable.
    Ethernet,
    /// Wi-Fi.
    Wifi,
    /// A mobile network.
    Mobile,
    /// Without hardware: bridges, tunnels, containers.
    Virtual,
}

/// Returns the interfaces but the loopback, those with hardware first when there are too many.
pub(super) fn interfaces(root: &Path) -> BTreeMap<String, Interface> {
    let folder = root.join("sys/class/net");
    let mut found = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { continue };
        // 772 is the loopback (if_arp.h); a plain file, such as that of bonding, is no interface.
        if name == "lo" || !path.is_dir() || read(&path.join("type")).is_some_and(|kind| kind.trim() == "772")
        {
            continue;
        }
        let state =
            read(&path.join("operstate")).map_or_else(|| "unknown".to_owned(), |it| it.trim().to_owned());
        found.push((name.clone(), Interface { kind: kind(&path, &name), state }));
    }
    found.sort_by(|(a, left), (b, right)| {
        let virtual_last = |it: &Interface| it.kind == InterfaceKind::Virtual;
        (virtual_last(left), a).cmp(&(virtual_last(right), b))
    });
    found.truncate(INTERFACES_MAX);
    found.into_iter().collect()
}

fn kind(path: &Path, name: &str) -> InterfaceKind {
    let device = read(&path.join("uevent")).unwrap_or_default();
    let has = |what: &str| path.join(what).exists();
    if has("wireless") || has("phy80211") || device.contains("DEVTYPE=wlan") {
        InterfaceKind::Wifi
    } else if device.contains("DEVTYPE=wwan") || name.starts_with("wwan") || name.starts_with("ppp") {
        InterfaceKind::Mobile
    } else if has("device") {
        InterfaceKind::Ethernet
    } else {
        InterfaceKind::Virtual
    }
}

/// Returns the bytes received and sent by the interfaces that have hardware, or are all there is.
pub(super) fn traffic(root: &Path) -> Vec<(String, [f64; 2])> {
    let interfaces = interfaces(root);
    let text = read(&root.join("proc/net/dev")).unwrap_or_default();
    let mut found: Vec<(bool, String, [f64; 2])> = Vec::new();
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let (name, mut numbers) = (name.trim(), numbers.split_ascii_whitespace());
        let mut next = |place| numbers.nth(place).and_then(|number| number.parse().ok()).map(float);
        // Eight columns about what was received, then those about what was sent (proc_pid_net(5)).
        if let (false, Some(received), Some(sent)) = (name == "lo", next(0), next(7)) {
            let hardware = interfaces.get(name).is_some_and(|it| it.kind != InterfaceKind::Virtual);
            found.push((!hardware, name.to_owned(), [received, sent]));
        }
    }
    found.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
    found.truncate(TRAFFIC_INTERFACES_MAX);
    found.into_iter().map(|(_, name, bytes)| (name, bytes)).collect()
}
