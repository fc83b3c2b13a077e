//! Whose order it is, which of theirs, and which row of it.

use std::fmt;
use std::str::FromStr;

use super::IdError;

/// A name that becomes a path component: 1 to 64 of `[A-Za-z0-9._-]`, not starting with a dot.
fn path_safe(text: &str) -> Result<(), IdError> {
    if let Some(at) =
        text.bytes().position(|b| !matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
    {
        return Err(IdError::Character { at });
    }
    if text.starts_with('.') {
        return Err(IdError::Character { at: 0 });
    }
    if !(1..=64).contains(&text.len()) {
        return Err(IdError::Length { got: text.len(), expected: "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'" });
    }
    Ok(())
}

macro_rules! path_safe_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                path_safe(text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

path_safe_name! {
    /// The order system's own number of an order; also a directory name under `outbox/<tenant>/`.
    OrderId
}
path_safe_name! {
    /// Whose order it is; also a directory name under `outbox/`.
    Tenant
}

/// What makes an order unique: the same key with another body is a conflict (exit 6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OrderKey {
    /// Whose order it is.
    pub tenant: Tenant,
    /// The order system's number.
    pub order_id: OrderId,
    /// Revision, 1 unless the order says otherwise.
    pub rev: u32,
}

impl OrderKey {
    /// Directory of the answers, relative to `outbox/`: `<tenant>/<order_id>`, from revision 2 on `<tenant>/<order_id>@<rev>`
    /// (an order id holds no `@`, so two orders never share a directory).
    pub fn outbox_path(&self) -> std::path::PathBuf {
        let leaf = if self.rev == 1 { self.order_id.to_string() } else { format!("{}@{}", self.order_id, self.rev) };
        std::path::Path::new(self.tenant.as_str()).join(leaf)
    }
}

impl OrderKey {
    /// Whether a person's `ORDER_ID`, `TENANT/ORDER_ID` or either with `@REV` means this order.
    pub fn is_named(&self, name: &str) -> bool {
        let full = self.to_string();
        full == name || full.split_once('/').is_some_and(|(_, leaf)| leaf == name)
    }
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.order_id)?;
        if self.rev == 1 { Ok(()) } else { write!(f, "@{}", self.rev) }
    }
}

/// One device line of one order: what every error and log line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordId {
    /// `line` of the order header.
    pub line: u32,
    /// `row` of the CSV (1-based).
    pub row: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, row {}", self.line, self.row)
    }
}
