//! Writes a checkpoint of a few kilobytes, made from a seed: `seeded_checkpoint SEED FOLDER`.

use mbert_tests::tiny_checkpoint::TinyCheckpoint;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [seed, folder] = &arguments[..] else { panic!("usage: seeded_checkpoint SEED FOLDER") };
    let seed = seed.parse().expect("the seed is a number");
    TinyCheckpoint::new(seed).write_to(folder.as_ref());
}
