//! The cut (tests/cut) as tests use it: one command that dies at a point of its own, or counts them; and all points of a command.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::yard::Yard;

/// What is lost; see tests/cut/lib.rs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Stop,
    Power,
    Torn,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Never,
    Point(usize),
    /// When the process ends by itself.
    End,
}

/// What became of a command.
pub(crate) struct Told {
    /// Exit code; none: it was cut.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    /// Its points, a line each; the last is where it was cut.
    pub(crate) points: Vec<String>,
}

/// `bindery ARGS` on the yard's site, cut.
pub(crate) fn cut(yard: &Yard, args: &[&str], how: How, at: At) -> Told {
    let (report, keep) = (yard.path("points"), yard.path("kept"));
    let _ = fs::remove_file(&report);
    fs::create_dir_all(&keep).unwrap();
    let site = yard.site();
    let mut command = yard.prepared(args);
    command.env("LD_PRELOAD", library()).env("BINDERY_CUT_ROOT", &site).env("BINDERY_CUT_EXCEPT", site.join("token"));
    command.env("BINDERY_CUT_KEEP", &keep).env("BINDERY_CUT_REPORT", &report);
    command.env("BINDERY_CUT_HOW", format!("{how:?}").to_lowercase());
    match at {
        At::Never => &mut command,
        At::Point(number) => command.env("BINDERY_CUT_AT", number.to_string()),
        At::End => command.env("BINDERY_CUT_AT", "end"),
    };
    let output = command.output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    let points: Vec<String> = fs::read_to_string(&report).unwrap_or_default().lines().map(str::to_owned).collect();
    let told = Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr), points };
    assert!(told.points.iter().all(|point| !point.starts_with("broken")), "the journal broke: {:?}", told.points);
    if told.code.is_none() {
        assert_eq!(output.status.signal(), Some(9), "{}", told.err);
    }
    if let At::Point(number) = at {
        assert_eq!(told.code.is_none(), told.points.len() == number, "{number}: {:?} {}", told.points.last(), told.err);
    }
    told
}

/// Every `step`-th point of a command, on a copy of the yard each, and the power cut at its end; `after` is given the yard as the
/// crash left it. Gives the number of points.
pub(crate) fn matrix(base: &Yard, args: &[&str], step: usize, after: &(dyn Fn(&Yard, &Told) + Sync)) -> usize {
    let counted = cut(&base.copy(), args, How::Power, At::Never);
    let points = counted.points.len();
    assert!(points > 5, "{points} points: {}", counted.err);
    let hows = [How::Stop, How::Power, How::Torn];
    // Which n are left out differs from mode to mode.
    let chosen = |at: usize| ((1 + at)..=points).step_by(step).map(At::Point).chain((at > 0).then_some(At::End));
    let cases: Vec<(How, At)> =
        hows.iter().enumerate().flat_map(|(i, how)| chosen(i * step / 3).map(|at| (*how, at))).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |cores| cores.get() + 1) {
            scope.spawn(|| {
                while let Some((how, at)) = cases.get(next.fetch_add(1, SeqCst)) {
                    let yard = base.copy();
                    let mut place = String::new();
                    let checked = catch_unwind(AssertUnwindSafe(|| {
                        let told = cut(&yard, args, *how, *at);
                        place = told.points.last().cloned().unwrap_or_default();
                        after(&yard, &told);
                    }));
                    if checked.is_err() {
                        failures.lock().unwrap().push(format!("{how:?} {at:?} (last point: {place})"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{args:?}: {} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    println!("{args:?}: {points} points, {} cases", cases.len());
    points
}

pub(crate) fn library() -> PathBuf {
    let profile = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let library = profile.join("examples/libfile_cut.so");
    assert!(library.is_file(), "{}: `cargo build --examples` builds it", library.display());
    library
}
