//! Traffic recorded between the real server and the real clients.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The recordings by name, or `None` with a visible line.
pub fn recordings() -> Option<BTreeMap<String, Vec<Value>>> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let places = ["../shared/golden/wire", "testkit/golden/wire"];
    let Some(folder) = places.iter().map(|place| workspace.join(place)).find(|folder| folder.is_dir()) else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no recordings in {places:?}\n"),
        ));
        return None;
    };
    println!("recordings from {}", folder.display());
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            all.insert(name, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
        } else if name == "credentials" {
            all.insert(name, vec![serde_json::from_str(&text).unwrap()]);
        }
    }
    assert!(all.len() >= 6, "too few recordings");
    Some(all)
}

pub fn from_server(lines: &[Value], kind: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["dir"] == "server_to_client" && line["kind"] == kind).cloned().collect()
}
