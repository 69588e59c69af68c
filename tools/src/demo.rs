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
    ("German", "Paris ist die [MASK] von Frankreich."),
    ("French", "Paris est la [MASK] de la France."),
    ("Spanish", "Madrid es la [MASK] de España."),
    ("Italian", "Roma è la [MASK] d'Italia."),
    ("Russian", "Москва — [MASK] России."),
    ("Ukrainian", "Київ — [MASK] України."),
    ("Arabic", "القاهرة هي [MASK] مصر."),
    ("Hindi", "दिल्ली भारत की [MASK] है।"),
    ("Tamil", "சென்னை தமிழ்நாட்டின் [MASK] ஆகும்."),
    ("Vietnamese", "Hà Nội là thủ [MASK] của Việt Nam."),
    ("Japanese", "東京は日本の首[MASK]です。"),
    ("Chinese", "北京是中国的首[MASK]。"),
];

/// Two texts, of which the second may follow the first.
const PAIRS: [(&str, &str); 4] = [
    ("She opened the window.", "Outside, the birds were singing."),
    ("She opened the window.", "The price of copper fell by two percent."),
    ("Мы долго ждали поезда.", "Наконец он пришёл, и мы сели в вагон."),
    ("Мы долго ждали поезда.", "Этот закон был принят парламентом в 1998 году."),
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
    let (file, kernels) = args.model.open()?;
    let model = file.model()?;
    let mut memory = model_file::memory(&model, usize::MAX);
    let mut pipeline = Pipeline::new(&model, kernels, &mut memory)?;

    let fill = |(language, text)| -> Result<Filled> {
        let question = Question { text, top_k: TOP_K, targets: None, special_tokens: false };
        let answers = fill_mask(&model, &mut pipeline, &question, &mut ())?.swap_remove(0);
        Ok(Filled { language, text, answers })
    };
    let filled = TEXTS.into_iter().map(fill).collect::<Result<Vec<_>>>()?;
    let judge = |(text, pair)| -> Result<Judged> {
        let logits = pipeline.next_sentence(text, pair)?;
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
