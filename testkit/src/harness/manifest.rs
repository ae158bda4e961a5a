//! The manifest.

use fwup_stream::limits::CALL_ARGUMENTS;
use fwup_stream::manifest::{CallList, ListKind, Manifest, Metadata};

use super::input::Source;

/// Bytes of text taken: the largest manifest and some more.
const TEXT_MAX: usize = 51_000;

/// Reads a `meta.conf` and everything that is made from it.
///
/// # Panics
/// When reading it twice differs, or what was read does not hold together.
pub fn manifest(data: &[u8]) {
    let mut source = Source::new(data);
    let set = source.byte();
    let text = source.rest(TEXT_MAX);
    let variables = |name: &str| (usize::from(set) > name.len()).then(|| format!("{name}$"));
    let parsed = Manifest::parse(text, &variables);
    assert_eq!(parsed, Manifest::parse(text, &variables), "read twice");
    let Ok(manifest) = parsed else { return };

    for task in &manifest.tasks {
        walk(&task.requirements, ListKind::Requirements);
        let resources = task.on_resource.iter().map(|resource| &resource.calls);
        for list in [&task.on_init, &task.on_finish, &task.on_error].into_iter().chain(resources) {
            walk(list, ListKind::Functions);
        }
    }
    for resource in &manifest.resources {
        assert!(resource.data_length() <= resource.full_length(), "{}", resource.name);
        assert!(manifest.resource(&resource.name).is_some(), "{}", resource.name);
    }
    let metadata = Metadata::of(text, &manifest, Some(i64::from(set) * 86_400 * 365));
    assert_eq!(metadata.uuid().len(), 36, "{}", metadata.uuid());
    assert!(metadata.nickname().contains('-'), "{}", metadata.nickname());
    let printed = metadata.to_text();
    assert!(printed.is_empty() || printed.ends_with('\n'), "{printed:?}");
}

/// A list is cut into calls that are its words in order, or refused by both ways of walking it.
fn walk(list: &CallList, kind: ListKind) {
    let all = list.calls(kind);
    let each: Vec<_> = list.each(kind).collect();
    assert_eq!(all.is_ok(), each.iter().all(Result::is_ok), "{list:?}");
    let Ok(calls) = all else { return };
    assert!(calls.iter().all(|call| call.args.len() <= CALL_ARGUMENTS), "{list:?}");
    let words: usize = calls.iter().map(|call| call.args.len() + 2).sum();
    assert_eq!(words, list.0.len(), "{list:?}");
}
