//! A software eUICC: opens one Bound Profile Package with its one-time secret, as a card would, and tells what it found.

use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use zeroize::Zeroizing;

use super::agreement::POINT_LEN;
use super::authentication::Constants;
use super::chain::DpTrust;
use super::finding::{Check, Finding};
use super::metadata::{self, ProfileClass};
use super::package::Layout;
use super::saip::{self, Algorithm, Values};
use crate::ids::{Eid, Iccid, Imsi};
use crate::secret::{Enc, Key, SubscriberKey};

/// One eUICC with the private half of one one-time key.
pub struct Euicc {
    eid: Eid,
    otsk: PKey<Private>,
    otpk: [u8; POINT_LEN],
    /// Of both, and of whoever may sign for this eUICC.
    curve: Nid,
}

/// What an eUICC found in a package that is right in every respect it can judge alone.
pub struct Opened {
    /// ICCID, the same in metadata, header and EF.
    pub iccid: Iccid,
    /// IMSI of every USIM.
    pub imsis: Vec<Imsi>,
    /// profileClass of the metadata.
    pub class: ProfileClass,
    /// SHA-256 of the plain UPP.
    pub upp_sha256: [u8; 32],
    /// SHA-256 of the whole BF25.
    pub metadata_sha256: [u8; 32],
    /// transactionId of InitialiseSecureChannel.
    pub transaction_id: Vec<u8>,
    /// otPK.DP.
    pub otpk_dp: [u8; POINT_LEN],
    /// Encryption key of the profile segments: session key or PPK.
    pub profile_key: Key<Enc>,
    /// The profile came under a PPK (ReplaceSessionKeys).
    pub keys_replaced: bool,
    /// Algorithm of every AKA element.
    pub algorithm: Algorithm,
    /// K.
    pub k: SubscriberKey,
    /// OPc or TOPc.
    pub opc: SubscriberKey,
    /// Milenage's constants, those of every AKA element, each once.
    pub(super) constants: Vec<Constants>,
    /// Secret keys of the security domains.
    pub ota_keys: Vec<Zeroizing<Vec<u8>>>,
    /// Places of the variables that an order may give.
    pub(super) values: Values,
}

impl Euicc {
    /// From the EID and the one-time key pair, which must belong together and lie on a 256-bit curve that SGP.22 names.
    pub fn new(eid: Eid, otsk: PKey<Private>, otpk: [u8; POINT_LEN]) -> Result<Self, String> {
        let key = otsk.ec_key().map_err(|_| "the one-time secret is not an EC key")?;
        let curve = key.group().curve_name();
        let curve = curve.filter(|curve| [Nid::X9_62_PRIME256V1, Nid::BRAINPOOL_P256R1].contains(curve));
        let curve = curve.ok_or("the one-time secret is on another curve than P-256 or brainpoolP256r1")?;
        let own =
            super::chain::public_point(&key).map_err(|e| format!("the one-time secret has no public point: {e}"))?;
        if own[..] != otpk[..] {
            return Err("the one-time secret does not fit the public one-time key".into());
        }
        Ok(Self { eid, otsk, otpk, curve })
    }

    /// Opens a package; `ordered_acc` holds values of EF.ACC that the order gave. Every finding that can still be made is made.
    pub fn open(&self, bpp: &[u8], trust: &DpTrust, ordered_acc: &[u16]) -> Result<Opened, Vec<Finding>> {
        let layout = Layout::read(bpp).map_err(|finding| vec![finding])?;
        let mut findings: Vec<_> =
            layout.check_signature((&self.otpk, self.curve), trust.dppb()).err().into_iter().collect();
        let unsealed = layout.agree(&self.otsk).and_then(|z| layout.unseal(&z, &self.eid));
        let unsealed = match unsealed {
            Ok(unsealed) => unsealed,
            Err(finding) => {
                findings.push(finding);
                return Err(findings);
            }
        };
        let metadata = metadata::read(&unsealed.metadata).map_err(|finding| findings.push(finding));
        let profile = saip::read(&unsealed.upp, ordered_acc).map_err(|more| findings.extend(more));
        let (Ok(metadata), Ok(profile)) = (metadata, profile) else { return Err(findings) };
        if metadata.iccid != profile.iccid {
            findings.push(Finding::new(Check::UppIccid, "ICCID of the metadata is not the one of the profile"));
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        Ok(Opened {
            iccid: profile.iccid,
            imsis: profile.imsis,
            class: metadata.class,
            upp_sha256: sha256(&unsealed.upp),
            metadata_sha256: sha256(&unsealed.metadata),
            transaction_id: unsealed.transaction_id,
            otpk_dp: unsealed.otpk_dp,
            profile_key: unsealed.profile_key,
            keys_replaced: unsealed.keys_replaced,
            algorithm: profile.algorithm,
            k: profile.k,
            opc: profile.opc,
            constants: profile.constants,
            ota_keys: profile.ota_keys,
            values: profile.values,
        })
    }
}
