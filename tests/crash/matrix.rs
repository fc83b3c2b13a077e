//! Every point of a command: a copy of the yard each, a crash there, and what the test says has to hold behind it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::cut::{At, How, Told, cut};
use crate::yard::Yard;

/// Every `step`-th point of `bindery ARGS` in each way to die, and the power cut at its end; `after` is given the yard as the crash
/// left it. BINDERY_TEST_CRASH_STEP overrules `step`.
pub(crate) fn matrix(base: &Yard, args: &[&str], step: usize, after: &(dyn Fn(&Yard, &Told) + Sync)) {
    let step = std::env::var("BINDERY_TEST_CRASH_STEP").map_or(step, |text| text.parse().unwrap());
    let dies = |yard: &Yard, how, at| cut(yard.prepared(args), (&yard.site(), &yard.path("")), how, at);
    let counted = dies(&base.copy(), How::Power, At::Never);
    let points = counted.points.len();
    assert!(points > 20, "{points} points: {}", counted.err);
    // Which points are left out differs from way to way; the last one never is.
    let chosen = |from: usize| ((1 + from)..points).step_by(step).chain([points]).map(At::Point);
    let ways = [(How::Stop, 0), (How::Power, step / 3), (How::Torn(0), 2 * step / 3)];
    let cases = ways.iter().flat_map(|(how, from)| chosen(*from).map(|at| (*how, at)));
    let cases: Vec<(How, At)> = cases.chain([(How::Power, At::End), (How::Torn(0), At::End)]).collect();
    let (next, died, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((how, at)) = cases.get(next.fetch_add(1, SeqCst)) {
            let yard = base.copy();
            let mut place = String::new();
            let checked = catch_unwind(AssertUnwindSafe(|| {
                let told = dies(&yard, *how, *at);
                place = told.points.last().cloned().unwrap_or_default();
                died.fetch_add(usize::from(told.code.is_none()), SeqCst);
                after(&yard, &told);
            }));
            if checked.is_err() {
                failures.lock().unwrap().push(format!("{how:?} {at:?} (last point: {place})"));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get() + 1);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let (failures, died) = (failures.into_inner().unwrap(), died.into_inner());
    assert!(failures.is_empty(), "{args:?}: {} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    // Threads come in another order each time, so the last points of a command can be missed; no more than these.
    assert!(died * 10 >= (cases.len() - 2) * 9, "{args:?}: {died} of {} died", cases.len() - 2);
    println!("{args:?}: {points} points, {} cases, {died} died in the middle", cases.len());
}
