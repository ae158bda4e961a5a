//! Which firmware runs, and that nothing else is marked good.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nerves_hub_link_platform::boot::{BOOT_ID, BootCheck, BootState, MARK, Marked, read_boot_id};
use nerves_hub_link_platform::identity::{Identity, mark_validated};
use nerves_hub_link_platform::install::InstallEvent;
use nerves_hub_link_platform::install::{Install, InstallError, InstallRequest, Installer};
use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_platform::kv::uboot_env::{Environment, Layout};
use nerves_hub_link_platform::kv::{KeyValueStore, KvError, MemoryStore, Pairs, UbootStore};
use nerves_hub_link_platform::limits::{BOOT_ID_MAX, FIRST_LOOK_MAX, NOTE_RESERVE};

/// A system in a folder: `/proc`, `/sys`, `/run`, and a disk with two slots.
struct System {
    folder: tempfile::TempDir,
    environment: MemoryStore,
}

const ROOT_A: u64 = 1000;
const ROOT_B: u64 = 9000;

impl System {
    fn new() -> Self {
        let environment = MemoryStore::new([
            ("nerves_fw_active", "a"),
            ("nerves_fw_validated", "1"),
            ("a.nerves_fw_uuid", "one"),
            ("a.nerves_fw_platform", "board"),
            ("a.nerves_fw_architecture", "arm"),
        ]);
        let system = Self { folder: tempfile::tempdir().unwrap(), environment };
        system.put("run/.keep", "");
        system.put("disk", "");
        system.put("proc/version", "Linux 6.1");
        system.put("proc/cmdline", "quiet");
        system.boots("first");
        system
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Restarts the system. What is in memory is lost.
    fn boots(&self, id: &str) {
        self.put(BOOT_ID.trim_start_matches('/'), format!("{id}\n"));
        self.put("proc/uptime", "40.5 70.1\n");
        self.loses_run();
    }

    fn loses_run(&self) {
        let _ = fs::remove_dir_all(self.path("run"));
        fs::create_dir(self.path("run")).unwrap();
    }

    fn is_read_only(&self) {
        fs::remove_dir_all(self.path("run")).unwrap();
        self.put("run", "");
    }

    fn has_run_for_long(&self) {
        self.put("proc/uptime", format!("{} 1\n", FIRST_LOOK_MAX.as_secs() + 1));
    }

    /// Mounts a partition of the disk at the root, as the kernel took it from the table at boot.
    fn mounts(&self, number: u64, start: u64, name: &str) {
        self.put("proc/self/mountinfo", "20 1 179:2 / / ro - squashfs /dev/root ro\n");
        self.put("sys/block/disk/dev", "179:0\n");
        self.put("sys/block/disk/p/partition", format!("{number}\n"));
        self.put("sys/block/disk/p/start", format!("{start}\n"));
        self.put("sys/block/disk/p/uevent", format!("DEVNAME=p\nPARTN={number}\nPARTNAME={name}\n"));
        fs::create_dir_all(self.path("sys/dev/block")).unwrap();
        let _ = fs::remove_file(self.path("sys/dev/block/179:2"));
        symlink("../../block/disk/p", self.path("sys/dev/block/179:2")).unwrap();
    }

    /// A start of the program.
    fn program(&self) -> BootCheck {
        BootCheck::of_system(self.path("disk")).root(self.folder.path())
    }

    fn state(&self) -> BootState {
        self.program().state(&self.environment.load().unwrap())
    }

    /// An update by another program: slot b is written and boots next.
    fn other_program_updates(&mut self) {
        let changes = [
            ("nerves_fw_active", Some("b")),
            ("nerves_fw_validated", Some("0")),
            ("b.nerves_fw_uuid", Some("two")),
            ("b.nerves_fw_platform", Some("board")),
            ("b.nerves_fw_architecture", Some("arm")),
        ];
        self.environment.update(&changes).unwrap();
    }

    /// An update by this program.
    fn updates(&mut self, check: &BootCheck) {
        check.note_install(&mut self.environment).unwrap();
        self.other_program_updates();
    }

    /// Tries to mark good, in a program that is started anew; returns whether the environment says so.
    fn marks(&mut self) -> bool {
        let check = self.program();
        let marked = mark_validated(&mut self.environment, &check).unwrap();
        let flag = Identity::load(&self.environment).unwrap().validated == Some(true);
        assert_eq!(marked == Marked::Good, flag, "{marked:?}");
        flag
    }
}

fn due() -> BootState {
    BootState::RestartDue { running: "a".to_owned(), next: "b".to_owned() }
}

#[test]
fn firmware_that_was_written_in_this_boot_is_not_marked_good() {
    let mut system = System::new();
    let check = system.program();
    assert_eq!(check.state(&system.environment.load().unwrap()), BootState::AsNamed);
    system.other_program_updates();
    // In the program that saw it, and in ones that are started later.
    assert_eq!(check.state(&system.environment.load().unwrap()), due());
    assert_eq!((system.state(), system.state()), (due(), due()));
    assert!(!system.marks());
    system.boots("second");
    assert_eq!(system.state(), BootState::AsNamed);
    assert!(system.marks() && system.marks());
}

#[test]
fn a_note_in_the_environment_is_enough_where_all_others_are_lost() {
    let mut system = System::new();
    let check = system.program();
    system.updates(&check);
    system.loses_run();
    assert_eq!(system.state(), due());
    assert!(!system.marks());
    system.boots("second");
    assert!(system.marks());
}

#[test]
fn a_program_that_looks_late_believes_nothing_unless_the_update_is_from_an_earlier_boot() {
    let mut system = System::new();
    system.has_run_for_long();
    system.other_program_updates();
    let BootState::Unknown { why } = system.state() else { panic!() };
    assert!(why.contains("15 minutes") && why.contains("nerves_fw_slot="), "{why}");
    // It stays unknown in this boot, however often it is asked.
    system.put("proc/uptime", "1 1");
    assert!(!system.marks());

    let mut system = System::new();
    let check = system.program();
    system.updates(&check);
    system.boots("second");
    system.has_run_for_long();
    assert!(system.marks());
    // The next update, by another program, before this one was started in this boot.
    system.boots("third");
    system.has_run_for_long();
    let back = [("nerves_fw_active", Some("a")), ("nerves_fw_validated", Some("0"))];
    system.environment.update(&back).unwrap();
    assert!(!system.marks());
}

#[test]
fn an_update_after_a_late_first_look_is_still_recognized() {
    let mut system = System::new();
    system.has_run_for_long();
    let check = system.program();
    assert!(matches!(check.state(&system.environment.load().unwrap()), BootState::Unknown { .. }));
    system.updates(&check);
    assert_eq!(system.state(), due());
    assert!(!system.marks());
    system.boots("second");
    system.has_run_for_long();
    assert!(system.marks());
}

#[test]
fn without_a_writable_place_nothing_is_marked_good_unless_the_install_was_noted_before_the_boot() {
    let mut system = System::new();
    system.is_read_only();
    system.other_program_updates();
    let BootState::Unknown { why } = system.state() else { panic!() };
    assert!(why.contains("state file"), "{why}");
    assert!(!system.marks());

    let mut system = System::new();
    let check = system.program();
    assert_eq!(check.state(&system.environment.load().unwrap()), BootState::AsNamed);
    system.updates(&check);
    system.is_read_only();
    assert!(!system.marks());
    system.put(BOOT_ID.trim_start_matches('/'), "second");
    assert!(system.marks());
}

#[test]
fn a_state_file_takes_the_place_of_run_and_may_be_damaged() {
    let mut system = System::new();
    system.is_read_only();
    let file = system.path("state");
    fs::write(&file, "attempts=kept\n").unwrap();
    let program = || system.program().state_file(&file);
    let pairs = system.environment.load().unwrap();
    assert_eq!(program().state(&pairs), BootState::AsNamed);
    assert!(fs::read_to_string(&file).unwrap().contains("attempts=kept"));
    let check = program();
    let none = system.program().state_file(system.path("missing/state"));
    system.other_program_updates();
    let pairs = system.environment.load().unwrap();
    assert_eq!(check.state(&pairs), due());
    assert!(matches!(none.state(&pairs), BootState::Unknown { .. }));
    fs::write(&file, b"\xff\xfe\x00").unwrap();
    let check = system.program().state_file(&file);
    assert!(matches!(check.state(&pairs), BootState::Unknown { .. }));
}

#[test]
fn the_boot_loader_s_word_on_the_command_line_wins() {
    let mut system = System::new();
    // Even where both slots hold the same firmware.
    system.environment.put("b.nerves_fw_uuid", "one").unwrap();
    system.environment.put("nerves_fw_active", "b").unwrap();
    system.environment.put("nerves_fw_validated", "0").unwrap();
    system.put("proc/cmdline", "root=/dev/x nerves_fw_slot=a\n");
    let BootState::OtherRuns { running, named, .. } = system.state() else { panic!() };
    assert_eq!((running.as_deref(), named.as_str()), (Some("a"), "b"));
    assert!(!system.marks());
    // It also proves what no note could.
    system.put("proc/cmdline", "nerves_fw_slot=b");
    system.is_read_only();
    system.has_run_for_long();
    fs::remove_file(system.path(BOOT_ID.trim_start_matches('/'))).unwrap();
    assert!(system.marks());
    // A slot that the environment does not know is another program's business.
    let mut system = System::new();
    system.put("proc/cmdline", "fw_slot=recovery");
    assert!(system.marks());
}

#[test]
fn the_partition_mounted_at_the_root_is_what_runs() {
    let mut system = System::new();
    system.other_program_updates();
    system.mounts(2, ROOT_A, "rootfs-a");
    let BootState::OtherRuns { running, .. } = system.state() else { panic!() };
    assert_eq!(running.as_deref(), Some("a"));
    assert!(!system.marks());
    // More than the command line, and where they contradict each other nothing is believed.
    system.put("proc/cmdline", "fw_slot=b");
    assert!(!system.marks());
    system.mounts(3, ROOT_B, "rootfs-b");
    assert!(system.marks());
}

#[test]
fn a_root_that_is_still_the_old_one_means_that_the_boot_loader_fell_back() {
    let mut system = System::new();
    system.mounts(2, ROOT_A, "");
    let check = system.program();
    system.updates(&check);
    system.boots("second");
    let BootState::OtherRuns { running, why, .. } = system.state() else { panic!() };
    assert_eq!(running.as_deref(), Some("a"), "{why}");
    assert!(!system.marks());
    system.boots("third");
    system.mounts(3, ROOT_B, "");
    assert!(system.marks());
}

#[test]
fn a_partition_table_that_was_changed_since_the_boot_shows_an_update_that_did_not_boot() {
    let table = |start: u64| {
        let mut sector = vec![0; 512];
        sector[446 + 16 + 4] = 0x83;
        sector[446 + 16 + 8..446 + 16 + 12].copy_from_slice(&u32::try_from(start).unwrap().to_le_bytes());
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    };
    let mut system = System::new();
    system.mounts(2, ROOT_A, "");
    system.put("disk", table(ROOT_B));
    system.other_program_updates();
    let state = system.state();
    assert!(
        matches!(&state, BootState::OtherRuns { why, .. } if why.contains("partition table")),
        "{state:?}"
    );
    assert!(!system.marks());
    system.mounts(2, ROOT_B, "");
    system.boots("second");
    assert!(system.marks());
    // A disk with blocks of 4 KiB counts in them.
    system.put("sys/block/disk/queue/logical_block_size", "4096");
    system.put("disk", table(ROOT_B / 8));
    assert_eq!(system.state(), BootState::AsNamed);
}

#[test]
fn without_proc_nothing_is_known() {
    let mut system = System::new();
    system.other_program_updates();
    fs::remove_dir_all(system.path("proc")).unwrap();
    let BootState::Unknown { why } = system.state() else { panic!() };
    assert!(why.contains("boot_id"), "{why}");
    assert!(!system.marks());
}

#[test]
fn two_slots_and_no_word_on_the_active_one_are_no_evidence() {
    let mut system = System::new();
    system.other_program_updates();
    system.environment.update(&[("nerves_fw_active", None)]).unwrap();
    assert!(!system.marks());
    let mut single = System::new();
    single.environment.update(&[("nerves_fw_active", None), ("nerves_fw_validated", Some("0"))]).unwrap();
    assert!(single.marks());
}

#[test]
fn other_firmware_in_the_same_slot_does_not_run_yet_either() {
    let mut system = System::new();
    assert_eq!(system.state(), BootState::AsNamed);
    system.environment.put("a.nerves_fw_uuid", "two").unwrap();
    assert!(matches!(system.state(), BootState::RestartDue { .. }));
}

#[test]
fn notes_that_other_users_could_have_written_do_not_count() {
    let mut system = System::new();
    assert_eq!(system.state(), BootState::AsNamed);
    let folder = system.path("run/nerves-hub-link-boot");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    system.other_program_updates();
    assert!(matches!(system.state(), BootState::Unknown { .. }));
    assert!(!system.marks());
}

#[test]
fn another_disk_at_the_same_place_has_no_note_yet() {
    let mut system = System::new();
    assert_eq!(system.state(), BootState::AsNamed);
    fs::rename(system.path("disk"), system.path("old")).unwrap();
    system.put("disk", "");
    system.other_program_updates();
    assert_eq!(system.state(), BootState::AsNamed);
}

#[test]
fn an_environment_that_another_program_changes_in_between_is_noticed() {
    let mut system = System::new();
    system.environment.put("nerves_fw_validated", "0").unwrap();
    let check = system.program();
    assert_eq!(check.state(&system.environment.load().unwrap()), BootState::AsNamed);
    system.other_program_updates();
    let before = system.environment.load().unwrap();
    let marked = mark_validated(&mut system.environment, &check).unwrap();
    assert_eq!(marked, Marked::NotThisBoot(due()));
    assert_eq!(system.environment.load().unwrap(), before);
}

/// Counts what is begun.
struct Counting(std::sync::Arc<std::sync::atomic::AtomicU32>);

impl Installer for Counting {
    fn begin(&mut self, _: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Err(InstallError::NoKeys)
    }
}

#[test]
fn no_update_is_written_over_the_slot_that_runs() {
    let mut system = System::new();
    let begun = std::sync::Arc::default();
    let check = system.program();
    check.state(&system.environment.load().unwrap());
    let begin = |environment: &MemoryStore| {
        let mut guarded = check.guard(Counting(std::sync::Arc::clone(&begun)), environment.clone());
        assert_eq!(
            guarded.check().is_ok(),
            environment.get("nerves_fw_active").unwrap().as_deref() == Some("a")
        );
        guarded.begin(InstallRequest::new(vec![], |_| ())).map(drop).unwrap_err()
    };
    assert!(matches!(begin(&system.environment), InstallError::NoKeys));
    system.other_program_updates();
    assert!(matches!(begin(&system.environment), InstallError::WouldOverwrite { .. }));
    assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 1);
    // The boot loader fell back without a word in the environment.
    system.boots("second");
    system.put("proc/cmdline", "nerves_fw_slot=a");
    let guarded = system.program().guard(Counting(begun), system.environment.clone());
    assert!(matches!(guarded.check(), Err(InstallError::WouldOverwrite { .. })));
}

/// A U-Boot environment in a file that begins as the system's own, filled up to `free` bytes.
fn block(system: &System, size: usize, free: usize) -> UbootStore {
    let path = system.path("env");
    fs::write(&path, vec![0; size]).unwrap();
    let place = Location { path, offset: 0, size };
    let mut store = UbootStore::new(FwEnvConfig::new(place, None).unwrap());
    let mut pairs = system.environment.load().unwrap();
    pairs.insert("fill".to_owned(), String::new());
    let fill = size - free - needed(&pairs);
    pairs.insert("fill".to_owned(), "x".repeat(fill));
    store.format(&pairs).unwrap();
    store
}

fn needed(pairs: &Pairs) -> usize {
    let mut environment = Environment::default();
    let changes: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))).collect();
    environment.apply(&changes).unwrap();
    environment.needed(Layout::Plain)
}

/// Bytes that the note takes in an environment.
fn note_size(system: &System) -> usize {
    let mut store = block(system, 16 * 1024, 8 * 1024);
    let before = needed(&store.load().unwrap());
    system.program().note_install(&mut store).unwrap();
    needed(&store.load().unwrap()) - before
}

#[test]
fn a_note_leaves_the_update_room_for_its_own_variables() {
    let system = System::new();
    let size = note_size(&system);
    for (free, noted) in [(0, false), (NOTE_RESERVE + size - 1, false), (NOTE_RESERVE + size, true)] {
        let mut store = block(&system, 16 * 1024, free);
        let before = fs::read(system.path("env")).unwrap();
        let done = system.program().note_install(&mut store);
        assert_eq!(done.is_ok(), noted, "{free}: {done:?}");
        assert_eq!(store.get(MARK).unwrap().is_some(), noted, "{free}");
        assert_eq!(fs::read(system.path("env")).unwrap() == before, !noted, "{free}");
        // The update begins in any case, and its variables fit as before.
        let (said, begun) =
            (std::sync::Arc::<std::sync::Mutex<Vec<InstallEvent>>>::default(), std::sync::Arc::default());
        let told = std::sync::Arc::clone(&said);
        let request = InstallRequest::new(vec![], move |event| told.lock().unwrap().push(event));
        let mut guarded = system.program().guard(Counting(std::sync::Arc::clone(&begun)), store.clone());
        assert!(matches!(guarded.begin(request).map(drop), Err(InstallError::NoKeys)));
        assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 1);
        let warned = said
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event, InstallEvent::Warning(text) if text.contains("goes on")));
        assert_eq!(warned, !noted);
        let room = if noted { NOTE_RESERVE } else { free };
        if room > 0 {
            store.put("b", &"x".repeat(room - 3)).unwrap();
        }
    }
    // A note that is there already is replaced: it takes no more room than before.
    let mut store = block(&system, 16 * 1024, NOTE_RESERVE + size);
    system.program().note_install(&mut store).unwrap();
    let old = store.get(MARK).unwrap();
    store.put("user", "takes some of the reserve").unwrap();
    system.boots("second");
    system.program().note_install(&mut store).unwrap();
    assert!(store.get(MARK).unwrap().is_some_and(|new| Some(new) != old));
}

#[test]
fn a_full_environment_keeps_the_flag_and_drops_the_note() {
    let mut system = System::new();
    system.environment.put("nerves_fw_validated", "0").unwrap();
    let mut store = block(&system, 4096, 0);
    let marked = mark_validated(&mut store, &system.program()).unwrap();
    assert_eq!(marked, Marked::Good);
    assert_eq!(store.get(MARK).unwrap(), None);
    let mut store = block(&system, 4096, 2048);
    mark_validated(&mut store, &system.program()).unwrap();
    assert!(store.get(MARK).unwrap().is_some());
}

/// An environment that can be read and not written.
struct ReadOnly(MemoryStore);

impl KeyValueStore for ReadOnly {
    fn load(&self) -> Result<Pairs, KvError> {
        self.0.load()
    }

    fn update(&mut self, _: &[nerves_hub_link_platform::kv::Change<'_>]) -> Result<(), KvError> {
        Err(KvError::NotKept { path: "disk".into(), offset: 0 })
    }
}

#[test]
fn a_note_that_cannot_be_written_stops_no_update() {
    let system = System::new();
    let begun = std::sync::Arc::default();
    let mut guarded =
        system.program().guard(Counting(std::sync::Arc::clone(&begun)), ReadOnly(system.environment.clone()));
    assert!(matches!(
        guarded.begin(InstallRequest::new(vec![], |_| ())).map(drop),
        Err(InstallError::NoKeys)
    ));
    assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn the_environment_is_not_written_for_a_note_that_shows_nothing_new() {
    let noted = |system: &System, check: &BootCheck| {
        let mut environment = system.environment.clone();
        check.note_install(&mut environment).unwrap();
        environment.get(MARK).unwrap().is_some()
    };
    // Only a folder in memory, which a container loses when it is started again.
    let system = System::new();
    assert!(noted(&system, &system.program()));
    // The state file stays.
    let system = System::new();
    let state = system.path("state");
    assert!(!noted(&system, &system.program().state_file(&state)));
    assert!(noted(&system, &system.program().state_file(system.path("missing/state"))));
    // The mounted root is recognized in the next boot, with the mark alone.
    system.mounts(2, ROOT_A, "");
    assert!(noted(&system, &system.program().state_file(&state)));
    // The boot loader or the partition says at each boot which slot runs.
    system.mounts(2, ROOT_A, "rootfs-a");
    assert!(!noted(&system, &system.program()));
    system.is_read_only();
    assert!(noted(&system, &system.program()));
    let system = System::new();
    system.put("proc/cmdline", "nerves_fw_slot=a");
    assert!(!noted(&system, &system.program()));
    // A program that was started late may be so again.
    let system = System::new();
    system.has_run_for_long();
    assert!(noted(&system, &system.program().state_file(&state)));
}

#[test]
fn a_disk_image_is_booted_whenever_the_program_starts() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.img");
    fs::write(&disk, "").unwrap();
    let mut environment = System::new().environment;
    let check = BootCheck::for_disk(&disk);
    assert_eq!(check.state(&environment.load().unwrap()), BootState::AsNamed);
    environment.put("nerves_fw_active", "b").unwrap();
    assert_eq!(check.state(&environment.load().unwrap()), due());
    check.note_install(&mut environment).unwrap();
    assert_eq!(environment.get(MARK).unwrap(), None);
    assert_eq!(BootCheck::for_disk(&disk).state(&environment.load().unwrap()), BootState::AsNamed);
}

#[test]
fn an_image_whose_boots_are_told_apart_by_a_file() {
    let mut system = System::new();
    let id = system.path("id");
    fs::write(&id, "first").unwrap();
    system.has_run_for_long();
    let program = |system: &System| {
        let check = BootCheck::of_image(system.path("disk"), &id).root(system.folder.path());
        check.state(&system.environment.load().unwrap())
    };
    assert_eq!(program(&system), BootState::AsNamed);
    system.other_program_updates();
    assert_eq!(program(&system), due());
    fs::write(&id, "second").unwrap();
    assert_eq!(program(&system), BootState::AsNamed);
}

#[test]
fn notes_in_an_unknown_form_say_nothing() {
    for text in
        ["", "1", "2 install x 1 a b c", "1 other x 1 a b c", "1 install x 1 a b c d", "=", "\u{fffd}"]
    {
        let mut system = System::new();
        system.environment.put(MARK, text).unwrap();
        system.environment.put("nerves_fw_validated", "0").unwrap();
        assert!(system.marks(), "{text}");
    }
}

#[test]
fn the_kernel_s_text_is_read_and_nothing_else_is_taken_for_one() {
    let here = read_boot_id(BOOT_ID.as_ref()).unwrap();
    assert_eq!(here.len(), 36, "{here}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("id");
    let most = usize::try_from(BOOT_ID_MAX).unwrap();
    for (text, good) in [
        ("a".repeat(most), true),
        ("a".repeat(most + 1), false),
        (String::new(), false),
        ("\n".to_owned(), false),
        ("two\nlines".to_owned(), false),
        ("a=b".to_owned(), false),
    ] {
        fs::write(&file, &text).unwrap();
        assert_eq!(read_boot_id(&file).is_ok(), good, "{text:?}");
    }
    assert!(read_boot_id(Path::new("missing")).is_err());
}
