//! FAT12, FAT16 and FAT32 file systems on the destination (fw-format §15).
//!
//! Everything goes through `Mounts`, which stands for the up to four file systems that are known at a time.
//! Blocks are 512 bytes; `block` is where the file system begins.
//!
//! ```text
//! Mounts::new() -> Mounts
//! mounts.mkfs(disk, block, count) -> Result<(), FatError>
//! mounts.touch(disk, block, name) / mkdir(disk, block, name) / set_label(disk, block, label)
//! mounts.remove(disk, block, name, must_exist)            fat_rm (false), fat_rm! (true)
//! mounts.rename(disk, block, from, to, force)             fat_mv (false), fat_mv! (true)
//! mounts.copy(disk, from_block, from, to_block, to)
//! mounts.set_attributes(disk, block, name, "RHS")
//! mounts.truncate(disk, block, name)                      begins fat_write
//! mounts.write_at(disk, block, name, offset, data)        each piece; a gap before offset is filled with zeros
//! mounts.read_at(disk, block, name, offset, buffer) -> Result<usize, FatError>
//! mounts.exists(disk, block, name) -> bool
//! mounts.file_contains(disk, block, name, pattern) -> bool
//! mounts.close(disk)                                      before on-finish and after an error
//! ```
//!
//! `disk` is `&mut dyn DiskIo`; `name` and `pattern` are `&[u8]` or `&str`.
