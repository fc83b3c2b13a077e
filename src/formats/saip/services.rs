//! `eUICC-Mandatory-services` of the ProfileHeader: a list of NULLs, the tag is the service (SAIP §8.2, ServicesList).
//! A listed service that the eUICC lacks aborts the download, so the list says what is needed and no more.

/// Names of the services; the index is the tag.
pub const SERVICES: [&str; 38] = [
    "contactless",
    "usim",
    "isim",
    "csim",
    "milenage",
    "tuak128",
    "cave",
    "gba-usim",
    "gba-isim",
    "mbms",
    "eap",
    "javacard",
    "multos",
    "multiple-usim",
    "multiple-isim",
    "multiple-csim",
    "tuak256",
    "usim-test-algorithm",
    "ber-tlv",
    "dfLink",
    "cat-tp",
    "get-identity",
    "profile-a-x25519",
    "profile-b-p256",
    "suciCalculatorApi",
    "dns-resolution",
    "scp11ac",
    "scp11c-authorization-mechanism",
    "s16mode",
    "eaka",
    "suci-nswo",
    "network-id",
    "coap",
    "gbauApi",
    "uir5GProSe",
    "ssim-Eap-Tls",
    "ssim-Eap-Aka-prime",
    "usatAppPairing",
];

/// The services that name an AKA algorithm: milenage, tuak128, tuak256, usim-test-algorithm.
pub const ALGORITHM_SERVICES: [u8; 4] = [4, 5, 16, 17];

/// Number of a service by its name.
pub fn service_number(name: &str) -> Option<u8> {
    SERVICES.iter().position(|service| *service == name).map(|at| at as u8)
}

/// Name of a service by its number.
pub fn service_name(number: u8) -> &'static str {
    SERVICES.get(usize::from(number)).copied().unwrap_or("unknown service")
}
