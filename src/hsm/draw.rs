//! Random octets from two sources: the token's, XORed with OpenSSL's. Either of them being good suffices.
//! The token's part passes a health check first, so that a source that hangs is seen and not merely covered up.

use openssl::rand::rand_bytes;
use zeroize::Zeroizing;

use super::{FaultClass, HsmError, HsmSession};

/// Octets of one draw: what is handed to a lane at once. The token's own limit for one call stands in its profile.
const DRAW_OCTETS: usize = 32_768;
/// The health check compares windows of this size; two equal ones by chance have probability 2^-256.
const WINDOW: usize = 32;

/// Fills `out`: at least two draws of the token (a source that repeats itself is seen), each XORed with OpenSSL's random.
pub fn fill_random<S: HsmSession>(session: &mut S, out: &mut [u8]) -> Result<(), HsmError> {
    let mut piece = Zeroizing::new(vec![0; DRAW_OCTETS]);
    let mut previous_head = Zeroizing::new([0; WINDOW]);
    let half = out.len().div_ceil(2).clamp(1, DRAW_OCTETS);
    for (i, target) in out.chunks_mut(half).enumerate() {
        let drawn = &mut piece[..target.len().max(WINDOW)];
        session.random(drawn)?;
        let head: &[u8; WINDOW] = drawn.first_chunk().ok_or_else(|| sick("returned nothing"))?;
        if i > 0 && *head == *previous_head {
            return Err(sick("repeated its last draw"));
        }
        check_windows(drawn)?;
        previous_head.copy_from_slice(head);
        rand_bytes(target).map_err(|e| sick(&format!("OpenSSL's part: {e}")))?;
        target.iter_mut().zip(drawn.iter()).for_each(|(own, token)| *own ^= token);
    }
    if out.len() == 1 { confirm_alive(session, &previous_head) } else { Ok(()) }
}

/// A single octet needs one draw only; a second, thrown away, still shows a source that repeats itself.
fn confirm_alive<S: HsmSession>(session: &mut S, previous_head: &[u8; WINDOW]) -> Result<(), HsmError> {
    let mut again = Zeroizing::new([0; WINDOW]);
    session.random(&mut again[..])?;
    if *again == *previous_head { Err(sick("repeated its last draw")) } else { Ok(()) }
}

fn check_windows(drawn: &[u8]) -> Result<(), HsmError> {
    let mut previous: &[u8] = &[0; WINDOW];
    for window in drawn.chunks_exact(WINDOW) {
        if window == previous {
            return Err(sick(if window.iter().all(|b| *b == 0) { "returned zeros" } else { "repeats within a draw" }));
        }
        previous = window;
    }
    Ok(())
}

fn sick(how: &str) -> HsmError {
    HsmError {
        what: "draw random".into(),
        code: format!("the token's random source {how}"),
        class: FaultClass::Policy, // it would come back as it is
        hint: "do not issue credentials from this token before its maker has explained it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::lanes::tests::FakeSession;

    #[test]
    fn a_live_source_fills_every_length_and_never_the_same_twice() {
        let mut session = FakeSession::default();
        for length in [0, 1, 2, 31, 32, 33, 64, 4_096, 4_097, 20_000] {
            let [mut a, mut b] = [vec![0; length], vec![0; length]];
            fill_random(&mut session, &mut a).unwrap();
            fill_random(&mut session, &mut b).unwrap();
            assert!(length < 16 || a != b);
            assert!(length < 64 || a[length - 16..].iter().any(|octet| *octet != 0));
        }
    }

    #[test]
    fn zeros_and_repeats_are_refused() {
        for stuck in [[0; WINDOW], [0x5A; WINDOW]] {
            let mut session = FakeSession::default();
            session.stuck_random = Some(stuck);
            for length in [1, 2, 16, 64, 4_096, 10_000] {
                let error = fill_random(&mut session, &mut vec![0; length]).unwrap_err();
                assert_eq!(error.class, FaultClass::Policy);
            }
        }
    }
}
