//! Certificates of our own keys: the request, signed in the token, and the import, with every check that a start makes.
//!
//! In: a role and epoch, a chain from the CI. Out: a PKCS#10 file; the chain in `certs/` and the epoch active. Rule: the old chain
//! and the old key work until the new key has signed and the new certificate has verified it. Source: SGP.22 §4.5.2.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use openssl::sha::sha256;

use crate::certs::chain::check_manifest;
use crate::certs::request::{self, Asked};
use crate::certs::{Certificate, Curve, DpChain, DpRole, Trust, signature_fits};
use crate::config::{Site, files};
use crate::error::{Exit, Fault};
use crate::hsm::pkcs11::Token;
use crate::hsm::policy::KeyPolicy;
use crate::hsm::policy::epoch::PolicyFile;
use crate::hsm::{Hsm, HsmSession, Role};

/// What the request says of its subject.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// O.
    pub organization: Option<String>,
    /// CN; the SM-DP+ address and the role when not said.
    pub common_name: Option<String>,
    /// SM-DP+ OID; that of the chain in use when not said.
    pub oid: Option<String>,
}

/// A certificate that was installed.
pub struct Installed {
    /// SHA-256 of the leaf, lower-case hex.
    pub fingerprint: String,
    /// First end of validity in the chain.
    pub not_after: Timestamp,
    /// Where it stands now.
    pub file: PathBuf,
}

/// A file that was read, with its name for messages.
pub type FileRead = (PathBuf, Vec<u8>);

/// Reads files once: what is compared with a plan is what is installed.
pub fn read_files(paths: impl IntoIterator<Item = PathBuf>) -> Result<Vec<FileRead>, Fault> {
    let read = |path: PathBuf| std::fs::read(&path).map_err(|e| Fault::file(&path, &e)).map(|octets| (path, octets));
    paths.into_iter().map(read).collect()
}

/// A PKCS#10 request for one epoch's key, PEM.
pub fn request(site: &Site, token: &Token, role: &Role, epoch: u32, subject: &Subject) -> Result<String, Fault> {
    let dp_role = dp_role(role)?;
    let key = token.key_of(role, epoch)?;
    let common_name = subject.common_name.clone().unwrap_or_else(|| format!("{} {role}", site.config.smdp.address));
    // All chains of a site carry one OID, on whichever curve.
    let in_use = dp_role.and_then(|dp| DpChain::load_all(&directory(site, dp), dp).ok()).unwrap_or_default();
    let oid = subject.oid.as_deref().or(in_use.first().map(DpChain::oid)).filter(|_| dp_role.is_some());
    if dp_role.is_some() && oid.is_none() {
        return Err(Fault::new(Exit::Config, format!("{role}: the SM-DP+ OID is not known"))
            .hint("name it: the CI assigned it, certificates of an SM-DP+ carry it"));
    }
    let organization = subject.organization.as_deref();
    let asked = Asked { organization, common_name: &common_name, role: dp_role, oid };
    let info = request::info(curve(role), &token.public_point(key)?, &asked);
    let signature = token.open_session()?.sign(key, &sha256(&info))?;
    let der = request::signed(&info, &signature).map_err(|e| Fault::new(Exit::Bug, format!("OpenSSL: {e}")))?;
    Ok(request::pem(&der))
}

/// Checks a chain against trust, time, role, our other chain and the epoch's key, lets the key prove itself, installs it and makes
/// a pending epoch the active one. `begun` names orders that a change of key would tear in two.
///
/// Two files cannot change at once, so the order is: the chain, then the policy, whose one rename is the switch. A crash between
/// them leaves a chain over a key that is not yet the active one. Nothing starts on that, so nothing is issued with a chain and a
/// key that differ; the same call again finds the chain in its place and does the rest. The other order would leave the switch done
/// and its proof missing. What the chain replaced is in `until-...` before it is replaced: the way back is a copy.
pub fn install(
    site: &Site,
    token: &Token,
    (role, epoch): (&Role, u32),
    chain: &[FileRead],
    now: Timestamp,
    begun: impl FnOnce() -> Result<Vec<String>, Fault>,
) -> Result<Installed, Fault> {
    let dp_role = dp_role(role)?;
    let key = token.key_of(role, epoch)?;
    let point = token.public_point(key)?;
    let (pem, leaf_point, installed) = match dp_role {
        Some(dp) => dp_chain(site, (dp, curve(role)), chain, now, &point)?,
        None => manifest(site, chain, now, &point)?,
    };
    let challenge = sha256(format!("bindery: proof of {role} epoch {epoch} at {now}").as_bytes());
    if !signature_fits(&leaf_point, &challenge, &token.open_session()?.sign(key, &challenge)?) {
        return Err(Fault::new(Exit::HsmUnusable, format!("{role} epoch {epoch} signs what its certificate refuses"))
            .hint("do not use this key: it was exchanged or the HSM is faulty"));
    }
    let policy_file = site.path(&site.config.hsm.policy);
    let switches = KeyPolicy::load(&policy_file)?.rule(role).is_none_or(|active| active.epoch != epoch);
    if switches {
        refuse_while_begun(role, &begun()?)?;
        let pending = token.rules().iter().find(|rule| (&rule.role, rule.epoch) == (role, epoch));
        pending.map_or(Ok(()), |rule| Token::same_in_every_slot(site, rule))?;
    }
    put_in_place(&installed.file, dp_role.map(|_| curve(role)), &pem, now)?;
    let mut policy = PolicyFile::open(&policy_file)?;
    policy.activate(role, epoch, now)?;
    policy.write()?;
    Ok(installed)
}

/// Refuses to change a signing key under orders of which a part is bound already.
pub fn refuse_while_begun(role: &Role, orders: &[String]) -> Result<(), Fault> {
    if orders.is_empty() {
        return Ok(());
    }
    let what = format!("{role}: {} orders have bound packages and no bundle yet: {}", orders.len(), orders.join(", "));
    Err(Fault::new(Exit::Config, what).hint("one bundle has one chain: finish them with `bindery run`, then go on"))
}

/// The certificate role of a key, none for the manifest key; the other keys have none.
fn dp_role(role: &Role) -> Result<Option<DpRole>, Fault> {
    match role {
        Role::DpAuth(_) => Ok(Some(DpRole::Auth)),
        Role::DpPb(_) => Ok(Some(DpRole::Pb)),
        Role::Manifest => Ok(None),
        other => {
            Err(Fault::new(Exit::Usage, format!("{other} carries no certificate")).hint("dpauth, dppb and manifest do"))
        }
    }
}

/// The curve of a role's key.
fn curve(role: &Role) -> Curve {
    match role {
        Role::DpAuth(curve) | Role::DpPb(curve) => *curve,
        _ => Curve::P256,
    }
}

/// The chains of both curves lie there.
fn directory(site: &Site, role: DpRole) -> PathBuf {
    site.path("certs").join(role.as_str())
}

type Checked = (String, [u8; 65], Installed);

fn dp_chain(
    site: &Site,
    (role, curve): (DpRole, Curve),
    chain: &[FileRead],
    now: Timestamp,
    point: &[u8; 65],
) -> Result<Checked, Fault> {
    // Read from a directory of its own, by the same code that reads certs/ at every start.
    let staging = tempfile::tempdir().map_err(|e| Fault::new(Exit::Config, format!("temporary directory: {e}")))?;
    for (at, certificate) in certificates(chain)?.iter().enumerate() {
        files::write_whole(&staging.path().join(format!("{at:02}.pem")), certificate.pem().as_bytes(), 0o644)?;
    }
    let told = |mut fault: Fault| {
        fault.what = fault.what.replace(&staging.path().display().to_string(), &format!("{} chain", role.as_str()));
        fault
    };
    let mut chains = DpChain::load_all(staging.path(), role).map_err(told)?;
    let chain = chains.pop().filter(|chain| chains.is_empty() && chain.curve() == curve).ok_or_else(|| {
        Fault::new(Exit::Config, format!("{} chain: its leaf is not the one on {curve}", role.as_str()))
            .hint("each curve has a key and a chain of its own: install one chain at a time, as the role's name says")
    })?;
    chain.check(&Trust::load(&site.path("certs/ci"))?, now, point)?;
    let other = match role {
        DpRole::Auth => DpRole::Pb,
        DpRole::Pb => DpRole::Auth,
    };
    let others = DpChain::load_all(&directory(site, other), other).unwrap_or_default();
    let same = DpChain::load_all(&directory(site, role), role).unwrap_or_default();
    let of_other_curves = same.iter().filter(|there| there.curve() != curve);
    if let Some(other) = others.iter().chain(of_other_curves).find(|other| other.oid() != chain.oid()) {
        let what = format!("the chain carries OID {}, another of this site {}", chain.oid(), other.oid());
        return Err(Fault::new(Exit::Config, what).hint("eUICCs compare them: all are of one SM-DP+ OID"));
    }
    let file = directory(site, role).join(format!("{}{}.pem", role.as_str(), curve.file_tail()));
    let installed = Installed { fingerprint: chain.leaf().fingerprint(), not_after: chain.not_after(), file };
    Ok((chain.pem(), *chain.point(), installed))
}

fn manifest(site: &Site, files: &[FileRead], now: Timestamp, point: &[u8; 65]) -> Result<Checked, Fault> {
    let all = certificates(files)?;
    let [one] = &all[..] else {
        return Err(Fault::new(Exit::Config, format!("{} certificates for the manifest key, not one", all.len())));
    };
    check_manifest(one, now, point)?;
    let file = site.path("certs/manifest/manifest.pem");
    Ok((one.pem(), *one.point(), Installed { fingerprint: one.fingerprint(), not_after: one.not_after(), file }))
}

fn certificates(chain: &[FileRead]) -> Result<Vec<Certificate>, Fault> {
    let mut all = Vec::new();
    for (path, octets) in chain {
        let read = Certificate::all_of(octets);
        all.extend(read.map_err(|what| Fault::new(Exit::Config, format!("{}: {what}", path.display())))?);
    }
    Ok(all)
}

/// Moves what stood there aside, into a directory that no start reads, and writes the new file. With a curve, what serves the
/// other one stays.
fn put_in_place(file: &Path, only: Option<Curve>, pem: &str, now: Timestamp) -> Result<(), Fault> {
    let dir = file.parent().unwrap_or(Path::new(""));
    files::make_directory(dir, 0o755)?;
    let mut there = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Fault::file(dir, &e))? {
        let path = entry.map_err(|e| Fault::file(dir, &e))?.path();
        let is_certificate =
            path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "pem" | "crt" | "cer" | "der"));
        if is_certificate && path.is_file() {
            let octets = std::fs::read(&path).map_err(|e| Fault::file(&path, &e))?;
            // What cannot be read serves nobody.
            there.push((path, Certificate::all_of(&octets).ok()));
        }
    }
    let is_others = |certificate: &Certificate| !certificate.is_ca && only.is_some_and(|on| certificate.curve() != on);
    let is_ours = |certificate: &Certificate| !certificate.is_ca && !is_others(certificate);
    let serves_others = there.iter().filter_map(|(_, all)| all.as_ref()).flatten().any(is_others);
    if let Some((path, _)) =
        there.iter().find(|(_, all)| all.as_ref().is_some_and(|a| a.iter().any(is_ours) && a.iter().any(is_others)))
    {
        let what = format!("{}: holds leaves of both curves", path.display());
        return Err(Fault::new(Exit::Config, what).hint("write each chain into a file of its own, then run again"));
    }
    // A file of CAs alone may be the other curve's: it stays as long as that has a leaf.
    let stays = |all: &[Certificate]| all.iter().any(is_others) || (serves_others && !all.iter().any(is_ours));
    let aside = dir.join(format!("until-{}", now.strftime("%Y%m%dT%H%M%SZ")));
    for (path, all) in &there {
        if path != file && all.as_ref().is_some_and(|all| stays(all)) {
            continue;
        }
        // Written by a call that was killed afterwards: what stood there before it was moved aside then.
        if path == file && std::fs::read(file).is_ok_and(|there| there == pem.as_bytes()) {
            continue;
        }
        files::make_directory(&aside, 0o755)?;
        let kept = aside.join(path.file_name().unwrap_or_default());
        // A copy of the file that is replaced: its name never vanishes. It is on the disk before the original goes.
        let octets = std::fs::read(path).map_err(|e| Fault::file(path, &e))?;
        files::write_whole(&kept, &octets, 0o644)?;
        if path != file {
            std::fs::remove_file(path).map_err(|e| Fault::file(path, &e))?;
        }
    }
    files::write_whole(file, pem.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::test_pki::{TEST_OID, TestPki};
    use crate::certs::{certificate, point};

    #[test]
    fn a_chain_that_is_in_its_place_already_is_not_moved_aside_as_the_old_one() {
        let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let pki = TestPki::create_on(Curve::P256, now).unwrap();
        let [old, new] = std::array::from_fn(|_| {
            let key = openssl::ec::EcKey::generate(Curve::P256.group().unwrap()).unwrap();
            certificate::pem(&pki.issue_dp(DpRole::Pb, TEST_OID, &point::point_of(&key).unwrap(), now).unwrap())
        });
        let file = dir.path().join("dppb.pem");
        std::fs::write(&file, &old).unwrap();
        for (pem, at) in [(&new, "2026-05-01T13:00:00Z"), (&new, "2026-05-01T14:00:00Z")] {
            put_in_place(&file, Some(Curve::P256), pem, at.parse().unwrap()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), new);
        let kept = std::fs::read_to_string(dir.path().join("until-20260501T130000Z/dppb.pem"));
        assert_eq!(kept.unwrap(), old);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_chain_takes_the_place_of_the_one_on_its_curve_and_the_other_stays() {
        let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let leaf = |curve: Curve| {
            let key = openssl::ec::EcKey::generate(curve.group().unwrap()).unwrap();
            let pki = TestPki::create_on(curve, now).unwrap();
            let der = pki.issue_dp(DpRole::Pb, TEST_OID, &point::point_of(&key).unwrap(), now).unwrap();
            (certificate::pem(&der), certificate::pem(pki.ci_der()))
        };
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let [(p256, ca), (brainpool, _)] = Curve::ALL.map(leaf);
        write("dppb.pem", &p256);
        write("between.pem", &ca);
        write("other.pem", &brainpool);
        write("torn.pem", "-----BEGIN CERTIFICATE-----");
        let next = leaf(Curve::Brainpool).0;
        put_in_place(&dir.path().join("dppb-brainpool.pem"), Some(Curve::Brainpool), &next, now).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        assert_eq!(read("dppb.pem"), Some(p256.clone()));
        assert_eq!(read("between.pem"), Some(ca));
        assert_eq!(read("dppb-brainpool.pem"), Some(next.clone()));
        assert_eq!((read("other.pem"), read("torn.pem")), (None, None));
        assert_eq!(read("until-20260501T120000Z/other.pem"), Some(brainpool));
        assert_eq!(DpChain::load_all(dir.path(), DpRole::Pb).unwrap().len(), 2);
        // One file with both leaves cannot be half moved.
        write("both.pem", &format!("{p256}{next}"));
        let refused = put_in_place(&dir.path().join("dppb.pem"), Some(Curve::P256), &p256, now).unwrap_err();
        assert!(refused.what.contains("both.pem"), "{}", refused.what);
        assert!(read("both.pem").is_some());
    }
}
