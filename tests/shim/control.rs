//! The control file: JSON, named by BINDERY_SHIM_CONTROL, replaced as a whole (write beside it, rename). A change is seen within
//! two milliseconds, also while calls run. Shared with the tests, whose typed faults are these types.
//!
//! ```json
//! {"slots": [{"label": "hsm-a", "serial": "A1", "of": "bindery-demo"}],
//!  "rules": [{"id": 1, "token": "hsm-a", "functions": ["C_Sign"], "effect": {"round_trip": {"us": 500}}},
//!            {"id": 2, "token": "hsm-a", "functions": ["C_Sign"], "effect": {"engines": {"count": 4, "service_us": 200}}},
//!            {"id": 3, "functions": ["C_SignInit"], "calls": [10, 12], "effect": {"answer": {"code": 48}}}]}
//! ```
//!
//! Rules 1 and 2 are a network HSM. A caller that asks for the length of a signature first calls C_Sign twice and waits twice: for
//! one round trip a signature, name C_SignInit. Codes are numbers: 48 is CKR_DEVICE_ERROR.

use serde::{Deserialize, Serialize};

/// The whole file. Without a file, or with an empty one, the shim passes everything through and counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Control {
    /// Tokens to show instead of the module's own, read at C_Initialize. Several may be faces `of` one token: that is how two
    /// HSMs with the same keys are played. Empty: the module's slots as they are.
    pub(crate) slots: Vec<Face>,
    /// What goes wrong.
    pub(crate) rules: Vec<Rule>,
}

/// One token as shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Face {
    /// Label in C_GetTokenInfo, and the name in rules and counts.
    pub(crate) label: String,
    /// Serial number in C_GetTokenInfo.
    pub(crate) serial: String,
    /// Label of the module's token behind it.
    pub(crate) of: String,
}

/// One fault: where, when, what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// A rule that stays in the file keeps its id and with it its counters; a new id starts anew.
    pub(crate) id: u64,
    /// Only for the token of this label; without, for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Only for these; empty: for every call that names a slot or a session. C_Initialize, C_Finalize and C_GetSlotList must be named.
    #[serde(default)]
    pub(crate) functions: Vec<String>,
    /// The first and last matching call it strikes, counted from 1 in each process; without, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calls: Option<(u64, u64)>,
    /// Of those, this share, by a fixed pseudo-random sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probability: Option<f64>,
    /// Ends by itself at this time (milliseconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until_unix_ms: Option<u64>,
    /// What happens.
    pub(crate) effect: Effect,
}

/// What happens to a call that a rule strikes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Effect {
    /// This CKR code comes back. `after`: the module did the work and its answer was lost; otherwise it never saw the call.
    Answer {
        code: u64,
        #[serde(default)]
        after: bool,
    },
    /// The call takes at least this long.
    RoundTrip { us: u64 },
    /// The token has `count` engines which take `service_us` for a call each; calls queue before them.
    Engines { count: usize, service_us: u64 },
    /// The call does not come back until the rule is gone (or its time is over); then it goes on as if nothing had been.
    Hang,
    /// The token is gone: not in the slot list, `code` for every call, all handles stale for ever. `reinitialise`: it is seen
    /// again only after the rule ended *and* the process called C_Finalize and C_Initialize, as clients of network HSMs need.
    /// `listed`: C_GetSlotList shows it all the same.
    Vanish {
        code: u64,
        #[serde(default)]
        reinitialise: bool,
        #[serde(default)]
        listed: bool,
    },
    /// The user PIN locks after `after` wrong ones, of which `already` were made by others. Survives the process (counts file).
    PinLock {
        after: u64,
        #[serde(default)]
        already: u64,
    },
    /// Sessions of one process at most: in C_GetTokenInfo, and CKR_SESSION_COUNT beyond.
    SessionLimit { max: u64 },
    /// These mechanisms (numbers) are in no list of the token, and CKR_MECHANISM_INVALID for whoever asks about one.
    HideMechanisms { numbers: Vec<u64> },
}
