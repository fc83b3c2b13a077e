//! The conductor: plans an order's chunks, lets two drivers work on them side by side, closes the order.
//!
//! Two chunks are in flight so that the cores have work while one chunk waits for its signatures or its disk. A driver
//! takes the next chunk only when nobody asked to stop; what it began it finishes. What is not committed never happened.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::audit::Audit;
use super::chunk::ChunkResult;
use super::close;
use super::work::{Engine, OrderWork};
use crate::error::{Exit, Fault};
use crate::export::manifest::Counts;
use crate::export::report::ChunkTiming;
use crate::hsm::Hsm;
use crate::store::{Chunk, DevicePk, ObjectFacts, StoredOrder};
use crate::telemetry::Progress;

/// Packages of a chunk at most, so that memory stays flat for 100 KB profiles too.
const CHUNK_BYTES: usize = 16 << 20;
/// Chunks in flight.
const DRIVERS: usize = 2;

/// How long this run took, for the report.
#[derive(Debug, Default)]
pub(super) struct RunTimes {
    pub(super) chunks: Vec<ChunkTiming>,
    /// Package files of a binding, with what was written into them.
    pub(super) objects: Vec<(String, ObjectFacts)>,
    pub(super) elapsed: Duration,
    /// Profiles that were read back.
    pub(super) audited: u64,
}

/// What became of one order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    /// Rows by outcome.
    pub(super) counts: Counts,
    /// Wall-clock time of this run.
    pub(super) elapsed: Duration,
    /// Records that this run worked on (a resumed run only does the rest).
    pub(super) records: u64,
    /// Profiles among them that were read back.
    pub(super) audited: u64,
}

/// Works an order to its end: plan, chunks, bundle. `Err` with [`Exit::Stopped`] when asked to stop in between.
pub(super) fn work_order<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    (work, audit): (&OrderWork, Audit),
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<Closed, Fault> {
    let started = Instant::now();
    let chunks = plan(engine, work)?;
    let (done, open): (Vec<&Chunk>, Vec<&Chunk>) = chunks.iter().partition(|chunk| chunk.done);
    engine.remember(work, &done)?;
    let mut times = drive(engine, (work, audit), &open, progress, stop)?;
    if stop.load(Ordering::Relaxed) {
        let what = format!("{}: stopped on request, every finished chunk is kept", work.key);
        return Err(Fault::new(Exit::Stopped, what).hint("run again: it continues where it stood"));
    }
    times.elapsed = started.elapsed();
    let mut session = engine.hsm.open_session()?;
    let counts = close::close(engine, stored, work, &mut session, &times)?;
    let records = times.chunks.iter().map(|chunk| chunk.records).sum();
    Ok(Closed { counts, elapsed: started.elapsed(), records, audited: times.audited })
}

/// The order's chunks: as planned before, or planned now and kept, so that a resumed run names the same package files.
fn plan<H: Hsm>(engine: &Engine<'_, H>, work: &OrderWork) -> Result<Vec<Chunk>, Fault> {
    let planned = engine.store.chunks(work.pk)?;
    if !planned.is_empty() {
        return Ok(planned);
    }
    let mut chunks = Vec::new();
    for line in &work.lines {
        let Some((first, last)) = engine.store.device_span(work.pk, line.number)? else { continue };
        let by_size = CHUNK_BYTES / line.package_len().max(1);
        let records = by_size.clamp(1, engine.site.config.run.chunk_records.max(1)) as i64;
        let starts = (first.0..=last.0).step_by(records as usize);
        chunks.extend(starts.zip(chunks.len() as u32 + 1..).map(|(from, number)| Chunk {
            number,
            line: line.number,
            first: DevicePk(from),
            last: DevicePk((from + records - 1).min(last.0)),
            done: false,
            object: None,
        }));
    }
    engine.store.plan_chunks(work.pk, &chunks)?;
    Ok(chunks)
}

/// Lets the drivers work until the chunks are done, one fails or somebody asks to stop. The first failure is the one told.
fn drive<H: Hsm>(
    engine: &Engine<'_, H>,
    (work, audit): (&OrderWork, Audit),
    chunks: &[&Chunk],
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<RunTimes, Fault> {
    let next = Mutex::new(chunks.iter());
    let failed = AtomicBool::new(false);
    let driver = || -> Result<RunTimes, Fault> {
        let mut session = engine.hsm.open_session()?;
        let mut times = RunTimes::default();
        loop {
            if stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed) {
                return Ok(times);
            }
            let taken = next.lock().map_err(|_| Fault::new(Exit::Bug, "a driver panicked"))?.next();
            let Some(chunk) = taken else { return Ok(times) };
            let started = Instant::now();
            let ChunkResult { outcomes, object, audited } = engine.work_chunk((work, audit), chunk, &mut session)?;
            let records = outcomes.len() as u64;
            // Last: the package file is durable. Power lost before the commit: the chunk is done again and its file replaced, nobody
            // has seen its numbers. Lost behind it: the ledger names octets that are on disk.
            engine.store.commit_chunk(work.pk, chunk.number, &outcomes, object.as_ref())?;
            progress.add(records);
            times.audited += audited;
            times.chunks.push(ChunkTiming { records, seconds: started.elapsed().as_secs_f64() });
        }
    };
    let results: Vec<Result<RunTimes, Fault>> = std::thread::scope(|scope| {
        let drivers: Vec<_> = (0..DRIVERS.min(chunks.len()))
            .map(|_| {
                scope.spawn(|| {
                    let result = driver();
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            })
            .collect();
        let join = |driver: std::thread::ScopedJoinHandle<'_, _>| {
            driver.join().unwrap_or_else(|_| Err(Fault::new(Exit::Bug, "a driver panicked")))
        };
        drivers.into_iter().map(join).collect()
    });
    let mut times = RunTimes::default();
    for result in results {
        let RunTimes { chunks, audited, .. } = result?;
        times.chunks.extend(chunks);
        times.audited += audited;
    }
    Ok(times)
}
