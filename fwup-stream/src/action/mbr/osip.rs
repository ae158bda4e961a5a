//! The header of the Open Source Image Pack, which some Intel boot loaders read from block 0 (fw-format
//! §13.5).

use super::super::overlap;
use super::MbrError;
use crate::manifest::Osip;

/// Bytes of the header without its images.
const HEADER: u16 = 32;
/// Bytes of one image.
const IMAGE: u16 = 24;
/// Images there is room for.
const IMAGES: u8 = 15;
/// Where the checksum is.
const CHECKSUM: usize = 7;

/// The bytes at the start of block 0.
pub(super) fn header(osip: &Osip) -> Result<Vec<u8>, MbrError> {
    if let Some(number) = overlap::duplicate(osip.images.iter().map(|image| image.number)) {
        return Err(MbrError::DuplicateImage(number));
    }
    let images = match osip.images.iter().map(|image| image.number).max() {
        None => return Err(MbrError::NoImages),
        Some(last) => u8::try_from(last)
            .ok()
            .and_then(|last| last.checked_add(1))
            .filter(|images| *images <= IMAGES)
            .ok_or(MbrError::Osip { what: "image number", value: i64::from(last) })?,
    };
    let size = HEADER + IMAGE * u16::from(images);
    let mut out = b"$OS$\0".to_vec();
    out.extend([byte("osip-minor", osip.minor)?, byte("osip-major", osip.major)?, 0]);
    out.extend([byte("osip-num-pointers", osip.num_pointers)?, images]);
    out.extend(size.to_le_bytes());
    out.resize(usize::from(HEADER), 0);
    for number in 0..u32::from(images) {
        let Some(image) = osip.images.iter().find(|image| image.number == number) else {
            // A number that is left out is an image of zeros.
            out.resize(out.len() + usize::from(IMAGE), 0);
            continue;
        };
        out.extend(half("os-minor", image.os_minor)?.to_le_bytes());
        out.extend(half("os-major", image.os_major)?.to_le_bytes());
        out.extend(word("start-block-offset", image.start_block_offset)?.to_le_bytes());
        out.extend(word("ddr-load-address", image.ddr_load_address)?.to_le_bytes());
        out.extend(word("entry-point", image.entry_point)?.to_le_bytes());
        out.extend(word("image-size-blocks", image.image_size_blocks)?.to_le_bytes());
        out.extend([byte("attribute", image.attribute)?, 0, 0, 0]);
    }
    let checksum = out.iter().fold(0, |sum, byte| sum ^ byte);
    super::put(&mut out, CHECKSUM, &[checksum])?;
    Ok(out)
}

fn byte(what: &'static str, value: i64) -> Result<u8, MbrError> {
    u8::try_from(value).map_err(|_| MbrError::Osip { what, value })
}

fn half(what: &'static str, value: i64) -> Result<u16, MbrError> {
    u16::try_from(value).map_err(|_| MbrError::Osip { what, value })
}

fn word(what: &'static str, value: i64) -> Result<u32, MbrError> {
    u32::try_from(value).map_err(|_| MbrError::Osip { what, value })
}
