//! A board on this machine and what talks to it: every answer is the host's, also where the line is noisy.

use mbert::built_in::BuiltIn;
use mbert::device::port;
use mbert_device::store::ReadOnly;
use mbert_tests::models::built_in;
use mbert_tests::{noisy_line, served_board};

#[test]
fn every_answer_over_a_noisy_line_is_the_hosts() {
    let model = built_in(BuiltIn::Tiny);
    let port = served_board::start(Some(model), ReadOnly);
    let quiet = noisy_line::run(port::open(&port, 0).unwrap(), model, 100, 0).unwrap();
    assert_eq!((quiet.repeated.damaged, quiet.repeated.refused), (0, 0));
    let noisy = noisy_line::run(port::open(&port, 0).unwrap(), model, 400, 1000).unwrap();
    assert!(noisy.repeated.damaged > 100 && noisy.repeated.refused > 20, "{noisy:?}");
}
