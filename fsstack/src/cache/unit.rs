//! Units of replacement: frames whose blocks were read together, as a page and what it embeds (S1, "Server
//! Operating Systems", section 4.3). Of the frames of a unit the policy knows one, its leader, for all of
//! them: a use of any is a use of that, and if it is to go, all go that nobody holds. What is held goes on as
//! a smaller unit.

use super::policy::{FrameId, Told};
use slab::Slab;

/// Number of a unit, given again once it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitId(usize);

#[derive(Debug)]
struct Unit {
    /// What the policy is told of all of it.
    told: Told,
    /// The frame that the policy knows, once one is filled.
    leader: Option<FrameId>,
    frames: Vec<FrameId>,
}

/// The units of a cache.
#[derive(Debug, Default)]
pub(super) struct Units(Slab<Unit>);

impl Units {
    /// A unit of one frame so far.
    pub(super) fn begin(&mut self, frame: FrameId, told: Told) -> UnitId {
        UnitId(self.0.insert(Unit { told, leader: None, frames: vec![frame] }))
    }

    /// Takes a frame in.
    pub(super) fn join(&mut self, UnitId(unit): UnitId, frame: FrameId) {
        self.0[unit].frames.push(frame);
    }

    /// A frame leaves before it was filled.
    pub(super) fn leave(&mut self, UnitId(unit): UnitId, frame: FrameId) {
        let frames = &mut self.0[unit].frames;
        frames.retain(|&member| member != frame);
        if frames.is_empty() {
            self.0.remove(unit);
        }
    }

    /// A frame is filled: what the policy is to be told of it, if it does not know the unit yet.
    pub(super) fn lead(&mut self, UnitId(unit): UnitId, frame: FrameId) -> Option<Told> {
        let Unit { told, leader, frames } = &mut self.0[unit];
        if leader.is_some() {
            return None;
        }
        *leader = Some(frame);
        Some(Told { frames: frames.len() as u64, ..*told })
    }

    /// The frame that the policy knows.
    pub(super) fn leader(&self, UnitId(unit): UnitId) -> Option<FrameId> {
        self.0[unit].leader
    }

    /// All its frames.
    pub(super) fn frames(&self, UnitId(unit): UnitId) -> &[FrameId] {
        &self.0[unit].frames
    }

    /// Gives up those frames that may go, and gives them. What is left, if anything is, has no leader.
    pub(super) fn give_up(&mut self, UnitId(unit): UnitId, may_go: impl Fn(FrameId) -> bool) -> Vec<FrameId> {
        let Unit { leader, frames, .. } = &mut self.0[unit];
        *leader = None;
        let (gone, left): (Vec<_>, Vec<_>) = frames.iter().copied().partition(|&frame| may_go(frame));
        if left.is_empty() {
            self.0.remove(unit);
        } else {
            *frames = left;
        }
        gone
    }
}
