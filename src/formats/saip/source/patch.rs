//! `extends`: the elements of a preset, some of them changed, taken out or followed by others.
//!
//! A patch names an element as an element itself is named. Of a file-system element it replaces the files it names and leaves the
//! others; any other element it replaces as a whole. Elements of the source come last, or `after` the one they name. What the header
//! does not say is the preset's.

use toml::Spanned;

use super::Wrong;
use super::schema::{Element, File, Hex, Source};
use crate::formats::bcd;
use crate::formats::saip::kind::Kind;

/// Puts the source's own elements and patches onto those of its base.
pub(super) fn apply(base: Source, source: &mut Source) -> Result<(), Wrong> {
    let mut elements = base.elements;
    match (&mut source.header, base.header) {
        (Some(header), Some(base)) => {
            let header = header.get_mut();
            if let Some(iccid) = &header.iccid {
                write_iccid(&mut elements, iccid.get_ref());
            }
            header.inherit(base.into_inner());
        }
        (header, base) => *header = header.take().or(base),
    }
    source.description = source.description.take().or(base.description);
    for patch in std::mem::take(&mut source.patches) {
        let span = patch.span();
        let wrong = |what: &str| Wrong { at: span.clone(), what: what.to_owned() };
        let patch = patch.into_inner();
        if patch.after.is_some() {
            return Err(wrong("after: only an [[element]] has a place, a [[patch]] changes one that is there"));
        }
        match &patch.remove {
            Some(place) if patch.body().is_none() && patch.nth.is_none() => {
                let at = find(&elements, place)?;
                elements.remove(at);
            }
            Some(_) => return Err(wrong("remove: stands alone in its [[patch]]")),
            None => {
                let kind =
                    patch.kind().ok_or_else(|| wrong("a [[patch]] names one element, such as [patch.usim.files]"))?;
                let nth = patch.nth.unwrap_or(1);
                let at =
                    nth_of(&elements, kind, nth).ok_or_else(|| wrong(&format!("the preset has no {kind} {nth}")))?;
                change(&mut elements[at], patch, &span)?;
            }
        }
    }
    for element in std::mem::take(&mut source.elements) {
        match &element.get_ref().after {
            Some(place) => {
                let at = find(&elements, place)?;
                elements.insert(at + 1, element);
            }
            None => elements.push(element),
        }
    }
    source.elements = elements;
    Ok(())
}

/// Words that only make sense with `extends`.
pub(super) fn refuse(source: &Source) -> Result<(), Wrong> {
    let patch = source.patches.first().map(|patch| (patch.span(), "patch"));
    let after = source.elements.iter().find_map(|element| Some((element.get_ref().after.as_ref()?.span(), "after")));
    match patch.or(after) {
        Some((at, word)) => Err(Wrong { at, what: format!("{word}: there is nothing to change without extends") }),
        None => Ok(()),
    }
}

/// `nth` and `remove` are words of a patch.
pub(super) fn refuse_in_elements(source: &Source) -> Result<(), Wrong> {
    let stray =
        source.elements.iter().find(|element| element.get_ref().nth.is_some() || element.get_ref().remove.is_some());
    match stray {
        Some(element) => Err(Wrong { at: element.span(), what: "nth and remove belong into a [[patch]]".into() }),
        None => Ok(()),
    }
}

/// EF.ICCID of the preset follows the header, else every source with an ICCID of its own had to write both. A patch comes after it.
fn write_iccid(elements: &mut [Spanned<Element>], iccid: &str) {
    let files = elements.iter_mut().filter_map(|element| element.get_mut().file_system_mut());
    for file in files.filter_map(|files| files.files.get_mut("ef-iccid")).map(Spanned::get_mut) {
        if file.content.is_some() {
            file.content = Some(Hex(bcd::swapped::<10>(iccid).to_vec()));
        }
    }
}

fn change(element: &mut Spanned<Element>, mut patch: Element, span: &std::ops::Range<usize>) -> Result<(), Wrong> {
    let old = element.get_mut();
    if let (Some(files), Some(new)) = (old.file_system_mut(), patch.file_system_mut()) {
        if new.template.is_some() {
            files.template = new.template.take();
        }
        for (name, file) in std::mem::take(&mut new.files) {
            if !file.get_ref().remove {
                files.files.insert(name, file);
            } else if files.files.remove(&name).is_none() {
                return Err(Wrong { at: file.span(), what: format!("{name}: there is no such file to remove") });
            }
        }
    } else {
        let kept = (old.id, old.mandated);
        *old = Element { nth: None, ..patch.clone() };
        (old.id, old.mandated) = kept;
        // What goes wrong in it is to be told with the line of the patch.
        *element = Spanned::new(span.clone(), element.get_ref().clone());
    }
    let old = element.get_mut();
    old.id = patch.id.or(old.id);
    old.mandated = patch.mandated.or(old.mandated);
    Ok(())
}

/// The place of an element that a text names: `usim`, `rfm 2`.
fn find(elements: &[Spanned<Element>], place: &Spanned<String>) -> Result<usize, Wrong> {
    let text = place.get_ref();
    let (name, nth) = match text.rsplit_once(' ') {
        Some((name, nth)) => (name, nth.parse().unwrap_or(0)),
        None => (text.as_str(), 1),
    };
    let at = Kind::named(name).and_then(|kind| nth_of(elements, kind, nth));
    at.ok_or_else(|| Wrong { at: place.span(), what: format!("the preset has no element {text:?}") })
}

fn nth_of(elements: &[Spanned<Element>], kind: Kind, nth: usize) -> Option<usize> {
    let of_kind = elements.iter().enumerate().filter(|(_, element)| element.get_ref().kind() == Some(kind));
    of_kind.map(|(at, _)| at).nth(nth.checked_sub(1)?)
}

/// `remove` is a word of patches: a file of a whole element is just left out.
pub(super) fn refuse_removed_files(source: &mut Source) -> Result<(), Wrong> {
    let removed = |file: &&Spanned<File>| file.get_ref().remove;
    for element in &mut source.elements {
        let files = element.get_mut().file_system_mut();
        if let Some(file) = files.and_then(|files| files.files.values().find(removed)) {
            return Err(Wrong { at: file.span(), what: "remove belongs into a [[patch]]".into() });
        }
    }
    Ok(())
}
