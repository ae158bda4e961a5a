//! Apply, verify and read .fw firmware archives from a stream.
