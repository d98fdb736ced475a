//! The memory of verified credentials: on a file that others write to, tear, cut and take away.

use super::*;
use crate::file::StateFile;
use std::{cell::RefCell, rc::Rc};

const NOW: u64 = 1_795_262_400;

/// A file in memory that several instances share, and that can be made to fail.
#[derive(Clone, Default)]
struct Fake(Rc<Disk>);

#[derive(Default)]
struct Disk {
    bytes: RefCell<Vec<u8>>,
    reads: Cell<u32>,
    writes: Cell<u32>,
    reads_fail: Cell<bool>,
    /// How many bytes of a write arrive; `None` is all of them.
    write_limit: Cell<Option<usize>>,
}

impl Slots for Fake {
    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.reads.set(self.0.reads.get() + 1);
        if self.0.reads_fail.get() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let bytes = self.0.bytes.borrow();
        let rest = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write(&self, offset: u64, given: &[u8]) -> io::Result<()> {
        self.0.writes.set(self.0.writes.get() + 1);
        let (mut bytes, offset) = (self.0.bytes.borrow_mut(), usize::try_from(offset).unwrap());
        let arriving = &given[..self.0.write_limit.get().unwrap_or(given.len())];
        if !arriving.is_empty() {
            let end = bytes.len().max(offset + arriving.len());
            bytes.resize(end, 0);
            bytes[offset..offset + arriving.len()].copy_from_slice(arriving);
        }
        if arriving.len() < given.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn name(&self) -> &'static str {
        "/state/verified"
    }
}

impl Fake {
    /// A new instance on this file.
    fn instance(&self) -> Verified<Fake> {
        Verified::new(Some(self.clone()))
    }

    fn calls(&self) -> (u32, u32) {
        (self.0.reads.get(), self.0.writes.get())
    }
}

/// A digest of the set with this number, as the `n`th of that set.
fn digest(set: u16, n: u8) -> [u8; 32] {
    let mut digest = [n; 32];
    digest[..2].copy_from_slice(&set.to_le_bytes());
    digest
}

/// As a caller does it: ask, verify, remember.
fn verify<S: Slots>(verified: &Verified<S>, digest: &[u8; 32], now: u64, until: u64) {
    verified.remembers(digest, now);
    verified.remember(digest, until);
}

#[test]
fn what_one_instance_verified_the_others_know_until_it_ends() {
    let file = Fake::default();
    let (one, other) = (file.instance(), file.instance());
    let (good, unknown) = (digest(7, 1), digest(7, 2));
    assert!(!one.remembers(&good, NOW));
    one.remember(&good, NOW + 60);
    for instance in [&one, &other, &file.instance()] {
        assert!(instance.remembers(&good, NOW));
        assert!(instance.remembers(&good, NOW + 59));
        assert!(!instance.remembers(&good, NOW + 60), "the end is not part of it");
        assert!(!instance.remembers(&unknown, NOW));
    }
    assert!(one.notice().is_none() && other.notice().is_none());
}

#[test]
fn what_an_instance_knows_itself_costs_no_host_call() {
    let file = Fake::default();
    let one = file.instance();
    verify(&one, &digest(7, 1), NOW, NOW + 60);
    assert_eq!(file.calls(), (2, 1));
    assert!(one.remembers(&digest(7, 1), NOW + 1));
    assert_eq!(file.calls(), (2, 1));
    let other = file.instance();
    assert!(other.remembers(&digest(7, 1), NOW + 1));
    assert!(other.remembers(&digest(7, 1), NOW + 2));
    assert_eq!(file.calls(), (3, 1));
}

#[test]
fn without_a_file_an_instance_remembers_for_itself() {
    let one: Verified<Fake> = Verified::new(None);
    verify(&one, &digest(7, 1), NOW, NOW + 60);
    assert!(one.remembers(&digest(7, 1), NOW + 59));
    assert!(!one.remembers(&digest(7, 1), NOW + 60));
    assert!(!Verified::<Fake>::new(None).remembers(&digest(7, 1), NOW));
}

#[test]
fn nothing_is_believed_for_longer_than_an_hour_or_from_another_time() {
    let file = Fake::default();
    let one = file.instance();
    verify(&one, &digest(7, 1), NOW, u64::MAX);
    for instance in [&one, &file.instance()] {
        assert!(instance.remembers(&digest(7, 1), NOW + MAX_KEPT_S - 1));
        assert!(!instance.remembers(&digest(7, 1), NOW + MAX_KEPT_S));
        // The clock was put back: no slot with such an end can have been written by now.
        assert!(!instance.remembers(&digest(7, 1), NOW - 1));
        assert!(!instance.remembers(&digest(7, 1), 0));
        assert!(!instance.remembers(&digest(7, 1), u64::MAX));
    }
}

#[test]
fn what_is_already_over_is_not_kept() {
    let file = Fake::default();
    let one = file.instance();
    for until in [0, NOW - 1, NOW] {
        verify(&one, &digest(7, 1), NOW, until);
        assert!(!one.remembers(&digest(7, 1), NOW));
    }
    assert_eq!(file.calls().1, 0);
}

#[test]
fn a_full_set_gives_up_what_is_over_and_then_what_ends_first() {
    let file = Fake::default();
    let one = file.instance();
    for n in 1..=4 {
        verify(&one, &digest(7, n), NOW, NOW + 100 - u64::from(n));
    }
    let known = |at: u64| {
        let other = file.instance();
        (1..=6).filter(|n| other.remembers(&digest(7, *n), at)).collect::<Vec<_>>()
    };
    assert_eq!(known(NOW), [1, 2, 3, 4]);
    verify(&one, &digest(7, 5), NOW, NOW + 200);
    assert_eq!(known(NOW), [1, 2, 3, 5], "4 ended first");
    verify(&one, &digest(7, 6), NOW + 98, NOW + 100);
    assert_eq!(known(NOW + 98), [1, 5, 6], "2 and 3 are over, and one of them made room");
    // A neighbouring set is another one, and so is every fourth thousandth.
    verify(&one, &digest(8, 1), NOW + 98, NOW + 110);
    assert_eq!(known(NOW + 98), [1, 5, 6]);
    assert_eq!(file.0.bytes.borrow().len(), SET_LEN * 8 + SLOT_LEN);
}

#[test]
fn a_credential_has_one_slot_however_often_it_is_verified() {
    let file = Fake::default();
    verify(&file.instance(), &digest(7, 1), NOW, NOW + 60);
    let len = file.0.bytes.borrow().len();
    for n in 1..10 {
        verify(&file.instance(), &digest(7, 1), NOW + n * MAX_KEPT_S, u64::MAX);
        assert!(file.instance().remembers(&digest(7, 1), NOW + n * MAX_KEPT_S));
    }
    assert_eq!(file.0.bytes.borrow().len(), len);
}

#[test]
fn the_file_never_grows_above_its_length() {
    let file = Fake::default();
    let one = file.instance();
    for set in (0..=u16::MAX).step_by(97).chain([u16::MAX]) {
        for n in 0..6 {
            verify(&one, &digest(set, n), NOW, NOW + 60);
        }
    }
    assert!(file.0.bytes.borrow().len() as u64 <= FILE_LEN);
    assert_eq!(FILE_LEN, 786_432);
}

#[test]
fn a_slot_with_any_bit_changed_is_empty() {
    let file = Fake::default();
    verify(&file.instance(), &digest(0, 1), NOW, NOW + 60);
    let good = file.0.bytes.borrow().clone();
    assert_eq!(good.len(), SLOT_LEN);
    for bit in 0..SLOT_LEN * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let changed: [u8; 32] = bytes[..32].try_into().unwrap();
        file.0.bytes.replace(bytes);
        assert!(!file.instance().remembers(&digest(0, 1), NOW), "bit {bit}");
        assert!(!file.instance().remembers(&changed, NOW), "bit {bit}");
    }
}

#[test]
fn a_slot_torn_between_two_writers_is_empty() {
    let slot = |n| Slot { digest: digest(0, n), until: NOW + 60 + u64::from(n) }.encode(0);
    let (one, other) = (slot(1), slot(2));
    for at in 1..SLOT_LEN {
        let torn = [&one[..at], &other[at..]].concat();
        if torn == one || torn == other {
            continue;
        }
        let file = Fake::default();
        let mix: [u8; 32] = torn[..32].try_into().unwrap();
        file.0.bytes.replace(torn);
        for digest in [digest(0, 1), digest(0, 2), mix] {
            assert!(!file.instance().remembers(&digest, NOW), "torn at {at}");
        }
    }
}

#[test]
fn a_slot_in_another_place_or_of_another_format_is_empty() {
    let slot = Slot { digest: digest(0, 1), until: NOW + 60 };
    let place = SLOT_LEN as u64;
    for (bytes, is_there) in [
        ([[0; SLOT_LEN], slot.encode(place)].concat(), true),
        ([[0; SLOT_LEN], slot.encode(0)].concat(), false),
        ([[0; SLOT_LEN], slot.encode(place ^ SEED ^ u64::from_le_bytes(*b"verifie2"))].concat(), false),
    ] {
        let file = Fake::default();
        file.0.bytes.replace(bytes);
        assert_eq!(file.instance().remembers(&digest(0, 1), NOW), is_there);
    }
}

#[test]
fn a_file_of_foreign_bytes_knows_nothing_and_is_written_over() {
    for foreign in [vec![], vec![0; 10], vec![0; 1 << 20], vec![0xFF; 1 << 20], b"{}\n".repeat(400_000)] {
        let file = Fake::default();
        file.0.bytes.replace(foreign);
        let one = file.instance();
        for digest in [[0; 32], [0xFF; 32], digest(7, 1)] {
            assert!(!one.remembers(&digest, NOW));
            assert!(!one.remembers(&digest, 0));
            verify(&one, &digest, NOW, NOW + 60);
            assert!(file.instance().remembers(&digest, NOW));
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_costs_verifications_and_one_line_in_the_log() {
    let file = Fake::default();
    verify(&file.instance(), &digest(7, 1), NOW, NOW + 100);
    let (one, before) = (file.instance(), file.calls());
    file.0.reads_fail.set(true);
    for n in 0..5 {
        assert!(!one.remembers(&digest(7, 1), NOW + n));
        assert!(!one.remembers(&digest(7, 2), NOW + n));
    }
    assert_eq!(file.calls(), (before.0 + 1, before.1), "it is left alone for a while");
    let (level, line) = one.notice().unwrap();
    assert_eq!(level, Level::Warn);
    assert!(line.starts_with("/state/verified cannot be read: permission denied; "), "{line}");
    // What this instance verifies itself it goes on knowing.
    verify(&one, &digest(7, 2), NOW + 5, NOW + 100);
    assert!(one.remembers(&digest(7, 2), NOW + 6));
    assert!(!one.remembers(&digest(7, 1), NOW + PAUSE_S));
    assert_eq!((file.calls().0, one.notice()), (before.0 + 2, None));
    file.0.reads_fail.set(false);
    assert!(one.remembers(&digest(7, 1), NOW + 2 * PAUSE_S));
}

#[test]
fn a_full_disk_costs_verifications_and_never_makes_a_slot_of_half_a_write() {
    for limit in [0, 1, 32, 40, SLOT_LEN - 1] {
        let file = Fake::default();
        verify(&file.instance(), &digest(7, 1), NOW, NOW + 100);
        file.0.write_limit.set(Some(limit));
        let one = file.instance();
        verify(&one, &digest(7, 2), NOW, NOW + 100);
        verify(&one, &digest(7, 3), NOW, NOW + 100);
        assert_eq!(file.calls().1, 2, "one write failed, then it is left alone");
        let (level, line) = one.notice().unwrap();
        assert_eq!(level, Level::Warn);
        assert!(line.starts_with("/state/verified cannot be written: "), "{line}");
        assert_eq!(one.notice(), None);
        let other = file.instance();
        assert!(other.remembers(&digest(7, 1), NOW), "what was written before is read on");
        assert!(!other.remembers(&digest(7, 2), NOW));
        assert!(one.remembers(&digest(7, 2), NOW));
    }
}

#[test]
fn a_clock_that_jumps_does_not_make_a_pause_longer() {
    let file = Fake::default();
    let one = file.instance();
    file.0.reads_fail.set(true);
    assert!(!one.remembers(&digest(7, 1), NOW));
    file.0.reads_fail.set(false);
    verify(&file.instance(), &digest(7, 1), NOW - 1000, NOW);
    assert!(one.remembers(&digest(7, 1), NOW - 1000));
}

#[test]
fn entries_of_the_instance_that_push_each_other_out_come_back_from_the_file() {
    let file = Fake::default();
    let one = file.instance();
    let digests: Vec<_> = (0..500).map(|set| digest(set, 9)).collect();
    for digest in &digests {
        verify(&one, digest, NOW, NOW + 60);
    }
    assert!(digests.iter().all(|digest| one.remembers(digest, NOW)));
    assert_eq!(one.near.len(), NEAR);
}

#[test]
fn on_a_real_file_two_instances_share_and_a_directory_in_its_place_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME).display().to_string();
    let instance = || Verified::new(Some(StateFile::new(path.clone())));
    let (one, other) = (instance(), instance());
    verify(&one, &digest(u16::MAX, 1), NOW, NOW + 60);
    assert!(other.remembers(&digest(u16::MAX, 1), NOW));
    assert!(std::fs::metadata(&path).unwrap().len() <= FILE_LEN);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let new = instance();
    verify(&new, &digest(1, 1), NOW, NOW + 60);
    assert!(new.remembers(&digest(1, 1), NOW));
    assert!(new.notice().unwrap().1.contains("cannot be read: is a directory"));
}

#[test]
fn instances_that_write_at_the_same_time_never_make_a_slot_that_nobody_wrote() {
    // Real threads on a real file, all of them in one set, so that slots are torn if they can be.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME).display().to_string();
    let written: Vec<_> = (0..40).map(|n| digest(7, n)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (path, written) = (path.clone(), &written);
            scope.spawn(move || {
                for round in 0..200_usize {
                    let one = Verified::new(Some(StateFile::new(path.clone())));
                    let digest = &written[(round * 7 + thread * 10) % written.len()];
                    verify(&one, digest, NOW, NOW + 60);
                    for never in 40..60 {
                        assert!(!one.remembers(&super::tests::digest(7, never), NOW));
                    }
                }
            });
        }
    });
    let one = Verified::new(Some(StateFile::new(path)));
    assert!(written.iter().filter(|digest| one.remembers(digest, NOW)).count() <= WAYS);
}
