//! Blocks that the token encrypts or decrypts in bulk. Nobody here can see whether an answer is right: a transport key only encrypts, an
//! operator's only decrypts, and wrong K and OPc look like right ones until a subscriber cannot attach.
//!
//! Rule: every question is asked twice, behind a block whose answer is known since the key was first met. Answers that differ, or that
//! open with another answer to the known block, stop the run before anything of the chunk is issued. The second call costs 0.04 us a
//! record on SoftHSM, one round trip for 500 records on a network.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::hsm::{FaultClass, HsmError, HsmSession, KeyRef};

const BLOCK: usize = 16;
/// Asked before every question; no secret.
const KNOWN: [u8; BLOCK] = *b"bindery: known a";

/// A transport key, which encrypts, or an operator's, which decrypts.
pub(super) struct BlockKey {
    key: KeyRef,
    way: Way,
    /// What it makes of [`KNOWN`].
    answer: [u8; BLOCK],
}

#[derive(Clone, Copy)]
enum Way {
    Encrypt,
    Decrypt,
}

impl BlockKey {
    /// A key that encrypts.
    pub(super) fn encrypting(session: &mut impl HsmSession, key: KeyRef) -> Result<Self, HsmError> {
        Self::met(session, key, Way::Encrypt)
    }

    /// A key that decrypts.
    pub(super) fn decrypting(session: &mut impl HsmSession, key: KeyRef) -> Result<Self, HsmError> {
        Self::met(session, key, Way::Decrypt)
    }

    fn met(session: &mut impl HsmSession, key: KeyRef, way: Way) -> Result<Self, HsmError> {
        let answer = way.ask(session, key, &KNOWN)?;
        let answer =
            answer.as_slice().try_into().map_err(|_| wrong("a known block has an answer of another length"))?;
        Ok(Self { key, way, answer })
    }

    /// The answer to these blocks, as long as they are; none are not asked, some modules refuse that.
    pub(super) fn ask(&self, session: &mut impl HsmSession, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        if blocks.is_empty() {
            return Ok(Zeroizing::default());
        }
        let mut question = Zeroizing::new(Vec::with_capacity(BLOCK + blocks.len()));
        question.extend_from_slice(&KNOWN);
        question.extend_from_slice(blocks);
        let mut answer = self.way.ask(session, self.key, &question)?;
        if answer.len() != question.len() || answer[..BLOCK] != self.answer {
            return Err(wrong("a known block has another answer than before"));
        }
        let again = self.way.ask(session, self.key, &question)?;
        if !bool::from(again.ct_eq(&answer)) {
            return Err(wrong("the same blocks have two answers"));
        }
        answer.copy_within(BLOCK.., 0);
        answer.truncate(blocks.len()); // the wipe covers what lies behind
        Ok(answer)
    }
}

impl Way {
    fn ask(self, session: &mut impl HsmSession, key: KeyRef, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        match self {
            Self::Encrypt => session.encrypt_blocks(key, blocks).map(Zeroizing::new),
            Self::Decrypt => session.decrypt_blocks(key, blocks),
        }
    }
}

fn wrong(how: &str) -> HsmError {
    HsmError {
        what: "K and OPc in bulk".into(),
        code: format!("the token answers wrongly: {how}"),
        class: FaultClass::Token,
        hint: "nothing of this chunk was issued; do not use the HSM before its maker has explained it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token whose cipher is an XOR, and which goes wrong as it is told, counted by calls.
    struct Shaky {
        calls: usize,
        wrong: fn(usize, &mut [u8]),
    }

    impl HsmSession for Shaky {
        fn sign(&mut self, _: KeyRef, _: &[u8; 32]) -> Result<[u8; 64], HsmError> {
            unreachable!()
        }
        fn random(&mut self, _: &mut [u8]) -> Result<(), HsmError> {
            unreachable!()
        }
        fn encrypt_blocks(&mut self, _: KeyRef, blocks: &[u8]) -> Result<Vec<u8>, HsmError> {
            self.calls += 1;
            let mut answer: Vec<u8> = blocks.iter().map(|octet| octet ^ 0x5A).collect();
            (self.wrong)(self.calls, &mut answer);
            Ok(answer)
        }
        fn decrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
            self.encrypt_blocks(key, blocks).map(Zeroizing::new)
        }
        fn check_value(&mut self, _: KeyRef) -> Result<Option<Vec<u8>>, HsmError> {
            unreachable!()
        }
        fn seal(&mut self, _: KeyRef, _: &[u8], _: &[u8]) -> Result<Vec<u8>, HsmError> {
            unreachable!()
        }
        fn open(&mut self, _: KeyRef, _: &[u8], _: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
            unreachable!()
        }
    }

    fn asked(wrong: fn(usize, &mut [u8])) -> Result<Vec<u8>, HsmError> {
        let mut token = Shaky { calls: 0, wrong };
        let key = BlockKey::encrypting(&mut token, KeyRef::for_tests())?;
        key.ask(&mut token, &[1; 48]).map(|answer| answer.to_vec())
    }

    #[test]
    fn a_right_answer_is_the_callers_without_the_known_block() {
        assert_eq!(asked(|_, _| ()).unwrap(), [0x5B; 48]);
        let mut token = Shaky { calls: 0, wrong: |_, _| () };
        let key = BlockKey::decrypting(&mut token, KeyRef::for_tests()).unwrap();
        assert_eq!(key.ask(&mut token, &[1; 16]).unwrap()[..], [0x5B; 16]);
        assert!(key.ask(&mut token, &[]).unwrap().is_empty());
        assert_eq!(token.calls, 3, "one for the known block, two for the question, none for nothing");
    }

    #[test]
    fn an_answer_that_is_wrong_once_or_for_good_is_seen() {
        type Wrong = fn(usize, &mut [u8]);
        let cases: [(Wrong, &str); 5] = [
            (
                |call, answer| {
                    if call == 2 {
                        answer[40] ^= 1
                    }
                },
                "two answers",
            ),
            (
                |call, answer| {
                    if call == 3 {
                        answer[63] ^= 1
                    }
                },
                "two answers",
            ),
            (
                |call, answer| {
                    if call > 1 {
                        answer.reverse()
                    }
                },
                "known block",
            ),
            (
                |call, answer| {
                    if call > 1 {
                        answer.fill(0)
                    }
                },
                "known block",
            ),
            (|call, answer| answer[0] ^= u8::from(call == 1), "known block"),
        ];
        for (wrong, how) in cases {
            let error = asked(wrong).unwrap_err();
            assert!(error.code.contains(how) && error.class == FaultClass::Token, "{error:?}");
        }
    }
}
