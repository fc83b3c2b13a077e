//! `bindery keys import-op NAME|--own --from FILE`: an operator's OP or TOP, or the site's own, sealed under the site KEK.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER_PERMISSIVE;
use openssl::sha::sha256;
use zeroize::Zeroizing;

use super::chronicle;
use crate::audit::{Event, Word};
use crate::config::{Site, files};
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::Token;
use crate::hsm::{Hsm, HsmSession, Role};
use crate::store::sealed::{OP_AAD, TOP_AAD, import_op_aad};

/// Seal an operator's OP (with TUAK: TOP), or with --own the site's, under the site KEK; OPc then follows from K
#[derive(Debug, clap::Args)]
pub(super) struct ImportOp {
    /// The operator: NAME of [import.NAME] in bindery.toml, whose `op` names the file to write
    #[arg(value_name = "NAME", required_unless_present = "own", conflicts_with = "own")]
    name: Option<String>,
    /// The site's own, for the K it generates: an OP goes to credentials.op_file, a TOP to credentials.top_file
    #[arg(long)]
    own: bool,
    /// File with OP (32 hex digits) or TOP (64); - reads standard input, so that it never lies on a disk
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

/// Hex of a TOP, a line end, and one octet more to see what is too long.
const MOST_OCTETS: usize = 64 + 2 + 1;

impl ImportOp {
    /// Writes the sealed file; one that is there is replaced.
    pub(super) fn run(self, site: &Site, json: bool) -> Result<Exit, Fault> {
        let op = read_op(&self.from)?;
        let what = if op.len() == 16 { "OP" } else { "TOP" };
        let Place { file, aad, whose } = self.place(site, what)?;
        let token = Token::open(site)?;
        let event = Event::new(Word::OpImported).name("import", self.name.as_deref().unwrap_or("own"));
        chronicle::note(site, &event, "begun")?;
        let sealed = token.open_session()?.seal(token.key(&Role::SiteKek)?, &aad, &op)?;
        let path = site.path(&file);
        let before = path.exists();
        files::write_whole(&path, &sealed, 0o600)?;
        chronicle::note(site, &event.sha256("file_sha256", &sha256(&sealed)), "done")?;
        chronicle::sign(site);
        if json {
            let (import, file) = (&self.name, path.display().to_string());
            say!(
                "{}",
                serde_json::json!({ "import": import, "own": self.own, "sealed": what, "file": file, "replaced": before })
            );
        } else {
            say!("{what} of {whose} sealed under the site KEK: {}", path.display());
            if before {
                say!("it takes the place of the one before; profiles made with that keep theirs");
            }
            say!("destroy what it was read from");
        }
        Ok(Exit::Done)
    }

    /// Where OP or TOP belongs by the site's configuration.
    fn place(&self, site: &Site, what: &str) -> Result<Place, Fault> {
        let Some(name) = &self.name else {
            let own = &site.config.credentials;
            let (file, key, aad) = match what {
                "OP" => (&own.op_file, "op_file", OP_AAD),
                _ => (&own.top_file, "top_file", TOP_AAD),
            };
            let file = file.clone().ok_or_else(|| {
                Fault::new(Exit::Config, format!("{what} has no place: [credentials] {key} names no file")).hint(
                    format!(
                        "add `{key} = \"{}.sealed\"` under [credentials] in bindery.toml; that file will be written",
                        what.to_lowercase()
                    ),
                )
            })?;
            return Ok(Place { file, aad: aad.to_vec(), whose: "the site".to_owned() });
        };
        let import = site.config.import.get(name).ok_or_else(|| {
            Fault::new(Exit::Usage, format!("{name}: bindery.toml has no [import.{name}]"))
                .hint("set the operator's key up first, with `op = \"FILE\"`; the site's own constant: --own")
        })?;
        let file = import.op.clone().ok_or_else(|| {
            Fault::new(Exit::Config, format!("[import.{name}]: op names no file"))
                .hint("add `op = \"op-NAME.sealed\"`; that file will be written")
        })?;
        Ok(Place { file, aad: import_op_aad(name), whose: name.clone() })
    }
}

/// Where a sealed constant goes.
struct Place {
    file: PathBuf,
    aad: Vec<u8>,
    whose: String,
}

fn read_op(from: &Path) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // One allocation: what grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MOST_OCTETS));
    let read = |source: &mut dyn Read, text: &mut Vec<u8>| source.take(MOST_OCTETS as u64).read_to_end(text);
    let done = match from.as_os_str() == "-" {
        // The descriptor itself: the standard library's reader would keep a copy in its buffer.
        true => std::io::stdin().as_fd().try_clone_to_owned().and_then(|fd| read(&mut File::from(fd), &mut text)),
        false => File::open(from).and_then(|mut file| read(&mut file, &mut text)),
    };
    done.map_err(|e| Fault::file(from, &e).hint("name the file with OP, or - for standard input"))?;
    let wrong = || {
        Fault::new(Exit::Usage, format!("{}: is neither 32 nor 64 hex digits", from.display()))
            .hint("OP has 16 octets, TOP has 32")
    };
    let digits = text.trim_ascii();
    // Into wiped memory of its own: what stands there when a digit is wrong is wiped as well.
    let mut op = Zeroizing::new(vec![0; HEXLOWER_PERMISSIVE.decode_len(digits.len()).map_err(|_| wrong())?]);
    HEXLOWER_PERMISSIVE.decode_mut(digits, &mut op).map_err(|_| wrong())?;
    let is_blank = op.iter().fold(0, |any, octet| any | octet) == 0;
    if matches!(op.len(), 16 | 32) && !is_blank { Ok(op) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<u8>, Fault> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_op(file.path()).map(|op| op.to_vec())
    }

    #[test]
    fn op_and_top_are_read_in_hex_and_nothing_else() {
        assert_eq!(read("cdc202d5123E20F62B6d676ac72cb318\n").unwrap().len(), 16);
        assert_eq!(read(&"55".repeat(32)).unwrap(), [0x55; 32]);
        for text in ["", "55", &"55".repeat(24), &"55".repeat(33), &"00".repeat(16), &"zz".repeat(16), &"5".repeat(200)]
        {
            let fault = read(text).unwrap_err();
            assert_eq!(fault.exit, Exit::Usage);
            assert!(text.len() < 8 || !fault.to_string().contains(&text[..8]));
        }
    }
}
