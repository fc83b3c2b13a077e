//! Pieces of work on their way to a lane. A piece is always in one place, the queue or one lane's hand, and leaves it once:
//! that is why every digest gets exactly one outcome, whatever happens to tokens and lanes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use zeroize::Zeroizing;

use super::again::LaneId;
use super::{Seated, Signed};
use crate::certs::signature_fits;
use crate::hsm::{HsmError, HsmSession, KeyRef};

/// Octets that a call gives; wiped, for they may be random or opened.
pub(super) type Octets = Zeroizing<Vec<u8>>;

/// One call besides signing, with its own copies of what goes in: it may have to be made on another token.
pub(super) type Call = Arc<dyn Fn(&mut dyn HsmSession) -> Result<Octets, HsmError> + Send + Sync>;

/// A piece of work.
pub(super) struct Job {
    pub(super) work: Work,
    /// Since when tokens have failed it without getting anywhere.
    pub(super) failing_since: Option<Instant>,
    /// Lanes that have refused it as its data.
    pub(super) tried: Vec<LaneId>,
}

/// Outcomes of the digests from `start` on, and who told them; nobody, when no lane was to be had.
pub(super) struct Answer {
    pub(super) start: usize,
    pub(super) signed: Vec<Signed>,
    pub(super) by: Option<LaneId>,
}

pub(super) enum Work {
    /// Digests `range` of `digests`.
    Sign {
        key: KeyRef,
        digests: Arc<Vec<[u8; 32]>>,
        range: Range<usize>,
        answer: Sender<Answer>,
    },
    Call {
        call: Call,
        answer: Sender<(Result<Octets, HsmError>, Option<LaneId>)>,
    },
}

/// A job in a lane's hand: what is done of it stays done when another lane has to take over.
pub(super) struct InHand {
    pub(super) job: Job,
    pub(super) done: Vec<Signed>,
    by: LaneId,
    /// Who signs.
    token: Arc<dyn Seated>,
}

impl Job {
    pub(super) fn new(work: Work) -> Self {
        Self { work, failing_since: None, tried: Vec::new() }
    }

    /// Every outcome it still owes is this error.
    pub(super) fn fail(self, error: &HsmError) {
        // A caller that went away waits for nothing.
        match self.work {
            Work::Sign { range, answer, .. } => {
                let start = range.start;
                let signed = range.map(|_| Err(error.clone())).collect();
                let _ = answer.send(Answer { start, signed, by: None });
            }
            Work::Call { answer, .. } => _ = answer.send((Err(error.clone()), None)),
        }
    }
}

impl InHand {
    pub(super) fn of(job: Job, by: LaneId, token: Arc<dyn Seated>) -> Self {
        Self { job, done: Vec::new(), by, token }
    }

    /// Whether the last signature verifies: of a token that went wrong and stays so it does not.
    pub(super) fn is_sound(&self) -> bool {
        let Work::Sign { key, digests, range, .. } = &self.job.work else { return true };
        let last = self.done.iter().enumerate().rev().find_map(|(at, signed)| Some((at, signed.as_ref().ok()?)));
        last.is_none_or(|(at, signature)| {
            let point = self.token.public_point(*key);
            point.is_ok_and(|point| signature_fits(&point, &digests[range.start + at], signature))
        })
    }

    /// The next digest, if this is a signing job with one left.
    pub(super) fn next_digest(&self) -> Option<(KeyRef, [u8; 32])> {
        match &self.job.work {
            Work::Sign { key, digests, range, .. } => {
                digests[range.clone()].get(self.done.len()).map(|digest| (*key, *digest))
            }
            Work::Call { .. } => None,
        }
    }

    /// Answers what is done, if it is sound, else nothing; gives back what is not answered, if anything.
    pub(super) fn put_down(mut self) -> Option<Job> {
        if !self.is_sound() {
            self.done.clear();
        }
        self.answer()
    }

    /// As [`Self::put_down`], of work that was found sound.
    pub(super) fn answer(self) -> Option<Job> {
        let Self { mut job, done, by, .. } = self;
        if let Work::Sign { range, answer, .. } = &mut job.work
            && !done.is_empty()
        {
            let start = range.start;
            range.start += done.len();
            job.failing_since = None;
            let _ = answer.send(Answer { start, signed: done, by: Some(by) });
            if range.start >= range.end {
                return None;
            }
        }
        Some(job)
    }
}
