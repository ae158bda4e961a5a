//! Runs the NervesHub device machine with threads and no async.
