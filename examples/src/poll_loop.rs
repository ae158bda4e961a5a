//! A device in one loop around `poll(2)`, without a thread and without the engine: the two machines that do no I/O,
//! `protocol` and `transport`, some sockets, and a disk that is written in between.
//!
//! The price of being small: whatever takes long (a name that is looked up, a disk) holds up all else, so it wants a quiet
//! network and a quick disk. It streams updates, and has no stores, shells or files.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nerves_hub_link_platform::install::{Install, InstallError, InstallEvent, InstallRequest, Installer};
use nerves_hub_link_protocol::{
    AddressRules, Client, Command, Config, FetchId, HeaderRef, Input, Instant, Link, Now, OfferId, Output,
    SocketId, UnixTime, client,
};
use nerves_hub_link_runtime::firmware_meta;
use nerves_hub_link_transport::{
    Address, Exchange, ExchangeEvent, ExchangeRequest, Socket, SocketEvent, SocketRequest, Tls,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long the server may take to close a connection that the device closed.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Runs a device until it must restart, and says why.
///
/// # Errors
///
/// If the settings make no sense or the loop can't wait.
pub fn run(
    config: Config,
    tls: &Tls,
    installer: &mut dyn Installer,
    client: &mut dyn Client,
) -> Result<String, Box<dyn std::error::Error>> {
    let start = std::time::Instant::now();
    let now = now(start);
    let mut link = Link::new(config, getrandom::u64().map_err(|error| error.to_string())?, now)?;
    link.command(now, Command::Connect)?;
    let (socket, downloads, install, reboot) = (None, Vec::new(), None, None);
    let (hub, dialled) = (None, None);
    let mut device =
        Device { link, start, tls, hub, dialled, installer, client, socket, downloads, install, reboot };
    loop {
        device.carry_out_orders();
        if let Some(reason) = device.reboot.take() {
            return Ok(reason);
        }
        device.wait()?;
        device.tick();
        device.serve_socket();
        device.serve_downloads();
    }
}

struct Device<'a> {
    link: Link,
    start: std::time::Instant,
    tls: &'a Tls,
    /// Where the server was reached, and where it is being tried.
    hub: Option<IpAddr>,
    dialled: Option<IpAddr>,
    installer: &'a mut dyn Installer,
    client: &'a mut dyn Client,
    socket: Option<(SocketId, Socket, Wire)>,
    downloads: Vec<(FetchId, Exchange, Wire)>,
    install: Option<(OfferId, Box<dyn Install>, Receiver<u8>)>,
    reboot: Option<String>,
}

/// A connection, and until when it must be of use.
struct Wire {
    tcp: TcpStream,
    deadline: Option<Instant>,
    /// Messages that were handed to the machine and not yet to the operating system.
    unsent: u32,
    broken: Option<String>,
}

fn now(start: std::time::Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let wall = wall.and_then(|since| i64::try_from(since.as_secs()).ok()).map(UnixTime);
    Now { mono: Instant::ZERO + start.elapsed(), wall }
}

impl Device<'_> {
    /// The device's certificate is shown only where the machine says so.
    fn tls_for(&self, url: &str) -> Tls {
        if self.link.trusts(url) { self.tls.clone() } else { self.tls.without_identity() }
    }

    fn now(&self) -> Now {
        now(self.start)
    }

    /// The machine's orders, until there are none; what they set free is written at once.
    fn carry_out_orders(&mut self) {
        loop {
            while let Some(output) = self.link.poll() {
                self.carry_out(output);
            }
            for (_, exchange, wire) in &mut self.downloads {
                while wire.write(exchange.transmit()).is_some_and(|count| {
                    exchange.transmitted(count);
                    true
                }) {}
            }
            let now = self.now();
            let Some((id, socket, wire)) = &mut self.socket else { return };
            while let Some(count) = wire.write(socket.transmit()) {
                socket.transmitted(count);
            }
            if wire.unsent == 0 || !socket.transmit().is_empty() {
                return;
            }
            let frames = std::mem::take(&mut wire.unsent);
            self.link.handle(now, Input::SocketSent { socket: *id, frames });
        }
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.now();
        match output {
            Output::Probe(probe) => {
                let reached = Address::parse(&probe.url).map_err(|error| error.to_string());
                match reached.and_then(|address| {
                    Wire::open(&address, probe.timeout, now.mono, AddressRules::any(), None)
                }) {
                    Ok(_) => self.link.handle(now, Input::Reachable { probe: probe.probe }),
                    Err(reason) => {
                        self.link.handle(now, Input::Unreachable { probe: probe.probe, reason: &reason });
                    }
                }
            }
            Output::Dial(dial) => {
                let headers: Vec<(String, String)> = dial
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                    .collect();
                let (tls, rules) = (self.tls_for(&dial.url), self.link.dial_rules(&dial.url));
                let request = SocketRequest { url: &dial.url, headers: &headers, tls: Some(&tls) };
                let mut random = [0; 32];
                let opened = getrandom::fill(&mut random)
                    .map_err(|error| error.to_string())
                    .and_then(|()| Socket::new(&request, random).map_err(|error| error.to_string()))
                    .and_then(|socket| {
                        let (address, hub) = (socket.address(), self.hub);
                        Ok((Wire::open(address, dial.timeout, now.mono, rules, hub)?, socket))
                    });
                match opened {
                    Ok((wire, socket)) => {
                        if rules.is_any() {
                            self.dialled = wire.tcp.peer_addr().ok().map(|peer| peer.ip());
                        }
                        self.socket = Some((dial.socket, socket, wire));
                    }
                    Err(reason) => {
                        let down = Input::SocketDown { socket: dial.socket, code: None, reason: &reason };
                        self.link.handle(now, down);
                    }
                }
            }
            Output::Send { socket, text } => self.send(socket, |machine| machine.send_text(&text).is_ok()),
            Output::SendBinary { socket, data } => {
                self.send(socket, |machine| machine.send_binary(&data).is_ok());
            }
            Output::HangUp { socket, code, reason } => {
                if let Some((_, mut machine, wire)) = self.socket.take_if(|(id, ..)| *id == socket) {
                    machine.close(code, &reason);
                    wire.close(machine.transmit());
                }
            }
            Output::Fetch(fetch) => {
                let url = fetch.url.expose();
                let (tls, rules, hub) = (self.tls_for(url), self.link.fetch_rules(url), self.hub);
                let request = ExchangeRequest { url, headers: &fetch.headers, tls: Some(&tls) };
                let opened =
                    Exchange::new(&request).map_err(|error| error.to_string()).and_then(|exchange| {
                        Ok((Wire::open(exchange.address(), fetch.timeout, now.mono, rules, hub)?, exchange))
                    });
                match opened {
                    Ok((wire, exchange)) => self.downloads.push((fetch.fetch, exchange, wire)),
                    Err(reason) => {
                        self.link.handle(now, Input::FetchFailed { fetch: fetch.fetch, reason: &reason });
                    }
                }
            }
            Output::Abort { fetch } => self.downloads.retain(|(id, ..)| *id != fetch),
            Output::StartApply(start) => {
                let (tell, told) = channel();
                let firmware = (start.uuid, start.version, start.size);
                let request = InstallRequest::new(start.public_keys, move |event| {
                    if let InstallEvent::Progress(percent) = event {
                        // The other end is gone only when the update is.
                        let _ = tell.send(percent);
                    }
                })
                .firmware(firmware.0, firmware.1, firmware.2)
                .hold(true);
                match self.installer.begin(request) {
                    Ok(install) => self.install = Some((start.offer, install, told)),
                    Err(error) => self.apply_failed(start.offer, &error),
                }
            }
            Output::ContinueApply { offer } => {
                if let Some((_, install, _)) = self.install.as_mut().filter(|(ours, ..)| *ours == offer)
                    && let Err(error) = install.proceed()
                {
                    self.apply_failed(offer, &error);
                }
            }
            Output::FinishApply { offer } => {
                if let Some((_, install, _)) = self.install.take_if(|(ours, ..)| *ours == offer) {
                    match install.finish() {
                        Ok(_) => self.link.handle(self.now(), Input::ApplyDone { offer }),
                        Err(error) => self.apply_failed(offer, &error),
                    }
                }
            }
            Output::CancelApply { offer } => drop(self.install.take_if(|(ours, ..)| *ours == offer)),
            Output::Event(event) => {
                if let Some(answer) = client::deliver(self.client, self.link.running(), &event) {
                    // A refusal is of an answer that came too late.
                    let _ = self.link.command(now, answer);
                }
            }
            Output::Reboot { reason } => {
                self.client.reboot(&reason);
                if let Some((_, mut machine, wire)) = self.socket.take() {
                    wire.close(machine.transmit());
                }
                self.reboot = Some(reason);
            }
            Output::OpenStore(open) => {
                let reason = "this device keeps no downloads";
                self.link.handle(now, Input::StoreFailed { store: open.store, reason });
            }
            // Without a store there is nothing to do to it; and this device has nowhere to remember attempts.
            Output::ReadStore(_)
            | Output::VerifyArchive(_)
            | Output::CloseStore { .. }
            | Output::CommitPart { .. }
            | Output::DropPart { .. }
            | Output::SaveAttempts { .. }
            | Output::SaveHistory { .. }
            | Output::SaveNewest { .. } => {}
        }
    }

    fn send(&mut self, id: SocketId, queue: impl FnOnce(&mut Socket) -> bool) {
        if let Some((_, socket, wire)) = self.socket.as_mut().filter(|(ours, ..)| *ours == id) {
            if queue(socket) {
                wire.unsent += 1;
            } else {
                wire.broken = Some("a message could not be sent".to_owned());
            }
        }
    }

    fn apply_failed(&mut self, offer: OfferId, error: &InstallError) {
        self.install = None;
        let reason = &error.to_string();
        let failed = match error {
            // From the next join on the device asks for full images.
            InstallError::Delta(_) => Input::DeltaFailed { offer, reason },
            _ => Input::ApplyFailed { offer, reason },
        };
        self.link.handle(self.now(), failed);
    }

    /// Sleeps until a connection can be read, or written where something waits, or until the next deadline.
    fn wait(&mut self) -> std::io::Result<()> {
        let now = self.now().mono;
        let mut deadlines: Vec<Instant> =
            self.link.deadline().map(|deadline| deadline.at).into_iter().collect();
        let mut interests = Vec::new();
        if let Some((_, socket, wire)) = &mut self.socket {
            deadlines.extend(wire.deadline);
            interests.push(wire.interest(true, !socket.transmit().is_empty()));
        }
        for (_, exchange, wire) in &mut self.downloads {
            deadlines.extend(wire.deadline);
            interests.push(wire.interest(exchange.wants_input(), !exchange.transmit().is_empty()));
        }
        // A microsecond more, so that the time has come when it is over.
        let left = deadlines.into_iter().min().map(|at| at.saturating_since(now) + Duration::from_micros(1));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut interests, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        if let Some((_, socket, wire)) = &mut self.socket
            && wire.deadline.is_some_and(|deadline| deadline <= now.mono)
        {
            // A refusal that never ends is one all the same.
            socket.out_of_time();
        }
        let wires = self.socket.iter_mut().map(|(.., wire)| wire);
        for wire in wires.chain(self.downloads.iter_mut().map(|(.., wire)| wire)) {
            if wire.deadline.take_if(|deadline| *deadline <= now.mono).is_some() {
                wire.broken = Some("the server took too long to answer".to_owned());
            }
        }
        self.link.handle(now, Input::Tick);
    }

    fn serve_socket(&mut self) {
        let now = self.now();
        let Some((id, socket, wire)) = &mut self.socket else { return };
        let id = *id;
        match wire.read() {
            Some(bytes) if bytes.is_empty() => socket.receive_eof(),
            Some(bytes) => socket.receive(&bytes),
            None => {}
        }
        loop {
            let Some((_, socket, wire)) = &mut self.socket else { return };
            let (code, reason) = match socket.poll() {
                Some(SocketEvent::Up) => {
                    wire.deadline = None;
                    self.hub = self.dialled.or(self.hub);
                    self.link.handle(now, Input::SocketUp { socket: id, interface: None });
                    continue;
                }
                Some(SocketEvent::Text(text)) => {
                    self.link.handle(now, Input::SocketText { socket: id, text: &text });
                    self.carry_out_orders();
                    continue;
                }
                Some(SocketEvent::Binary(data)) => {
                    self.link.handle(now, Input::SocketBinary { socket: id, data: &data });
                    self.carry_out_orders();
                    continue;
                }
                Some(SocketEvent::Alive) => continue,
                Some(SocketEvent::Refused { status, headers, body }) => {
                    self.socket = None;
                    self.hub = self.dialled.or(self.hub);
                    let headers = borrowed(&headers);
                    let refused = Input::SocketRefused { socket: id, status, headers: &headers, body: &body };
                    return self.link.handle(now, refused);
                }
                Some(SocketEvent::Closed { code, reason }) => (code, reason),
                Some(SocketEvent::Failed(error)) => (None, error.to_string()),
                None => match wire.broken.take() {
                    Some(reason) => (None, reason),
                    None => return,
                },
            };
            self.socket = None;
            return self.link.handle(now, Input::SocketDown { socket: id, code, reason: &reason });
        }
    }

    fn serve_downloads(&mut self) {
        let ids: Vec<FetchId> = self.downloads.iter().map(|(id, ..)| *id).collect();
        for id in ids {
            if let Some((_, exchange, wire)) = self.downloads.iter_mut().find(|(ours, ..)| *ours == id)
                && exchange.wants_input()
            {
                match wire.read() {
                    Some(bytes) if bytes.is_empty() => exchange.receive_eof(),
                    Some(bytes) => {
                        wire.deadline = None;
                        exchange.receive(&bytes);
                    }
                    None => {}
                }
            }
            while self.serve_download(id) {
                self.carry_out_orders();
            }
        }
    }

    /// Tells the machine the next event of a download. Returns whether there may be another.
    fn serve_download(&mut self, fetch: FetchId) -> bool {
        let now = self.now();
        let found = self.downloads.iter_mut().find(|(id, ..)| *id == fetch);
        let Some((_, exchange, wire)) = found else { return false };
        let reason = match exchange.poll() {
            Some(ExchangeEvent::Head { status, headers }) => {
                let headers = borrowed(&headers);
                self.link.handle(now, Input::FetchHead { fetch, status, headers: &headers, interface: None });
                return true;
            }
            Some(ExchangeEvent::Body(piece)) => {
                // The machine says which bytes are wanted. It would also say when to read on, if a speed were set.
                let keep = self.link.body(now, fetch, piece);
                if let Some(piece) = piece.get(keep.range).map(<[u8]>::to_vec) {
                    if !piece.is_empty() {
                        self.apply(fetch, &piece);
                    }
                    return true;
                }
                debug_assert!(false, "more is to be kept than arrived");
                Some(String::from("internal error: more was to be kept than arrived"))
            }
            Some(ExchangeEvent::End) => None,
            Some(ExchangeEvent::Failed(error)) => Some(error.to_string()),
            None => match wire.broken.take() {
                Some(reason) => Some(reason),
                None => return false,
            },
        };
        self.downloads.retain(|(id, ..)| *id != fetch);
        self.link.handle(
            now,
            match &reason {
                None => Input::FetchEnd { fetch },
                Some(reason) => Input::FetchFailed { fetch, reason },
            },
        );
        true
    }

    fn apply(&mut self, fetch: FetchId, piece: &[u8]) {
        let Some((offer, install, told)) = &mut self.install else { return };
        let offer = *offer;
        if let Err(error) = install.write(piece) {
            return self.apply_failed(offer, &error);
        }
        let percent = told.try_iter().last();
        if let Some(firmware) = install.held() {
            // Nothing is written before the machine compared that with the offer.
            let firmware = firmware_meta(&firmware);
            self.link.handle(self.now(), Input::FirmwareSigned { offer, firmware: &firmware });
            self.carry_out_orders();
        }
        let now = self.now();
        self.link.stored(now, fetch, piece.len());
        if let Some(percent) = percent {
            self.link.handle(now, Input::ApplyProgress { offer, percent });
        }
    }
}

impl Wire {
    /// Opens a connection, but to no address that the rules refuse: they are asked after the look-up, each time. A program
    /// for devices also says which addresses are those of its own interfaces.
    fn open(
        address: &Address,
        timeout: Duration,
        now: Instant,
        rules: AddressRules,
        hub: Option<IpAddr>,
    ) -> Result<Self, String> {
        let host = &address.host;
        let fail = |error: std::io::Error| format!("cannot connect to {host}: {error}");
        let mut last = format!("{host} has no address");
        for target in (host.as_str(), address.port).to_socket_addrs().map_err(fail)? {
            if let Some(why) = rules.refusal(target.ip(), hub, |_| false) {
                last = format!("refused to connect to {target}: {why}");
                continue;
            }
            match TcpStream::connect_timeout(&target, timeout) {
                Ok(tcp) => {
                    tcp.set_nodelay(true).and_then(|()| tcp.set_nonblocking(true)).map_err(fail)?;
                    return Ok(Self { tcp, deadline: Some(now + timeout), unsent: 0, broken: None });
                }
                Err(error) => last = fail(error),
            }
        }
        Err(last)
    }

    fn interest(&self, read: bool, write: bool) -> PollFd<'_> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, read);
        flags.set(PollFlags::OUT, write);
        PollFd::new(&self.tcp, flags)
    }

    /// Reads once. Nothing at all means that the other side has ended; `None`, that there is nothing for now.
    fn read(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 32 * 1024];
        match self.tcp.read(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                Some(buffer)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            Err(error) => {
                self.broken = Some(format!("the connection broke: {error}"));
                None
            }
        }
    }

    /// Writes the rest and waits until the server closes the connection too: closing it while the server still writes resets
    /// it, and the server may never read what was sent last.
    fn close(mut self, rest: &[u8]) {
        let end = std::time::Instant::now() + CLOSE_TIME_MAX;
        let wait = |tcp: &TcpStream| {
            let left = end.saturating_duration_since(std::time::Instant::now());
            // No time at all would mean no limit.
            let left = left.max(Duration::from_millis(1));
            tcp.set_read_timeout(Some(left)).and_then(|()| tcp.set_write_timeout(Some(left)))
        };
        let closed = self.tcp.set_nonblocking(false).and_then(|()| wait(&self.tcp));
        let closed = closed.and_then(|()| self.tcp.write_all(rest));
        let mut closed = closed.and_then(|()| self.tcp.shutdown(Shutdown::Write));
        while closed.is_ok() && std::time::Instant::now() < end {
            closed = wait(&self.tcp).and_then(|()| match self.tcp.read(&mut [0; 4096])? {
                0 => Err(ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            });
        }
    }

    /// Writes what fits. `None` when that is nothing, for now or for good; reading tells which.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.is_empty() { None } else { self.tcp.write(bytes).ok() }
    }
}

fn borrowed(headers: &[(String, String)]) -> Vec<HeaderRef<'_>> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
