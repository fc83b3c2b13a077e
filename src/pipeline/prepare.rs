//! From an accepted order to [`OrderWork`]: templates compiled, metadata laid out, transport keys resolved, the batch key opened.
//! What cannot work fails here, before the first record costs anything.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use zeroize::Zeroizing;

use super::blocks::BlockKey;
use super::distinct::Distinct;
use super::import::Import;
use super::stored::part_dir;
use super::work::{Binding, Engine, LineWork, OrderWork};
use crate::config::{CoreTarget, Site, files};
use crate::durable;
use crate::error::{Exit, Fault};
use crate::export::bundle;
use crate::export::records::LineFacts;
use crate::formats::bsp::kdf::HostId;
use crate::formats::digest::sha256;
use crate::formats::rsp::metadata as rsp;
use crate::hsm::{Hsm, Role, draw};
use crate::order::file::{CredentialsFrom, Export, Line, Mode, Order};
use crate::order::{MSISDN, Var};
use crate::personalise;
use crate::personalise::shelf::{Shelf, TemplateName};
use crate::personalise::{CompiledTemplate, Settings, VarSource};
use crate::store::sealed::BatchKey;
use crate::store::{OrderState, StoredOrder};

/// Makes an order ready to be worked on.
pub(super) fn prepare<H: Hsm>(engine: &Engine<'_, H>, stored: &StoredOrder) -> Result<OrderWork, Fault> {
    let order = Order::from_json(&stored.body).map_err(|_| {
        Fault::new(Exit::IntegrityFailure, format!("{}: the ledger's copy of the order cannot be read", stored.key))
            .hint("restore state.db from its last backup")
    })?;
    let distinct = distinct(engine, stored, &order)?;
    let line_works = order.lines.into_iter().map(|line| line_work(engine, stored, line, &distinct));
    let lines = line_works.collect::<Result<_, _>>()?;
    let vault_dir = engine.site.vault();
    files::make_directory(&vault_dir, 0o700)?;
    let own = engine.site.outbox().join(stored.key.outbox_path());
    // What is bound later stands beside the order's own bundle, whatever other parts it has.
    let bundle_dir = if stored.state == OrderState::Open { part_dir(&own, stored.part) } else { own };
    // The run lock is ours: whatever is unfinished here has no writer any more.
    for dir in [&bundle_dir, &bundle_dir.join(bundle::CERTIFICATES), &vault_dir] {
        durable::sweep(dir).map_err(|e| Fault::file(dir, &e))?;
    }
    Ok(OrderWork {
        pk: stored.pk,
        key: stored.key.clone(),
        lines,
        batch_key: batch_key(engine, stored)?,
        distinct,
        curves: engine.chains.curves(),
        bundle_dir,
        vault_dir,
    })
}

/// The order's batch key: opened as the ledger holds it, or drawn, sealed and kept before it seals anything.
fn batch_key<H: Hsm>(engine: &Engine<'_, H>, stored: &StoredOrder) -> Result<BatchKey, Fault> {
    let mut session = engine.hsm.open_session()?;
    let kek = engine.keys.kek;
    if let Some(sealed) = &stored.sealed_batch_key {
        let opened = BatchKey::open_under(&mut session, kek, &stored.key, sealed)?;
        return opened.ok_or_else(|| {
            Fault::new(Exit::IntegrityFailure, format!("{}: the sealed batch key has another length", stored.key))
                .hint("restore state.db from its last backup")
        });
    }
    let mut octets = Zeroizing::new([0; 32]);
    draw::fill_random(&mut session, &mut octets[..])?;
    let key = BatchKey::from_random(&octets, &stored.key);
    let sealed = key.seal_under(&mut session, kek, &stored.key)?;
    engine.store.keep_batch_key(stored.pk, &sealed)?;
    Ok(key)
}

/// Fingerprints of secrets mean nothing outside this run: their key is drawn for it.
fn distinct<H: Hsm>(engine: &Engine<'_, H>, stored: &StoredOrder, order: &Order) -> Result<Distinct, Fault> {
    let mut key = Zeroizing::new([0; 32]);
    draw::fill_random(&mut engine.hsm.open_session()?, &mut key[..])?;
    let imports = order.lines.iter().filter(|line| line.credentials == CredentialsFrom::Import);
    let imported = imports.map(|line| u64::from(line.quantity)).sum();
    Ok(Distinct::new(key, stored.rows, imported))
}

/// Whether the site can serve a line: what the run would find wrong later, found before a number is claimed.
/// `dppb_ends`: first end of the DPpb chains. The error names the member of the line.
pub fn check_line(site: &Site, line: &Line, dppb_ends: Timestamp) -> Result<(), (&'static str, Fault)> {
    check_validity(line, dppb_ends).map_err(|fault| ("validity.until", fault))?;
    metadata(line).map_err(|fault| ("metadata", fault))?;
    transport(site, line).map(drop).map_err(|fault| ("export", fault))
}

/// When the order was accepted: it keeps the transport key that was active then.
fn accepted_at(stored: &StoredOrder) -> Result<Timestamp, Fault> {
    stored.accepted_at.parse().map_err(|e| {
        Fault::new(Exit::IntegrityFailure, format!("{}: accepted_at is no timestamp: {e}", stored.key))
            .hint("restore state.db from its last backup")
    })
}

fn line_work<H: Hsm>(
    engine: &Engine<'_, H>,
    stored: &StoredOrder,
    ordered: Line,
    distinct: &Distinct,
) -> Result<LineWork, Fault> {
    let line = &ordered;
    let named = |what: String| Fault::new(Exit::Config, format!("line {}: {what}", line.line));
    check_validity(line, engine.chains.pb_not_after())?;
    let (template, der) = compile(engine.site, line)?;
    let template_sha256 = data_encoding::HEXLOWER.encode(&sha256(&der));
    if stored.templates.get(&line.line) != Some(&template_sha256) {
        let what = format!("line {}: template {} is not the one the order was accepted with", line.line, line.template);
        return Err(Fault::new(Exit::IntegrityFailure, what).hint("put the template back: a version never changes"));
    }
    let template_found = personalise::audit::read(&der).map_err(|e| {
        let what = format!("template {}: its own values cannot be read: {e}", line.template);
        named(what).hint("run `bindery template lint NAME`")
    })?;
    let (transport_key, scheme) = transport(engine.site, line)?;
    let accepted_at = accepted_at(stored)?;
    let transport = engine.hsm.key_at(&Role::Transport(transport_key.clone()), accepted_at)?;
    let transport = BlockKey::encrypting(&mut engine.hsm.open_session()?, transport)?;
    let import = Import::of(engine, line, accepted_at)?;
    let metadata = metadata(line)?;
    let host_id = HostId::new(engine.site.config.smdp.host_id.as_bytes())
        .ok_or_else(|| named("smdp.host_id has not 1 to 16 octets".to_owned()).hint("correct bindery.toml"))?;
    let facts = LineFacts {
        profile_class: line.metadata.class.as_str().to_owned(),
        mode: line.mode.as_str().to_owned(),
        algorithm: line.algorithm.as_str().to_owned(),
        smdp_address: engine.site.config.smdp.address.clone(),
        smdp_oid: engine.chains.oid().to_owned(),
        cc_required: line.confirmation_code.is_some(),
        transport_key,
        scheme,
    };
    Ok(LineWork {
        number: line.line,
        template,
        settings: settings_of(line),
        template_secrets: distinct.of_template(&template_found),
        template_found,
        metadata,
        binding: match line.mode {
            Mode::Prebound => Binding::Now,
            Mode::Order => Binding::Later,
        },
        import,
        transport,
        host_id,
        facts,
        template_sha256,
        qr: line.export.contains(&Export::Qr),
        ordered,
    })
}

/// StoreMetadata of a line but for the ICCID.
fn metadata(line: &Line) -> Result<rsp::MetadataTemplate, Fault> {
    let refused = |what: String| {
        Fault::new(Exit::Config, format!("line {}: metadata: {what}", line.line))
            .hint("correct the order's metadata and send it again")
    };
    let template = rsp::MetadataTemplate::new(&line.metadata).map_err(|e| refused(e.to_string()))?;
    if template.len() > rsp::MAX_LEN {
        return Err(refused(format!("{} octets, at most {} fit two segments", template.len(), rsp::MAX_LEN)));
    }
    Ok(template)
}

/// A package whose DPpb certificate ends before the profile may be used is worth nothing.
fn check_validity(line: &Line, dppb_ends: Timestamp) -> Result<(), Fault> {
    let Some(until) = line.validity.and_then(|validity| validity.until) else { return Ok(()) };
    let ends = dppb_ends.to_zoned(TimeZone::UTC).date();
    if ends >= until {
        return Ok(());
    }
    let what = format!("line {}: profiles are to be good until {until}, CERT.DPpb ends {ends}", line.line);
    Err(Fault::new(Exit::CertificateExpired, what).hint("install a DPpb certificate that lasts longer"))
}

/// The template of a line from the shelf, compiled and tried; with its DER.
fn compile(site: &Site, line: &Line) -> Result<(CompiledTemplate, Vec<u8>), Fault> {
    let refused = |what: String, hint: &str| {
        Fault::new(Exit::Config, format!("line {}: template {}: {what}", line.line, line.template)).hint(hint)
    };
    let name: TemplateName = line.template.parse().map_err(|e| refused(format!("{e}"), "name it NAME@VERSION"))?;
    let der = Shelf::open(site.templates()).load(&name).map_err(|e| refused(e.to_string(), e.hint()))?;
    let compiled = personalise::trial(&der, &settings_of(line)).map_err(|e| refused(e.to_string(), e.hint()))?;
    Ok((compiled, der))
}

/// What a line sets for all its records, and which variables each record brings. The telephone number is every record's own:
/// the ledger holds it, whatever it comes from.
pub fn settings_of(line: &Line) -> Settings {
    let source = |var: &Var| match var {
        Var::Constant(text) => VarSource::Constant(text.clone()),
        Var::Column(_) | Var::First(_) => VarSource::PerRecord,
    };
    let vars = line.vars.iter().filter(|(name, _)| *name != MSISDN);
    Settings { algorithm: line.algorithm, vars: vars.map(|(name, var)| (name.clone(), source(var))).collect() }
}

/// The core network of a line: the one it names, else the site's only one.
pub(super) fn core_target<'s>(site: &'s Site, line: &Line) -> Option<&'s CoreTarget> {
    let targets = &site.config.export.core;
    let named = line.export.iter().find_map(|export| match export {
        Export::Core(name) => Some(name),
        _ => None,
    });
    match named {
        Some(name) => targets.get(name),
        None if targets.len() == 1 => targets.values().next(),
        None => None,
    }
}

/// Transport key and scheme of the core file: the order's own, else those of the core target. The key that an order names for its
/// imported credentials is the one they came under: what goes out goes under the core target's.
fn transport(site: &Site, line: &Line) -> Result<(String, &'static str), Fault> {
    let own = line.transport_key.as_ref().filter(|_| line.credentials == CredentialsFrom::Generate);
    match (core_target(site, line), own) {
        (Some(target), key) => {
            Ok((key.cloned().unwrap_or_else(|| target.transport_key.clone()), target.scheme.as_str()))
        }
        (None, Some(key)) => Ok((key.clone(), crate::config::CoreScheme::AesEcb.as_str())),
        (None, None) => {
            let what = format!("line {}: no core network would get K and OPc", line.line);
            let hint = match line.credentials {
                CredentialsFrom::Generate => "name core:NAME in export, or a transport_key",
                CredentialsFrom::Import => {
                    "name core:NAME in export: transport_key is the key that K and OPc came under"
                }
            };
            Err(Fault::new(Exit::Config, what).hint(hint))
        }
    }
}
