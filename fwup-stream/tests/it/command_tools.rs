//! What the command writes, looked at by the tools of other people. A tool that is not installed is told.

use std::fs;
use std::path::Path;

use crate::apply_support::{archive, data, resource};
use crate::tool_support::{fwup_stream, run, tool};
use serde_json::Value;

/// Applies a manifest's task "t" to a new image of so many blocks.
fn image(folder: &Path, blocks: u64, manifest: &str, resources: &[(&str, &[u8])]) {
    let sections: String = resources.iter().map(|(name, data)| resource(name, data)).collect();
    fs::write(folder.join("a.fw"), archive(&(sections + manifest), resources)).unwrap();
    let blocks = blocks.to_string();
    let arguments = ["-a", "-q", "-d", "image", "-i", "a.fw", "-t", "t", "--max-size", &blocks];
    let (good, text) = run(&fwup_stream(), folder, &arguments);
    assert!(good, "{text}");
    // The rest of the medium, as a disk would have it.
    fs::File::options()
        .write(true)
        .open(folder.join("image"))
        .and_then(|file| file.set_len(blocks.parse::<u64>().unwrap() * 512))
        .unwrap();
}

/// The partitions that sfdisk sees: first block, blocks, type, whether it is marked.
fn partitions(folder: &Path, sfdisk: &Path) -> Vec<(u64, u64, String, bool)> {
    let (good, text) = run(sfdisk, folder, &["-J", "image"]);
    assert!(good, "{text}");
    let table: Value = serde_json::from_str(&text).unwrap();
    let partition = |partition: &Value| {
        let number = |key: &str| partition[key].as_u64().unwrap();
        let marked = partition["bootable"] == true || partition["attrs"] == "LegacyBIOSBootable";
        (number("start"), number("size"), partition["type"].as_str().unwrap().to_owned(), marked)
    };
    table["partitiontable"]["partitions"].as_array().unwrap().iter().map(partition).collect()
}

const MBR: &str = "mbr \"m\" {\nsignature=\"0x01020304\"\n\
    partition \"0\" {\nblock-offset=2048\nblock-count=4096\ntype=12\nboot=true\n}\n\
    partition \"1\" {\nblock-offset=6144\nblock-count=1000\ntype=131\n}\n\
    partition \"3\" {\nblock-offset=8192\ntype=15\n}\n\
    partition \"4\" {\nblock-offset=10240\nblock-count=2048\ntype=131\n}\n\
    partition \"5\" {\nblock-offset=12288\nblock-count=2048\ntype=131\nexpand=true\n}\n}\n\
    task \"t\" {\non-init {\nfunlist={2,mbr_write,m}\n}\n}\n";

#[test]
fn sfdisk_reads_a_table_with_logical_partitions() {
    let Some(sfdisk) = tool("sfdisk") else { return };
    let folder = tempfile::tempdir().unwrap();
    image(folder.path(), 20_480, MBR, &[]);
    let (good, text) = run(&sfdisk, folder.path(), &["-V", "image"]);
    assert!(good, "{text}");
    let want = [
        (2048, 4096, "c", true),
        (6144, 1000, "83", false),
        (8192, 12_288, "f", false),
        (10_240, 2048, "83", false),
        (12_288, 8192, "83", false),
    ];
    let want = want.map(|(start, size, kind, boot)| (start, size, kind.to_owned(), boot));
    assert_eq!(partitions(folder.path(), &sfdisk), want);
}

const GUID: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

fn gpt() -> String {
    format!(
        "gpt \"g\" {{\nguid=\"b443fbeb-2c93-481b-88b3-0ecb0aeba911\"\n\
         partition \"0\" {{\nblock-offset=2048\nblock-count=4096\ntype=\"{GUID}\"\n\
         guid=\"5278721d-0089-4768-85df-b8f1b97e6684\"\nname=boot\nflags=\"0x4\"\n}}\n\
         partition \"1\" {{\nblock-offset=6144\nblock-count=1024\ntype=\"{GUID}\"\n\
         guid=\"fcc205c8-2f1c-4dcd-bef4-7b209aa15cca\"\nname=root\nexpand=true\n}}\n}}\n\
         task \"t\" {{\non-init {{\nfunlist={{2,gpt_write,g}}\n}}\n}}\n"
    )
}

#[test]
fn sfdisk_reads_a_guid_table() {
    let Some(sfdisk) = tool("sfdisk") else { return };
    let folder = tempfile::tempdir().unwrap();
    image(folder.path(), 20_480, &gpt(), &[]);
    let (good, text) = run(&sfdisk, folder.path(), &["-V", "image"]);
    assert!(good, "{text}");
    let kind = GUID.to_uppercase();
    // One block less than would fit, as fwup does.
    let want = [(2048, 4096, kind.clone(), true), (6144, 20_480 - 34 - 6144, kind, false)];
    assert_eq!(partitions(folder.path(), &sfdisk), want);
}

#[test]
fn sgdisk_finds_no_problem_in_a_guid_table() {
    let Some(sgdisk) = tool("sgdisk") else { return };
    let folder = tempfile::tempdir().unwrap();
    image(folder.path(), 20_480, &gpt(), &[]);
    let (good, text) = run(&sgdisk, folder.path(), &["-v", "image"]);
    assert!(good && text.contains("No problems found"), "{text}");
}

/// A file system at block 2048 with files, a folder and a label, cut out of its image.
fn file_system(folder: &Path, blocks: u64) -> Vec<u8> {
    let content = data(3, 70_000);
    let list = [
        "\"3\",fat_mkdir,2048,boot",
        "\"4\",fat_cp,2048,kernel.img,\"boot/Long Name of a File.img\"",
        "\"4\",fat_mv,2048,second.txt,\"boot/moved.txt\"",
        "\"3\",fat_touch,2048,empty",
        "\"4\",fat_attrib,2048,empty,RH",
        "\"3\",fat_rm,2048,gone",
    ]
    .join(",");
    let manifest = format!(
        "task \"t\" {{\non-init {{\nfunlist={{3,fat_mkfs,2048,{blocks},3,fat_touch,2048,gone}}\n}}\n\
         on-resource \"k\" {{\nfunlist={{3,fat_write,2048,kernel.img}}\n}}\n\
         on-resource \"s\" {{\nfunlist={{3,fat_write,2048,second.txt}}\n}}\n\
         on-finish {{\nfunlist={{{list}}}\n}}\n}}\n"
    );
    image(folder, 2048 + blocks, &manifest, &[("k", &content), ("s", b"second\n")]);
    let image = fs::read(folder.join("image")).unwrap();
    fs::write(folder.join("fat"), &image[2048 * 512..]).unwrap();
    content
}

/// Sizes of the three kinds.
const FAT_BLOCKS: [u64; 3] = [2880, 40_000, 80_000];

#[test]
fn fsck_finds_nothing_wrong_with_file_systems() {
    let Some(fsck) = tool("fsck.fat") else { return };
    for blocks in FAT_BLOCKS {
        let folder = tempfile::tempdir().unwrap();
        file_system(folder.path(), blocks);
        let (good, text) = run(&fsck, folder.path(), &["-n", "-v", "fat"]);
        assert!(good, "{blocks}: {text}");
    }
}

#[test]
fn mtools_read_what_was_written() {
    let (Some(mdir), Some(mtype)) = (tool("mdir"), tool("mtype")) else { return };
    for blocks in FAT_BLOCKS {
        let folder = tempfile::tempdir().unwrap();
        let content = file_system(folder.path(), blocks);
        let (good, text) = run(&mdir, folder.path(), &["-b", "-/", "-a", "-i", "fat", "::"]);
        assert!(good, "{text}");
        let mut names: Vec<_> = text.lines().collect();
        names.sort_unstable();
        let want =
            ["::/boot/", "::/boot/Long Name of a File.img", "::/boot/moved.txt", "::/empty", "::/kernel.img"];
        assert_eq!(names, want, "{blocks}");
        let read = |name: &str| {
            let output =
                crate::tool_support::command(&mtype, folder.path(), &["-i", "fat", name]).output().unwrap();
            assert!(output.status.success(), "{name}");
            output.stdout
        };
        assert!(read("::/boot/Long Name of a File.img") == content, "{blocks}");
        assert!(read("::/kernel.img") == content, "{blocks}");
        assert_eq!(read("::/boot/moved.txt"), b"second\n");
    }
}

fn environment(second: &str) -> String {
    format!(
        "uboot-environment \"e\" {{\nblock-offset=16\nblock-count=32\n{second}}}\n\
         task \"t\" {{\non-init {{\nfunlist={{2,uboot_clearenv,e,4,uboot_setenv,e,active,b,4,uboot_setenv,e,\
         bootcmd,\"run boot; reset\",4,uboot_setenv,e,gone,x,3,uboot_unsetenv,e,gone}}\n}}\n}}\n\
         task \"changed\" {{\nreqlist={{4,\"require-uboot-variable\",e,active,c}}\non-init {{\nfunlist={{2,info,yes}}\n}}\n}}\n"
    )
}

#[test]
fn fw_printenv_reads_environments_and_we_read_what_fw_setenv_wrote() {
    let (Some(print), Some(set)) = (tool("fw_printenv"), tool("fw_setenv")) else { return };
    for (second, places) in [("", vec![16]), ("block-offset-redund=48\n", vec![16, 48])] {
        let folder = tempfile::tempdir().unwrap();
        image(folder.path(), 256, &environment(second), &[]);
        let image = folder.path().join("image");
        let lines: Vec<String> =
            places.iter().map(|block| format!("{} {} 0x4000\n", image.display(), block * 512)).collect();
        fs::write(folder.path().join("fw_env.config"), lines.concat()).unwrap();
        let (good, text) = run(&print, folder.path(), &["-c", "fw_env.config"]);
        assert!(good, "{text}");
        assert_eq!(text, "active=b\nbootcmd=run boot; reset\n");
        let (good, text) = run(&set, folder.path(), &["-c", "fw_env.config", "active", "c"]);
        assert!(good, "{text}");
        let arguments = ["-a", "-q", "-d", "image", "-i", "a.fw", "-t", "changed"];
        assert_eq!(run(&fwup_stream(), folder.path(), &arguments), (true, "fwup: yes\n".to_owned()));
    }
}
