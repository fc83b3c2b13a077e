//! The conductor: plans an order's chunks, lets drivers work on them side by side, closes the order.
//!
//! Several chunks are in flight so that the cores have work while one waits for its signatures and another for its disk. A driver
//! takes the next chunk only when nobody asked to stop; what it began it finishes. What is not committed never happened.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::audit::Audit;
use super::chunk::ChunkResult;
use super::close;
use super::hand_on::{self, HandOn};
use super::open::Beside;
use super::scribe;
use super::work::{Binding, Engine, OrderWork, package_object};
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::export::manifest::Counts;
use crate::export::report::ChunkTiming;
use crate::hsm::Hsm;
use crate::store::packages::Written;
use crate::store::{Chunk, ChunkStart, DeviceState, StoredOrder, stretches};
use crate::telemetry::Progress;

/// Packages of a chunk at most, so that memory stays flat for 100 KB profiles too.
const CHUNK_BYTES: usize = 16 << 20;
/// Chunks in flight: with two, both wait for disk or token in one of ten moments.
const DRIVERS: usize = 3;
/// The same of packages that keep the disk busy: a run of W3 takes 2.4 % less time. Of small ones a fourth chunk only takes memory.
const DRIVERS_OF_BIG: usize = 4;
/// Of small ones that are stored: they wait for no signature, and a chunk in flight is a fifteenth of all that such a run holds.
const DRIVERS_OF_STORED: usize = 2;

/// Octets of a package up to which its making takes less than a third of the time that key agreement and signature take.
const SMALL_PACKAGE: usize = 16 << 10;

/// Of so many chunks an order's work is mostly beginning and end.
const FEW_CHUNKS: u64 = 8;

/// How long this run took, for the report.
#[derive(Debug, Default)]
pub(super) struct RunTimes {
    pub(super) chunks: Vec<ChunkTiming>,
    /// Package files that it wrote.
    pub(super) objects: Vec<(String, Written)>,
    pub(super) elapsed: Duration,
    /// Profiles that were read back.
    pub(super) audited: u64,
}

impl RunTimes {
    /// What was done beside it.
    fn add(&mut self, Self { chunks, objects, elapsed: _, audited }: Self) {
        self.chunks.extend(chunks);
        self.objects.extend(objects);
        self.audited += audited;
    }
}

/// What goes on while signatures of these orders are made: an order of few chunks is done soonest when nothing is kept from the signers.
pub(super) fn beside(site: &Site, due: &[StoredOrder]) -> Beside {
    let few = FEW_CHUNKS * site.config.run.chunk_records as u64;
    if due.iter().any(|order| order.rows > few) { Beside::Chunks } else { Beside::Little }
}

/// What ends the work on an order before its end.
#[derive(Clone, Copy)]
pub(super) struct Marks<'a> {
    /// Somebody asks to stop.
    stop: &'a AtomicBool,
    /// One of those who work side by side failed, and tells of it.
    failed: &'a AtomicBool,
}

impl Marks<'_> {
    pub(super) fn are_set(self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// The result of one who works beside others: they stop when it is a failure.
    fn noted<T>(self, result: Result<T, Fault>) -> Result<T, Fault> {
        self.failed.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    }
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

/// Works an order to its end: plan, chunks, bundle. `Err` with [`Exit::Stopped`] when asked to stop in between; `None` when all that
/// is left of it is held, so that there is nothing to seal.
pub(super) fn work_order<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    (work, audit): (&OrderWork, Audit),
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<Option<Closed>, Fault> {
    let started = Instant::now();
    // Before the marks are taken back: as long as the order is being sealed, its rows keep their states.
    if let Some(counts) = close::finish_sealed(engine, stored, work)? {
        return Ok(Some(Closed { counts, elapsed: started.elapsed(), records: 0, audited: 0 }));
    }
    engine.store.begin_work(work.pk)?;
    let chunks = plan(engine, work)?;
    let (done, open): (Vec<&Chunk>, Vec<&Chunk>) = chunks.iter().partition(|chunk| chunk.done);
    let is_import = |chunk: &&Chunk| work.line(chunk.line).is_some_and(|line| line.import.is_some());
    let (imported, generated): (Vec<&Chunk>, Vec<&Chunk>) = done.into_iter().partition(is_import);
    // Of two imported records with one K the first stands: the earlier ones are known before the next one is judged.
    imported.iter().try_for_each(|chunk| engine.remember(work, chunk))?;
    let failed = AtomicBool::new(false);
    let marks = Marks { stop, failed: &failed };
    let (hand_on, done) = hand_on::channel();
    let (worked, begun) = std::thread::scope(|scope| {
        let remembering = scope.spawn(|| marks.noted(remember(engine, work, &generated, marks)));
        let writing = scope.spawn(|| marks.noted(scribe::follow(engine, (stored, work), &chunks, done, marks)));
        let worked = marks.noted(work_open(engine, stored, (work, audit), &open, progress, (marks, hand_on)));
        let remembered = remembering.join().unwrap_or_else(|_| Err(panicked("the reader")));
        let begun = writing.join().unwrap_or_else(|_| Err(panicked("the scribe")));
        worked.and_then(|worked| remembered.and(begun).map(|begun| (worked, begun)))
    })?;
    let Some(mut times) = worked else { return Ok(None) };
    times.elapsed = started.elapsed();
    let mut session = engine.hsm.open_session()?;
    work.distinct.finish();
    let counts = close::close(engine, stored, work, &mut session, (&times, begun))?;
    let records = times.chunks.iter().map(|chunk| chunk.records).sum();
    Ok(Some(Closed { counts, elapsed: started.elapsed(), records, audited: times.audited }))
}

/// Works the open chunks, again while rows are put back meanwhile, until none waits and the order may be sealed; `None` when there is
/// nothing to seal, or when somebody else `failed`, who tells of it.
fn work_open<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    (work, audit): (&OrderWork, Audit),
    open: &[&Chunk],
    progress: &Progress,
    (marks, hand_on): (Marks<'_>, HandOn),
) -> Result<Option<RunTimes>, Fault> {
    let mut times = drive(engine, (work, audit), open, progress, (marks, &hand_on))?;
    loop {
        if marks.stop.load(Ordering::Relaxed) {
            let what = format!("{}: stopped on request, every finished chunk is kept", work.key);
            return Err(Fault::new(Exit::Stopped, what).hint("run again: it continues where it stood"));
        }
        if marks.failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if has_something(engine, stored)? {
            if engine.store.begin_seal(work.pk)? {
                return Ok(Some(times));
            }
        } else if !engine.store.counts(work.pk)?.iter().any(|(state, _)| *state == DeviceState::Accepted) {
            return Ok(None);
        }
        let chunks = engine.store.chunks(work.pk)?;
        let open: Vec<&Chunk> = chunks.iter().filter(|chunk| !chunk.done).collect();
        times.add(drive(engine, (work, audit), &open, progress, (marks, &hand_on))?);
    }
}

/// Whether the bundle that is being filled has a chunk to tell of.
fn has_something<H: Hsm>(engine: &Engine<'_, H>, stored: &StoredOrder) -> Result<bool, Fault> {
    let chunks = engine.store.chunks(stored.pk)?;
    Ok(chunks.is_empty() || chunks.iter().any(|chunk| chunk.done && chunk.part == stored.part))
}

/// The order's chunks: as planned before, or planned now and kept, so that a resumed run names the same package files.
fn plan<H: Hsm>(engine: &Engine<'_, H>, work: &OrderWork) -> Result<Vec<Chunk>, Fault> {
    let planned = engine.store.chunks(work.pk)?;
    if !planned.is_empty() {
        return Ok(planned);
    }
    let mut chunks = Vec::new();
    for line in &work.lines {
        let Some(span) = engine.store.device_span(work.pk, line.number)? else { continue };
        let by_size = CHUNK_BYTES / line.package_len().max(1);
        let records = by_size.clamp(1, engine.site.config.run.chunk_records.max(1));
        chunks.extend(stretches(span, records).zip(chunks.len() as u32 + 1..).map(|((first, last), number)| Chunk {
            number,
            line: line.number,
            first,
            last,
            done: false,
            part: 0,
            object: None,
        }));
    }
    engine.store.plan_chunks(work.pk, &chunks)?;
    Ok(chunks)
}

/// Reads what earlier runs issued, beside the new chunks: the next profile does not wait for half a million old ones to be opened. A
/// secret that comes again is found all the same before the order is closed, and nothing of an order that is not closed leaves the
/// house; it is found again by every later run.
fn remember<H: Hsm>(engine: &Engine<'_, H>, work: &OrderWork, done: &[&Chunk], marks: Marks<'_>) -> Result<(), Fault> {
    done.iter().take_while(|_| !marks.are_set()).try_for_each(|chunk| engine.remember(work, chunk))
}

/// Lets the drivers work until the chunks are done, one fails or somebody asks to stop; each chunk that is done is handed on. The first
/// failure is the one told.
fn drive<H: Hsm>(
    engine: &Engine<'_, H>,
    (work, audit): (&OrderWork, Audit),
    chunks: &[&Chunk],
    progress: &Progress,
    (marks, hand_on): (Marks<'_>, &HandOn),
) -> Result<RunTimes, Fault> {
    let next = Mutex::new(chunks.iter());
    let is_held = keeps_to_some_cores(work);
    let driver = |at| -> Result<RunTimes, Fault> {
        if is_held {
            engine.cpu.hold_beside(at);
        }
        let mut session = engine.hsm.open_session()?;
        let mut times = RunTimes::default();
        loop {
            if marks.are_set() {
                return Ok(times);
            }
            let taken = next.lock().map_err(|_| panicked("a driver"))?.next();
            let Some(chunk) = taken else { return Ok(times) };
            if engine.store.start_chunk(work.pk, chunk.number)? == ChunkStart::Held {
                continue;
            }
            let started = Instant::now();
            let worked = engine.work_chunk((work, audit), chunk, &mut session)?;
            let ChunkResult { devices, outcomes, curves, object, audited } = worked;
            let records = outcomes.len() as u64;
            // Last: the package file is durable. Power lost before the commit: the chunk is done again and its file replaced, nobody
            // has seen its numbers. Lost behind it: the ledger names octets that are on disk.
            let facts = object.map(|written| written.facts);
            engine.store.commit_chunk(work.pk, chunk.number, &outcomes, facts.as_ref())?;
            let octets = facts.map_or(0, |facts| facts.bytes);
            hand_on.done((chunk.number, octets), (devices, outcomes), curves);
            times.objects.extend(object.map(|written| (package_object(chunk.number), written)));
            progress.add(records);
            times.audited += audited;
            times.chunks.push(ChunkTiming { records, seconds: started.elapsed().as_secs_f64() });
        }
    };
    let results: Vec<Result<RunTimes, Fault>> = std::thread::scope(|scope| {
        let drivers: Vec<_> = (0..drivers_of(work).max(engine.cpu.threads().div_ceil(2)).min(chunks.len()))
            .map(|at| scope.spawn(move || marks.noted(driver(at))))
            .collect();
        let join =
            |driver: std::thread::ScopedJoinHandle<'_, _>| driver.join().unwrap_or_else(|_| Err(panicked("a driver")));
        drivers.into_iter().map(join).collect()
    });
    let mut times = RunTimes::default();
    for result in results {
        times.add(result?);
    }
    Ok(times)
}

fn drivers_of(work: &OrderWork) -> usize {
    let has_big = work.lines.iter().any(|line| line.package_len() as u64 >= hand_on::PACKAGE_OCTETS);
    let binds = work.lines.iter().any(|line| line.binding == Binding::Now);
    match (has_big, binds) {
        (true, _) => DRIVERS_OF_BIG,
        (false, true) => DRIVERS,
        (false, false) => DRIVERS_OF_STORED,
    }
}

/// Whether the drivers have so little to do beside CPU threads and signers: of a small package that is bound a quarter of the work is
/// theirs, of a stored or a big one more than half.
fn keeps_to_some_cores(work: &OrderWork) -> bool {
    work.lines.iter().all(|line| line.binding == Binding::Now && line.package_len() <= SMALL_PACKAGE)
}

fn panicked(who: &str) -> Fault {
    Fault::new(Exit::Bug, format!("{who} panicked"))
}
