//! Chunks: what an order is worked on in, and the stretches in which devices are read.

use super::DevicePk;

/// One chunk of an order: consecutive device rows of one order line; planned once, worked on by one driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// 1-based within the order; numbers the package file.
    pub number: u32,
    /// `line` of the order header.
    pub line: u32,
    /// First device.
    pub first: DevicePk,
    /// Last device, included. Rejected devices in between are skipped.
    pub last: DevicePk,
    /// Done and durable.
    pub done: bool,
    /// Which of its order's bundles it belongs to, once done.
    pub part: u32,
    /// Its package file as it was written; none while it is open, or when no record of it was issued.
    pub object: Option<ObjectFacts>,
}

/// Consecutive devices: the first and the last, included.
pub type Stretch = (DevicePk, DevicePk);

/// The devices of a stretch in stretches of at most `most`.
pub fn stretches((first, last): Stretch, most: usize) -> impl Iterator<Item = Stretch> {
    let most = most.max(1) as i64;
    (first.0..=last.0).step_by(most as usize).map(move |from| (DevicePk(from), DevicePk(last.0.min(from + most - 1))))
}

impl Chunk {
    /// Devices read at once by who reads a done chunk beside those that are worked on, so that it holds no more of it.
    const PAGE: usize = 250;

    /// Its devices, page by page.
    pub fn pages(&self) -> impl Iterator<Item = Stretch> + use<> {
        stretches((self.first, self.last), Self::PAGE)
    }
}

/// Whether a chunk is to be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStart {
    /// Marked as started: its rows keep their state until it is committed.
    Work,
    /// Its rows are set aside.
    Held,
}

/// A package file as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Of the whole file.
    pub sha256: [u8; 32],
    /// Its size.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_the_devices_each_once_and_none_is_too_long() {
        for (first, last, many) in [(7, 7, 1), (1, 250, 1), (1, 251, 2), (3, 1_000, 4), (1, 0, 0)] {
            let parts: Vec<Stretch> = stretches((DevicePk(first), DevicePk(last)), 250).collect();
            assert!(parts.iter().flat_map(|(from, to)| from.0..=to.0).eq(first..=last));
            assert!(parts.iter().all(|(from, to)| to.0 - from.0 < 250));
            assert_eq!(parts.len(), many);
        }
    }
}
