//! One chunk from device lines to durable packages:
//!
//! ```text
//! draw randomness -> [cpu] personalise, agree, digest -> digests to the lanes
//!                    [cpu] encrypt segments meanwhile -> signatures back -> write, sync -> outcomes for the ledger
//! ```
//!
//! A record that cannot be issued fails alone; a token or disk that fails ends the chunk, of which nothing is kept.

use openssl::error::ErrorStack;
use openssl::sha::sha256;
use zeroize::Zeroizing;

use super::work::{Binding, Engine, LineWork, OrderWork, package_object};
use crate::bind::{Agreement, BindError, Bpp, Draft, OneTimeKey, Parts, Workbench};
use crate::certs;
use crate::error::{ErrorClass, Exit, Fault};
use crate::hsm::{Hsm, HsmError, lanes};
use crate::ids::{Eid, Iccid, MatchingId};
use crate::personalise::{Credentials, Draw, Identity, Upp};
use crate::protect::{self, Ppk, Ppp};
use crate::store::packages::{LocalFiles, Packages};
use crate::store::sealed::{Content, NONCE_LEN};
use crate::store::{Chunk, Device, DevicePk, DeviceState, Issue, Outcome};

/// Random octets that a record takes beyond those of its credentials: matching id, transactionId, otSK.DP or PPK with its
/// nonce, nonce of the sealed credentials.
const EXTRA_DRAW_LEN: usize = 20 + 16 + 48 + 2 * NONCE_LEN;

/// Records whose K and OPc go to the token in one call: 16 KiB of blocks.
const CORE_RECORDS_PER_CALL: usize = 256;

/// What a chunk did.
pub(super) struct ChunkResult {
    /// One for each device that was still to do.
    pub(super) outcomes: Vec<(DevicePk, Outcome)>,
}

/// A record on its way: personalised and agreed, not yet sealed.
struct Started {
    device: DevicePk,
    iccid: Iccid,
    upp: Upp,
    upp_sha256: [u8; 32],
    metadata_sha256: [u8; 32],
    matching_id: MatchingId,
    credentials: Credentials,
    credentials_nonce: [u8; NONCE_LEN],
    goal: Goal,
}

/// Where the record goes.
enum Goal {
    /// A bound package, complete but for segments and signature.
    Bound { draft: Draft, transaction_id: [u8; 16] },
    /// A stored PPP under its own keys.
    Stored { ppk: Ppk, nonce: [u8; NONCE_LEN] },
}

/// A record whose octets are final.
struct Finished {
    device: DevicePk,
    package: Package,
    issue: Issue,
}

enum Package {
    Bpp(Bpp),
    Ppp(Ppp),
}

impl Package {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bpp(bpp) => bpp.as_bytes(),
            Self::Ppp(ppp) => ppp.as_bytes(),
        }
    }
}
