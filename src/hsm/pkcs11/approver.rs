//! A second person's PIN as an approval: a login to a token of its own. PKCS#11 has one user PIN a token, so two people who share
//! one prove nothing; a second token that only the approver can log in to proves what it says.

use super::faults::hsm_error;
use super::login::{PinSource, prove};
use super::module;
use crate::config::Site;
use crate::error::{Exit, Fault};
use crate::hsm::pin::UserPin;

/// Logs in to the site's approver token, once, and out again. The token's label and serial number, for the transcript.
/// A missing or refused PIN is exit 13.
pub fn confirm(site: &Site) -> Result<String, Fault> {
    let missing = |fault: Fault| Fault { exit: Exit::ApprovalMissing, ..fault };
    let Some(label) = &site.config.ceremony.approver_token else {
        return Err(Fault::new(Exit::ApprovalMissing, "the site names no approver token").hint(
            "set ceremony.approver_token in bindery.toml, or bring a custodian's signed approval with --approve",
        ));
    };
    let hsm = &site.config.hsm;
    // Every token of the site opens with the operator's own PIN, the further ones too.
    if hsm.slot.iter().map(|slot| &slot.token_label).chain([&hsm.token_label]).any(|own| own == label) {
        let what = "ceremony.approver_token is one of the operator's own tokens";
        return Err(Fault::new(Exit::Config, what).hint("a second person needs a second token"));
    }
    let pin = UserPin::of_approver().map_err(|e| {
        missing(e.into()).hint("the second person gives it by BINDERY_APPROVER_PIN_FD or BINDERY_APPROVER_PIN_FILE")
    })?;
    let module = module::load(site)?;
    let _in_call = module.enter();
    let (slot, info) = module::slot_by_label(&module, label, None).map_err(|e| missing(e.into()))?;
    let session = module.open_ro_session(slot).map_err(|e| missing(hsm_error("open a session", &e).into()))?;
    prove(&session, &info, &PinSource::holding(site, pin)).map_err(|e| missing(e.into()))?;
    session.logout().map_err(|e| hsm_error("log out of the approver token", &e))?;
    Ok(format!("token {label:?}, serial {}", info.serial_number()))
}
