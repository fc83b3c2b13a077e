//! Activation codes (SGP.22 §4.1) and their QR sheet.

use std::fmt::Write as _;

use fast_qr::convert::Builder as _;
use fast_qr::convert::svg::SvgBuilder;
use fast_qr::qr::QRBuilder;

/// `1$<SM-DP+ address>$<MatchingID>`, with `$$1` when a confirmation code will be asked for.
/// The prefix `LPA:` belongs to the QR code only.
pub fn activation_code(smdp_address: &str, matching_id: &str, cc_required: bool) -> String {
    let mut code = format!("1${smdp_address}${matching_id}");
    if cc_required {
        code.push_str("$$1");
    }
    code
}

/// One figure of a printable sheet: the QR code of `LPA:<activation code>` over its ICCID. `None` when the code is too long.
pub fn qr_figure(activation_code: &str, iccid: &str) -> Option<String> {
    let qr = QRBuilder::new(format!("LPA:{activation_code}")).build().ok()?;
    let svg = SvgBuilder::default().margin(2).to_str(&qr);
    let mut figure = String::with_capacity(svg.len() + 96);
    write!(figure, "<figure>{svg}<figcaption>{iccid}</figcaption></figure>").ok()?;
    Some(figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_has_the_fields_of_sgp22() {
        assert_eq!(
            activation_code("smdp.example.com", "ABCD-EFGH-2345-6789", false),
            "1$smdp.example.com$ABCD-EFGH-2345-6789"
        );
        assert_eq!(
            activation_code("smdp.example.com", "ABCDEFGH23456789", true),
            "1$smdp.example.com$ABCDEFGH23456789$$1"
        );
    }

    #[test]
    fn a_qr_figure_names_its_profile() {
        let figure = qr_figure("1$smdp.example.com$ABCDEFGH23456789", "89000123456789012341").unwrap();
        assert!(figure.contains("<svg") && figure.ends_with("89000123456789012341</figcaption></figure>"));
    }
}
