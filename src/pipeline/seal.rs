//! The profiles of several records closed at once: the sealer's lanes go side by side through different packages.
//! In: records of a chunk, neighbours. Out: the same records, each sealed or failed, in their order.

use std::vec::IntoIter;

use openssl::error::ErrorStack;

use super::record::{Closing, Failed, Name, Place, Sealed, SealedPackage, Started};
use crate::bind::{OpenDraft, Workbench};
use crate::formats::bsp::group::GROUP;
use crate::formats::digest::sha256_two;
use crate::protect::{ProtectError, protect_all, protect_all_into};
use crate::store::sealed::BatchKey;

/// Records that a thread takes at once at most.
pub(super) const RECORDS: usize = GROUP;

/// Makes the profiles, closes their segments and the secrets that rest; the UPPs are wiped here. What one record's data spoils, spoils that
/// record; where the sealer itself fails, all of the group do.
pub(super) fn seal(
    bench: &mut Result<Workbench, ErrorStack>,
    group: Vec<Result<Started<'_>, Failed>>,
    batch_key: &BatchKey,
) -> Vec<Result<Sealed, Failed>> {
    let bench = match bench {
        Ok(bench) => bench,
        Err(e) => return group.into_iter().map(|record| Err(record?.failed_at(e))).collect(),
    };
    let close = |record: Result<Started<'_>, Failed>| record?.close(batch_key, bench);
    let mut closing: Vec<Result<Closing, Failed>> = group.into_iter().map(close).collect();
    note_digests(&mut closing);
    let most = closing.len();
    let (mut upps, mut open, mut to_store) = (Vec::with_capacity(most), Vec::with_capacity(most), Vec::new());
    let mut split = |record: Result<Closing, Failed>| {
        let Closing { name, issue, upp, place, .. } = record?.unchanged()?;
        let way = match place {
            Place::Package(draft) => {
                upps.push(upp);
                open.push(draft);
                Way::Bound
            }
            Place::Rest(ppk) => {
                to_store.push((upp, ppk));
                Way::Stored
            }
        };
        Ok((name, issue, way))
    };
    let waiting: Vec<Result<_, Failed>> = closing.into_iter().map(&mut split).collect();
    let sealer = bench.sealer();
    let drafts = OpenDraft::fill_all(open, |slots| protect_all_into(upps.iter().zip(slots), sealer));
    let mut drafts = drafts.map(Vec::into_iter);
    let mut ppps = protect_all(&to_store, sealer).map(Vec::into_iter);
    let put_back = |record: Result<_, Failed>| {
        let (name, issue, way) = record?;
        let package = match way {
            Way::Bound => SealedPackage::Unsigned(next_of(&mut drafts, &name)?),
            Way::Stored => SealedPackage::Stored(next_of(&mut ppps, &name)?),
        };
        Ok(Sealed { name, issue, package })
    };
    waiting.into_iter().map(put_back).collect()
}

/// SHA-256 of every profile, two at once.
fn note_digests(closing: &mut [Result<Closing, Failed>]) {
    let mut sound: Vec<&mut Closing> = closing.iter_mut().flatten().collect();
    for neighbours in sound.chunks_mut(2) {
        if let [one, other] = neighbours {
            [one.issue.upp_sha256, other.issue.upp_sha256] = sha256_two(one.upp.expose(), other.upp.expose());
        } else {
            neighbours.iter_mut().for_each(|alone| alone.issue.upp_sha256 = alone.upp.sha256());
        }
    }
}

/// Which of the two lists holds a record's package; both keep the records' order.
enum Way {
    Bound,
    Stored,
}

fn next_of<T>(sealed: &mut Result<IntoIter<T>, ProtectError>, name: &Name) -> Result<T, Failed> {
    let packages = sealed.as_mut().map_err(|e| name.failed(e))?;
    packages.next().ok_or_else(|| name.failed(&"packages and records are out of step"))
}
