//! Arrival handlers as an XDP program of the Linux kernel: straight-line eBPF, whose only jumps lead forward:
//! past the copying of a frame that is shorter than what is looked at, past the making of an answer, and past
//! the handlers behind one that has decided.
//!
//! The numbers of the verdicts are XDP's own actions, but for `pass`, which asks the next handler and behind
//! the last is `XDP_PASS`, or `XDP_REDIRECT` to the socket of the frame's queue. All counters are in one
//! value of an array map, 8 bytes each, in native order: for each handler its frames by verdict, then its own
//! counters.

mod answer;
#[cfg(native)]
pub(crate) mod direct;
mod insn;
mod lower;
mod places;

use crate::handler::{Handler, HandlerError, MAX_PREFIX_BYTES, Verdict};
use insn::{BpfAlu, BpfInsn, BpfJump, BpfOperand, BpfRegister, FRAME};
use lower::{DATA, DATA_END, R0, R1, R4, R5, StepLowering};
use std::fmt::Write as _;

/// What the kernel calls `XDP_PASS`.
const XDP_PASS: i32 = 2;

/// The number of `bpf_xdp_load_bytes`.
const XDP_LOAD_BYTES: i32 = 189;

/// The number of `bpf_xdp_get_buff_len`.
const XDP_FRAME_LEN: i32 = 188;

/// The number of `bpf_redirect_map`.
const REDIRECT_MAP: i32 = 51;

/// Where in `struct xdp_md` the queue is that the frame came by.
const RX_QUEUE_INDEX_AT: i16 = 16;

/// Where on the stack the program's argument is, of type `struct xdp_md`.
const CONTEXT_AT: i16 = -8;

/// Where on the stack a frame is that was filled up with zeros.
const PADDED_AT: i16 = CONTEXT_AT - MAX_PREFIX_BYTES as i16;

/// Slots of the longest program that this makes: jumps reach so far.
const MAX_SLOTS: usize = 30_000;

/// A program for `BPF_PROG_TYPE_XDP`, to be loaded with the descriptors of its maps filled in.
#[derive(Clone, Debug)]
pub struct XdpProgram {
    code: Vec<u8>,
    /// Slots whose immediate is the descriptor of the map of counters.
    map_slots: Vec<usize>,
    /// The slot whose immediate is the descriptor of the map of sockets.
    socket_slot: Option<usize>,
    map_bytes: usize,
    listing: String,
}

impl XdpProgram {
    /// Handlers one behind the other: each is asked until one says more than `pass`.
    ///
    /// # Errors
    /// If one takes what eBPF does not have: the message names it.
    pub fn new(handlers: &[&Handler]) -> Result<XdpProgram, HandlerError> {
        let number = BpfOperand::Immediate;
        XdpProgram::ending(
            handlers,
            false,
            &[BpfInsn::Alu64(BpfAlu::Mov, R0, number(XDP_PASS)), BpfInsn::Exit],
        )
    }

    /// The same, but what all of them pass goes to an AF_XDP socket: that of the frame's queue in a map of
    /// sockets, and where there is none to the kernel. With `pieces` it can be loaded as a program that takes
    /// frames in pieces (`BPF_F_XDP_HAS_FRAGS`, Linux 5.18).
    ///
    /// # Errors
    /// As of [`XdpProgram::new`]; with `pieces` if a handler answers: the kernel gives such programs no room
    /// behind a frame, and of one in pieces the length would be that of the first.
    pub fn to_sockets(handlers: &[&Handler], pieces: bool) -> Result<XdpProgram, HandlerError> {
        if pieces && handlers.iter().any(|handler| handler.answers()) {
            return Err(HandlerError::new(
                "what answers cannot take frames in pieces: load it for frames in one piece",
            ));
        }
        let redirect = [
            BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
            BpfInsn::Load(4, BpfRegister(2), R1, RX_QUEUE_INDEX_AT),
            BpfInsn::SocketMap(R1),
            BpfInsn::Alu64(BpfAlu::Mov, BpfRegister(3), BpfOperand::Immediate(XDP_PASS)),
            BpfInsn::Call(REDIRECT_MAP),
            BpfInsn::Exit,
        ];
        XdpProgram::ending(handlers, pieces, &redirect)
    }

    fn ending(handlers: &[&Handler], pieces: bool, end: &[BpfInsn]) -> Result<XdpProgram, HandlerError> {
        if cfg!(target_endian = "big") {
            return Err(HandlerError::new(
                "eBPF is made for little-endian machines only: run it in the stack",
            ));
        }
        let mut code = vec![BpfInsn::Store(8, FRAME, CONTEXT_AT, R1)];
        let mut map_bytes = 0;
        for handler in handlers {
            append(handler, map_bytes, pieces, &mut code)?;
            map_bytes += 8 * (Verdict::ALL.len() + handler.counters().count());
        }
        code.extend(end);
        Ok(XdpProgram::encode(&code, map_bytes))
    }

    /// The program with the descriptors of its maps in the places where they belong, in slots of 8 bytes: of
    /// the map of counters, and of the map of sockets, if frames go to sockets.
    pub fn with_maps(&self, counters: i32, sockets: i32) -> Vec<u8> {
        let mut code = self.code.clone();
        let counters = self.map_slots.iter().map(|slot| (*slot, counters));
        for (slot, descriptor) in counters.chain(self.socket_slot.map(|slot| (slot, sockets))) {
            code[8 * slot + 4..8 * slot + 8].copy_from_slice(&descriptor.to_le_bytes());
        }
        code
    }

    /// Bytes of the one value of the map of counters; not zero.
    pub fn map_bytes(&self) -> usize {
        self.map_bytes.max(8)
    }

    /// The instructions, a line each, with the number of their slot.
    pub fn listing(&self) -> &str {
        &self.listing
    }

    fn encode(insns: &[BpfInsn], map_bytes: usize) -> XdpProgram {
        let mut program = XdpProgram {
            code: Vec::new(),
            map_slots: Vec::new(),
            socket_slot: None,
            map_bytes,
            listing: String::new(),
        };
        for insn in insns {
            let slot = program.code.len() / 8;
            if matches!(insn, BpfInsn::MapValue(..)) {
                program.map_slots.push(slot);
            }
            if matches!(insn, BpfInsn::SocketMap(..)) {
                program.socket_slot = Some(slot);
            }
            let _ = writeln!(program.listing, "{slot}: {insn}");
            insn.encode(&mut program.code);
        }
        program
    }
}

/// A handler's code, whose counters begin at byte `map_at` of the map's value.
fn append(
    handler: &Handler,
    map_at: usize,
    pieces: bool,
    code: &mut Vec<BpfInsn>,
) -> Result<(), HandlerError> {
    if handler.steers() {
        return Err(HandlerError::new(
            "it steers to cores, which have their queues behind the program: run it in the stack",
        ));
    }
    let (line, results) = (handler.line(), handler.results());
    let places = places::places(line, &results, -PADDED_AT).ok_or_else(|| {
        HandlerError::new(
            "more values at once than the 512 bytes of eBPF's stack hold: cut the handler in two",
        )
    })?;
    prefix(handler.prefix_bytes(), pieces, code);
    let mut lowering = StepLowering { line, places: &places, code };
    for (index, step) in line.steps.iter().enumerate() {
        lowering.step(crate::ir::Value(index as u32), *step)?;
    }
    let own = map_at + 8 * Verdict::ALL.len();
    for (index, value) in handler.counter_values().enumerate() {
        if line.step(value).constant() != Some(0) {
            lowering.fetch(R0, value);
            lowering.code.push(BpfInsn::MapValue(R1, (own + 8 * index) as u32));
            lowering.code.push(BpfInsn::AtomicAdd(R1, 0, R0));
        }
    }
    lowering.fetch(R0, handler.verdict());
    // What the verifier cannot know of it: the last verdict, to steer, is not among them.
    lowering.code.push(BpfInsn::Alu64(BpfAlu::And, R0, BpfOperand::Immediate(Verdict::Answer as i32)));
    if let Some(plan) = handler.answer() {
        let mut body = answer::answer(&lowering, plan)?;
        let answer = BpfOperand::Immediate(Verdict::Answer as i32);
        lowering.code.push(BpfInsn::Jump(BpfJump::NotEqual, R0, answer, answer::slots(&body)));
        lowering.code.append(&mut body);
    }
    let register = BpfOperand::Register;
    let number = BpfOperand::Immediate;
    code.extend([
        BpfInsn::MapValue(R1, map_at as u32),
        BpfInsn::Alu64(BpfAlu::Mov, R5, register(R0)),
        BpfInsn::Alu64(BpfAlu::Lsh, R5, number(3)),
        BpfInsn::Alu64(BpfAlu::Add, R1, register(R5)),
        BpfInsn::Alu64(BpfAlu::Mov, R5, number(1)),
        BpfInsn::AtomicAdd(R1, 0, R5),
        BpfInsn::Jump(BpfJump::Equal, R0, number(0), 1),
        BpfInsn::Exit,
    ]);
    let slots: usize = code.iter().map(|insn| insn.slots()).sum();
    if slots > MAX_SLOTS {
        return Err(HandlerError::new(format!(
            "handlers of more than {slots} slots in one program; the most is {MAX_SLOTS}"
        )));
    }
    Ok(())
}

/// Lets `DATA` point to `bytes` bytes: of the frame, if it has as many, else of a copy that zeros follow. One
/// comparison bounds every load behind it. Frames may be in `pieces`: then it asks for what the first piece
/// does not have.
fn prefix(bytes: usize, pieces: bool, code: &mut Vec<BpfInsn>) {
    let register = BpfOperand::Register;
    let number = BpfOperand::Immediate;
    let padded_bytes = bytes.next_multiple_of(8) as i16;
    let mut copy = vec![BpfInsn::Alu64(BpfAlu::Mov, R0, number(0))];
    let at = |offset: i16| PADDED_AT + offset;
    copy.extend((0..padded_bytes).step_by(8).map(|offset| BpfInsn::Store(8, FRAME, at(offset), R0)));
    if pieces {
        copy.extend([
            BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
            BpfInsn::Call(XDP_FRAME_LEN),
            BpfInsn::Alu64(BpfAlu::Mov, R4, register(R0)),
            BpfInsn::Jump(BpfJump::Less, R4, number(bytes as i32), 1),
            BpfInsn::Alu64(BpfAlu::Mov, R4, number(bytes as i32)),
        ]);
    } else {
        copy.extend([
            BpfInsn::Alu64(BpfAlu::Mov, R4, register(DATA_END)),
            BpfInsn::Alu64(BpfAlu::Sub, R4, register(DATA)),
        ]);
    }
    copy.extend([
        BpfInsn::Alu64(BpfAlu::Mov, DATA, register(FRAME)),
        BpfInsn::Alu64(BpfAlu::Add, DATA, number(PADDED_AT.into())),
        // Neither happens: the kernel has no frames without bytes. The verifier does not know.
        BpfInsn::Jump(BpfJump::Less, R4, number(1), 5),
        BpfInsn::Jump(BpfJump::Greater, R4, number(bytes as i32), 4),
        BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
        BpfInsn::Alu64(BpfAlu::Mov, BpfRegister(2), number(0)),
        BpfInsn::Alu64(BpfAlu::Mov, BpfRegister(3), register(DATA)),
        BpfInsn::Call(XDP_LOAD_BYTES),
    ]);
    code.extend([
        BpfInsn::Load(8, R1, FRAME, CONTEXT_AT),
        // struct xdp_md: data, data_end.
        BpfInsn::Load(4, DATA, R1, 0),
        BpfInsn::Load(4, DATA_END, R1, 4),
        BpfInsn::Alu64(BpfAlu::Mov, R1, register(DATA)),
        BpfInsn::Alu64(BpfAlu::Add, R1, number(bytes as i32)),
        BpfInsn::Jump(BpfJump::Greater, R1, register(DATA_END), 1),
        BpfInsn::Jump(BpfJump::Always, R0, number(0), copy.len() as i16),
    ]);
    code.append(&mut copy);
}
