//! Service tables: bit n of EF.UST, EF.EST, EF.IST says that service n is there (3GPP TS 31.102 §4.2.8).

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceTable {
    /// EF.UST, 3GPP TS 31.102 §4.2.8.
    Usim,
    /// EF.EST, 3GPP TS 31.102 §4.2.47.
    Enabled,
    /// EF.IST, 3GPP TS 31.103 §4.2.7.
    Isim,
}

impl ServiceTable {
    /// The name of a service, `None` where it is reserved or newer than this list.
    pub fn name(self, number: u16) -> Option<&'static str> {
        let names = match self {
            Self::Usim => USIM,
            Self::Enabled => ENABLED,
            Self::Isim => ISIM,
        };
        names.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
    }
}

/// Service `number` is set; services count from 1.
pub fn has_service(table: &[u8], number: u16) -> bool {
    let Some(bit) = usize::from(number).checked_sub(1) else { return false };
    table.get(bit / 8).is_some_and(|octet| octet >> (bit % 8) & 1 == 1)
}

/// The services of a table, in order.
pub fn services(table: &[u8]) -> impl Iterator<Item = u16> {
    let last = u16::try_from(table.len().saturating_mul(8)).unwrap_or(u16::MAX);
    (1..=last).filter(|number| has_service(table, *number))
}

/// The services with their names, for people; `None` for no table.
pub(super) fn describe(which: ServiceTable, table: &[u8]) -> Option<String> {
    // No service table is longer than 32 octets; what is longer is no table.
    let table = table.get(..table.len().min(32))?;
    let named = services(table).map(|number| match which.name(number) {
        Some(name) => format!("{number} {name}"),
        None => number.to_string(),
    });
    let named = named.collect::<Vec<_>>().join(", ");
    match (table, named.as_str()) {
        ([], _) => None,
        (_, "") => Some("no service".to_owned()),
        _ => Some(named),
    }
}

const USIM: &[(u16, &str)] = &[
    (1, "local phone book"),
    (2, "FDN"),
    (3, "EXT2"),
    (4, "SDN"),
    (5, "EXT3"),
    (6, "BDN"),
    (7, "EXT4"),
    (8, "OCI and OCT"),
    (9, "ICI and ICT"),
    (10, "SMS"),
    (11, "SMSR"),
    (12, "SMSP"),
    (13, "advice of charge"),
    (14, "CCP2"),
    (15, "CBMI"),
    (16, "CBMIR"),
    (17, "GID1"),
    (18, "GID2"),
    (19, "SPN"),
    (20, "PLMNwAcT"),
    (21, "MSISDN"),
    (22, "IMG"),
    (23, "SoLSA"),
    (24, "eMLPP"),
    (25, "AAeM"),
    (27, "GSM access"),
    (28, "SMS-PP download"),
    (29, "SMS-CB download"),
    (30, "call control"),
    (31, "MO-SMS control"),
    (32, "RUN AT COMMAND"),
    (33, "always set"),
    (34, "EST"),
    (35, "ACL"),
    (36, "DCK"),
    (37, "CNL"),
    (38, "GSM security context"),
    (39, "CPBCCH"),
    (40, "InvScan"),
    (41, "MExE"),
    (42, "OPLMNwAcT"),
    (43, "HPLMNwAcT"),
    (44, "EXT5"),
    (45, "PNN"),
    (46, "OPL"),
    (47, "MBDN"),
    (48, "MWIS"),
    (49, "CFIS"),
    (51, "SPDI"),
    (52, "MMS"),
    (53, "EXT8"),
    (54, "call control on GPRS"),
    (55, "MMSUCP"),
    (56, "NIA"),
    (57, "VGCS"),
    (58, "VBS"),
    (59, "pseudonym"),
    (60, "user's I-WLAN selector"),
    (61, "operator's I-WLAN selector"),
    (62, "user's WSID list"),
    (63, "operator's WSID list"),
    (64, "VGCS security"),
    (65, "VBS security"),
    (66, "WLAN re-authentication"),
    (67, "MMS storage"),
    (68, "GBA"),
    (69, "MBMS security"),
    (70, "USSD download"),
    (71, "EHPLMN"),
    (72, "additional TERMINAL PROFILE"),
    (73, "EHPLMNPI"),
    (74, "LRPLMNSI"),
    (75, "OMA BCAST"),
    (76, "GBA local keys"),
    (77, "terminal applications"),
    (78, "SPNI"),
    (79, "PNNI"),
    (80, "NCP-IP"),
    (81, "home I-WLAN list"),
    (82, "I-WLAN EHPLMNPI"),
    (83, "I-WLAN HPLMN priority"),
    (84, "I-WLAN last PLMN"),
    (85, "EPS mobility"),
    (86, "allowed CSG lists"),
    (87, "call control on EPS"),
    (88, "HPLMN direct access"),
    (89, "eCall data"),
    (90, "operator CSG lists"),
    (91, "SM over IP"),
    (92, "CSG display control"),
    (93, "IMS communication control"),
    (94, "extended terminal applications"),
    (95, "UICC access to IMS"),
    (96, "NAS configuration"),
    (97, "PWS"),
    (99, "URI"),
    (100, "extended EARFCN"),
    (101, "ProSe"),
    (102, "USAT application pairing"),
    (103, "media types"),
    (104, "IMS disconnection cause"),
    (105, "URI in MO-SMS control"),
    (106, "ePDG configuration support"),
    (107, "ePDG configuration"),
    (108, "ACDC"),
    (109, "MCPTT"),
    (110, "emergency ePDG configuration support"),
    (111, "emergency ePDG configuration"),
    (112, "eCall over IMS"),
    (113, "URI in SMS-PP download"),
    (114, "from preferred"),
    (115, "IMS configuration data"),
    (116, "TV configuration"),
    (117, "PS data off"),
    (118, "PS data off service list"),
    (119, "V2X"),
    (120, "XCAP configuration data"),
    (121, "EARFCN list"),
    (122, "5GS mobility"),
    (123, "5G security parameters"),
    (124, "subscription identifier privacy"),
    (125, "SUCI calculation by the USIM"),
    (126, "UAC access identities"),
    (127, "expects steering of roaming"),
    (128, "call control on PDU session"),
    (129, "OPL5G"),
    (130, "SUPI as NSI, GLI or GCI"),
    (131, "PS data off lists for home and roaming"),
    (132, "URSP"),
    (133, "5G security parameters extended"),
    (134, "MuD and MiD"),
    (135, "trusted non-3GPP access"),
    (136, "several NAS security contexts"),
    (137, "CAG"),
    (138, "SOR-CMCI"),
    (139, "5G ProSe"),
    (140, "disaster roaming"),
    (141, "eDRX"),
    (142, "5G NSWO"),
    (143, "PWS for SNPN"),
    (144, "satellite search multiplier"),
    (145, "K_AUSF derivation"),
    (146, "SNPN identifier"),
];

const ENABLED: &[(u16, &str)] = &[(1, "FDN"), (2, "BDN"), (3, "ACL")];

const ISIM: &[(u16, &str)] = &[
    (1, "P-CSCF"),
    (2, "GBA"),
    (3, "HTTP digest"),
    (4, "GBA local keys"),
    (5, "P-CSCF for local breakout"),
    (6, "SMS"),
    (7, "SMSR"),
    (8, "SM over IP"),
    (9, "communication control"),
    (10, "UICC access to IMS"),
    (11, "URI"),
    (12, "media types"),
    (13, "IMS disconnection cause"),
    (14, "URI in MO-SMS control"),
    (15, "MCPTT"),
    (16, "URI in SMS-PP download"),
    (17, "from preferred"),
    (18, "IMS configuration data"),
    (19, "XCAP configuration data"),
    (20, "WebRTC URI"),
    (21, "MuD and MiD"),
    (22, "IMS data channel"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_count_from_one_and_from_the_low_bit() {
        // Octet 1 holds services 1 to 8, octet 3 services 17 to 24.
        let table = [0b0000_0010, 0, 0b0000_0101];
        assert_eq!(services(&table).collect::<Vec<_>>(), [2, 17, 19]);
        assert!(has_service(&table, 2) && !has_service(&table, 1));
        assert!(!has_service(&table, 0) && !has_service(&table, 25) && !has_service(&table, u16::MAX));
        assert_eq!(describe(ServiceTable::Usim, &table).unwrap(), "2 FDN, 17 GID1, 19 SPN");
        assert_eq!(describe(ServiceTable::Isim, &[0]).unwrap(), "no service");
        assert_eq!(describe(ServiceTable::Isim, &[]), None);
    }

    #[test]
    fn names_stand_in_order_and_once() {
        for names in [USIM, ENABLED, ISIM] {
            assert!(names.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
        assert_eq!(ServiceTable::Usim.name(124), Some("subscription identifier privacy"));
        assert_eq!(ServiceTable::Usim.name(26), None);
    }
}
