//! XOR components: each is one custodian's, read from a place of its own, checked by its own check value, and kept sealed under
//! the site KEK until the last one is there.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::kcv::KcvMethod;
use crate::config::CheckValue;
use crate::error::{Exit, Fault};
use crate::secret::SecretBytes;

/// A component or the key they make: 16 or 32 octets.
pub type Component = SecretBytes<32>;

/// Hex digits and blanks of a component; a longer text is none.
const MAX_TEXT: usize = 128;

/// What a terminal sends for Ctrl-C.
const CTRL_C: u8 = 3;

/// Where a component comes from; never an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file with the hex digits.
    File(PathBuf),
    /// An open descriptor.
    Descriptor(u32),
    /// Typed at the terminal, without echo.
    Prompt,
}

impl Source {
    /// Reads one component. Without a file, a descriptor or a terminal the ceremony waits (exit 9).
    pub fn read(&self, whose: &str) -> Result<Component, Fault> {
        match self {
            Self::File(path) => {
                let file = File::open(path);
                warn_of_readers(path, file.as_ref());
                read_from(file, &path.display().to_string())
            }
            Self::Descriptor(number) => {
                let path = format!("/dev/fd/{number}");
                read_from(File::open(&path), &path)
            }
            Self::Prompt => prompt(whose),
        }
    }
}

/// Refuses a component whose check value is another: a typing error, or another component.
pub fn check(component: &Component, kcv: &CheckValue, method: KcvMethod, what: &str) -> Result<(), Fault> {
    let block = method.block_of_key(component.expose());
    let block = block.map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL: {e}")))?;
    if kcv.agrees_with(&block) {
        return Ok(());
    }
    let what = format!("{what}: the check value is another than {kcv} ({})", method.as_str());
    Err(Fault::new(Exit::IntegrityFailure, what).hint("read it again; nothing was kept of what was given"))
}

/// All components XORed.
pub fn combine(components: &[Component]) -> Result<Component, Fault> {
    let wrong = |what: &str| Fault::new(Exit::IntegrityFailure, what.to_owned());
    let length = components.first().map_or(0, |first| first.expose().len());
    let mut key = Zeroizing::new([0_u8; 32]);
    for component in components {
        if component.expose().len() != length {
            return Err(wrong("the components have different lengths"));
        }
        key.iter_mut().zip(component.expose()).for_each(|(octet, other)| *octet ^= other);
    }
    for (at, component) in components.iter().enumerate() {
        if components[..at].iter().any(|other| other.same_as(component.expose())) {
            return Err(wrong("two components are one and the same: they cancel each other out"));
        }
        // Then the others cancel each other out, and one hand holds the key.
        if component.same_as(&key[..length]) {
            return Err(wrong("one component is the key itself"));
        }
    }
    Component::copy_of(&key[..length]).ok_or_else(|| wrong("the components are longer than 32 octets"))
}

/// A component in a file that others can read is not in one hand.
fn warn_of_readers(path: &Path, file: Result<&File, &std::io::Error>) {
    let mode = file.ok().and_then(|file| file.metadata().ok()).map(|told| told.permissions().mode() & 0o7777);
    if let Some(mode) = mode.filter(|mode| mode & 0o077 != 0) {
        tracing::warn!(file = %path.display(), mode = %format!("{mode:04o}"), "others can read this component: mode 0600 belongs to it");
    }
}

fn read_from(file: std::io::Result<File>, name: &str) -> Result<Component, Fault> {
    let failed = |e: &std::io::Error| Fault::new(Exit::Config, format!("component {name}: {e}"));
    let mut file = file.map_err(|e| failed(&e))?;
    let mut text = Zeroizing::new([0; MAX_TEXT + 1]);
    let mut length = 0;
    while length < text.len() {
        match file.read(&mut text[length..]).map_err(|e| failed(&e))? {
            0 => break,
            read => length += read,
        }
    }
    parse(&text[..length], name)
}

fn prompt(whose: &str) -> Result<Component, Fault> {
    let mut terminal = match File::options().read(true).write(true).open("/dev/tty") {
        Ok(terminal) if std::io::stdin().is_terminal() => terminal,
        _ => {
            return Err(Fault::new(Exit::Stopped, format!("{whose} has to be given now"))
                .hint("run again at a terminal, or with --component-file FILE or --component-fd NUMBER; what is done stays done"));
        }
    };
    let failed = |what: &dyn std::fmt::Display| Fault::new(Exit::Config, format!("terminal: {what}"));
    let shown = tcgetattr(terminal.as_fd()).map_err(|e| failed(&e))?;
    let mut hidden = shown.clone();
    // Ctrl-C must not end the process while the terminal shows nothing: here it ends the line, see below.
    hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
    hidden.control_chars[SpecialCharacterIndices::VEOL as usize] = CTRL_C;
    write!(terminal, "{whose}, hex, not shown: ").map_err(|e| failed(&e))?;
    tcsetattr(terminal.as_fd(), SetArg::TCSAFLUSH, &hidden).map_err(|e| failed(&e))?;
    let mut text = Zeroizing::new([0; MAX_TEXT + 1]);
    let read = terminal.read(&mut text[..]);
    let restored = tcsetattr(terminal.as_fd(), SetArg::TCSAFLUSH, &shown);
    let _ = writeln!(terminal);
    restored.map_err(|e| failed(&e))?;
    let text = &text[..read.map_err(|e| failed(&e))?];
    if text.contains(&CTRL_C) {
        return Err(
            Fault::new(Exit::Stopped, format!("{whose} was not given")).hint("run again; what is done stays done")
        );
    }
    parse(text, whose)
}

/// Hex digits, blanks between them allowed.
fn parse(text: &[u8], name: &str) -> Result<Component, Fault> {
    let wrong = |how: &str| {
        Fault::new(Exit::Config, format!("component {name}: {how}")).hint("a component is 32 or 64 hex digits")
    };
    let mut octets = Zeroizing::new([0_u8; 32]);
    let mut digits = 0;
    for letter in text.iter().filter(|letter| !letter.is_ascii_whitespace()) {
        let value = char::from(*letter).to_digit(16).ok_or_else(|| wrong("holds something that is no hex digit"))?;
        let slot = octets.get_mut(digits / 2).ok_or_else(|| wrong("is too long"))?;
        *slot = *slot << 4 | value as u8;
        digits += 1;
    }
    if !matches!(digits, 32 | 64) {
        return Err(wrong("has another length"));
    }
    let component = Component::copy_of(&octets[..digits / 2]).ok_or_else(|| wrong("is too long"))?;
    if component.expose().iter().all(|octet| *octet == 0) {
        return Err(wrong("is all zeros, which splits nothing"));
    }
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn component(octets: &[u8]) -> Component {
        Component::copy_of(octets).unwrap()
    }

    #[test]
    fn components_are_hex_of_16_or_32_octets_and_errors_do_not_show_them() {
        for (text, length) in [("2b7e1516 28aed2a6 abf71588 09cf4f3c\n".to_owned(), 16), ("A5".repeat(32), 32)] {
            assert_eq!(parse(text.as_bytes(), "x").unwrap().expose().len(), length);
        }
        for text in ["", "7777", &"77".repeat(17), &"77".repeat(33), &"7x".repeat(16), &"00".repeat(16)] {
            let fault = parse(text.as_bytes(), "x").unwrap_err();
            assert!(!fault.what.contains("77"), "{}", fault.what);
        }
    }

    #[test]
    fn components_of_different_lengths_or_that_cancel_out_make_no_key() {
        assert!(combine(&[component(&[1; 16]), component(&[2; 32])]).is_err());
        assert!(combine(&[component(&[1; 16]), component(&[1; 16])]).is_err());
        assert_eq!(combine(&[component(&[1; 16]), component(&[2; 16])]).unwrap().expose(), [3; 16]);
        // Of three, two equal ones leave the third as the key, in one hand.
        let [a, c] = [[1; 16], [2; 16]];
        for parts in [[a, a, c], [a, c, a], [c, a, a]] {
            let fault = combine(&parts.map(|part| component(&part))).unwrap_err();
            assert_eq!(fault.exit, Exit::IntegrityFailure);
        }
        assert!(combine(&[component(&a), component(&[0; 16])]).unwrap_err().what.contains("the key itself"));
        assert!(combine(&[component(&a), component(&c), component(&[7; 16])]).is_ok());
    }

    #[test]
    fn a_wrong_check_value_is_refused() {
        let key = component(&data_encoding::HEXLOWER.decode(b"2b7e151628aed2a6abf7158809cf4f3c").unwrap());
        let kcv = |text: &str| CheckValue::try_from(text.to_owned()).unwrap();
        check(&key, &kcv("7df76b"), KcvMethod::AesEcbZeros, "x").unwrap();
        for (text, method) in [("7df76c", KcvMethod::AesEcbZeros), ("7df76b", KcvMethod::AesCmacZeros)] {
            assert_eq!(check(&key, &kcv(text), method, "x").unwrap_err().exit, Exit::IntegrityFailure);
        }
    }

    proptest! {
        #[test]
        fn the_order_of_components_does_not_matter(a in any::<[u8; 32]>(), b in any::<[u8; 32]>(), c in any::<[u8; 32]>()) {
            prop_assume!(a != b && b != c && a != c);
            let one = combine(&[component(&a), component(&b), component(&c)]).unwrap();
            let other = combine(&[component(&c), component(&a), component(&b)]).unwrap();
            prop_assert!(one.same_as(other.expose()));
        }
    }
}
