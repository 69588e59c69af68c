//! Speed of the encoder on the host.
//!
//! ```text
//! cargo bench -p mbert --bench encoder                         kernels, and the model small
//! cargo bench -p mbert --bench encoder -- worker MODEL         a worker of peers-bench: see below
//! cargo bench -p mbert --bench encoder -- table MODEL --python V/bin/python --work WORK_DIR
//! ```
//!
//! A *worker* says that it is ready, answers each line `R MODE TOKENS N` on its standard input with the wall and processor milliseconds of N
//! runs, and leaves at `Q`; MODE is `enc`, the encoder, or `mlm1`, with masked LM for one position. `--threads N` and `--kernels NAME` come
//! behind MODEL.
//!
//! The *table* runs this program and its peers, ONNX Runtime and OpenVINO in int8, in turns, on one thread and on two, and measures what the
//! machine can do before and after. It needs `../shared/peers-bench`, whose README tells how WORK_DIR is made, and MODEL converted from the
//! same checkpoint. `--threads`, `--tokens`, `--modes`, `--rounds` and `--kernels` choose a part of it.

use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mbert::bench::limit::Limit;
use mbert::bench::{Bench, encoder_macs};
use mbert::built_in::BuiltIn;
use mbert::model_file::{self, ModelFile};
use mbert_runtime::format::layout::TILE_CHANNELS;
use mbert_runtime::kernels::{Kernels, MatmulShape, available};
use mbert_runtime::model::Model;
use mbert_tests::shared;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("worker") => worker(&Options::new(&arguments[1..])),
        Some("table") => table(&Options::new(&arguments[1..])),
        _ => divan::main(),
    }
}

/// The model, and `--name value` pairs.
struct Options<'a> {
    model: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Options<'a> {
    fn new(arguments: &'a [String]) -> Self {
        let [model, pairs @ ..] = arguments else { panic!("which model?") };
        let (pairs, rest) = pairs.as_chunks::<2>();
        assert!(rest.is_empty(), "{rest:?} has no value");
        Self { model, pairs: pairs.iter().map(|[name, value]| (name.trim_start_matches('-'), &value[..])).collect() }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(found, _)| *found == name).map(|&(_, value)| value)
    }

    fn threads(&self) -> NonZeroUsize {
        self.get("threads").map_or(NonZeroUsize::MIN, |count| count.parse().expect("--threads takes a number"))
    }

    fn kernels(&self) -> &'static Kernels {
        model_file::kernels(self.get("kernels")).expect("this CPU has the kernels")
    }

    fn file(&self, kernels: &Kernels) -> ModelFile {
        ModelFile::open(Path::new(self.model))
            .and_then(|file| file.for_kernels(kernels))
            .expect("the model can be read")
    }
}

/// Processor time of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn worker(options: &Options<'_>) {
    let kernels = options.kernels();
    let file = options.file(kernels);
    let model = file.model().expect("the file has been opened");
    let mut bench = Bench::new(&model, kernels, options.threads());
    let mut out = std::io::stdout().lock();
    let mut say = |line: Value| writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
    say(json!({ "ready": kernels.name }));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<_> = line.split_whitespace().collect();
        let ["R", mode, tokens, runs] = words[..] else { break };
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let (mut wall, mut processor) = (Vec::new(), Vec::new());
        for _ in 0..number(runs) {
            let (begin, processor_begin) = (Instant::now(), processor_time());
            bench.run(number(tokens), mode == "mlm1").expect("the model takes the sequence");
            wall.push(begin.elapsed().as_secs_f64() * 1e3);
            processor.push((processor_time() - processor_begin).as_secs_f64() * 1e3);
        }
        say(json!({ "wall": wall, "cpu": processor }));
    }
}

/// The peers of the table: what `peers-bench` calls them, and who they are.
const PEERS: [(&str, &str); 2] = [("ov-int8-ptq", "OpenVINO int8"), ("ort-int8-pc", "ONNX Runtime int8")];

fn table(options: &Options<'_>) {
    let Some(folder) = shared("peers-bench") else { return };
    let python = options.get("python").expect("--python PATH: one that has the peers");
    let work = options.get("work").expect("--work DIR: what prepare.py has written");
    let kernels = options.kernels();
    let file = options.file(kernels);
    let model = file.model().expect("the file has been opened");
    for threads in options.get("threads").unwrap_or("1,2").split(',') {
        let count = threads.parse().expect("--threads takes numbers");
        let limit = || Limit::of(kernels).map(|limit| limit.macs_per_second(count));
        let before = limit();
        let results = compare(options, &folder, python, work, threads, kernels);
        let limit = before.zip(limit()).map(|(before, after)| before.max(after));
        print_table(&model, kernels, threads, limit, &results);
    }
}

/// Runs the peers and this program in turns; what `bench.py` has written.
fn compare(options: &Options<'_>, folder: &Path, python: &str, work: &str, threads: &str, kernels: &Kernels) -> Value {
    let program = std::env::current_exe().expect("this program has a path");
    let model = std::path::absolute(options.model).expect("the model has a path");
    let results = tempfile::NamedTempFile::new().expect("there is room for a file");
    let ours =
        format!("'{}' worker '{}' --threads {threads} --kernels {}", program.display(), model.display(), kernels.name);
    let peers = PEERS.map(|(name, _)| name).join(",");
    let mut command = Command::new(python);
    command.arg(folder.join("bench.py")).arg(PathBuf::from(work)).args(["--threads", threads, "--ours", &ours]);
    command.args(["--peers", &peers]).arg("--json").arg(results.path());
    for name in ["tokens", "modes", "rounds"] {
        if let Some(value) = options.get(name) {
            command.arg(format!("--{name}")).arg(value);
        }
    }
    let status = command.stdout(std::process::Stdio::null()).status().expect("python can be run");
    assert!(status.success(), "bench.py: {status}");
    let text = std::fs::read_to_string(results.path()).expect("bench.py has written its results");
    serde_json::from_str(&text).expect("the results are JSON")
}

fn print_table(model: &Model<&[u8]>, kernels: &Kernels, threads: &str, limit: Option<f64>, results: &Value) {
    println!("\n{threads} thread(s), kernels {}", kernels.name);
    if let Some(limit) = limit {
        println!("limit {:.1} thousand million products a second", limit / 1e9);
    }
    print!("\n| mode | tokens | limit | ours | of limit |");
    PEERS.iter().for_each(|(_, who)| print!(" {who} | ours / theirs |"));
    println!("\n|---|---|---|---|---|{}", "---|---|".repeat(PEERS.len()));
    // One thread is judged by its processor time, several by the clock.
    let column = if threads == "1" { "cpu" } else { "wall" };
    let of = |key: &str, who: &str, column: &str| results[format!("{key}.{who}")][column].as_f64();
    let keys = results.as_object().expect("an object").keys().filter_map(|key| key.strip_suffix(".ours"));
    for key in keys {
        let (mode, tokens) = key.split_once('.').expect("mode.tokens");
        let ours = of(key, "ours", column).expect("we have run");
        let tokens: usize = tokens.parse().expect("a number");
        let least_ms = limit.map(|limit| encoder_macs(model.config(), tokens) as f64 / limit * 1e3);
        let least_ms = least_ms.filter(|_| mode == "enc");
        let or_none =
            |number: Option<f64>, unit: &str| number.map_or("-".into(), |number| format!("{number:.1} {unit}"));
        print!("| {mode} | {tokens} | {} | {ours:.1} ms |", or_none(least_ms, "ms"));
        print!(" {} |", or_none(least_ms.map(|least| 100.0 * least / ours), "%"));
        for (who, _) in PEERS {
            let ratio = of(key, who, "ours/peer").map_or("-".into(), |ratio| format!("{ratio:.2}"));
            print!(" {} | {ratio} |", or_none(of(key, who, column), "ms"));
        }
        println!();
    }
}

/// One tile pair of a linear layer of mBERT's width, for the tokens named.
#[divan::bench(args = available().map(|kernels| kernels.name).filter(|&name| name != "scalar"), consts = [16, 128])]
fn matrix_product<const TOKENS: usize>(bencher: divan::Bencher<'_, '_>, name: &str) {
    const K: usize = 768;
    const N: usize = 2 * TILE_CHANNELS;
    let kernels = Kernels::named(name).expect("it is available");
    let shape = MatmulShape {
        m: TOKENS,
        n: N,
        k: K,
        input_stride: K,
        weight_stride: TILE_CHANNELS * K,
        out_stride: TILE_CHANNELS,
        out_tile_stride: TILE_CHANNELS * TOKENS,
    };
    let input: Vec<i8> = (0..TOKENS * K).map(|i| (i * 37) as i8).collect();
    let weight: Vec<i8> = (0..N * K).map(|i| (i * 91) as i8 | 1).collect();
    let mut out = vec![0; TOKENS * N];
    bencher.counter(divan::counter::ItemsCount::new(TOKENS * N * K)).bench_local(|| {
        (kernels.matmul_packed_i8)(&shape, divan::black_box(&input), &weight, &mut out);
    });
}

/// The encoder of the built-in model small, for the tokens named.
#[divan::bench(args = [16, 64, 128])]
fn encoder_small(bencher: divan::Bencher<'_, '_>, tokens: usize) {
    let kernels = Kernels::native();
    let blob = BuiltIn::Small.blob(kernels.weight_layout).expect("the built-in model can be converted");
    let model = Model::open(&blob[..]).expect("it is a model");
    let mut bench = Bench::new(&model, kernels, NonZeroUsize::MIN);
    let macs = divan::counter::ItemsCount::new(encoder_macs(model.config(), tokens));
    bencher.counter(macs).bench_local(|| bench.run(tokens, false).expect("the model takes the sequence"));
}
