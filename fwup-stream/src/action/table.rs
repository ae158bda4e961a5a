//! The table of functions.

// All functions of the table have the same face.
#![allow(clippy::unnecessary_wraps)]

use super::context::Context;
use super::data::Sink;
use super::error::ActionError;
use super::{fat_calls, gpt, host, mbr, memset, message, raw, trim, ubi, uboot};
use crate::manifest::{Call, FileResource, Manifest};

/// A function of the format.
pub(crate) struct Action {
    /// Its name in a `funlist`.
    pub(crate) name: &'static str,
    /// Arguments it needs at least. fwup does not check this when applying and crashes.
    pub(crate) min_args: usize,
    /// Only allowed with `--unsafe`.
    pub(crate) needs_unsafe: bool,
    /// The work it is, for progress; also the place to refuse, before anything is written.
    pub(crate) units: fn(&PlanContext<'_>, &Call<'_>) -> Result<u64, ActionError>,
    /// How it runs.
    pub(crate) run: Run,
}

/// Begins to take the data of a resource.
type Begin = fn(&mut Context<'_>, &Call<'_>) -> Result<Box<dyn Sink>, ActionError>;

/// How a function runs.
pub(crate) enum Run {
    /// At once.
    Now(fn(&mut Context<'_>, &Call<'_>) -> Result<(), ActionError>),
    /// On the data of a resource as they stream by.
    Data(Begin),
}

/// What is known when the work is planned.
pub(crate) struct PlanContext<'a> {
    /// The function's name.
    pub(crate) function: &'static str,
    pub(crate) manifest: &'a Manifest,
    /// The resource whose data the function would get.
    pub(crate) resource: Option<&'a FileResource>,
}

impl PlanContext<'_> {
    /// Bytes of data of the resource, holes not counted.
    pub(crate) fn data_length(&self) -> u64 {
        self.resource.map_or(0, FileResource::data_length)
    }
}

/// The weight of a function that changes a few blocks.
const ONE_BLOCK: u64 = 512;

fn one_block(_: &PlanContext<'_>, _: &Call<'_>) -> Result<u64, ActionError> {
    Ok(ONE_BLOCK)
}

/// The whole resource, holes included.
fn full_length(plan: &PlanContext<'_>, _: &Call<'_>) -> Result<u64, ActionError> {
    Ok(plan.resource.map_or(0, FileResource::full_length))
}

/// The data of the resource, without holes.
fn data_length(plan: &PlanContext<'_>, _: &Call<'_>) -> Result<u64, ActionError> {
    Ok(plan.data_length())
}

fn nothing(_: &PlanContext<'_>, _: &Call<'_>) -> Result<u64, ActionError> {
    Ok(0)
}

const fn now(
    name: &'static str,
    min_args: usize,
    units: fn(&PlanContext<'_>, &Call<'_>) -> Result<u64, ActionError>,
    run: fn(&mut Context<'_>, &Call<'_>) -> Result<(), ActionError>,
) -> Action {
    Action { name, min_args, needs_unsafe: false, units, run: Run::Now(run) }
}

static ACTIONS: &[Action] = &[
    Action {
        name: "raw_write",
        min_args: 1,
        needs_unsafe: false,
        units: data_length,
        run: Run::Data(raw::begin),
    },
    now("raw_memset", 3, memset::units, memset::run),
    now("mbr_write", 1, mbr::units, mbr::run),
    now("trim", 2, trim::units, trim::run),
    now("uboot_clearenv", 1, uboot::units, uboot::clear),
    now("uboot_setenv", 3, uboot::units, uboot::set),
    now("uboot_unsetenv", 2, uboot::units, uboot::unset),
    now("uboot_recover", 1, uboot::units, uboot::recover),
    now("info", 1, nothing, message::info),
    now("error", 1, nothing, message::error),
    Action {
        name: "fat_write",
        min_args: 2,
        needs_unsafe: false,
        units: full_length,
        run: Run::Data(fat_calls::write),
    },
    now("fat_mkfs", 2, one_block, fat_calls::mkfs),
    now("fat_cp", 3, one_block, fat_calls::copy),
    now("fat_mv", 3, one_block, fat_calls::rename),
    now("fat_mv!", 3, one_block, fat_calls::rename_over),
    now("fat_rm", 2, one_block, fat_calls::remove),
    now("fat_rm!", 2, one_block, fat_calls::remove_existing),
    now("fat_mkdir", 2, one_block, fat_calls::mkdir),
    now("fat_touch", 2, one_block, fat_calls::touch),
    now("fat_setlabel", 2, one_block, fat_calls::set_label),
    now("fat_attrib", 3, one_block, fat_calls::set_attributes),
    now("gpt_write", 1, gpt::units, gpt::run),
    now("reboot_param", 1, one_block, host::reboot_param),
    Action {
        name: "path_write",
        min_args: 1,
        needs_unsafe: true,
        units: data_length,
        run: Run::Data(host::path),
    },
    Action {
        name: "pipe_write",
        min_args: 1,
        needs_unsafe: true,
        units: full_length,
        run: Run::Data(host::pipe),
    },
    Action {
        name: "execute",
        min_args: 1,
        needs_unsafe: true,
        units: one_block,
        run: Run::Now(host::execute),
    },
    Action {
        name: "ubi_volume_write",
        min_args: 1,
        needs_unsafe: true,
        units: full_length,
        run: Run::Data(ubi::begin),
    },
];

/// Finds a function by its name.
pub(crate) fn find(name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.name == name)
}
