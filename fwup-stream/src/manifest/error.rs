//! Why a manifest cannot be used.

/// Why a manifest cannot be used. Displays as the reference's error text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text breaks the language's rules. The reference also prints `detail` to its standard error.
    #[error("Unexpected error parsing meta.conf")]
    Syntax {
        /// What is wrong and where: `[buf]:LINE: TEXT`.
        detail: String,
    },
    /// The text sets what follows from it.
    #[error(
        "meta.conf isn't allowed to change 'meta-uuid', 'meta-nickname', '$FWUP_META_UUID' or \
         '$FWUP_META_NICKNAME'"
    )]
    ChangesIdentity,
}

impl ManifestError {
    /// Returns the line the reference prints to its standard error besides the error text, if any.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Syntax { detail } => Some(detail),
            Self::ChangesIdentity => None,
        }
    }
}
