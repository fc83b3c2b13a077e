//! Preparing in memory: from random octets to a stored PPP, beside its floor: random octets of the token in 1 KiB draws,
//! personalisation, CBC and CMAC of the segments.

use std::hint::black_box;
use std::time::Duration;

use zeroize::Zeroizing;

use super::crew::Crew;
use super::{Template, failed, refused};
use crate::error::Fault;
use crate::formats::bsp::group::GROUP;
use crate::formats::bsp::segment::Sealer;
use crate::hsm::{Hsm, HsmSession, draw};
use crate::personalise::{CompiledTemplate, Draw, Identity};
use crate::protect::{Ppk, protect_all};

/// Records whose random octets are drawn at once: some groups.
const BATCH: usize = 8 * GROUP;
const DRAW_OCTETS: usize = 1_024;
/// Octets of a PPK triple.
const PPK_LEN: usize = 48;

/// Microseconds of one thread.
pub(super) struct Prepared {
    /// Credentials, UPP, PPK, segments.
    pub(super) prepared_us: f64,
    /// Random octets of one record, in 1 KiB draws.
    pub(super) random_us: f64,
    /// The UPP of one record whose credentials are there.
    pub(super) personalise_us: f64,
}

impl Prepared {
    pub(super) fn measure<H: Hsm>(hsm: &H, template: &Template, crew: &Crew, window: Duration) -> Result<Self, Fault> {
        let compiled = &template.compiled;
        let record_len = compiled.draw_len() + PPK_LEN;
        let identity = &template.identity();
        let prepared_us = crew.us_per_op(window, &|| {
            let (mut session, mut sealer) = (hsm.open_session().map_err(refused)?, Sealer::new().map_err(failed)?);
            let mut random = Zeroizing::new(vec![0; record_len * BATCH]);
            Ok(move || {
                draw::fill_random(&mut session, &mut random).map_err(refused)?;
                for octets in random.chunks_exact(record_len * GROUP) {
                    prepare(compiled, identity, octets.chunks_exact(record_len), &mut sealer)?;
                }
                Ok(BATCH as u32)
            })
        })?;
        let draw_us = crew.us_per_op(window, &|| {
            let mut session = hsm.open_session().map_err(refused)?;
            let mut random = Zeroizing::new([0; DRAW_OCTETS]);
            Ok(move || session.random(&mut random[..]).map(|()| 1).map_err(refused))
        })?;
        let personalise_us = crew.us_per_op(window, &|| {
            let octets = vec![0x33; compiled.draw_len()];
            let credentials = compiled.credentials(&mut Draw::new(&octets), None).map_err(failed)?;
            Ok(move || {
                for _ in 0..BATCH {
                    black_box(compiled.personalise(identity, &credentials).map_err(failed)?);
                }
                Ok(BATCH as u32)
            })
        })?;
        Ok(Self { prepared_us, random_us: draw_us * record_len as f64 / DRAW_OCTETS as f64, personalise_us })
    }
}

/// A group, as a thread of the engine gets it: what is in the clear of one lives no longer than that.
fn prepare<'r>(
    compiled: &CompiledTemplate,
    identity: &Identity<'_>,
    records: impl Iterator<Item = &'r [u8]>,
    sealer: &mut Sealer,
) -> Result<(), Fault> {
    let personalise = |octets| {
        let mut draw = Draw::new(octets);
        let credentials = compiled.credentials(&mut draw, None).map_err(failed)?;
        let ppk = Ppk::from_random(draw.take().map_err(failed)?);
        Ok((compiled.personalise(identity, &credentials).map_err(failed)?, ppk))
    };
    let group = records.map(personalise).collect::<Result<Vec<_>, Fault>>()?;
    black_box(protect_all(&group, sealer).map_err(failed)?);
    Ok(())
}
