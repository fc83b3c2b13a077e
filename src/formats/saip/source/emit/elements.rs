//! Elements without files: codes, authentication, security domains, RFM, applications.

use rasn::prelude::{ObjectIdentifier, OctetString, SequenceOf};
use toml::Spanned;

use super::{Context, octets};
use crate::formats::saip::source::Wrong;
use crate::formats::saip::source::schema::{self, AkaAlgorithm, Hex, KeyType};
use crate::formats::saip::types::{self, PeHeader};
use crate::formats::tlv::{self, Tag};

/// Octets of a load block at most: what a source may ask for, far above what fits on a card.
pub(in crate::formats::saip::source) const MAX_LOAD_BLOCK: usize = 4 << 20;

pub(super) fn pin_codes(header: PeHeader, source: &schema::PinCodes) -> types::PinCodes {
    let pins = source.pins.iter().map(|pin| types::PinConfiguration {
        key_reference: pin.reference,
        pin_value: octets(&pin.value),
        unblocking_pin_reference: pin.puk,
        pin_attributes: pin.attributes.unwrap_or(7),
        attempts: pin.attempts.unwrap_or(0x33),
    });
    let pin_codes = match &source.path {
        Some(path) => types::PinCodesChoice::FilePath(octets(path)),
        None => types::PinCodesChoice::PinConfig(pins.collect()),
    };
    types::PinCodes { header, pin_codes }
}

pub(super) fn puk_codes(header: PeHeader, source: &schema::PukCodes) -> types::PukCodes {
    let puks = source.puks.iter().map(|puk| types::PukConfiguration {
        key_reference: puk.reference,
        puk_value: octets(&puk.value),
        attempts: puk.attempts.unwrap_or(0xAA),
    });
    types::PukCodes { header, puk_codes: puks.collect() }
}

pub(super) fn aka_parameter(header: PeHeader, source: &schema::AkaParameter) -> types::AkaParameter {
    let or = |given: &Option<Hex>, default: &'static [u8]| {
        given.as_ref().map(octets).unwrap_or(OctetString::from_static(default))
    };
    let algo_configuration = match &source.mapping {
        Some(mapping) => types::AlgoConfiguration::Mapping(types::MappingParameter {
            mapping_options: octets(&mapping.options),
            mapping_source: octets(&mapping.aid),
        }),
        None => types::AlgoConfiguration::Algorithm(algorithm(source)),
    };
    types::AkaParameter {
        header,
        algo_configuration,
        sqn_options: or(&source.sqn_options, &[2]),
        sqn_delta: or(&source.sqn_delta, &[0, 0, 0x10, 0, 0, 0]),
        sqn_age_limit: or(&source.sqn_age_limit, &[0, 0, 0x10, 0, 0, 0]),
        sqn_init: source.sqn_init.as_ref().map(|counters| counters.iter().map(octets).collect()),
        ssim_parameters: None,
    }
}

fn algorithm(source: &schema::AkaParameter) -> types::AlgoParameter {
    let (algorithm_id, opc_len) = match source.algorithm {
        AkaAlgorithm::Milenage => (1, 16),
        AkaAlgorithm::Tuak => (2, 32),
        AkaAlgorithm::UsimTest => (3, 16),
    };
    let zeros = |len: usize| OctetString::from(vec![0; len]);
    // Lengths that do not fit the algorithm are a finding of rule A01, here as in any other template.
    let key = source.key.as_ref().map_or_else(|| zeros(16), octets);
    let opc = source.opc.as_ref().map_or_else(|| zeros(opc_len), octets);
    types::AlgoParameter {
        algorithm_id,
        algorithm_options: source.options.as_ref().map_or(OctetString::from_static(&[1]), octets),
        key,
        opc,
        rotation_constants: source.rotation.as_ref().map_or_else(types::rotation_constants, octets),
        xoring_constants: source.constants.as_ref().map_or_else(types::xoring_constants, octets),
        auth_counter_max: source.auth_counter_max.as_ref().map(octets),
        number_of_keccak: source.keccak.unwrap_or(1),
    }
}

impl Context {
    pub(super) fn security_domain(
        &self,
        header: PeHeader,
        source: &schema::SecurityDomain,
    ) -> Result<types::SecurityDomain, Wrong> {
        let keys: SequenceOf<_> = source.keys.iter().map(key).collect::<Result<_, _>>()?;
        let perso: SequenceOf<_> = source.perso.iter().map(octets).collect();
        Ok(types::SecurityDomain {
            header,
            instance: self.instance(&source.instance)?,
            key_list: Some(keys).filter(|keys| !keys.is_empty()),
            sd_perso_data: Some(perso).filter(|perso| !perso.is_empty()),
            open_perso_data: source.open_perso.as_ref().map(|data| types::OpenPersoData {
                restrict_parameter: data.restrict.as_ref().map(octets),
                contactless_protocol_parameters: data.contactless.as_ref().map(octets),
            }),
            cat_tp_parameters: source
                .cat_tp
                .as_ref()
                .map(|sizes| types::CatTpParameters { max_sdu_size: sizes.max_sdu, max_pdu_size: sizes.max_pdu }),
        })
    }

    fn instance(&self, source: &schema::Instance) -> Result<types::ApplicationInstance, Wrong> {
        let process_data: SequenceOf<_> = source.process_data.iter().map(octets).collect();
        let system_parameters = source.system.as_ref().map(|system| {
            rasn::der::decode(&tlv::wrap(Tag(0x30), &[&system.0])).map_err(|e| self.wrong(&format!("system: {e}")))
        });
        let uicc = [&source.toolkit, &source.access, &source.admin_access].map(|field| field.as_ref().map(octets));
        let has_uicc = uicc.iter().any(Option::is_some);
        let [toolkit, access, administrative_access] = uicc;
        let uicc = types::UiccApplicationParameters { toolkit, access, administrative_access };
        Ok(types::ApplicationInstance {
            load_package_aid: octets(&source.package_aid),
            class_aid: octets(&source.class_aid),
            instance_aid: octets(&source.instance_aid),
            extradite_security_domain_aid: source.extradite_to.as_ref().map(octets),
            privileges: octets(&source.privileges),
            life_cycle_state: source.life_cycle.as_ref().map(octets).unwrap_or(OctetString::from_static(&[7])),
            specific_parameters: octets(&source.parameters),
            system_parameters: system_parameters.transpose()?,
            uicc_parameters: has_uicc.then_some(uicc),
            process_data: Some(process_data).filter(|data| !data.is_empty()),
            control_reference_template: source
                .provider
                .as_ref()
                .map(|id| types::ControlReferenceTemplate { application_provider_identifier: octets(id) }),
        })
    }

    pub(super) fn application(
        &self,
        header: PeHeader,
        source: &schema::Application,
    ) -> Result<types::Application, Wrong> {
        let block = match (&source.load_block, source.load_block_fill_bytes) {
            (Some(block), None) => Some(block.0.clone()),
            (None, Some(octets)) if octets <= MAX_LOAD_BLOCK => Some(made_up_load_block(octets)),
            (None, Some(_)) => return Err(self.wrong("load_block_fill_bytes: no eUICC takes that much")),
            (None, None) => None,
            _ => return Err(self.wrong("load_block, load_block_file and load_block_fill_bytes exclude each other")),
        };
        let load_block = block.map(|block| {
            let package_aid =
                source.package_aid.as_ref().ok_or_else(|| self.wrong("a load block needs package_aid"))?;
            Ok::<_, Wrong>(types::LoadPackage {
                load_package_aid: octets(package_aid),
                security_domain_aid: source.security_domain.as_ref().map(octets),
                non_volatile_code_limit: source.code_limit.as_ref().map(octets),
                volatile_data_limit: source.volatile_limit.as_ref().map(octets),
                non_volatile_data_limit: source.data_limit.as_ref().map(octets),
                hash_value: source.hash.as_ref().map(octets),
                load_block_object: block.into(),
            })
        });
        let instances = source.instances.iter().map(|source| self.instance(source)).collect::<Result<Vec<_>, _>>()?;
        let instance_list = Some(instances).filter(|list| !list.is_empty());
        Ok(types::Application { header, load_block: load_block.transpose()?, instance_list })
    }
}

pub(super) fn cdma_parameter(header: PeHeader, source: &schema::CdmaParameter) -> types::CdmaParameter {
    types::CdmaParameter {
        header,
        authentication_key: source.key.as_ref().map_or(OctetString::from_static(&[0; 8]), octets),
        ssd: source.ssd.as_ref().map(octets),
        hrpd_access_authentication_data: source.hrpd.as_ref().map(octets),
        simple_ip_authentication_data: source.simple_ip.as_ref().map(octets),
        mobile_ip_authentication_data: source.mobile_ip.as_ref().map(octets),
    }
}

pub(super) fn non_standard(header: PeHeader, source: &schema::NonStandard) -> Result<types::NonStandard, Wrong> {
    let arcs: Option<Vec<u32>> = source.issuer.get_ref().split('.').map(|arc| arc.parse().ok()).collect();
    let issuer_id = arcs.and_then(ObjectIdentifier::new).ok_or_else(|| Wrong {
        at: source.issuer.span(),
        what: format!("issuer {:?} is not an object identifier such as 1.3.6.1.4.1.99999", source.issuer.get_ref()),
    })?;
    Ok(types::NonStandard { header, issuer_id, content: octets(&source.content) })
}

fn key(source: &Spanned<schema::Key>) -> Result<types::KeyObject, Wrong> {
    let key = source.get_ref();
    let (key_type, fits) = match key.key_type {
        KeyType::Des => (0x80, matches!(key.octets, 8 | 16 | 24)),
        KeyType::Aes => (0x88, matches!(key.octets, 16 | 24 | 32)),
        KeyType::TlsPsk => (0x85, (16..=64).contains(&key.octets)),
        KeyType::Hmac => (0x90, (16..=64).contains(&key.octets)),
        KeyType::EccPublic => (0xB0, (33..=133).contains(&key.octets)),
        KeyType::EccPrivate => (0xB1, (28..=66).contains(&key.octets)),
        KeyType::EccCurve => (0xF0, key.octets == 1),
    };
    if !fits {
        let what = format!("octets: {:?} keys do not have {} octets", key.key_type, key.octets);
        return Err(Wrong { at: source.span(), what });
    }
    let key_data = match &key.value {
        None => vec![0; key.octets].into(),
        Some(value)
            if value.0.len() == key.octets && matches!(key.key_type, KeyType::EccPublic | KeyType::EccCurve) =>
        {
            octets(value)
        }
        Some(_) => {
            let what = "value: only a public key or a curve has one, of as many octets as it says".to_owned();
            return Err(Wrong { at: source.span(), what });
        }
    };
    let component = types::KeyComponent { key_type: vec![key_type].into(), key_data, mac_length: key.mac.unwrap_or(8) };
    Ok(types::KeyObject {
        key_usage_qualifier: octets(&key.usage),
        key_access: key.access.as_ref().map_or(OctetString::from_static(&[0]), octets),
        key_identifier: vec![key.id].into(),
        key_version_number: vec![key.version].into(),
        key_counter_value: key.counter.as_ref().map(octets),
        key_components: vec![component],
    })
}

pub(super) fn rfm(header: PeHeader, source: &schema::Rfm) -> types::Rfm {
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

/// How the Header component of a CAP file begins: tag, size, magic number (Java Card VM Specification §6.3).
const CAP_HEADER: [u8; 7] = [0x01, 0x00, 0x0F, 0xDE, 0xCA, 0xFF, 0xED];

/// The same octets every time, without structure behind the first ones: a linear congruential generator (Knuth's MMIX constants).
fn made_up_load_block(octets: usize) -> Vec<u8> {
    let step = |state: &mut u64, _| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 56) as u8)
    };
    let filling = (0..octets).scan(1, step);
    CAP_HEADER.into_iter().chain(filling).take(octets).collect()
}
