//! A strict view of a JSON document: every member is asked for by name, what nobody asked for is refused by its path, and
//! a wrong value does not hide the next one. Values of unknown members are never repeated: one of them could be a key.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use zeroize::Zeroizing;

use super::refusals::{MOST_OF_HEADER, and_more, masked};
use crate::store::Refusal;

/// A JSON value that still knows its duplicate members.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(u64),
    /// Negative or broken, as it is told of.
    OtherNumber(Box<str>),
    /// Wiped: it may be a confirmation code.
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// A member of an object, if this is one and has it.
    fn member(&self, name: &str) -> Option<&Node> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(member, _)| member == name).map(|(_, node)| node)
    }

    /// Elements of the list behind a member; 0 if there is none.
    pub(super) fn count_of(&self, name: &str) -> usize {
        if let Some(Self::List(list)) = self.member(name) { list.len() } else { 0 }
    }
}

/// A parser's own words may repeat its whole input.
const MESSAGE_CHARS: usize = 512;

/// Where refusals of a document are collected, as many as a sender can make use of.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Refusal>>);

impl Problems {
    pub(super) fn add(&self, line: u32, path: &str, value: &str, code: &'static str, message: &str, hint: &str) {
        if self.is_full() {
            return;
        }
        let (column, value) = (path.to_owned(), value.to_owned());
        let (message, hint) = (message.chars().take(MESSAGE_CHARS).collect(), hint.to_owned());
        let mut refusals = self.0.borrow_mut();
        refusals.push(Refusal { line, row: 0, column, value, code, message, hint });
        if refusals.len() == MOST_OF_HEADER {
            refusals.push(and_more());
        }
    }

    /// Nothing more is kept.
    fn is_full(&self) -> bool {
        self.0.borrow().len() > MOST_OF_HEADER
    }

    pub(super) fn into_refusals(self) -> Vec<Refusal> {
        self.0.into_inner()
    }
}

const A_NUMBER: &str = "a whole number";

/// One value of the document: where it stands and what it is.
#[derive(Clone, Copy)]
pub(super) struct Value<'d> {
    node: &'d Node,
    place: &'d Place<'d>,
}

/// Path of a value, made into text only when something is wrong with it.
#[derive(Clone)]
pub(super) struct Place<'d> {
    pub(super) path: String,
    line: u32,
    problems: &'d Problems,
}

impl<'d> Place<'d> {
    pub(super) fn root(problems: &'d Problems) -> Self {
        Self { path: String::new(), line: 0, problems }
    }

    fn member(&self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { path, ..self.clone() }
    }

    fn element(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), ..self.clone() }
    }

    /// Refuses what stands here. `None`, so that a reader can end with it.
    pub(super) fn refuse<T>(&self, value: &str, code: &'static str, message: &str, hint: &str) -> Option<T> {
        self.problems.add(self.line, &self.path, value, code, message, hint);
        None
    }
}

impl<'d> Value<'d> {
    pub(super) fn new(node: &'d Node, place: &'d Place<'d>) -> Self {
        Self { node, place }
    }

    pub(super) fn place(&self) -> &'d Place<'d> {
        self.place
    }

    /// The same value, its refusals counted to the order line that its member `line` names, if it does.
    pub(super) fn read_as_line<T>(&self, read: impl FnOnce(Value<'_>) -> Option<T>) -> Option<T> {
        let line = match self.node.member("line") {
            Some(Node::Integer(number)) => u32::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let place = Place { line, ..self.place.clone() };
        read(Value::new(self.node, &place))
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let (found, value) = match self.node {
            Node::Null => ("null", String::new()),
            Node::Bool(value) => ("a boolean", value.to_string()),
            Node::Integer(value) => ("a number", value.to_string()),
            Node::OtherNumber(text) => ("a number", text.to_string()),
            Node::Text(text) => ("a text", text.to_string()),
            Node::List(_) => ("a list", String::new()),
            Node::Object(_) => ("an object", String::new()),
        };
        let value = Zeroizing::new(value);
        // Where a text belongs, a number may be a code of somebody's; a short word in a number's place is none.
        let is_number = expected == A_NUMBER && value.len() <= 10;
        let value = if is_number { excerpt(&value) } else { masked(&value) };
        let hint =
            if expected == "a text" { "put the value in quotation marks" } else { "see docs of bindery.order/1" };
        self.place.refuse(&value, "wrong-type", &format!("is {found}, expected {expected}"), hint)
    }

    pub(super) fn text(&self) -> Option<&'d str> {
        match self.node {
            Node::Text(text) => Some(text.as_str()),
            _ => self.wrong_type("a text"),
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        match self.node {
            Node::Bool(value) => Some(*value),
            _ => self.wrong_type("true or false"),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.node, Node::Text(_))
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self.node, Node::Object(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node, Node::List(_))
    }

    pub(super) fn integer(&self) -> Option<u64> {
        match self.node {
            Node::Integer(value) => Some(*value),
            _ => self.wrong_type(A_NUMBER),
        }
    }

    /// What stands in a cell of the sender's own: a text, a whole number's digits; nothing else is one.
    pub(super) fn cell(&self) -> Option<String> {
        match self.node {
            Node::Text(text) => Some(text.as_str().to_owned()),
            Node::Integer(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number(&self, least: u32, most: u32) -> Option<u32> {
        let value = self.integer()?;
        match u32::try_from(value).ok().filter(|n| (least..=most).contains(n)) {
            Some(number) => Some(number),
            None => {
                let message = format!("is outside {least} to {most}");
                self.place.refuse(&value.to_string(), "out-of-range", &message, "correct the number")
            }
        }
    }

    /// One of a closed list of words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.place.refuse(
            &excerpt(text),
            "bad-value",
            "is not a word known here",
            &format!("one of {}", known.join(", ")),
        )
    }

    /// An identifier or date; its own parser says what is wrong. `mask` decides what of the value is repeated.
    pub(super) fn parse<T>(&self, mask: fn(&str) -> String, hint: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.text()?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => self.place.refuse(&mask(text), "bad-value", &error.to_string(), hint),
        }
    }

    /// At most `limit.most` elements: a longer list is refused before one of them is read.
    pub(super) fn elements<T>(&self, limit: Limit, mut read: impl FnMut(Value<'_>) -> Option<T>) -> Option<Vec<T>> {
        let Node::List(list) = self.node else { return self.wrong_type("a list") };
        if list.len() > limit.most {
            return limit.refuse(self.place, list.len());
        }
        let elements = list.iter().enumerate().map(|(index, node)| {
            let place = self.place.element(index);
            read(Value::new(node, &place))
        });
        // All elements are read before the first failure counts, so that each gets its refusal.
        elements.collect::<Vec<_>>().into_iter().collect()
    }

    /// Members by name; `read` asks for them, what it left is refused.
    pub(super) fn object<T>(&self, read: impl FnOnce(&Members<'_>) -> Option<T>) -> Option<T> {
        let Node::Object(list) = self.node else { return self.wrong_type("an object") };
        let members = Members {
            place: self.place,
            members: list.iter().map(|(name, node)| (name.as_str(), node, Cell::new(false))).collect(),
            asked: RefCell::new(Vec::new()),
        };
        let result = read(&members);
        if members.all_known() { result } else { None }
    }

    /// Every member, whatever its name: for `vars` and rows. An object of more than `limit.most` is refused unread.
    pub(super) fn entries<T>(
        &self,
        limit: Limit,
        mut read: impl FnMut(&str, Value<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Node::Object(list) = self.node else { return self.wrong_type("an object") };
        if list.len() > limit.most {
            return limit.refuse(self.place, list.len());
        }
        let mut seen = HashSet::new();
        let entries = list.iter().map(|(name, node)| {
            let place = self.place.member(&excerpt(name));
            if !seen.insert(name.as_str()) {
                return duplicate(&place);
            }
            read(name, Value::new(node, &place))
        });
        entries.collect::<Vec<_>>().into_iter().collect()
    }
}

/// How many elements or members a value may have, and what is told of one with more.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) most: usize,
    pub(super) code: &'static str,
    pub(super) what: &'static str,
    pub(super) hint: &'static str,
}

impl Limit {
    fn refuse<T>(&self, place: &Place<'_>, found: usize) -> Option<T> {
        place.refuse("", self.code, &format!("has {found} {}, at most {}", self.what, self.most), self.hint)
    }
}

/// The members of one object.
pub(super) struct Members<'d> {
    place: &'d Place<'d>,
    members: Vec<(&'d str, &'d Node, Cell<bool>)>,
    asked: RefCell<Vec<&'static str>>,
}

impl Members<'_> {
    /// A member that may be absent; null is no value. Outer `None`: refused.
    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(Value<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.asked.borrow_mut().push(name);
        let mut found = self.members.iter().filter(|(member, ..)| *member == name);
        let Some((_, node, used)) = found.next() else { return Some(None) };
        used.set(true);
        let place = self.place.member(name);
        if let Some((_, _, used)) = found.next() {
            used.set(true);
            return duplicate(&place);
        }
        match node {
            Node::Null => place.refuse("null", "no-value", "is no value", "leave the member out, or give it a value"),
            _ => read(Value::new(node, &place)).map(Some),
        }
    }

    /// A member that must be there.
    pub(super) fn required<T>(&self, name: &'static str, read: impl FnOnce(Value<'_>) -> Option<T>) -> Option<T> {
        match self.optional(name, read)? {
            Some(value) => Some(value),
            None => self.place.member(name).refuse(
                "",
                "missing-member",
                "is missing",
                "add it; see docs of bindery.order/1",
            ),
        }
    }

    /// A member with a default.
    pub(super) fn or<T>(&self, name: &'static str, default: T, read: impl FnOnce(Value<'_>) -> Option<T>) -> Option<T> {
        Some(self.optional(name, read)?.unwrap_or(default))
    }

    fn all_known(&self) -> bool {
        let asked = self.asked.borrow();
        let unknown: Vec<_> = self.members.iter().filter(|(.., used)| !used.get()).collect();
        let hint = format!("known here: {}", asked.join(", "));
        // What is dropped anyway is not put into words.
        for (name, ..) in unknown.iter().take_while(|_| !self.place.problems.is_full()) {
            let place = self.place.member(&excerpt(name));
            place.refuse::<()>("", "unknown-member", "is not a member of bindery.order/1", &hint);
        }
        unknown.is_empty()
    }
}

fn duplicate<T>(place: &Place<'_>) -> Option<T> {
    place.refuse("", "duplicate-member", "stands here twice", "keep one of them: which one counts must not be guessed")
}

/// At most 64 characters, control characters replaced: what a message may repeat of a foreign word.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What some editors put before the first character.
pub(super) fn byte_order_mark(octets: &[u8]) -> Option<&'static str> {
    match octets {
        [0xEF, 0xBB, 0xBF, ..] => Some("a byte order mark (EF BB BF)"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Some("a byte order mark of UTF-16"),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// A vector begins with room for four: a million lists of one element would take four times their size.
fn push_tight<T>(list: &mut Vec<T>, element: T) {
    if list.len() < 8 {
        list.reserve_exact(1);
    }
    list.push(element);
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::OtherNumber(value.to_string().into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::OtherNumber(value.to_string().into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            push_tight(&mut nodes, node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            push_tight(&mut members, member);
        }
        Ok(Node::Object(members))
    }
}
