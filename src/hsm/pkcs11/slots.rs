//! The tokens a site names: the first of `[hsm]`, the further ones of `[[hsm.slot]]`, which must hold the same keys.
//! One that is away at the start is left out with a warning as long as another is there; one that refuses us stops the start.

use std::path::Path;
use std::sync::Arc;

use cryptoki::session::Session as Pkcs11Session;

use super::login::PinSource;
use super::{Token, module, objects};
use crate::config::{Site, SlotConfig};
use crate::error::{Exit, Fault};
use crate::hsm::policy::{KeyPolicy, KeyRule, KeyState};
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
        Ok(Named::first(site).load(site)?.open(Wanted::Present)?)
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
        let mut named = vec![Named::first(site)];
        for slot in &site.config.hsm.slot {
            named.push(Named::further(slot, &named[0], site));
        }
        // All modules first: the environment is set before any of them may start threads.
        let loaded = named.iter().map(|slot| slot.load(site)).collect::<Result<Vec<_>, _>>()?;
        // By the module that was loaded: one library may be named by several paths.
        let token = |slot: &Loaded<'_>| (slot.named.label.to_owned(), slot.module.number);
        if let Some(at) =
            (1..loaded.len()).find(|at| loaded[..*at].iter().any(|other| token(other) == token(&loaded[*at])))
        {
            let what = format!("bindery.toml: two slots name token {:?}", loaded[at].named.label);
            return Err(Fault::new(Exit::Config, what).hint("name each token once"));
        }
        let mut tokens: Vec<Arc<Self>> = Vec::new();
        let mut away = None;
        for slot in loaded {
            let label = slot.named.label;
            match slot.open(Wanted::InUse) {
                Ok(token) => tokens.push(Arc::new(token)),
                Err(error) if matches!(error.class, FaultClass::Token | FaultClass::Session) => {
                    tracing::warn!(token = label, what = %error.what, code = %error.code,
                        "a slot is away: this process does without it");
                    away.get_or_insert(error);
                }
                Err(error) if tokens.is_empty() && away.is_none() => return Err(error.into()),
                Err(error) => return Err(HsmError { what: format!("slot {label:?}: {}", error.what), ..error }.into()),
            }
        }
        let Some((first, others)) = tokens.split_first() else {
            return Err(away.map_or_else(|| Fault::new(Exit::Config, "bindery.toml names no token"), Fault::from));
        };
        others.iter().try_for_each(|other| first.holds_the_keys_of(other))?;
        Ok(tokens)
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

/// Keys that a token is opened with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Active and draining ones; all must be there.
    InUse,
    /// Whichever are there of those that are not retired.
    Present,
}

impl Wanted {
    /// The rules of these keys, in the order of the policy: the same in every slot of a site.
    pub(super) fn rules(self, session: &Pkcs11Session, policy: &KeyPolicy) -> Result<Vec<KeyRule>, HsmError> {
        let rules = match self {
            Self::InUse => return Ok(policy.in_use().cloned().collect()),
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

/// One token as the site names it.
struct Named<'a> {
    label: &'a str,
    module: &'a Path,
    profile: &'a str,
    pin: Arc<PinSource>,
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
    fn open(self, wanted: Wanted) -> Result<Token, HsmError> {
        let Self { named, module, policy, profile } = self;
        Token::open_in(module, named.label, (policy, wanted), &profile, Arc::clone(&named.pin), named.lanes)
    }
}
