//! One sequence on several threads, with the same bits.
//!
//! Each thread runs the forward pass for its `Share`, in memory of its own, and reads the weights for itself. Twice a layer all meet:
//! every head needs the int8 rows of all tokens, and the projection behind them the context of all heads. What a thread has for the
//! others it writes down where they may read it, and each copies what it needs.

extern crate std;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::vec::Vec;

use super::attention::Attention;
use super::workspace::{Workspace, arena_bytes};
use super::{Encoded, Forward, Share, check};
use crate::error::ForwardError;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::ops::linear::{part, part_mut};
use crate::storage::{Storage, Unreadable};
use crate::trace::{Observer, Site};

/// Rounds that a thread waits at work before it lets others run: some tens of microseconds.
const SPINS: u32 = 10_000;

/// Threads that run one sequence together, and the memory that they need beside the caller's.
#[derive(Debug)]
pub struct Threads {
    count: NonZeroUsize,
    /// Of 8 bytes each, as an arena is aligned.
    arenas: Vec<Vec<u64>>,
}

impl Threads {
    /// So many threads, the caller's among them. More than a sequence has tokens do not help it.
    pub fn new(count: NonZeroUsize) -> Self {
        Self { count, arenas: Vec::new() }
    }

    /// Threads there are.
    pub fn count(&self) -> NonZeroUsize {
        self.count
    }

    /// Runs a sequence through the encoder: see [`Forward`].
    ///
    /// # Errors
    ///
    /// As those of [`Forward::new`] and [`Forward::finish`].
    pub fn forward<'p, S: Storage + Send + Sync, O: Observer>(
        &mut self,
        model: &'p Model<S>,
        kernels: &'static Kernels,
        (input_ids, token_type_ids): (&'p [u32], &'p [u8]),
        workspace: Workspace<'p>,
        observer: &mut O,
    ) -> Result<Encoded<'p, S>, ForwardError> {
        let (config, seq_len) = (model.config(), input_ids.len());
        let count = self.count.get().min(seq_len);
        if count <= 1 {
            return Forward::new(model, kernels, input_ids, token_type_ids, workspace)?.finish(observer);
        }
        check(model, input_ids, token_type_ids, &workspace)?;
        let Workspace { residual, largest, arena, passes, .. } = workspace;
        let words = arena_bytes(config, seq_len, 1).div_ceil(size_of::<u64>());
        // The caller's memory is the first thread's, unless it is too small for one pass: there is a heap here.
        let others = count - usize::from(passes == 1);
        self.arenas.resize_with(others, Vec::new);
        self.arenas.iter_mut().for_each(|arena| arena.resize(words, 0));

        let table = Table::new(count);
        let whole = Share::whole(config, seq_len);
        let mut rest = (&mut *residual, &mut *largest);
        let others = self.arenas.iter_mut().map(|arena| bytemuck::cast_slice_mut(arena));
        let arenas = (passes == 1).then_some(&mut *arena).into_iter().chain(others);
        let mut members = arenas.enumerate().map(|(index, arena)| {
            let share = whole.part(index, count);
            let own = share.tokens * usize::from(config.hidden_size);
            let (residuals, magnitudes) = core::mem::take(&mut rest);
            let (residual, residuals) = residuals.split_at_mut_checked(own).unwrap_or_default();
            let (largest, magnitudes) = magnitudes.split_at_mut_checked(share.tokens).unwrap_or_default();
            rest = (residuals, magnitudes);
            let workspace = Workspace { residual, largest, arena, seq_len: share.tokens, passes: 1 };
            let table = &table;
            move || {
                // Whoever returns, or panics, keeps nobody waiting.
                let _leaves = Leaves(table);
                let mut recording = Recording::default();
                let done = Forward::begin(model, kernels, input_ids, token_type_ids, workspace, share).and_then(
                    |mut forward| {
                        forward.member = Some(Member { table, index, whole, turn: 0 });
                        match O::WATCHES {
                            true => forward.finish(&mut recording),
                            false => forward.finish(&mut ()),
                        }
                    },
                );
                if let Err(error) = done {
                    // Who comes later only misses the one that failed.
                    let _ = table.failed.set(error);
                }
                recording
            }
        });
        let mut recordings = Vec::new();
        std::thread::scope(|scope| {
            // Nor does a thread that cannot be made.
            let _leaves = Leaves(&table);
            let first = members.next();
            let others: Vec<_> = members.map(|member| scope.spawn(member)).collect();
            recordings.extend(first.map(|member| member()));
            for other in others {
                recordings.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
        });
        if let Some(&error) = table.failed.get() {
            return Err(error);
        }
        replay(&recordings, observer);
        Ok(Encoded { model, kernels, workspace: Workspace { residual, largest, arena, seq_len, passes } })
    }
}

/// A sequence of a batch: ids and token types, of the same number.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Token ids.
    pub input_ids: &'a [u32],
    /// Token types.
    pub token_type_ids: &'a [u8],
}

impl Threads {
    /// Runs many sequences, of any lengths, through the encoder: those of one thread [together](Forward::run_together). `take` gets each
    /// with its number, on the thread that ran it; what it returns comes in the order of the sequences.
    ///
    /// # Errors
    ///
    /// As those of [`Forward::new`] and [`Forward::step`], for any of the sequences.
    pub fn batch<S: Storage + Send + Sync, R: Send>(
        &self,
        model: &Model<S>,
        kernels: &'static Kernels,
        sequences: &[Sequence<'_>],
        take: impl Fn(usize, Encoded<'_, S>) -> R + Sync,
    ) -> Result<Vec<R>, ForwardError> {
        let run = |numbers: core::ops::Range<usize>| -> Result<Vec<R>, ForwardError> {
            let sequences = sequences.get(numbers.clone()).unwrap_or_default();
            let bytes = |sequence: &Sequence<'_>| Workspace::bytes(model.config(), sequence.input_ids.len());
            let mut memories: Vec<Vec<u8>> = sequences.iter().map(|sequence| std::vec![0; bytes(sequence)]).collect();
            let forwards = sequences.iter().zip(&mut memories).map(|(sequence, memory)| {
                let Sequence { input_ids, token_type_ids } = *sequence;
                let workspace = Workspace::new(memory, model.config(), input_ids.len())?;
                Forward::new(model, kernels, input_ids, token_type_ids, workspace)
            });
            let mut forwards: Vec<_> = forwards.collect::<Result<_, _>>()?;
            Forward::run_together(&mut forwards)?;
            let finished = forwards.into_iter().zip(numbers);
            finished.map(|(forward, number)| forward.finish(&mut ()).map(|encoded| take(number, encoded))).collect()
        };
        // Each has one at least.
        let count = self.count.get().min(sequences.len()).max(1);
        let begin = |index: usize| sequences.len() * index / count;
        let run = &run;
        std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..count).map(|index| scope.spawn(move || run(begin(index)..begin(index + 1)))).collect();
            let mut results = run(0..begin(1))?;
            for other in others {
                results.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(results)
        })
    }
}

/// What the threads of one sequence share.
#[derive(Debug)]
struct Table {
    /// For each thread what it has for the others, in turn one and the other: who writes one has met all others since they read it.
    slots: Vec<[RwLock<Vec<u8>>; 2]>,
    arrived: AtomicUsize,
    meetings: AtomicUsize,
    /// Somebody will not come to the next meeting.
    left: AtomicBool,
    /// What the first of them failed with.
    failed: OnceLock<ForwardError>,
}

/// A thread that goes, for whatever reason.
struct Leaves<'t>(&'t Table);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.left.store(true, Ordering::Release);
    }
}

impl Table {
    fn new(threads: usize) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(threads, Default::default);
        Self {
            slots,
            arrived: AtomicUsize::new(0),
            meetings: AtomicUsize::new(0),
            left: AtomicBool::new(false),
            failed: OnceLock::new(),
        }
    }

    /// Waits until all threads are here; whether all have come.
    fn meet(&self) -> bool {
        let meeting = self.meetings.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.slots.len() {
            self.arrived.store(0, Ordering::Relaxed);
            self.meetings.store(meeting.wrapping_add(1), Ordering::Release);
            return true;
        }
        let mut spins = 0;
        // Who has met all others may be gone already: that is looked at last.
        while self.meetings.load(Ordering::Acquire) == meeting {
            if self.left.load(Ordering::Acquire) && self.meetings.load(Ordering::Acquire) == meeting {
                return false;
            }
            if spins < SPINS {
                spins += 1;
                core::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        true
    }
}

/// One of the threads at a table.
#[derive(Debug)]
pub(super) struct Member<'t> {
    table: &'t Table,
    index: usize,
    /// What all do together.
    whole: Share,
    /// Which of its slots it writes next.
    turn: usize,
}

impl Member<'_> {
    /// Writes down what it has for the others.
    fn publish(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(slots) = self.table.slots.get(self.index) {
            let mut slot = slots[self.turn].write().unwrap_or_else(PoisonError::into_inner);
            slot.clear();
            write(&mut slot);
        }
    }

    /// Meets the others, and shows `read` the share of each with what it has written down.
    fn gather(&mut self, mut read: impl FnMut(Share, &[u8])) -> Result<(), Unreadable> {
        if !self.table.meet() {
            // What the one that left failed with is told by it.
            return Err(Unreadable { offset: 0 });
        }
        for (index, slots) in self.table.slots.iter().enumerate().filter(|&(index, _)| index != self.index) {
            let share = self.whole.part(index, self.table.slots.len());
            read(share, &slots[self.turn].read().unwrap_or_else(PoisonError::into_inner));
        }
        self.turn ^= 1;
        Ok(())
    }
}

/// The bytes of values, one slice after another.
fn write<T: bytemuck::NoUninit>(out: &mut Vec<u8>, values: &[T]) {
    out.extend_from_slice(bytemuck::cast_slice(values));
}

/// Fills a slice with the next bytes.
fn read<T: bytemuck::Pod>(rest: &mut &[u8], out: &mut [T]) {
    let out: &mut [u8] = bytemuck::cast_slice_mut(out);
    let (values, behind) = rest.split_at_checked(out.len()).unwrap_or_default();
    out.iter_mut().zip(values).for_each(|(out, &value)| *out = value);
    *rest = behind;
}

impl<S: Storage> Forward<'_, S> {
    /// The int8 rows of all tokens, of which each thread has made its own.
    pub(super) fn exchange_rows(&mut self) -> Result<(), Unreadable> {
        let Some(mut member) = self.member.take() else { return Ok(()) };
        let Share { first_token, tokens, .. } = self.share;
        let rows = self.attention().rows.part(first_token, tokens);
        member.publish(|slot| {
            write(slot, rows.input);
            write(slot, rows.scales);
            write(slot, rows.shifts);
        });
        let gathered = member.gather(|Share { first_token, tokens, .. }, mut slot| {
            let rows = self.attention().rows.part(first_token, tokens);
            read(&mut slot, rows.input);
            read(&mut slot, rows.scales);
            read(&mut slot, rows.shifts);
        });
        self.member = Some(member);
        gathered
    }

    /// The context of its tokens, of which each thread has that of some heads.
    pub(super) fn exchange_context(&mut self) -> Result<(), Unreadable> {
        let Some(mut member) = self.member.take() else { return Ok(()) };
        let (own, d) = (self.share, self.model.config().head_dim());
        let Attention { context, h, .. } = self.attention();
        member.publish(|slot| {
            for row in context.chunks_exact(h.max(1)) {
                write(slot, part(row, own.first_head * d, own.heads * d));
            }
        });
        let gathered = member.gather(|Share { first_head, heads, .. }, slot| {
            let Attention { context, h, .. } = self.attention();
            let row_bytes = size_of::<i16>() * heads * d;
            let mut rows = slot.get(own.first_token * row_bytes..).unwrap_or_default();
            for row in context.chunks_exact_mut(h.max(1)).skip(own.first_token).take(own.tokens) {
                read(&mut rows, part_mut(row, first_head * d, heads * d));
            }
        });
        self.member = Some(member);
        gathered
    }
}

/// What a thread would have shown to an observer.
#[derive(Default)]
struct Recording {
    values: Vec<i16>,
    /// Each with where its values end.
    rows: Vec<(Site, usize)>,
}

impl Observer for Recording {
    fn row(&mut self, site: Site, row: &[i16]) {
        self.values.extend_from_slice(row);
        self.rows.push((site, self.values.len()));
    }
}

/// Shows an observer the rows of all threads in the order in which one thread would have: at each site, those of the first one first.
fn replay(recordings: &[Recording], observer: &mut impl Observer) {
    let mut seen: Vec<usize> = recordings.iter().map(|_| 0).collect();
    while let Some(&(site, _)) = recordings.first().zip(seen.first()).and_then(|(first, &seen)| first.rows.get(seen)) {
        for (recording, seen) in recordings.iter().zip(&mut seen) {
            let begin =
                |row: usize| row.checked_sub(1).and_then(|row| recording.rows.get(row)).map_or(0, |&(_, end)| end);
            while recording.rows.get(*seen).is_some_and(|&(of, _)| of == site) {
                let values = recording.values.get(begin(*seen)..begin(*seen + 1)).unwrap_or_default();
                observer.row(site, values);
                *seen += 1;
            }
        }
    }
}
