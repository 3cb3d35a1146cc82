//! Digests as pipes: what a stage of a pipeline is made from.

use super::DigestKind;
use crate::ir::{
    Block, Declared, Export, Gauge, Op, Param, ParamId, Pipe, State, StateId, StateInit, Tail, Ty,
};
use std::sync::{Arc, LazyLock};

impl DigestKind {
    /// The pipe: words of a byte, states for key and value, no instruction.
    fn made(self) -> Pipe {
        let key = self.key_words();
        let param = |at| Param { name: format!("k{at}"), ty: Ty::U64, default: Some(0) };
        let key_states = (0..key).map(|at| (format!("key{at}"), StateInit::Param(ParamId(at as u32))));
        let words = (0..self.words()).map(|at| (format!("word{at}"), StateInit::Const(0)));
        let states = key_states.chain(words);
        let states = states.map(|(name, init)| State { name, ty: Ty::U64, init, secret: false });
        let states: Vec<State> = states.collect();
        let mut body = Block::default();
        let next = (0..states.len()).map(|at| body.push(Op::State(StateId(at as u32)), Ty::U64)).collect();
        let mut finish = Block::default();
        let value = finish.push(Op::State(StateId(key as u32)), Ty::U64);
        Pipe {
            name: self.name().to_owned(),
            doc: self.doc(),
            input: Gauge::U8,
            output: Gauge::U8,
            tail: Tail::Pass,
            declared: Declared::default(),
            states,
            params: (0..key).map(param).collect(),
            tables: Vec::new(),
            body,
            out: None,
            next,
            finish,
            exports: vec![Export { name: DigestKind::EXPORT.to_owned(), value }],
            digest: Some(self),
        }
    }

    fn doc(self) -> String {
        let (title, bytes) = (self.title(), self.bytes());
        let of = match self {
            DigestKind::Md5 => "RFC 1321; only where it is asked for, since it is broken",
            DigestKind::Sha1 => "FIPS 180-4; only where it is asked for, since it is broken",
            DigestKind::Sha224
            | DigestKind::Sha256
            | DigestKind::Sha384
            | DigestKind::Sha512
            | DigestKind::Sha512_256 => "FIPS 180-4",
            DigestKind::Sha3_224 | DigestKind::Sha3_256 | DigestKind::Sha3_384 | DigestKind::Sha3_512 => {
                "FIPS 202"
            }
            DigestKind::Blake2b | DigestKind::Blake2s => "RFC 7693, without a key",
            DigestKind::Blake3 => "as its authors publish it, without a key",
            DigestKind::Xxh64 | DigestKind::Xxh3 | DigestKind::Xxh128 => {
                "seed 0, most significant byte first"
            }
            DigestKind::HighwayHash256 => {
                "with a key of four words, which is no secret; MinIO's, with its key"
            }
        };
        format!("{title}, {bytes} bytes, of another crate ({of}).")
    }
}

/// The pipe of that name.
pub(crate) fn pipe(name: &str) -> Option<&'static Arc<Pipe>> {
    static PIPES: LazyLock<Vec<Arc<Pipe>>> =
        LazyLock::new(|| DigestKind::ALL.iter().map(|kind| Arc::new(kind.made())).collect());
    let index = DigestKind::ALL.iter().position(|kind| kind.name() == name)?;
    Some(&PIPES[index])
}
