//! The generator of random pipelines.
//!
//! A third of the pipes are any straight-line code that type-checks; the others have the shape of a class
//! that backends treat specially (see `testing::shapes` and `testing::joint`), with random arithmetic around
//! it: pure chance would make nearly every state serial.

use super::draft::PipeDraft;
use super::rng::Rng;
use crate::compose::{Composer, Composition};
use crate::digest::{self, DigestKind};
use crate::ir::builder::PipeBuilder;
use crate::ir::{Endian, Field, Frame, Gauge, Layout, Param, ParamId, Pipe, Stripe, Tail, Term, Ty};
use std::num::NonZeroU64;
use std::sync::Arc;

/// Makes pipes and pipelines from a sequence of random numbers.
#[derive(Debug)]
pub struct Generator<'a> {
    rng: &'a mut Rng,
}

/// A digest of another crate more, without a window, with `common` or with one of its own.
fn with_digest(composer: Composer, rng: &mut Rng, common: NonZeroU64) -> Composer {
    let Some(kind) = (!DigestKind::ALL.is_empty()).then(|| rng.pick(DigestKind::ALL)) else {
        return composer;
    };
    let Some(pipe) = digest::pipe(kind.name()) else { return composer };
    let window = match rng.below(4) {
        0 => Some(common),
        1 => NonZeroU64::new(rng.between(1, 300) as u64),
        _ => None,
    };
    let args: Vec<(&str, u64)> = pipe.params.iter().map(|param| (param.name.as_str(), rng.edge())).collect();
    composer.stage(pipe, None, &args, window).expect("names are made unique")
}

impl<'a> Generator<'a> {
    /// A generator that draws from `rng`.
    pub fn new(rng: &'a mut Rng) -> Generator<'a> {
        Generator { rng }
    }

    /// A pipeline of up to six stages, perhaps with windows and with layouts or frames at its ends.
    pub fn composition(&mut self) -> Composition {
        let mut composer = Composer::new();
        let stages = *self.rng.pick(&[0, 1, 1, 1, 2, 2, 3, 3, 4, 6]);
        // A pipeline is mostly of one mind about windows, so that fusion is tested.
        let windows = self.rng.chance(1, 3);
        let common = self.window();
        // Digests of other crates, by a sequence of their own: the rest is what it is without them.
        let mut apart = Rng::new(self.rng.clone().next_u64());
        let takes_digests = apart.chance(1, 8);
        for number in 0..=stages {
            if takes_digests && apart.chance(1, 2) {
                composer = with_digest(composer, &mut apart, common);
            }
            if number == stages {
                break;
            }
            let pipe = Arc::new(self.pipe(&format!("p{number}")));
            let window = match windows {
                true if self.rng.chance(1, 2) => Some(common),
                true if self.rng.chance(1, 3) => Some(self.window()),
                _ => None,
            };
            let args: Vec<(&str, u64)> = pipe
                .params
                .iter()
                .map(|param| (param.name.as_str(), self.rng.edge() & param.ty.mask()))
                .collect();
            composer = composer.stage(&pipe, None, &args, window).expect("generated names are unique");
        }
        if self.rng.chance(1, 6) {
            composer = composer.source(Arc::new(self.layout(true)));
        }
        if self.rng.chance(1, 4) {
            composer = composer.sink(Arc::new(self.layout(false)));
        }
        let plain = composer.clone().finish().expect("generated pipelines are well formed");
        if plain.source.is_some() || plain.sink.is_some() || !self.rng.chance(1, 4) {
            return plain;
        }
        let (at_source, at_sink) =
            *self.rng.pick(&[(true, false), (false, true), (false, true), (true, true)]);
        let mut framed = Ok(composer);
        if at_source {
            let frame = self.frame("taken", &plain);
            framed = framed.and_then(|composer| composer.source_frame(&frame, &[]));
        }
        if at_sink {
            let frame = self.frame("put", &plain);
            framed = framed.and_then(|composer| composer.sink_frame(&frame, &[]));
        }
        // Some cut the words of a stage.
        framed.and_then(Composer::finish).unwrap_or(plain)
    }

    /// Fields that hold results of this pipeline, where it has some with the frame's window.
    fn frame(&mut self, name: &str, plain: &Composition) -> Frame {
        let windows = plain.stages.iter().map(|stage| stage.window);
        let mut choices: Vec<Option<NonZeroU64>> = windows.collect();
        choices.extend([None, Some(self.window()), NonZeroU64::new(8 * self.rng.between(1, 9) as u64)]);
        let data = *self.rng.pick(&choices);
        let exports: Vec<(String, Ty)> = plain
            .stages
            .iter()
            .filter(|stage| stage.window == data && stage.pipe.digest.is_none())
            .flat_map(|stage| {
                let exports = stage.pipe.exports.iter();
                exports.map(move |export| {
                    (format!("{}.{}", stage.name, export.name), stage.pipe.finish.ty(export.value))
                })
            })
            .collect();
        let param = Param { name: "first".to_owned(), ty: Ty::U16, default: Some(self.rng.edge() & 0xffff) };
        let mut head: Vec<Field> = (0..self.rng.below(3)).map(|_| self.field(&exports)).collect();
        let mut foot: Vec<Field> = (0..self.rng.below(4)).map(|_| self.field(&exports)).collect();
        let mut apart = Rng::new(self.rng.clone().next_u64());
        for stage in plain.stages.iter().filter(|stage| stage.window == data) {
            if let Some(kind) = stage.pipe.digest {
                let bytes = apart.between(1, kind.bytes()) as u32;
                let field = Field::Digest { bytes, export: format!("{}.{}", stage.name, DigestKind::EXPORT) };
                if apart.chance(1, 3) { head.push(field) } else { foot.push(field) }
            }
        }
        if head.is_empty() && foot.is_empty() {
            head.push(Field::Bytes(b"head".to_vec()));
        }
        let whole = data.is_some() && self.rng.chance(1, 4);
        Frame { name: name.to_owned(), doc: String::new(), params: vec![param], data, head, foot, whole }
    }

    fn field(&mut self, exports: &[(String, Ty)]) -> Field {
        match self.rng.below(6) {
            0 => Field::Gap(self.rng.between(1, 9) as u32),
            1 => {
                let len = self.rng.between(1, 5);
                Field::Bytes(self.rng.bytes(len))
            }
            _ => {
                let gauge = Gauge::new(*self.rng.pick(&Ty::INTEGERS), self.endian());
                let mut sum = Vec::new();
                for _ in 0..self.rng.between(1, 3) {
                    let export = (!exports.is_empty()).then(|| self.rng.pick(exports).clone());
                    sum.push(match (self.rng.below(7), export) {
                        (0, _) => Term::Index,
                        (1, _) => Term::Length,
                        (2, _) => Term::Const(self.rng.edge() & gauge.ty.mask()),
                        (3, _) if gauge.ty != Ty::U8 => Term::Param(ParamId(0)),
                        (_, Some((name, ty))) if ty.bits() <= gauge.ty.bits() => Term::Export(name),
                        _ => Term::Index,
                    });
                }
                Field::Put { gauge, sum }
            }
        }
    }

    fn window(&mut self) -> NonZeroU64 {
        let bytes = match self.rng.below(4) {
            0 => self.rng.between(1, 12),
            1 => 8 * self.rng.between(1, 20),
            2 => *self.rng.pick(&[1460, 1448, 4096, 536]),
            _ => self.rng.between(1, 400),
        };
        NonZeroU64::new(bytes as u64).unwrap_or(NonZeroU64::MIN)
    }

    fn layout(&mut self, is_source: bool) -> Layout {
        let store = if self.rng.chance(1, 3) { Some(*self.rng.pick(&[1u8, 2, 4, 8])) } else { None };
        let fixed = !is_source && store.is_some() && self.rng.chance(1, 4);
        let unit = u32::from(store.unwrap_or(1));
        let stripe = if !fixed && self.rng.chance(3, 4) {
            let (data, gap) = if self.rng.chance(1, 3) {
                // What loops reach themselves.
                let data = *self.rng.pick(&[8, 16, 32, 64]);
                (data, data * self.rng.pick(&[1, 3, 7]))
            } else {
                (self.rng.between(1, 40) as u32, self.rng.below(20) as u32)
            };
            Some(Stripe { data: data * unit, gap: gap * unit })
        } else {
            None
        };
        let pad = if !is_source && self.rng.chance(1, 3) { self.rng.between(1, 100) as u64 } else { 0 };
        Layout { name: "device".to_owned(), doc: String::new(), stripe, store, fixed, pad }
    }

    /// A well-formed pipe.
    pub fn pipe(&mut self, name: &str) -> Pipe {
        let blocks = self.rng.chance(1, 16);
        let ty = if blocks { Ty::U128 } else { *self.rng.pick(&Ty::INTEGERS) };
        let gauge = Gauge::new(ty, self.endian());
        let mut builder = PipeBuilder::new(name, gauge);
        builder.tail(*self.rng.pick(&[
            Tail::Zero,
            Tail::Zero,
            Tail::Partial,
            Tail::Partial,
            Tail::Pass,
            Tail::Reject,
        ]));
        let mut draft = PipeDraft::new(builder, self.rng);
        draft.declare();
        match draft.rng.below(26) {
            _ if blocks => draft.blocks(),
            0..5 => draft.anything(ty),
            5..8 => draft.reductions(ty),
            8..10 => draft.map(ty),
            10 => draft.crc_instruction(),
            11 => draft.delay(ty),
            12 => draft.scan(ty),
            13 => draft.sums_of_sums(ty),
            14 => draft.polynomial(ty),
            15 => draft.crc_by_bits(ty),
            16 => draft.crc_by_table(ty),
            17 | 18 => draft.where_it_holds(ty),
            19 | 20 => draft.inductions(ty),
            21 | 22 => draft.limited(ty),
            23 => draft.system(ty),
            24 => draft.turns(ty),
            _ => draft.linear_map(ty),
        }
        if draft.rng.chance(1, 3) {
            let endian = if draft.rng.chance(1, 2) { Endian::Big } else { Endian::Little };
            draft.b.output_gauge(Gauge::new(ty, endian));
        }
        draft.b.finish().expect("generated pipes are well formed")
    }

    fn endian(&mut self) -> Endian {
        if self.rng.chance(1, 2) { Endian::Big } else { Endian::Little }
    }
}
