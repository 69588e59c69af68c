//! `mbert plan`: whether a model fits a board, and what an answer takes there, before anyone flashes anything.
//!
//! Memory and the bytes of the model that are read are exact. Instructions are estimated: every step of an answer is counted in
//! [`Unit`]s, each of which takes on a core what it took where that was measured (`firmware/measure-rates`).

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::boards::{Board, Boards, Core, Status};
use crate::cli::boards::PlanArgs;
use crate::inspect::{grouped, megabytes};

pub mod work;
pub mod fit;
mod subject;

use fit::{Fit, Longest, Request, fit};
pub use subject::{Size, Subject};
use work::{Question, Sequence, Step, Unit};

/// Runs the command.
///
/// # Errors
///
/// If the model cannot be read, there is no such board, or the one does not fit the other.
pub fn run(args: &PlanArgs, out: &mut impl Write) -> Result<ExitCode> {
    let boards = Boards::known()?;
    let (board, core) = boards.find(&args.board)?;
    let subject = Subject::read(args.model.clone().unwrap_or_default())?;
    let request = Request { tokens: args.tokens, ram_bytes: args.ram };
    let fit =
        fit(&subject, board, core, request).with_context(|| format!("{} does not fit {}", subject.name, board.name))?;
    ensure!(
        args.masks + 2 <= fit.tokens || !subject.heads.masked_lm || args.masks == 1,
        "{} tokens have no room for {} masks beside [CLS] and [SEP]: ask for fewer",
        fit.tokens,
        args.masks
    );
    let plan = Plan { subject: &subject, board, core, fit, masks: args.masks, is_longest: args.tokens.is_none() };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&plan.to_json())?)?;
    } else {
        plan.print(out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A model on a board.
struct Plan<'a> {
    subject: &'a Subject,
    board: &'a Board,
    core: &'a Core,
    fit: Fit,
    masks: usize,
    is_longest: bool,
}

/// What something takes.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Instructions.
    instructions: f64,
    /// Seconds of the core; 0 without a clock.
    compute: f64,
    /// Seconds until the bytes have come.
    transfer: f64,
    /// Seconds in all.
    seconds: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.instructions += other.instructions;
        self.compute += other.compute;
        self.transfer += other.transfer;
        self.seconds += other.seconds;
    }
}

/// Steps of one kind.
#[derive(Default)]
struct Part {
    steps: u64,
    units: BTreeMap<Unit, u64>,
    cost: Cost,
}

/// What an answer takes.
#[derive(Default)]
struct Answer {
    model_bytes_read: u64,
    transferred_bytes: u64,
    cost: Cost,
    /// In the order of the first step of each.
    parts: Vec<(&'static str, Part)>,
    /// The longest step.
    longest: (&'static str, Cost),
}

impl Plan<'_> {
    fn questions(&self) -> Vec<Question> {
        let heads = self.subject.heads;
        let mut questions = Vec::new();
        if heads.masked_lm {
            questions.push(Question::FillMask { masks: self.masks });
        }
        if heads.next_sentence {
            questions.push(Question::NextSentence);
        }
        questions.push(Question::Features);
        questions
    }

    /// Bytes that come from the model's place for a step.
    fn transferred(&self, step: &Step) -> u64 {
        match self.board.model.stream {
            // Blocks follow one another, so none is read twice, but for those at which nothing else is read.
            Some(stream) => step.bytes_read + step.places * stream.block_bytes,
            // A row at a time is multiplied by the tile, which is in the cache still, or is not.
            None if step.bytes_read > self.board.model.cache_bytes => step.bytes_read * step.rows,
            None => step.bytes_read,
        }
    }

    fn cost(&self, work: &[(Unit, u64)], transferred_bytes: u64) -> Cost {
        let rate = |unit| self.core.measured.rates.get(unit).copied().unwrap_or(0.0);
        let instructions: f64 = work.iter().map(|(unit, count)| rate(unit) * *count as f64).sum();
        let per_second = |amount: f64, hz: Option<u64>| hz.map_or(0.0, |hz| amount / hz as f64);
        let compute = per_second(instructions * self.core.cycles_per_instruction, self.board.clock_hz);
        let transfer = per_second(transferred_bytes as f64, self.board.model.bytes_per_second);
        let overlaps = self.board.model.stream.is_some_and(|stream| stream.prefetch);
        let seconds = if overlaps { compute.max(transfer) } else { compute + transfer };
        Cost { instructions, compute, transfer, seconds }
    }

    fn answer(&self, question: Question) -> Answer {
        let Fit { tokens, passes, .. } = self.fit;
        let window_bytes = self.board.model.window_bytes();
        let sequence = Sequence { config: &self.subject.config, tokens, passes, window_bytes };
        let mut answer = Answer::default();
        for step in sequence.steps(question) {
            let transferred_bytes = self.transferred(&step);
            let cost = self.cost(&step.work, transferred_bytes);
            answer.model_bytes_read += step.bytes_read;
            answer.transferred_bytes += transferred_bytes;
            answer.cost += cost;
            let index = answer.parts.iter().position(|(name, _)| *name == step.part).unwrap_or_else(|| {
                answer.parts.push((step.part, Part::default()));
                answer.parts.len() - 1
            });
            let part = &mut answer.parts[index].1;
            part.steps += 1;
            part.cost += cost;
            step.work.iter().for_each(|(unit, count)| *part.units.entry(*unit).or_default() += count);
            if self.length(cost) > self.length(answer.longest.1) {
                answer.longest = (step.part, cost);
            }
        }
        answer
    }

    /// What it takes to verify every hash, once after a start.
    fn verification(&self) -> Cost {
        self.cost(&[(Unit::HashedByte, self.subject.bytes)], self.subject.bytes)
    }

    fn to_json(&self) -> Value {
        let Self { subject, board, core, fit, .. } = self;
        let timed = board.clock_hz.is_some();
        let cost = |cost: Cost| {
            json!({
                "instructions": cost.instructions.round() as u64,
                "compute_seconds": timed.then_some(cost.compute),
                "transfer_seconds": timed.then_some(cost.transfer),
                "seconds": timed.then_some(cost.seconds),
            })
        };
        let answers: Vec<Value> = self
            .questions()
            .into_iter()
            .map(|question| {
                let answer = self.answer(question);
                let part = |(name, part): &(&str, Part)| {
                    json!({
                        "part": name,
                        "steps": part.steps,
                        "instructions": part.cost.instructions.round() as u64,
                        "units": part.units,
                    })
                };
                let (longest, of_longest) = answer.longest;
                let mut longest_step = Map::from_iter([("part".to_owned(), json!(longest))]);
                longest_step.extend(cost(of_longest).as_object().cloned().unwrap_or_default());
                let mut object = Map::from_iter([
                    ("question".to_owned(), json!(question.name())),
                    ("model_bytes_read".to_owned(), json!(answer.model_bytes_read)),
                    ("transferred_bytes".to_owned(), json!(answer.transferred_bytes)),
                ]);
                object.extend(cost(answer.cost).as_object().cloned().unwrap_or_default());
                object.insert("longest_step".to_owned(), longest_step.into());
                object.insert("parts".to_owned(), answer.parts.iter().map(part).collect());
                object.into()
            })
            .collect();
        json!({
            "model": subject.name,
            "model_bytes": subject.bytes,
            "model_bytes_are_exact": subject.size == Size::Exact,
            "board": board.name,
            "core": board.core,
            "target": board.target,
            "status": board.status,
            "clock_hz": board.clock_hz,
            "tokens": fit.tokens,
            "masks": self.masks,
            "longest_tokens": fit.longest.tokens,
            "longest_tokens_in_one_pass": fit.longest.in_one_pass,
            "code_bytes": fit.code_bytes,
            "flash_left_bytes": fit.flash_left_bytes,
            "model_place": board.model.place,
            "model_room_bytes": fit.model_room_bytes,
            "ram_bytes": fit.ram_bytes,
            "program_in_ram_bytes": fit.program_bytes,
            "static_bytes": fit.static_bytes,
            "stack_bytes": fit.stack_bytes,
            "workspace_bytes": fit.workspace_bytes,
            "ram_left_bytes": fit.ram_left_bytes(),
            "passes": fit.passes,
            "answers": answers,
            "verification": cost(self.verification()),
            "rates_measured_on": core.measured.on,
            "cycles_per_instruction": core.cycles_per_instruction,
        })
    }

    fn print(&self, out: &mut impl Write) -> Result<()> {
        self.print_memory(out)?;
        writeln!(
            out,
            "\n{:<15} {:>12} {:>17} {:>9} {:>9} {:>9}",
            "one answer", "model read", "instructions", "compute", "transfer", "time"
        )?;
        let Self { board, core, .. } = self;
        let (is_timed, is_slow) = (board.clock_hz.is_some(), board.model.bytes_per_second.is_some());
        let time = |seconds: f64, is_known: bool| if is_known { duration(seconds) } else { "–".to_owned() };
        let mut row = |name: &str, read: u64, cost: Cost| {
            writeln!(
                out,
                "{name:<15} {:>12} {:>17} {:>9} {:>9} {:>9}",
                grouped(read),
                format!("{:.1} million", cost.instructions / 1e6),
                time(cost.compute, is_timed),
                time(cost.transfer, is_slow),
                time(cost.seconds, is_timed)
            )
        };
        let answers: Vec<_> = self.questions().into_iter().map(|question| (question, self.answer(question))).collect();
        for (question, answer) in &answers {
            row(question.name(), answer.model_bytes_read, answer.cost)?;
        }
        row("hashes at start", self.subject.bytes, self.verification())?;

        let longest =
            answers.iter().max_by(|(_, a), (_, b)| self.length(a.longest.1).total_cmp(&self.length(b.longest.1)));
        if let Some((question, Answer { longest: (part, cost), .. })) = longest {
            let milliseconds = if is_timed { format!(", {}", duration(cost.seconds)) } else { String::new() };
            writeln!(
                out,
                "\nThe longest step between two calls to a watchdog is one of {part} ({}): {} instructions{milliseconds}. The hashes are one call.",
                question.name(),
                grouped(cost.instructions.round() as u64)
            )?;
        }
        let most = answers.iter().map(|(_, answer)| (answer.transferred_bytes, answer.model_bytes_read)).max();
        if let Some((transferred, read)) = most.filter(|&(transferred, read)| is_slow && transferred > 2 * read) {
            writeln!(
                out,
                "Some tiles of weights exceed the cache of {} bytes and are read anew for every row: {} for {}.",
                grouped(board.model.cache_bytes),
                megabytes(transferred),
                megabytes(read)
            )?;
        }
        writeln!(
            out,
            "Instructions are an estimate, from rates measured on {} in QEMU; bytes read and workspace are exact.",
            core.measured.on
        )?;
        if is_timed {
            let waits = |bytes: u64| match board.model.stream {
                Some(stream) if stream.prefetch => format!("{} a second while the core computes", megabytes(bytes)),
                _ => format!("{} a second, for which the core waits", megabytes(bytes)),
            };
            let source = board.model.bytes_per_second.map_or_else(|| "a model read without waiting".to_owned(), waits);
            let cycles = core.cycles_per_instruction;
            writeln!(
                out,
                "Times are a rough one: cycles per instruction {cycles}, {source}. No board has been timed."
            )?;
        }
        if board.status == Status::NotBuilt {
            writeln!(out, "The board's figures are those of data sheets.")?;
        }
        if board.footprint.is_none() && board.name != core.measured.on {
            writeln!(
                out,
                "Program, stack and statics are those of {}, without drivers of this board.",
                core.measured.on
            )?;
        }
        Ok(())
    }

    /// By which steps are compared.
    fn length(&self, cost: Cost) -> f64 {
        if self.board.clock_hz.is_some() { cost.seconds } else { cost.instructions }
    }

    fn print_memory(&self, out: &mut impl Write) -> Result<()> {
        let Self { subject, board, core, fit, .. } = self;
        let config = &subject.config;
        writeln!(
            out,
            "model           {}: {} layers × {}, vocabulary {}, {} bytes{}",
            subject.name,
            config.num_hidden_layers,
            config.hidden_size,
            grouped(config.vocab_size.into()),
            grouped(subject.bytes),
            match subject.size {
                Size::Exact => String::new(),
                Size::FromVocabulary => ", estimated to the kB".to_owned(),
                Size::FromConfig { vocabulary_bytes } =>
                    format!(", estimated: the vocabulary, which is not there, as {}", megabytes(vocabulary_bytes)),
            }
        )?;
        let clock = board.clock_hz.map_or_else(String::new, |hz| format!(" at {} MHz", hz / 1_000_000));
        writeln!(
            out,
            "board           {}: {}{clock}, {}, {}",
            board.name,
            core.title,
            board.target,
            board.status.title()
        )?;
        let Longest { tokens, in_one_pass } = fit.longest;
        let fits = if self.is_longest { "the longest that fits".to_owned() } else { format!("up to {tokens} fit") };
        let in_one_pass = if in_one_pass < tokens { format!(", {in_one_pass} in one pass") } else { String::new() };
        writeln!(out, "length          {} tokens; {fits}{in_one_pass}", fit.tokens)?;
        writeln!(out, "\n{:<15} {:>12}", "flash", "bytes")?;
        let left = fit.flash_left_bytes.map_or_else(
            || "loaded into RAM".to_owned(),
            |left| format!("of {}, {} left", grouped(board.flash_bytes.unwrap_or(0)), grouped(left)),
        );
        writeln!(out, "{:<15} {:>12}  {}", "program", grouped(fit.code_bytes), left)?;
        let room = fit.model_room_bytes;
        writeln!(
            out,
            "{:<15} {:>12}  of {} in {}, {} left",
            "model",
            grouped(subject.bytes),
            grouped(room),
            board.model.place,
            grouped(room - subject.bytes)
        )?;
        writeln!(out, "\n{:<15} {:>12}", "RAM", "bytes")?;
        let passes = match fit.passes {
            1 => String::new(),
            passes => format!("{passes} passes over the feed-forward weights, for want of RAM; the bits are the same"),
        };
        let statics = match board.model.stream {
            None => String::new(),
            Some(stream) => format!("of which {} are the model's cache", grouped(stream.cache_bytes())),
        };
        let rows = [
            ("workspace", fit.workspace_bytes, passes),
            ("stack", fit.stack_bytes, String::new()),
            ("statics", fit.static_bytes, statics),
            ("program", fit.program_bytes, String::new()),
        ];
        for (name, bytes, note) in rows.into_iter().filter(|(_, bytes, _)| *bytes > 0) {
            writeln!(out, "{}", format!("{name:<15} {:>12}  {note}", grouped(bytes)).trim_end())?;
        }
        writeln!(out, "{:<15} {:>12}  of {}", "left", grouped(fit.ram_left_bytes()), grouped(fit.ram_bytes))?;
        Ok(())
    }
}

/// Seconds for people.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.0995 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 99.5 => format!("{seconds:.1} s"),
        seconds => format!("{seconds:.0} s"),
    }
}
