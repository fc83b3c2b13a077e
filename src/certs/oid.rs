//! Object identifiers between dotted text and DER content octets. Arcs above 2.39 take two octets already in the first
//! number (2.999 is `88 37`), which several libraries get wrong.

/// Content octets of a dotted OID; `None` when the text is none.
pub fn encode(dotted: &str) -> Option<Vec<u8>> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().ok()).collect::<Option<_>>()?;
    let [root, second, rest @ ..] = &arcs[..] else { return None };
    if *root > 2 || (*root < 2 && *second > 39) {
        return None;
    }
    let mut out = Vec::with_capacity(dotted.len());
    put_arc(&mut out, (root * 40).checked_add(*second)?);
    rest.iter().for_each(|arc| put_arc(&mut out, *arc));
    Some(out)
}

/// Dotted text of content octets; `None` when they are not in shortest form or an arc is beyond 63 bits.
pub fn decode(octets: &[u8]) -> Option<String> {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    let mut inside = false;
    for octet in octets {
        if !inside && *octet == 0x80 || arc >> 56 != 0 {
            return None;
        }
        arc = arc << 7 | u64::from(octet & 0x7F);
        inside = octet & 0x80 != 0;
        if !inside {
            arcs.push(std::mem::take(&mut arc));
        }
    }
    let (first, rest) = arcs.split_first().filter(|_| !inside)?;
    let root = (*first / 40).min(2);
    let head = format!("{root}.{}", first - 40 * root);
    Some(rest.iter().fold(head, |text, arc| format!("{text}.{arc}")))
}

/// Whether content octets are those of a dotted OID: [`encode`] without its allocation, for what a million certificates are asked.
pub fn is(octets: &[u8], dotted: &str) -> bool {
    let mut arcs = dotted.split('.').map(|arc| arc.parse::<u64>().ok());
    let first = arcs.next().flatten().zip(arcs.next().flatten());
    let Some(first) = first.and_then(|(root, second)| (root * 40).checked_add(second)) else { return false };
    let mut left = octets.iter();
    let stands = |arc: Option<u64>| arc.is_some_and(|arc| arc_octets(arc).all(|octet| left.next() == Some(&octet)));
    std::iter::once(Some(first)).chain(arcs).all(stands) && left.next().is_none()
}

fn put_arc(out: &mut Vec<u8>, arc: u64) {
    out.extend(arc_octets(arc));
}

fn arc_octets(arc: u64) -> impl Iterator<Item = u8> {
    let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
    (0..groups).rev().map(move |group| (arc >> (7 * group)) as u8 & 0x7F | if group > 0 { 0x80 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_oids_have_their_published_octets() {
        for (dotted, octets) in [
            ("2.999.10", &[0x88, 0x37, 0x0A][..]),                             // SGP.26 SM-DP+
            ("2.23.146.1.2.1.5", &[0x67, 0x81, 0x12, 0x01, 0x02, 0x01, 0x05]), // id-rspRole-dp-pb-v2
            ("1.2.840.10045.4.3.2", &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02]), // ecdsa-with-SHA256, RFC 5758
            ("2.5.4.5", &[0x55, 0x04, 0x05]),                                  // serialNumber
        ] {
            assert_eq!(encode(dotted).as_deref(), Some(octets));
            assert_eq!(decode(octets).as_deref(), Some(dotted));
            assert!(is(octets, dotted));
        }
        let sign = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
        for other in ["1.2.840.10045.4.3.3", "1.2.840.10045.4.3", "1.2.840.10045.4.3.2.1", "1.2.x", "1", ""] {
            assert!(!is(&sign, other), "{other}");
        }
    }

    #[test]
    fn what_is_no_oid_is_refused() {
        for text in ["", "2", "3.1", "1.40", "1..2", "1.2.x"] {
            assert_eq!(encode(text), None, "{text}");
        }
        for octets in [&[][..], &[0x80, 0x01], &[0x2A, 0x80, 0x01], &[0x2A, 0x86], &[0xFF; 12]] {
            assert_eq!(decode(octets), None, "{octets:02X?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(root in 0..3_u64, second in 0..40_u64, rest in proptest::collection::vec(0..1_u64 << 40, 0..6)) {
            let dotted = rest.iter().fold(format!("{root}.{second}"), |text, arc| format!("{text}.{arc}"));
            let octets = encode(&dotted).unwrap();
            prop_assert!(is(&octets, &dotted) && !is(&octets[..octets.len() - 1], &dotted));
            prop_assert_eq!(decode(&octets), Some(dotted));
        }
    }
}
