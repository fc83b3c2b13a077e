//! Signatures of a chunk: digests go to the lanes, each under the DPpb key of its eUICC's curve, and come back in the order of the
//! records. A chunk may mix the curves.

use super::work::{DppbKey, Engine};
use crate::certs;
use crate::error::{Exit, Fault};
use crate::formats::curve::Curve;
use crate::hsm::lanes::{Lanes, Signed, Ticket};
use crate::hsm::{FaultClass, Hsm, HsmError};

/// How often a record's digest is given to the lanes before its record fails.
pub(super) const ATTEMPTS: usize = 3;

/// What the HSM is to sign for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToSign {
    /// Whose DPpb key.
    pub(super) curve: Curve,
    /// SHA-256 of what is signed.
    pub(super) digest: [u8; 32],
}

/// Signatures under way.
pub(super) struct Signing {
    /// One for each key that is needed.
    parts: Vec<Part>,
    expected: usize,
}

struct Part {
    key: DppbKey,
    /// Where among all of them its digests stood.
    places: Vec<usize>,
    digests: Vec<[u8; 32]>,
    ticket: Ticket,
}

impl<H: Hsm> Engine<'_, H> {
    /// Hands all digests to the lanes and returns at once.
    pub(super) fn sign_all(&self, wanted: &[ToSign]) -> Signing {
        let part = |key: &DppbKey| {
            let of_key = wanted.iter().enumerate().filter(|(_, to_sign)| to_sign.curve == key.curve);
            let (places, digests): (Vec<usize>, Vec<_>) = of_key.map(|(at, to_sign)| (at, to_sign.digest)).unzip();
            let ticket = self.lanes.submit(key.key, digests.clone());
            Part { key: *key, places, digests, ticket }
        };
        Signing { parts: self.keys.dppb.iter().map(part).collect(), expected: wanted.len() }
    }
}

impl Signing {
    /// Waits for all of them, in the order in which they were wanted. What the token refuses as a record's data is tried again, apart
    /// from the others and by another lane each time; refused three times it is that record's fault. Any other error ends the chunk,
    /// of which nothing was issued.
    pub(super) fn wait(self, lanes: &Lanes) -> Result<Vec<Signed>, Fault> {
        let mut all: Vec<Option<Signed>> = (0..self.expected).map(|_| None).collect();
        for Part { key, places, digests, ticket } in self.parts {
            let mut signed = lanes.wait_out(ticket, ATTEMPTS);
            signed.iter_mut().filter_map(|signed| signed.as_mut().err()).for_each(count_attempts);
            if let Some(error) = signed.iter().find_map(|s| s.as_ref().err().filter(|e| e.class != FaultClass::Data)) {
                return Err(error.clone().into());
            }
            check_first(&key, &digests, &signed)?;
            places.into_iter().zip(signed).for_each(|(at, signature)| all[at] = Some(signature));
        }
        let all: Option<Vec<_>> = all.into_iter().collect();
        all.ok_or_else(|| Fault::new(Exit::Bug, "a record was agreed on a curve for which there is no DPpb key"))
    }
}

fn count_attempts(error: &mut HsmError) {
    if error.class == FaultClass::Data {
        error.what = format!("{}, {ATTEMPTS} attempts", error.what);
    }
}

/// A token that signs with another key than the certificate's would ruin every package: look at one a chunk and key.
fn check_first(key: &DppbKey, digests: &[[u8; 32]], signed: &[Signed]) -> Result<(), Fault> {
    let first = digests.iter().zip(signed).find_map(|(digest, signed)| Some((digest, signed.as_ref().ok()?)));
    if first.is_none_or(|(digest, signature)| certs::signature_fits(&key.point, digest, signature)) {
        return Ok(());
    }
    let what = format!("the token's signature does not verify with the key of the DPpb certificate on {}", key.curve);
    Err(Fault::new(Exit::HsmUnusable, what).hint("run `bindery doctor`; nothing of this chunk was issued"))
}
