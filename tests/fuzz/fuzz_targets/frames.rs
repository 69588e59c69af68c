//! Any bytes on the line, as they are and as frames with a right checksum: both ends take or refuse them, and go on.

#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use mbert_device::protocol::frame::{Body, Decoder, FRAME_BYTES, Frame, PART_BYTES, PROTOCOL_VERSION, Part};
use mbert_device::protocol::link::board::BoardLink;
use mbert_device::protocol::link::host::{Exchange, Step, Timing};
use mbert_device::protocol::link::parts::MESSAGE_BYTES;

/// What the board says, each frame of which must be one.
#[derive(Default)]
struct Said(Decoder);

impl embedded_io::ErrorType for Said {
    type Error = Infallible;
}

impl embedded_io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            if let Some(frame) = self.0.push(byte) {
                frame.expect("the board says what is no frame");
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The bytes as a frame of this version whose checksum is right.
fn sealed(content: &[u8]) -> Vec<u8> {
    let content = [&[PROTOCOL_VERSION], content].concat();
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&content);
    let mut wire = cobs::encode_vec(&[&content[..], &checksum.to_le_bytes()].concat());
    wire.push(0);
    wire
}

/// A board that has a session, and a host that waits for an answer, both take these bytes.
fn take(bytes: &[u8]) {
    let (mut request, mut answer) = ([0; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
    let (mut board, mut said, mut wire) = (BoardLink::new(&mut request, &mut answer), Said::default(), [0; FRAME_BYTES]);
    let part = Part { index: 0, count: 3, is_last: false, bytes: &[1; PART_BYTES] };
    let open = Frame { session: 0, request: 0, body: Body::Part(part) }.encode(&mut wire).to_vec();
    let (mut memory, mut decoder) = ([0; 1000], Decoder::default());
    let mut exchange = Exchange::new((0, 0), &[1; 300], &mut memory, Timing::default(), 0);
    while let Ok(Step::Send(_)) = exchange.step(0, &mut wire) {}
    for &byte in open.iter().chain(bytes) {
        if board.push(byte, &mut said).unwrap() {
            let bytes = board.work().0.len();
            assert!(bytes <= MESSAGE_BYTES);
            board.answer(bytes, &mut said).unwrap();
        }
        if let Some(frame) = decoder.push(byte) {
            exchange.receive(1, frame);
        }
    }
    for _ in 0..200 {
        if !matches!(exchange.step(1, &mut wire), Ok(Step::Send(_))) {
            break;
        }
    }
    assert!(exchange.answer().len() <= 1000);
}

fuzz_target!(|data: &[u8]| {
    take(data);
    // Contents end with the byte 255, which is seldom in them.
    let frames: Vec<u8> = data.split(|&byte| byte == 255).flat_map(sealed).collect();
    take(&frames);
});
