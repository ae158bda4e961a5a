//! The tasks of an A/B device with a U-Boot environment, after the official Nerves systems
//! (device-identity §2).

use super::meta_conf::{Call, Printer, Task, call};
use crate::disk::{DiskLayout, Slot};
use crate::meta::FirmwareMeta;

/// The name of the resource that goes into a slot.
pub(super) const ROOTFS: &str = "rootfs.img";

const ENVIRONMENT: &str = "uboot-env";

/// Prints the boot record section.
pub(super) fn print_mbr(out: &mut Printer, layout: &DiskLayout) {
    out.open("mbr", "mbr");
    let partitions = [
        (layout.slot_a, layout.slot_blocks),
        (layout.slot_b, layout.slot_blocks),
        (layout.application, layout.application_blocks),
    ];
    for (number, (offset, count)) in partitions.into_iter().enumerate() {
        out.open("partition", &number.to_string());
        out.plain("block-offset", offset);
        out.plain("block-count", count);
        out.plain("type", 131);
        out.close();
    }
    out.close();
}

/// Prints the environment section.
pub(super) fn print_environment(out: &mut Printer, layout: &DiskLayout) {
    out.open("uboot-environment", ENVIRONMENT);
    out.plain("block-offset", layout.environment);
    out.plain("block-count", layout.environment_blocks);
    if let Some(block) = layout.environment_redundant {
        out.plain("block-offset-redund", block);
    }
    out.close();
}

/// The tasks `complete`, `upgrade.a`, `upgrade.b` and those that say why there is no upgrade. With `deltas` the upgrades
/// take deltas from the running slot.
pub(super) fn tasks(layout: &DiskLayout, meta: &FirmwareMeta, deltas: bool) -> Vec<Task> {
    let mut unvalidated = Task::new("upgrade.unvalidated");
    unvalidated.requirements = vec![require("nerves_fw_validated", "0")];
    unvalidated.on_init =
        vec![call(&["error", "The running firmware is not validated. Validate it before upgrading again."])];
    let mut unexpected = Task::new("upgrade.unexpected");
    unexpected.on_init = vec![call(&[
        "error",
        &format!(
            "No slot to upgrade: this firmware is for platform={} and architecture={}, and nerves_fw_active \
             must be a or b.",
            meta.platform, meta.architecture
        ),
    ])];
    vec![
        complete(layout, meta),
        upgrade(layout, meta, Slot::A, deltas),
        upgrade(layout, meta, Slot::B, deltas),
        unvalidated,
        unexpected,
    ]
}

fn complete(layout: &DiskLayout, meta: &FirmwareMeta) -> Task {
    let mut task = Task::new("complete");
    task.on_init = vec![
        call(&["mbr_write", "mbr"]),
        call(&["uboot_clearenv", ENVIRONMENT]),
        set("nerves_fw_devpath", "/dev/rootdisk0"),
    ];
    task.on_resource = vec![write(layout, Slot::A)];
    // The other slot must not look like a firmware of an earlier life.
    task.on_finish = vec![call(&["raw_memset", &layout.slot_b.to_string(), "256", "0xff"])];
    task.on_finish.extend(describe(Slot::A, meta));
    task.on_finish.extend([
        set("nerves_fw_validated", "1"),
        set("nerves_fw_booted", "1"),
        set("nerves_fw_active", "a"),
    ]);
    task
}

fn upgrade(layout: &DiskLayout, meta: &FirmwareMeta, target: Slot, deltas: bool) -> Task {
    let running = target.other().letter();
    let letter = target.letter();
    let mut task = Task::new(&format!("upgrade.{letter}"));
    task.requirements = vec![
        require("nerves_fw_active", running),
        require("nerves_fw_validated", "1"),
        require(&format!("{running}.nerves_fw_platform"), &meta.platform),
        require(&format!("{running}.nerves_fw_architecture"), &meta.architecture),
    ];
    task.on_init = vec![call(&["info", &format!("Upgrading slot {letter}")])];
    // A half-written slot must not be taken for a good one.
    for name in ["version", "platform", "architecture", "uuid"] {
        task.on_init.push(call(&["uboot_unsetenv", ENVIRONMENT, &format!("{letter}.nerves_fw_{name}")]));
    }
    let (start, count) = (layout.slot(target).to_string(), layout.slot_blocks.to_string());
    task.on_init.push(call(&["trim", &start, &count]));
    task.on_resource = vec![write(layout, target)];
    task.delta_source = deltas.then(|| (layout.slot(target.other()), layout.slot_blocks));
    task.on_finish = describe(target, meta);
    // Each of these rewrites one copy of a redundant environment in turn. Should power go while the last
    // is written, the state before it counts: not validated but booted, which makes the boot loader
    // go back at once.
    task.on_finish.extend([
        set("nerves_fw_active", letter),
        set("nerves_fw_validated", "0"),
        set("nerves_fw_booted", "0"),
    ]);
    task
}

fn write(layout: &DiskLayout, slot: Slot) -> (String, Vec<Call>) {
    (ROOTFS.to_owned(), vec![call(&["raw_write", &layout.slot(slot).to_string()])])
}

fn describe(slot: Slot, meta: &FirmwareMeta) -> Vec<Call> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        ("product", meta.product.clone()),
        ("description", text(&meta.description)),
        ("version", meta.version.clone()),
        ("platform", meta.platform.clone()),
        ("architecture", meta.architecture.clone()),
        ("author", text(&meta.author)),
        ("vcs_identifier", text(&meta.vcs_identifier)),
        ("misc", text(&meta.misc)),
        // Known only when the archive is applied: it depends on this very text.
        ("uuid", "${FWUP_META_UUID}".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| set(&format!("{}.nerves_fw_{name}", slot.letter()), &value))
    .collect()
}

fn set(name: &str, value: &str) -> Call {
    call(&["uboot_setenv", ENVIRONMENT, name, value])
}

fn require(name: &str, value: &str) -> Call {
    call(&["require-uboot-variable", ENVIRONMENT, name, value])
}
