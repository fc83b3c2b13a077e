//! The lines of `orders.jsonl`, `results.csv`, `activation-codes.csv`, `core.csv` and `recon.json`, made from the ledger.

use std::fmt::{self, Display};
use std::io::{self, Write};

use data_encoding::{BASE64, Display as Encoded, Encoding, HEXLOWER};
use serde::{Serialize, Serializer};

use super::activation::ActivationCode;
use super::manifest::Counts;
use crate::ids::Eid;
use crate::store::{Device, DeviceState, Issue};

/// What all records of one order line have in common.
#[derive(Clone, Debug)]
pub struct LineFacts {
    /// `test`, `provisioning` or `operational`.
    pub profile_class: String,
    /// `order`, `prebound` or `session`.
    pub mode: String,
    /// `milenage` or `tuak`.
    pub algorithm: String,
    /// SM-DP+ FQDN.
    pub smdp_address: String,
    /// OID of DPauth and DPpb.
    pub smdp_oid: String,
    /// A confirmation code will be asked for.
    pub cc_required: bool,
    /// Name of the transport key of `core.csv`.
    pub transport_key: String,
    /// Scheme of `core.csv`.
    pub scheme: &'static str,
}

impl LineFacts {
    /// The activation code of one of its records.
    pub fn activation_code<'a>(&'a self, issue: &'a Issue) -> ActivationCode<'a> {
        let Self { smdp_address, cc_required, .. } = self;
        ActivationCode { smdp_address, matching_id: &issue.matching_id, cc_required: *cc_required }
    }
}

/// One line of `orders.jsonl`.
#[derive(Serialize)]
struct OrderRecord<'a> {
    eid: Option<Text<Eid>>,
    iccid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    imsi: Option<&'a str>,
    profile_class: &'a str,
    matching_id: &'a str,
    smdp_address: &'a str,
    smdp_oid: &'a str,
    activation_code: Text<ActivationCode<'a>>,
    cc_required: bool,
    metadata_sha256: Text<Encoded<'a>>,
    upp_sha256: Text<Encoded<'a>>,
    mode: &'a str,
    object: Option<&'a str>,
    offset: Option<u64>,
    length: Option<u64>,
    sha256: Option<Text<Encoded<'a>>>,
    transaction_id: Option<Text<Encoded<'a>>>,
    euicc_otpk: Option<Text<Encoded<'a>>>,
    state: &'a str,
}

/// Written as it shows itself, without a text of its own in between: there are a million of them in an order.
struct Text<D>(D);

impl<D: Display> Serialize for Text<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A field of a CSV line; nothing where there is no value.
struct Field<D>(Option<D>);

impl<D: Display> Display for Field<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |value| value.fmt(f))
    }
}

/// `HEXLOWER` and `BASE64` for values that outlive an expression: as constants they would be temporary ones.
static HEX: Encoding = HEXLOWER;
static BASE: Encoding = BASE64;

fn hex(octets: &[u8]) -> Encoded<'_> {
    HEX.encode_display(octets)
}

/// Whether the device line has a package or a stored PPP to show.
pub fn issued(device: &Device) -> Option<&Issue> {
    let has_result = matches!(device.state, DeviceState::Prepared | DeviceState::Bound | DeviceState::Exported);
    device.issue.as_deref().filter(|_| has_result)
}

/// Appends the export record of an issued device; others have none.
pub fn write_order_record(out: &mut impl Write, device: &Device, line: &LineFacts) -> io::Result<()> {
    let (Some(issue), Some(iccid)) = (issued(device), &device.iccid) else { return Ok(()) };
    // A stored PPP stays in the vault: only a bound package is an object of the bundle.
    let bound = issue.transaction_id.is_some();
    let record = OrderRecord {
        eid: device.eid.map(Text),
        iccid: iccid.as_str(),
        imsi: device.imsi.as_ref().map(|imsi| imsi.as_str()),
        profile_class: &line.profile_class,
        matching_id: &issue.matching_id,
        smdp_address: &line.smdp_address,
        smdp_oid: &line.smdp_oid,
        activation_code: Text(line.activation_code(issue)),
        cc_required: line.cc_required,
        metadata_sha256: Text(hex(&issue.metadata_sha256)),
        upp_sha256: Text(hex(&issue.upp_sha256)),
        // A stored profile that was bound later is prebound from then on.
        mode: if bound { "prebound" } else { &line.mode },
        object: issue.object.as_deref().filter(|_| bound),
        offset: bound.then_some(issue.offset),
        length: bound.then_some(issue.length),
        sha256: bound.then(|| Text(hex(&issue.sha256))),
        transaction_id: issue.transaction_id.as_ref().map(|id| Text(hex(id))),
        euicc_otpk: device.euicc_otpk.as_ref().map(|point| Text(BASE.encode_display(point))),
        // The record is read once the bundle is durable, and then this is so.
        state: DeviceState::Exported.as_str(),
    };
    serde_json::to_writer(&mut *out, &record)?;
    out.write_all(b"\n")
}

/// Appends the line of `activation-codes.csv`.
pub fn write_activation_code(out: &mut impl Write, device: &Device, line: &LineFacts) -> io::Result<()> {
    let (Some(issue), Some(iccid)) = (issued(device), &device.iccid) else { return Ok(()) };
    writeln!(out, "{iccid},{},{}", line.activation_code(issue), Field(device.eid))
}

/// Header of `activation-codes.csv`.
pub const ACTIVATION_CODES_HEADER: &str = "ICCID,ACTIVATION CODE,EID";

/// Appends the line of `core.csv`: K and OPc only under the transport key.
pub fn write_core_record(out: &mut impl Write, device: &Device, line: &LineFacts) -> io::Result<()> {
    let (Some(issue), Some(iccid)) = (issued(device), &device.iccid) else { return Ok(()) };
    let imsi = device.imsi.as_ref().map(|imsi| imsi.as_str()).unwrap_or_default();
    let [ki, opc] = [&issue.ki_enc, &issue.opc_enc].map(|secret| hex(secret));
    let LineFacts { algorithm, transport_key, scheme, .. } = line;
    writeln!(out, "{iccid},{imsi},{algorithm},{ki},{opc},{transport_key},{scheme}")
}

/// Header of `core.csv`.
pub const CORE_HEADER: &str = "iccid,imsi,algorithm,ki_enc,opc_enc,transport_key,scheme";

/// Header of `results.csv`; an order of several lines has one column more.
pub const RESULTS_HEADER: &str = "row,eid,iccid,imsi,state,error_class,object,offset,length,sha256,matching_id";

/// Appends the line of `results.csv`: every ordered row has one, refused ones too.
pub fn write_result(out: &mut impl Write, device: &Device, with_line: bool) -> io::Result<()> {
    let issue = issued(device);
    let bound = issue.filter(|issue| issue.transaction_id.is_some());
    let state = if issue.is_some() { DeviceState::Exported } else { device.state };
    write!(
        out,
        "{},{},{},{},{},{},{},{},{},{},{}",
        device.row,
        Field(device.eid),
        Field(device.iccid),
        Field(device.imsi),
        state.as_str(),
        device.error_class.as_deref().unwrap_or_default(),
        bound.and_then(|issue| issue.object.as_deref()).unwrap_or_default(),
        Field(bound.map(|issue| issue.offset)),
        Field(bound.map(|issue| issue.length)),
        Field(bound.map(|issue| hex(&issue.sha256))),
        issue.map(|issue| issue.matching_id.as_str()).unwrap_or_default(),
    )?;
    if with_line { writeln!(out, ",{}", device.line) } else { writeln!(out) }
}

/// Appends `recon.json`.
pub fn write_recon(out: &mut impl Write, counts: &Counts) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, counts)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DevicePk;

    fn device(state: DeviceState, issue: Option<Issue>) -> Device {
        Device {
            wrapped: None,
            pk: DevicePk(7),
            line: 1,
            row: 3,
            state,
            eid: "89049032123451234512345678901235".parse().ok(),
            iccid: "89000123456789012341".parse().ok(),
            imsi: "001010123456063".parse().ok(),
            msisdn: None,
            vars: Vec::new(),
            matching_id: None,
            euicc_otpk: Some([4; 65]),
            error_class: None,
            issue: issue.map(Box::new),
        }
    }

    fn facts() -> LineFacts {
        LineFacts {
            profile_class: "operational".into(),
            mode: "prebound".into(),
            algorithm: "milenage".into(),
            smdp_address: "smdp.example.com".into(),
            smdp_oid: "2.999.10".into(),
            cc_required: false,
            transport_key: "core-demo".into(),
            scheme: "aes-ecb",
        }
    }

    fn bound_issue() -> Issue {
        Issue {
            matching_id: "ABCDEFGH23456789".into(),
            transaction_id: Some([1; 16]),
            object: Some("packages-00001.bpp".into()),
            offset: 10,
            length: 20,
            ki_enc: vec![0xAA; 16],
            opc_enc: vec![0xBB; 16],
            ..Issue::default()
        }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_bound_device_is_found_by_object_offset_and_length() {
        let line = text(|out| write_order_record(out, &device(DeviceState::Bound, Some(bound_issue())), &facts()));
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&record["object"], &record["offset"], &record["length"]),
            (&"packages-00001.bpp".into(), &10.into(), &20.into())
        );
        assert_eq!(record["activation_code"], "1$smdp.example.com$ABCDEFGH23456789");
        assert_eq!(record["state"], "exported");
    }

    #[test]
    fn a_stored_ppp_is_no_object_of_the_bundle() {
        let issue = Issue { transaction_id: None, ..bound_issue() };
        let line = text(|out| write_order_record(out, &device(DeviceState::Prepared, Some(issue)), &facts()));
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(record["object"].is_null() && record["sha256"].is_null());
    }

    #[test]
    fn a_refused_row_keeps_its_line_in_the_results_and_no_other() {
        let refused = Device { iccid: None, error_class: Some("input".into()), ..device(DeviceState::Rejected, None) };
        let result = text(|out| write_result(out, &refused, false));
        assert_eq!(result, "3,89049032123451234512345678901235,,001010123456063,rejected,input,,,,,\n");
        assert_eq!(text(|out| write_order_record(out, &refused, &facts())), "");
        assert_eq!(text(|out| write_core_record(out, &refused, &facts())), "");
        assert_eq!(RESULTS_HEADER.split(',').count(), result.split(',').count());
    }

    #[test]
    fn a_core_line_names_key_and_scheme() {
        let line = text(|out| write_core_record(out, &device(DeviceState::Bound, Some(bound_issue())), &facts()));
        let expected = format!(
            "89000123456789012341,001010123456063,milenage,{},{},core-demo,aes-ecb\n",
            "aa".repeat(16),
            "bb".repeat(16)
        );
        assert_eq!(line, expected);
    }
}
