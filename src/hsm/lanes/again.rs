//! What was refused as a record's data is tried again, by another lane each time: one slot or session that is at odds with itself
//! condemns no record.
//!
//! Rule: a job goes to a lane of a slot that has not refused it, then to a lane that has not, then to any, as far as lanes are in
//! service. A lane in service that is busy is waited for; one that is lost, stuck or ended is not.

use std::sync::Arc;

use super::health::Breaker;
use super::lane::Slip;
use super::state::State;
use super::work::Job;
use super::{Lanes, Signed, Ticket, submit_tried};
use crate::hsm::FaultClass;

/// A lane, told apart from every other of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneId {
    pub(super) number: u64,
    pub(super) pool: usize,
}

/// How welcome a lane is to a job that others have refused; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    OtherSlot,
    OtherSession,
    Same,
}

impl Lanes {
    /// Waits for all of them, as [`Ticket::wait`]. A digest that is refused as data is given to the lanes again, by itself, until
    /// it has had so many attempts.
    pub fn wait_out(&self, ticket: Ticket, attempts: usize) -> Vec<Signed> {
        let (key, digests) = (ticket.key, Arc::clone(&ticket.digests));
        let told = ticket.told();
        let is_refused = |signed: &Signed| matches!(signed, Err(error) if error.class == FaultClass::Data);
        let with_lane = told.iter().enumerate().filter(|(_, (signed, _))| is_refused(signed));
        let mut refused: Vec<(usize, Vec<LaneId>)> =
            with_lane.map(|(at, (_, by))| (at, by.iter().copied().collect())).collect();
        let mut all: Vec<Signed> = told.into_iter().map(|(signed, _)| signed).collect();
        for _ in 1..attempts {
            let again = |(at, tried): (usize, Vec<LaneId>)| {
                let ticket = submit_tried(&self.hall, key, vec![digests[at]], &tried);
                (at, tried, ticket)
            };
            let tickets: Vec<_> = std::mem::take(&mut refused).into_iter().map(again).collect();
            for (at, mut tried, ticket) in tickets {
                let Some((signed, by)) = ticket.told().pop() else { continue };
                if is_refused(&signed) {
                    tried.extend(by);
                    refused.push((at, tried));
                }
                all[at] = signed;
            }
        }
        all
    }
}

impl State {
    /// The first job that others have refused and this lane is to try.
    pub(super) fn next_again(&mut self, slip: &Slip) -> Option<Job> {
        if self.again.is_empty() {
            return None;
        }
        let at = self.again.iter().position(|job| self.stopping || self.fits_best(slip, &job.tried))?;
        self.again.remove(at)
    }

    /// No lane in service is more welcome.
    fn fits_best(&self, slip: &Slip, tried: &[LaneId]) -> bool {
        let in_service = self.slips.iter().filter(|other| self.pools[other.id.pool].breaker == Breaker::Closed);
        in_service.map(|other| fit(other.id, tried)).min().is_none_or(|best| fit(slip.id, tried) <= best)
    }
}

fn fit(lane: LaneId, tried: &[LaneId]) -> Fit {
    if tried.iter().all(|other| other.pool != lane.pool) {
        Fit::OtherSlot
    } else if !tried.contains(&lane) {
        Fit::OtherSession
    } else {
        Fit::Same
    }
}
