//! `core.csv` row of one device, and the comparison of what the core network gets with what the profile holds.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;

use data_encoding::HEXLOWER_PERMISSIVE;
use openssl::aes::{AesKey, unwrap_key};
use openssl::symm::{Cipher, Mode};
use zeroize::Zeroizing;

use crate::error::{Exit, Fault};
use crate::verify::authentication::{self, Side};
use crate::verify::segment::crypt;
use crate::verify::{Algorithm, Opened};

/// Columns of the file, as [`CoreRow::read`] takes them.
pub(super) const COLUMNS: [&str; 7] = ["iccid", "imsi", "algorithm", "ki_enc", "opc_enc", "transport_key", "scheme"];

/// The file and the places of its sound rows; a row is read again when its package is opened.
#[derive(Default)]
pub(super) struct CoreFile {
    file: Option<File>,
    columns: Vec<usize>,
    /// By record; no row begins at 0, where the names stand.
    rows: Vec<Option<NonZeroU64>>,
}

impl CoreFile {
    /// No rows yet; what is wrong with the file is told by who reads its rows.
    pub(super) fn open(path: &Path, records: usize) -> Self {
        let mut reader = csv::ReaderBuilder::new().from_path(path).ok();
        let header = reader.as_mut().and_then(|reader| reader.headers().ok().cloned()).unwrap_or_default();
        let columns = COLUMNS.iter().filter_map(|column| header.iter().position(|name| name == *column)).collect();
        Self { file: File::open(path).ok(), columns, rows: vec![None; records] }
    }

    pub(super) fn has(&self, record: usize) -> bool {
        self.rows.get(record).is_some_and(Option::is_some)
    }

    pub(super) fn place(&mut self, record: usize, offset: u64) {
        if let Some(row) = self.rows.get_mut(record) {
            *row = NonZeroU64::new(offset);
        }
    }

    /// Records without a row.
    pub(super) fn silent(&self) -> usize {
        self.rows.iter().filter(|row| row.is_none()).count()
    }

    /// The row of a record; none where it has no sound one.
    pub(super) fn row(&self, record: usize) -> Result<Option<CoreRow>, &'static str> {
        let (Some(file), Some(Some(offset))) = (&self.file, self.rows.get(record)) else { return Ok(None) };
        let gone = |_| "the row of core.csv cannot be read again";
        let mut octets = [0; ROW_MAX];
        let read = file.read_at(&mut octets, offset.get()).map_err(|_| "core.csv cannot be read again")?;
        let mut row = csv::StringRecord::new();
        csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(&octets[..read])
            .read_record(&mut row)
            .map_err(gone)?;
        let fields: Vec<_> = self.columns.iter().map(|column| row.get(*column).unwrap_or_default()).collect();
        CoreRow::read(&fields).map(Some)
    }
}

/// A row with two keys of 32 octets and a long name has less.
const ROW_MAX: usize = 1_024;

/// One row, still encrypted.
pub(super) struct CoreRow {
    pub(super) algorithm: String,
    pub(super) ki_enc: Box<[u8]>,
    pub(super) opc_enc: Box<[u8]>,
    pub(super) scheme: Scheme,
}

impl CoreRow {
    /// Of the fields of [`COLUMNS`].
    pub(super) fn read(fields: &[&str]) -> Result<Self, &'static str> {
        let [_, _, algorithm, ki_enc, opc_enc, _, scheme] = fields else { return Err("has other columns") };
        let hex = |text: &str| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().filter(|octets| !octets.is_empty());
        let scheme = Scheme::from_word(scheme).ok_or("the scheme is not aes-ecb or aes-kw")?;
        let (Some(ki_enc), Some(opc_enc)) = (hex(ki_enc), hex(opc_enc)) else { return Err("has no ciphertext in hex") };
        Ok(Self { algorithm: (*algorithm).to_owned(), ki_enc: ki_enc.into(), opc_enc: opc_enc.into(), scheme })
    }
}

/// How single secrets are encrypted.
#[derive(Clone, Copy)]
pub(super) enum Scheme {
    AesEcb,
    AesKw,
}

impl Scheme {
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "aes-ecb" => Some(Self::AesEcb),
            "aes-kw" => Some(Self::AesKw),
            _ => None,
        }
    }
}

/// The core side's copy of the transport key.
pub(super) struct CoreKey(Zeroizing<Vec<u8>>);

impl CoreKey {
    /// 32, 48 or 64 hex digits in a file.
    pub(super) fn read(path: &std::path::Path) -> Result<Self, Fault> {
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| Fault::file(path, &e))?);
        let wrong = || {
            Fault::new(Exit::Config, format!("{}: is not 32, 48 or 64 hex digits", path.display()))
                .hint("name the file with the core side's copy of the transport key: one line of hex")
        };
        let key = data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.trim().as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| wrong())?;
        if matches!(key.len(), 16 | 24 | 32) { Ok(Self(key)) } else { Err(wrong()) }
    }

    fn decrypt(&self, scheme: Scheme, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match scheme {
            Scheme::AesEcb => {
                let cipher = match self.0.len() {
                    16 => Cipher::aes_128_ecb(),
                    24 => Cipher::aes_192_ecb(),
                    _ => Cipher::aes_256_ecb(),
                };
                crypt(cipher, Mode::Decrypt, &self.0, None, wrapped).ok()
            }
            Scheme::AesKw => {
                let mut plain = Zeroizing::new(vec![0; wrapped.len().checked_sub(8)?]);
                let key = AesKey::new_decrypt(&self.0).ok()?;
                let length = unwrap_key(&key, None, &mut plain, wrapped).ok()?;
                (length == plain.len()).then_some(plain)
            }
        }
    }
}

/// The algorithm's word, and with a key K and OPc themselves.
pub(super) fn compare(row: &CoreRow, key: Option<&CoreKey>, opened: &Opened) -> Result<(), &'static str> {
    if row.algorithm != Algorithm::as_str(opened.algorithm) {
        return Err("core.csv names another algorithm than the profile");
    }
    let Some(key) = key else { return Ok(()) };
    let k = key.decrypt(row.scheme, &row.ki_enc).ok_or("ki_enc does not decrypt under the core key")?;
    let opc = key.decrypt(row.scheme, &row.opc_enc).ok_or("opc_enc does not decrypt under the core key")?;
    if !opened.k.same_as(&k) {
        return Err("K of the profile is not the one handed to the core network");
    }
    if !opened.opc.same_as(&opc) {
        return Err("OPc of the profile is not the one handed to the core network");
    }
    Ok(())
}

/// Whether the profile answers the core network that was handed this row. Without a key nobody can tell; the test algorithm
/// authenticates nobody.
pub(super) fn authenticate(row: &CoreRow, key: Option<&CoreKey>, opened: &Opened) -> Result<(), &'static str> {
    let Some(key) = key.filter(|_| opened.algorithm != Algorithm::UsimTest) else { return Ok(()) };
    let known = [Algorithm::Milenage, Algorithm::Tuak].into_iter().find(|known| known.as_str() == row.algorithm);
    let algorithm = known.ok_or("core.csv names no algorithm that authenticates")?;
    let k = key.decrypt(row.scheme, &row.ki_enc).ok_or("ki_enc does not decrypt under the core key")?;
    let opc = key.decrypt(row.scheme, &row.opc_enc).ok_or("opc_enc does not decrypt under the core key")?;
    let core = Side { algorithm, k: &k, opc: &opc };
    let card = Side { algorithm: opened.algorithm, k: opened.k.expose(), opc: opened.opc.expose() };
    opened.constants.iter().try_for_each(|constants| authentication::authenticate(core, card, constants))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXUPPER.decode(text.as_bytes()).unwrap()
    }

    fn key(length: u8) -> CoreKey {
        CoreKey(Zeroizing::new((0..length).collect()))
    }

    #[test]
    fn aes_ecb_decrypts_the_figures_of_fips_197() {
        for (length, wrapped) in [
            (16, "69C4E0D86A7B0430D8CDB78070B4C55A"),
            (24, "DDA97CA4864CDFE06EAF70A0EC0D7191"),
            (32, "8EA2B7CA516745BFEAFC49904B496089"),
        ] {
            let plain = key(length).decrypt(Scheme::AesEcb, &hex(wrapped)).unwrap();
            assert_eq!(*plain, hex("00112233445566778899AABBCCDDEEFF"));
        }
        assert!(key(16).decrypt(Scheme::AesEcb, &[0; 15]).is_none());
    }

    #[test]
    fn aes_kw_unwraps_the_figures_of_rfc_3394() {
        let mut wrapped = hex("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5");
        assert_eq!(*key(16).decrypt(Scheme::AesKw, &wrapped).unwrap(), hex("00112233445566778899AABBCCDDEEFF"));
        wrapped[3] ^= 1;
        assert!(key(16).decrypt(Scheme::AesKw, &wrapped).is_none());
        for length in [0, 7, 8, 9, 15] {
            assert!(key(16).decrypt(Scheme::AesKw, &vec![0; length]).is_none());
        }
    }
}
