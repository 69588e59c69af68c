//! Any bytes as a request and as an answer: what can be read is written as the same message again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mbert_device::protocol::link::parts::MESSAGE_BYTES;
use mbert_device::protocol::messages::{MaskItem, Outcome, Request, TokenItem, decode_answer, encode_outcome, items};

fuzz_target!(|data: &[u8]| {
    let mut memory = [0; 2 * MESSAGE_BYTES];
    if let Ok(request) = Request::decode(data) {
        let written = request.encode(&mut memory).unwrap();
        assert!(written.len() <= data.len());
        assert_eq!(Request::decode(written), Ok(request));
    }
    if let Ok((answer, rest)) = decode_answer(data) {
        let outcome: Outcome<'_> = Ok(answer);
        let bytes = encode_outcome(&outcome, &mut memory);
        assert_eq!(decode_answer(&memory[..bytes]), Ok((answer, &[][..])));
        assert!(items::<TokenItem<'_>>(rest).count() <= rest.len());
    }
    for item in items::<MaskItem<'_>>(data).map_while(Result::ok) {
        assert!(item.probability().q31() <= 1 << 31);
    }
});
