//! The user PIN: from a descriptor, a file or the environment, never from an argument; into memory that is wiped.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{FaultClass, HsmError};
use crate::config::{Site, SlotConfig};

/// PKCS#11 tokens take far less; a longer file is not a PIN file.
const MAX_OCTETS: usize = 255;

/// A user PIN, wiped on drop. No Debug: it cannot be printed by accident.
pub struct UserPin(Zeroizing<Vec<u8>>);

impl UserPin {
    /// The second person's, from `BINDERY_APPROVER_PIN_FD` or `BINDERY_APPROVER_PIN_FILE`; never from a file of the site, which
    /// the operator could read as well.
    pub fn of_approver() -> Result<Self, HsmError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let number = variable("BINDERY_APPROVER_PIN_FD").and_then(|fd| fd.to_str()?.parse::<u32>().ok());
        let path = number.map(|number| format!("/dev/fd/{number}").into());
        match path.or_else(|| variable("BINDERY_APPROVER_PIN_FILE")) {
            Some(path) => Self::read(Path::new(&path)),
            None => Err(unreadable("neither BINDERY_APPROVER_PIN_FD nor BINDERY_APPROVER_PIN_FILE is set")),
        }
    }

    /// From `BINDERY_PIN_FD`, `BINDERY_PIN_FILE`, `BINDERY_PIN` or the site's `hsm.pin_file`: the first that is set.
    pub fn of(site: &Site) -> Result<Self, HsmError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(number) = variable("BINDERY_PIN_FD") {
            let number = number.to_str().and_then(|text| text.parse::<u32>().ok());
            let number = number.ok_or_else(|| unreadable("BINDERY_PIN_FD is not a number"))?;
            return Self::read(Path::new(&format!("/dev/fd/{number}")));
        }
        if let Some(path) = variable("BINDERY_PIN_FILE") {
            return Self::read(Path::new(&path));
        }
        if let Ok(value) = std::env::var("BINDERY_PIN").map(Zeroizing::new)
            && !value.is_empty()
        {
            return Self::check(Zeroizing::new(value.as_bytes().to_vec()), "BINDERY_PIN");
        }
        Self::read(&site.path(&site.config.hsm.pin_file))
    }

    /// Of a further token: from its own variable, its own file, or as the first token's.
    pub fn of_slot(site: &Site, slot: &SlotConfig) -> Result<Self, HsmError> {
        match (&slot.pin_env, &slot.pin_file) {
            (Some(name), _) => match std::env::var(name).map(Zeroizing::new) {
                Ok(value) if !value.is_empty() => Self::check(Zeroizing::new(value.as_bytes().to_vec()), name),
                _ => Err(unreadable(&format!("{name} is not set (pin_env of token {:?})", slot.token_label))),
            },
            (None, Some(file)) => Self::read(&site.path(file)),
            (None, None) => Self::of(site),
        }
    }

    /// Whether [`Self::of`], or [`Self::of_slot`], finds the same again: a pipe is empty once it was read.
    pub(in crate::hsm) fn can_be_read_again(site: &Site, slot: Option<&SlotConfig>) -> bool {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let own_file = slot.and_then(|slot| slot.pin_file.as_ref());
        if slot.is_some_and(|slot| slot.pin_env.is_some()) {
            return true;
        }
        if own_file.is_none() && variable("BINDERY_PIN_FD").is_some() {
            return false;
        }
        let named = own_file.is_none().then(|| variable("BINDERY_PIN_FILE")).flatten().map(PathBuf::from);
        let path = named.unwrap_or_else(|| site.path(own_file.unwrap_or(&site.config.hsm.pin_file)));
        (own_file.is_none() && variable("BINDERY_PIN").is_some()) || path.is_file()
    }

    /// The PIN as text, for the login call only.
    pub(in crate::hsm) fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // `check` refused anything else
    }

    fn read(path: &Path) -> Result<Self, HsmError> {
        let failed = |e: &std::io::Error| unreadable(&format!("{}: {e}", path.display()));
        let mut file = File::open(path).map_err(|e| failed(&e))?;
        // Capacity for all that will be read: a growing vector would leave copies behind.
        let mut octets = Zeroizing::new(vec![0; MAX_OCTETS + 2]);
        let mut length = 0;
        while length < octets.len() {
            match file.read(&mut octets[length..]).map_err(|e| failed(&e))? {
                0 => break,
                read => length += read,
            }
        }
        octets.truncate(length);
        Self::check(octets, &path.display().to_string())
    }

    fn check(mut octets: Zeroizing<Vec<u8>>, source: &str) -> Result<Self, HsmError> {
        for end in [b'\n', b'\r'] {
            if octets.last() == Some(&end) {
                octets.pop();
            }
        }
        if octets.is_empty() || octets.len() > MAX_OCTETS || std::str::from_utf8(&octets).is_err() {
            return Err(unreadable(&format!("{source} does not hold a PIN (1 to {MAX_OCTETS} characters of text)")));
        }
        Ok(Self(octets))
    }
}

fn unreadable(what: &str) -> HsmError {
    HsmError {
        what: "no PIN".into(),
        code: what.into(),
        class: FaultClass::Pin,
        hint: "set hsm.pin_file in bindery.toml, or BINDERY_PIN_FILE, BINDERY_PIN or BINDERY_PIN_FD; nothing was sent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(octets: &[u8]) -> Result<UserPin, HsmError> {
        UserPin::check(Zeroizing::new(octets.to_vec()), "the PIN")
    }

    #[test]
    fn one_line_end_is_not_part_of_the_pin() {
        assert_eq!(pin(b"1234\n").unwrap().expose(), "1234");
        assert_eq!(pin(b"1234\r\n").unwrap().expose(), "1234");
        assert_eq!(pin(b"1234\n\n").unwrap().expose(), "1234\n");
        assert_eq!(pin(b" 12 34 ").unwrap().expose(), " 12 34 ");
    }

    #[test]
    fn what_is_no_pin_is_refused_without_being_shown() {
        for wrong in [&b""[..], b"\n", &[b'7'; 300], &[0xFF, 0xFE]] {
            let error = pin(wrong).err().unwrap();
            assert_eq!(error.class, FaultClass::Pin);
            assert!(!error.to_string().contains("777"));
        }
    }

    #[test]
    fn a_file_is_read_whole_and_a_missing_one_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        std::fs::write(&path, "s3cret pin\n").unwrap();
        assert_eq!(UserPin::read(&path).unwrap().expose(), "s3cret pin");
        let error = UserPin::read(&dir.path().join("none")).err().unwrap();
        assert!(error.hint.contains("hsm.pin_file"));
    }
}
