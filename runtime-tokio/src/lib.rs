//! Runs the NervesHub device machine on tokio.
