//! Small texts that decide where a device connects, and what it finds on its own disk.

use nerves_hub_link_platform::kv::fw_env_config::FwEnvConfig;
use nerves_hub_link_protocol::limits::{MAX_ATTEMPTS_REMEMBERED, MAX_BOUND};
use nerves_hub_link_protocol::{Attempt, History};
use nerves_hub_link_transport::limits::HEAD_MAX;
use nerves_hub_link_transport::{
    Address, ClientIdentity, Proxy, Roots, Tls, TlsOptions, TransportError, Tunnel,
};

use super::input::{Cuts, Source};

/// What no message for people may say.
const SECRET: &str = "5hared-w0rds";
/// Bytes of a proxy's answer.
const ANSWER_MAX: usize = 4 * HEAD_MAX;

/// Reads an address, a proxy and its answer, `fw_env.config`, the updates that were tried, or a client certificate.
///
/// # Panics
/// When what was read and written again reads otherwise, a secret is in an error or in what is shown of something,
/// cuts of a proxy's answer show, or more is taken than there is room for.
pub fn texts(data: &[u8]) {
    let mut source = Source::new(data);
    let kind = source.byte() % 6;
    if kind == 2 {
        return tunnel(&mut source);
    }
    let bytes = source.rest(usize::MAX);
    let text = String::from_utf8_lossy(bytes);
    match kind {
        0 => address(&text),
        1 => proxy(&text),
        3 => places(&text),
        4 => {
            attempts(&text);
            history(&text);
        }
        _ => certificate(bytes),
    }
}

/// Whether the secret is shown, unless the rest of the text spells it as well. Addresses are shown with hosts in small
/// letters and without line breaks, so only the text's letters and digits count.
fn leaks(shown: &str, text: &str) -> bool {
    let spelt = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    shown.contains(SECRET) && !spelt(text).contains(&spelt(SECRET))
}

fn address(text: &str) {
    let shown = match Address::parse(&format!("{text}?signature={SECRET}")) {
        Ok(address) => format!("{address} {address:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!leaks(&shown, text), "{shown}");
    let Ok(address) = Address::parse(text) else { return };
    assert!(!address.host.is_empty() && address.port > 0, "{text}");
    assert!(address.path_and_query.starts_with('/'), "{text}");
    let scheme = if address.secure { "https" } else { "http" };
    let again = format!("{scheme}://{}{}", address.authority(), address.path_and_query);
    assert!(Address::parse(&again).as_ref() == Ok(&address), "{text:?} and {again:?}");
}

fn proxy(text: &str) {
    let shown = match Proxy::parse(&format!("http://user:{SECRET}@{text}")) {
        Ok(proxy) => format!("{proxy:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!leaks(&shown, text), "{shown}");
    let _ = Proxy::parse(text);
}

/// A proxy answers a request for a way through it.
fn tunnel(source: &mut Source<'_>) {
    let cuts = source.cuts();
    let answer = source.rest(ANSWER_MAX);
    let (whole, cut) = (answered(answer, Cuts::whole()), answered(answer, cuts));
    match (&whole, &cut) {
        // More than the answer is a mistake only where it comes along with it.
        (Err(TransportError::Http { .. }), Ok(Some(length))) => assert!(*length < answer.len()),
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "cuts show"),
        (Err(_), Err(_)) => {}
        other => assert!(matches!(other, (Err(_), Err(_))), "cuts show: {other:?}"),
    }
}

/// The length of the answer that opened the way, if one did.
fn answered(mut answer: &[u8], mut cuts: Cuts) -> Result<Option<usize>, TransportError> {
    let proxy = Proxy::parse(&format!("http://user:{SECRET}@proxy.test:3128"));
    let target = Address::parse("wss://hub.test/socket/websocket");
    let (Ok(proxy), Ok(target)) = (proxy, target) else { return Ok(None) };
    let mut tunnel = Tunnel::new(&proxy, &target);
    let mut length = 0;
    while let Some(piece) = cuts.next(&mut answer) {
        length += piece.len();
        match tunnel.receive(piece) {
            Ok(true) => return Ok(Some(length)),
            Ok(false) => {}
            Err(error) => {
                assert!(!format!("{error} {error:?} {tunnel:?}").contains(SECRET), "{error}");
                return Err(error);
            }
        }
    }
    Ok(None)
}

fn places(text: &str) {
    let Ok(config) = FwEnvConfig::parse(text) else { return };
    let line = |place: &nerves_hub_link_platform::kv::fw_env_config::Location| {
        format!("{} {:#x} {:x}\n", place.path.display(), place.offset, place.size)
    };
    let again = line(config.first()) + &config.second().map(line).unwrap_or_default();
    assert!(FwEnvConfig::parse(&again).ok().as_ref() == Some(&config), "{text:?} and {again:?}");
}

fn attempts(text: &str) {
    let list = Attempt::list_from_text(text);
    assert!(list.len() <= MAX_ATTEMPTS_REMEMBERED, "{} attempts", list.len());
    assert!(list.iter().all(|attempt| attempt.starts > 0), "{list:?}");
    let again = Attempt::list_to_text(&list);
    assert_eq!(Attempt::list_from_text(&again), list, "{again:?}");
}

fn history(text: &str) {
    let history = History::from_text(text);
    assert!(history.reboots.len() <= usize::try_from(MAX_BOUND).unwrap_or(0), "{history:?}");
    let again = history.to_text();
    let kept = if again.is_empty() { History::default() } else { history };
    assert_eq!(History::from_text(&again), kept, "{again:?}");
}

/// A certificate and its key, as they lie in files.
fn certificate(bytes: &[u8]) {
    let identities = [
        ClientIdentity::Pem { certificates: bytes.to_vec(), key: bytes.to_vec() },
        ClientIdentity::Der { certificates: vec![bytes.to_vec()], key: bytes.to_vec() },
    ];
    for identity in identities {
        let mut options = TlsOptions::new(Roots::Der(Vec::new()));
        options.identity = Some(identity);
        if let Err(error) = Tls::new(&options) {
            assert!(!error.to_string().is_empty(), "an error without words");
        }
    }
}
