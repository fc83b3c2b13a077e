#![no_main]

use bindery_fuzz::gauntlet::{Outcome, template};
use bindery_fuzz::random::Random;

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    // The values of the record follow from the octets, so that a crash repeats.
    let seed = der.iter().fold(0, |sum: u64, octet| sum.wrapping_mul(31).wrapping_add(u64::from(*octet)));
    template(der, &mut Random::new(seed), &mut Outcome::default());
});
