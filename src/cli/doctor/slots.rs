//! What each slot of the site has and grants: lanes, sessions, the state of its PIN, and the mechanism table.

use std::sync::Arc;

use serde::Serialize;

use super::report::{COLUMNS, Report, State};
use crate::cli::screen::table;
use crate::error::{Exit, Fault};
use crate::hsm::lanes::Health;
use crate::hsm::mechanisms::{AttributeGap, Row, attribute_gaps, table as mechanism_table};
use crate::hsm::pkcs11::Token;
use crate::hsm::pkcs11::inventory::{Inventory, PinState, Sessions};

/// One slot, as `--json` has it.
#[derive(Debug, Serialize)]
pub(super) struct Slot {
    token: String,
    profile: String,
    /// None: the token did not open.
    lanes: Option<Lanes>,
    sessions: Sessions,
    /// From before this command's login.
    user_pin: PinState,
    mechanisms: Vec<Row>,
    attributes: Vec<AttributeGap>,
}

/// Lanes that were wanted and that the token granted.
#[derive(Clone, Copy, Debug, Serialize)]
struct Lanes {
    wanted: usize,
    granted: usize,
}

impl Slot {
    fn of(inventory: Inventory, token: Option<&Token>, health: Option<&Health>) -> Self {
        let Inventory { label, profile, mut offer, sessions, pin } = inventory;
        // What cannot be asked stays unknown in the table.
        offer.curves = token.and_then(|token| token.curves().ok()).unwrap_or_default();
        let tells_check_value = token.and_then(|token| token.tells_check_value().ok()).flatten();
        let pool = health.and_then(|health| health.pools.iter().find(|pool| pool.name == label));
        let lanes = token.zip(pool).map(|(token, pool)| Lanes { wanted: token.lanes_asked(), granted: pool.lanes });
        Self {
            mechanisms: mechanism_table(&offer, &profile),
            attributes: attribute_gaps(&profile, tells_check_value),
            profile: profile.model,
            token: label,
            lanes,
            sessions,
            user_pin: pin,
        }
    }

    /// Lanes, PIN, sessions.
    fn grants(&self) -> String {
        let lanes = match self.lanes {
            Some(Lanes { wanted, granted }) => format!("{granted} of {wanted} lanes"),
            None => "not opened".to_owned(),
        };
        let sessions = match self.sessions.most {
            Some(most) => format!("at most {most} sessions"),
            None => "no bound on sessions told".to_owned(),
        };
        format!("{}: {lanes}, {}, {sessions}", self.token, told(self.user_pin))
    }

    /// What stops the site, counts, then the gaps alone: the screen may have one line for it.
    fn mechanisms_told(&self) -> String {
        let needed: Vec<&Row> = self.mechanisms.iter().filter(|row| row.is_needed()).collect();
        let there = needed.iter().filter(|row| row.present == Some(true)).count();
        let gaps =
            self.mechanisms.iter().filter(|row| row.is_gap()).map(|row| format!("{}: {}", row.name, row.handling));
        let attributes = self.attributes.iter().map(|gap| format!("{}: {}", gap.name, gap.handling));
        let stops: Vec<&str> = self.stops().map(|row| row.name).collect();
        let lacks = if stops.is_empty() { String::new() } else { format!("lacks {}; ", stops.join(", ")) };
        let head = format!("{}: {lacks}{there} of {} there", self.token, needed.len());
        std::iter::once(head).chain(gaps).chain(attributes).collect::<Vec<_>>().join("; ")
    }

    /// Gaps that the site does not run with.
    fn stops(&self) -> impl Iterator<Item = &Row> {
        self.mechanisms.iter().filter(|row| row.required && row.is_gap())
    }

    /// The whole table.
    fn to_table(&self) -> String {
        let mut lines = table(&["mechanism", "number", "there", "needed for", "what Bindery does"]);
        lines.set_width(COLUMNS as u16);
        for row in &self.mechanisms {
            lines.add_row([
                row.name.to_owned(),
                row.number.map_or_else(String::new, |number| format!("0x{number:04X}")),
                row.present.map_or("?", |there| if there { "yes" } else { "no" }).to_owned(),
                row.needed_for.to_owned(),
                row.handling.clone(),
            ]);
        }
        for gap in &self.attributes {
            lines.add_row([&gap.name, "", "no", "", gap.handling]);
        }
        let whole = format!("{} ({})\n{lines}", self.token, self.profile);
        // Cells are filled up to the width of their column.
        whole.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

impl Report {
    /// The slots that answered; of the others the fault of the opening tells.
    pub(super) fn slots(
        &mut self,
        inventories: Vec<Result<Inventory, Fault>>,
        tokens: &[Arc<Token>],
        health: Option<&Health>,
    ) {
        for inventory in inventories.into_iter().flatten() {
            let token = tokens.iter().find(|token| token.facts().label == inventory.label);
            let slot = Slot::of(inventory, token.map(|token| &**token), health);
            let is_short = slot.lanes.is_some_and(|lanes| lanes.granted < lanes.wanted);
            match (slot.user_pin, slot.lanes) {
                (PinState::FinalTry | PinState::Locked | PinState::NotSet, _) => {
                    _ = self
                        .add("slot", State::Fail(Exit::HsmUnusable), slot.grants())
                        .hint("no login was tried: the security officer, or the right PIN with the maker's tool, helps")
                }
                _ if is_short => {
                    _ = self
                        .add("slot", State::Warn, slot.grants())
                        .hint("lower `lanes`, or end what else holds sessions")
                }
                (PinState::CountLow, _) => {
                    _ = self
                        .add("slot", State::Warn, slot.grants())
                        .hint("find out who tried it: a few more would have locked the token")
                }
                (PinState::Good, Some(_)) => _ = self.add("slot", State::Ok, slot.grants()),
                // Why it did not open stands above.
                (PinState::Good, None) => _ = self.add("slot", State::Warn, slot.grants()),
            }
            let state = if slot.stops().next().is_some() { State::Fail(Exit::HsmUnusable) } else { State::Ok };
            self.add("mechanisms", state, slot.mechanisms_told())
                .rest("... see `doctor --mechanisms`")
                .hint("enable them in the HSM's policy; `bindery doctor --mechanisms` shows the table");
            self.slots.push(slot);
        }
    }

    /// The mechanism table of every slot that answered, in 80 columns.
    pub fn to_mechanism_tables(&self) -> String {
        self.slots.iter().map(Slot::to_table).collect::<Vec<_>>().join("\n")
    }
}

fn told(pin: PinState) -> &'static str {
    match pin {
        PinState::Good => "PIN good",
        PinState::CountLow => "a wrong PIN was tried before",
        PinState::FinalTry => "one wrong PIN from its lock",
        PinState::Locked => "user PIN locked",
        PinState::NotSet => "no user PIN set",
    }
}
