//! Two calls of the Linux kernel that take a pointer, made safe: discarding blocks of a device, and beginning the update
//! of a UBI volume.
//!
//! The only `unsafe` code of the project is in the function `set` of this file. No crate offers both calls: rustix has
//! neither, nix and uapi only macros for unsafe functions, and block-devs only the first, in its only release.

use std::fs::File;
use std::io;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `BLKDISCARD`, `_IO(0x12, 119)` in linux/fs.h. Takes a pointer to two numbers of 64 bits: offset and length in bytes.
const BLKDISCARD: Opcode = opcode::none(0x12, 119);

/// `UBI_IOCVOLUP`, `_IOW('O', 0, __s64)` in mtd/ubi-user.h. Takes a pointer to a number of 64 bits: the bytes to come.
const UBI_IOCVOLUP: Opcode = opcode::write::<i64>(b'O', 0);

/// Discards `length` bytes of a block device from `offset`. What is read there afterwards is not defined.
///
/// Returns when the device has done it, which takes as long as the device likes. Offset and length must be multiples of
/// its sectors.
///
/// # Errors
///
/// `device` is no block device (`ENOTTY`), is not open for writing, cannot discard (`EOPNOTSUPP`), or fails.
pub fn discard(device: &File, offset: u64, length: u64) -> io::Result<()> {
    set::<BLKDISCARD, [u64; 2]>(device, [offset, length])
}

/// Begins the update of a UBI volume: `length` bytes, which the caller then writes to `volume` from front to back.
/// With 0 the volume is emptied at once. Until the last byte was written, the volume counts as damaged.
///
/// # Errors
///
/// `volume` is no UBI volume (`ENOTTY`), is in use (`EBUSY`), too small, read-only, or fails.
pub fn begin_volume_update(volume: &File, length: u64) -> io::Result<()> {
    let length = i64::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    set::<UBI_IOCVOLUP, i64>(volume, length)
}

/// The kinds of argument that the calls above take. Private, so that [`set`] cannot be called with others.
trait Argument: Copy {}
impl Argument for [u64; 2] {}
impl Argument for i64 {}

/// Makes a call that reads its argument through a pointer and writes nothing.
fn set<const OPCODE: Opcode, T: Argument>(file: &File, argument: T) -> io::Result<()> {
    // SAFETY: of the two opcodes in this file, BLKDISCARD makes the kernel read 16 bytes through the pointer
    // (blk_ioctl_discard copies `uint64_t range[2]` from user space) and UBI_IOCVOLUP 8 (vol_cdev_ioctl copies an
    // `int64_t`); the callers above give them just that. Neither writes through it, and the kernel keeps no pointer.
    // A file that is another kind of device rejects both numbers with ENOTTY; one that gave them another meaning would
    // at most copy as many bytes as its number says, which are 0 and 8.
    #[allow(unsafe_code)]
    let call = unsafe { Setter::<OPCODE, T>::new(argument) };
    // SAFETY: `Setter` passes a pointer to the argument, which lives until the call returns, and has no output. The
    // descriptor is open for as long as `file` is borrowed.
    #[allow(unsafe_code)]
    let outcome = unsafe { ioctl(file, call) };
    outcome.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel() {
        assert_eq!(BLKDISCARD, 0x1277);
        // PowerPC, MIPS and SPARC put the direction elsewhere.
        if cfg!(any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "arm",
            target_arch = "riscv64"
        )) {
            assert_eq!(UBI_IOCVOLUP, 0x4008_4f00);
        }
    }
}
