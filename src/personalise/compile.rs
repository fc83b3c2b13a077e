//! A template is compiled once per line: places found, lengths settled, an image laid out. Then every record is a copy and a
//! filling of gaps; only elements in which a variable of the record changes a length are laid out anew.
//!
//! Rule: what a record must own is never left as the template has it. A place that cannot be written is a refusal with its reason,
//! not a warning.

use std::fmt;
use std::sync::Arc;

use super::credentials::{Credentials, Layout, Secret};
use super::fields::{Coded, Field, IMSI_DIGITS, Variables, Work};
use super::rope::{Filling, Node};
use super::settings::{Input, Settings};
use super::{Draw, Identity, PersonaliseError, Upp};
use crate::formats::saip::algorithm::Algorithm;
use crate::formats::saip::file::FileView;
use crate::formats::saip::package::Package;
use crate::formats::tlv::TlvError;
use crate::secret::SubscriberKey;

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
    /// It compiles, but a profile made of it fails its audit.
    #[error("a trial profile is not what it should be: {place}{}: {what}", at(*offset))]
    Trial {
        /// The element, the file.
        place: String,
        /// Where in the template the element stands, where one can be told.
        offset: Option<usize>,
        /// What the audit found.
        what: String,
    },
    /// With the line's variables a profile breaks a rule that the template keeps.
    #[error("rule {rule} would be broken: {place}: {what}")]
    Rule {
        /// Id of the rule, as in `template lint`.
        rule: &'static str,
        /// The element, and the names down to the place.
        place: String,
        /// What is wrong there.
        what: String,
        /// What to do.
        hint: &'static str,
    },
}

fn at(offset: Option<usize>) -> String {
    offset.map_or(String::new(), |offset| format!(", offset {offset}"))
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
            Self::Rule { hint, .. } => hint,
            Self::Trial { .. } => {
                "run `bindery template lint NAME`, correct what it says of this element and add it anew"
            }
        }
    }
}

/// A template with its places settled.
pub struct CompiledTemplate {
    pieces: Vec<Piece>,
    upp_len: usize,
    layout: Arc<Layout>,
    variables: Variables,
    algorithm: Algorithm,
    takes_imsi: bool,
    takes_full_imsi: bool,
    takes_msisdn: bool,
    inputs: Vec<Input>,
}

/// A run of elements.
enum Piece {
    /// The same for every record but for gaps of fixed size.
    Flat { image: Vec<u8>, gaps: Vec<Gap> },
    /// One element whose length differs from record to record.
    Elastic(Node<'static, Field>),
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
        let mut work = Work::new(settings, &package);
        let nodes = package.elements.iter().map(|element| work.element(element)).collect::<Result<Vec<_>, _>>()?;
        let found = work.finish(&package)?;
        let takes_msisdn = found.inputs.iter().any(|input| input.name == "msisdn");
        let pieces = pieces(nodes);
        Ok(Self {
            upp_len: pieces.iter().map(|piece| piece.len(&Usual(&found.variables))).sum(),
            pieces,
            layout: Arc::new(found.layout),
            variables: found.variables,
            algorithm: settings.algorithm,
            takes_imsi: found.needs_imsi,
            takes_full_imsi: found.needs_full_imsi,
            takes_msisdn,
            inputs: found.inputs,
        })
    }

    /// Octets of a UPP of this template and these settings; where a variable of the record changes lengths, with the template's own
    /// value.
    pub fn upp_len(&self) -> usize {
        self.upp_len
    }

    /// The algorithm it was compiled for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Octets of K in this template: 16, or with TUAK what the template has.
    pub fn k_len(&self) -> usize {
        self.layout.len_of(Secret::K)
    }

    /// Records need an IMSI.
    pub fn takes_imsi(&self) -> bool {
        self.takes_imsi
    }

    /// Their IMSI must have fifteen digits: the template has a CSIM.
    pub(super) fn takes_full_imsi(&self) -> bool {
        self.takes_full_imsi
    }

    /// Records may have an MSISDN.
    pub fn takes_msisdn(&self) -> bool {
        self.takes_msisdn
    }

    /// What it takes, for `template vars`.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Names of the variables that every record brings.
    pub(super) fn per_record(&self) -> impl Iterator<Item = &str> {
        self.variables.names()
    }

    /// Octets of randomness one record takes, whether OP is given or not.
    pub fn draw_len(&self) -> usize {
        self.layout.draw_len()
    }

    /// Secrets of one record. With `op` (OP with Milenage, TOP with TUAK) OPc or TOPc follows from K, else it is random.
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
        self.variables.check(name, value)
    }

    /// The finished package of one record.
    pub fn personalise(&self, identity: &Identity<'_>, credentials: &Credentials) -> Result<Upp, PersonaliseError> {
        if !credentials.belongs_to(&self.layout) {
            return Err(PersonaliseError::ForeignCredentials);
        }
        if self.takes_imsi && identity.imsi.is_none() {
            return Err(PersonaliseError::ImsiMissing);
        }
        if self.takes_full_imsi && identity.imsi.is_some_and(|imsi| imsi.as_str().len() != IMSI_DIGITS) {
            return Err(PersonaliseError::ImsiTooShort);
        }
        if identity.msisdn.is_some() && !self.takes_msisdn {
            return Err(PersonaliseError::MsisdnNotCarried);
        }
        let mut coded = Coded::new(identity, &self.variables, credentials)?;
        // Exact, so that the octets never move and leave a copy behind.
        let len = self.pieces.iter().map(|piece| piece.len(&coded)).sum();
        let mut octets = Vec::with_capacity(len);
        for piece in &self.pieces {
            match piece {
                Piece::Elastic(node) => node.lay_out(&mut octets, &mut coded),
                Piece::Flat { image, gaps } => {
                    let start = octets.len();
                    octets.extend_from_slice(image);
                    let own = &mut octets[start..];
                    gaps.iter().for_each(|gap| coded.write(&gap.field, &mut own[gap.start..gap.start + gap.len]));
                }
            }
        }
        debug_assert_eq!(octets.len(), len);
        Ok(Upp::new(octets, identity.iccid))
    }
}

impl Piece {
    fn len(&self, filling: &impl Filling<Field>) -> usize {
        match self {
            Self::Flat { image, .. } => image.len(),
            Self::Elastic(node) => node.len(filling),
        }
    }
}

/// Elements of fixed length are laid out one behind the other.
fn pieces(nodes: Vec<Node<'_, Field>>) -> Vec<Piece> {
    let (mut pieces, mut image, mut gaps) = (Vec::new(), Vec::new(), Gaps(Vec::new()));
    for node in nodes {
        if node.has_splice() {
            pieces.push(Piece::Flat { image: std::mem::take(&mut image), gaps: std::mem::take(&mut gaps.0) });
            pieces.push(Piece::Elastic(node.into_owned()));
        } else {
            node.lay_out(&mut image, &mut gaps);
        }
    }
    pieces.push(Piece::Flat { image, gaps: gaps.0 });
    pieces
}

/// Lays out elements of fixed length and keeps the places of their gaps.
struct Gaps(Vec<Gap>);

impl Filling<Field> for Gaps {
    fn splice_len(&self, _: &Field) -> usize {
        0
    }

    fn splice(&mut self, _: &Field, _: &mut Vec<u8>) {}

    fn gap(&mut self, field: &Field, len: usize, out: &mut Vec<u8>) {
        self.0.push(Gap { start: out.len(), len, field: field.clone() });
        out.resize(out.len() + len, 0);
    }
}

/// Measures elements with the template's own values.
struct Usual<'v>(&'v Variables);

impl Filling<Field> for Usual<'_> {
    fn splice_len(&self, field: &Field) -> usize {
        self.0.usual_len(field)
    }

    fn splice(&mut self, _: &Field, _: &mut Vec<u8>) {}

    fn gap(&mut self, _: &Field, _: usize, _: &mut Vec<u8>) {}
}

impl fmt::Debug for CompiledTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompiledTemplate({}, {} octets)", self.algorithm, self.upp_len)
    }
}
