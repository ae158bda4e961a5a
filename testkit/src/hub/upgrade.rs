//! Who may open a socket (device-protocol §1.13, §2.2).

use super::auth::{self, SignedHeaders};
use super::config::Refusal;
use super::event::{DeviceId, HubEvent};
use super::frame::Serializer;
use super::machine::Hub;

impl Hub {
    /// Decides about an upgrade request by path, query and headers (device-protocol §1.13, §2.2).
    /// A device that is new to a product's key is registered.
    pub fn authenticate(
        &mut self,
        unix_ms: u64,
        path: &str,
        query: Option<&str>,
        headers: &[(String, String)],
    ) -> Result<DeviceId, Refusal> {
        let answer = self.decide(unix_ms, path, query, headers);
        if let Err(refusal) = &answer {
            self.log.push(HubEvent::Refused { status: refusal.status });
        }
        answer
    }

    fn decide(
        &mut self,
        unix_ms: u64,
        path: &str,
        query: Option<&str>,
        headers: &[(String, String)],
    ) -> Result<DeviceId, Refusal> {
        if !matches!(path, "/device-socket/websocket" | "/socket/websocket") {
            return Err(Refusal::new(301, "").header("location", "https://docs.nerves-hub.org/"));
        }
        let get = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.as_str())
        };
        let has_any =
            headers.iter().any(|(name, _)| name.get(..2).is_some_and(|x| x.eq_ignore_ascii_case("x-")));
        if self.serializer(query).is_none() {
            return Err(Refusal::new(403, ""));
        }
        if !has_any {
            let text = "no certificate pair or shared secrets connection settings were provided";
            return Err(Refusal::new(401, text));
        }
        let refused = || Refusal::new(401, "");
        let (Some(alg), Some(key), Some(signature)) =
            (get("x-nh-alg"), get("x-nh-key"), get("x-nh-signature"))
        else {
            return Err(refused());
        };
        let Some(time) = get("x-nh-time") else {
            let text = "the platform could not be reached to authenticate this device";
            return Err(Refusal::new(503, text));
        };
        let signed = SignedHeaders { alg, key, time, signature };
        if key == self.product.key {
            let identifier = auth::verify(signed, &self.product.secret, unix_ms).ok_or_else(refused)?;
            return self.fleet.register(&identifier, self.config.devices_max).ok_or_else(refused);
        }
        let (pair, owner) = self.device_keys.iter().find(|(pair, _)| pair.key == key).ok_or_else(refused)?;
        let identifier = auth::verify(signed, &pair.secret, unix_ms).ok_or_else(refused)?;
        if identifier != *owner {
            return Err(refused());
        }
        self.fleet.register(&identifier, self.config.devices_max).ok_or_else(refused)
    }

    /// What a connection with this query speaks; `None` for versions the hub refuses. A missing `vsn` counts as 1.0.0.
    pub fn serializer(&self, query: Option<&str>) -> Option<Serializer> {
        let version = query
            .unwrap_or_default()
            .split('&')
            .find_map(|pair| pair.strip_prefix("vsn="))
            .and_then(super::device::version);
        match version {
            Some((2, 0, _)) => Some(Serializer::Json),
            Some((3, 0, _)) if self.config.msgpack => Some(Serializer::MsgPack),
            _ => None,
        }
    }

    /// The device whose client certificate TLS accepted, by the certificate's common name.
    pub fn authenticate_certificate(&mut self, common_name: &str) -> Option<DeviceId> {
        self.fleet.register(common_name, self.config.devices_max)
    }
}
