//! What a ceremony has begun and not finished: written before the token is touched, so that an interrupted step knows its own key
//! again, and the components that wait for the last one, sealed under the site KEK. What is done stands in the transcript.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::files;
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::objects::KeyId;

const SCHEMA: &str = "bindery.ceremony-state/1";

/// `state.json`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    schema: String,
    /// This running, 32 hex digits.
    pub(super) ceremony: String,
    /// The plan it runs.
    pub(super) plan_sha256: String,
    /// The slot it is conducted on; none is the site's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) slot: Option<String>,
    /// The step that was begun last and the CKA_ID chosen for its key.
    pub(super) begun: Option<Begun>,
    /// Components by step, base64 of what the KEK sealed.
    pub(super) components: Vec<SealedComponent>,
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begun {
    pub(super) step: usize,
    pub(super) key_id: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedComponent {
    pub(super) step: usize,
    pub(super) sealed: String,
}

/// What a sealed component is: this ceremony's, of this step.
pub(super) fn component_aad(ceremony: &str, step: usize) -> Vec<u8> {
    format!("bindery.component/1|{ceremony}|{step}").into_bytes()
}

/// A component that waits for the others, sealed under the site KEK.
pub struct Waiting {
    /// Which, for people.
    pub what: String,
    /// What it was sealed with.
    pub aad: Vec<u8>,
    /// The sealed octets.
    pub sealed: Vec<u8>,
}

/// What waits in the ceremonies of a directory. A state that cannot be read is exit 8: nobody knows what waits there.
pub fn waiting(ceremonies: &Path) -> Result<Vec<Waiting>, Fault> {
    let mut all = Vec::new();
    let entries = match std::fs::read_dir(ceremonies) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(all),
        entries => entries.map_err(|e| Fault::file(ceremonies, &e))?,
    };
    for entry in entries {
        let path = entry.map_err(|e| Fault::file(ceremonies, &e))?.path().join("state.json");
        let text = match std::fs::read(&path) {
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => continue,
            text => text.map_err(|e| Fault::file(&path, &e))?,
        };
        let wrong = |what: String| {
            Fault::new(Exit::IntegrityFailure, format!("{}: {what}", path.display())).hint(
                "restore it from a backup, or move the ceremony's directory out of the site if nothing in it is wanted",
            )
        };
        let state: State = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        for SealedComponent { step, sealed } in &state.components {
            let octets = data_encoding::BASE64.decode(sealed.as_bytes());
            let sealed = octets.map_err(|e| wrong(format!("the component of step {step}: {e}")))?;
            let what = format!("the component of step {step} in {}", path.display());
            all.push(Waiting { what, aad: component_aad(&state.ceremony, *step), sealed });
        }
    }
    Ok(all)
}

impl State {
    /// The state of a ceremony directory, or a new one under a running number of its own. Another plan's state is refused.
    pub(super) fn open(dir: &Path, plan_sha256: &str, slot: Option<&str>) -> Result<Self, Fault> {
        let path = dir.join("state.json");
        let wrong = |what: String| Fault::new(Exit::IntegrityFailure, format!("{}: {what}", path.display()));
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let ceremony = data_encoding::HEXLOWER.encode(&crate::hsm::pkcs11::objects::new_id()?);
                let (schema, plan_sha256) = (SCHEMA.to_owned(), plan_sha256.to_owned());
                let slot = slot.map(str::to_owned);
                let state = Self { schema, ceremony, plan_sha256, slot, begun: None, components: Vec::new(), path };
                state.write()?;
                return Ok(state);
            }
            Err(e) => return Err(Fault::file(&path, &e)),
        };
        let mut state: Self = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if state.schema != SCHEMA {
            return Err(wrong(format!("schema {:?} is not {SCHEMA:?}", state.schema)));
        }
        if state.plan_sha256 != plan_sha256 {
            return Err(wrong("the ceremony here was begun with another plan".into())
                .hint("go on with the plan it was begun with, or name another directory with --out"));
        }
        if state.slot.as_deref() != slot {
            let begun_on = state.slot.as_deref().map_or("the first slot".to_owned(), |label| format!("slot {label:?}"));
            return Err(wrong(format!("the ceremony here was begun on {begun_on}"))
                .hint("go on there (--slot), or name another directory with --out"));
        }
        state.path = path;
        Ok(state)
    }

    /// The CKA_ID for a step's key: the one chosen when the step was first begun, or a fresh one, written down before it is used.
    pub(super) fn begin(&mut self, step: usize) -> Result<KeyId, Fault> {
        if let Some(id) = self.begun_id(step) {
            return Ok(id);
        }
        let id = crate::hsm::pkcs11::objects::new_id()?;
        self.begun = Some(Begun { step, key_id: data_encoding::HEXLOWER.encode(&id) });
        self.write()?;
        Ok(id)
    }

    /// The CKA_ID of a step that was begun before.
    pub(super) fn begun_id(&self, step: usize) -> Option<KeyId> {
        let begun = self.begun.as_ref().filter(|begun| begun.step == step)?;
        let octets = data_encoding::HEXLOWER.decode(begun.key_id.as_bytes()).ok()?;
        octets.try_into().ok()
    }

    /// The sealed component of a step.
    pub(super) fn component(&self, step: usize) -> Option<Vec<u8>> {
        let kept = self.components.iter().find(|kept| kept.step == step)?;
        data_encoding::BASE64.decode(kept.sealed.as_bytes()).ok()
    }

    /// Keeps a sealed component.
    pub(super) fn keep(&mut self, step: usize, sealed: &[u8]) -> Result<(), Fault> {
        self.components.retain(|kept| kept.step != step);
        self.components.push(SealedComponent { step, sealed: data_encoding::BASE64.encode(sealed) });
        self.write()
    }

    /// Forgets the components of these steps.
    pub(super) fn forget(&mut self, steps: &[usize]) -> Result<(), Fault> {
        let before = self.components.len();
        self.components.retain(|kept| !steps.contains(&kept.step));
        if self.components.len() == before { Ok(()) } else { self.write() }
    }

    fn write(&self) -> Result<(), Fault> {
        let text = serde_json::to_vec(self).map_err(|e| Fault::new(Exit::Bug, e.to_string()))?;
        files::write_whole(&self.path, &text, 0o600)
    }
}
