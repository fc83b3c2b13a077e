//! K and OPc that a row brings, under the operator's transport key: form, length, and that no two rows bring the same.
//!
//! The values stay as they are: nothing is decrypted before the run, and then only in the token.

use data_encoding::HEXLOWER_PERMISSIVE;

use super::columns::Column;
use super::file::CredentialsFrom;
use super::judge::{OrderNumbers, Row, RowJudge};
use super::twice::Kind;
use crate::store::Wrapped;

pub(super) const WRAPPED_HINT: &str = "K and OPc of each row in the columns ki_wrapped and opc_wrapped, in hex, encrypted under the key that transport_key names";
const NOT_SHOWN: &str = "(not shown)";

impl RowJudge<'_> {
    /// What the row brings; `None`: nothing, or refused.
    pub(super) fn wrapped(&mut self, row: &Row<'_>, order: &mut OrderNumbers) -> Option<Wrapped> {
        if self.line.credentials == CredentialsFrom::Generate {
            for column in [Column::KiWrapped, Column::OpcWrapped] {
                if row.cells.cell(column).is_some() {
                    let (code, message) = ("unsupported-credentials", "the line says credentials generate");
                    self.refuse(row, column.name(), NOT_SHOWN, code, message, "leave the cell empty, or order import");
                }
            }
            return None;
        }
        // A line whose template or key cannot be had is refused for that; its rows are judged as far as it goes.
        let form = self.takes.wrapped;
        let ki = self.wrapped_value(row, Column::KiWrapped, form.map(|form| form.ki_len), order);
        let opc = self.wrapped_value(row, Column::OpcWrapped, form.map(|form| form.opc_len), order);
        if row.cells.cell(Column::KiWrapped).is_none() {
            self.missing(row, Column::KiWrapped, "credentials says import");
        }
        if row.cells.cell(Column::OpcWrapped).is_none() && form.is_some_and(|form| !form.derives_opc) {
            self.missing(row, Column::OpcWrapped, "the site has no OP of this operator to derive it from");
        }
        Some(Wrapped { ki: ki?, opc })
    }

    fn wrapped_value(
        &mut self,
        row: &Row<'_>,
        column: Column,
        octets: Option<usize>,
        order: &mut OrderNumbers,
    ) -> Option<Vec<u8>> {
        let text = self.text(row, column)?;
        let Ok(value) = HEXLOWER_PERMISSIVE.decode(text.as_bytes()) else {
            self.refuse(
                row,
                column.name(),
                NOT_SHOWN,
                "wrapped-form",
                "is not hex",
                "two hex digits an octet, no spaces",
            );
            return None;
        };
        if let Some(octets) = octets.filter(|octets| *octets != value.len()) {
            let message =
                format!("has {} octets, the transport key's scheme and the algorithm make {octets}", value.len());
            let hint = "check algorithm and transport_key of the line against what the operator sent";
            self.refuse(row, column.name(), NOT_SHOWN, "wrapped-length", &message, hint);
            return None;
        }
        // One ciphertext is one key.
        if !order.twice.is_first(Kind::Wrapped, text.to_ascii_lowercase().as_bytes()) {
            let (code, message) = match column {
                Column::KiWrapped => ("duplicate-ki", "stands twice in the order: two subscribers would have one key"),
                _ => ("duplicate-opc", "stands twice in the order: two subscribers would have one OPc"),
            };
            self.refuse(
                row,
                column.name(),
                NOT_SHOWN,
                code,
                message,
                "ask the operator for this row's own credentials",
            );
            return None;
        }
        Some(value)
    }
}
