//! Credentials that come with an order: K and OPc of many records are decrypted in the token in one call, into wiped buffers.
//!
//! In: what the ledger holds, octet for octet as ordered. Out: K and OPc of each record, or why they are none. Rule: the operator's
//! key decrypts single blocks and nothing else (CKM_AES_ECB); chaining and key wrap are made of such calls in `unwrap`, so that no
//! object whose value could be read ever exists in the token.

use jiff::Timestamp;

use super::blocks::BlockKey;
use super::open::open_sealed_op;
use super::prepare::core_target;
use super::sign::ATTEMPTS;
use super::unwrap::{BLOCK, Unfit, chained, unwrapped};
use super::work::Engine;
use crate::config::{CbcIv, ImportKey, ImportScheme, Site};
use crate::error::{ErrorClass, Exit, Fault};
use crate::hsm::policy::KeyPolicy;
use crate::hsm::{FaultClass, Hsm, HsmError, HsmSession, Role};
use crate::order::WrappedForm;
use crate::order::file::{CredentialsFrom, Line};
use crate::secret::SubscriberKey;
use crate::store::Wrapped;
use crate::store::sealed::import_op_aad;

/// Records whose K and OPc go to the token in one call: 16 KiB of blocks with Milenage.
const RECORDS_PER_CALL: usize = 500;
/// With key wrap a value takes a dozen calls: a whole chunk shares them.
const RECORDS_PER_UNWRAPPING: usize = 1_000;

/// The operator's key of a line.
pub(super) struct Import {
    key: BlockKey,
    scheme: ImportScheme,
    iv: CbcIv,
    /// OP or TOP, where the site has it.
    pub(super) op: Option<SubscriberKey>,
}

/// K and OPc of one record.
pub(super) struct Imported {
    pub(super) k: SubscriberKey,
    /// None: derived from K and the operator's OP.
    pub(super) opc: Option<SubscriberKey>,
}

/// Why wrapped values are no credentials. Names no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadImport {
    /// The row brings nothing, although its line says import.
    #[error("the ledger holds no wrapped credentials of this row")]
    Missing,
    /// Not whole blocks, or longer than any key.
    #[error("{0} has a length that its scheme does not have")]
    Length(&'static str),
    /// A key that nobody drew.
    #[error("{0} is all zero when it is decrypted")]
    Blank(&'static str),
    /// RFC 3394's integrity check.
    #[error("{0} does not unwrap: it was damaged, or wrapped under another key")]
    Integrity(&'static str),
    /// The token refuses these values, and the others not.
    #[error("the token refuses to decrypt K and OPc, {ATTEMPTS} attempts")]
    Refused,
}

impl BadImport {
    /// The token's refusal may be the token's fault; everything else is the operator's.
    pub(super) fn class(self) -> ErrorClass {
        match self {
            Self::Refused => ErrorClass::HsmMech,
            Self::Missing | Self::Length(_) | Self::Blank(_) | Self::Integrity(_) => ErrorClass::Input,
        }
    }
}

/// Why a line's credentials cannot be imported: the member of the line, and what is wrong.
pub struct ImportRefusal {
    /// `transport_key`.
    pub member: &'static str,
    /// `unknown-transport-key`, ...
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What the wrapped values of a line look like; none for a line that imports nothing. `k_len`: octets of K in its template.
pub fn wrapped_form(site: &Site, line: &Line, k_len: usize) -> Result<Option<WrappedForm>, ImportRefusal> {
    if line.credentials == CredentialsFrom::Generate {
        return Ok(None);
    }
    let (_, import) = configured(site, line)?;
    Ok(Some(WrappedForm {
        ki_len: import.wrapped_len(k_len),
        opc_len: import.wrapped_len(line.algorithm.opc_len()),
        derives_opc: import.op.is_some(),
    }))
}

/// The entry of `bindery.toml` that a line means: the one it names, else that of its core target's transport key.
fn configured<'s>(site: &'s Site, line: &Line) -> Result<(String, &'s ImportKey), ImportRefusal> {
    let refusal = |code, message: String, hint: String| ImportRefusal { member: "transport_key", code, message, hint };
    let default = || core_target(site, line).map(|target| target.transport_key.clone());
    let Some(name) = line.transport_key.clone().or_else(default) else {
        let message = "is missing: K and OPc come under some operator's key".to_owned();
        return Err(refusal("missing-member", message, "name the operator's key, as in [import.NAME]".to_owned()));
    };
    let import = site.config.import.get(&name).ok_or_else(|| {
        let known: Vec<&str> = site.config.import.keys().map(String::as_str).collect();
        let hint = match known.is_empty() {
            true => "set the operator's key up in bindery.toml: [import.NAME]".to_owned(),
            false => format!("known: {}", known.join(", ")),
        };
        refusal("unknown-transport-key", "is no key under which this site takes credentials".to_owned(), hint)
    })?;
    let role = Role::Operator(import.key.clone());
    let policy = KeyPolicy::load(&site.path(&site.config.hsm.policy));
    if !policy.is_ok_and(|policy| policy.rule(&role).is_some()) {
        let message = format!("[import.{name}]: the key policy has no key of role {role}");
        let hint = "import the operator's key in a ceremony, then name it in the key policy".to_owned();
        return Err(refusal("unknown-transport-key", message, hint));
    }
    if import.iv.is_some() && import.scheme != ImportScheme::AesCbc {
        let message = format!("[import.{name}]: iv belongs to the scheme aes-cbc");
        return Err(refusal("import-key", message, "take iv out of bindery.toml".to_owned()));
    }
    Ok((name, import))
}

impl Import {
    /// The key of a line in the token, its check value compared, the operator's OP opened; none where credentials are generated.
    /// The key is the one that was active when the order was accepted: what the operator encrypted, it encrypted before.
    pub(super) fn of<H: Hsm>(
        engine: &Engine<'_, H>,
        line: &Line,
        accepted_at: Timestamp,
    ) -> Result<Option<Self>, Fault> {
        if line.credentials == CredentialsFrom::Generate {
            return Ok(None);
        }
        let (name, import) = configured(engine.site, line).map_err(|refusal| {
            let what = format!("line {}: {}: {}", line.line, refusal.member, refusal.message);
            Fault::new(Exit::Config, what).hint(refusal.hint)
        })?;
        let role = Role::Operator(import.key.clone());
        let key = engine.hsm.key_at(&role, accepted_at)?;
        let mut session = engine.hsm.open_session()?;
        // `kcv` is that of the active key; an older one was compared while it was the active one.
        if let Some(kcv) = import.kcv.as_ref().filter(|_| engine.hsm.key(&role).is_ok_and(|active| active == key)) {
            let hint = "compare the operator's key letter with the key ceremony's transcript; nothing was decrypted";
            match session.check_value(key)? {
                Some(told) if kcv.agrees_with(&told) => {}
                Some(_) => {
                    let what = format!("[import.{name}]: the key in the token has another check value than {kcv}");
                    return Err(Fault::new(Exit::HsmUnusable, what).hint(hint));
                }
                None => {
                    let what = format!("[import.{name}]: the token does not tell the check value that kcv asks for");
                    return Err(Fault::new(Exit::Config, what).hint("compare it in the ceremony and take kcv out"));
                }
            }
        }
        let op = import.op.as_ref().map(|file| {
            let (path, aad) = (engine.site.path(file), import_op_aad(&name));
            open_sealed_op(&mut session, engine.keys.kek, &path, &aad, line.algorithm.opc_len())
        });
        let iv = import.iv.unwrap_or(CbcIv::Fixed([0; BLOCK]));
        let key = BlockKey::decrypting(&mut session, key)?;
        Ok(Some(Self { key, scheme: import.scheme, iv, op: op.transpose()? }))
    }

    /// K and OPc of these records, in their order. An error of the token ends the chunk, a bad value its record alone.
    pub(super) fn decrypt(
        &self,
        session: &mut impl HsmSession,
        records: &[Option<&Wrapped>],
    ) -> Result<Vec<Result<Imported, BadImport>>, HsmError> {
        let mut decrypted = Vec::with_capacity(records.len());
        let per_call = if self.scheme == ImportScheme::AesKw { RECORDS_PER_UNWRAPPING } else { RECORDS_PER_CALL };
        for group in records.chunks(per_call) {
            match self.decrypt_together(session, group) {
                // One record's data spoils the call of all.
                Err(error) if error.class == FaultClass::Data => {
                    for record in group {
                        decrypted.push(self.decrypt_alone(session, *record)?);
                    }
                }
                together => decrypted.append(&mut together?),
            }
        }
        Ok(decrypted)
    }

    /// One record that its group could not be decrypted with; every attempt is made where it was not refused before.
    fn decrypt_alone(
        &self,
        session: &mut impl HsmSession,
        record: Option<&Wrapped>,
    ) -> Result<Result<Imported, BadImport>, HsmError> {
        session.anywhere();
        let mut outcome = Ok(Err(BadImport::Refused));
        for _ in 0..ATTEMPTS {
            match self.decrypt_together(session, &[record]) {
                Err(error) if error.class == FaultClass::Data => {
                    tracing::debug!("{error}");
                    session.elsewhere();
                }
                alone => {
                    outcome = alone.map(|mut alone| alone.pop().unwrap_or(Err(BadImport::Missing)));
                    break;
                }
            }
        }
        session.anywhere();
        outcome
    }

    fn decrypt_together(
        &self,
        session: &mut impl HsmSession,
        group: &[Option<&Wrapped>],
    ) -> Result<Vec<Result<Imported, BadImport>>, HsmError> {
        let values = group.iter().flatten().flat_map(|wrapped| std::iter::once(&wrapped.ki).chain(&wrapped.opc));
        let values: Vec<&[u8]> = values.map(Vec::as_slice).collect();
        let mut plain = match self.scheme {
            ImportScheme::AesEcb => chained(session, &self.key, &values, None)?,
            ImportScheme::AesCbc => chained(session, &self.key, &values, Some(self.iv))?,
            ImportScheme::AesKw => unwrapped(session, &self.key, &values)?,
        }
        .into_iter();
        let mut next = |what: &'static str| {
            match plain.next().unwrap_or(Err(Unfit::Length)) {
                // Told here as the operator's: blank keys of our own mean that our randomness is none.
                Ok(key) if key.expose().iter().fold(0, |any, octet| any | octet) == 0 => Err(BadImport::Blank(what)),
                Ok(key) => Ok(key),
                Err(Unfit::Length) => Err(BadImport::Length(what)),
                Err(Unfit::Integrity) => Err(BadImport::Integrity(what)),
            }
        };
        let one = |wrapped: &Option<&Wrapped>| {
            let wrapped = wrapped.ok_or(BadImport::Missing)?;
            let (k, opc) = (next("ki_wrapped"), wrapped.opc.as_ref().map(|_| next("opc_wrapped")).transpose());
            Ok(Imported { k: k?, opc: opc? })
        };
        Ok(group.iter().map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use openssl::symm::{Cipher, Crypter, Mode};
    use zeroize::Zeroizing;

    use super::*;
    use crate::hsm::KeyRef;

    /// A token that holds one AES key and counts its calls.
    #[derive(Default)]
    struct SoftToken {
        key: Vec<u8>,
        calls: usize,
        /// Refuses a call with a data fault, by its number and its blocks.
        refuses: Option<fn(usize, &[u8]) -> bool>,
    }

    fn aes(key: &[u8], mode: Mode, blocks: &[u8]) -> Vec<u8> {
        let cipher = if key.len() == 16 { Cipher::aes_128_ecb() } else { Cipher::aes_256_ecb() };
        let mut crypter = Crypter::new(cipher, mode, key, None).unwrap();
        crypter.pad(false);
        let mut out = vec![0; blocks.len() + BLOCK];
        let written = crypter.update(blocks, &mut out).unwrap();
        out.truncate(written);
        out
    }

    impl HsmSession for SoftToken {
        fn sign(&mut self, _: KeyRef, _: &[u8; 32]) -> Result<[u8; 64], HsmError> {
            unreachable!()
        }
        fn random(&mut self, _: &mut [u8]) -> Result<(), HsmError> {
            unreachable!()
        }
        fn encrypt_blocks(&mut self, _: KeyRef, _: &[u8]) -> Result<Vec<u8>, HsmError> {
            unreachable!()
        }
        fn decrypt_blocks(&mut self, _: KeyRef, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
            self.calls += 1;
            if self.refuses.is_some_and(|refuses| refuses(self.calls, blocks)) {
                let code = "CKR_ENCRYPTED_DATA_INVALID".to_owned();
                return Err(HsmError { what: "C_Decrypt".to_owned(), code, class: FaultClass::Data, hint: "" });
            }
            Ok(Zeroizing::new(aes(&self.key, Mode::Decrypt, blocks)))
        }
        fn check_value(&mut self, _: KeyRef) -> Result<Option<Vec<u8>>, HsmError> {
            unreachable!()
        }
        fn seal(&mut self, _: KeyRef, _: &[u8], _: &[u8]) -> Result<Vec<u8>, HsmError> {
            unreachable!()
        }
        fn open(&mut self, _: KeyRef, _: &[u8], _: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
            unreachable!()
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXUPPER.decode(text.as_bytes()).unwrap()
    }

    fn import(token: &mut SoftToken, scheme: ImportScheme, iv: CbcIv) -> Import {
        let key = BlockKey::decrypting(token, KeyRef::for_tests()).unwrap();
        token.calls = 0;
        Import { key, scheme, iv, op: None }
    }

    const ZERO: CbcIv = CbcIv::Fixed([0; BLOCK]);

    fn one((scheme, iv): (ImportScheme, CbcIv), key: &str, ki: &str) -> Result<Vec<u8>, BadImport> {
        let wrapped = Wrapped { ki: hex(ki), opc: None };
        let mut token = SoftToken { key: hex(key), ..SoftToken::default() };
        let mut all = import(&mut token, scheme, iv).decrypt(&mut token, &[Some(&wrapped)]).unwrap();
        all.remove(0).map(|imported| imported.k.expose().to_vec())
    }

    #[test]
    fn single_blocks_give_the_figures_of_fips_197() {
        let (key, plain) = ("000102030405060708090A0B0C0D0E0F", hex("00112233445566778899AABBCCDDEEFF"));
        let wrapped = "69C4E0D86A7B0430D8CDB78070B4C55A";
        assert_eq!(one((ImportScheme::AesEcb, ZERO), key, wrapped).unwrap(), plain);
        assert_eq!(one((ImportScheme::AesCbc, ZERO), key, wrapped).unwrap(), plain);
    }

    #[test]
    fn chained_blocks_give_the_figures_of_nist_sp_800_38a() {
        // F.2.1, CBC-AES128: the first two blocks.
        let (key, iv) = ("2B7E151628AED2A6ABF7158809CF4F3C", "000102030405060708090A0B0C0D0E0F");
        let wrapped = "7649ABAC8119B246CEE98E9B12E9197D5086CB9B507219EE95DB113A917678B2";
        let plain = hex("6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E51");
        let fixed = CbcIv::Fixed(hex(iv).try_into().unwrap());
        assert_eq!(one((ImportScheme::AesCbc, fixed), key, wrapped).unwrap(), plain);
        let prefixed = format!("{iv}{wrapped}");
        assert_eq!(one((ImportScheme::AesCbc, CbcIv::Prefix), key, &prefixed).unwrap(), plain);
        assert_ne!(one((ImportScheme::AesCbc, ZERO), key, wrapped).unwrap(), plain);
    }

    #[test]
    fn key_wrap_gives_the_figures_of_rfc_3394_and_sees_every_changed_bit() {
        let kw = (ImportScheme::AesKw, ZERO);
        let k128 = "000102030405060708090A0B0C0D0E0F";
        let k256 = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
        let sixteen = "00112233445566778899AABBCCDDEEFF";
        let thirty_two = "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F";
        for (key, wrapped, plain) in [
            (k128, "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5", sixteen),
            (k256, "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7", sixteen),
            (k256, "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21", thirty_two),
        ] {
            assert_eq!(one(kw, key, wrapped).unwrap(), hex(plain));
            for bit in 0..4 * wrapped.len() {
                let mut changed = hex(wrapped);
                changed[bit / 8] ^= 1 << (bit % 8);
                let told = one(kw, key, &data_encoding::HEXUPPER.encode(&changed));
                assert_eq!(told, Err(BadImport::Integrity("ki_wrapped")), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_value_without_form_fails_its_record_and_no_other() {
        let good = Wrapped { ki: vec![7; 16], opc: Some(vec![8; 32]) };
        let short = Wrapped { ki: vec![7; 15], opc: Some(vec![8; 32]) };
        let bad_opc = Wrapped { ki: vec![9; 16], opc: Some(vec![8; 48]) };
        let mut token = SoftToken { key: vec![1; 32], ..SoftToken::default() };
        let rows = [Some(&good), Some(&short), None, Some(&bad_opc), Some(&good)];
        let made = import(&mut token, ImportScheme::AesEcb, ZERO).decrypt(&mut token, &rows).unwrap();
        let told: Vec<_> = made.iter().map(|made| made.as_ref().err().copied()).collect();
        let length = |what| Some(BadImport::Length(what));
        assert_eq!(told, [None, length("ki_wrapped"), Some(BadImport::Missing), length("opc_wrapped"), None]);
        for made in [&made[0], &made[4]] {
            let Ok(Imported { k, opc: Some(opc) }) = made else { panic!("a good row") };
            assert_eq!(aes(&token.key, Mode::Encrypt, k.expose()), good.ki);
            assert_eq!(aes(&token.key, Mode::Encrypt, opc.expose()), *good.opc.as_ref().unwrap());
        }
        assert_eq!(token.calls, 2, "asked twice");
    }

    #[test]
    fn a_blank_key_is_its_own_rows_fault_whatever_it_was_wrapped_with() {
        let (key, iv) = (vec![3; 32], [9; BLOCK]);
        let kw = |secret: &[u8]| {
            let mut out = vec![0; secret.len() + 8];
            openssl::aes::wrap_key(&openssl::aes::AesKey::new_encrypt(&key).unwrap(), None, &mut out, secret).unwrap();
            out
        };
        for (scheme, k_of) in [
            (ImportScheme::AesEcb, aes(&key, Mode::Encrypt, &[0; 32])),
            // One block of CBC: what is encrypted is the plaintext XORed with the vector.
            (ImportScheme::AesCbc, aes(&key, Mode::Encrypt, &iv)),
            (ImportScheme::AesKw, kw(&[0; 32])),
        ] {
            let good = if scheme == ImportScheme::AesKw { kw(&[5; 16]) } else { vec![5; 16] };
            let rows = [(&good, Some(&good)), (&k_of, Some(&good)), (&good, Some(&k_of)), (&k_of, None), (&good, None)]
                .map(|(ki, opc)| Wrapped { ki: ki.clone(), opc: opc.cloned() });
            let mut token = SoftToken { key: key.clone(), ..SoftToken::default() };
            let made =
                import(&mut token, scheme, CbcIv::Fixed(iv)).decrypt(&mut token, &rows.each_ref().map(Some)).unwrap();
            let told: Vec<_> = made.iter().map(|made| made.as_ref().err().copied()).collect();
            let blank = |what| Some(BadImport::Blank(what));
            let expected = [None, blank("ki_wrapped"), blank("opc_wrapped"), blank("ki_wrapped"), None];
            assert_eq!(told, expected, "{scheme:?}");
        }
    }

    #[test]
    fn values_that_the_token_refuses_fail_their_record_alone_after_three_attempts_and_a_passing_refusal_fails_none() {
        let row = |octet| Wrapped { ki: vec![octet; 16], opc: Some(vec![8; 16]) };
        let rows = [row(1), row(2), row(3)];
        let rows = rows.each_ref().map(Some);
        let mut token = SoftToken { key: vec![1; 32], ..SoftToken::default() };
        let ecb = import(&mut token, ImportScheme::AesEcb, ZERO);
        token.refuses = Some(|_, blocks| blocks.chunks(BLOCK).any(|block| block == [2; 16]));
        let made = ecb.decrypt(&mut token, &rows).unwrap();
        let told: Vec<_> = made.iter().map(|made| made.as_ref().err().copied()).collect();
        assert_eq!(told, [None, Some(BadImport::Refused), None]);
        assert_eq!(told[1].unwrap().class(), ErrorClass::HsmMech);
        assert_eq!(aes(&token.key, Mode::Encrypt, made[2].as_ref().unwrap().k.expose()), [3; 16]);
        assert_eq!(token.calls, 1 + 2 + ATTEMPTS + 2, "all together, then each alone, the sound ones asked twice");
        token.calls = 0;
        token.refuses = Some(|call, _| call <= 3); // together, then twice the first row
        assert!(ecb.decrypt(&mut token, &rows).unwrap().iter().all(Result::is_ok));
        assert_eq!(token.calls, 3 + 3 * 2);
    }

    #[test]
    fn a_thousand_records_are_two_questions_and_with_key_wrap_twelve() {
        for (scheme, octets, calls) in
            [(ImportScheme::AesEcb, 16, 2), (ImportScheme::AesCbc, 16, 2), (ImportScheme::AesKw, 24, 12)]
        {
            let wrapped = Wrapped { ki: vec![7; octets], opc: Some(vec![8; octets]) };
            let mut token = SoftToken { key: vec![1; 32], ..SoftToken::default() };
            import(&mut token, scheme, ZERO).decrypt(&mut token, &vec![Some(&wrapped); 1_000]).unwrap();
            assert_eq!(token.calls, 2 * calls, "{scheme:?}: each is asked twice");
        }
    }
}
