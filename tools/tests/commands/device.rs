//! A board on this machine, behind a socket: every command answers as the host's own, and what goes wrong is said with its side.

use std::net::TcpListener;

use mbert::built_in::BuiltIn;
use mbert_device::store::{ModelStore, Offer, ReadOnly, Resume, StoreError, StoreStatus, Verdict};
use mbert_tests::models::built_in;
use mbert_tests::served_board::start;

use super::{Folder, Run, mbert, mbert_reading};

const QUESTION: &str = "She opened the [MASK] and went into the [MASK].";

fn device(port: &str, arguments: &[&str]) -> Run {
    device_reading(port, arguments, "")
}

fn device_reading(port: &str, arguments: &[&str], input: &str) -> Run {
    mbert_reading(&[&["device", "--port", port, "--timeout", "5"], arguments].concat(), input.as_bytes())
}

/// A board with the model `tiny`.
fn board() -> String {
    start(Some(built_in(BuiltIn::Tiny)), ReadOnly)
}

#[test]
fn every_question_is_answered_as_on_this_machine() {
    let port = board();
    let long = "word [MASK] ".repeat(8) + &"and so on ".repeat(60);
    for arguments in [
        &["fill-mask", "Paris is the [MASK] of France."][..],
        &["fill-mask", "--json", "--trace-hash", "--special-tokens", "Paris is the [MASK] of France."],
        &["fill-mask", "--json", "--top-k", "3", QUESTION],
        &["fill-mask", "--trace-hash", "--top-k", "10", &long],
        &["next-sentence", "She opened the window.", "The birds were singing."],
        &["next-sentence", "--json", "--trace-hash", "Wo ist er?", "Er schläft."],
        &["tokenize"],
        &["tokenize", "--json"],
    ] {
        // More tokens than one message carries, and none.
        let input = format!("Größe 東京\n\n{}\n", "Donaudampfschifffahrt ".repeat(50));
        let here = mbert_reading(&[&arguments[..1], &["--model", "tiny"], &arguments[1..]].concat(), input.as_bytes());
        assert_eq!(device_reading(&port, arguments, &input).ok().stdout, here.ok().stdout, "{arguments:?}");
    }
    let here = mbert_reading(&["tokenize", "--model", "tiny", "--trace-hash"], "Größe 東京".as_bytes());
    assert_eq!(device_reading(&port, &["tokenize", "--trace-hash"], "Größe 東京").ok().stdout, here.ok().stdout);
}

#[test]
fn features_are_the_same_file_as_from_this_machine() {
    let (folder, port) = (Folder::new(), board());
    let (ours, theirs) = (folder.file("ours.safetensors"), folder.file("theirs.safetensors"));
    for pool in ["none", "cls", "mean", "pooler"] {
        let arguments = ["--pool", pool, "--trace-hash", "Paris", "a longer text of some words"];
        let here = mbert(&[&["features", "--model", "tiny", "-o", &ours], &arguments[..]].concat()).ok();
        assert_eq!(device(&port, &[&["features", "-o", &theirs], &arguments[..]].concat()).ok().stdout, here.stdout);
        assert_eq!(std::fs::read(&theirs).unwrap(), std::fs::read(&ours).unwrap(), "{pool}");
    }
}

#[test]
fn a_board_tells_who_it_is_what_it_takes_and_that_it_is_well() {
    let port = board();
    let info = device(&port, &["info", "--json"]).json();
    assert_eq!((&info["board"], &info["protocol_version"]), (&"this machine".into(), &1.into()));
    assert_eq!((&info["model"]["name"], &info["model"]["config"]["hidden_size"]), (&"tiny".into(), &96.into()));
    let told = device(&port, &["info"]).ok().stdout;
    for part in ["tiny: 2 layers × 96", "row-major", "none: the model cannot be replaced"] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    let bench = device(&port, &["bench", "--tokens", "20", "--json"]).json();
    let row = &bench["rows"][0];
    assert_eq!((&row["tokens"], &row["passes"]), (&20.into(), &1.into()));
    assert!(device(&port, &["bench"]).ok().stdout.contains("masked LM"));
    let test = device(&port, &["self-test", "--json"]).json();
    assert_eq!((&test["passed"], &test["cases"]), (&true.into(), &4.into()));
    assert!(device(&port, &["self-test"]).ok().stdout.contains("4 known answers, each to the bit"));
}

#[test]
fn what_a_board_refuses_is_said_as_its_word() {
    let port = board();
    device(&port, &["fill-mask", "no mask"]).refused(&["the board says", "has no [MASK]"]);
    device(&port, &["fill-mask", &"[MASK] ".repeat(9)]).refused(&["the board says", "9 masks"]);
    device(&port, &["fill-mask", "--top-k", "11", "[MASK]"]).refused(&["the board says", "10 is the most"]);
    device(&port, &["fill-mask", &format!("[MASK] {}", "a ".repeat(600))]).refused(&["the board says", "shorten"]);
    device(&port, &["fill-mask", &"a".repeat(7000)]).refused(&["too long for a message"]);
    device(&port, &["bench", "--tokens", "600"]).refused(&["the board says", "600"]);
    device(&port, &["upload", "tiny"]).refused(&["cannot be replaced", "flash it"]);
    let empty = start(None, ReadOnly);
    device(&empty, &["next-sentence", "a", "b"]).refused(&["the board says", "no usable model"]);
    assert!(device(&empty, &["info"]).ok().stdout.contains("none that is usable"));
    assert!(device(&empty, &["self-test"]).ok().stdout.contains("model: none"));
}

/// A board that takes signed models only, and to which none must be offered that is not.
struct Locked {
    public_key: [u8; 32],
}

impl ModelStore for Locked {
    fn status(&mut self) -> StoreStatus {
        StoreStatus { slots: 2, slot_bytes: 1 << 24, public_key: Some(self.public_key), ..ReadOnly.status() }
    }

    fn begin(&mut self, offer: &Offer) -> Result<Resume, StoreError> {
        panic!("offered: {offer:?}")
    }

    fn write(&mut self, _offset: u32, _bytes: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::NotBegun)
    }

    fn finish(&mut self) -> Result<Verdict, StoreError> {
        Err(StoreError::NotBegun)
    }
}

#[test]
fn a_model_that_is_not_signed_by_the_board_s_key_is_not_even_offered() {
    let folder = Folder::new();
    let (key, other, forged) = (folder.file("key"), folder.file("other"), folder.file("forged.mbert"));
    let told = mbert(&["keygen", "-o", &key]).ok().stdout;
    let fingerprint = told.split_whitespace().last().unwrap();
    let public_key = std::array::from_fn(|n| u8::from_str_radix(&fingerprint[2 * n..2 * n + 2], 16).unwrap());
    let port = start(Some(built_in(BuiltIn::Tiny)), Locked { public_key });
    assert!(device(&port, &["info"]).ok().stdout.contains(&format!("models signed by {fingerprint}")));
    device(&port, &["upload", "tiny"]).refused(&[fingerprint, "not signed"]);
    mbert(&["keygen", "-o", &other]).ok();
    mbert(&["sign", "tiny", "--key", &other, "-o", &forged]).ok();
    device(&port, &["upload", &forged]).refused(&[fingerprint, "not by this key"]);
}

#[test]
fn a_port_without_a_board_is_told_from_one_that_is_not_there() {
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp:{}", closing.local_addr().unwrap());
    std::thread::spawn(move || closing.incoming().for_each(drop));
    for _ in 0..5 {
        device(&port, &["info"]).refused(&["closed at its other end"]);
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp:{}", silent.local_addr().unwrap());
    mbert(&["device", "--port", &port, "--timeout", "1", "info"]).refused(&["no answer from the board for 1 s"]);
    drop(silent);
    device(&port, &["info"]).refused(&["cannot connect"]);
    mbert(&["device", "--port", &port, "--timeout", "86401", "info"]).refused(&["--timeout", "86400"]);
    mbert(&["device", "--port", &port, "--baud", "0", "info"]).refused(&["--baud"]);
    device("/dev/no-such-port", &["info"]).refused(&["cannot open the serial port /dev/no-such-port", "tcp:HOST:PORT"]);
}
