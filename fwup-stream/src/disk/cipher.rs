//! Encryption of blocks as dm-crypt does it in the two modes fwup knows (fw-format §11.2).

use aes::Aes256;
use aes::cipher::consts::U16;
use aes::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use xts_mode::{Xts128, get_tweak_default};

use super::BLOCK;

/// A cipher with its key. Shows nothing of the key.
pub(crate) enum BlockCipher {
    /// `aes-cbc-plain`: the IV is the block's number in 32 bits.
    Cbc(Box<Aes256>),
    /// `aes-xts-plain64`: the tweak is the block's number in 64 bits.
    Xts(Box<Xts128<Aes256>>),
}

/// Why a cipher cannot be used. Displays as fwup does; never shows the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CipherError {
    /// The cipher is not known.
    #[error("Unsupported disk encryption: {0}")]
    Unknown(String),
    /// The key is not one for AES-256 in CBC mode.
    #[error("aes-cbc-plain requires a hex-encoded 256-bit key")]
    CbcKey,
    /// The keys are not those for AES-256 in XTS mode.
    #[error("aes-xts-plain64 requires a hex-encoded 512-bit key")]
    XtsKey,
}

impl BlockCipher {
    /// Makes the cipher of that name with a secret as text.
    pub(crate) fn new(name: &str, secret: &str) -> Result<Self, CipherError> {
        match name {
            "aes-cbc-plain" => {
                let key = from_hex(secret).or_else(|| STANDARD.decode(secret).ok()?.try_into().ok());
                let key: [u8; 32] = key.ok_or(CipherError::CbcKey)?;
                Ok(Self::Cbc(Box::new(Aes256::new(&Array(key)))))
            }
            "aes-xts-plain64" => {
                let (data, tweak) = secret.split_at_checked(64).ok_or(CipherError::XtsKey)?;
                let data: [u8; 32] = from_hex(data).ok_or(CipherError::XtsKey)?;
                let tweak: [u8; 32] = from_hex(tweak).ok_or(CipherError::XtsKey)?;
                let (data, tweak) = (Aes256::new(&Array(data)), Aes256::new(&Array(tweak)));
                Ok(Self::Xts(Box::new(Xts128::new(data, tweak))))
            }
            _ => Err(CipherError::Unknown(name.to_owned())),
        }
    }

    /// Encrypts whole blocks in place; the first has this number.
    pub(crate) fn encrypt(&self, first: u64, data: &mut [u8]) {
        debug_assert!(data.len().is_multiple_of(BLOCK), "only whole blocks can be encrypted");
        for (block, number) in data.chunks_exact_mut(BLOCK).zip(first..) {
            match self {
                Self::Cbc(key) => {
                    let (chunks, _) = Array::slice_as_chunks_mut(block);
                    cbc::Encryptor::inner_iv_init((**key).clone(), &iv(number)).encrypt_blocks(chunks);
                }
                Self::Xts(keys) => keys.encrypt_sector(block, get_tweak_default(u128::from(number))),
            }
        }
    }

    /// Decrypts whole blocks in place; the first has this number.
    pub(crate) fn decrypt(&self, first: u64, data: &mut [u8]) {
        debug_assert!(data.len().is_multiple_of(BLOCK), "only whole blocks can be decrypted");
        for (block, number) in data.chunks_exact_mut(BLOCK).zip(first..) {
            match self {
                Self::Cbc(key) => {
                    let (chunks, _) = Array::slice_as_chunks_mut(block);
                    cbc::Decryptor::inner_iv_init((**key).clone(), &iv(number)).decrypt_blocks(chunks);
                }
                Self::Xts(keys) => keys.decrypt_sector(block, get_tweak_default(u128::from(number))),
            }
        }
    }
}

/// The IV of a block in CBC mode: its number, which wraps around at 32 bits.
fn iv(number: u64) -> Array<u8, U16> {
    let mut iv = [0; 16];
    for (place, byte) in iv.iter_mut().zip(number.to_le_bytes().into_iter().take(4)) {
        *place = byte;
    }
    Array(iv)
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() == N * 2)?;
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    bytes.try_into().ok()
}
