//! The program as its users run it: what it prints, what it writes, and how it ends.

mod answers;
mod bad_input;
mod bench;
mod built_in;
mod device;
mod eval;
mod flash;
mod no_room;
mod plan;
mod sd_image;
mod sign;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use mbert_tests::tiny_checkpoint::TinyCheckpoint;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Positions of the seeded checkpoint.
const POSITIONS: usize = 40;
/// Tokens of its vocabulary.
const VOCAB_SIZE: usize = 64;

/// A run of the program that has ended.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Asserts success.
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// The JSON on standard output of a success.
    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.ok().stdout).unwrap()
    }

    /// Asserts bad input, and that the one message on standard error holds every one of these parts.
    #[track_caller]
    fn refused(self, parts: &[&str]) {
        assert_eq!(self.code, 2, "{} {}", self.stdout, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("the program was not killed");
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs `mbert` with these arguments.
fn mbert(arguments: &[&str]) -> Run {
    mbert_reading(arguments, b"")
}

/// Runs `mbert` with bytes on standard input.
fn mbert_reading(arguments: &[&str], input: &[u8]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mbert"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // The program may end before it has read everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap().into()
    })
}

/// A folder with a seeded checkpoint, `tiny/`, the model made from it, `tiny.mbert`, and room for more.
struct Folder(TempDir);

impl Folder {
    /// A new one. The model is converted once for all tests.
    fn new() -> Self {
        static MODEL: OnceLock<Vec<u8>> = OnceLock::new();
        let this = Self(tempfile::tempdir().unwrap());
        TinyCheckpoint::new(1).write_to(&this.path("tiny"));
        let model = MODEL.get_or_init(|| {
            let path = this.file("first.mbert");
            mbert(&["convert", &this.file("tiny"), "-o", &path]).ok();
            let model = std::fs::read(&path).unwrap();
            std::fs::remove_file(path).unwrap();
            model
        });
        this.write("tiny.mbert", model);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of a file in it, as an argument.
    fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file in it; returns its path.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.file(name)
    }

    /// Names in it, in order.
    fn names(&self) -> Vec<String> {
        names(self.0.path())
    }

    /// Runs a command with `--model tiny.mbert`.
    fn run(&self, command: &str, arguments: &[&str]) -> Run {
        mbert(&[&[command, "--model", &self.file("tiny.mbert")], arguments].concat())
    }

    /// A model of the encoder alone, beside the other.
    fn encoder(&self) -> String {
        let mut checkpoint = TinyCheckpoint::new(1);
        checkpoint.config["architectures"] = json!(["BertModel"]);
        checkpoint.tensors.retain(|name, _| !name.starts_with("cls.") && !name.contains("pooler"));
        checkpoint.write_to(&self.path("encoder"));
        let path = self.file("encoder.mbert");
        mbert(&["convert", &self.file("encoder"), "-o", &path]).ok();
        path
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A safetensors file of int32 vectors.
fn ids_file(folder: &Folder, name: &str, tensors: &[(&str, &[i32])]) -> String {
    let mut file = mbert::golden::OutputFile::new();
    for (tensor, values) in tensors {
        file.insert_i32(*tensor, &[values.len()], values);
    }
    file.write(&folder.path(name)).unwrap();
    folder.file(name)
}

/// Tensors of a safetensors file: shape and float values (integers are left out).
fn floats(path: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::F32).map(|(name, view)| {
        let values = view.data().as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        (name.to_owned(), (view.shape().to_vec(), values))
    });
    tensors.collect()
}
