//! Every value that can be personalised: one file for each family, with name, source, coding, check and clause.
//!
//! A value is one of three: a *gap* of fixed size that each record fills ([`Field`]); a [`Member`] of an element, whose presence and
//! length may differ; the content of a file, by the codings of [`ef`](crate::formats::saip::ef) or in hex. [`Work`] walks the
//! template once and turns every place into the one or the other.

mod aka;
mod applets;
mod cdma;
mod codes;
mod files;
mod gfm;
mod header;
mod identity;
mod ims;
mod keys;
mod names;
mod record;
mod room;
mod work;

pub(super) use cdma::IMSI_DIGITS;
pub(super) use record::{Coded, Variables};
pub(super) use work::Work;

use crate::formats::saip::kind::context_number;
use crate::formats::tlv::Tag;
use ims::Realm;

/// What goes into a gap or a splice of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// ProfileHeader: straight BCD.
    IccidHeader,
    /// EF.ICCID: swapped nibbles.
    IccidFile,
    /// EF.IMSI.
    Imsi,
    /// EF.ACC as it follows from the IMSI.
    Acc,
    /// EF.IMSI_M and EF.IMSI_T of a CSIM.
    ImsiCdma,
    /// EF.ACCOLC as it follows from the IMSI.
    Accolc,
    /// EF.MSISDN: the number in the first record, of this length; the others are free.
    Msisdn { record_len: usize },
    /// An IMS identity derived from the IMSI, a TLV `80` padded with FF (3GPP TS 23.003 §13.3, §13.4B).
    Nai { scheme: &'static str, realm: Realm },
    /// An IMS identity derived from the MSISDN: what stands before and behind its digits.
    Tel { scheme: &'static str, rest: Box<str> },
    /// The home network domain name alone.
    Domain(Realm),
    /// A secret: slot of the layout.
    Secret(usize),
    /// A variable that differs per record, as one of its places takes it: number of the [`record::Coder`].
    Variable(usize),
}

/// What is told of a value.
#[derive(Clone, Copy)]
struct About<'a> {
    /// Its name in orders and in `template vars`.
    name: &'a str,
    /// Who gives it, as in [`super::Input`].
    source: &'static str,
    /// What a value looks like.
    form: &'static str,
    /// Where its coding is defined.
    clause: &'static str,
}

/// A variable that is one or more members of an element: DER, a default is left out.
trait Member: Sync {
    /// Its name in orders.
    fn name(&self) -> &'static str;
    /// What a value looks like.
    fn form(&self) -> &'static str;
    /// Where its coding is defined.
    fn clause(&self) -> &'static str;
    /// Tags of the members, ascending; all of one parent.
    fn tags(&self) -> &[Tag];
    /// The members for a value, none where it is the default; `given`: those of the template. `None`: not of the form.
    fn encode(&self, text: &str, given: &[u8]) -> Option<Vec<u8>>;
    /// The value of the members `given`, in canonical text.
    fn decode(&self, given: &[u8]) -> Option<String>;
    /// No message shows it.
    fn is_secret(&self) -> bool {
        false
    }
    /// Where the template has none of the members: they stand before the member `tag`.
    fn is_before(&self, tag: Tag) -> bool {
        context_number(tag) > self.tags().iter().filter_map(|own| context_number(*own)).max()
    }
}

/// `80 L value` for context tag 0, and so on.
fn member(tag: Tag, value: &[u8]) -> Vec<u8> {
    crate::formats::tlv::wrap(tag, &[value])
}

/// Octets in hex, digits of either case, blanks between octets allowed.
fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|c| *c != ' ').collect();
    data_encoding::HEXUPPER_PERMISSIVE.decode(digits.as_bytes()).ok()
}

fn write_hex(octets: &[u8]) -> String {
    data_encoding::HEXUPPER.encode(octets)
}
