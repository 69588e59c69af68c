//! Any messages to the server of a board with a model: each is answered with a message that can be read, and the board goes on.

#![no_main]

use std::collections::VecDeque;
use std::io;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mbert::convert::Calibration;
use mbert_device::protocol::frame::{Body, Decoder, FRAME_BYTES, Frame};
use mbert_device::protocol::link::board::BoardLink;
use mbert_device::protocol::link::parts::{Incoming, MESSAGE_BYTES, missing_parts};
use mbert_device::protocol::messages::{DeviceError, decode_answer};
use mbert_device::server::{Room, Server};
use mbert_device::store::ReadOnly;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_tests::models::convert;
use mbert_tests::tiny_checkpoint::TinyCheckpoint;

/// A line on which everything has been sent already.
struct Line {
    sent: VecDeque<u8>,
    said: Vec<u8>,
}

impl embedded_io::ErrorType for Line {
    type Error = io::Error;
}

impl embedded_io::Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        bytes[0] = self.sent.pop_front().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(1)
    }
}

impl embedded_io::ReadReady for Line {
    /// Nothing comes while it works.
    fn read_ready(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

impl embedded_io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.said.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn model() -> &'static Model<&'static [u8]> {
    static MODEL: OnceLock<Model<&'static [u8]>> = OnceLock::new();
    MODEL.get_or_init(|| {
        let dir = TinyCheckpoint::new(1).write();
        let blob = convert(dir.path(), Calibration::BuiltIn, WeightLayout::RowMajor).blob;
        Model::open(&*blob.leak()).unwrap()
    })
}

fuzz_target!(|data: &[u8]| {
    // Messages end with the byte 255, which is seldom in them.
    let messages: Vec<&[u8]> = data.split(|&byte| byte == 255).filter(|message| message.len() < MESSAGE_BYTES).collect();
    let (mut line, mut wire) = (Line { sent: VecDeque::new(), said: Vec::new() }, [0; FRAME_BYTES]);
    for (request, message) in messages.iter().enumerate() {
        for part in missing_parts(message, 0) {
            line.sent.extend(Frame { session: 9, request: request as u32, body: Body::Part(part) }.encode(&mut wire));
        }
    }
    let (mut request, mut answer) = ([0; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
    let mut link = BoardLink::new(&mut request, &mut answer);
    let (mut workspace, mut room) = ([0; 100_000], Room::default());
    loop {
        let mut server = Server {
            board: "fuzzed",
            kernels: Kernels::native(),
            model: Some(model()),
            workspace: &mut workspace,
            room: &mut room,
            store: ReadOnly,
            instructions: &|| 0,
            stack_bytes: &|| 0,
        };
        // A restart is one of the requests.
        if server.serve(&mut link, &mut line).is_err() {
            break;
        }
    }
    let (mut decoder, mut memory) = (Decoder::default(), [0; MESSAGE_BYTES]);
    let (mut incoming, mut answered) = (Incoming::new(&mut memory), 0);
    for &byte in &line.said {
        if let Some(frame) = decoder.push(byte)
            && let Body::Part(part) = frame.unwrap().body
        {
            incoming.accept(&part).unwrap();
            if incoming.is_whole() {
                // "Malformed" is an answer as well.
                let message = incoming.message();
                assert!(message == [1, 0] || decode_answer(message) != Err(DeviceError::Malformed), "{message:?}");
                answered += 1;
                incoming.clear();
            }
        }
    }
    assert_eq!(answered, messages.len());
});
