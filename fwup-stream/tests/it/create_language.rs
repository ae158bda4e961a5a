//! The configuration language while archives are made: includes, checks, printing.

use std::fs;
use std::path::Path;

use fwup_stream::limits::{CONFIGURATION_BYTES, INCLUDE_DEPTH};
use fwup_stream::manifest::{Configuration, ConfigurationError};
use proptest::prelude::*;

fn none(_: &str) -> Option<String> {
    None
}

fn printed(text: &str) -> String {
    Configuration::parse(text.as_bytes(), &none).unwrap().to_manifest().unwrap()
}

/// What is wrong with a text, with its place.
fn wrong(text: &str) -> String {
    Configuration::parse(text.as_bytes(), &none).unwrap_err().detail().unwrap().to_owned()
}

fn read(path: &Path) -> Result<String, String> {
    Configuration::read(path, &none)
        .map(|configuration| configuration.to_manifest().unwrap())
        .map_err(|error| error.detail().unwrap_or_default().to_owned())
}

#[test]
fn included_files_count_from_their_own_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::write(at("top.conf"), "meta-product = p\ninclude(a/one.conf)\nnosuch = 1\n").unwrap();
    fs::write(at("a/one.conf"), "\n\ninclude(\"b/two.conf\")\n").unwrap();
    fs::write(at("a/b/two.conf"), "meta-version = 2\nfile-resource x { host-path = \"f;/g;~/h\" }\n")
        .unwrap();
    let place = folder.path().display();
    assert_eq!(read(&at("top.conf")), Err(format!("{place}/top.conf:3: no such option 'nosuch'")));
    fs::write(at("top.conf"), "include(a/one.conf)\n").unwrap();
    let configuration = Configuration::read(&at("top.conf"), &none).unwrap();
    let resources = configuration.resources();
    assert_eq!(resources[0].host_path.as_deref(), Some(format!("{place}/a/b/f;/g;~/h").as_str()));
    fs::write(at("a/b/two.conf"), "\nmeta-version 2\n").unwrap();
    let told = format!("{place}/a/b/two.conf:2: missing equal sign after option 'meta-version'");
    assert_eq!(read(&at("top.conf")), Err(told));
    fs::write(at("a/b/two.conf"), "}\n").unwrap();
    assert_eq!(read(&at("top.conf")), Err(format!("{place}/a/b/two.conf:1: unexpected closing brace")));
    fs::write(at("a/b/two.conf"), "include(nosuch)").unwrap();
    let told = format!("{place}/a/b/two.conf:1: Cannot include '{place}/a/b/nosuch': File not found");
    assert_eq!(read(&at("top.conf")), Err(told));
}

#[test]
fn a_section_may_go_on_in_an_included_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("top.conf"), "task t { on-init { info(1) include(calls) info(3) } }").unwrap();
    fs::write(at("calls"), "info(2)\n").unwrap();
    assert_eq!(
        read(&at("top.conf")).unwrap(),
        "task \"t\" {\non-init {\nfunlist={2,info,1,2,info,2,2,info,3}\n}\n}\n"
    );
}

#[test]
fn files_that_include_themselves_come_to_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("loop.conf"), "include(loop.conf)\n").unwrap();
    assert!(read(&at("loop.conf")).unwrap_err().ends_with("loop.conf:1: includes nested too deeply"));
    // Two at a time, which would be a thousand files at the allowed depth.
    fs::write(at("twice.conf"), "include(next.conf) include(next.conf)\n".repeat(50)).unwrap();
    fs::write(at("next.conf"), "include(leaf.conf)\n".repeat(50)).unwrap();
    fs::write(at("leaf.conf"), "# nothing\n").unwrap();
    assert!(read(&at("twice.conf")).unwrap_err().ends_with("includes nested too deeply"));
    // At the allowed depth all is well; one more is too many.
    for depth in 0..=INCLUDE_DEPTH {
        fs::write(at(&format!("{depth}.conf")), format!("include({}.conf)\n", depth + 1)).unwrap();
    }
    fs::write(at(&format!("{}.conf", INCLUDE_DEPTH + 1)), "meta-product = deep\n").unwrap();
    assert_eq!(read(&at("1.conf")).unwrap(), "meta-product=deep\n");
    assert!(read(&at("0.conf")).is_err());
}

#[test]
fn endless_configurations_are_refused() {
    let long = "# \n".repeat(CONFIGURATION_BYTES / 3);
    assert!(Configuration::parse(long.as_bytes(), &none).is_ok());
    let longer = format!("{long}meta-product = a");
    assert!(Configuration::parse(longer.as_bytes(), &none).is_err());
    assert!(matches!(
        Configuration::read(Path::new("/nosuch/fwup.conf"), &none),
        Err(ConfigurationError::Open(name)) if name == "/nosuch/fwup.conf"
    ));
}

#[test]
fn references_need_what_stands_before_them() {
    let section = "gpt g { guid = b443fbeb-2c93-481b-88b3-0ecb0aeba911 partition 0 { block-offset = 64 \
                   block-count = 10 type = 0fc63daf-8483-4772-8e79-3d69d8477de4 guid = \
                   22222222-1001-4001-8001-123456789a01 } } ";
    let task = "task t { on-init { gpt_write(g) } } ";
    assert!(Configuration::parse(format!("{section}{task}").as_bytes(), &none).is_ok());
    assert_eq!(wrong(&format!("{task}{section}")), "FILE:1: gpt_write can't find gpt reference");
    assert_eq!(
        wrong("task t { require-uboot-variable(e, a, b) }"),
        "FILE:1: require-uboot-variable can't find uboot-environment reference"
    );
    for call in ["uboot_clearenv(e)", "uboot_recover(e)", "uboot_unsetenv(e, a)"] {
        let name = call.split('(').next().unwrap();
        let told = format!("FILE:1: {name} can't find uboot-environment reference e");
        assert_eq!(wrong(&format!("task t {{ on-init {{ {call} }} }}")), told);
    }
}

/// fwup takes what is no number for partition 0.
#[test]
fn a_partition_is_named_by_its_number() {
    for number in ["x", "-1", "4", "\"\""] {
        let told = wrong(&format!("task t {{ require-partition-offset({number}, 1) }}"));
        assert_eq!(told, "FILE:1: require-partition-offset requires the partition number to be 0-3");
    }
    assert!(Configuration::parse(b"task t { require-partition-offset(0x3, 1) }", &none).is_ok());
}

#[test]
fn only_what_the_reader_knows_is_written() {
    assert_eq!(printed("meta-product = \"\"\n"), "# Empty file\n");
    let all = "meta-misc = m require-fwup-version = 0 block-cache-size-mb = 8 meta-author = 'a\"b\\c' \
               meta-creation-date = \"2001-01-01\" meta-uuid = u meta-nickname = n \
               file-resource e { contents = \"\" } \
               task t { verify-on-the-fly = on require-unmounted-destination = yes on-init { } \
               on-resource e { delta-source-raw-count = 5 delta-source-fat-path = \"a b\" } }";
    assert_eq!(
        printed(all),
        "meta-author=\"a\\\"b\\\\c\"\nmeta-misc=m\ntask \"t\" {\nrequire-unmounted-destination=true\n\
         verify-on-the-fly=true\non-resource \"e\" {\ndelta-source-raw-count=5\ndelta-source-fat-path=\"a b\"\n}\n}\n"
    );
}

#[test]
fn sizes_of_files_are_variables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, [0; 123]).unwrap();
    let text = format!(
        "file-resource \"a-b.c/d\" {{ host-path = \"{}\" }} meta-misc = ${{FWUP_SIZE_a_b_c_d}}",
        path.display()
    );
    assert!(printed(&text).starts_with("meta-misc=123\n"));
}

#[test]
fn other_encodings_are_refused_rather_than_changed() {
    let error = Configuration::parse(b"meta-product = \"gr\xf6\xdfe\"", &none).unwrap_err();
    assert_eq!(error.detail(), Some("FILE:1: text is not UTF-8"));
}

/// A string as it may stand in a manifest between double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$"))
}

fn word() -> impl Strategy<Value = String> {
    // No NUL, which ends strings, and no variable, which is expanded anew by whoever reads the manifest.
    "[a-zA-Z0-9_. ,;{}()=+*#'\"\\\\\n\tüß-]{0,12}"
}

fn title() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_. ,;{}()=+*#'\nüß-]{0,8}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is written is read as the same, and written as the same again.
    #[test]
    fn printing_and_reading_undo_each_other(
        product in word(),
        misc in word(),
        cache in -5_i64..100,
        tasks in proptest::collection::btree_map(
            title(),
            (proptest::collection::vec(word(), 0..4), proptest::collection::vec((word(), word()), 0..3)),
            0..4,
        ),
    ) {
        let mut text = format!(
            "meta-product = {}\nmeta-misc = {}\nblock-cache-size-mb = {cache}\n",
            quoted(&product),
            quoted(&misc)
        );
        for (name, (infos, files)) in &tasks {
            text.extend(["task ", &quoted(name), " {\n"]);
            for (file, pattern) in files {
                text.extend(["require-fat-file-match(8, ", &quoted(file), ", ", &quoted(pattern), ")\n"]);
            }
            text += "on-finish {\n";
            for info in infos {
                text.extend(["info(", &quoted(info), ")\n"]);
            }
            text += "}\n}\n";
        }
        let once = printed(&text);
        prop_assert_eq!(&printed(&once), &once);
        if !product.is_empty() {
            let configuration = fwup_stream::manifest::Manifest::parse(once.as_bytes(), &none).unwrap();
            prop_assert_eq!(configuration.string("meta-product"), Some(product.as_str()));
            prop_assert_eq!(configuration.tasks.len(), tasks.len());
        }
    }

    /// Any text is read or refused.
    #[test]
    fn texts_of_words_of_the_language_never_stop_the_reader(
        words in proptest::collection::vec(prop::sample::select(vec![
            "task", "t", "{", "}", "(", ")", "=", "+=", ",", "\"", "'", "${", "${A}", "include", "define",
            "define-eval!", "file-resource", "host-path", "contents", "mbr", "gpt", "partition", "0", "15",
            "block-offset", "block-count", "type", "guid", "boot", "true", "flags", "on-init", "on-resource",
            "raw_write", "fat_write", "info", "#", "/*", "*/", "\n", "\\", "\\400", "uboot-environment",
            "expand", "4294967295", "-1", "0x", "signature", "osii", "include-osip", "length", "funlist",
        ]), 0..60),
    ) {
        let _ = Configuration::parse(words.join(" ").as_bytes(), &none).map(|read| read.to_manifest());
    }

    #[test]
    fn texts_of_any_bytes_never_stop_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Configuration::parse(&bytes, &none).map(|read| read.to_manifest());
    }
}
