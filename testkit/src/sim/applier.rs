//! What applies an update on a device's cheap disk: it checks, writes, syncs and switches, in that order.

use nerves_hub_link_protocol::OfferId;

use super::armed::Armed;
use super::disk::Disk;
use super::fault::Fault;
use super::firmware::{HEADER, Header, STRANGER, believe, verify};
use super::mutation::Mutation;
use super::violation::Broken;
use crate::disk::Slot;

/// An applier at work.
#[derive(Debug)]
pub(super) struct Applier {
    pub offer: OfferId,
    keys: Vec<String>,
    slot: Slot,
    header: Vec<u8>,
    verified: Option<Header>,
    body: crc32fast::Hasher,
    /// Bytes taken.
    pub taken: u64,
    /// Bytes taken and not reported stored.
    pub outstanding: u64,
    /// Until when the disk is busy.
    pub busy: u64,
    pub percent: u8,
    pub failed: bool,
    mutation: Option<Mutation>,
}

/// The steps behind the last byte. Between any two, power may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Check,
    Sync,
    Switch,
    SyncSwitch,
    Done,
}

/// What an applier has to say.
pub(super) type Applied = Result<(), String>;

impl Applier {
    pub fn new(offer: OfferId, keys: Vec<String>, slot: Slot, mutation: Option<Mutation>) -> Self {
        Self {
            offer,
            keys,
            slot,
            header: Vec::new(),
            verified: None,
            body: crc32fast::Hasher::new(),
            taken: 0,
            outstanding: 0,
            busy: 0,
            percent: 0,
            failed: false,
            mutation,
        }
    }

    /// Takes the next bytes of the archive. The inner error is the applier's, for the server.
    pub fn take(&mut self, disk: &mut Disk, armed: &mut Armed, bytes: &[u8]) -> Result<Applied, Broken> {
        if self.failed {
            return Ok(Ok(()));
        }
        self.taken += bytes.len() as u64;
        if armed.strikes(Fault::DiskFull) {
            return Ok(Err("no space left on the disk".to_owned()));
        }
        if armed.strikes(Fault::DiskError) {
            return Ok(Err("input/output error of the disk".to_owned()));
        }
        let mut rest = bytes;
        if self.verified.is_none() {
            let missing = (HEADER - self.header.len()).min(rest.len());
            let (front, behind) = rest.split_at(missing);
            self.header.extend(front);
            rest = behind;
            if self.header.len() < HEADER {
                return Ok(Ok(()));
            }
            let read = if self.mutation == Some(Mutation::SkipSignature) {
                believe(&self.header)
            } else {
                verify(&self.header, &self.keys)
            };
            let header = match read {
                Ok(header) => header,
                Err(reason) => {
                    if reason == STRANGER {
                        armed.felt.insert(Fault::Untrusted);
                    }
                    return Ok(Err(reason.to_owned()));
                }
            };
            if !disk.may_update() {
                return Ok(Err(
                    "the running firmware is not validated, or another waits for the reboot".to_owned()
                ));
            }
            self.verified = Some(header);
            disk.begin(self.slot, header.id)?;
            if self.mutation == Some(Mutation::SwitchFirst) {
                disk.switch_to(self.slot, false);
                disk.sync();
            }
            disk.write(self.slot, &self.header)?;
        }
        self.body.update(rest);
        disk.write(self.slot, rest)?;
        Ok(Ok(()))
    }

    /// Does the next step behind the last byte.
    pub fn finish(&mut self, disk: &mut Disk, armed: &mut Armed, step: Finish) -> Result<Finish, String> {
        let skip_sync = self.mutation == Some(Mutation::SkipSync);
        Ok(match step {
            Finish::Check => {
                // What was written is read back.
                if armed.strikes(Fault::ReadError) {
                    return Err("what was written can't be read: input/output error of the disk".to_owned());
                }
                let header = self.verified.ok_or_else(|| "the archive ended in its header".to_owned())?;
                let right = header.body_crc == self.body.clone().finalize() && header.size == self.taken;
                if !right && self.mutation != Some(Mutation::SkipDigest) {
                    return Err("the firmware is not what its signature says".to_owned());
                }
                if skip_sync { Finish::Switch } else { Finish::Sync }
            }
            Finish::Sync => {
                disk.sync();
                Finish::Switch
            }
            Finish::Switch => {
                disk.switch_to(self.slot, self.mutation == Some(Mutation::WriteBothCopies));
                if skip_sync { Finish::Done } else { Finish::SyncSwitch }
            }
            Finish::SyncSwitch => {
                disk.sync();
                Finish::Done
            }
            Finish::Done => Finish::Done,
        })
    }
}
