//! The NervesHub device agent.
fn main() {}
