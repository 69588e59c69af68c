//! A board that answers over its serial line, with the model in one of the two slots of its flash.

use mbert_device::flash::MappedFlash;
use mbert_device::protocol::link::board::BoardLink;
use mbert_device::protocol::link::parts::MESSAGE_BYTES;
use mbert_device::self_test;
use mbert_device::server::duty::Line;
use mbert_device::server::{Room, Server};
use mbert_device::slots::{Rules, Slots};
use mbert_device::store::{ModelStore, ReadOnly};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use static_cell::{ConstStaticCell, StaticCell};

use crate::counter::InstructionCounter;
use crate::memory;

/// Only models signed with the private key of this one are used: that in the file `$MBERT_PUBLIC_KEY` when the firmware was built, if there
/// was one.
const PUBLIC_KEY: Option<[u8; 32]> = include!(concat!(env!("OUT_DIR"), "/public_key.rs"));

/// A board that serves.
pub struct Serving<L, F> {
    /// What stands on the box.
    pub name: &'static str,
    /// Working memory; its size decides how long a text may be.
    pub workspace: &'static mut [u8],
    /// Counts instructions.
    pub counter: &'static dyn InstructionCounter,
    /// The serial line.
    pub line: L,
    /// The flash that models lie in.
    pub flash: F,
}

/// What lasts from one start to the next.
struct Memory {
    request: &'static mut [u8],
    answer: &'static mut [u8],
    room: &'static mut Room,
}

impl<L: Line, F: MappedFlash> Serving<L, F> {
    /// Serves for as long as the board has power.
    ///
    /// # Safety
    ///
    /// Nothing but the flash's driver writes where the flash is mapped.
    pub unsafe fn run(mut self) -> ! {
        static REQUEST: ConstStaticCell<[u8; MESSAGE_BYTES]> = ConstStaticCell::new([0; MESSAGE_BYTES]);
        static ANSWER: ConstStaticCell<[u8; MESSAGE_BYTES]> = ConstStaticCell::new([0; MESSAGE_BYTES]);
        static ROOM: StaticCell<Room> = StaticCell::new();
        memory::paint_stack();
        let room = ROOM.init_with(Room::default);
        let mut memory = Memory { request: REQUEST.take(), answer: ANSWER.take(), room };
        loop {
            self.start(&mut memory);
        }
    }

    /// From one start to the next: chooses a model, and serves until the host asks for a new start.
    fn start(&mut self, memory: &mut Memory) {
        let Self { name, workspace, counter, line, flash } = self;
        let rules = Rules { kernels: Kernels::native(), public_key: PUBLIC_KEY };
        let mut serve = |model: Option<&Model<&[u8]>>, store: &mut dyn ModelStore, workspace: &mut [u8]| {
            let mut server = Server {
                board: name,
                kernels: rules.kernels,
                model,
                workspace,
                room: memory.room,
                store,
                instructions: &|| counter.instructions(),
                stack_bytes: &|| memory::stack_bytes() as u32,
            };
            // After a failure of the line the host opens another session.
            let _ = server.serve(&mut BoardLink::new(memory.request, memory.answer), line);
        };
        let Ok(mut slots) = Slots::open(flash, rules) else { return serve(None, &mut ReadOnly, workspace) };
        let active = slots.start(|model| self_test::run(model, rules.kernels, workspace).is_ok()).ok().flatten();
        let bytes = active.map(|active| {
            let bytes = slots.model(active);
            // SAFETY: `run` was promised that only the driver writes there, and it does not before the next start: this slot is in use.
            unsafe { core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
        });
        let model = bytes.and_then(|bytes| Model::open(bytes).ok());
        serve(model.as_ref(), &mut slots, workspace);
    }
}
