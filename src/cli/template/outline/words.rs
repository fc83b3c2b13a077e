//! Octets in words. Sources: GlobalPlatform Card Specification 2.3.1 §11.1.2 (privileges), ETSI TS 102 225 §5.1.1 (first octet of
//! the SPI), SAIP §8.6.3 (key objects).

/// Hex digits without blanks.
pub(super) fn hex(octets: &[u8]) -> String {
    data_encoding::HEXUPPER.encode(octets)
}

/// As [`hex`], of the first octets when there are many.
pub(super) fn some_hex(octets: &[u8], most: usize) -> String {
    match octets.get(..most) {
        Some(first) if first.len() < octets.len() => format!("{}... ({})", hex(first), self::octets(octets.len())),
        _ => hex(octets),
    }
}

/// `1 octet`, `12 octets`.
pub(in crate::cli::template) fn octets(count: usize) -> String {
    counted(count, "octet")
}

/// `1 segment`, `2 segments`.
pub(in crate::cli::template) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What may be said about a secret: its size, and whether it is still zeros.
pub(super) fn hidden(secret: &[u8]) -> String {
    // Not a comparison with anything secret: whether it is a placeholder is what people ask.
    let is_placeholder = secret.iter().fold(0, |sum, octet| sum | octet) == 0;
    format!("{}, {}", octets(secret.len()), if is_placeholder { "placeholder (zeros)" } else { "not shown" })
}

/// Dotted form of the value of an OBJECT IDENTIFIER; empty when it is none.
pub(super) fn oid(value: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0_u64;
    for octet in value {
        arc = arc.saturating_mul(128).saturating_add(u64::from(octet & 0x7F));
        if octet & 0x80 == 0 {
            arcs.push(arc);
            arc = 0;
        }
    }
    let Some(first) = arcs.first().copied() else { return String::new() };
    let top = (first / 40).min(2);
    let mut text = format!("{top}.{}", first - top * 40);
    arcs[1..].iter().for_each(|arc| text.push_str(&format!(".{arc}")));
    text
}

/// Reference of a PIN or ADM code (3GPP TS 31.101 §9.5.1).
pub(super) fn key_reference(reference: u64) -> String {
    let name = match reference {
        0x01..=0x08 => format!("PIN{reference}"),
        0x0A..=0x0E => format!("ADM{}", reference - 9),
        0x11 => "universal PIN".to_owned(),
        0x81 => "PIN2".to_owned(),
        0x82..=0x88 => format!("local PIN {}", reference - 0x80),
        0x8A..=0x8E => format!("ADM{}", reference - 0x84),
        _ => "reference".to_owned(),
    };
    format!("{name} ({reference:02X})")
}

/// Names of the privileges that are set.
pub(super) fn privileges(octets: &[u8]) -> String {
    const NAMES: [[&str; 8]; 3] = [
        [
            "security domain",
            "DAP verification",
            "delegated management",
            "card lock",
            "card terminate",
            "card reset",
            "CVM management",
            "mandated DAP",
        ],
        [
            "trusted path",
            "authorized management",
            "token management",
            "global delete",
            "global lock",
            "global registry",
            "final application",
            "global service",
        ],
        [
            "receipt generation",
            "ciphered load block",
            "contactless activation",
            "contactless self-activation",
            "",
            "",
            "",
            "",
        ],
    ];
    let set = octets.iter().zip(NAMES).flat_map(|(octet, names)| {
        names.into_iter().enumerate().filter(move |(at, name)| octet & (0x80 >> at) != 0 && !name.is_empty())
    });
    let names: Vec<_> = set.map(|(_, name)| name).collect();
    if names.is_empty() { format!("{} none", hex(octets)) } else { format!("{} {}", hex(octets), names.join(", ")) }
}

/// Minimum security level: the first octet of the SPI a message must carry at least.
pub(super) fn security_level(octet: u8) -> String {
    let integrity = ["no integrity check", "redundancy check", "cryptographic checksum", "digital signature"];
    let counter = ["no counter", "counter not checked", "counter higher", "counter one higher"];
    let ciphering = if octet & 0x04 != 0 { "ciphered" } else { "clear" };
    let (integrity, counter) = (integrity[usize::from(octet & 3)], counter[usize::from(octet >> 3 & 3)]);
    format!("{octet:02X} {integrity}, {ciphering}, {counter}")
}

/// Type and length of a key: `AES-128`.
pub(super) fn key_type(octet: Option<u8>, len: usize) -> String {
    match octet {
        Some(0x80) => match len {
            8 => "DES".to_owned(),
            16 => "3DES (2 keys)".to_owned(),
            24 => "3DES (3 keys)".to_owned(),
            _ => format!("DES, {}", octets(len)),
        },
        Some(0x85) => format!("TLS-PSK-{}", len * 8),
        Some(0x88) => format!("AES-{}", len * 8),
        Some(0x90) => format!("HMAC-{}", len * 8),
        Some(0xB0) => "ECC public".to_owned(),
        Some(0xB1) => "ECC private".to_owned(),
        Some(0xF0) => "ECC curve".to_owned(),
        Some(other) => format!("type {other:02X}, {}", octets(len)),
        None => format!("no type, {}", octets(len)),
    }
}

/// What the keys of a version are for, and the names of its key identifiers.
pub(super) fn key_set(version: u8) -> (&'static str, [&'static str; 3]) {
    match version {
        0x01..=0x0F => ("SCP80", ["KIC", "KID", "KIK"]),
        0x11 => ("DAP", ["", "", ""]),
        0x20..=0x2F => ("SCP02", ["ENC", "MAC", "DEK"]),
        0x30..=0x3F => ("SCP03", ["ENC", "MAC", "DEK"]),
        0x40..=0x4F => ("SCP81", ["PSK", "DEK", ""]),
        0x70 => ("token", ["", "", ""]),
        0x71 => ("receipt", ["", "", ""]),
        0x73 => ("DAP", ["", "", ""]),
        0x74 => ("CASD", ["", "", ""]),
        0x75 => ("ciphered load block", ["", "", ""]),
        _ => ("", ["", "", ""]),
    }
}

/// Whether a PIN or PUK is a placeholder: the digit zero, or nothing at all.
pub(super) fn hidden_code(value: &[u8]) -> &'static str {
    let is_placeholder = value.iter().all(|octet| matches!(octet, 0 | b'0' | 0xFF));
    if is_placeholder { "placeholder" } else { "value not shown" }
}
