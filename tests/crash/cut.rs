//! The cut (tests/cut) as tests use it: one command that dies at a point of its own, or counts them.
#![allow(dead_code)] // each test binary uses a part of it

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is lost; see tests/cut/lib.rs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Stop,
    Power,
    /// With this seed.
    Torn(u64),
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

/// Runs a command that changes files below `root`; the report and what is kept for undoing go into `beside`.
pub(crate) fn cut(mut command: Command, (root, beside): (&Path, &Path), how: How, at: At) -> Told {
    let (report, keep) = (beside.join("points"), beside.join("kept"));
    let _ = fs::remove_file(&report);
    fs::create_dir_all(&keep).unwrap();
    command.env("LD_PRELOAD", library()).env("BINDERY_CUT_ROOT", root).env("BINDERY_CUT_EXCEPT", root.join("token"));
    command.env("BINDERY_CUT_KEEP", &keep).env("BINDERY_CUT_REPORT", &report);
    match how {
        How::Stop => &mut command,
        How::Power => command.env("BINDERY_CUT_HOW", "power"),
        How::Torn(seed) => command.env("BINDERY_CUT_HOW", "torn").env("BINDERY_CUT_SEED", seed.to_string()),
    };
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

fn library() -> PathBuf {
    let profile = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let library = profile.join("examples/libfile_cut.so");
    assert!(library.is_file(), "{}: `cargo build --examples` builds it", library.display());
    library
}
