//! A board that answers over its serial line.

use mbert_device::protocol::link::board::BoardLink;
use mbert_device::protocol::link::parts::MESSAGE_BYTES;
use mbert_device::server::duty::Line;
use mbert_device::server::{Room, Server};
use mbert_device::store::ReadOnly;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use static_cell::{ConstStaticCell, StaticCell};

use crate::board::{Board, blob_in};
use crate::memory;

/// Serves for as long as the board has power.
pub fn serve<L: Line>(board: Board, mut line: L) -> ! {
    static REQUEST: ConstStaticCell<[u8; MESSAGE_BYTES]> = ConstStaticCell::new([0; MESSAGE_BYTES]);
    static ANSWER: ConstStaticCell<[u8; MESSAGE_BYTES]> = ConstStaticCell::new([0; MESSAGE_BYTES]);
    static ROOM: StaticCell<Room> = StaticCell::new();
    memory::paint_stack();
    let (request, answer, room) = (REQUEST.take(), ANSWER.take(), ROOM.init_with(Room::default));
    loop {
        let model = Model::open(blob_in(board.model)).ok().filter(|model| model.verify().is_ok());
        let mut server = Server {
            board: board.name,
            kernels: Kernels::native(),
            model: model.as_ref(),
            workspace: board.workspace,
            room,
            store: ReadOnly,
            instructions: &|| board.counter.instructions(),
            stack_bytes: &|| memory::stack_bytes() as u32,
        };
        // A line that fails is opened anew by the next session.
        let _ = server.serve(&mut BoardLink::new(request, answer), &mut line);
    }
}
