//! From the words of a source to elements. Tags and lengths come from the typed layer; this file maps, it does not count.

use std::collections::BTreeSet;
use std::ops::Range;

use rasn::prelude::{OctetString, SequenceOf};
use toml::Spanned;

use super::Wrong;
use super::schema::{self, Element, Hex, KeyType, Source};
use crate::formats::bcd;
use crate::formats::saip::kind::{Kind, constructed, primitive};
use crate::formats::saip::services::service_number;
use crate::formats::saip::types::{self, FileEntry, PeHeader};
use crate::formats::tlv::{self, Tag};

/// DER of 2.23.143.1.2, the arc of all templates.
const TEMPLATE_ARC: [u8; 5] = [0x67, 0x81, 0x0F, 0x01, 0x02];

/// The whole package: header, elements, end.
pub(super) fn package(source: &Source) -> Result<Vec<u8>, Wrong> {
    let mut templates = BTreeSet::new();
    let mut body = Vec::new();
    for (at, element) in source.elements.iter().enumerate() {
        let id = u16::try_from(at + 1).unwrap_or(u16::MAX);
        let context = Context { header: PeHeader { mandated: Some(()), identification: id }, span: element.span() };
        body.extend(context.element(element.get_ref(), &mut templates)?);
    }
    let end = PeHeader { mandated: Some(()), identification: source.elements.len() as u16 + 1 };
    let context = Context { header: end.clone(), span: 0..0 };
    let end = context.encoded(&types::End { header: end })?;
    let mut package = header(&source.header, &templates)?;
    package.extend(body);
    package.extend(retagged(Kind::End, &end)?);
    Ok(package)
}

fn header(header: &schema::Header, templates: &BTreeSet<Vec<u8>>) -> Result<Vec<u8>, Wrong> {
    let version = header.version.get_ref().split_once('.');
    let Some((Ok(major), Ok(minor))) = version.map(|(major, minor)| (major.parse::<u8>(), minor.parse::<u8>())) else {
        return Err(Wrong { at: header.version.span(), what: "version is not MAJOR.MINOR, such as 2.3".into() });
    };
    let iccid = header.iccid.get_ref();
    if !matches!(iccid.len(), 18..=20) || !iccid.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Wrong { at: header.iccid.span(), what: "iccid is not 18 to 20 digits".into() });
    }
    let mut numbers = BTreeSet::new();
    for service in &header.services {
        let unknown = || Wrong { at: service.span(), what: format!("no service is called {:?}", service.get_ref()) };
        numbers.insert(service_number(service.get_ref()).ok_or_else(unknown)?);
    }
    let services: Vec<u8> = numbers.iter().flat_map(|number| tlv::wrap(primitive(*number), &[])).collect();
    let oids: Vec<u8> = templates.iter().flat_map(|oid| tlv::wrap(Tag(0x06), &[oid])).collect();
    let iot = header.iot_pix.as_ref().map(|pix| tlv::wrap(constructed(9), &[&tlv::wrap(primitive(0), &[&pix.0])]));
    let members = [
        tlv::wrap(primitive(0), &[&[major]]),
        tlv::wrap(primitive(1), &[&[minor]]),
        tlv::wrap(primitive(2), &[header.profile_type.as_bytes()]),
        tlv::wrap(primitive(3), &[&bcd::straight::<10>(iccid)]),
        tlv::wrap(constructed(5), &[&services]),
        tlv::wrap(constructed(6), &[&oids]),
        iot.unwrap_or_default(),
    ];
    Ok(tlv::wrap(constructed(0), &members.each_ref().map(Vec::as_slice)))
}

/// What an element needs from its place.
struct Context {
    header: PeHeader,
    span: Range<usize>,
}

impl Context {
    fn element(&self, element: &Element, templates: &mut BTreeSet<Vec<u8>>) -> Result<Vec<u8>, Wrong> {
        if let Some((kind, files)) = file_system(element) {
            return self.file_system(kind, files, templates);
        }
        let header = self.header.clone();
        let (kind, encoded) = match element {
            Element::PinCodes(pins) => (Kind::PinCodes, self.encoded(&pin_codes(header, pins))?),
            Element::PukCodes(puks) => (Kind::PukCodes, self.encoded(&puk_codes(header, puks))?),
            Element::AkaParameter(aka) => (Kind::AkaParameter, self.encoded(&aka_parameter(header, aka))?),
            Element::SecurityDomain(domain) => (Kind::SecurityDomain, self.encoded(&security_domain(header, domain)?)?),
            Element::Rfm(instance) => (Kind::Rfm, self.encoded(&rfm(header, instance))?),
            Element::Application(application) => {
                (Kind::Application, self.encoded(&self.application(header, application)?)?)
            }
            _ => return Err(self.wrong("is not an element this version can build")),
        };
        retagged(kind, &encoded)
    }

    fn file_system(
        &self,
        kind: Kind,
        source: &schema::FileSystem,
        templates: &mut BTreeSet<Vec<u8>>,
    ) -> Result<Vec<u8>, Wrong> {
        let oid = template_oid(&source.template)?;
        templates.insert(oid.clone());
        let header = self.encoded(&self.header)?;
        let mut value = [retag(constructed(0), &header)?, tlv::wrap(primitive(1), &[&oid])].concat();
        if let Some((name, file)) = source.files.iter().find(|(name, _)| kind.file_number(name).is_none()) {
            let what = format!("{kind} has no file {name:?}, only {}", kind.files().join(", "));
            return Err(Wrong { at: file.span(), what });
        }
        for name in kind.files() {
            if let (Some(file), Some(number)) = (source.files.get(*name), kind.file_number(name)) {
                let entries = file_entries(name, file)?;
                let at = Context { header: self.header.clone(), span: file.span() };
                value.extend(retag(constructed(number), &at.encoded(&entries)?)?);
            }
        }
        kind.tag().map(|tag| tlv::wrap(tag, &[&value])).ok_or_else(|| self.wrong("has no tag"))
    }

    fn application(&self, header: PeHeader, source: &schema::Application) -> Result<types::Application, Wrong> {
        let block = match (&source.load_block, source.load_block_fill_bytes) {
            (Some(block), None) => Some(block.0.clone()),
            (None, Some(octets)) => Some(made_up_load_block(octets)),
            (None, None) => None,
            _ => return Err(self.wrong("load_block and load_block_fill_bytes exclude each other")),
        };
        let load_block = block.map(|block| types::LoadPackage {
            load_package_aid: octets(&source.package_aid),
            security_domain_aid: source.security_domain.as_ref().map(octets),
            non_volatile_code_limit: None,
            volatile_data_limit: None,
            non_volatile_data_limit: None,
            hash_value: None,
            load_block_object: block.into(),
        });
        let instances: SequenceOf<_> = source.instances.iter().map(instance).collect();
        let instance_list = Some(instances).filter(|list| !list.is_empty());
        Ok(types::Application { header, load_block, instance_list })
    }

    fn encoded<T: rasn::Encode>(&self, value: &T) -> Result<Vec<u8>, Wrong> {
        rasn::der::encode(value).map_err(|e| self.wrong(&e.to_string()))
    }

    fn wrong(&self, what: &str) -> Wrong {
        Wrong { at: self.span.clone(), what: what.to_owned() }
    }
}

fn file_system(element: &Element) -> Option<(Kind, &schema::FileSystem)> {
    Some(match element {
        Element::Mf(files) => (Kind::Mf, files),
        Element::Cd(files) => (Kind::Cd, files),
        Element::Telecom(files) => (Kind::Telecom, files),
        Element::Usim(files) => (Kind::Usim, files),
        Element::OptUsim(files) => (Kind::OptUsim, files),
        Element::Isim(files) => (Kind::Isim, files),
        Element::OptIsim(files) => (Kind::OptIsim, files),
        Element::Phonebook(files) => (Kind::Phonebook, files),
        Element::GsmAccess(files) => (Kind::GsmAccess, files),
        Element::Df5gs(files) => (Kind::Df5gs, files),
        Element::DfSaip(files) => (Kind::DfSaip, files),
        Element::DfSnpn(files) => (Kind::DfSnpn, files),
        Element::Df5gprose(files) => (Kind::Df5gprose, files),
        Element::Iot(files) => (Kind::Iot, files),
        Element::OptIot(files) => (Kind::OptIot, files),
        _ => return None,
    })
}

fn template_oid(tail: &Spanned<String>) -> Result<Vec<u8>, Wrong> {
    let arcs: Option<Vec<u8>> =
        tail.get_ref().split('.').map(|arc| arc.parse::<u8>().ok().filter(|arc| *arc < 0x80)).collect();
    let what = || format!("template {:?} is not the last arcs of 2.23.143.1.2.x", tail.get_ref());
    let arcs = arcs.ok_or_else(|| Wrong { at: tail.span(), what: what() })?;
    Ok([&TEMPLATE_ARC[..], &arcs].concat())
}

// ----------------------------------------------------------------------------------------------------------- files

fn file_entries(name: &str, source: &Spanned<schema::File>) -> Result<SequenceOf<FileEntry>, Wrong> {
    let wrong = |what: String| Wrong { at: source.span(), what: format!("{name}: {what}") };
    let file = source.get_ref();
    if file.do_not_create {
        return Ok(vec![FileEntry::DoNotCreate(())]);
    }
    let mut entries: SequenceOf<FileEntry> = Vec::new();
    let descriptor = descriptor(file);
    let size = descriptor_size(file);
    if descriptor != types::Fcp::default_parameters() {
        entries.push(FileEntry::FileDescriptor(descriptor));
    }
    let contents = [file.content.is_some(), file.text.is_some(), file.rows.is_some()];
    if contents.iter().filter(|given| **given).count() > 1 {
        return Err(wrong("content, text and rows exclude each other".into()));
    }
    let mut end = 0;
    if let Some(content) = file.content.as_ref().map(|hex| &hex.0[..]).or(file.text.as_deref().map(str::as_bytes)) {
        entries.push(FileEntry::FillFileContent(OctetString::from_slice(content)));
        end = content.len();
    }
    if let Some(rows) = &file.rows {
        let record = usize::from(file.record.ok_or_else(|| wrong("rows need a record length".into()))?);
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| !row.0.is_empty()) {
            if row.0.len() > record {
                return Err(wrong(format!("row {} has {} octets, a record has {record}", at + 1, row.0.len())));
            }
            let skip = u16::try_from(at * record - end).map_err(|_| wrong("is too large".into()))?;
            if skip > 0 {
                entries.push(FileEntry::FillFileOffset(skip));
            }
            entries.push(FileEntry::FillFileContent(OctetString::from_slice(&row.0)));
            end = at * record + row.0.len();
        }
    }
    match size {
        Some(size) if end > size as usize => Err(wrong(format!("{end} octets are written, the file has {size}"))),
        _ => Ok(entries),
    }
}

impl types::Fcp {
    /// Parameters that say nothing: the template's own hold.
    fn default_parameters() -> Self {
        Self { lcsi: OctetString::from_static(&[5]), ..Self::default() }
    }
}

fn descriptor(file: &schema::File) -> types::Fcp {
    let special = file.special.as_ref().map(octets).filter(|special| special[..] != [0]);
    let info = types::ProprietaryInfo {
        special_file_information: special.clone().unwrap_or_else(|| OctetString::from_static(&[0])),
        fill_pattern: file.fill.as_ref().map(octets),
        repeat_pattern: file.repeat.as_ref().map(octets),
        maximum_file_size: file.ber_tlv_size.map(minimal),
        file_details: OctetString::from_static(&[1]),
    };
    let says_something = special.is_some() || info.fill_pattern.is_some() || info.repeat_pattern.is_some();
    types::Fcp {
        file_descriptor: file_descriptor(file),
        file_id: file.fid.as_ref().map(octets),
        df_name: file.aid.as_ref().map(octets),
        security_attributes_referenced: file.arr.as_ref().map(octets),
        ef_file_size: descriptor_size(file).map(minimal),
        pin_status_template: file.pins.as_ref().map(octets),
        short_efid: file.sfi.map(|sfi| match sfi {
            0 => OctetString::from_static(&[]),
            sfi => vec![sfi << 3].into(),
        }),
        proprietary_ef_info: (says_something || info.maximum_file_size.is_some()).then_some(info),
        ..types::Fcp::default_parameters()
    }
}

/// TS 102 222 §6.3.2.2.2: type octet, data coding 21, record length.
fn file_descriptor(file: &schema::File) -> Option<OctetString> {
    if file.ber_tlv_size.is_some() {
        return Some(OctetString::from_static(&[0x79, 0x21]));
    }
    if let Some(record) = file.record {
        let [high, low] = record.to_be_bytes();
        return Some(vec![if file.cyclic { 0x46 } else { 0x42 }, 0x21, high, low].into());
    }
    file.size.map(|_| OctetString::from_static(&[0x41, 0x21]))
}

fn descriptor_size(file: &schema::File) -> Option<u32> {
    let records = file.record.map(|record| u32::from(record) * u32::from(file.records.unwrap_or(1)));
    records.or(file.size)
}

/// Without leading zero octets, as efFileSize asks.
fn minimal(size: u32) -> OctetString {
    let octets = size.to_be_bytes();
    let from = octets.iter().position(|octet| *octet != 0).unwrap_or(3);
    OctetString::from_slice(&octets[from..])
}

// ------------------------------------------------------------------------------------------------- other elements

fn pin_codes(header: PeHeader, source: &schema::PinCodes) -> types::PinCodes {
    let pins = source.pins.iter().map(|pin| types::PinConfiguration {
        key_reference: pin.reference,
        pin_value: octets(&pin.value),
        unblocking_pin_reference: pin.puk,
        pin_attributes: pin.attributes.unwrap_or(7),
        attempts: pin.attempts.unwrap_or(0x33),
    });
    types::PinCodes { header, pin_codes: types::PinCodesChoice::PinConfig(pins.collect()) }
}

fn puk_codes(header: PeHeader, source: &schema::PukCodes) -> types::PukCodes {
    let puks = source.puks.iter().map(|puk| types::PukConfiguration {
        key_reference: puk.reference,
        puk_value: octets(&puk.value),
        attempts: puk.attempts.unwrap_or(0xAA),
    });
    types::PukCodes { header, puk_codes: puks.collect() }
}

fn aka_parameter(header: PeHeader, source: &schema::AkaParameter) -> types::AkaParameter {
    let or = |given: &Option<Hex>, default: &'static [u8]| {
        given.as_ref().map(octets).unwrap_or(OctetString::from_static(default))
    };
    types::AkaParameter {
        header,
        algo_configuration: types::AlgoConfiguration::Algorithm(types::AlgoParameter {
            algorithm_id: 1,
            algorithm_options: octets(&source.options),
            key: octets(&source.key),
            opc: octets(&source.opc),
            rotation_constants: types::rotation_constants(),
            xoring_constants: types::xoring_constants(),
            auth_counter_max: source.auth_counter_max.as_ref().map(octets),
            number_of_keccak: 1,
        }),
        sqn_options: or(&source.sqn_options, &[2]),
        sqn_delta: or(&source.sqn_delta, &[0, 0, 0x10, 0, 0, 0]),
        sqn_age_limit: or(&source.sqn_age_limit, &[0, 0, 0x10, 0, 0, 0]),
        sqn_init: None,
        ssim_parameters: None,
    }
}

fn security_domain(header: PeHeader, source: &schema::SecurityDomain) -> Result<types::SecurityDomain, Wrong> {
    let keys: SequenceOf<_> = source.keys.iter().map(key).collect::<Result<_, _>>()?;
    let perso: SequenceOf<_> = source.perso.iter().map(octets).collect();
    Ok(types::SecurityDomain {
        header,
        instance: instance(&source.instance),
        key_list: Some(keys).filter(|keys| !keys.is_empty()),
        sd_perso_data: Some(perso).filter(|perso| !perso.is_empty()),
        open_perso_data: None,
        cat_tp_parameters: None,
    })
}

fn key(source: &Spanned<schema::Key>) -> Result<types::KeyObject, Wrong> {
    let key = source.get_ref();
    let (key_type, fits) = match key.key_type {
        KeyType::Des => (0x80, matches!(key.octets, 16 | 24)),
        KeyType::Aes => (0x88, matches!(key.octets, 16 | 24 | 32)),
        KeyType::TlsPsk => (0x85, (16..=64).contains(&key.octets)),
    };
    if !fits {
        let what = format!("octets: {:?} keys do not have {} octets", key.key_type, key.octets);
        return Err(Wrong { at: source.span(), what });
    }
    let component = types::KeyComponent {
        key_type: vec![key_type].into(),
        key_data: vec![0; key.octets].into(),
        mac_length: key.mac.unwrap_or(8),
    };
    Ok(types::KeyObject {
        key_usage_qualifier: octets(&key.usage),
        key_access: OctetString::from_static(&[0]),
        key_identifier: vec![key.id].into(),
        key_version_number: vec![key.version].into(),
        key_counter_value: key.counter.as_ref().map(octets),
        key_components: vec![component],
    })
}

fn instance(source: &schema::Instance) -> types::ApplicationInstance {
    let process_data: SequenceOf<_> = source.process_data.iter().map(octets).collect();
    types::ApplicationInstance {
        load_package_aid: octets(&source.package_aid),
        class_aid: octets(&source.class_aid),
        instance_aid: octets(&source.instance_aid),
        extradite_security_domain_aid: None,
        privileges: octets(&source.privileges),
        life_cycle_state: source.life_cycle.as_ref().map(octets).unwrap_or(OctetString::from_static(&[7])),
        specific_parameters: octets(&source.parameters),
        system_parameters: None,
        uicc_parameters: source
            .toolkit
            .as_ref()
            .map(|toolkit| types::UiccApplicationParameters { toolkit: Some(octets(toolkit)), ..Default::default() }),
        process_data: Some(process_data).filter(|data| !data.is_empty()),
        control_reference_template: None,
    }
}

fn rfm(header: PeHeader, source: &schema::Rfm) -> types::Rfm {
    let tars: SequenceOf<_> = source.tars.iter().map(octets).collect();
    types::Rfm {
        header,
        instance_aid: octets(&source.aid),
        security_domain_aid: source.security_domain.as_ref().map(octets),
        tar_list: Some(tars).filter(|tars| !tars.is_empty()),
        minimum_security_level: octets(&source.msl),
        uicc_access_domain: octets(&source.access),
        uicc_admin_access_domain: octets(&source.admin_access),
        adf_rfm_access: source.adf.as_ref().map(|adf| types::AdfRfmAccess {
            adf_aid: octets(&adf.aid),
            access_domain: octets(&adf.access),
            admin_access_domain: octets(&adf.admin_access),
        }),
    }
}

/// The same octets every time, without structure: a linear congruential generator (Knuth's MMIX constants).
fn made_up_load_block(octets: usize) -> Vec<u8> {
    let step = |state: &mut u64, _| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 56) as u8)
    };
    (0..octets).scan(1, step).collect()
}

fn octets(hex: &Hex) -> OctetString {
    OctetString::from_slice(&hex.0)
}

/// The element's alternative is an IMPLICIT tag over the SEQUENCE.
fn retagged(kind: Kind, sequence: &[u8]) -> Result<Vec<u8>, Wrong> {
    retag(kind.tag().unwrap_or(Tag(0x30)), sequence)
}

fn retag(tag: Tag, sequence: &[u8]) -> Result<Vec<u8>, Wrong> {
    Ok(tlv::wrap(tag, &[tlv::single(sequence, Tag(0x30))?.value]))
}
