//! The tokens a site names: the first of `[hsm]`, the further ones of `[[hsm.slot]]`, which must hold the same keys.
//! One that is away at the start is left out with a warning as long as another is there; one that refuses us stops the start.
//! A ceremony works on one of them; a key takes new work only when every one holds it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cryptoki::session::Session as Pkcs11Session;

use super::login::PinSource;
use super::{NO_SUCH_KEY, Token, module, objects};
use crate::config::{Site, SlotConfig};
use crate::error::{Exit, Fault};
use crate::hsm::policy::{KeyPolicy, KeyRule, KeyState, Origin};
use crate::hsm::profile::HsmProfile;
use crate::hsm::{FaultClass, Hsm, HsmError};

impl Token {
    /// Opens the first token of a site. Call it before other threads run (SoftHSM reads its configuration from the environment).
    /// Every failure is exit 7 with what to do, or exit 3 when the site's own files are wrong.
    pub fn open(site: &Site) -> Result<Self, Fault> {
        Ok(Named::first(site).load(site)?.open(Wanted::InUse)?)
    }

    /// The same with those keys of the policy that are there, pending ones too: for a ceremony, which makes the others.
    pub fn open_present(site: &Site) -> Result<Self, Fault> {
        Self::open_present_in(site, None)
    }

    /// The same of the slot with this label; none is the first.
    pub fn open_present_in(site: &Site, slot: Option<&str>) -> Result<Self, Fault> {
        Ok(Named::chosen(site, slot)?.load(site)?.open(Wanted::Present)?)
    }

    /// Opens every token of a site and proves that all hold the same keys; the first comes first.
    pub fn open_all(site: &Site) -> Result<Vec<Arc<Self>>, Fault> {
        if site.config.hsm.call_deadline_ms == 0 {
            return Err(Fault::new(
                Exit::Config,
                "bindery.toml: hsm.call_deadline_ms is 0: no call answers in no time",
            )
            .hint("leave it out for 30 seconds"));
        }
        let named = Named::every(site);
        let mut tokens: Vec<Arc<Self>> = Vec::new();
        let mut away = None;
        // All modules first: the environment is set before any of them may start threads.
        let mut loaded: Vec<(usize, Loaded<'_>)> = Vec::new();
        for (at, slot) in named.iter().enumerate() {
            match slot.load(site) {
                Ok(slot) => loaded.push((at, slot)),
                Err(fault) if fault.exit == Exit::HsmUnusable && named.len() > 1 => {
                    without(slot.label, &fault.what);
                    away.get_or_insert(fault);
                }
                Err(fault) => return Err(fault),
            }
        }
        // By the module that was loaded: one library may be named by several paths.
        let token = |(_, slot): &(usize, Loaded<'_>)| (slot.named.label.to_owned(), slot.module.number);
        let is_named_before = |at: &usize| loaded[..*at].iter().any(|other| token(other) == token(&loaded[*at]));
        if let Some(at) = (1..loaded.len()).find(is_named_before) {
            let what = format!("bindery.toml: two slots name token {:?}", loaded[at].1.named.label);
            return Err(Fault::new(Exit::Config, what).hint("name each token once"));
        }
        let whole = Arc::new(site.clone());
        for at in loaded.into_iter().map(|(at, _)| at) {
            let label = named[at].label;
            match open_within(&whole, at) {
                Ok(token) => tokens.push(Arc::new(token)),
                Err(Closed::Hsm(error)) if matches!(error.class, FaultClass::Token | FaultClass::Session) => {
                    if named.len() > 1 {
                        without(label, &error.to_string());
                    }
                    away.get_or_insert(error.into());
                }
                Err(Closed::Hsm(error)) if tokens.is_empty() && away.is_none() => return Err(error.into()),
                Err(Closed::Hsm(error)) => return Err(of_slot(label, error).into()),
                Err(Closed::Site(fault)) => return Err(fault),
            }
        }
        let Some((first, others)) = tokens.split_first() else {
            return Err(away.unwrap_or_else(|| Fault::new(Exit::Config, "bindery.toml names no token")));
        };
        others.iter().try_for_each(|other| first.holds_the_keys_of(other))?;
        Ok(tokens)
    }

    /// Refuses a key to take new work before every slot of the site holds it, the same one: until then no run could start.
    pub fn same_in_every_slot(site: &Site, rule: &KeyRule) -> Result<(), Fault> {
        if site.config.hsm.slot.is_empty() {
            return Ok(());
        }
        let named = Named::every(site);
        let loaded = named.iter().map(|slot| slot.load(site)).collect::<Result<Vec<_>, _>>()?;
        let mut tokens = Vec::new();
        for slot in loaded {
            let label = slot.named.label;
            match slot.open(Wanted::Only(rule)) {
                Ok(token) => tokens.push(token),
                Err(error) if error.code == NO_SUCH_KEY => return Err(lacks(label, rule)),
                Err(error) => return Err(of_slot(label, error).into()),
            }
        }
        match tokens.split_first() {
            Some((first, others)) => Ok(others.iter().try_for_each(|other| first.holds_the_keys_of(other))?),
            None => Ok(()),
        }
    }

    /// Refuses to make a key in `slot` that another slot of the site has under this label: made twice it would be two keys.
    pub fn in_no_other_slot(site: &Site, slot: Option<&str>, rule: &KeyRule) -> Result<(), Fault> {
        if site.config.hsm.slot.is_empty() {
            return Ok(());
        }
        let here = Named::chosen(site, slot)?.label;
        for other in Named::every(site).iter().filter(|other| other.label != here) {
            let token = other.load(site)?.open(Wanted::Present).map_err(|error| of_slot(other.label, error))?;
            if token.rules().iter().any(|there| there.label == rule.label) {
                let what = format!(
                    "slot {:?} has a key {} already: made here it would be another one",
                    other.label, rule.label
                );
                return Err(Fault::new(Exit::Config, what).hint(CLONE));
            }
        }
        Ok(())
    }

    /// Both ways: what the one seals the other opens.
    fn holds_the_keys_of(&self, other: &Self) -> Result<(), HsmError> {
        for (shows, proves) in [(self, other), (other, self)] {
            if let Some(witness) = shows.held.witness.get() {
                witness.check(&other.held.facts.label, &mut proves.open_session()?)?;
            }
        }
        Ok(())
    }
}

/// What a key needs that was made in one token.
const CLONE: &str = "clone it from the slot that has it, with the HSM maker's tool: a key made in a token never leaves it through Bindery";

fn of_slot(label: &str, error: HsmError) -> HsmError {
    let hint = if error.code == NO_SUCH_KEY {
        "every slot holds every key: clone what was made in another slot with the maker's tool, `keys import --slot LABEL` what came from outside; or take the slot out of bindery.toml"
    } else {
        error.hint
    };
    HsmError { what: format!("slot {label:?}: {}", error.what), hint, ..error }
}

/// A ceremony waits here: nothing is wrong, and the same command goes on.
fn lacks(label: &str, rule: &KeyRule) -> Fault {
    let KeyRule { role, epoch, .. } = rule;
    let what = format!("slot {label:?} has no key {} yet: {role} epoch {epoch} stays pending", rule.label);
    let hint = match rule.origin {
        Origin::Generated => format!("{CLONE}; then run this again"),
        Origin::Imported => format!(
            "bring the same key in there (`bindery keys import {role} --epoch {epoch} --slot {label} ...`, or a plan with --slot), then run this again"
        ),
    };
    Fault::new(Exit::Stopped, what).hint(hint)
}

/// Keys that a token is opened with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// Active and draining ones; all must be there.
    InUse,
    /// Whichever are there of those that are not retired.
    Present,
    /// This one alone, whatever its state.
    Only(&'a KeyRule),
}

impl Wanted<'_> {
    /// The rules of these keys, in the order of the policy: the same in every slot of a site.
    pub(super) fn rules(self, session: &Pkcs11Session, policy: &KeyPolicy) -> Result<Vec<KeyRule>, HsmError> {
        let rules = match self {
            Self::InUse => return Ok(policy.in_use().cloned().collect()),
            Self::Only(rule) => return Ok(vec![rule.clone()]),
            Self::Present => policy.keys.iter().filter(|rule| rule.state != KeyState::Retired),
        };
        let mut present = Vec::new();
        for rule in rules {
            if objects::is_there(session, rule)? {
                present.push(rule.clone());
            }
        }
        Ok(present)
    }
}

/// Why a slot did not open.
enum Closed {
    Hsm(HsmError),
    Site(Fault),
}

/// Opens one slot of a site, the first being 0, on a thread of its own: a token that hangs holds up no other. What a token makes of a
/// session in its first moment may be its last one's fault: then once more.
fn open_within(site: &Arc<Site>, at: usize) -> Result<Token, Closed> {
    let limit = Duration::from_millis(site.config.hsm.call_deadline_ms);
    let open = || {
        let whole = Arc::clone(site);
        let answer = module::within(limit, move || {
            let named = Named::every(&whole);
            let loaded = named[at].load(&whole).map_err(Closed::Site)?;
            loaded.open(Wanted::InUse).map_err(Closed::Hsm)
        });
        answer.unwrap_or_else(|| {
            Err(Closed::Hsm(HsmError {
                what: format!("open token {:?}", Named::every(site)[at].label),
                code: format!("no answer within {} ms", limit.as_millis()),
                class: FaultClass::Token,
                hint: "the HSM or its client hangs: check the network and the HSM, or raise hsm.call_deadline_ms",
            }))
        })
    };
    match open() {
        Err(Closed::Hsm(error)) if error.class == FaultClass::Session => {
            tracing::warn!(what = %error.what, code = %error.code, "once more");
            open()
        }
        outcome => outcome,
    }
}

fn without(label: &str, why: &str) {
    tracing::warn!(token = label, why, "a slot is away: this process does without it if another serves");
}

/// One token as the site names it.
pub(super) struct Named<'a> {
    pub(super) label: &'a str,
    pub(super) module: &'a Path,
    pub(super) profile: &'a str,
    pub(super) pin: Arc<PinSource>,
    lanes: usize,
}

/// The same with its module loaded.
struct Loaded<'a> {
    named: &'a Named<'a>,
    module: Arc<module::Module>,
    policy: KeyPolicy,
    profile: HsmProfile,
}

impl<'a> Named<'a> {
    /// In the order of `bindery.toml`.
    pub(super) fn all(site: &'a Site) -> Vec<Self> {
        let first = Self::first(site);
        let further: Vec<Self> = site.config.hsm.slot.iter().map(|slot| Self::further(slot, &first, site)).collect();
        std::iter::once(first).chain(further).collect()
    }

    fn first(site: &'a Site) -> Self {
        let hsm = &site.config.hsm;
        Self {
            label: &hsm.token_label,
            module: &hsm.module,
            profile: &hsm.profile,
            pin: Arc::new(PinSource::new(site, None)),
            lanes: hsm.lanes,
        }
    }

    /// The slot with this label; none is the first.
    pub(super) fn chosen(site: &'a Site, slot: Option<&str>) -> Result<Self, Fault> {
        let mut every = Self::every(site);
        let Some(label) = slot else { return Ok(every.swap_remove(0)) };
        let named: Vec<usize> = (0..every.len()).filter(|at| every[*at].label == label).collect();
        match named[..] {
            [one] => Ok(every.swap_remove(one)),
            _ => {
                let known: Vec<&str> = every.iter().map(|slot| slot.label).collect();
                let what = format!("{} slots of bindery.toml are labelled {label:?}, not one", named.len());
                Err(Fault::new(Exit::Usage, what).hint(format!("--slot takes one of {}", known.join(", "))))
            }
        }
    }

    /// All of a site, the first first.
    fn every(site: &'a Site) -> Vec<Self> {
        let mut named = vec![Self::first(site)];
        for slot in &site.config.hsm.slot {
            named.push(Self::further(slot, &named[0], site));
        }
        named
    }

    /// What a slot does not say is as with the first.
    fn further(slot: &'a SlotConfig, first: &Named<'a>, site: &Site) -> Self {
        let own_pin = slot.pin_file.is_some() || slot.pin_env.is_some();
        Self {
            label: &slot.token_label,
            module: slot.module.as_deref().unwrap_or(first.module),
            profile: slot.profile.as_deref().unwrap_or(first.profile),
            pin: if own_pin { Arc::new(PinSource::new(site, Some(slot))) } else { Arc::clone(&first.pin) },
            lanes: slot.lanes.unwrap_or(first.lanes),
        }
    }

    fn load(&'a self, site: &Site) -> Result<Loaded<'a>, Fault> {
        Ok(Loaded {
            named: self,
            profile: HsmProfile::named(site, self.profile)?,
            policy: KeyPolicy::load(&site.path(&site.config.hsm.policy))?,
            module: module::load_from(site, self.module)?,
        })
    }
}

impl Loaded<'_> {
    fn open(self, wanted: Wanted<'_>) -> Result<Token, HsmError> {
        let Self { named, module, policy, profile } = self;
        Token::open_in(module, named.label, (policy, wanted), &profile, Arc::clone(&named.pin), named.lanes)
    }
}
