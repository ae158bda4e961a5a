//! A look at a FAT file system that shares nothing with the code under test.

use std::collections::{BTreeMap, BTreeSet};

/// What the image holds: paths in capitals of long (or else short) names, folders without content.
#[derive(Debug, Default, PartialEq)]
pub struct Contents(pub BTreeMap<String, Option<Vec<u8>>>);

struct View<'a> {
    image: &'a [u8],
    bits: u32,
    table: usize,
    table_bytes: usize,
    root: usize,
    root_bytes: usize,
    root_cluster: u32,
    data: usize,
    cluster_bytes: usize,
    entries: u32,
}

/// Reads everything and checks that the tables agree, no cluster is lost or shared, long names belong to
/// their short ones and the free count is right.
pub fn contents(image: &[u8]) -> Contents {
    let word = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
    let long = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    assert_eq!((image[510], image[511]), (0x55, 0xAA));
    let small = word(22) != 0;
    let table_sectors = if small { word(22) } else { long(36) as usize };
    let total = if word(19) == 0 { long(32) as usize } else { word(19) };
    let tables = usize::from(image[16]);
    let root = (word(14) + tables * table_sectors) * 512;
    let root_bytes = word(17) * 32;
    let data = root + root_bytes;
    let cluster_bytes = usize::from(image[13]) * 512;
    let clusters = u32::try_from((total * 512 - data) / cluster_bytes).unwrap();
    let bits = if !small {
        32
    } else if clusters < 4085 {
        12
    } else {
        16
    };
    let view = View {
        image,
        bits,
        table: word(14) * 512,
        table_bytes: table_sectors * 512,
        root,
        root_bytes,
        root_cluster: if small { 0 } else { long(44) },
        data,
        cluster_bytes,
        entries: clusters + 2,
    };
    let first = &image[view.table..view.table + view.table_bytes];
    let second = &image[view.table + view.table_bytes..view.table + 2 * view.table_bytes];
    assert!(tables == 1 || first == second, "the two tables differ");
    let mut used = BTreeSet::new();
    let mut found = Contents::default();
    let top = if small {
        image[root..root + root_bytes].to_vec()
    } else {
        view.chain(view.root_cluster, &mut used)
    };
    view.folder(&top, "", &mut used, &mut found);
    for cluster in 2..view.entries {
        assert_eq!(
            view.link(cluster) != 0,
            used.contains(&cluster),
            "cluster {cluster} lost or free while used"
        );
    }
    if !small {
        let free = view.entries - 2 - u32::try_from(used.len()).unwrap();
        assert_eq!(long(512 + 488), free, "free count");
    }
    found
}

impl View<'_> {
    fn link(&self, cluster: u32) -> u32 {
        let byte = |at: usize| u32::from(self.image[self.table + at]);
        let index = cluster as usize;
        match self.bits {
            12 => {
                let both = byte(index * 3 / 2) | byte(index * 3 / 2 + 1) << 8;
                if index % 2 == 1 { both >> 4 } else { both & 0xFFF }
            }
            16 => byte(index * 2) | byte(index * 2 + 1) << 8,
            _ => (0..4).map(|part| byte(index * 4 + part) << (8 * part)).sum::<u32>() & 0x0FFF_FFFF,
        }
    }

    fn chain(&self, first: u32, used: &mut BTreeSet<u32>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut cluster = first;
        while cluster < self.entries {
            assert!(cluster >= 2 && used.insert(cluster), "cluster {cluster} is shared or no cluster");
            let start = self.data + (cluster as usize - 2) * self.cluster_bytes;
            let mut piece = vec![0; self.cluster_bytes];
            if let Some(held) = self.image.get(start..start + self.cluster_bytes) {
                piece.copy_from_slice(held);
            }
            bytes.extend(piece);
            cluster = self.link(cluster);
        }
        bytes
    }

    fn folder(&self, bytes: &[u8], path: &str, used: &mut BTreeSet<u32>, found: &mut Contents) {
        assert!(self.root_bytes > 0 || self.root > 0);
        let mut long = String::new();
        let mut sum = 0;
        for entry in bytes.chunks(32).take_while(|entry| entry[0] != 0) {
            if entry[0] == 0xE5 {
                assert!(long.is_empty(), "a long name without its short one");
                continue;
            }
            if entry[11] == 0x0F {
                let units: Vec<u16> = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]
                    .iter()
                    .map(|at| u16::from_le_bytes([entry[*at], entry[at + 1]]))
                    .take_while(|unit| *unit != 0)
                    .collect();
                long.insert_str(0, &String::from_utf16(&units).unwrap());
                sum = entry[13];
                continue;
            }
            let short_sum = entry[..11].iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
            assert!(long.is_empty() || sum == short_sum, "a long name belongs to another entry");
            let text = |part: &[u8]| String::from_utf8_lossy(part).trim_end().to_owned();
            let short = match text(&entry[8..11]) {
                extension if extension.is_empty() => text(&entry[..8]),
                extension => format!("{}.{extension}", text(&entry[..8])),
            };
            let name = std::mem::take(&mut long);
            let name = if name.is_empty() { short } else { name }.to_uppercase();
            if entry[11] & 0x08 != 0 || name == "." || name == ".." {
                continue;
            }
            let two = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
            let cluster = two(26) | if self.bits == 32 { two(20) << 16 } else { 0 };
            let size = u32::from_le_bytes(entry[28..32].try_into().unwrap()) as usize;
            let full = format!("{path}/{name}");
            let bytes = if cluster == 0 { Vec::new() } else { self.chain(cluster, used) };
            let is_folder = entry[11] & 0x10 != 0;
            let content = if is_folder {
                None
            } else {
                assert_eq!(bytes.len(), size.div_ceil(self.cluster_bytes) * self.cluster_bytes, "{full}");
                let end = size.next_multiple_of(512);
                assert!(bytes[size..end].iter().all(|byte| *byte == 0), "slack of {full}");
                Some(bytes[..size].to_vec())
            };
            assert!(found.0.insert(full.clone(), content).is_none(), "{full} is there twice");
            if is_folder {
                self.folder(&bytes, &full, used, found);
            }
        }
        assert!(long.is_empty(), "a long name without its short one");
    }
}
