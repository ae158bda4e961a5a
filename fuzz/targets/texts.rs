#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| nerves_hub_link_testkit::harness::texts(data));
