//! Entries of the archive and resources of the manifest (fw-format §1.1).

/// The folder that most resources are in.
const FOLDER: &str = "data/";

/// The resource an entry holds; nothing for the folder's own entry.
pub(crate) fn resource_name(entry: &str) -> Option<String> {
    let name = entry.strip_prefix(FOLDER).map_or_else(|| format!("/{entry}"), str::to_owned);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::resource_name;

    #[test]
    fn entries_outside_the_folder_get_a_slash() {
        assert_eq!(resource_name("data/a").as_deref(), Some("a"));
        assert_eq!(resource_name("data/b/c").as_deref(), Some("b/c"));
        assert_eq!(resource_name("notes.txt").as_deref(), Some("/notes.txt"));
        assert_eq!(resource_name("data/"), None);
    }
}
