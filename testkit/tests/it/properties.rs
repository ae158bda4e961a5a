//! Nothing that comes from outside makes the kit panic, and what is written is read back.

use std::io::{Cursor, Read};
use std::sync::LazyLock;

use nerves_hub_link_testkit::disk::{
    Medium, PowerLossDisk, Rootfs, Variables, check_rootfs, decode_environment, encode_environment,
};
use nerves_hub_link_testkit::firmware::{
    Content, FirmwareBuilder, SigningKey, Tamper, describe, sign_archive, tamper,
};
use nerves_hub_link_testkit::hub::{ConnId, Hub, HubConfig, HubOutput, KeyPair, sign};
use proptest::prelude::*;
use serde_json::{Value, json};

const ALG: &str = "NH1-HMAC-sha256-10-32";

static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let builder =
        FirmwareBuilder::new("gadget", "1.0.0").resource("one", "content of one").resource("two", "2");
    builder.build(&SigningKey::from_seed(1)).unwrap().bytes().unwrap().to_vec()
});

fn hub_with_socket() -> Hub {
    let mut hub = Hub::new(HubConfig::default(), KeyPair::new("nhp_k", "s"));
    let headers = sign(ALG, "nhp_k", "s", "d", 1).unwrap();
    let path = "/device-socket/websocket";
    let device = hub.authenticate(1000, path, Some("vsn=2.0.0"), &headers).unwrap();
    hub.connected(0, ConnId(1), device);
    hub
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                prop_oneof!["status", "value", "stage", "reason", "delay_for", "meta", "device_api_version"],
                inner,
                0..5
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_frame() -> impl Strategy<Value = String> {
    let name = |names: &'static [&'static str]| prop::sample::select(names).prop_map(Value::from);
    let topic = name(&["device", "console", "extensions", "phoenix", "device:7", "weather"]);
    let event = name(&[
        "phx_join",
        "phx_leave",
        "heartbeat",
        "status_update",
        "fwup_progress",
        "firmware_validated",
        "up",
        "geo:attached",
        "health:report",
    ]);
    (prop_oneof![Just(json!("1")), any_json()], any_json(), topic, event, any_json()).prop_map(
        |(join, reference, topic, event, payload)| {
            json!([join, reference, topic, event, payload]).to_string()
        },
    )
}

proptest! {
    #[test]
    fn the_hub_lives_through_any_messages(
        frames in prop::collection::vec(prop_oneof![9 => any_frame(), 1 => any::<String>()], 0..30),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut hub = hub_with_socket();
        let mut closed = 0;
        for (now, frame) in (0_u64..).zip(&frames) {
            hub.text(now, ConnId(1), frame);
            hub.tick(now);
        }
        hub.binary(99, ConnId(1), &bytes);
        while let Some(output) = hub.poll() {
            match output {
                HubOutput::Send { text, .. } => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(frame.as_array().unwrap().len(), 5);
                    prop_assert_eq!(closed, 0, "sent after the close");
                }
                HubOutput::SendBinary { .. } => panic!("no connection speaks MessagePack"),
                HubOutput::Close { .. } => closed += 1,
            }
        }
        prop_assert!(closed <= 1);
    }

    #[test]
    fn no_header_opens_a_socket_but_the_right_ones(
        alg in prop_oneof![Just(ALG.to_owned()), "NH1-HMAC-[a-z0-9]{0,8}-[0-9]{0,3}-[0-9]{0,3}", any::<String>()],
        time in prop_oneof![Just("1".to_owned()), any::<String>()],
        signature in prop_oneof!["SFMyNTY\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{43}", any::<String>()],
        query in proptest::option::of(any::<String>()),
    ) {
        let mut hub = Hub::new(HubConfig::default(), KeyPair::new("nhp_k", "s"));
        let headers = [("x-nh-alg", alg), ("x-nh-key", "nhp_k".to_owned()), ("x-nh-time", time), ("x-nh-signature", signature)]
            .map(|(name, value)| (name.to_owned(), value));
        for query in [query.as_deref(), Some("vsn=2.0.0")] {
            let status = hub.authenticate(1000, "/socket/websocket", query, &headers).unwrap_err().status;
            prop_assert!(matches!(status, 401 | 403));
        }
    }

    #[test]
    fn damaged_archives_are_errors_and_nothing_worse(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = ARCHIVE.clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = describe(Cursor::new(&bytes));
        let _ = sign_archive(&bytes, &SigningKey::from_seed(2));
        for how in [
            Tamper::Resource { name: "one".to_owned(), offset: 3 },
            Tamper::Compressed { name: "two".to_owned() },
            Tamper::MetaConf,
            Tamper::Signature,
            Tamper::Unsigned,
        ] {
            let _ = tamper(&bytes, &how);
        }
    }

    #[test]
    fn environments_come_back_as_written(
        variables in prop::collection::btree_map("[a-z._]{1,12}", "[ -~]{0,20}", 0..10),
        generation in proptest::option::of(any::<u8>()),
        flip in any::<prop::sample::Index>(),
    ) {
        let variables: Variables = variables;
        let mut block = encode_environment(&variables, 1024, generation).unwrap();
        prop_assert_eq!(block.len(), 1024);
        let expected = (variables, generation.unwrap_or(0));
        prop_assert_eq!(decode_environment(&block, generation.is_some()).unwrap(), expected);
        let at = flip.index(block.len());
        block[at] ^= 0x10;
        // The counter is the one byte that the checksum does not cover.
        let counter = generation.is_some() && at == 4;
        prop_assert_eq!(decode_environment(&block, generation.is_some()).is_some(), counter);
    }

    #[test]
    fn noise_in_a_slot_is_no_root_file_system(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(check_rootfs(&mut bytes.as_slice(), 1 << 20).is_err());
    }

    #[test]
    fn any_root_file_system_is_whole_until_a_byte_is_changed(
        version in "[0-9a-z.]{0,20}", length in 0..3000_u64, seed in any::<u64>(), flip in any::<prop::sample::Index>(),
    ) {
        let mut image = Vec::new();
        let content = Rootfs::new(&version, length, seed).content();
        content.reader().read_to_end(&mut image).unwrap();
        prop_assert_eq!(image.len() as u64, length.max(512));
        prop_assert_eq!(content.len(), image.len() as u64);
        let info = check_rootfs(&mut image.as_slice(), 1 << 20).unwrap();
        prop_assert_eq!(info.version, version.clone());
        let body = 50 + version.len()..512;
        let at = flip.index(image.len());
        image[at] ^= 1;
        prop_assert_eq!(check_rootfs(&mut image.as_slice(), 1 << 20).is_ok(), body.contains(&at));
    }

    #[test]
    fn a_disk_that_keeps_its_power_is_a_disk(
        operations in prop::collection::vec((0..6000_u64, prop::collection::vec(any::<u8>(), 0..1500), 0..4_u8), 0..20),
    ) {
        use fwup_stream::disk::Target;
        let mut disk = PowerLossDisk::new(Vec::new(), 0, 1);
        let mut model: Vec<u8> = Vec::new();
        for (offset, data, kind) in operations {
            match kind {
                0 => disk.sync().unwrap(),
                1 => {
                    disk.trim(offset, data.len() as u64).unwrap();
                    let end = model.len().min(usize::try_from(offset).unwrap() + data.len());
                    let start = end.min(usize::try_from(offset).unwrap());
                    model[start..end].fill(0);
                }
                _ => {
                    disk.write_at(offset, &data).unwrap();
                    Medium::write_at(&mut model, offset, &data).unwrap();
                }
            }
            let mut read = vec![0; 8000];
            let n = disk.read_at(0, &mut read).unwrap();
            prop_assert_eq!(&read[..n], &model[..]);
        }
        let mut left = disk.shut_down().unwrap();
        left.resize(left.len().max(model.len()), 0);
        prop_assert_eq!(&left[..model.len()], &model[..]);
    }

    #[test]
    fn content_is_as_long_as_it_says(seed in any::<u64>(), length in 0..200_000_u64) {
        let content = Content::random(seed, length);
        prop_assert_eq!(std::io::copy(&mut content.reader(), &mut std::io::sink()).unwrap(), length);
    }
}
