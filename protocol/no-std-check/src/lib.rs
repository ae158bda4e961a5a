//! A program without std that links the protocol crate.
//!
//! std brings its own panic handler. If any dependency pulls std in, there are two, and rustc
//! refuses with "found duplicate lang item `panic_impl`". So `cargo build` here is the check; it
//! needs no bare-metal target.
#![no_std]

use nerves_hub_link_protocol::Link;

/// Keeps the crate linked.
pub fn status(link: &Link) -> nerves_hub_link_protocol::Status {
    link.status()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
