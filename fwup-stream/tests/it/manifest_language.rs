//! The manifest's language where no golden case goes: limits, lists, and anything at all.

use crate::front_support::none;
use fwup_stream::limits::EXPANDED_MAX;
use fwup_stream::manifest::{CallList, CallListError, ListKind, Manifest};
use proptest::prelude::*;

fn list(texts: &[&str]) -> CallList {
    CallList(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn detail(text: &str) -> String {
    Manifest::parse(text.as_bytes(), &none).unwrap_err().detail().unwrap().to_owned()
}

#[test]
fn lists_are_cut_into_calls() {
    let calls = list(&["2", "raw_write", "1", "0x1", "x", "03", "a", "b", "c"]);
    let calls = calls.calls(ListKind::Functions).unwrap();
    assert_eq!(calls.len(), 3);
    assert_eq!((calls[2].name, calls[2].args), ("a", ["b".to_owned(), "c".to_owned()].as_slice()));
    assert!(list(&[]).calls(ListKind::Functions).unwrap().is_empty());
}

#[test]
fn malformed_lists_are_errors_where_they_are_reached() {
    for count in ["0", "11", "-1", "x", ""] {
        let error = list(&[count, "a"]).calls(ListKind::Functions).unwrap_err();
        assert_eq!(error.to_string(), "Unexpected argc value in funlist");
    }
    let error = list(&["3", "a", "b"]).calls(ListKind::Requirements).unwrap_err();
    assert_eq!(error.to_string(), "Unexpected error with reqlist");
    let texts = list(&["1", "a", "0", "b", "1", "c"]);
    let each: Vec<_> = texts.each(ListKind::Functions).collect();
    assert_eq!(each.len(), 2);
    assert_eq!(each[0].unwrap().name, "a");
    assert_eq!(each[1], Err(CallListError::Count(ListKind::Functions)));
}

#[test]
fn a_call_of_nine_arguments_is_taken_and_ten_are_not() {
    let call =
        |count: usize| format!("task t {{ on-resource r {{ raw_write({}) }} }}", vec!["1"; count].join(","));
    let manifest = Manifest::parse(call(9).as_bytes(), &none).unwrap();
    assert_eq!(manifest.tasks[0].on_resource[0].calls.calls(ListKind::Functions).unwrap()[0].args.len(), 9);
    assert_eq!(detail(&call(10)), "[buf]:1: Too many arguments passed to 'raw_write'");
}

#[test]
fn calls_are_checked() {
    let in_task = |statement: &str| format!("task t {{\n{statement}\n}}");
    for (statement, expected) in [
        ("on-init { raw_write(1) }", "raw_write only usable in on-resource"),
        ("on-resource r { raw_write() }", "raw_write requires a block offset"),
        ("on-resource r { raw_write(zz) }", "raw_write requires a non-negative integer block offset"),
        ("on-init { raw_memset(0, 1, 256) }", "raw_memset requires value to be between 0 and 255"),
        ("on-init { raw_memset(0, 0, 1) }", "raw_memset requires a positive integer block count"),
        ("on-init { trim(1, 0) }", "trim requires a block count >1"),
        ("on-init { fat_attrib(1, f, Q) }", "fat_attrib only supports R, H, and S attributes"),
        ("on-init { fat_cp(1, a) }", "fat_cp requires either 3 or 4 arguments"),
        (
            "require-partition-offset(4, 1)",
            "require-partition-offset requires the partition number to be 0-3",
        ),
        ("require-execute()", "require-execute requires a command"),
    ] {
        assert_eq!(detail(&in_task(statement)), format!("[buf]:2: {expected}"));
    }
    let manifest = Manifest::parse(in_task("require-partition-offset(1, 010)").as_bytes(), &none).unwrap();
    assert_eq!(manifest.tasks[0].requirements, list(&["3", "require-partition-offset", "1", "010"]));
}

#[test]
fn unknown_sections_that_fwup_manages_are_passed_over() {
    for section in [
        "future { list = { 1, 2 } }",
        "future \"x\" { call(3) a = 1 }",
        "future x { inner { deeper y { list = {} } } }",
    ] {
        let text = format!("{section}\ntask t {{ {section} }}\nmeta-product=p");
        let manifest = Manifest::parse(text.as_bytes(), &none).unwrap();
        assert_eq!((manifest.string("meta-product"), manifest.tasks.len()), (Some("p"), 1), "{section}");
    }
}

#[test]
fn unknown_sections_in_which_fwup_loses_its_way_are_refused() {
    assert_eq!(detail("future { }\nmeta-product=p"), "[buf]:2: unexpected token '='");
    assert_eq!(detail("future { a=1\n}\ntask t { }"), "[buf]:3: unexpected token 't'");
    // A byte order mark makes the first word unknown.
    assert_eq!(detail("\u{feff}task \"t\" { }\ntask \"u\" { }"), "[buf]:2: unexpected token 'u'");
    // Where fwup would go on without a word, a requirement would be gone.
    let swallowing =
        "task t {\nfuture { a=1 }\non-init { funlist={2,info,hi} }\nreqlist={2,\"require-execute\",false}\n}";
    assert!(detail(swallowing).contains("unknown section 'future' on line 2 cannot be passed over"));
    let deep = format!("{}{}", "a{".repeat(20_000), "}".repeat(20_000));
    assert!(Manifest::parse(deep.as_bytes(), &none).is_err());
}

#[test]
fn files_of_the_device_are_not_read() {
    assert!(detail("include(\"/etc/passwd\")").contains("archives may not read files"));
    // What is not there is told as fwup tells it.
    assert!(detail("task t { include(nosuch) }").contains("Cannot include 'nosuch': File not found"));
}

#[test]
fn definitions_set_variables() {
    let value = |text: &str, set: &dyn Fn(&str) -> Option<String>| {
        let text = format!("{text}\nmeta-misc=${{X}}");
        Manifest::parse(text.as_bytes(), set).unwrap().string("meta-misc").unwrap().to_owned()
    };
    let set = |name: &str| (name == "X").then(|| "outside".to_owned());
    assert_eq!(value("define(X, 1)", &none), "1");
    assert_eq!(value("define(X, 1)", &set), "outside");
    assert_eq!(value("define!(X, 1)", &set), "1");
    assert_eq!(value("define-eval(X, \"2 * 3M\")", &none), "6291456");
    assert_eq!(detail("define(X)"), "[buf]:1: 'define' requires 2 parameters");
    assert_eq!(detail("define-eval(X, \"1 /\")"), "[buf]:1: error evaluating '1 /'");
}

#[test]
fn variables_expand_up_to_the_limit() {
    let half = "x".repeat(EXPANDED_MAX / 2);
    let set = |_: &str| Some(half.clone());
    assert!(Manifest::parse(b"meta-misc=${X}\nmeta-author=${X}", &set).is_ok());
    assert!(Manifest::parse(b"meta-misc=${X}\nmeta-author=${X}\nmeta-product=${X}", &set).is_err());
    let doubling = format!("define(X, xx)\n{}", "define!(X, \"${X}${X}\")\n".repeat(100));
    assert!(detail(&doubling).contains("variables expand to more than"));
}

#[test]
fn lengths_are_floating_point_numbers() {
    let lengths = |text: &str| {
        let text = format!("file-resource r {{ length = {text} }}");
        Manifest::parse(text.as_bytes(), &none).map(|manifest| manifest.resources[0].length.clone())
    };
    assert_eq!(lengths("{1000, 4096, 24}").unwrap(), [1000, 4096, 24]);
    assert_eq!(lengths("1e3").unwrap(), [1000]);
    assert_eq!(lengths("0x3e8").unwrap(), [1000]);
    assert_eq!(lengths("01750").unwrap(), [1750]);
    assert_eq!(lengths("4300000000").unwrap(), [4_300_000_000]);
    for wrong in ["-1", "nan", "inf", "1x", "1e300", "0xfffffffffffffffff"] {
        assert!(lengths(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn text_that_is_not_utf8_may_stand_where_it_is_not_used() {
    let text = b"# \xff\nmeta-product=\"J\xf6rg\"\nfuture=\xff\n\xff { a={\xff} }\n\xff = 1\nmeta-misc=x\n";
    let manifest = Manifest::parse(text, &none).unwrap();
    assert_eq!(manifest.string("meta-product"), Some("J\u{fffd}rg"));
    assert_eq!(manifest.string("meta-misc"), Some("x"));
    for used in [
        "task \"\\xff\" {}",
        "task t { on-init { info('\\q', \"\\xff\") } }",
        "mbr m { signature=\"\\377\" }",
    ] {
        assert!(detail(used).ends_with("is not UTF-8"), "{used}");
    }
    assert_eq!(detail("mbr m {\nsignature=\"\\377\" }"), "[buf]:2: text is not UTF-8");
}

/// Texts made of the language's own words and marks get further than random bytes.
fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-z{}()=+,#*\"'\\\\$/ \n\t]{1,4}",
        prop::sample::select(vec![
            "task ",
            "on-init ",
            "on-resource ",
            "funlist",
            "={",
            "}",
            "{",
            "meta-product",
            "=",
            "mbr ",
            "partition ",
            "raw_write(",
            ")",
            "define!(",
            ",",
            "${",
            "}",
            "length",
            "\"",
            "'",
            "\\x",
            "\\9",
            "//",
            "/*",
            "*/",
            "a",
            "future ",
            "+=",
            "boot",
            "true",
            "include(",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_a_manifest_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::parse(&bytes, &none);
    }

    #[test]
    fn any_text_is_a_manifest_or_an_error(text in texts()) {
        if let Ok(manifest) = Manifest::parse(text.as_bytes(), &none) {
            for task in &manifest.tasks {
                let _ = task.on_init.calls(ListKind::Functions);
            }
        } else {
            let error = Manifest::parse(text.as_bytes(), &none).unwrap_err();
            prop_assert!(error.detail().is_none_or(|detail| detail.starts_with("[buf]:")));
        }
    }
}
