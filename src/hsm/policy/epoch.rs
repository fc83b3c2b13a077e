//! Epochs of a role: which key new work goes to, which ones drain, and the change of that in the site's policy file.
//!
//! In: `key-policy.toml` as the site wrote it. Out: the same text with one key more or another state, comments kept.
//! Rule: at most one active key a role; an epoch goes pending, active, draining, retired, and never back.

use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{BRAINPOOL, BUILT_IN, KeyPolicy, KeyRule, OPERATOR, Origin, Role};
use crate::config::CheckValue;
use crate::error::{Exit, Fault};

/// Where an epoch stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Declared, perhaps made, not yet used: it waits for its certificate or its import.
    Pending,
    /// New work goes to it.
    #[default]
    Active,
    /// Serves what was begun with it, nothing new.
    Draining,
    /// Not used and not looked for any more.
    Retired,
}

impl KeyState {
    /// The word in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Retired => "retired",
        }
    }
}

/// The epoch that something was accepted under is retired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{role} epoch {epoch}, which was active when the order was accepted, is retired")]
pub struct EpochGone {
    role: Role,
    epoch: u32,
}

/// Epoch of a key whose policy names none.
pub(super) fn first() -> u32 {
    1
}

impl KeyPolicy {
    /// The epochs of a role, the newest first.
    pub fn epochs<'a>(&'a self, role: &'a Role) -> Vec<&'a KeyRule> {
        let mut all: Vec<&KeyRule> = self.keys.iter().filter(|rule| rule.role == *role).collect();
        all.sort_by_key(|rule| std::cmp::Reverse(rule.epoch));
        all
    }

    /// The keys a running site needs: active and draining ones.
    pub fn in_use(&self) -> impl Iterator<Item = &KeyRule> {
        self.keys.iter().filter(|rule| matches!(rule.state, KeyState::Active | KeyState::Draining))
    }

    /// The key an order accepted at `at` is served with: the epoch that was active then. One that is retired serves nothing, and no
    /// other epoch serves in its place. Accepted before the role had any key: the active one.
    pub fn rule_at<'a>(&'a self, role: &'a Role, at: Timestamp) -> Result<Option<&'a KeyRule>, EpochGone> {
        let epochs = self.epochs(role);
        let oldest = epochs.last().map(|rule| rule.epoch);
        let was_active = |rule: &&&KeyRule| match (rule.state, rule.active_from) {
            (KeyState::Pending, _) => false,
            (_, Some(from)) => from <= at,
            // The first key has no beginning; a later one without it was given up while it waited.
            (KeyState::Retired, None) => Some(rule.epoch) == oldest,
            (_, None) => true,
        };
        match epochs.iter().find(was_active) {
            Some(rule) if rule.state == KeyState::Retired => Err(EpochGone { role: role.clone(), epoch: rule.epoch }),
            Some(rule) => Ok(Some(rule)),
            None => Ok(self.rule(role)),
        }
    }

    pub(super) fn check_epochs(&self) -> Result<(), String> {
        for rule in &self.keys {
            let same = |other: &&KeyRule| other.role == rule.role && other.state == rule.state;
            if rule.state == KeyState::Active && self.keys.iter().filter(same).count() > 1 {
                return Err(format!("role {} has more than one active key", rule.role));
            }
            if let Some(active) = self.rule(&rule.role)
                && (rule.state == KeyState::Draining && rule.epoch > active.epoch
                    || rule.state == KeyState::Pending && rule.epoch < active.epoch)
            {
                let (state, epoch) = (rule.state.as_str(), rule.epoch);
                return Err(format!("role {}: epoch {epoch} is {state}, {} is active", rule.role, active.epoch));
            }
        }
        Ok(())
    }
}

/// A policy file open for a change: the site's own text, comments and order kept.
pub struct PolicyFile<'a> {
    path: &'a Path,
    text: DocumentMut,
}

impl<'a> PolicyFile<'a> {
    /// Reads the file.
    pub fn open(path: &'a Path) -> Result<Self, Fault> {
        KeyPolicy::load(path)?;
        let text = std::fs::read_to_string(path).map_err(|e| Fault::file(path, &e))?;
        let text = text.parse().map_err(|e| Fault::new(Exit::Config, format!("{}: {e}", path.display())))?;
        Ok(Self { path, text })
    }

    /// Declares the next epoch of a role, pending: a copy of the role's newest key, or for a role that has none of the
    /// built-in policy's key of this kind. `origin` tells the two kinds of import key apart: made here, an RSA pair; brought in, an
    /// AES key.
    pub fn add_epoch(&mut self, role: &Role, epoch: u32, origin: Origin) -> Result<(), Fault> {
        let newest = self.find(|table| says(table, "role", &role.to_string()));
        let mut table = match newest {
            Some(newest) => newest.clone(),
            None => Self::pattern(role, origin)?,
        };
        table.decor_mut().set_prefix(format!("\n# Epoch {epoch} of {role}.\n"));
        table.remove("active_from");
        table.remove("kcv");
        let label = label(&table, role, epoch);
        table.insert("role", value(role.to_string()));
        table.insert("label", value(label));
        table.insert("epoch", value(i64::from(epoch)));
        table.insert("state", value(KeyState::Pending.as_str()));
        // The flags of the key stand behind everything else of the file: a table of its own, at its end.
        table.set_position(None);
        for (_, item) in table.iter_mut() {
            if let Some(flags) = item.as_table_mut() {
                flags.set_position(None);
            }
        }
        self.keys()?.push(table);
        Ok(())
    }

    /// Moves one epoch on.
    pub fn set_state(&mut self, role: &Role, epoch: u32, state: KeyState, now: Timestamp) -> Result<(), Fault> {
        let table = self.table(role, epoch)?;
        table.insert("epoch", value(i64::from(epoch)));
        table.insert("state", value(state.as_str()));
        if state == KeyState::Active {
            table.insert("active_from", value(now.to_string()));
        }
        Ok(())
    }

    /// Writes the check value of a key that came in, for every start to compare.
    pub fn pin(&mut self, role: &Role, epoch: u32, kcv: &CheckValue) -> Result<(), Fault> {
        self.table(role, epoch)?.insert("kcv", value(kcv.to_string()));
        Ok(())
    }

    /// Makes `epoch` the active one; the one before drains.
    pub fn activate(&mut self, role: &Role, epoch: u32, now: Timestamp) -> Result<(), Fault> {
        let policy = self.policy()?;
        match policy.rule(role) {
            Some(active) if active.epoch == epoch => return Ok(()),
            Some(active) => self.set_state(role, active.epoch, KeyState::Draining, now)?,
            None => {}
        }
        self.set_state(role, epoch, KeyState::Active, now)
    }

    /// Checks the text as every start would and writes it, whole or not at all.
    pub fn write(self) -> Result<KeyPolicy, Fault> {
        let policy = self.policy()?;
        crate::config::files::write_whole(self.path, self.text.to_string().as_bytes(), 0o644)?;
        Ok(policy)
    }

    fn policy(&self) -> Result<KeyPolicy, Fault> {
        KeyPolicy::parse(&self.text.to_string())
            .map_err(|what| Fault::new(Exit::Config, format!("{}: {what}", self.path.display())))
    }

    fn table(&mut self, role: &Role, epoch: u32) -> Result<&mut Table, Fault> {
        let (name, wanted) = (role.to_string(), i64::from(epoch));
        let told = |table: &Table| table.get("epoch").and_then(Item::as_integer).unwrap_or(1);
        let table = self.keys()?.iter_mut().find(|table| says(table, "role", &name) && told(table) == wanted);
        table.ok_or_else(|| Fault::new(Exit::Config, format!("the key policy declares no epoch {epoch} of {role}")))
    }

    fn keys(&mut self) -> Result<&mut ArrayOfTables, Fault> {
        let path = self.path.display().to_string();
        let keys = self.text.get_mut("key").and_then(Item::as_array_of_tables_mut);
        keys.ok_or_else(|| Fault::new(Exit::Config, format!("{path}: keys must be written as [[key]]")))
    }

    fn find(&self, wanted: impl Fn(&Table) -> bool) -> Option<&Table> {
        let keys = self.text.get("key").and_then(Item::as_array_of_tables)?;
        keys.iter().filter(|table| wanted(table)).last()
    }

    fn pattern(role: &Role, origin: Origin) -> Result<Table, Fault> {
        let name = role.to_string();
        let (kind, text) = match role {
            Role::Transport(_) => ("transport:", BUILT_IN),
            Role::Operator(_) => ("operator:", OPERATOR),
            Role::Import(_) if origin == Origin::Imported => ("import:", AES_IMPORT_KEY),
            Role::Import(_) => ("import:", IMPORT_KEY),
            second if second.is_of_second_curve() => (name.as_str(), BRAINPOOL),
            other => return Err(Fault::new(Exit::Config, format!("the key policy has no role {other}"))),
        };
        let document: DocumentMut =
            text.parse().map_err(|e| Fault::new(Exit::Bug, format!("the built-in key policy: {e}")))?;
        let keys = document.get("key").and_then(Item::as_array_of_tables);
        let starts = |table: &&Table| table.get("role").and_then(Item::as_str).is_some_and(|r| r.starts_with(kind));
        let found = keys.and_then(|keys| keys.iter().find(starts)).cloned();
        found.ok_or_else(|| Fault::new(Exit::Bug, format!("the built-in key policy has no {kind} key")))
    }
}

/// An import key: RSA, its public half given to operators, unwraps and does nothing besides.
const IMPORT_KEY: &str = include_str!("../../../hsm-config/import-key.toml");

/// The other kind: an AES key that the site and an operator share for wrapping.
const AES_IMPORT_KEY: &str = include_str!("../../../hsm-config/import-key-aes.toml");

fn says(table: &Table, key: &str, text: &str) -> bool {
    table.get(key).and_then(Item::as_str) == Some(text)
}

/// `bindery/ROLE/TYPE/EPOCH`; a label that ends in the old epoch ends in the new one.
fn label(table: &Table, role: &Role, epoch: u32) -> String {
    let old = table.get("label").and_then(Item::as_str).unwrap_or_default();
    let is_own_roles = says(table, "role", &role.to_string());
    match old.rsplit_once('/') {
        Some((head, number)) if is_own_roles && number.bytes().all(|b| b.is_ascii_digit()) => format!("{head}/{epoch}"),
        _ => format!("bindery/{}/{epoch}", role.to_string().replace(':', "/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::Curve;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key-policy.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_policy_without_epochs_is_of_epoch_1_and_active() {
        let policy = KeyPolicy::parse(BUILT_IN).unwrap();
        assert!(policy.keys.iter().all(|rule| rule.epoch == 1 && rule.state == KeyState::Active));
        assert_eq!(policy.in_use().count(), policy.keys.len());
    }

    #[test]
    fn an_order_keeps_the_epoch_that_was_active_when_it_was_accepted() {
        let (_dir, path) = file(BUILT_IN);
        let role = Role::Transport("core-demo".into());
        let mut file = PolicyFile::open(&path).unwrap();
        file.add_epoch(&role, 2, Origin::Imported).unwrap();
        let pending = file.write().unwrap();
        let before = at("2026-05-01T11:00:00Z");
        assert_eq!(pending.rule(&role).unwrap().epoch, 1);
        assert_eq!(pending.rule_of(&role, 2).unwrap().label, "bindery/transport/core-demo/2");
        assert!(pending.in_use().all(|rule| rule.state != KeyState::Pending));
        let mut file = PolicyFile::open(&path).unwrap();
        file.activate(&role, 2, at("2026-05-01T12:00:00Z")).unwrap();
        let switched = file.write().unwrap();
        assert_eq!(switched.rule_of(&role, 1).unwrap().state, KeyState::Draining);
        let epoch_at = |policy: &KeyPolicy, at| policy.rule_at(&role, at).map(|rule| rule.unwrap().epoch);
        assert_eq!(epoch_at(&switched, before), Ok(1));
        assert_eq!(epoch_at(&switched, at("2026-05-01T12:00:01Z")), Ok(2));
        let mut file = PolicyFile::open(&path).unwrap();
        file.set_state(&role, 1, KeyState::Retired, before).unwrap();
        let retired = file.write().unwrap();
        let gone = epoch_at(&retired, before).unwrap_err().to_string();
        assert!(gone.contains("transport:core-demo epoch 1") && gone.contains("retired"), "{gone}");
        assert_eq!(epoch_at(&retired, at("2026-05-01T12:00:01Z")), Ok(2));
        // An epoch that was given up while it waited was never active.
        let mut file = PolicyFile::open(&path).unwrap();
        file.add_epoch(&role, 3, Origin::Imported).unwrap();
        file.set_state(&role, 3, KeyState::Retired, before).unwrap();
        assert_eq!(epoch_at(&file.write().unwrap(), at("2026-05-01T12:00:01Z")), Ok(2));
        // The file is still the site's: its first comment, and what stood under each key.
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(BUILT_IN.lines().next().unwrap()), "{text}");
        assert!(text.contains("# SK.DPauth.ECDSA"));
    }

    #[test]
    fn a_pinned_check_value_is_one_epochs_and_only_of_keys_that_work_on_blocks() {
        let (_dir, path) = file(BUILT_IN);
        let role = Role::Transport("core-demo".into());
        let kcv = CheckValue::try_from("a1b2c3".to_owned()).unwrap();
        let mut open = PolicyFile::open(&path).unwrap();
        open.pin(&role, 1, &kcv).unwrap();
        open.add_epoch(&role, 2, Origin::Imported).unwrap();
        let policy = open.write().unwrap();
        assert_eq!([1, 2].map(|epoch| policy.rule_of(&role, epoch).unwrap().kcv.clone()), [Some(kcv.clone()), None]);
        let mut open = PolicyFile::open(&path).unwrap();
        open.pin(&Role::SiteKek, 1, &kcv).unwrap();
        assert!(open.write().unwrap_err().what.contains("kcv"));
    }

    #[test]
    fn a_role_that_is_new_gets_a_sound_rule() {
        let (_dir, path) = file(BUILT_IN);
        for (name, origin) in [
            ("transport:operator-7", Origin::Imported),
            ("operator:operator-7", Origin::Imported),
            ("import:main", Origin::Generated),
            ("import:shared", Origin::Imported),
            ("dppb:brainpool", Origin::Generated),
        ] {
            let mut file = PolicyFile::open(&path).unwrap();
            file.add_epoch(&name.parse().unwrap(), 1, origin).unwrap();
            file.write().unwrap();
        }
        let policy = KeyPolicy::load(&path).unwrap();
        let import = policy.rule_of(&Role::Import("main".into()), 1).unwrap();
        assert_eq!((import.label.as_str(), import.purpose.as_str()), ("bindery/import/main/1", "unwrap"));
        let shared = policy.rule_of(&Role::Import("shared".into()), 1).unwrap();
        assert_eq!((shared.label.as_str(), shared.kind.as_str()), ("bindery/import/shared/1", "aes-256"));
        let operator = policy.rule_of(&Role::Operator("operator-7".into()), 1).unwrap();
        assert_eq!((operator.label.as_str(), operator.purpose.as_str()), ("bindery/operator/operator-7/1", "decrypt"));
        assert_eq!(policy.rule_of(&Role::DpPb(Curve::Brainpool), 1).unwrap().label, "bindery/dppb/brainpool/1");
        // Of a second curve nothing is active before both of its keys are declared.
        let mut file = PolicyFile::open(&path).unwrap();
        let active = file.activate(&Role::DpPb(Curve::Brainpool), 1, at("2026-05-01T11:00:00Z"));
        assert!(active.and_then(|()| file.write()).unwrap_err().what.contains("dpauth:brainpool has no key"));
        let mut file = PolicyFile::open(&path).unwrap();
        file.add_epoch(&Role::DpAuth(Curve::Brainpool), 1, Origin::Generated).unwrap();
        file.activate(&Role::DpPb(Curve::Brainpool), 1, at("2026-05-01T11:00:00Z")).unwrap();
        file.write().unwrap();
        let mut file = PolicyFile::open(&path).unwrap();
        assert!(file.set_state(&Role::Audit, 9, KeyState::Active, at("2026-05-01T11:00:00Z")).is_err());
    }

    #[test]
    fn two_active_epochs_or_an_older_one_pending_are_refused() {
        let second = |state: &str, epoch: u32| {
            let (_dir, path) = file(BUILT_IN);
            let mut file = PolicyFile::open(&path).unwrap();
            file.add_epoch(&Role::SiteKek, 2, Origin::Generated).unwrap();
            let text = file.text.to_string().replace("\"pending\"", &format!("\"{state}\""));
            KeyPolicy::parse(&text.replace("epoch = 2", &format!("epoch = {epoch}")))
        };
        assert!(second("active", 2).unwrap_err().contains("more than one active"));
        assert!(second("draining", 2).unwrap_err().contains("draining"));
        assert!(second("retired", 2).is_ok() && second("pending", 2).is_ok());
        assert!(second("pending", 0).unwrap_err().contains("count from 1"));
        assert!(second("pending", 1).unwrap_err().contains("share"));
        assert!(second("sleeping", 2).unwrap_err().contains("sleeping"));
    }
}
