//! A template is compiled once per line: places found, lengths settled, an image laid out. Then every record is a copy and a
//! filling of gaps.
//!
//! Rule: what a record must own is never left as the template has it. A place that cannot be written is a refusal with its reason,
//! not a warning.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::credentials::{Credentials, Layout};
use super::fields::{Coded, Field};
use super::places::Work;
use super::{Draw, Identity, PersonaliseError, Upp};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::file::FileView;
use crate::formats::saip::package::Package;
use crate::formats::tlv::TlvError;
use crate::secret::SubscriberKey;

/// What a line of an order sets for all its records.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Written into every akaParameter and the mandated services.
    pub algorithm: Algorithm,
    /// Variables of the line by their names, as `template vars` lists them.
    pub vars: BTreeMap<String, VarSource>,
}

/// Where the value of a variable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VarSource {
    /// One text for all records of the line; written when the template is compiled.
    Constant(String),
    /// Another text for each record, in [`Identity::vars`].
    PerRecord,
}

impl Settings {
    /// The text of a variable that all records share.
    pub(super) fn constant(&self, name: &str) -> Option<&str> {
        match self.vars.get(name)? {
            VarSource::Constant(text) => Some(text),
            VarSource::PerRecord => None,
        }
    }
}

/// Why a template cannot be used for a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not strict DER.
    #[error("the template is not strict DER: {0}")]
    Der(TlvError),
    /// Something that every profile needs is not there.
    #[error("the template has no {0}")]
    Missing(&'static str),
    /// A place that must be written cannot be.
    #[error("{element} at offset {offset}: {what}")]
    Place {
        /// The element, by name and id.
        element: String,
        /// Where in the template.
        offset: usize,
        /// What stands in the way.
        what: String,
    },
    /// A variable the template does not take, or a value that does not fit.
    #[error("variable {name:?}: {what}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
}

impl TemplateError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Der(_) => "run `bindery template lint FILE`; it names every offset that is not DER",
            Self::Missing(_) | Self::Place { .. } => {
                "this template cannot carry the order; correct it or order another"
            }
            Self::Variable { .. } => "run `bindery template vars NAME` to see what the template takes",
        }
    }
}

/// One value that a template takes: a line of `template vars`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name: `iccid`, `imsi`, `k`, `pin1`, `spn`, ...
    pub name: String,
    /// Who gives it: `order`, `generated`, `line vars`, `template`.
    pub source: &'static str,
    /// A record or line without it is refused.
    pub required: bool,
    /// Octets of one place.
    pub octets: usize,
    /// The elements and files that repeat it.
    pub places: Vec<String>,
}

/// A template with its places settled.
pub struct CompiledTemplate {
    image: Vec<u8>,
    gaps: Vec<Gap>,
    layout: Arc<Layout>,
    algorithm: Algorithm,
    takes_imsi: bool,
    takes_msisdn: bool,
    inputs: Vec<Input>,
}

struct Gap {
    start: usize,
    len: usize,
    field: Field,
}

impl CompiledTemplate {
    /// Finds and settles every place. The octets of `der` are placeholders and constants, never live keys.
    pub fn compile(der: &[u8], settings: &Settings) -> Result<Self, TemplateError> {
        let package = Package::parse(der).map_err(TemplateError::Der)?;
        if let Some((element, long)) = package.elements.iter().find_map(|e| Some((e, *FileView::too_long(e).first()?)))
        {
            let what = long.to_string();
            return Err(TemplateError::Place { element: element.label(), offset: long.offset, what });
        }
        if let Some((name, _)) = settings.vars.iter().find(|(_, source)| **source == VarSource::PerRecord) {
            let what = "cannot differ per record yet".to_owned();
            return Err(TemplateError::Variable { name: name.clone(), what });
        }
        let mut work = Work::new(settings, &package);
        let nodes = package.elements.iter().map(|element| work.element(element)).collect::<Result<Vec<_>, _>>()?;
        let (layout, inputs) = work.finish(&package)?;
        let (mut image, mut gaps) = (Vec::with_capacity(der.len() + 256), Vec::new());
        for node in nodes {
            node.lay_out(&mut image, &mut |start, len, field| gaps.push(Gap { start, len, field }));
        }
        Ok(Self {
            takes_imsi: gaps.iter().any(|gap| gap.field == Field::Imsi),
            takes_msisdn: gaps.iter().any(|gap| gap.field == Field::Msisdn),
            image,
            gaps,
            layout: Arc::new(layout),
            algorithm: settings.algorithm,
            inputs,
        })
    }

    /// Octets of every UPP of this template and these settings.
    pub fn upp_len(&self) -> usize {
        self.image.len()
    }

    /// The algorithm it was compiled for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Records need an IMSI.
    pub fn takes_imsi(&self) -> bool {
        self.takes_imsi
    }

    /// Records may have an MSISDN.
    pub fn takes_msisdn(&self) -> bool {
        self.takes_msisdn
    }

    /// What it takes, for `template vars`.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Octets of randomness one record takes, whether OP is given or not.
    pub fn draw_len(&self) -> usize {
        self.layout.draw_len()
    }

    /// Secrets of one record. With `op` and Milenage OPc = AES_K(OP) xor OP, else OPc (TOPc) is random.
    pub fn credentials(
        &self,
        draw: &mut Draw<'_>,
        op: Option<&SubscriberKey>,
    ) -> Result<Credentials, PersonaliseError> {
        Credentials::draw(&self.layout, self.algorithm, draw, op)
    }

    /// Secrets of one record whose K and OPc were imported; the others are drawn.
    pub fn imported(
        &self,
        draw: &mut Draw<'_>,
        k: &SubscriberKey,
        opc: &SubscriberKey,
    ) -> Result<Credentials, PersonaliseError> {
        let mut credentials = Credentials::draw(&self.layout, self.algorithm, draw, None)?;
        credentials.import(k.expose(), opc.expose(), self.algorithm)?;
        Ok(credentials)
    }

    /// Secrets read back from [`Credentials::seal_form`].
    pub fn opened(&self, form: &[u8]) -> Result<Credentials, PersonaliseError> {
        Credentials::opened(&self.layout, form)
    }

    /// Whether `value` is one that [`CompiledTemplate::personalise`] takes for the variable `name`, which differs per record. For
    /// refusing a row when it is ordered, not when it is made.
    pub fn check_value(&self, name: &str, value: &str) -> Result<(), PersonaliseError> {
        let _ = value;
        Err(PersonaliseError::Variable { name: name.to_owned(), what: "does not differ per record".into() })
    }

    /// The finished package of one record.
    pub fn personalise(&self, identity: &Identity<'_>, credentials: &Credentials) -> Result<Upp, PersonaliseError> {
        if !credentials.belongs_to(&self.layout) {
            return Err(PersonaliseError::ForeignCredentials);
        }
        if self.takes_imsi && identity.imsi.is_none() {
            return Err(PersonaliseError::ImsiMissing);
        }
        if identity.msisdn.is_some() && !self.takes_msisdn {
            return Err(PersonaliseError::MsisdnNotCarried);
        }
        let coded = Coded::new(identity)?;
        let mut octets = Zeroizing::new(Vec::with_capacity(self.image.len()));
        octets.extend_from_slice(&self.image);
        for gap in &self.gaps {
            let place = &mut octets[gap.start..gap.start + gap.len];
            coded.write(&gap.field, place, |slot| credentials.slot(slot));
        }
        Ok(Upp::new(octets, identity.iccid))
    }
}

impl fmt::Debug for CompiledTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompiledTemplate({}, {} octets, {} gaps)", self.algorithm, self.image.len(), self.gaps.len())
    }
}
