//! From a plan and the code of its passes to what an engine knows.

use crate::backend::{self, Entry, PassCode, Striped};
use crate::compose::Composition;
use crate::compose::frames::End;
use crate::drive::{BLOCK, DIGEST_BLOCK};
use crate::export::ExportExpr;
use crate::framing::FramePlan;
use crate::ir::{Frame, Layout, StateInit, Tail};
use crate::options::Backend;
use crate::plan::Pass;
use crate::program::{DigestPass, Direct, ExportId, ExportInfo, PassRun, Program, RegisterInfo, Window};
use crate::registers::{FEW, PAIR, Registers};
use smallvec::SmallVec;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};

/// Lays out the registers of an engine, pass by pass.
pub(super) struct ProgramBuilder<'a> {
    composition: &'a Composition,
    passes: Vec<PassRun>,
    initial: Vec<u64>,
    stage_base: Vec<usize>,
}

impl<'a> ProgramBuilder<'a> {
    pub(super) fn new(composition: &'a Composition) -> ProgramBuilder<'a> {
        let stage_base = vec![0; composition.stages.len()];
        ProgramBuilder { composition, passes: Vec::new(), initial: Vec::new(), stage_base }
    }

    pub(super) fn pass(&mut self, pass: &Pass, code: Box<dyn PassCode>) {
        let base = self.initial.len();
        let mut windows: SmallVec<[Window; 1]> = SmallVec::new();
        for &index in &pass.stages {
            let stage = &self.composition.stages[index];
            self.stage_base[index] = self.initial.len();
            self.initial.extend(stage.pipe.states.iter().map(|state| match state.init {
                StateInit::Const(value) => value,
                StateInit::Param(_) => 0,
            }));
            if let Some(bytes) = stage.window.map(NonZeroU64::get) {
                match windows.iter_mut().find(|window| window.bytes == bytes) {
                    Some(window) => window.stages.push(index),
                    None => windows.push(Window { bytes, stages: vec![index] }),
                }
            }
        }
        let stage = &self.composition.stages[pass.stages.first().copied().unwrap_or_default()..];
        let digest = stage.first().and_then(|stage| stage.pipe.digest_states());
        let digest = digest.map(|(kind, key, value)| DigestPass {
            kind,
            index: self.passes.iter().filter(|pass| pass.digest.is_some()).count(),
            key: base + key.start..base + key.end,
            value: base + value.start..base + value.end,
        });
        self.passes.push(PassRun {
            digest,
            code,
            gauge: pass.gauge,
            modifies: pass.modifies(self.composition),
            base,
            windows,
            pos_window: pass.pos_window(self.composition).map(NonZeroU64::get),
        });
    }

    pub(super) fn finish(self, composition: Arc<Composition>, backend: Backend) -> Program {
        let count = self.initial.len();
        let secret = composition.stages.iter().any(|stage| stage.pipe.holds_secrets());
        let initial = Registers::new(self.initial, secret);
        let mut exports = Vec::new();
        let mut export_exprs = Vec::new();
        let mut registers = Vec::new();
        for (index, stage) in composition.stages.iter().enumerate() {
            for (number, export) in stage.pipe.exports.iter().enumerate() {
                let expr = ExportExpr::new(&stage.pipe, number, self.stage_base[index], &initial);
                let is_elsewhere = stage.window.is_some() || stage.pipe.digest.is_some();
                exports.push(ExportInfo {
                    name: format!("{}.{}", stage.name, export.name),
                    ty: stage.pipe.finish.ty(export.value),
                    digest: stage.pipe.digest,
                    windowed: stage.window.is_some(),
                    stage: index,
                    id: ExportId::new(exports.len(), &expr, is_elsewhere),
                });
                export_exprs.push(expr);
            }
            // Where a digest's value will be is nobody's to set.
            let shown = stage.pipe.digest_states().map_or(stage.pipe.states.len(), |(_, key, _)| key.end);
            for (number, state) in stage.pipe.states.iter().enumerate().take(shown) {
                registers.push(RegisterInfo {
                    name: format!("{}.{}", stage.name, state.name),
                    ty: state.ty,
                    secret: state.secret,
                    index: self.stage_base[index] + number,
                });
            }
        }
        // Behind them, not behind the room that there is in place.
        let mut all = initial[..count].to_vec();
        let export_number = |stage: usize, export: usize| {
            composition.stages[..stage].iter().map(|stage| stage.pipe.exports.len()).sum::<usize>() + export
        };
        let mut plan = |frame: &Option<Arc<Frame>>, end| {
            let frame = frame.as_ref()?;
            let first = all.len();
            for param in &frame.params {
                let (name, index) = (format!("{}.{}", frame.name, param.name), all.len());
                registers.push(RegisterInfo { name, ty: param.ty, secret: false, index });
                all.push(param.default.unwrap_or_default());
            }
            Some(FramePlan::new(&composition, frame, end, first, export_number))
        };
        let source_frame = plan(&composition.source_frame, End::Source);
        let sink_frame = plan(&composition.sink_frame, End::Sink);
        let is_framed = source_frame.is_some() || sink_frame.is_some();
        let initial = if all.len() > count { Registers::new(all, secret) } else { initial };
        let rejecting = || composition.stages.iter().filter(|stage| stage.pipe.tail == Tail::Reject);
        let rejecting_words =
            rejecting().filter(|stage| stage.window.is_none()).map(|stage| stage.pipe.word_bytes());
        let reject_word = rejecting_words.max().unwrap_or(1);
        let rejects_windows = rejecting().any(|stage| stage.window.is_some());
        let windowed = composition.stages.iter().any(|stage| stage.window.is_some());
        let layouts = composition.source.is_some() || composition.sink.is_some() || is_framed;
        let has_digests = self.passes.iter().any(|pass| pass.digest.is_some());
        let is_one_call = self.passes.len() == 1 && !windowed && !is_framed && !has_digests;
        let is_plain = is_one_call && !layouts;
        let longest_striped = |end| match &*self.passes {
            [pass] if is_one_call => pass.code.longest_striped(end),
            _ => None,
        };
        let (from_stripes, to_stripes) = (longest_striped(Striped::Source), longest_striped(Striped::Sink));
        let only = match &*self.passes {
            [pass] if is_one_call => Some(pass),
            _ => None,
        };
        let striped = only.and_then(|pass| pass.code.striped());
        let plain = only.filter(|_| is_plain).and_then(|pass| pass.code.entry());
        let is_few = count <= FEW && !secret;
        let is_pair = count <= PAIR && !secret;
        let contiguous = |entry: Entry| Direct {
            entry,
            plain_below: if is_pair { entry.longest + 1 } else { 0 },
            is_any: !is_pair,
            rejected: reject_word - 1,
            gap: 0,
            run_shift: 0,
            shortest: 0,
        };
        let reading = only.filter(|_| is_plain).and_then(|pass| pass.code.reading());
        let direct = match (plain, striped, &composition.sink) {
            (Some(entry), ..) => Some(contiguous(entry)),
            (None, Some(entry), Some(layout)) if composition.source.is_none() => {
                striped_direct(contiguous(entry), layout)
            }
            _ => None,
        };
        Program {
            backend,
            direct: direct.filter(|_| is_few).unwrap_or_else(Direct::none),
            reading: reading.filter(|_| is_pair).map_or_else(Direct::none, contiguous),
            from_stripes,
            to_stripes,
            initial,
            stage_base: self.stage_base.into(),
            exports: exports.into(),
            export_exprs: export_exprs.into(),
            registers: registers.into(),
            reject_word,
            rejects_windows,
            windowed,
            modifies: composition.modifies(),
            copies: self.passes.iter().position(|pass| pass.digest.is_none()).unwrap_or_default(),
            block: if has_digests { DIGEST_BLOCK } else { BLOCK },
            streaming_from: backend::streaming_from(),
            is_one_call,
            is_plain,
            passes: self.passes.into(),
            source_frame,
            sink_frame,
            rules: OnceLock::new(),
            composition,
        }
    }
}

/// Short transfers to stripes instead, if their runs are as long as a power of two.
fn striped_direct(contiguous: Direct, layout: &Layout) -> Option<Direct> {
    let stripe = layout.stripe.filter(|stripe| stripe.data.is_power_of_two())?;
    let (shortest, gap) = (usize::try_from(layout.pad).ok()?, usize::try_from(stripe.gap).ok()?);
    // So short that what it takes of the destination can be computed without looking for overflows.
    let entry = Entry { longest: contiguous.entry.longest.min(1 << 24), ..contiguous.entry };
    let run_shift = stripe.data.trailing_zeros();
    Some(Direct { entry, plain_below: 0, is_any: true, gap, run_shift, shortest, ..contiguous })
}
