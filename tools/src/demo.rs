//! `mbert demo`: what a model answers in a dozen languages and scripts.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use mbert_runtime::pipeline::Pipeline;
use serde::Serialize;
use serde_json::json;

use crate::cli::DemoArgs;
use crate::fill_mask::{Answer, Question, fill_mask};
use crate::model_file;
use crate::next_sentence::probability_of_following;

/// Answers shown for each mask.
const TOP_K: usize = 3;

/// Language and text.
const TEXTS: [(&str, &str); 13] = [
    ("English", "She opened the [MASK] and went into the house."),
    ("German", "Er schüttelte den [MASK] und sagte kein Wort."),
    ("French", "Il ne savait [MASK] que faire."),
    ("Spanish", "Abrió la [MASK] y salió a la calle."),
    ("Italian", "Aprì la [MASK] e uscì."),
    ("Russian", "Я ничего не [MASK]."),
    ("Ukrainian", "Вона нічого не [MASK]."),
    ("Arabic", "ليس [MASK] شيء."),
    ("Hindi", "उसने कहा [MASK] वह नहीं आएगा।"),
    ("Tamil", "அவர் ஒரு [MASK] மனிதர்."),
    ("Vietnamese", "Việt [MASK] là một quốc gia ở Đông Nam Á."),
    ("Japanese", "東京は日本の[MASK]都です。"),
    ("Chinese", "我不[MASK]道。"),
];

/// Two texts, of which the second may follow the first.
const PAIRS: [(&str, &str); 3] = [
    (
        "Alice took the key from the table and opened the little door. Behind the door was a garden, the loveliest garden \
         she had ever seen.",
        "Alice knelt down and looked into the garden, but the little door was much too small for her, and she put the key \
         back on the table.",
    ),
    (
        "Alice took the key from the table and opened the little door. Behind the door was a garden, the loveliest garden \
         she had ever seen.",
        "The king was old and had no children. One day a messenger came from the war, and told him that his brother was \
         dead.",
    ),
    (
        "Дед взял удочку и пошёл на реку. Он долго сидел на берегу, но рыба не клевала.",
        "К вечеру дед поймал одну маленькую рыбу и понёс её домой с реки.",
    ),
];

/// A text with a mask, and what it is filled with.
#[derive(Serialize)]
struct Filled {
    language: &'static str,
    text: &'static str,
    answers: Vec<Answer>,
}

/// Two texts, and whether the second follows.
#[derive(Serialize)]
struct Judged {
    text: &'static str,
    pair: &'static str,
    is_next: bool,
    probability: f64,
}

/// Runs the command. A model without next-sentence head is shown masked texts only.
///
/// # Errors
///
/// A model without masked-LM head, or with very few positions.
pub fn run(args: &DemoArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (file, kernels) = args.run.model.open()?;
    let model = file.model()?;
    let mut memory = model_file::memory(&model, usize::MAX);
    let mut pipeline = Pipeline::new(&model, kernels, &mut memory)?;
    let mut threads = args.run.threads();

    let fill = |(language, text)| -> Result<Filled> {
        let question = Question { text, top_k: TOP_K, targets: None, special_tokens: false };
        let answers = fill_mask(&model, &mut pipeline, &mut threads, &question, &mut ())?.swap_remove(0);
        Ok(Filled { language, text, answers })
    };
    let filled = TEXTS.into_iter().map(fill).collect::<Result<Vec<_>>>()?;
    let judge = |(text, pair)| -> Result<Judged> {
        pipeline.encode(text, Some(pair))?;
        let logits = pipeline.forward_on(&mut threads, &mut ())?.next_sentence(&mut ())?;
        Ok(Judged { text, pair, is_next: logits[0] > logits[1], probability: probability_of_following(logits) })
    };
    let pairs = if model.manifest().heads.next_sentence { &PAIRS[..] } else { &[] };
    let judged = pairs.iter().copied().map(judge).collect::<Result<Vec<_>>>()?;

    if args.json {
        let output = json!({ "fill_mask": filled, "next_sentence": judged });
        writeln!(out, "{}", serde_json::to_string_pretty(&output)?)?;
    } else {
        print(&filled, &judged, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(filled: &[Filled], judged: &[Judged], out: &mut impl Write) -> Result<()> {
    for Filled { language, text, answers } in filled {
        let answers: Vec<_> =
            answers.iter().map(|answer| format!("{} {:.2}", answer.token_str, answer.score)).collect();
        writeln!(out, "{language:<11} {text}\n{:<11} {}\n", "", answers.join("   "))?;
    }
    for Judged { text, pair, is_next, probability } in judged {
        let verdict = if *is_next { "follows" } else { "does not follow" };
        writeln!(out, "{text}\n{pair}\n{:<11} {verdict} ({probability:.2})\n", "")?;
    }
    Ok(())
}
