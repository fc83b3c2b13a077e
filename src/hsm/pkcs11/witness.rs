//! What keys do, as proof that they are the same: in another slot, or in the same one after it was away.
//! A signing key is its public point; a KEK opens what the other sealed; a transport key gives the same ciphertext, an operator's
//! key the same plaintext; an import key is its modulus, or as AES key, which only unwraps, the check value that the token tells,
//! if it tells one.

use cryptoki::object::{Attribute, AttributeType};
use zeroize::Zeroizing;

use super::{HeldKey, Session, other_key};
use crate::hsm::policy::Purpose;
use crate::hsm::{FaultClass, HsmError, HsmSession, KeyRef};

const AAD: &[u8] = b"bindery.witness/1";
/// Two blocks that stand nowhere else.
const PLAIN: [u8; 32] = *b"bindery: are these the same keys";

/// What every key of a token showed, in the order of the policy.
pub(super) struct Witness {
    shown: Vec<Shown>,
}

enum Shown {
    Point(Option<[u8; 65]>),
    Sealed(Vec<u8>),
    Encrypted(Vec<u8>),
    Decrypted(Zeroizing<Vec<u8>>),
    Modulus(Vec<u8>),
    CheckValue(Option<Attribute>),
}

impl Witness {
    /// Lets every key of a token do its work once.
    pub(super) fn of(session: &mut Session) -> Result<Self, HsmError> {
        let login = session.shared_login();
        let show = |(i, key): (usize, &HeldKey)| {
            Ok(match key.purpose {
                Purpose::Sign => Shown::Point(key.point),
                Purpose::Seal => Shown::Sealed(session.seal(KeyRef(i), AAD, &PLAIN)?),
                Purpose::Encrypt => Shown::Encrypted(session.encrypt_blocks(KeyRef(i), &PLAIN)?),
                Purpose::Decrypt => Shown::Decrypted(session.decrypt_blocks(KeyRef(i), &PLAIN)?),
                Purpose::Unwrap => match &key.rsa {
                    Some(rsa) => Shown::Modulus(rsa.n().to_vec()),
                    None => Shown::CheckValue(session.attribute(key, AttributeType::CheckValue)?),
                },
            })
        };
        Ok(Self { shown: login.keys.iter().enumerate().map(show).collect::<Result<_, HsmError>>()? })
    }

    /// Whether the keys of this session's token are those; the first that is not is named.
    pub(super) fn check(&self, token: &str, session: &mut Session) -> Result<(), HsmError> {
        let login = session.shared_login();
        for (i, (key, shown)) in login.keys.iter().zip(&self.shown).enumerate() {
            let same = match shown {
                Shown::Point(point) => key.point == *point,
                Shown::Sealed(sealed) => match session.open_with(KeyRef(i), AAD, sealed) {
                    Ok(plain) => plain[..] == PLAIN,
                    Err(error) if error.class == FaultClass::Data => false, // its tag does not fit
                    Err(error) => return Err(error),
                },
                Shown::Modulus(modulus) => key.rsa.as_ref().is_some_and(|rsa| rsa.n().to_vec() == *modulus),
                Shown::CheckValue(value) => session.attribute(key, AttributeType::CheckValue)? == *value,
                Shown::Decrypted(decrypted) => session.decrypt_blocks(KeyRef(i), &PLAIN)? == *decrypted,
                Shown::Encrypted(encrypted) => session.encrypt_blocks(KeyRef(i), &PLAIN)? == *encrypted,
            };
            if !same {
                return Err(other_key(token, &key.label));
            }
        }
        Ok(())
    }
}
