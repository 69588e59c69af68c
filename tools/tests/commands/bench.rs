//! `mbert bench`, and threads.

use super::{Folder, mbert};

#[test]
fn bench_tells_times_for_each_length_and_how_close_they_are_to_the_limit() {
    let folder = Folder::new();
    let told = folder.run("bench", &["--tokens", "3,40", "--threads", "2", "--json"]).json();
    assert_eq!(told["threads"], 2);
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["tokens"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 40]);
    for row in rows {
        assert!(row["encoder_ms"].as_f64().unwrap() > 0.0 && row["fill_mask_ms"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["percent_of_limit"].is_number(), told["limit_macs_per_second"].is_number(), "{row}");
    }
    let batch = folder.run("bench", &["--batch", "3", "--json", "--kernels", "scalar"]).json();
    assert_eq!(batch["rows"][0]["tokens"], 16, "the lengths that the model takes");
    assert_eq!(batch["rows"][0]["batch"], 3);
    assert!(batch["rows"][0]["percent_of_limit"].is_null(), "scalar has no limit");
    let text = folder.run("bench", &["--tokens", "5"]).ok().stdout;
    for part in ["one thread", "encoder", "fill-mask", " ms"] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn profile_shares_the_time_out_among_the_stages() {
    let folder = Folder::new();
    let told = folder.run("bench", &["--profile", "--tokens", "7", "--json"]).json();
    let stages = told["profiles"][0]["stages"].as_array().unwrap();
    let percent: f64 = stages.iter().map(|stage| stage["percent"].as_f64().unwrap()).sum();
    assert!((99.9..100.1).contains(&percent), "{percent} %");
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("embeddings", "masked_lm"));
    assert!(folder.run("bench", &["--profile"]).ok().stdout.contains("intermediate_input"), "{names:?}");
}

#[test]
fn bench_refuses_what_it_cannot_measure() {
    let folder = Folder::new();
    folder.run("bench", &["--tokens", "41"]).refused(&["40 tokens"]);
    folder.run("bench", &["--tokens", "0"]).refused(&["tokens"]);
    folder.run("bench", &["--threads", "0"]).refused(&["threads", "from 1 to 256"]);
    folder.run("bench", &["--threads", "257"]).refused(&["threads", "from 1 to 256"]);
    folder.run("bench", &["--batch", "999999999999999"]).refused(&["batch", "from 1 to 1024"]);
    folder.run("bench", &["--profile", "--threads", "2"]).refused(&["--threads"]);
}

#[test]
fn answers_do_not_depend_on_threads() {
    let folder = Folder::new();
    let model = folder.file("tiny.mbert");
    for command in [&["fill-mask", "the [MASK] sat on the mat"][..], &["next-sentence", "the cat", "sat"]] {
        let run = |threads: &str| {
            let options = ["--model", &model, "--trace-hash", "--threads", threads];
            mbert(&[command, &options].concat()).ok().stdout
        };
        let expected = run("1");
        assert!(expected.contains("trace "));
        for threads in ["2", "3", "4", "100"] {
            assert_eq!(run(threads), expected, "{command:?} on {threads} threads");
        }
    }
}
