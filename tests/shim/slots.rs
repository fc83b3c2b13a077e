//! Slots as the caller sees them, and the handles that go with them. A handle carries its slot and the slot's epoch: after a
//! C_Initialize, or after the token vanished, every older handle is stale, whatever the module would still do with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError};

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SLOT_ID, CK_SLOT_INFO, CK_TOKEN_INFO, CKR_OK,
};

use super::control::Face;
use super::counts::Counts;

const MOST_SLOTS: usize = 64;

/// Slot ids of faces: unlike those of the module.
const FIRST_FACE: CK_SLOT_ID = 0xB1D0;

const EPOCH_SHIFT: u32 = 56;
const SLOT_SHIFT: u32 = 48;

/// One slot. Never removed: a process that initialises anew finds it again.
pub(crate) struct Slot {
    pub(crate) id: CK_SLOT_ID,
    pub(crate) face: Option<Face>,
    index: usize,
    backend: AtomicU64,
    row: AtomicUsize,
    epoch: AtomicU64,
    /// Open, of this epoch.
    pub(crate) sessions: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    logged_in: AtomicBool,
    /// The module's login is not this slot's: there is another face, or the token was away.
    pretends: AtomicBool,
    /// Vanished, and not to be seen before the next C_Initialize.
    dead: AtomicBool,
}

/// All slots of this process.
pub(crate) struct Slots {
    all: [OnceLock<Slot>; MOST_SLOTS],
    adding: Mutex<()>,
    faces: Mutex<Vec<Face>>,
    /// The user PIN that opened a token of the module: a second face is asked for the same.
    pins: Mutex<HashMap<CK_SLOT_ID, Vec<u8>>>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            all: [const { OnceLock::new() }; MOST_SLOTS],
            adding: Mutex::default(),
            faces: Mutex::default(),
            pins: Mutex::default(),
        }
    }

    /// After a C_Initialize: all handles are stale, nobody is logged in. `absent` says whose token is away right now.
    pub(crate) fn begin(&self, faces: Vec<Face>, absent: impl Fn(usize) -> bool) {
        *self.faces.lock().unwrap_or_else(PoisonError::into_inner) = faces;
        for slot in self.known() {
            slot.lose();
            slot.pretends.store(slot.face.is_some(), SeqCst);
            slot.dead.store(absent(slot.row()), SeqCst);
        }
    }

    /// The token of this row (of all) has vanished.
    pub(crate) fn lose(&self, row: Option<usize>, reinitialise: bool) {
        for slot in self.known().filter(|slot| row.is_none_or(|row| slot.row() == row)) {
            slot.lose();
            slot.pretends.store(true, SeqCst);
            slot.dead.fetch_or(reinitialise, SeqCst);
        }
    }

    /// The slots to show, given those of the module.
    pub(crate) fn shown(&self, backend: &[CK_SLOT_ID], list: &CK_FUNCTION_LIST, counts: &Counts) -> Vec<&Slot> {
        let faces = self.faces.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if faces.is_empty() {
            return backend.iter().filter_map(|id| self.by_id(*id, list, counts)).collect();
        }
        let labels: Vec<_> = backend.iter().filter_map(|id| Some((*id, label(list, *id)?))).collect();
        let behind = |face: &Face| labels.iter().find(|(_, label)| *label == face.of).map(|(id, _)| *id);
        let all = faces.into_iter().zip(FIRST_FACE..).filter_map(|(face, id)| {
            let row = counts.claim(&face.label);
            let backend = behind(&face)?;
            let slot = self.add(id, backend, Some(face), row)?;
            slot.backend.store(backend, SeqCst);
            Some(slot)
        });
        all.collect()
    }

    /// The slot of an id; one of the module's that was not seen before is looked at first.
    pub(crate) fn by_id(&self, id: CK_SLOT_ID, list: &CK_FUNCTION_LIST, counts: &Counts) -> Option<&Slot> {
        if let Some(slot) = self.known().find(|slot| slot.id == id) {
            return Some(slot);
        }
        if !self.faces.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return None;
        }
        let mut info = CK_SLOT_INFO::default();
        // SAFETY: the module's own function, with a structure of ours to write to.
        let there = unsafe { list.C_GetSlotInfo?(id, &mut info) } == CKR_OK;
        let row = counts.claim(&label(list, id).unwrap_or_default());
        there.then(|| self.add(id, id, None, row)).flatten()
    }

    /// What a session handle says: its slot, whether it is of today, and the module's handle.
    pub(crate) fn of_session(&self, handle: CK_SESSION_HANDLE) -> Option<(&Slot, bool, CK_SESSION_HANDLE)> {
        let index = (handle >> SLOT_SHIFT & 0xFF).checked_sub(1)?;
        let slot = self.all.get(index as usize)?.get()?;
        Some((slot, handle >> EPOCH_SHIFT == slot.epoch(), handle & ((1 << SLOT_SHIFT) - 1)))
    }

    /// Another face of the same token that is logged in.
    pub(crate) fn twin_logged_in(&self, slot: &Slot) -> bool {
        self.known().any(|other| other.id != slot.id && other.backend() == slot.backend() && other.logged_in())
    }

    /// Remembers the PIN that opened a token.
    pub(crate) fn keep_pin(&self, slot: &Slot, pin: &[u8]) {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).insert(slot.backend(), pin.to_vec());
    }

    /// Compares with it.
    pub(crate) fn is_pin(&self, slot: &Slot, pin: &[u8]) -> Option<bool> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).get(&slot.backend()).map(|known| known == pin)
    }

    fn known(&self) -> impl Iterator<Item = &Slot> {
        self.all.iter().map_while(OnceLock::get)
    }

    fn add(&self, id: CK_SLOT_ID, backend: CK_SLOT_ID, face: Option<Face>, row: usize) -> Option<&Slot> {
        let _one_at_a_time = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.known().find(|slot| slot.id == id) {
            return Some(slot);
        }
        let index = self.known().count();
        let pretends = AtomicBool::new(face.is_some());
        let slot = Slot {
            id,
            face,
            index,
            backend: AtomicU64::new(backend),
            row: AtomicUsize::new(row),
            epoch: AtomicU64::new(1),
            sessions: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            logged_in: AtomicBool::new(false),
            pretends,
            dead: AtomicBool::new(false),
        };
        Some(self.all.get(index)?.get_or_init(|| slot))
    }
}

impl Slot {
    /// The module's slot.
    pub(crate) fn backend(&self) -> CK_SLOT_ID {
        self.backend.load(SeqCst)
    }

    /// Its row in the counts.
    pub(crate) fn row(&self) -> usize {
        self.row.load(SeqCst)
    }

    /// The token's label is known now, or another.
    pub(crate) fn relabel(&self, row: usize) {
        self.row.store(row, SeqCst);
    }

    pub(crate) fn dead(&self) -> bool {
        self.dead.load(SeqCst)
    }

    pub(crate) fn logged_in(&self) -> bool {
        self.logged_in.load(SeqCst)
    }

    pub(crate) fn log(&self, logged_in: bool) {
        self.logged_in.store(logged_in, SeqCst);
    }

    /// A key may not be used although the module would.
    pub(crate) fn must_log_in(&self) -> bool {
        self.pretends.load(SeqCst) && !self.logged_in()
    }

    /// One session less; the login goes with the last.
    pub(crate) fn closed(&self) {
        let before = self.sessions.fetch_update(SeqCst, SeqCst, |open| Some(open.saturating_sub(1)));
        if before.is_ok_and(|open| open <= 1) {
            self.log(false);
        }
    }

    /// All handles are stale from now on.
    pub(crate) fn lose(&self) {
        let _ = self.epoch.fetch_update(SeqCst, SeqCst, |epoch| Some(epoch % 0xFF + 1));
        self.sessions.store(0, SeqCst);
        self.log(false);
    }

    /// The handle to give out for a session of the module.
    pub(crate) fn session(&self, handle: CK_SESSION_HANDLE) -> Option<CK_SESSION_HANDLE> {
        (handle >> SLOT_SHIFT == 0)
            .then(|| handle | (self.index as u64 + 1) << SLOT_SHIFT | self.epoch() << EPOCH_SHIFT)
    }

    /// The handle to give out for an object of the module.
    pub(crate) fn object(&self, handle: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
        if handle == 0 { 0 } else { handle | self.epoch() << EPOCH_SHIFT }
    }

    /// The module's handle of an object, if it is of today. Zero means "none".
    pub(crate) fn own_object(&self, handle: CK_OBJECT_HANDLE) -> Option<CK_OBJECT_HANDLE> {
        let today = handle == 0 || handle >> EPOCH_SHIFT == self.epoch();
        today.then_some(handle & ((1 << EPOCH_SHIFT) - 1))
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }
}

/// The label of a token of the module.
pub(crate) fn label(list: &CK_FUNCTION_LIST, id: CK_SLOT_ID) -> Option<String> {
    let mut info = CK_TOKEN_INFO::default();
    // SAFETY: the module's own function, with a structure of ours to write to.
    let there = unsafe { list.C_GetTokenInfo?(id, &mut info) } == CKR_OK;
    there.then(|| String::from_utf8_lossy(&info.label).trim_end_matches([' ', '\0']).to_owned())
}
