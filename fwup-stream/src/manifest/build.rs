//! From parsed sections to the model. An option that is not given has a default, which stands here.

use super::model::{
    CallList, FileResource, Gpt, GptPartition, Manifest, Mbr, MbrPartition, OnResource, Osip, OsipImage,
    Task, UbootEnvironment,
};
use super::number;
use super::section::Section;

/// `block-count` where none is given.
const DEFAULT_COUNT: i64 = 2_147_483_647;

/// Builds the model of a whole text.
pub(super) fn manifest(top: &Section) -> Manifest {
    Manifest {
        strings: top.texts().map(|(name, text)| (name.to_owned(), text.to_owned())).collect(),
        block_cache_size_mb: top
            .integer("block-cache-size-mb")
            .map_or(8, |megabytes| u64::try_from(megabytes).unwrap_or(0)),
        resources: top.all("file-resource").map(resource).collect(),
        mbrs: top.all("mbr").map(mbr).collect(),
        gpts: top.all("gpt").map(gpt).collect(),
        environments: top.all("uboot-environment").map(environment).collect(),
        tasks: top.all("task").map(task).collect(),
    }
}

fn resource(section: &Section) -> FileResource {
    FileResource {
        name: section.title.clone(),
        length: section.lengths("length"),
        blake2b_256: section.text("blake2b-256"),
    }
}

pub(super) fn mbr(section: &Section) -> Mbr {
    Mbr {
        name: section.title.clone(),
        bootstrap_code: section.text("bootstrap-code"),
        signature: section.text("signature"),
        osip: section.boolean("include-osip").then(|| Osip {
            major: section.integer("osip-major").unwrap_or(1),
            minor: section.integer("osip-minor").unwrap_or(0),
            num_pointers: section.integer("osip-num-pointers").unwrap_or(1),
            images: section.all("osii").map(osip_image).collect(),
        }),
        partitions: section.all("partition").map(mbr_partition).collect(),
    }
}

fn osip_image(section: &Section) -> OsipImage {
    let integer = |name| section.integer(name).unwrap_or(0);
    OsipImage {
        number: title_number(section),
        os_major: integer("os-major"),
        os_minor: integer("os-minor"),
        start_block_offset: integer("start-block-offset"),
        ddr_load_address: integer("ddr-load-address"),
        entry_point: integer("entry-point"),
        image_size_blocks: integer("image-size-blocks"),
        attribute: section.integer("attribute").unwrap_or(15),
    }
}

fn mbr_partition(section: &Section) -> MbrPartition {
    MbrPartition {
        number: title_number(section),
        block_offset: section.text("block-offset").unwrap_or_default(),
        block_count: section.integer("block-count").unwrap_or(DEFAULT_COUNT),
        kind: section.integer("type").unwrap_or(-1),
        boot: section.boolean("boot"),
        expand: section.boolean("expand"),
    }
}

pub(super) fn gpt(section: &Section) -> Gpt {
    Gpt {
        name: section.title.clone(),
        guid: section.text("guid"),
        partitions: section.all("partition").map(gpt_partition).collect(),
    }
}

fn gpt_partition(section: &Section) -> GptPartition {
    let text = |name| section.text(name).unwrap_or_default();
    GptPartition {
        number: title_number(section),
        block_offset: text("block-offset"),
        block_count: section.integer("block-count").unwrap_or(DEFAULT_COUNT),
        kind: text("type"),
        guid: text("guid"),
        name: text("name"),
        flags: section.text("flags").unwrap_or_else(|| "0".to_owned()),
        expand: section.boolean("expand"),
        boot: section.boolean("boot"),
    }
}

fn environment(section: &Section) -> UbootEnvironment {
    UbootEnvironment {
        name: section.title.clone(),
        block_offset: section.text("block-offset").unwrap_or_default(),
        block_count: section.integer("block-count").unwrap_or(DEFAULT_COUNT),
        block_offset_redund: section.text("block-offset-redund"),
    }
}

fn task(section: &Section) -> Task {
    let calls = |event| CallList(section.all(event).flat_map(|event| event.list("funlist")).collect());
    Task {
        name: section.title.clone(),
        requirements: CallList(section.list("reqlist")),
        require_partition1_offset: section.integer("require-partition1-offset").unwrap_or(-1),
        on_init: calls("on-init"),
        on_resource: section.all("on-resource").map(on_resource).collect(),
        on_finish: calls("on-finish"),
        on_error: calls("on-error"),
    }
}

fn on_resource(section: &Section) -> OnResource {
    OnResource {
        resource: section.title.clone(),
        calls: CallList(section.list("funlist")),
        delta_source_raw_offset: section.text("delta-source-raw-offset"),
        delta_source_raw_count: section.integer("delta-source-raw-count"),
        delta_source_raw_options: section.text("delta-source-raw-options"),
        delta_source_fat_offset: section.text("delta-source-fat-offset"),
        delta_source_fat_path: section.text("delta-source-fat-path"),
    }
}

/// Reads the number that a partition has as its title. What is none becomes a number no partition has.
fn title_number(section: &Section) -> u32 {
    number::unsigned(&section.title).and_then(|number| u32::try_from(number).ok()).unwrap_or(u32::MAX)
}
