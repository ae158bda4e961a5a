//! Numbers of the things that come and go; never used twice in a machine's life.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One dialled connection.
    SocketId
);
id!(
    /// One look whether the network is there.
    ProbeId
);
id!(
    /// One stream of a file's bytes: an HTTP request, or a reading of a store.
    FetchId
);
id!(
    /// One use of a folder in which a download is kept.
    StoreId
);
id!(
    /// One update the server offered.
    OfferId
);
id!(
    /// One archive the server offered.
    ArchiveId
);
id!(
    /// One run of a support script.
    ScriptId
);
id!(
    /// One run of a shell.
    ShellId
);
id!(
    /// One file on its way from an operator to the device.
    FileId
);
id!(
    /// One file on its way from the device to an operator.
    UploadId
);
