//! The reference model: what a device must be doing, told by a few plain rules beside the machine.

use nerves_hub_link_protocol::{ConnectionState, Event, OfferId, Output, SocketId, StoreKind, UpdateState};

use super::message::Message;
use super::violation::Broken;

/// How long an application may think, in microseconds: the default of the configuration.
const DECISION: u64 = 60_000_000;
/// How long a join may go unanswered, in microseconds: the default of the configuration.
const JOIN: u64 = 10_000_000;

/// What the model believes.
#[derive(Debug)]
pub(super) struct Model {
    connection: ConnectionState,
    socket: Option<SocketId>,
    /// The join that was asked for on this socket and not given up.
    join: Option<u64>,
    asked: u64,
    /// The newest reference sent on this socket.
    last: u64,
    /// The other topics.
    others: [Topic; 2],
    update: Update,
    /// The offer the application accepted last.
    decided: Option<OfferId>,
    /// The newest applier.
    applying: Option<OfferId>,
    /// Updates are kept first: how many bytes of them count is the machine's business.
    kept_first: bool,
    /// A message that offers an update arrived, and what followed from it is still being told.
    offered: bool,
}

/// A topic beside that of the device.
#[derive(Debug)]
struct Topic {
    name: &'static str,
    join: Option<u64>,
    joined: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    Idle,
    Deciding { offer: OfferId, until: u64 },
    Downloading { offer: OfferId, received: u64 },
    Finishing { offer: OfferId },
    Written,
}

impl Model {
    pub fn new(kept_first: bool) -> Self {
        Self {
            connection: ConnectionState::Offline,
            socket: None,
            join: None,
            asked: 0,
            last: 0,
            others: ["extensions", "console"].map(|name| Topic { name, join: None, joined: false }),
            update: Update::Idle,
            decided: None,
            applying: None,
            kept_first,
            offered: false,
        }
    }

    pub fn is_joined(&self) -> bool {
        self.connection == ConnectionState::Joined
    }

    /// The upgrade succeeded.
    pub fn up(&mut self, socket: SocketId) {
        if self.socket == Some(socket) && self.connection == ConnectionState::Dialing {
            self.connection = ConnectionState::Connected;
            (self.join, self.last) = (None, 0);
            self.forget_others();
        }
    }

    /// The connection ended, or was refused.
    pub fn down(&mut self, socket: SocketId) {
        if self.socket == Some(socket) {
            self.connection = ConnectionState::Waiting;
            (self.socket, self.join) = (None, None);
        }
    }

    /// A message arrived.
    pub fn hears(&mut self, socket: SocketId, message: Option<&Message<'_>>) {
        if self.socket != Some(socket) || self.connection < ConnectionState::Connected {
            return;
        }
        let Some(message) = message else { return };
        if let Some(topic) = self.others.iter_mut().find(|topic| topic.name == message.topic) {
            topic.receive(message);
        }
        if message.topic != "device" {
            return;
        }
        let ours = self.join.is_some() && message.join_ref.is_none_or(|theirs| Some(theirs) == self.join);
        match message.event {
            "phx_reply" => self.reply(message),
            "phx_error" | "phx_close" if ours => self.lost(),
            "update" if ours => self.offered = true,
            _ => {}
        }
    }

    /// Whether a message on the channel of the device is one of the present join.
    pub fn takes(&self, socket: SocketId, message: &Message<'_>) -> bool {
        let ours = message.join_ref.is_none_or(|theirs| Some(theirs) == self.join);
        self.is_joined() && self.socket == Some(socket) && message.topic == "device" && ours
    }

    fn reply(&mut self, message: &Message<'_>) {
        let Some(reference) = message.reference else { return };
        let payload = message.payload().unwrap_or_default();
        let status = payload.get("status").and_then(|status| status.as_str());
        let is_join = self.join == Some(reference) && self.connection == ConnectionState::Connected;
        match status {
            Some("ok") if is_join => self.connection = ConnectionState::Joined,
            Some("ok") | None => {}
            Some(_) if is_join => self.lost(),
            Some("error") => {
                let reason = payload.pointer("/response/reason").and_then(|reason| reason.as_str());
                if reason == Some("unmatched topic") && reference <= self.last {
                    self.lost();
                }
            }
            Some(_) => {}
        }
    }

    fn forget_others(&mut self) {
        for topic in &mut self.others {
            (topic.join, topic.joined) = (None, false);
        }
    }

    fn lost(&mut self) {
        self.join = None;
        self.connection = ConnectionState::Connected;
    }

    /// The application decided, and was heard.
    pub fn decided(&mut self, offer: OfferId, apply: bool) {
        self.update = if apply { Update::Downloading { offer, received: 0 } } else { Update::Idle };
        self.decided = apply.then_some(offer);
    }

    /// Bytes went to the applier.
    pub fn kept(&mut self, length: u64) {
        if let Update::Downloading { received, .. } = &mut self.update {
            *received += length;
        }
    }

    /// The applier ended by itself.
    pub fn applier_ended(&mut self, which: OfferId, well: bool) {
        let busy = matches!(self.update, Update::Downloading { .. } | Update::Finishing { .. });
        if busy && self.applying == Some(which) {
            self.update = if well { Update::Written } else { Update::Idle };
        }
    }

    /// The machine wants something done.
    pub fn output(&mut self, now: u64, output: &Output) -> Result<(), Broken> {
        match output {
            Output::Dial(dial) => {
                self.connection = ConnectionState::Dialing;
                (self.socket, self.join) = (Some(dial.socket), None);
            }
            Output::Probe(_) => self.connection = ConnectionState::Waiting,
            Output::HangUp { socket, .. } => self.down(*socket),
            Output::FinishApply { .. } => {
                if let Update::Downloading { offer, .. } = self.update {
                    self.update = Update::Finishing { offer };
                }
            }
            Output::CancelApply { .. } => self.update = Update::Idle,
            // What was received may be a mixture of two files: it starts over. Whether it may, the watch says.
            Output::StartApply(start) => {
                self.applying = Some(start.offer);
                if matches!(self.update, Update::Idle) {
                    self.update = Update::Downloading { offer: start.accepted, received: 0 };
                }
            }
            Output::OpenStore(order) if order.kind == StoreKind::Firmware => {
                if let (Update::Idle, Some(offer)) = (self.update, self.decided) {
                    self.update = Update::Downloading { offer, received: 0 };
                }
            }
            Output::Event(event) => self.event(now, event)?,
            _ => {}
        }
        Ok(())
    }

    /// The machine sends a message: nothing on a topic before its join was answered.
    pub fn sends(&mut self, now: u64, message: &Message<'_>) -> Result<(), Broken> {
        self.last = message.reference.unwrap_or(self.last);
        self.in_turn(message)?;
        match (message.topic, message.event) {
            ("device", "phx_join") => (self.join, self.asked) = (message.reference, now),
            ("device", "phx_leave") => self.join = None,
            _ => {}
        }
        Ok(())
    }

    fn in_turn(&mut self, message: &Message<'_>) -> Result<(), Broken> {
        let topic = self.others.iter_mut().find(|topic| topic.name == message.topic);
        let joined = match (message.event, topic) {
            ("phx_join", Some(topic)) => {
                (topic.join, topic.joined) = (message.reference, false);
                true
            }
            ("phx_leave", Some(topic)) => {
                (topic.join, topic.joined) = (None, false);
                true
            }
            ("phx_join" | "phx_leave" | "heartbeat", None) => true,
            (_, Some(topic)) => topic.joined,
            _ => self.is_joined(),
        };
        if joined { Ok(()) } else { Err(Broken::SentBeforeJoin { event: message.event.to_owned() }) }
    }

    fn event(&mut self, now: u64, event: &Event) -> Result<(), Broken> {
        match event {
            Event::UpdateOffered { offer, .. } => {
                let free = matches!(self.update, Update::Idle | Update::Deciding { .. });
                if !self.offered || !free {
                    return Err(Broken::OfferFromNowhere(*offer));
                }
                self.update = Update::Deciding { offer: *offer, until: now + DECISION };
            }
            Event::UpdateRefused { .. } if matches!(self.update, Update::Deciding { .. }) => {
                self.update = Update::Idle;
            }
            Event::UpdateFailed { .. } => self.update = Update::Idle,
            _ => {}
        }
        Ok(())
    }

    /// Compares with the machine, once everything it wants was done.
    pub fn check(
        &mut self,
        now: u64,
        ticked: bool,
        machine: (ConnectionState, UpdateState),
    ) -> Result<(), Broken> {
        self.offered = false;
        if ticked && self.connection == ConnectionState::Connected && now >= self.asked + JOIN {
            // Given up, though the message that says so may have to wait.
            self.join = None;
        }
        let (connection, update) = machine;
        if connection != self.connection {
            return Err(Broken::ConnectionDiffers { machine: connection, model: self.connection });
        }
        let same = match (self.update, update) {
            (Update::Idle, UpdateState::Idle) | (Update::Written, UpdateState::Written) => true,
            (Update::Deciding { offer, until }, UpdateState::Deciding { offer: theirs }) => {
                offer == theirs && !(ticked && now >= until)
            }
            (
                Update::Downloading { offer, received },
                UpdateState::Downloading { offer: theirs, received: counted, .. },
            ) => offer == theirs && (received == counted || self.kept_first),
            (Update::Downloading { offer, .. }, UpdateState::Finishing { offer: theirs }) => {
                offer == theirs && self.kept_first
            }
            (Update::Finishing { offer }, UpdateState::Finishing { offer: theirs }) => offer == theirs,
            _ => false,
        };
        if same {
            return Ok(());
        }
        let (machine, model) = (format!("{update:?}"), format!("{:?}", self.update));
        Err(Broken::UpdateDiffers { machine, model })
    }
}

impl Topic {
    fn receive(&mut self, message: &Message<'_>) {
        // What the machine takes for the loss of a topic is looser than for its join, and may be: nothing is
        // sent too early by that.
        if message.event == "phx_reply" && self.join.is_some() && self.join == message.reference {
            let payload = message.payload().unwrap_or_default();
            self.joined = payload.get("status").and_then(|status| status.as_str()) == Some("ok");
        }
    }
}
