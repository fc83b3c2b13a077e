//! PKCS#11 return codes and what they mean for us: one table, a test for each row.
//! By code and, where a module's answer is only understood so, by function.

use std::mem::discriminant;

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

use crate::hsm::{FaultClass, HsmError};

use FaultClass::{Data, Pin, Policy, Session, Token};

/// The error of one call, in our words. The crate's own texts are paragraphs of the standard; we print the code's name.
pub(super) fn hsm_error(what: impl Into<String>, error: &Error) -> HsmError {
    let (code, class) = match error {
        Error::Pkcs11(rv, function) => {
            let (name, class) = meaning(*rv, *function);
            (name, class)
        }
        Error::LibraryLoading(e) => (e.to_string(), Policy),
        Error::NullFunctionPointer | Error::NotSupported | Error::MissingSymbol(_) => {
            ("the module lacks this function".to_owned(), Policy)
        }
        other => (format!("{other}"), Data),
    };
    let hint = hint_of(error).unwrap_or_else(|| hint(class));
    HsmError { what: what.into(), code, class, hint }
}

/// States of a PIN that no other value of it cures.
fn hint_of(error: &Error) -> Option<&'static str> {
    let Error::Pkcs11(code, _) = error else { return None };
    Some(match code {
        RvError::PinLocked => "the token's security officer has to unlock it (C_InitPIN); no PIN is taken until then",
        RvError::PinExpired => {
            "the PIN has to be changed before it logs in: its holder or the token's security officer does it"
        }
        RvError::UserPinNotInitialized => "the token's security officer has to set the user PIN first (C_InitPIN)",
        RvError::UserAnotherAlreadyLoggedIn => {
            "another user type is logged in to the token, its security officer most likely: that session has to log out first"
        }
        _ => return None,
    })
}

/// The error of C_Decrypt under AES-GCM. SoftHSM 2.6.1 has no other word for a failed tag check than CKR_GENERAL_ERROR; in a mode
/// without a tag the same word is the session's fault, for there is nothing an item could be wrong in.
pub(super) fn opening_error(what: impl Into<String>, error: &Error) -> HsmError {
    match error {
        Error::Pkcs11(RvError::GeneralError, Function::Decrypt) => {
            HsmError { class: Data, hint: hint(Data), ..hsm_error(what, error) }
        }
        _ => hsm_error(what, error),
    }
}

fn hint(class: FaultClass) -> &'static str {
    match class {
        Data => "this item was not processed, the others are not affected",
        Policy => {
            "the token refuses by configuration: compare its keys and mechanisms with the key policy (`bindery doctor`)"
        }
        Session => "the token dropped the session; running again is safe, nothing was issued for the affected records",
        Token => "the token does not answer: check the HSM and its connection, then run again; finished work is kept",
        Pin => "correct the PIN before the next try: tokens lock after a few wrong ones. Bindery sent it once",
    }
}

/// The code's name in the standard and its class.
fn meaning(code: RvError, function: Function) -> (String, FaultClass) {
    let is_it = |other: &Function| discriminant(other) == discriminant(&function);
    let by_function = || BY_FUNCTION.iter().find(|row| row.0 == code && row.1.iter().any(is_it)).map(|row| row.2);
    match TABLE.iter().find(|(row, ..)| *row == code) {
        Some((_, name, class)) => ((*name).to_owned(), by_function().unwrap_or(*class)),
        None => match code {
            RvError::VendorDefined(number) => (format!("vendor code {number:#010x}"), Token),
            RvError::UnknownErrorCode(number) => (format!("unknown code {number:#010x}"), Token),
            // Codes of calls we do not make (SO sessions, seeds, one-time passwords, saved states).
            other => (format!("{other:?}"), Policy),
        },
    }
}

/// Functions that work before there is a session, or make one: what they fail of is not a session's.
const SESSIONLESS: &[Function] = &[
    Function::Initialize,
    Function::Finalize,
    Function::GetSlotList,
    Function::GetTokenInfo,
    Function::GetMechanismList,
    Function::Login,
];

/// Where the function tells more than the code: this class instead of the table's.
const BY_FUNCTION: &[(RvError, &[Function], FaultClass)] = &[
    // A client that cannot reach its HSM says so in these words, before any session is there to be replaced.
    (RvError::GeneralError, SESSIONLESS, Token),
    (RvError::FunctionFailed, SESSIONLESS, Token),
    (RvError::HostMemory, SESSIONLESS, Token),
    // Not an item's data but our own set-up: flags and slot numbers.
    (RvError::ArgumentsBad, &[Function::Initialize, Function::OpenSession, Function::Login], Policy),
];

/// Meanings by code alone.
const TABLE: &[(RvError, &str, FaultClass)] = &[
    (RvError::DataInvalid, "CKR_DATA_INVALID", Data),
    (RvError::DataLenRange, "CKR_DATA_LEN_RANGE", Data),
    (RvError::EncryptedDataInvalid, "CKR_ENCRYPTED_DATA_INVALID", Data),
    (RvError::EncryptedDataLenRange, "CKR_ENCRYPTED_DATA_LEN_RANGE", Data),
    (RvError::ArgumentsBad, "CKR_ARGUMENTS_BAD", Data),
    (RvError::BufferTooSmall, "CKR_BUFFER_TOO_SMALL", Data),
    (RvError::SignatureInvalid, "CKR_SIGNATURE_INVALID", Data),
    (RvError::SignatureLenRange, "CKR_SIGNATURE_LEN_RANGE", Data),
    (RvError::MechanismParamInvalid, "CKR_MECHANISM_PARAM_INVALID", Data),
    (RvError::MechanismInvalid, "CKR_MECHANISM_INVALID", Policy),
    (RvError::KeyFunctionNotPermitted, "CKR_KEY_FUNCTION_NOT_PERMITTED", Policy),
    (RvError::KeyTypeInconsistent, "CKR_KEY_TYPE_INCONSISTENT", Policy),
    (RvError::KeySizeRange, "CKR_KEY_SIZE_RANGE", Policy),
    (RvError::KeyUnextractable, "CKR_KEY_UNEXTRACTABLE", Policy),
    (RvError::KeyNotWrappable, "CKR_KEY_NOT_WRAPPABLE", Policy),
    (RvError::TemplateIncomplete, "CKR_TEMPLATE_INCOMPLETE", Policy),
    (RvError::TemplateInconsistent, "CKR_TEMPLATE_INCONSISTENT", Policy),
    (RvError::AttributeReadOnly, "CKR_ATTRIBUTE_READ_ONLY", Policy),
    (RvError::AttributeSensitive, "CKR_ATTRIBUTE_SENSITIVE", Policy),
    (RvError::AttributeTypeInvalid, "CKR_ATTRIBUTE_TYPE_INVALID", Policy),
    (RvError::AttributeValueInvalid, "CKR_ATTRIBUTE_VALUE_INVALID", Policy),
    (RvError::ActionProhibited, "CKR_ACTION_PROHIBITED", Policy),
    (RvError::CurveNotSupported, "CKR_CURVE_NOT_SUPPORTED", Policy),
    (RvError::DomainParamsInvalid, "CKR_DOMAIN_PARAMS_INVALID", Policy),
    (RvError::FunctionNotSupported, "CKR_FUNCTION_NOT_SUPPORTED", Policy),
    (RvError::RandomNoRng, "CKR_RANDOM_NO_RNG", Policy),
    (RvError::SessionReadOnly, "CKR_SESSION_READ_ONLY", Policy),
    (RvError::TokenWriteProtected, "CKR_TOKEN_WRITE_PROTECTED", Policy),
    (RvError::UserTypeInvalid, "CKR_USER_TYPE_INVALID", Policy),
    (RvError::SessionHandleInvalid, "CKR_SESSION_HANDLE_INVALID", Session),
    (RvError::SessionClosed, "CKR_SESSION_CLOSED", Session),
    (RvError::SessionCount, "CKR_SESSION_COUNT", Session),
    (RvError::OperationActive, "CKR_OPERATION_ACTIVE", Session),
    (RvError::OperationNotInitialized, "CKR_OPERATION_NOT_INITIALIZED", Session),
    (RvError::UserNotLoggedIn, "CKR_USER_NOT_LOGGED_IN", Session),
    (RvError::ObjectHandleInvalid, "CKR_OBJECT_HANDLE_INVALID", Session),
    (RvError::KeyHandleInvalid, "CKR_KEY_HANDLE_INVALID", Session),
    (RvError::GeneralError, "CKR_GENERAL_ERROR", Session),
    (RvError::FunctionFailed, "CKR_FUNCTION_FAILED", Session),
    (RvError::FunctionCanceled, "CKR_FUNCTION_CANCELED", Session),
    (RvError::HostMemory, "CKR_HOST_MEMORY", Session),
    (RvError::DeviceError, "CKR_DEVICE_ERROR", Token),
    (RvError::DeviceMemory, "CKR_DEVICE_MEMORY", Token),
    (RvError::DeviceRemoved, "CKR_DEVICE_REMOVED", Token),
    (RvError::TokenNotPresent, "CKR_TOKEN_NOT_PRESENT", Token),
    (RvError::TokenNotRecognized, "CKR_TOKEN_NOT_RECOGNIZED", Token),
    (RvError::SlotIdInvalid, "CKR_SLOT_ID_INVALID", Token),
    (RvError::CryptokiNotInitialized, "CKR_CRYPTOKI_NOT_INITIALIZED", Token),
    (RvError::CryptokiAlreadyInitialized, "CKR_CRYPTOKI_ALREADY_INITIALIZED", Token),
    (RvError::FipsSelfTestFailed, "CKR_FIPS_SELF_TEST_FAILED", Token),
    (RvError::PinIncorrect, "CKR_PIN_INCORRECT", Pin),
    (RvError::PinInvalid, "CKR_PIN_INVALID", Pin),
    (RvError::PinLenRange, "CKR_PIN_LEN_RANGE", Pin),
    (RvError::PinExpired, "CKR_PIN_EXPIRED", Pin),
    (RvError::PinLocked, "CKR_PIN_LOCKED", Pin),
    (RvError::PinTooWeak, "CKR_PIN_TOO_WEAK", Pin),
    (RvError::UserPinNotInitialized, "CKR_USER_PIN_NOT_INITIALIZED", Pin),
    (RvError::UserAnotherAlreadyLoggedIn, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", Pin),
];

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::Rv;

    /// Numbers and names as in the standard (PKCS#11 v2.40 and 3.0, `pkcs11t.h`), with the class we give them.
    #[rustfmt::skip]
    const STANDARD: &[(u64, &str, FaultClass)] = &[
        (0x020, "CKR_DATA_INVALID", Data), (0x021, "CKR_DATA_LEN_RANGE", Data),
        (0x040, "CKR_ENCRYPTED_DATA_INVALID", Data), (0x041, "CKR_ENCRYPTED_DATA_LEN_RANGE", Data),
        (0x007, "CKR_ARGUMENTS_BAD", Data), (0x150, "CKR_BUFFER_TOO_SMALL", Data),
        (0x0C0, "CKR_SIGNATURE_INVALID", Data), (0x0C1, "CKR_SIGNATURE_LEN_RANGE", Data),
        (0x071, "CKR_MECHANISM_PARAM_INVALID", Data),
        (0x070, "CKR_MECHANISM_INVALID", Policy), (0x068, "CKR_KEY_FUNCTION_NOT_PERMITTED", Policy),
        (0x063, "CKR_KEY_TYPE_INCONSISTENT", Policy), (0x062, "CKR_KEY_SIZE_RANGE", Policy),
        (0x06A, "CKR_KEY_UNEXTRACTABLE", Policy), (0x069, "CKR_KEY_NOT_WRAPPABLE", Policy),
        (0x0D0, "CKR_TEMPLATE_INCOMPLETE", Policy), (0x0D1, "CKR_TEMPLATE_INCONSISTENT", Policy),
        (0x010, "CKR_ATTRIBUTE_READ_ONLY", Policy), (0x011, "CKR_ATTRIBUTE_SENSITIVE", Policy),
        (0x012, "CKR_ATTRIBUTE_TYPE_INVALID", Policy), (0x013, "CKR_ATTRIBUTE_VALUE_INVALID", Policy),
        (0x01B, "CKR_ACTION_PROHIBITED", Policy), (0x140, "CKR_CURVE_NOT_SUPPORTED", Policy),
        (0x130, "CKR_DOMAIN_PARAMS_INVALID", Policy), (0x054, "CKR_FUNCTION_NOT_SUPPORTED", Policy),
        (0x121, "CKR_RANDOM_NO_RNG", Policy), (0x0B5, "CKR_SESSION_READ_ONLY", Policy),
        (0x0E2, "CKR_TOKEN_WRITE_PROTECTED", Policy), (0x103, "CKR_USER_TYPE_INVALID", Policy),
        (0x0B3, "CKR_SESSION_HANDLE_INVALID", Session), (0x0B0, "CKR_SESSION_CLOSED", Session),
        (0x0B1, "CKR_SESSION_COUNT", Session), (0x090, "CKR_OPERATION_ACTIVE", Session),
        (0x091, "CKR_OPERATION_NOT_INITIALIZED", Session), (0x101, "CKR_USER_NOT_LOGGED_IN", Session),
        (0x082, "CKR_OBJECT_HANDLE_INVALID", Session), (0x060, "CKR_KEY_HANDLE_INVALID", Session),
        (0x005, "CKR_GENERAL_ERROR", Session), (0x006, "CKR_FUNCTION_FAILED", Session),
        (0x050, "CKR_FUNCTION_CANCELED", Session), (0x002, "CKR_HOST_MEMORY", Session),
        (0x030, "CKR_DEVICE_ERROR", Token), (0x031, "CKR_DEVICE_MEMORY", Token), (0x032, "CKR_DEVICE_REMOVED", Token),
        (0x0E0, "CKR_TOKEN_NOT_PRESENT", Token), (0x0E1, "CKR_TOKEN_NOT_RECOGNIZED", Token),
        (0x003, "CKR_SLOT_ID_INVALID", Token), (0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", Token),
        (0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED", Token), (0x1B6, "CKR_FIPS_SELF_TEST_FAILED", Token),
        (0x0A0, "CKR_PIN_INCORRECT", Pin), (0x0A1, "CKR_PIN_INVALID", Pin), (0x0A2, "CKR_PIN_LEN_RANGE", Pin),
        (0x0A3, "CKR_PIN_EXPIRED", Pin), (0x0A4, "CKR_PIN_LOCKED", Pin), (0x1B8, "CKR_PIN_TOO_WEAK", Pin),
        (0x102, "CKR_USER_PIN_NOT_INITIALIZED", Pin), (0x104, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", Pin),
    ];

    fn met(number: u64, function: Function) -> HsmError {
        hsm_error("test", &Rv::from(number).into_result(function).unwrap_err())
    }

    #[test]
    fn every_row_has_the_number_and_name_of_the_standard_and_its_class() {
        assert_eq!(STANDARD.len(), TABLE.len());
        for (number, name, class) in STANDARD {
            let error = met(*number, Function::Sign);
            assert_eq!((error.code.as_str(), error.class), (*name, *class));
        }
    }

    #[test]
    fn a_pin_that_no_other_value_cures_names_the_security_officer() {
        for (number, officer) in
            [(0x0A0, false), (0x0A2, false), (0x0A3, true), (0x0A4, true), (0x102, true), (0x104, true)]
        {
            let hint = met(number, Function::Login).hint;
            assert_eq!(hint.contains("security officer"), officer, "{number:#x}: {hint}");
            assert_ne!(hint.contains("correct the PIN"), officer, "{number:#x}: {hint}");
        }
    }

    #[test]
    fn a_failed_tag_check_is_the_datas_fault_and_nothing_else_of_that_code_is() {
        let opening = |number, function| {
            let error = Rv::from(number).into_result(function).unwrap_err();
            opening_error("test", &error).class
        };
        assert_eq!(opening(0x005, Function::Decrypt), Data);
        assert_eq!(opening(0x005, Function::DecryptInit), Session);
        assert_eq!(opening(0x030, Function::Decrypt), Token);
        // Under a mode without a tag.
        assert_eq!(met(0x005, Function::Decrypt).class, Session);
    }

    #[test]
    fn every_row_by_function_differs_from_the_table_and_is_met_with_its_functions_only() {
        for (code, functions, class) in BY_FUNCTION {
            let (.., by_code) = TABLE.iter().find(|(row, ..)| row == code).unwrap();
            assert_ne!(by_code, class, "{code:?}: this row says nothing");
            for function in *functions {
                let error = Error::Pkcs11(*code, *function);
                assert_eq!(hsm_error("test", &error).class, *class, "{code:?} of {function:?}");
            }
            let error = Error::Pkcs11(*code, Function::GenerateRandom);
            assert_eq!(hsm_error("test", &error).class, *by_code, "{code:?}");
        }
    }

    #[test]
    fn a_vendors_own_code_counts_as_a_lost_token_and_keeps_its_number() {
        let error = met(0x8000_0042, Function::Sign);
        assert_eq!((error.class, error.code.as_str()), (Token, "vendor code 0x80000042"));
    }
}
