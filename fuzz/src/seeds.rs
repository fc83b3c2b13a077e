//! Sound packages to start from: the presets, the written elements of `test-vectors/saip` inside the smallest preset, and the files
//! of a directory.

use std::io;
use std::path::Path;

use bindery::formats::saip::package::Package;
use bindery::formats::saip::source;
use data_encoding::HEXUPPER;

use crate::mutate::{Node, nodes};
use crate::random::Random;

const ELEMENTS: [&str; 2] =
    [include_str!("../../test-vectors/saip/elements.txt"), include_str!("../../test-vectors/bad/saip/elements.txt")];

/// A package and its TLVs.
pub struct Seed {
    /// Where it is from.
    pub name: String,
    /// Its octets.
    pub der: Vec<u8>,
    /// Its TLVs on all levels.
    pub nodes: Vec<Node>,
}

/// All seeds, small ones drawn more often than large ones.
pub struct Seeds {
    seeds: Vec<Seed>,
    /// Sums of weights up to and with each seed.
    sums: Vec<usize>,
}

impl Seeds {
    /// The presets, the written elements, and the files of `corpus`.
    pub fn load(corpus: Option<&Path>) -> io::Result<Self> {
        let mut seeds = Self { seeds: Vec::new(), sums: Vec::new() };
        for (name, der) in presets() {
            // 540 octets weigh ten times as much as 50,000.
            let weight = 1_000_000 / (5_000 + der.len());
            seeds.add(name.to_owned(), der, weight);
        }
        for (name, der) in elements() {
            seeds.add(name, der, 4);
        }
        if let Some(corpus) = corpus {
            let mut paths: Vec<_> =
                std::fs::read_dir(corpus)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
            paths.sort();
            for path in paths.into_iter().filter(|path| path.is_file()) {
                seeds.add(path.display().to_string(), std::fs::read(&path)?, 2);
            }
        }
        Ok(seeds)
    }

    fn add(&mut self, name: String, der: Vec<u8>, weight: usize) {
        let nodes = nodes(&der);
        self.seeds.push(Seed { name, der, nodes });
        self.sums.push(self.sums.last().unwrap_or(&0) + weight.max(1));
    }

    /// One of them.
    pub fn draw(&self, random: &mut Random) -> &Seed {
        let at = random.below(*self.sums.last().unwrap_or(&0));
        &self.seeds[self.sums.partition_point(|sum| *sum <= at)]
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Seed> {
        self.seeds.iter()
    }
}

/// The built-in sources as packages.
pub fn presets() -> Vec<(&'static str, Vec<u8>)> {
    let built = source::PRESETS.iter().map(|(name, text)| (*name, source::build(text)));
    built.map(|(name, der)| (name, der.expect("a preset builds"))).collect()
}

/// Every written element in a package of its own, between the elements of `iot-minimal`.
fn elements() -> Vec<(String, Vec<u8>)> {
    let smallest = presets().into_iter().map(|(_, der)| der).min_by_key(Vec::len).expect("there are presets");
    let end = Package::parse(&smallest).expect("a preset is DER").elements.last().map_or(0, |end| end.tlv.offset);
    let mut elements: Vec<(String, Vec<u8>)> = Vec::new();
    for line in ELEMENTS.iter().flat_map(|text| text.lines()) {
        if let Some(name) = line.strip_prefix("== ") {
            elements.push((name.to_owned(), smallest[..end].to_vec()));
        } else if let Some((_, der)) = elements.last_mut() {
            let digits: String = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            der.extend(HEXUPPER.decode(digits.as_bytes()).expect("vectors are hex"));
        }
    }
    elements.iter_mut().for_each(|(_, der)| der.extend(&smallest[end..]));
    elements
}
