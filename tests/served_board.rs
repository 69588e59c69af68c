//! A board on this machine: the server of the firmware behind a TCP socket, for tests of what talks to boards.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use mbert_device::protocol::link::board::BoardLink;
use mbert_device::protocol::link::parts::MESSAGE_BYTES;
use mbert_device::server::{Room, Server};
use mbert_device::store::ModelStore;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;

/// Working memory of the board.
const WORKSPACE_BYTES: usize = 1 << 20;

/// A socket as a serial line.
struct Line(TcpStream);

impl embedded_io::ErrorType for Line {
    type Error = std::io::Error;
}

impl embedded_io::Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

impl embedded_io::ReadReady for Line {
    fn read_ready(&mut self) -> std::io::Result<bool> {
        self.0.set_nonblocking(true)?;
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false)?;
        match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            peeked => peeked.map(|_| true),
        }
    }
}

impl embedded_io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Starts a board in a thread of its own, with a model in memory; what `mbert device --port` names it. It lives as long as the program.
///
/// # Panics
///
/// If this machine has no socket for it, or the bytes are no model.
pub fn start(model: Option<&'static [u8]>, mut store: impl ModelStore + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket can be bound");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        let model = model.map(|bytes| Model::open(bytes).expect("the bytes are a model"));
        let (mut workspace, mut room) = (vec![0; WORKSPACE_BYTES], Room::default());
        let (mut request, mut answer) = ([0; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
        for stream in listener.incoming().flatten() {
            let mut server = Server {
                board: "this machine",
                kernels: Kernels::native(),
                model: model.as_ref(),
                workspace: &mut workspace,
                room: &mut room,
                store: &mut store,
                instructions: &|| 0,
                stack_bytes: &|| 0,
            };
            // It ends when the other side hangs up.
            let _ = server.serve(&mut BoardLink::new(&mut request, &mut answer), &mut Line(stream));
        }
    });
    format!("tcp:{address}")
}
