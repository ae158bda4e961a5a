//! The machine that decides and the transport that connects must mean the same by an address.

use nerves_hub_link_protocol::{
    Auth, Command, Config, Decision, Event, FirmwareMeta, Input, Instant, Link, Now, Output,
};
use nerves_hub_link_transport::{Address, Exchange, ExchangeRequest};
use proptest::prelude::*;
use serde_json::{Value, json};

const KEY: &str = "u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=";

/// What the machine fetches when it is offered firmware at an address, if it is ready to.
fn fetched(url: &str) -> Option<String> {
    let firmware = FirmwareMeta { uuid: "old".to_owned(), ..FirmwareMeta::default() };
    let mut config = Config::new("hub.example", Auth::Certificate, firmware);
    config.public_keys = vec![KEY.to_owned()];
    config.wait_for_network = false;
    config.insecure_plain_hub = true;
    let now = Now { mono: Instant::ZERO, wall: None };
    let mut link = Link::new(config, 1, now).unwrap();
    link.command(now, Command::Connect).unwrap();
    let mut fetched = None;
    while let Some(output) = link.poll() {
        match output {
            Output::Dial(dial) => {
                link.handle(now, Input::SocketUp { socket: dial.socket, interface: None });
            }
            Output::Send { socket, text } => {
                link.handle(now, Input::SocketSent { socket, frames: 1 });
                let message: Value = serde_json::from_str(&text).unwrap();
                if message[3] == "phx_join" && message[2] == "device" {
                    let answer = json!({"status": "ok", "response": {}});
                    let reply = json!([message[0], message[1], "device", "phx_reply", answer]).to_string();
                    link.handle(now, Input::SocketText { socket, text: &reply });
                    let meta = json!({"uuid": "new", "version": "2", "product": "p", "platform": "x", "architecture": "y"});
                    let update =
                        json!({"update_available": true, "firmware_url": url, "firmware_meta": meta});
                    let update = json!([null, null, "device", "update", update]).to_string();
                    link.handle(now, Input::SocketText { socket, text: &update });
                }
            }
            Output::Event(Event::UpdateOffered { offer, .. }) => {
                link.command(now, Command::Decide { offer, decision: Decision::Apply }).unwrap();
            }
            Output::Fetch(fetch) => fetched = Some(fetch.url.expose().to_owned()),
            _ => {}
        }
    }
    fetched
}

/// Both refuse an address, or both lead to the same place.
fn agree(url: &str) {
    match (fetched(url), Address::parse(url)) {
        (None, Err(_)) => {}
        (Some(fetched), Ok(address)) => {
            assert_eq!(Address::parse(&fetched).as_ref(), Ok(&address), "{url:?}");
            let plain = fetched.replacen("https://", "http://", 1);
            let mut exchange =
                Exchange::new(&ExchangeRequest { url: &plain, headers: &[], tls: None }).expect(url);
            let request = format!("GET {} HTTP/1.1\r\n", address.path_and_query);
            assert!(exchange.transmit().starts_with(request.as_bytes()), "{url:?}");
        }
        (fetched, address) => panic!("{url:?}: the machine {fetched:?}, the transport {address:?}"),
    }
}

#[test]
fn addresses_that_only_one_of_two_parsers_used_to_take() {
    for url in [
        "https://files.example/a b.fw",
        "https://files.example/grün.fw?sig=ü",
        "https://files.example/<a>",
        "https://files.example/`a`",
        "https://files.example/\"a\"{b}|c^d\\e",
        " https://files.example/a\r\n",
        "https://files.example/100%",
        "https://FILES.example",
        "https://files.example:443?x",
        "http://[fe80::1%eth0]/a",
        "https://files.example/\u{1F600}",
    ] {
        assert!(fetched(url).is_some(), "{url:?}");
        agree(url);
    }
    for url in
        ["https://grün.example/a", "https://a%62c.example/", "https://a!b.example/", "https:files.example"]
    {
        assert!(fetched(url).is_none(), "{url:?}");
        agree(url);
    }
}

proptest! {
    #[test]
    fn machine_and_transport_agree_about_any_text(
        scheme in prop_oneof![Just("http://"), Just("https://"), Just("wss://"), Just("HTTP://"), Just("ftp://"), Just("https:")],
        host in prop_oneof!["[a-z0-9.-]{1,10}", ".{0,8}", "\\[[0-9a-f:%.]{0,8}\\]"],
        port in prop_oneof![Just(String::new()), ":[0-9]{0,6}", ":.{0,3}"],
        rest in prop_oneof![Just(String::new()), "[/?#].{0,20}", "/[ -~]{0,20}", ".{0,10}"],
    ) {
        agree(&format!("{scheme}{host}{port}{rest}"));
    }
}
