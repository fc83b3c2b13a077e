//! Activation codes (SGP.22 §4.1) and their QR sheet.

use std::fmt::{self, Write as _};

use fast_qr::convert::Builder as _;
use fast_qr::convert::svg::SvgBuilder;
use fast_qr::qr::QRBuilder;

/// `1$<SM-DP+ address>$<MatchingID>`, with `$$1` when a confirmation code will be asked for.
/// The prefix `LPA:` belongs to the QR code only.
#[derive(Clone, Copy, Debug)]
pub struct ActivationCode<'a> {
    /// SM-DP+ FQDN.
    pub smdp_address: &'a str,
    /// The profile's matching id.
    pub matching_id: &'a str,
    /// A confirmation code will be asked for.
    pub cc_required: bool,
}

impl fmt::Display for ActivationCode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { smdp_address, matching_id, cc_required } = self;
        let tail = if *cc_required { "$$1" } else { "" };
        write!(f, "1${smdp_address}${matching_id}{tail}")
    }
}

/// One figure of a printable sheet: the QR code of `LPA:<activation code>` over its ICCID. `None` when the code is too long.
pub fn qr_figure(activation_code: &ActivationCode<'_>, iccid: &str) -> Option<String> {
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
        let mut code =
            ActivationCode { smdp_address: "smdp.example.com", matching_id: "ABCD-EFGH-2345-6789", cc_required: false };
        assert_eq!(code.to_string(), "1$smdp.example.com$ABCD-EFGH-2345-6789");
        code.cc_required = true;
        assert_eq!(code.to_string(), "1$smdp.example.com$ABCD-EFGH-2345-6789$$1");
    }

    #[test]
    fn a_qr_figure_names_its_profile() {
        let code =
            ActivationCode { smdp_address: "smdp.example.com", matching_id: "ABCDEFGH23456789", cc_required: false };
        let figure = qr_figure(&code, "89000123456789012341").unwrap();
        assert!(figure.contains("<svg") && figure.ends_with("89000123456789012341</figcaption></figure>"));
    }
}
