//! The secrets of a batch among each other: none is blank, none is the template's, none stands in two records.
//!
//! In: the credentials of each record. Out: a failed record, or a fault that ends the chunk before anything of it was issued: a
//! secret that comes twice means that randomness repeats itself, and then no other record of the batch can be trusted either.
//! Only fingerprints are kept, under a key that is drawn for this run and wiped with it: two of 8 octets for each record, in a
//! file without a name; memory holds two octets of each.
//!
//! Within a chunk every key is compared on its own. Across chunks K is, and of the other secrets the one with the smallest
//! fingerprint stands for all of them: what repeats is a stretch of randomness, never one key out of it. PINs are few digits and
//! equal by chance; PUKs and ADM codes are compared together, eight digits alone meet by chance in some ten thousand records.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::sha::Sha256;
use zeroize::Zeroizing;

use crate::error::{Exit, Fault};
use crate::ids::RecordId;
use crate::personalise::Credentials;
use crate::personalise::audit::Found;
use crate::personalise::credentials::Secret;
use crate::store::seen::Seen;

/// 64 bits of a keyed hash of a secret.
pub(super) type Print = u64;

/// What the batch has seen so far.
pub(super) struct Distinct {
    key: Zeroizing<[u8; 32]>,
    seen: Mutex<Seen<PRINT_LEN>>,
    /// K and OPc of imported credentials, each on its own.
    imported: Mutex<Seen<PRINT_LEN>>,
}

const PRINT_LEN: usize = size_of::<Print>();
/// What stays known of a record.
const PRINTS_A_RECORD: u64 = 2;

/// The fingerprints of one record.
pub(super) struct Prints {
    k: Print,
    opc: Print,
    others: Vec<Print>,
}

/// Why a record's secrets are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSecret {
    /// All octets are zero.
    #[error("{0} is all zero")]
    Blank(String),
    /// The template's own value.
    #[error("{0} is the value that stands in the template")]
    OfTemplate(String),
}

impl Distinct {
    /// With the key of this run; for about so many records, of which so many bring credentials of their own.
    pub(super) fn new(key: Zeroizing<[u8; 32]>, records: u64, imported: u64) -> Self {
        let sized = |records| Mutex::new(Seen::for_about(PRINTS_A_RECORD * records));
        Self { key, seen: sized(records), imported: sized(imported) }
    }

    /// Fingerprints of the secrets that stand in a template.
    pub(super) fn of_template(&self, found: &Found) -> HashSet<Print> {
        let Found { akas, cdmas, pins, puks, ota_keys, .. } = found;
        let aka = akas.iter().flat_map(|aka| [&aka.k, &aka.opc]);
        let cdma = cdmas.iter().flat_map(|cdma| std::iter::once(&cdma.a_key).chain(&cdma.ssd));
        let adms = pins.iter().filter(|code| is_adm(code.reference)).map(|code| &code.value);
        let codes = puks.iter().map(|code| &code.value).chain(adms);
        let keys = ota_keys.iter().map(|key| &key.value);
        aka.chain(cdma).chain(codes).chain(keys).map(|value| self.print(&[value])).collect()
    }

    /// The record's fingerprints, once each secret is found to be one. `template`: those of [`Self::of_template`].
    pub(super) fn prints(&self, credentials: &Credentials, template: &HashSet<Print>) -> Result<Prints, BadSecret> {
        let mut prints = Prints { k: 0, opc: 0, others: Vec::new() };
        let mut codes: Vec<&[u8]> = Vec::new();
        for (secret, value) in credentials.each() {
            // Six digits and less repeat by chance.
            if matches!(secret, Secret::Pin1 | Secret::Pin2 | Secret::Spc) {
                continue;
            }
            if value.iter().fold(0, |any, octet| any | octet) == 0 {
                return Err(BadSecret::Blank(name(secret)));
            }
            if matches!(secret, Secret::Puk1 | Secret::Puk2 | Secret::Adm(_)) {
                codes.push(value);
                continue;
            }
            let print = self.print(&[value]);
            if template.contains(&print) {
                return Err(BadSecret::OfTemplate(name(secret)));
            }
            match secret {
                Secret::K => prints.k = print,
                Secret::Opc => {
                    prints.opc = print;
                    prints.others.push(print);
                }
                _ => prints.others.push(print),
            }
        }
        if codes.len() > 1 {
            if codes.iter().all(|code| template.contains(&self.print(&[code]))) {
                return Err(BadSecret::OfTemplate("every PUK and ADM code".to_owned()));
            }
            prints.others.push(self.print(&codes));
        }
        Ok(prints)
    }

    /// All records are entered: what was kept to compare them goes, some megabytes of a million records.
    pub(super) fn finish(&self) {
        for seen in [&self.seen, &self.imported] {
            *lock(seen) = Seen::for_about(0);
        }
    }

    /// Of each imported record, whether neither its K nor its OPc stood in one before. An operator that sends one key twice has made
    /// a mistake with these two subscribers; it says nothing about the others.
    pub(super) fn are_new_imports<'p>(
        &self,
        records: impl IntoIterator<Item = &'p Prints>,
    ) -> Result<Vec<bool>, Fault> {
        let prints = records.into_iter().flat_map(|prints| [prints.k, prints.opc].map(Print::to_be_bytes));
        let prints: Vec<_> = prints.collect();
        let is_new = lock(&self.imported).add_all(&prints).map_err(|e| not_kept(&e))?;
        Ok(is_new.chunks(2).map(|both| both.iter().all(|new| *new)).collect())
    }

    /// Enters the records of one chunk. A fault when two of them, or one and an earlier chunk's, share a secret.
    pub(super) fn enter(&self, records: &[(RecordId, &Prints)]) -> Result<(), Fault> {
        let each = records.iter().flat_map(|(record, prints)| prints.each().map(|print| (print, *record)));
        let mut chunk: Vec<(Print, RecordId)> = each.collect();
        chunk.sort_unstable_by_key(|(print, _)| *print);
        if let Some([(_, one), (_, other)]) = chunk.array_windows().find(|[a, b]| a.0 == b.0) {
            return Err(repeated(&match one == other {
                true => format!("{one} got one secret twice"),
                false => format!("{one} and {other} got the same secret"),
            }));
        }
        let (of, prints): (Vec<_>, Vec<_>) = records
            .iter()
            .flat_map(|(record, prints)| prints.of_batch().map(|print| (*record, print.to_be_bytes())))
            .unzip();
        let is_new = lock(&self.seen).add_all(&prints).map_err(|e| not_kept(&e))?;
        match of.iter().zip(is_new).find(|(_, new)| !new) {
            Some((record, _)) => Err(repeated(&format!("{record} got a secret that another record of the order has"))),
            None => Ok(()),
        }
    }

    fn print(&self, parts: &[&[u8]]) -> Print {
        let mut hash = Sha256::new();
        hash.update(&*self.key);
        for part in parts {
            // Four octets: key, length and a secret of 16 are one block of the hash, with eight they were two.
            hash.update(&(part.len() as u32).to_be_bytes());
            hash.update(part);
        }
        let digest = Zeroizing::new(hash.finish());
        digest[..8].iter().fold(0, |print, octet| print << 8 | u64::from(*octet))
    }
}

impl Prints {
    fn each(&self) -> impl Iterator<Item = Print> {
        std::iter::once(self.k).chain(self.others.iter().copied())
    }

    /// What stays known of the record when its chunk is done.
    fn of_batch(&self) -> impl Iterator<Item = Print> {
        std::iter::once(self.k).chain(self.others.iter().copied().min())
    }
}

/// Key references 0A to 0E and 8A to 8E.
fn is_adm(reference: u8) -> bool {
    matches!(reference & 0x7F, 0x0A..=0x0E)
}

fn name(secret: Secret) -> String {
    match secret {
        Secret::Ota(key) => format!("key {:02X} of version {:02X}, domain {}", key.id, key.version, key.domain),
        other => format!("{other:?}"),
    }
}

fn lock(seen: &Mutex<Seen<PRINT_LEN>>) -> MutexGuard<'_, Seen<PRINT_LEN>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_kept(error: &std::io::Error) -> Fault {
    Fault::new(Exit::Stopped, format!("fingerprints of secrets were not kept: {error}")).hint(
        "make room in the directory of temporary files (TMPDIR), then run again: nothing of this chunk was issued",
    )
}

fn repeated(what: &str) -> Fault {
    Fault::new(Exit::HsmUnusable, format!("randomness repeats itself: {what}"))
        .hint("nothing of this chunk was issued; run `bindery doctor`, and issue nothing before the cause is known")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalise::shelf::preset;
    use crate::personalise::{CompiledTemplate, Draw, Identity, Settings, audit};
    use crate::secret::SubscriberKey;

    fn template() -> CompiledTemplate {
        let der = preset("operational").unwrap().unwrap();
        CompiledTemplate::compile(&der, &Settings::default()).unwrap()
    }

    fn octets(template: &CompiledTemplate) -> Vec<u8> {
        let mut octets = vec![0; template.draw_len()];
        openssl::rand::rand_bytes(&mut octets).unwrap();
        octets
    }

    fn distinct() -> Distinct {
        Distinct::new(Zeroizing::new([7; 32]), 10, 10)
    }

    /// Enters one chunk of records made of these random octets.
    fn enter(distinct: &Distinct, template: &CompiledTemplate, draws: &[&[u8]]) -> Result<(), Fault> {
        let prints = |octets: &&[u8]| {
            let credentials = template.credentials(&mut Draw::new(octets), None).unwrap();
            distinct.prints(&credentials, &HashSet::new()).unwrap()
        };
        let prints: Vec<Prints> = draws.iter().map(prints).collect();
        let records: Vec<_> = (1..).map(|row| RecordId { line: 1, row }).zip(&prints).collect();
        distinct.enter(&records)
    }

    #[test]
    fn randomness_that_repeats_itself_ends_the_chunk_whether_within_it_or_after_it() {
        let (template, distinct) = (template(), distinct());
        let [a, b, c] = [(); 3].map(|()| octets(&template));
        enter(&distinct, &template, &[&a, &b]).unwrap();
        let fault = enter(&distinct, &template, &[&c, &a]).unwrap_err();
        assert_eq!(fault.exit, Exit::HsmUnusable);
        assert!(fault.what.contains(&RecordId { line: 1, row: 2 }.to_string()), "{}", fault.what);
        let stuck = enter(&super::tests::distinct(), &template, &[&c, &b, &c]).unwrap_err();
        assert!(stuck.what.contains(&RecordId { line: 1, row: 3 }.to_string()), "{}", stuck.what);
    }

    #[test]
    fn one_key_that_comes_again_is_enough() {
        let (template, distinct) = (template(), distinct());
        let [a, b] = [(); 2].map(|()| octets(&template));
        // Only the last 16 octets of the draws are alike: one key of a security domain.
        let mut tail = b.clone();
        let at = tail.len() - 16;
        tail[at..].copy_from_slice(&a[at..]);
        enter(&distinct, &template, &[&a, &tail]).unwrap_err();
        // The same octets twice within one record.
        let constant = vec![0x5A; template.draw_len()];
        enter(&distinct, &template, &[&constant]).unwrap_err();
    }

    #[test]
    fn a_k_that_another_chunk_had_is_seen_whatever_the_other_secrets_are() {
        let (template, distinct) = (template(), distinct());
        let k = SubscriberKey::copy_of(&[9; 16]).unwrap();
        for (opc, fits) in [([1; 16], true), ([2; 16], false)] {
            let opc = SubscriberKey::copy_of(&opc).unwrap();
            let credentials = template.imported(&mut Draw::new(&octets(&template)), &k, &opc).unwrap();
            let prints = distinct.prints(&credentials, &HashSet::new()).unwrap();
            assert_eq!(distinct.enter(&[(RecordId { line: 1, row: 1 }, &prints)]).is_ok(), fits);
        }
    }

    #[test]
    fn a_blank_secret_and_one_of_the_template_are_no_secrets() {
        let (template, distinct) = (template(), distinct());
        let random = octets(&template);
        let zero = SubscriberKey::copy_of(&[0; 16]).unwrap();
        let credentials = template.imported(&mut Draw::new(&random), &zero, &zero).unwrap();
        assert!(matches!(distinct.prints(&credentials, &HashSet::new()), Err(BadSecret::Blank(_))));
        // A finished profile as the next one's template: its secrets are not to be issued again.
        let credentials = template.credentials(&mut Draw::new(&random), None).unwrap();
        let iccid = "89000123456789012341".parse().unwrap();
        let imsi = "001010123456063".parse().ok();
        let upp = template.personalise(&Identity { iccid, imsi, msisdn: None, vars: &[] }, &credentials).unwrap();
        let of_template = distinct.of_template(&audit::read(upp.expose()).unwrap());
        let refused = distinct.prints(&credentials, &of_template).err();
        assert_eq!(refused.unwrap().to_string(), "K is the value that stands in the template");
        let other = template.credentials(&mut Draw::new(&octets(&template)), None).unwrap();
        assert!(distinct.prints(&other, &of_template).is_ok());
    }
}
