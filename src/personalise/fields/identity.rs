//! Who the subscriber is: card number, IMSI, access class, telephone number.

use super::About;

/// ICCID. ProfileHeader A0/83: 10 octets, straight BCD, F behind the last digit; EF.ICCID B0/A4/83: the same with swapped nibbles.
/// An IoT Minimal Profile without EF.ICCID takes the header's.
pub(super) const ICCID: About<'_> = About {
    name: "iccid",
    source: "order",
    form: "19 or 20 digits with their check digit",
    clause: "SAIP §8.2.1, ETSI TS 102 221 §13.2",
};

/// IMSI. EF.IMSI B3/A3/83 or BF20/A9/83: 9 octets, length, parity, swapped nibbles.
pub(super) const IMSI: About<'_> =
    About { name: "imsi", source: "order", form: "6 to 15 digits", clause: "3GPP TS 31.102 §4.2.2" };

/// Access class. EF.ACC B3/B2/83 or BF20/B2/83: 2 octets, the bit of the last IMSI digit unless the variable `acc` is set.
pub(super) const ACC: About<'_> = About {
    name: "acc",
    source: "derived",
    form: "access classes 0 to 9 and 11 to 15, such as 3 or 3,15",
    clause: "3GPP TS 31.102 §4.2.15",
};

/// Telephone number. EF.MSISDN B4/A7/83: records of X + 14 octets, the number in the first, the others free.
pub(super) const MSISDN: About<'_> = About {
    name: "msisdn",
    source: "order",
    form: "E.164 number of up to 20 digits",
    clause: "3GPP TS 31.102 §4.2.26",
};
