//! Writing and hashing in threads: the same results, the same errors.

use std::io;
use std::sync::{Arc, Mutex};

use crate::apply_support::{Done, Recorder, SLOT_B, apply, data, installed, resource, signed};
use fwup_stream::disk::{Extent, MemoryTarget, Target, WriteBehind};
use fwup_stream::{ApplyOptions, Error, Verifier};

/// A target whose inside can be looked at while a thread has it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Recorder>>);

impl Shared {
    fn new(disk: MemoryTarget) -> Self {
        Self(Arc::new(Mutex::new(Recorder::new(disk))))
    }
}

impl Target for Shared {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap().read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().sync()
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().trim(offset, length)
    }

    fn extent(&self) -> Extent {
        self.0.lock().unwrap().extent()
    }
}

/// Firmware large enough for a thread, with an on-error that can be seen.
fn firmware(wrong_digest: bool) -> Vec<u8> {
    let image = data(3, 1_500_000);
    let described = if wrong_digest { data(4, 1_500_000) } else { image.clone() };
    let manifest = format!(
        "{}task \"t\" {{\non-resource \"x\" {{\nfunlist={{2,raw_write,{SLOT_B}}}\n}}\n\
         on-finish {{\nfunlist={{4,raw_memset,10,1,8}}\n}}\non-error {{\nfunlist={{4,raw_memset,11,1,9}}\n}}\n}}\n",
        resource("x", &described)
    );
    signed(&manifest, &[("x", &image)])
}

fn options(threads: bool) -> ApplyOptions {
    let mut options = crate::apply_support::options("t");
    options.threads = threads;
    options
}

#[test]
fn the_log_is_the_same_with_and_without_threads() {
    let mut plain = Recorder::new(installed());
    apply(options(false), &firmware(false), &mut plain).unwrap();
    let shared = Shared::new(installed());
    let behind = WriteBehind::new(shared.clone(), true).unwrap();
    apply(options(true), &firmware(false), behind).unwrap();
    assert!(shared.0.lock().unwrap().log == plain.log);
}

#[test]
fn a_write_that_fails_is_told_with_its_place_and_nothing_follows_but_on_error() {
    let full_at = SLOT_B * 512 + 3 * 131_072;
    let mut plain = Recorder::new(installed());
    plain.full_at = full_at;
    let expected = apply(options(false), &firmware(false), &mut plain).unwrap_err().to_string();
    let shared = Shared::new(installed());
    shared.0.lock().unwrap().full_at = full_at;
    let behind = WriteBehind::new(shared.clone(), false).unwrap();
    let error = apply(options(true), &firmware(false), behind).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert!(expected.contains(&full_at.to_string()), "{expected}");
    assert!(shared.0.lock().unwrap().log == plain.log);
    assert!(plain.log.iter().any(|done| matches!(done, Done::Write(at, _) if *at == 11 * 512)));
}

#[test]
fn a_wrong_digest_is_found_in_the_thread_too() {
    for threads in [false, true] {
        let mut target = Recorder::new(installed());
        let error = apply(options(threads), &firmware(true), &mut target).unwrap_err();
        assert!(error.to_string().contains("blake2b mismatch"), "{error}");
        assert_eq!(target.disk.bytes(11 * 512, 1), [9]);
        let verify = |firmware: &[u8]| {
            let keys = vec![crate::apply_support::public_key()];
            let mut verifier = Verifier::new(keys, Verifier::no_variables(), None).threads(threads);
            verifier.push(firmware)?;
            verifier.finish()
        };
        assert!(matches!(verify(&firmware(true)), Err(Error::Digest(_))));
        assert!(verify(&firmware(false)).is_ok());
    }
}

/// What reads back differently is found by the thread, as the cache finds it.
#[test]
fn verification_in_the_thread_finds_a_medium_that_lies() {
    struct Liar(MemoryTarget);
    impl Target for Liar {
        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read_at(offset, buffer)?;
            buffer[0] ^= 1;
            Ok(count)
        }

        fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write_at(offset, data)
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn trim(&mut self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn extent(&self) -> Extent {
            self.0.extent()
        }
    }
    let behind = WriteBehind::new(Liar(installed()), true).unwrap();
    let error = apply(options(true), &firmware(false), behind).unwrap_err();
    assert!(error.to_string().starts_with("write verification failed at offset"), "{error}");
}

/// A medium that fails at one write, and is told so by whichever call comes next.
#[derive(Clone)]
struct FailsOnce {
    disk: Shared,
    write: usize,
    writes: Arc<Mutex<usize>>,
}

impl Target for FailsOnce {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        if *writes == self.write {
            return Err(io::Error::other("a bad sector"));
        }
        self.disk.write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync()
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.trim(offset, length)
    }

    fn extent(&self) -> Extent {
        self.disk.extent()
    }
}

/// A call that can do without an answer (a read to leave out what is there already, a trim) may be the one that
/// is told of the failure. It must not keep it to itself: the switch would follow.
#[test]
fn a_failed_write_is_told_whichever_call_comes_next() {
    let image = data(3, 1_500_000);
    let manifest = format!(
        "{}task \"t\" {{\non-resource \"x\" {{\nfunlist={{2,raw_write,{SLOT_B}}}\n}}\n\
         on-finish {{\nfunlist={{3,trim,2048,1024,4,raw_memset,10,1,8}}\n}}\n}}\n",
        resource("x", &image)
    );
    let firmware = signed(&manifest, &[("x", &image)]);
    for minimize in [false, true] {
        for write in 1.. {
            let disk = Shared::new(installed());
            let target = FailsOnce { disk: disk.clone(), write, writes: Arc::default() };
            let writes = Arc::clone(&target.writes);
            let mut how = options(true);
            (how.minimize_writes, how.enable_trim) = (minimize, true);
            let outcome = apply(how, &firmware, WriteBehind::new(target, true).unwrap());
            if *writes.lock().unwrap() < write {
                assert!(outcome.is_ok() && write > 12, "{write} writes: {outcome:?}");
                break;
            }
            let error = outcome.expect_err("a write failed");
            assert!(error.to_string().starts_with("write failed at offset"), "write {write}: {error}");
            assert_ne!(
                disk.0.lock().unwrap().disk.bytes(10 * 512, 1),
                [8],
                "write {write}: the switch followed"
            );
        }
    }
}
