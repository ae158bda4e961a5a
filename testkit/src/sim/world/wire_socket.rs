//! Connections of bytes that carry WebSockets: the adapter's end.

use nerves_hub_link_protocol::{Dial, SocketId};
use nerves_hub_link_transport::{Socket, SocketEvent, SocketRequest};

use super::World;
use super::wire::{UNSENT, line_of};
use crate::sim::bytes::{LineId, Near, Way, broke, plain};
use crate::sim::device::Device;
use crate::sim::message::Frame;
use crate::sim::mutation::Mutation;
use crate::sim::queue::{Answer, DeviceDue, WireDue};
use crate::sim::violation::Broken;

impl World {
    /// The machine wants a WebSocket. TCP takes so long.
    pub(super) fn dial_line(&mut self, device: &mut Device, dial: &Dial, after: u64) -> Result<(), Broken> {
        let headers: Vec<(String, String)> =
            dial.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        let mut random = [0; 32];
        for chunk in random.chunks_exact_mut(8) {
            chunk.copy_from_slice(&device.rng.bits().to_le_bytes());
        }
        let request = SocketRequest { url: &plain(&dial.url), headers: &headers, tls: None };
        let socket = Socket::new(&request, random).map_err(|error| Broken::NoRequest(error.to_string()))?;
        let near = Near::Socket(Box::new(socket));
        // Some adapters leave giving up to the machine.
        let timeout = (!device.rng.one_in(4)).then(|| u64::try_from(dial.timeout.as_micros()).ok()).flatten();
        self.begin_line(device, Way::Socket(dial.socket), near, after, timeout);
        Ok(())
    }

    /// The adapter reads a WebSocket to the last byte there is.
    pub(super) fn socket_reads(
        &mut self,
        device: &mut Device,
        id: LineId,
        socket: SocketId,
    ) -> Result<(), Broken> {
        loop {
            let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
            let Some(Near::Socket(near)) = &mut line.near else { return Ok(()) };
            if let Some(event) = near.poll() {
                line.since.clear();
                self.socket_event(device, id, socket, event)?;
                self.drain(device)?;
                continue;
            }
            if let Some(reason) = line.broken.take() {
                self.trace.note(self.now, device.number, "socket down", &reason);
                self.leave_line(device, id);
                self.socket_down(device, socket, None, &reason);
                return self.drain(device);
            }
            if !self.read_line(id) {
                return Ok(());
            }
        }
    }

    /// The adapter tells the machine what the transport has to say.
    fn socket_event(
        &mut self,
        device: &mut Device,
        id: LineId,
        socket: SocketId,
        event: SocketEvent,
    ) -> Result<(), Broken> {
        let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
        let (garbage, broken_head) = (line.is_garbage(), line.file.broken_head);
        let taken = |what| if broken_head { Err(Broken::BadBytesTaken(what)) } else { Ok(()) };
        let frame = match event {
            SocketEvent::Text(text) => Frame::Text(text),
            SocketEvent::Binary(data) => Frame::Binary(data),
            SocketEvent::Alive => return Ok(()),
            SocketEvent::Up => {
                taken("an upgrade")?;
                line.settled = true;
                self.trace.note(self.now, device.number, "socket up", "");
                self.tell_up(device, socket);
                return Ok(());
            }
            SocketEvent::Refused { status, headers, body } => {
                taken("an answer")?;
                if !line.file.is_head(status, &headers) {
                    return Err(Broken::OtherBytes("another head"));
                }
                self.trace.note_number(self.now, device.number, "socket refused", status.into());
                self.leave_line(device, id);
                self.socket_refused(device, socket, &Answer { status, headers, body });
                return Ok(());
            }
            SocketEvent::Closed { code, reason } => {
                if line.closed != code && !garbage {
                    return Err(Broken::OtherBytes("another close code"));
                }
                self.trace.note_number(self.now, device.number, "socket down", code.unwrap_or(0).into());
                self.leave_line(device, id);
                self.socket_down(device, socket, code, &reason);
                return Ok(());
            }
            SocketEvent::Failed(error) => {
                line.may_fail(&error)?;
                self.stats.bytes.refused += u64::from(broke(&error));
                let reason = error.to_string();
                self.trace.note(self.now, device.number, "socket down", &reason);
                self.leave_line(device, id);
                self.socket_down(device, socket, None, &reason);
                return Ok(());
            }
        };
        line.to_device.arrives(&frame)?;
        self.trace.frame(self.now, device.number, "receives", &frame);
        self.socket_hears(device, socket, &frame);
        Ok(())
    }

    /// The machine sends a message.
    pub(super) fn send_bytes(&mut self, device: &Device, socket: SocketId, frame: &Frame) {
        let Some(line) = self.lines.all.get_mut(&line_of(device, Way::Socket(socket))) else { return };
        let Some(Near::Socket(near)) = &mut line.near else { return };
        let queued = match frame {
            Frame::Text(text) => near.send_text(text),
            Frame::Binary(data) => near.send_binary(data),
        };
        match queued {
            Ok(()) => {
                let end = line.up.taken + line.unsent() as u64;
                line.to_hub.sends(frame, end);
            }
            Err(error) => {
                line.broken = Some(error.to_string());
                let what = WireDue::Reads;
                self.later(device, 0, DeviceDue::Wire { way: Way::Socket(socket), what });
            }
        }
    }

    /// Hands over what the system takes. Returns how many messages are on their way with it that were not before.
    pub(super) fn flush_socket(&mut self, device: &mut Device) -> Result<u32, Broken> {
        let early = self.mutated(Mutation::SaySentEarly);
        let socket = device.link.as_ref().and_then(|life| life.socket);
        let id = socket.map(|socket| line_of(device, Way::Socket(socket)));
        if let Some(id) = id {
            self.flush_line(device, id);
        }
        let Some(life) = device.link.as_mut() else { return Ok(0) };
        let Some(line) = id.and_then(|id| self.lines.all.get_mut(&id)) else {
            return Ok(std::mem::take(&mut life.unsent));
        };
        let unsent = line.unsent();
        if unsent > UNSENT {
            return Err(Broken::UnsentUnbounded(unsent));
        }
        if unsent > 0 && !early {
            return Ok(0);
        }
        let frames = std::mem::take(&mut life.unsent);
        line.to_hub.reported(frames, line.up.taken)?;
        Ok(frames)
    }

    /// The adapter ends a WebSocket in order.
    pub(super) fn close_line(&mut self, device: &mut Device, socket: SocketId, code: u16, reason: &str) {
        let id = line_of(device, Way::Socket(socket));
        if let Some(Near::Socket(near)) = self.lines.all.get_mut(&id).and_then(|line| line.near.as_mut()) {
            near.close(code, reason);
            self.leave_line(device, id);
        }
    }
}
