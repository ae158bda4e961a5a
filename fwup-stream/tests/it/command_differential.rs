//! The command beside fwup itself: generated configurations, made into archives by each, applied by each.
//!
//! Needs `fwup` on the PATH, or its place in the variable `FWUP`. `DIFFERENTIAL_RUNS` says how many
//! configurations (30); `DIFFERENTIAL_SEED` where they begin (1).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tool_support::{command, fwup_stream, say, tool};

/// Numbers that look random and come again with the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// A configuration with its files.
struct Made {
    text: String,
    files: Vec<(String, Vec<u8>)>,
}

/// Where things are; far enough from each other that they never meet.
const ENVIRONMENT: u64 = 64;
const RAW: u64 = 2048;
const FAT: u64 = 20_000;

fn configuration(random: &mut Random) -> Made {
    let mut text = String::from("meta-product = \"Differential\"\nmeta-version = \"1.2.3\"\n");
    let mut files = Vec::new();
    for number in 0..=random.below(4) {
        // Whole blocks: what follows a file in its last block on FAT is fwup's secret.
        let length = usize::try_from(random.below(300) * 512).unwrap();
        let bytes: Vec<u8> =
            (0..length).map(|_| u8::try_from(random.below(7) * random.below(37)).unwrap()).collect();
        writeln!(text, "file-resource r{number} {{ host-path = \"r{number}.bin\" }}").unwrap();
        files.push((format!("r{number}.bin"), bytes));
    }
    write!(
        text,
        "mbr m {{\n partition 0 {{ block-offset = {RAW}\n block-count = {}\n type = 0x83\n boot = true }}\n \
         partition 1 {{ block-offset = {FAT}\n block-count = 9000\n type = 0xc\n expand = {} }}\n}}\n\
         uboot-environment env {{ block-offset = {ENVIRONMENT}\n block-count = {}\n {} }}\n",
        1 + random.below(16_000),
        random.pick(&["true", "false"]),
        1 + random.below(64),
        if random.below(2) == 0 { "" } else { "block-offset-redund = 256" },
    )
    .unwrap();
    let fat_blocks = [200, 4000, 5000, 9000][usize::try_from(random.below(4)).unwrap()];
    task(
        random,
        &mut text,
        "complete",
        &format!("fat_mkfs({FAT}, {fat_blocks})\n uboot_clearenv(env)"),
        files.len(),
    );
    let requirement = match random.below(4) {
        0 => "require-uboot-variable(env, a, x)".to_owned(),
        1 => format!("require-partition-offset(0, {RAW})"),
        2 => format!("require-fat-file-exists({FAT}, f0)"),
        _ => String::new(),
    };
    task(random, &mut text, "upgrade", &requirement, files.len());
    Made { text, files }
}

fn task(random: &mut Random, text: &mut String, name: &str, first: &str, resources: usize) {
    let (requirement, init) = if name == "complete" { ("", first) } else { (first, "") };
    writeln!(text, "task {name} {{\n {requirement}\n on-init {{ {init}").unwrap();
    steps(random, text);
    writeln!(text, " }}").unwrap();
    for number in 0..resources {
        let place = match random.below(3) {
            0 => format!("fat_write({FAT}, \"f{number}\")"),
            _ => format!("raw_write({})", RAW + 400 * number as u64 + random.below(50)),
        };
        writeln!(text, " on-resource r{number} {{ {place} }}").unwrap();
    }
    writeln!(text, " on-finish {{").unwrap();
    steps(random, text);
    writeln!(text, " }}\n on-error {{ info(\"cleaning up\") }}\n}}").unwrap();
}

fn steps(random: &mut Random, text: &mut String) {
    for _ in 0..random.below(6) {
        let name = random.pick(&["a", "b", "Long Name.text", "f0", "f1"]);
        let other = random.pick(&["c", "d.txt", "Other Long Name", "f2"]);
        let step = match random.below(14) {
            0 => "mbr_write(m)".to_owned(),
            1 => format!(
                "raw_memset({}, {}, {})",
                RAW + random.below(3000),
                1 + random.below(300),
                random.below(256)
            ),
            2 => format!("trim({}, {})", RAW + random.below(1000), 1 + random.below(1000)),
            3 => format!(
                "uboot_setenv(env, {}, \"{}\")",
                random.pick(&["a", "b", "c"]),
                random.pick(&["x", "", "long value"])
            ),
            4 => format!("uboot_unsetenv(env, {})", random.pick(&["a", "b"])),
            5 => "uboot_recover(env)".to_owned(),
            6 => format!("fat_touch({FAT}, \"{name}\")"),
            7 => format!("fat_mkdir({FAT}, \"dir{}\")", random.below(3)),
            8 => format!("fat_cp({FAT}, \"{name}\", \"{other}\")"),
            9 => format!("fat_mv({FAT}, \"{name}\", \"{other}\")"),
            10 => format!("fat_mv!({FAT}, \"{name}\", \"{other}\")"),
            11 => format!("fat_rm({FAT}, \"{name}\")"),
            12 => format!("fat_attrib({FAT}, \"{name}\", \"{}\")", random.pick(&["R", "HS", ""])),
            _ => format!("info(\"step {}\")", random.below(100)),
        };
        writeln!(text, "  {step}").unwrap();
    }
}

/// What a run of a command came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(program: &Path, folder: &Path, arguments: &[&str]) -> Outcome {
    let mut command = command(program, folder, arguments);
    // The name in the messages of the option parser.
    std::os::unix::process::CommandExt::arg0(&mut command, "fwup");
    let output = command.env("SOURCE_DATE_EPOCH", "1700000000").env("TZ", "UTC").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { exit: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// The place of the real fwup.
fn fwup() -> Option<PathBuf> {
    std::env::var_os("FWUP").map(PathBuf::from).or_else(|| tool("fwup"))
}

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Applies every archive with both, first to nothing, then to what came out; compares all there is.
fn compare_runs(folder: &Path, fwup: &Path, archive: &str) {
    let programs = [("theirs", fwup.to_owned()), ("ours", fwup_stream())];
    for image in ["theirs", "ours"] {
        let _ = fs::remove_file(folder.join(image));
    }
    for task in ["complete", "upgrade", "upgrade", "nosuch"] {
        let apply = |(image, program): &(&str, PathBuf)| {
            let outcome = run(program, folder, &["-a", "-q", "-d", image, "-i", archive, "-t", task]);
            (outcome, fs::read(folder.join(image)).unwrap_or_default())
        };
        let (theirs, ours) = (apply(&programs[0]), apply(&programs[1]));
        assert_eq!(ours.0, theirs.0, "{archive} {task} in {}", folder.display());
        if let Some(at) = ours.1.iter().zip(&theirs.1).position(|(one, other)| one != other) {
            panic!("{archive} {task}: byte {at} (block {}) differs in {}", at / 512, folder.display());
        }
        assert_eq!(ours.1.len(), theirs.1.len(), "{archive} {task} in {}", folder.display());
    }
    for arguments in [["-m", "-i"], ["-l", "-i"], ["-V", "-i"]] {
        let arguments = [&arguments[..], &[archive]].concat();
        assert_eq!(run(&fwup_stream(), folder, &arguments), run(fwup, folder, &arguments), "{arguments:?}");
    }
}

#[test]
fn generated_configurations_come_out_as_with_fwup() {
    let Some(fwup) = fwup() else { return };
    let (runs, seed) = (setting("DIFFERENTIAL_RUNS", 30), setting("DIFFERENTIAL_SEED", 1));
    say(&format!("comparing {runs} configurations from seed {seed} with {}", fwup.display()));
    for number in seed..seed + runs {
        let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let made = configuration(&mut random);
        let folder = tempfile::Builder::new().prefix("differential").tempdir().unwrap().keep();
        fs::write(folder.join("fwup.conf"), &made.text).unwrap();
        for (name, bytes) in &made.files {
            fs::write(folder.join(name), bytes).unwrap();
        }
        for (program, archive) in [(fwup.clone(), "theirs.fw"), (fwup_stream(), "ours.fw")] {
            let outcome = run(&program, &folder, &["-c", "-f", "fwup.conf", "-o", archive]);
            assert_eq!(
                outcome.exit,
                Some(0),
                "seed {number}: {archive}: {outcome:?} in {}",
                folder.display()
            );
            compare_runs(&folder, &fwup, archive);
        }
        // Kept only when something differed.
        fs::remove_dir_all(folder).unwrap();
    }
}
