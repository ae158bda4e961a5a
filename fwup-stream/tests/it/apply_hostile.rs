//! Manifests made by hand to do harm: calls without arguments, absurd numbers, paths that lead elsewhere.
//! Whatever they say, an error or a result comes out, soon, and nothing outside the destination changes.

use std::fmt::Write as _;

use crate::apply_support::{apply, archive, resource, unsigned};
use fwup_stream::disk::MemoryTarget;
use fwup_stream::{ApplyOptions, Error};

/// Every function, with arguments that do something small.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("raw_write", &["8"]),
    ("raw_memset", &["8", "1", "7"]),
    ("fat_mkfs", &["0", "200"]),
    ("fat_write", &["0", "a"]),
    ("fat_cp", &["0", "a", "b"]),
    ("fat_mv", &["0", "a", "b"]),
    ("fat_mv!", &["0", "a", "b"]),
    ("fat_rm", &["0", "a"]),
    ("fat_rm!", &["0", "a"]),
    ("fat_mkdir", &["0", "d"]),
    ("fat_touch", &["0", "a"]),
    ("fat_setlabel", &["0", "a"]),
    ("fat_attrib", &["0", "a", "R"]),
    ("mbr_write", &["m"]),
    ("gpt_write", &["g"]),
    ("trim", &["0", "256"]),
    ("uboot_clearenv", &["e"]),
    ("uboot_setenv", &["e", "a", "b"]),
    ("uboot_unsetenv", &["e", "a"]),
    ("uboot_recover", &["e"]),
    ("info", &["a"]),
    ("error", &["a"]),
    ("path_write", &["/dev/null"]),
    ("pipe_write", &["cat > /dev/null"]),
    ("ubi_volume_write", &["/dev/null"]),
    ("execute", &["true"]),
    ("reboot_param", &["a"]),
];

/// Which of the arguments of a function are numbers.
const NUMBERS: &[(&str, &[usize])] = &[
    ("raw_write", &[0]),
    ("raw_memset", &[0, 1, 2]),
    ("fat_mkfs", &[0, 1]),
    ("fat_write", &[0]),
    ("fat_cp", &[0]),
    ("fat_mv", &[0]),
    ("fat_rm", &[0]),
    ("fat_mkdir", &[0]),
    ("fat_touch", &[0]),
    ("fat_setlabel", &[0]),
    ("fat_attrib", &[0]),
    ("trim", &[0, 1]),
];

/// Numbers at the edges: of 16, 31, 32, 63 and 64 bits, of blocks whose bytes no longer fit, and no numbers.
const EDGES: &[&str] = &[
    "0",
    "-1",
    "65535",
    "65536",
    "2147483647",
    "4294967295",
    "4294967296",
    "36028797018963967",
    "36028797018963968",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "0xffffffffffffffff",
    "0x",
    "08",
    "",
    "abc",
    "1e9",
];

/// Bytes of the destination; a hard end.
const DISK: u64 = 1 << 20;

fn call(name: &str, args: &[&str]) -> String {
    let mut list = format!("{},\"{name}\"", args.len() + 1);
    for arg in args {
        write!(list, ",\"{arg}\"").unwrap();
    }
    format!("funlist={{{list}}}\n")
}

/// A manifest with a list of calls in an event, and everything calls can refer to.
fn manifest(event: &str, calls: &str) -> String {
    let event = match event {
        "on-resource" => format!("on-resource \"x\" {{\n{calls}}}\n"),
        // on-error has its turn when something before it failed.
        "on-error" => format!("on-init {{\n{}}}\non-error {{\n{calls}}}\n", call("error", &["first"])),
        event => format!("{event} {{\n{calls}}}\n"),
    };
    resource("x", b"data")
        + "mbr \"m\" {\npartition \"0\" {\nblock-offset=63\nblock-count=10\ntype=131\n}\n}\n\
           gpt \"g\" {\nguid=\"b443fbeb-2c93-481b-88b3-0ecb0aeba911\"\npartition \"0\" {\nblock-offset=100\n\
           block-count=10\ntype=\"b443fbeb-2c93-481b-88b3-0ecb0aeba911\"\n\
           guid=\"b443fbeb-2c93-481b-88b3-0ecb0aeba911\"\n}\n}\n\
           uboot-environment \"e\" {\nblock-offset=300\nblock-count=16\n}\n"
        + &format!("task \"t\" {{\n{event}}}\n")
}

fn run_with(options: ApplyOptions, manifest: &str) -> Result<(), Error> {
    let mut disk = MemoryTarget::with_hard_size(DISK);
    let outcome = apply(options, &archive(manifest, &[("x", b"data")]), &mut disk);
    assert_eq!(disk.length(), DISK);
    outcome.map(|_| ())
}

fn run(manifest: &str) -> Result<(), Error> {
    run_with(unsigned("t"), manifest)
}

/// Everything allowed, and nothing of this system touched.
fn allowed() -> ApplyOptions {
    let mut options = unsigned("t");
    options.unsafe_allowed = true;
    options.reboot_param_path = Some("/dev/null".into());
    options
}

#[test]
fn the_table_of_functions_is_sound() {
    for (name, args) in FUNCTIONS {
        // On a FAT file system with a file, in the event that suits the function.
        let needs_data = ["raw_write", "fat_write", "path_write", "pipe_write", "ubi_volume_write"];
        let event = if needs_data.contains(name) { "on-resource" } else { "on-finish" };
        let mut text = manifest(event, &call(name, args));
        let made = call("fat_mkfs", &["0", "200"]) + "funlist+={3,fat_touch,0,a,2,uboot_clearenv,e}\n";
        text = text.replace("task \"t\" {\n", &format!("task \"t\" {{\non-init {{\n{made}}}\n"));
        let outcome = run_with(allowed(), &text).map_err(|error| error.to_string());
        match *name {
            "error" => assert_eq!(outcome, Err("a".to_owned())),
            "ubi_volume_write" => assert!(outcome.unwrap_err().starts_with("UBI_IOCVOLUP failed"), "{name}"),
            _ => assert_eq!(outcome, Ok(()), "{name}"),
        }
    }
}

#[test]
fn every_function_refuses_too_few_arguments_in_every_event() {
    for (name, args) in FUNCTIONS {
        for given in 0..args.len() {
            for event in ["on-init", "on-resource", "on-finish", "on-error"] {
                let text = manifest(event, &call(name, &args[..given]));
                let error = run_with(allowed(), &text).unwrap_err().to_string();
                let data_elsewhere = error == format!("{name} only usable in on-resource");
                let end = format!(", but the firmware gives it {given} of at least {} arguments", args.len());
                let counted = error.starts_with(&format!("{name} requires ")) && error.ends_with(&end);
                assert!(counted || data_elsewhere, "{name} {given} {event}: {error}");
            }
        }
    }
}

#[test]
fn every_function_takes_nine_arguments_and_none_takes_ten() {
    for (name, args) in FUNCTIONS {
        for (given, refused) in [(9, false), (10, true)] {
            let mut many = args.to_vec();
            // Options of raw_write are no arguments that can be ignored.
            many.resize(given, if *name == "raw_write" { "cipher=x,secret=y" } else { "1" });
            let outcome = run_with(allowed(), &manifest("on-resource", &call(name, &many)));
            let error = outcome.map_err(|error| error.to_string()).err();
            assert_eq!(
                error.as_deref() == Some("Unexpected argc value in funlist"),
                refused,
                "{name} {error:?}"
            );
        }
    }
}

#[test]
fn absurd_numbers_end_in_an_error_or_in_nothing() {
    for (name, places) in NUMBERS {
        let (_, args) = FUNCTIONS.iter().find(|(other, _)| other == name).unwrap();
        for place in *places {
            for edge in EDGES {
                let mut args = args.to_vec();
                args[*place] = edge;
                let event =
                    if ["raw_write", "fat_write"].contains(name) { "on-resource" } else { "on-finish" };
                // What counts is that it ends, without a panic; a number may be a good one.
                let _ = run(&manifest(event, &call(name, &args)));
            }
        }
    }
}

#[test]
fn a_write_behind_the_last_byte_of_all_is_refused() {
    // 2^55 blocks are 2^64 bytes, which no offset can name.
    for block in ["36028797018963967", "36028797018963968", "18446744073709551615", "-1"] {
        for mut disk in
            [MemoryTarget::new(), MemoryTarget::with_content(b"x"), MemoryTarget::with_hard_size(DISK)]
        {
            let before = disk.length();
            let text = manifest("on-resource", &call("raw_write", &[block]));
            assert!(apply(unsigned("t"), &archive(&text, &[("x", b"data")]), &mut disk).is_err(), "{block}");
            assert_eq!(disk.length(), before, "{block}");
        }
    }
}

#[test]
fn absurd_requirements_are_not_met() {
    let requirements = [
        ("require-partition-offset", vec!["0", "0"]),
        ("require-fat-file-exists", vec!["0", "a"]),
        ("require-fat-file-match", vec!["0", "a", "b"]),
        ("require-uboot-variable", vec!["e", "a", "b"]),
        ("require-path-on-device", vec!["/nonexistent", "/nonexistent"]),
        ("require-path-at-offset", vec!["/nonexistent", "0"]),
        ("require-execute", vec!["true"]),
        ("require-nobody-knows", vec![]),
    ];
    let reqlist = |name: &str, args: &[&str]| {
        let calls = call(name, args).replace("funlist", "reqlist");
        manifest("on-init", "").replace("task \"t\" {\n", &format!("task \"t\" {{\n{calls}"))
    };
    let is_not_met = |text: &str| {
        let error = run(text).unwrap_err();
        assert!(matches!(error, Error::NoTask(_)), "{error}");
    };
    for (name, args) in &requirements {
        for given in 0..=args.len() {
            is_not_met(&reqlist(name, &args[..given]));
        }
        for edge in EDGES.iter().filter(|_| args.len() > 1) {
            let mut args = args.clone();
            args[0] = edge;
            is_not_met(&reqlist(name, &args));
        }
    }
}

fn task_that_writes(section: &str, function: &str) -> String {
    format!("{section}task \"t\" {{\non-init {{\nfunlist={{2,{function},s}}\n}}\n}}\n")
}

#[test]
fn environments_have_from_1_to_65534_blocks() {
    let environment = |count: &str| {
        let section = format!("uboot-environment \"s\" {{\nblock-offset=16\nblock-count={count}\n}}\n");
        let mut disk = MemoryTarget::with_hard_size(33 << 20);
        let text = task_that_writes(&section, "uboot_clearenv");
        apply(unsigned("t"), &archive(&text, &[]), &mut disk).map(|_| ())
    };
    for count in ["1", "8192", "65534"] {
        environment(count).unwrap();
    }
    for count in ["0", "-1", "65535", "2147483648", "9223372036854775807"] {
        let error = environment(count).unwrap_err().to_string();
        assert_eq!(error, format!("uboot-environment s has {count} blocks, but 1 to 65534 are supported"));
    }
}

#[test]
fn copies_of_an_environment_that_overlap_are_never_written() {
    for (second, good) in
        [("16", false), ("19", false), ("13", false), ("0x11", false), ("20", true), ("12", true)]
    {
        for call in
            ["2,uboot_clearenv,s", "2,uboot_recover,s", "4,uboot_setenv,s,a,1", "3,uboot_unsetenv,s,a"]
        {
            let text = format!(
                "uboot-environment \"s\" {{\nblock-offset=16\nblock-count=4\nblock-offset-redund={second}\n}}\n\
                 task \"t\" {{\non-init {{\nfunlist={{{}{call}}}\n}}\n}}\n",
                if call.contains("clear") { "" } else { "2,uboot_recover,s," }
            );
            let mut disk = MemoryTarget::with_hard_size(1 << 20);
            let before = disk.image();
            match apply(unsigned("t"), &archive(&text, &[]), &mut disk) {
                Ok(_) => assert!(good, "{second} {call}"),
                Err(error) => {
                    assert!(!good, "{second} {call}: {error}");
                    assert!(
                        error.to_string().contains("uboot-environment s: block-offset-redund can't overlap"),
                        "{error}"
                    );
                    assert_eq!(disk.image(), before);
                }
            }
        }
    }
}

#[test]
fn the_largest_environment_is_changed_and_read() {
    let text = "uboot-environment \"s\" {\nblock-offset=16\nblock-count=65534\nblock-offset-redund=65600\n}\n\
                task \"set\" {\non-init {\nfunlist={2,uboot_clearenv,s,4,uboot_setenv,s,a,1,4,uboot_setenv,s,b,2,3,\
                uboot_unsetenv,s,a}\n}\n}\n\
                task \"look\" {\nreqlist={4,\"require-uboot-variable\",s,b,2}\n}\n\
                task \"gone\" {\nreqlist={4,\"require-uboot-variable\",s,a,1}\n}\n";
    let mut disk = MemoryTarget::with_hard_size(65 << 20);
    for (task, good) in [("look", false), ("set", true), ("look", true), ("gone", false)] {
        assert_eq!(apply(unsigned(task), &archive(text, &[]), &mut disk).is_ok(), good, "{task}");
    }
}

#[test]
fn paths_of_this_system_are_only_for_those_who_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    let path = victim.to_str().unwrap();
    for (name, arg) in [
        ("path_write", path.to_owned()),
        ("pipe_write", format!("cat > {path}")),
        ("execute", format!("touch {path}")),
        ("ubi_volume_write", path.to_owned()),
    ] {
        for event in ["on-init", "on-resource", "on-finish", "on-error"] {
            let error = run(&manifest(event, &call(name, &[&arg]))).unwrap_err().to_string();
            let refusals =
                [format!("{name} requires --unsafe"), format!("{name} only usable in on-resource")];
            assert!(refusals.contains(&error), "{error}");
            assert!(!victim.exists());
        }
    }
}

#[test]
fn names_that_climb_stay_inside_the_image() {
    for name in ["../../victim", "/../victim", "..\\victim", "../../../../tmp/victim"] {
        let text = manifest("on-resource", &call("fat_write", &["0", name]));
        let made = call("fat_mkfs", &["0", "200"]);
        let text = text.replace("task \"t\" {\n", &format!("task \"t\" {{\non-init {{\n{made}}}\n"));
        let _ = run(&text);
        assert!(!std::path::Path::new("/tmp/victim").exists());
    }
}

#[test]
fn a_resource_may_have_any_name_since_names_are_no_paths() {
    for name in ["../../etc/passwd", "a/../b", "-x", "con", "$(reboot)"] {
        let text = resource(name, b"data")
            + &format!("task \"t\" {{\non-resource \"{name}\" {{\nfunlist={{2,raw_write,8}}\n}}\n}}\n");
        let mut disk = MemoryTarget::with_hard_size(DISK);
        apply(unsigned("t"), &archive(&text, &[(name, b"data")]), &mut disk).unwrap();
        assert_eq!(disk.bytes(8 * 512, 4), b"data");
    }
}

#[test]
fn entries_nobody_wants_are_passed_over_however_many() {
    let names: Vec<String> = (0..20_000).map(|number| format!("nobody/{number}")).collect();
    let mut entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    entries.push(("x", b"data"));
    let text = manifest("on-resource", &call("raw_write", &["8"]));
    let mut disk = MemoryTarget::with_hard_size(DISK);
    apply(unsigned("t"), &archive(&text, &entries), &mut disk).unwrap();
    assert_eq!(disk.bytes(8 * 512, 4), b"data");
}

#[test]
fn sections_nest_as_deep_as_a_manifest_is_long() {
    let depth = 9_000;
    let text = format!("{}b={{}}{}\ntask \"t\" {{\n}}\n", "a{".repeat(depth), "}".repeat(depth));
    run(&text).unwrap();
}

#[test]
fn keys_do_not_show_when_a_manifest_is_printed() {
    let secret = "00112233445566778899aabbccddeeff";
    let manifest = fwup_stream::manifest::Manifest {
        tasks: vec![fwup_stream::manifest::Task {
            on_resource: vec![fwup_stream::manifest::OnResource {
                calls: fwup_stream::manifest::CallList(vec![
                    "4".to_owned(),
                    "raw_write".to_owned(),
                    "0".to_owned(),
                    format!("cipher=aes-cbc-plain,secret={secret}"),
                    format!("secret={secret}"),
                ]),
                delta_source_raw_options: Some(format!("secret={secret},cipher=aes-cbc-plain")),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let shown = format!("{manifest:?} {manifest:#?}");
    assert!(!shown.contains(secret), "{shown}");
    assert!(shown.contains("raw_write") && shown.contains("cipher=aes-cbc-plain,secret=(hidden)"), "{shown}");
}
