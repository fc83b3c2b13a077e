//! `mutate`: millions of mutated packages through the gauntlet, with the stable toolchain.
//!
//! Ends with a summary and 0, or with 1 when an input panicked, took longer than a second or held more than 64 MiB. Such inputs
//! stand in the output directory, octets and hex; `--seed` repeats a run, `--input` one file.

mod memory;

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bindery_fuzz::gauntlet::{self, Outcome};
use bindery_fuzz::mutate::mutated;
use bindery_fuzz::random::Random;
use bindery_fuzz::seeds::Seeds;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: memory::Counted = memory::Counted;

/// An input may take this long.
const SLOW: Duration = Duration::from_secs(1);
/// An input that takes this long is written and the run ended: it may never come back.
const HUNG: Duration = Duration::from_secs(20);
/// Octets that an input may hold.
const LARGE: usize = 64 << 20;
/// Failing inputs that are written at most.
const KEPT: usize = 50;

/// Puts mutated profile packages through reader, types, rules, compiler, personalisation and audit.
#[derive(Parser)]
struct Args {
    /// How many packages
    #[arg(long, default_value_t = 1_000_000)]
    packages: u64,
    /// How many threads
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Start of the random numbers; left out: the clock's
    #[arg(long)]
    seed: Option<u64>,
    /// Directory of further packages to mutate
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Where failing inputs are written
    #[arg(long, value_name = "DIR", default_value = "fuzz/artifacts/mutate")]
    out: PathBuf,
    /// Run this one file and nothing else
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Write the presets as a corpus for `cargo fuzz` into DIR/{der,source} and end
    #[arg(long, value_name = "DIR")]
    write_corpus: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> std::io::Result<bool> {
    let seeds = Seeds::load(args.corpus.as_deref())?;
    if let Some(dir) = &args.write_corpus {
        return write_corpus(&seeds, dir).map(|()| true);
    }
    if let Some(path) = &args.input {
        let outcome = gauntlet::run(&std::fs::read(path)?, &mut Random::new(args.seed.unwrap_or(0)));
        println!("{outcome:?}");
        return Ok(true);
    }
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let seed = args.seed.unwrap_or(clock as u64);
    println!("{} packages, {} threads, --seed {seed}", args.packages, args.threads);
    // Panics are caught and counted; their messages would drown the summary.
    panic::set_hook(Box::new(|info| LAST_PANIC.with_borrow_mut(|last| *last = info.to_string())));
    let share = |thread: u64| args.packages / args.threads + u64::from(thread < args.packages % args.threads);
    let workers: Vec<Worker> = (0..args.threads).map(|_| Worker::default()).collect();
    let (started, finished) = (Instant::now(), AtomicBool::new(false));
    let totals: Vec<Totals> = std::thread::scope(|scope| {
        scope.spawn(|| watch(&workers, &finished, started, &args.out, args.packages));
        let threads: Vec<_> = (0..args.threads)
            .zip(&workers)
            .map(|(thread, worker)| {
                // Two streams that never meet: the seed and the thread go through the generator's own mixing.
                let random = Random::new(Random::new(seed.wrapping_add(thread << 32)).bits());
                let seeds = &seeds;
                scope.spawn(move || work(seeds, random, share(thread), worker, &args.out, started))
            })
            .collect();
        let totals = threads.into_iter().map(|thread| thread.join().expect("a worker catches every panic")).collect();
        finished.store(true, Relaxed);
        totals
    });
    let total = totals.into_iter().reduce(Totals::and).unwrap_or_default();
    total.print(started.elapsed(), &args.out);
    Ok(total.failures == 0)
}

std::thread_local! {
    static LAST_PANIC: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// What the watchdog may know of a thread.
#[derive(Default)]
struct Worker {
    done: AtomicU64,
    /// Microseconds from the start of the run to the start of the input in hand, plus one; 0: none.
    since: AtomicU64,
    in_hand: Mutex<Vec<u8>>,
}

#[derive(Default)]
struct Totals {
    packages: u64,
    octets: u64,
    strict: u64,
    decoded: u64,
    unknown: u64,
    clean: u64,
    compiled: u64,
    personalised: u64,
    audited: u64,
    failures: u64,
    took: [Duration; 4],
    slowest: Duration,
    slowest_input: Vec<u8>,
    peak: usize,
}

fn work(seeds: &Seeds, mut random: Random, packages: u64, worker: &Worker, out: &Path, started: Instant) -> Totals {
    let mut totals = Totals::default();
    for _ in 0..packages {
        let der = mutated(seeds, &mut random);
        if let Ok(mut in_hand) = worker.in_hand.lock() {
            in_hand.clear();
            in_hand.extend_from_slice(&der);
        }
        worker.since.store(started.elapsed().as_micros() as u64 + 1, Relaxed);
        memory::begin();
        let begun = Instant::now();
        let run = panic::catch_unwind(AssertUnwindSafe(|| gauntlet::run(&der, &mut random)));
        let (took, peak) = (begun.elapsed(), memory::peak());
        worker.since.store(0, Relaxed);
        worker.done.fetch_add(1, Relaxed);
        totals.count(&der, took, peak);
        match run {
            Ok(outcome) => totals.add(outcome),
            Err(_) => {
                let what = LAST_PANIC.with_borrow(Clone::clone);
                totals.fail("panic", &what, &der, out);
            }
        }
        // The machine may have been elsewhere: a slow input is slow twice.
        if took > SLOW && timed(&der, &mut random) > SLOW {
            totals.fail("slow", &format!("took {took:?}"), &der, out);
        }
        if peak > LARGE {
            totals.fail("large", &format!("held {} MiB", peak >> 20), &der, out);
        }
    }
    totals
}

fn timed(der: &[u8], random: &mut Random) -> Duration {
    let begun = Instant::now();
    let _ = panic::catch_unwind(AssertUnwindSafe(|| gauntlet::run(der, random)));
    begun.elapsed()
}

impl Totals {
    fn count(&mut self, der: &[u8], took: Duration, peak: usize) {
        self.packages += 1;
        self.octets += der.len() as u64;
        if took > self.slowest {
            self.slowest = took;
            self.slowest_input = der.to_vec();
        }
        self.peak = self.peak.max(peak);
    }

    fn add(&mut self, outcome: Outcome) {
        self.strict += u64::from(outcome.strict);
        self.decoded += u64::from(outcome.decoded);
        self.unknown += u64::from(outcome.unknown);
        self.clean += u64::from(outcome.clean);
        self.compiled += u64::from(outcome.compiled);
        self.personalised += u64::from(outcome.personalised);
        self.audited += u64::from(outcome.audited);
        self.took.iter_mut().zip(outcome.took).for_each(|(sum, took)| *sum += took);
    }

    fn and(self, other: Self) -> Self {
        let (slower, faster) = if self.slowest > other.slowest { (&self, &other) } else { (&other, &self) };
        let slowest_input = slower.slowest_input.clone();
        let took = std::array::from_fn(|stage| slower.took[stage] + faster.took[stage]);
        Self {
            took,
            slowest_input,
            packages: self.packages + other.packages,
            octets: self.octets + other.octets,
            strict: self.strict + other.strict,
            decoded: self.decoded + other.decoded,
            unknown: self.unknown + other.unknown,
            clean: self.clean + other.clean,
            compiled: self.compiled + other.compiled,
            personalised: self.personalised + other.personalised,
            audited: self.audited + other.audited,
            failures: self.failures + other.failures,
            slowest: self.slowest.max(other.slowest),
            peak: self.peak.max(other.peak),
        }
    }

    fn fail(&mut self, class: &str, what: &str, der: &[u8], out: &Path) {
        self.failures += 1;
        if self.failures as usize <= KEPT {
            eprintln!("{class}: {what}\n  input in {}", keep(class, der, out));
        }
    }

    fn print(&self, took: Duration, out: &Path) {
        let share = |count: u64| format!("{count} ({:.1} %)", 100.0 * count as f64 / self.packages.max(1) as f64);
        println!("packages      {} of {} octets on average", self.packages, self.octets / self.packages.max(1));
        println!("strict DER    {}", share(self.strict));
        println!("decoded       {}, the same again", share(self.decoded));
        println!("  unknown     {} with members kept", share(self.unknown));
        println!("no lint error {}", share(self.clean));
        println!("compiled      {}", share(self.compiled));
        println!("personalised  {}", share(self.personalised));
        println!("audited       {}", share(self.audited));
        for (stage, took) in gauntlet::STAGES.iter().zip(self.took) {
            println!("{stage:14}{:.1} us a package", took.as_secs_f64() * 1e6 / self.packages.max(1) as f64);
        }
        let slowest = keep("slowest", &self.slowest_input, out);
        println!("slowest       {:.1} ms, {slowest}", self.slowest.as_secs_f64() * 1_000.0);
        println!("peak memory   {:.1} MiB for one input", self.peak as f64 / f64::from(1 << 20));
        println!(
            "time          {:.1} s, {:.0} packages/s",
            took.as_secs_f64(),
            self.packages as f64 / took.as_secs_f64()
        );
        println!("failures      {}", self.failures);
    }
}

/// Writes the input in hand when it does not come back, and ends the run; says every half minute how far it is.
fn watch(workers: &[Worker], finished: &AtomicBool, started: Instant, out: &Path, packages: u64) {
    let mut told = Instant::now();
    while !finished.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        let now = started.elapsed();
        for worker in workers {
            let since = worker.since.load(Relaxed);
            if since > 0 && now > Duration::from_micros(since) + HUNG {
                let in_hand = worker.in_hand.lock().map(|octets| octets.clone()).unwrap_or_default();
                eprintln!("hung: more than {HUNG:?}\n  input in {}", keep("hung", &in_hand, out));
                std::process::exit(1);
            }
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            let done: u64 = workers.iter().map(|worker| worker.done.load(Relaxed)).sum();
            eprintln!("{done} of {packages}, {:.0} a second", done as f64 / now.as_secs_f64());
        }
    }
}

/// Writes an input as octets and as hex; its name follows from its octets.
fn keep(class: &str, der: &[u8], out: &Path) -> String {
    let name = der
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3));
    let path = out.join(format!("{class}-{name:016x}"));
    let written = std::fs::create_dir_all(out)
        .and_then(|()| std::fs::write(path.with_extension("der"), der))
        .and_then(|()| std::fs::write(path.with_extension("hex"), data_encoding::HEXUPPER.encode(der)));
    match written {
        Ok(()) => path.with_extension("der").display().to_string(),
        Err(error) => format!("no file: {error}; {}", data_encoding::HEXUPPER.encode(der)),
    }
}

fn write_corpus(seeds: &Seeds, dir: &Path) -> std::io::Result<()> {
    let (der, source) = (dir.join("der"), dir.join("source"));
    std::fs::create_dir_all(&der)?;
    std::fs::create_dir_all(&source)?;
    for (at, seed) in seeds.iter().enumerate() {
        std::fs::write(der.join(format!("{at:03}.der")), &seed.der)?;
    }
    for (name, text) in bindery::formats::saip::source::PRESETS {
        std::fs::write(source.join(name), text)?;
    }
    Ok(())
}
