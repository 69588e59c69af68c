//! The server of a board: it takes requests from the line, asks the model or the store, and answers.
//!
//! A forward pass is taken step by step, and the line is attended to between two: the host learns how far it is, and can stop it.

pub mod duty;
mod pages;
mod questions;
mod bench;

use mbert_runtime::error::ForwardError;
use mbert_runtime::format::header::VERSION;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::kernels::suite::{self, SuiteError};
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;

use crate::protocol::link::board::BoardLink;
use crate::protocol::messages::{Answer, Bench, DeviceError, Hello, ModelInfo, Request, SelfTest, encode_outcome};
use crate::self_test::{self, Failed};
use crate::store::{ModelStore, Offer};
use duty::{Duty, Line, wait};
pub use questions::Room;

/// The board, its model, and where models are kept.
pub struct Server<'d, Store> {
    /// What stands on the box.
    pub board: &'d str,
    /// The kernels to run the model with.
    pub kernels: &'static Kernels,
    /// The model; `None` where there is no usable one: then only the store and the kernels answer.
    pub model: Option<&'d Model<&'d [u8]>>,
    /// Working memory; its size decides how long a text may be.
    pub workspace: &'d mut [u8],
    /// Memory for an answer until the host has all of it.
    pub room: &'d mut Room,
    /// Where models are kept.
    pub store: Store,
    /// Instructions, or ticks of a clock, since some moment in the past.
    pub instructions: &'d dyn Fn() -> u64,
    /// The deepest stack since the start.
    pub stack_bytes: &'d dyn Fn() -> u32,
}

impl<'d, Store: ModelStore> Server<'d, Store> {
    /// Serves until the host asks for a new start.
    ///
    /// # Errors
    ///
    /// If the line fails.
    pub fn serve<L: Line>(&mut self, link: &mut BoardLink<'_>, line: &mut L) -> Result<(), L::Error> {
        let max_request_bytes = link.max_request_bytes();
        loop {
            wait(link, line)?;
            let (message, memory, watch) = link.work();
            let request = Request::decode(message);
            let Self { model, kernels, workspace, room, .. } = self;
            match (request, questioned(*model, kernels, workspace)) {
                (Ok(Request::FillMask { .. }), Ok((model, mut pipeline))) => {
                    questions::fill_mask(&mut pipeline, model, room, link, line)?;
                }
                (Ok(Request::Features { .. }), Ok((model, mut pipeline))) => {
                    questions::features(&mut pipeline, model, link, line)?;
                }
                (request, _) => {
                    let mut duty = Duty::new(watch, line);
                    let answer = |request| match request {
                        Request::Hello => self.hello(max_request_bytes, memory),
                        request => self.answer(&request, memory, &mut duty),
                    };
                    let is_restart = request == Ok(Request::Restart);
                    let outcome = request.and_then(answer);
                    duty.end()?;
                    let bytes = outcome.unwrap_or_else(|error| encode_outcome(&Err(error), memory));
                    link.answer(bytes, line)?;
                    if is_restart {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Answers a request in one message; its bytes.
    fn answer<L: Line>(
        &mut self,
        request: &Request<'_>,
        memory: &mut [u8],
        duty: &mut Duty<'_, L>,
    ) -> Result<usize, DeviceError> {
        let answer = match *request {
            Request::Tokenize { text, first } => return questions::tokenize(self.questioned()?.0, text, first, memory),
            Request::NextSentence { text, pair, trace } => {
                questions::next_sentence(&mut self.questioned()?.1, (text, pair, trace), duty)?
            }
            Request::Bench { tokens } => {
                let (instructions, stack_bytes) = (self.instructions, self.stack_bytes);
                let (model, mut pipeline) = self.questioned()?;
                let bench = bench::bench(&mut pipeline, model, tokens, instructions, duty)?;
                Answer::Bench(Bench { stack_bytes: stack_bytes(), ..bench })
            }
            Request::SelfTest => Answer::SelfTest(self.self_test()?),
            Request::UploadBegin(offer) => Answer::Resume(self.store.begin(&offer)?),
            Request::UploadChunk { offset, bytes } => {
                self.store.write(offset, bytes)?;
                Answer::Taken
            }
            Request::UploadFinish => Answer::Verdict(self.store.finish()?),
            Request::Restart => Answer::Restarting,
            Request::More { .. } => return Err(DeviceError::NothingMore),
            // With a model they have been answered; a hello always.
            Request::FillMask { .. } | Request::Features { .. } | Request::Hello => return Err(DeviceError::NoModel),
        };
        Ok(encode_outcome(&Ok(answer), memory))
    }

    fn questioned(&mut self) -> Result<Questioned<'d, '_>, DeviceError> {
        questioned(self.model, self.kernels, self.workspace)
    }

    fn hello(&mut self, max_request_bytes: u16, memory: &mut [u8]) -> Result<usize, DeviceError> {
        let mut layouts = [0; WeightLayout::ALL.len()];
        let mut count = 0;
        for layout in WeightLayout::ALL.into_iter().rev().filter(|&layout| self.kernels.reads(layout)) {
            layouts[count] = layout.code();
            count += 1;
        }
        let model = self.questioned().ok().and_then(|(model, pipeline)| {
            let (offer, provenance) = (Offer::of(model).ok()?, model.provenance().ok()?);
            Some(ModelInfo {
                name: provenance.model_name,
                licence: provenance.licence,
                bytes: offer.total_bytes,
                header_sha256: offer.header_sha256,
                rollback_counter: offer.rollback_counter,
                config: *model.config(),
                tokenizer: model.manifest().tokenizer,
                heads: model.manifest().heads,
                max_tokens: pipeline.max_tokens() as u16,
            })
        });
        let hello = Hello {
            board: self.board,
            firmware: env!("CARGO_PKG_VERSION"),
            kernels: self.kernels.name,
            format_version: VERSION,
            layouts: &layouts[..count],
            max_request_bytes,
            workspace_bytes: self.workspace.len() as u32,
            store: self.store.status(),
            model,
        };
        Ok(encode_outcome(&Ok(Answer::Hello(hello)), memory))
    }

    /// The line waits meanwhile: what is compared has no steps.
    fn self_test(&mut self) -> Result<SelfTest<'static>, DeviceError> {
        let (kernel_calls, wrong_kernel) = match suite::run(self.kernels, self.workspace) {
            Ok(calls) => (calls as u32, None),
            Err(SuiteError::MemoryTooSmall { needed_bytes, given_bytes }) => {
                return Err(ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes }.into());
            }
            Err(SuiteError::Different(difference)) => (0, Some(difference.entry)),
            Err(_) => (0, Some("an entry")),
        };
        let (cases, wrong_case) = match self.model.map(|model| self_test::run(model, self.kernels, self.workspace)) {
            None => (0, None),
            Some(Ok(cases)) => (cases as u32, None),
            Some(Err(Failed::Answer { case })) => (case as u32 + 1, Some(case as u32)),
            Some(Err(Failed::Pipeline(error))) => return Err(error.into()),
            Some(Err(Failed::Format(_) | Failed::Empty)) => return Err(DeviceError::NoModel),
        };
        Ok(SelfTest { kernels: self.kernels.name, kernel_calls, wrong_kernel, cases, wrong_case })
    }
}

/// A model, and what runs it.
type Questioned<'m, 'w> = (&'m Model<&'m [u8]>, Pipeline<'m, 'w, &'m [u8]>);

/// The model, with memory to run it.
fn questioned<'m, 'w>(
    model: Option<&'m Model<&'m [u8]>>,
    kernels: &'static Kernels,
    workspace: &'w mut [u8],
) -> Result<Questioned<'m, 'w>, DeviceError> {
    let model = model.ok_or(DeviceError::NoModel)?;
    // Weights packed for other kernels are as good as none.
    let pipeline = Pipeline::new(model, kernels, workspace).map_err(|_| DeviceError::NoModel)?;
    Ok((model, pipeline))
}
