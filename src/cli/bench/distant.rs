//! A network HSM as the lanes see one: a round trip, and engines that serve one call each. An [`Hsm`] before the real token, which
//! still answers for everything but the signature.
//!
//! The time of an engine is booked, not slept: what a sleep takes too long delays one answer, but makes no engine slower. The
//! signature itself is made in this process by OpenSSL, with a key of its own; a real network HSM would take that work off us.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::bn::BigNumContext;
use openssl::ec::{EcGroup, EcKey, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::Private;
use zeroize::Zeroizing;

use super::failed;
use crate::error::Fault;
use crate::hsm::{FaultClass, Hsm, HsmError, HsmSession, KeyRef, Recoverable, Role};

/// How far away, and how fast there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Distance {
    pub(super) round_trip: Duration,
    pub(super) engines: usize,
    /// One signature on one engine.
    pub(super) service: Duration,
}

impl Distance {
    /// Signatures a second with so many calls in flight: what the engines can do, or what the way lets through (Little's law).
    pub(super) fn per_s(&self, lanes: usize) -> f64 {
        let engines = self.engines as f64 / self.service.as_secs_f64();
        engines.min(lanes as f64 / (self.round_trip + self.service).as_secs_f64())
    }
}

/// The token at that distance.
pub(super) struct Distant<H> {
    token: H,
    device: Arc<Device>,
    point: [u8; 65],
}

pub(super) struct DistantSession<S> {
    session: S,
    device: Arc<Device>,
}

struct Device {
    distance: Distance,
    /// When each engine has done what is booked.
    engines: Mutex<Vec<Instant>>,
    key: EcKey<Private>,
    signs: KeyRef,
}

impl<H: Hsm> Distant<H> {
    /// Signs for `role` at this distance.
    pub(super) fn new(token: H, role: &Role, distance: Distance) -> Result<Self, Fault> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).map_err(failed)?;
        let key = EcKey::generate(&group).map_err(failed)?;
        let mut numbers = BigNumContext::new().map_err(failed)?;
        let point = key.public_key().to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut numbers);
        let point = point.map_err(failed)?.try_into().map_err(|_| failed("a point of another size"))?;
        let engines = Mutex::new(vec![Instant::now(); distance.engines]);
        let device = Device { distance, engines, key, signs: token.key(role)? };
        Ok(Self { token, device: Arc::new(device), point })
    }
}

impl Device {
    /// Books an engine; gives the moment at which the answer is back.
    fn book(&self) -> Instant {
        let way = self.distance.round_trip / 2;
        let arrives = Instant::now() + way;
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        match engines.iter_mut().min() {
            Some(first_free) => {
                *first_free = arrives.max(*first_free) + self.distance.service;
                *first_free + way
            }
            None => arrives + way,
        }
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], ErrorStack> {
        let signature = EcdsaSig::sign(digest, &self.key)?;
        let mut octets = [0; 64];
        octets[..32].copy_from_slice(&signature.r().to_vec_padded(32)?);
        octets[32..].copy_from_slice(&signature.s().to_vec_padded(32)?);
        Ok(octets)
    }
}

impl<H: Hsm> Hsm for Distant<H> {
    type Session = DistantSession<H::Session>;
    fn open_session(&self) -> Result<Self::Session, HsmError> {
        Ok(DistantSession { session: self.token.open_session()?, device: Arc::clone(&self.device) })
    }
    fn key(&self, role: &Role) -> Result<KeyRef, HsmError> {
        self.token.key(role)
    }
    fn public_point(&self, key: KeyRef) -> Result<[u8; 65], HsmError> {
        if key == self.device.signs { Ok(self.point) } else { self.token.public_point(key) }
    }
}

impl<H: Recoverable> Recoverable for Distant<H> {
    fn name(&self) -> String {
        self.token.name()
    }
    fn module(&self) -> usize {
        self.token.module()
    }
    fn restart_module(&self) -> Result<(), HsmError> {
        self.token.restart_module()
    }
    fn revive(&self) -> Result<(), HsmError> {
        self.token.revive()
    }
}

impl<S: HsmSession> HsmSession for DistantSession<S> {
    fn sign(&mut self, key: KeyRef, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        if key != self.device.signs {
            return self.session.sign(key, digest);
        }
        let answered = self.device.book();
        let signature = self.device.sign(digest).map_err(|e| HsmError {
            what: "sign at a distance".into(),
            code: e.to_string(),
            class: FaultClass::Data,
            hint: "a bug in the benchmark: please report it",
        })?;
        std::thread::sleep(answered.saturating_duration_since(Instant::now()));
        Ok(signature)
    }
    fn random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        self.session.random(out)
    }
    fn encrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.session.encrypt_blocks(key, blocks)
    }
    fn decrypt_blocks(&mut self, key: KeyRef, blocks: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        self.session.decrypt_blocks(key, blocks)
    }
    fn check_value(&mut self, key: KeyRef) -> Result<Option<Vec<u8>>, HsmError> {
        self.session.check_value(key)
    }
    fn seal(&mut self, key: KeyRef, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.session.seal(key, aad, plain)
    }
    fn open(&mut self, key: KeyRef, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        self.session.open(key, aad, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_or_the_way_bound_what_can_be_signed() {
        let ms = Duration::from_micros;
        let distance = Distance { round_trip: ms(500), engines: 4, service: ms(200) };
        assert_eq!(distance.per_s(32), 20_000.0);
        assert!((distance.per_s(1) - 1_428.57).abs() < 0.01);
    }

    #[test]
    fn calls_wait_for_an_engine_and_for_the_way_back() {
        let ms = Duration::from_millis;
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let device = Device {
            distance: Distance { round_trip: ms(10), engines: 2, service: ms(100) },
            engines: Mutex::new(vec![Instant::now(); 2]),
            key: EcKey::generate(&group).unwrap(),
            signs: KeyRef::for_tests(),
        };
        let begun = Instant::now();
        let back: Vec<u128> = (0..4).map(|_| device.book().duration_since(begun).as_millis()).collect();
        for (back, expected) in back.iter().zip([110, 110, 210, 210]) {
            assert!((expected..expected + 20).contains(back), "{back} {expected}");
        }
    }
}
