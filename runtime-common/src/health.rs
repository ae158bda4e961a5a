//! The health of the device, for applications that don't tell it themselves.

use std::collections::BTreeMap;

use nerves_hub_link_platform::health::{self, HealthSampler};
use nerves_hub_link_protocol::{
    Connectivity, Event, ExtensionCommand, ExtensionEvent, HealthReport, InterfaceKind, MetricSample, Reach,
};

/// A question about the device that the system's numbers answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Health,
    Metrics,
}

impl Question {
    /// Returns the question in an event, if it is one.
    pub(crate) const fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Extension(ExtensionEvent::HealthRequested) => Some(Self::Health),
            Event::Extension(ExtensionEvent::MetricsRequested) => Some(Self::Metrics),
            _ => None,
        }
    }

    /// Answers it. May block: on a file system that hangs, say.
    pub(crate) fn answer(self, sampler: &mut HealthSampler) -> ExtensionCommand {
        match self {
            Self::Health => ExtensionCommand::HealthReport(Box::new(health_report(sampler))),
            Self::Metrics => {
                ExtensionCommand::Metrics(MetricSample { time: None, metrics: sampler.sample() })
            }
        }
    }
}

/// Makes the report that is sent by default: numbers and network interfaces. For applications that add to it.
pub fn health_report(sampler: &mut HealthSampler) -> HealthReport {
    let interfaces = sampler.interfaces().into_iter().map(|(name, it)| (name, connectivity(&it)));
    HealthReport { metrics: sampler.sample(), connectivity: interfaces.collect(), ..HealthReport::default() }
}

fn connectivity(interface: &health::Interface) -> Connectivity {
    let kind = match interface.kind {
        health::InterfaceKind::Ethernet => InterfaceKind::Ethernet,
        health::InterfaceKind::Wifi => InterfaceKind::Wifi,
        health::InterfaceKind::Mobile => InterfaceKind::Mobile,
        health::InterfaceKind::Virtual => InterfaceKind::Local,
    };
    // The kernel doesn't know what lies behind an interface; tunnels are `unknown` while they work.
    let reach = match interface.state.as_str() {
        "up" | "unknown" => Reach::Lan,
        _ => Reach::Disconnected,
    };
    Connectivity {
        kind,
        present: true,
        state: interface.state.clone(),
        reach,
        metrics: BTreeMap::new(),
        metadata: BTreeMap::new(),
    }
}
