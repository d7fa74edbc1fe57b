//! Applies segments with several threads: each decodes segments of its own, and they write what they made in turn.

use std::{
    io::{self, Empty, Read, Seek, Write},
    num::NonZeroUsize,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    applier::Applier,
    lead::Lead,
    memory::{self, BLOCK},
    old::OldView,
    read_exact,
    rebuild::{Output, Rebuilder},
    segment::{self, Sink},
};
use crate::{
    error::ApplyError,
    head::{Head, Segment},
    limits::ApplyBudget,
    mix::Tables,
    views::Views,
};

impl<S: Read + Write + Seek> Applier<'_, S> {
    /// How many threads a budget is enough for, at most `wanted`. The first takes [`Head::ram`], each further one
    /// [`Head::ram_per_thread`]; a patch that keeps old contents in scratch storage is applied by one.
    pub fn threads(&self, wanted: NonZeroUsize, budget: ApplyBudget) -> NonZeroUsize {
        if self.head.scratch > 0 {
            return NonZeroUsize::MIN;
        }
        let first = self.head.ram.max(memory::needed(self.head));
        let each = self.head.ram_per_thread.max(memory::further_thread(self.head)).max(1);
        let further = usize::try_from(budget.ram.saturating_sub(first) / each).unwrap_or(usize::MAX);
        wanted.min(NonZeroUsize::MIN.saturating_add(further))
    }

    /// Applies all segments that are left with so many threads, see [`Applier::threads`].
    ///
    /// `patch` stands at the next segment and `out` where the segments before stopped. `open` opens the old image, once for
    /// each thread; `done` is told after each segment how many bytes of the new view stand. What is written, and in which
    /// order, is the same for every number of threads.
    ///
    /// # Errors
    /// As for [`Applier::segment`], of the first segment that fails; those before it stand, and [`Applier::resume_point`]
    /// finds where to go on. [`ApplyError::NeedsSeek`] when the table is not in output order.
    pub fn segments<R: Read + Seek>(
        &mut self,
        threads: NonZeroUsize,
        open: impl Fn() -> io::Result<R> + Sync,
        patch: &mut (impl Read + Send),
        out: &mut (impl Write + Send),
        done: impl FnMut(u64) + Send,
    ) -> Result<(), ApplyError> {
        // A thread for each segment is enough, and the head of a patch with one declares no memory for others.
        let left = self.head.segments.len().saturating_sub(self.next as usize);
        let threads = threads.min(NonZeroUsize::new(left).unwrap_or(NonZeroUsize::MIN));
        if threads == NonZeroUsize::MIN {
            return self.one_by_one(&mut open().map_err(ApplyError::ReadOld)?, patch, out, done);
        }
        if !self.in_order {
            return Err(ApplyError::NeedsSeek);
        }
        if self.interrupted {
            return Err(ApplyError::Interrupted);
        }
        self.tables = None;
        let crew = Crew {
            head: self.head,
            lead: self.lead.as_ref(),
            source: Mutex::new((patch, self.next)),
            turn: Mutex::new(Turn {
                next: self.next,
                failed: None,
                rebuilder: &mut self.rebuilder,
                output: &mut self.output,
                out,
                done,
            }),
            turned: Condvar::new(),
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.get() {
                scope.spawn(|| crew.work(&open));
            }
            crew.work(&open);
        });
        let Turn { next, failed, .. } = crew.turn.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.next = next;
        let Some((_, error)) = failed else { return Ok(()) };
        // Nobody knows how much of the failed segment was written.
        self.interrupted = true;
        Err(error)
    }

    fn one_by_one(
        &mut self,
        old: &mut (impl Read + Seek),
        patch: &mut impl Read,
        out: &mut impl Write,
        mut done: impl FnMut(u64),
    ) -> Result<(), ApplyError> {
        let mut coded = Vec::with_capacity(self.head.longest_coded());
        while let Some(segment) = self.next_segment() {
            coded.resize(segment.coded_len as usize, 0);
            read_exact(patch, &mut coded, "segment")?;
            self.segment(self.next, &coded, old, out)?;
            done(segment.new_offset + u64::from(segment.len));
        }
        Ok(())
    }
}

/// Bytes of the image that a segment makes when it begins and ends outside of everything that is re-encoded, so that it can
/// be rebuilt by itself. One that becomes much longer is not: it is held until its turn.
fn alone(views: &Views, segment: &Segment) -> Option<u64> {
    let start = views.image_offset(segment.new_offset)?;
    let len = segment.image_end.filter(|_| segment.check.is_some())?.checked_sub(start)?;
    (len <= 2 * u64::from(segment.len)).then_some(len)
}

/// Bytes that a thread holds of what a segment makes, until its turn.
pub(super) fn room(views: &Views, segment: &Segment) -> usize {
    alone(views, segment).unwrap_or(segment.len.into()) as usize
}

/// What the threads share.
struct Crew<'a, 'h, P, W, F> {
    head: &'h Head,
    lead: Option<&'a Lead>,
    /// The patch, and the segment at which it stands.
    source: Mutex<(&'a mut P, u32)>,
    turn: Mutex<Turn<'a, 'h, W, F>>,
    /// Wakes those who wait for their turn.
    turned: Condvar,
}

/// Where segments go, in order.
struct Turn<'a, 'h, W, F> {
    /// The segment whose turn it is.
    next: u32,
    /// The first segment that failed: none behind it is written.
    failed: Option<(u32, ApplyError)>,
    rebuilder: &'a mut Rebuilder<'h>,
    output: &'a mut Output,
    out: &'a mut W,
    done: F,
}

impl<'a, 'h, P: Read + Send, W: Write + Send, F: FnMut(u64) + Send> Crew<'a, 'h, P, W, F> {
    /// Applies one segment after the other until there are no more, or one failed.
    fn work<R: Read + Seek>(&self, open: &(impl Fn() -> io::Result<R> + Sync)) {
        let mut worker = None;
        let _leaving = Leaving(self);
        // The longest comes sooner or later, and a buffer that grows would hold two for a moment.
        let longest = self.head.segments.iter().map(|segment| segment.coded_len).max().unwrap_or(0);
        let mut coded = Vec::with_capacity(longest as usize);
        while let Some((index, segment, read)) = self.take(&mut coded) {
            let applied = read.and_then(|()| self.apply(&mut worker, index, segment, &coded, open));
            if let Err(error) = applied {
                return self.fail(index, error);
            }
        }
    }

    /// Takes note that a segment failed, and wakes those who wait in vain behind it.
    fn fail(&self, index: u32, error: ApplyError) {
        let mut turn = self.turn();
        if turn.failed.as_ref().is_none_or(|(failed, _)| *failed > index) {
            turn.failed = Some((index, error));
        }
        self.turned.notify_all();
    }

    /// The next segment, with its coded bytes in `coded`; `None` when there are no more, or none of use: those before one
    /// that failed were taken before it.
    fn take(&self, coded: &mut Vec<u8>) -> Option<(u32, &'h Segment, Result<(), ApplyError>)> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if self.turn().failed.is_some() {
            return None;
        }
        let (patch, next) = &mut *source;
        let (index, segment) = (*next, self.head.segments.get(*next as usize)?);
        *next += 1;
        coded.resize(segment.coded_len as usize, 0);
        Some((index, segment, read_exact(*patch, coded, "segment")))
    }

    fn apply<R: Read + Seek>(
        &self,
        worker: &mut Option<Worker<R>>,
        index: u32,
        segment: &Segment,
        coded: &[u8],
        open: &(impl Fn() -> io::Result<R> + Sync),
    ) -> Result<(), ApplyError> {
        segment::authenticate(index, segment, coded)?;
        let worker = match worker {
            Some(worker) => worker,
            None => worker.insert(Worker::new(self.head, open().map_err(ApplyError::ReadOld)?)?),
        };
        let rebuilder = if alone(&self.head.views, segment).is_some() {
            Some(self.turn().rebuilder.at(&self.head.views, segment.new_offset)?)
        } else {
            None
        };
        let rebuilt = rebuilder.is_some();
        worker.decode(index, segment, coded, self.lead, rebuilder)?;
        self.write(index, segment, &worker.made, rebuilt)
    }

    /// Waits for the turn of a segment and writes it; does nothing when one before it failed.
    fn write(&self, index: u32, segment: &Segment, made: &[u8], rebuilt: bool) -> Result<(), ApplyError> {
        let mut turn = self.turn();
        while turn.next != index {
            if turn.failed.as_ref().is_some_and(|(failed, _)| *failed < index) {
                return Ok(());
            }
            turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        let end = segment.new_offset + u64::from(segment.len);
        let Turn { rebuilder, output, out, .. } = &mut *turn;
        if rebuilt {
            output.write_checked(made, *out)?;
            rebuilder.go_to(end);
        } else {
            rebuilder.push(made, output, *out)?;
            output.hold_against(index, segment)?;
        }
        (turn.done)(end);
        turn.next += 1;
        self.turned.notify_all();
        Ok(())
    }

    fn turn(&self) -> MutexGuard<'_, Turn<'a, 'h, W, F>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees those who wait when a thread panics, as a caller's reader or writer may: the panic is then passed on.
struct Leaving<'c, 'a, 'h, P: Read + Send, W: Write + Send, F: FnMut(u64) + Send>(&'c Crew<'a, 'h, P, W, F>);

impl<P: Read + Send, W: Write + Send, F: FnMut(u64) + Send> Drop for Leaving<'_, '_, '_, P, W, F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let next = self.0.turn().next;
            self.0.fail(next, ApplyError::Interrupted);
        }
    }
}

/// What one thread has for itself.
struct Worker<R> {
    image: R,
    old: OldView<Empty>,
    tables: Option<Tables>,
    block: Vec<u8>,
    /// What became of the segment: bytes of the new image where it stands alone, else of the new view.
    made: Vec<u8>,
}

impl<R: Read + Seek> Worker<R> {
    fn new(head: &Head, image: R) -> Result<Self, ApplyError> {
        let contents = ApplyBudget { ram: memory::contents(head), scratch: 0 };
        let old = OldView::new(head, contents, io::empty()).map_err(ApplyError::OldContent)?;
        let made =
            Vec::with_capacity(head.segments.iter().map(|segment| room(&head.views, segment)).max().unwrap_or(0));
        Ok(Self { image, old, tables: head.mix.map(Tables::new), block: vec![0; BLOCK], made })
    }

    /// Decodes a segment into `made`, and through the layers when there is a rebuilder for it alone.
    fn decode(
        &mut self,
        index: u32,
        segment: &Segment,
        coded: &[u8],
        lead: Option<&Lead>,
        rebuilder: Option<Rebuilder<'_>>,
    ) -> Result<(), ApplyError> {
        self.made.clear();
        let mut output = if rebuilder.is_some() { Output::new(false) } else { Output::unchecked() };
        let mut rebuilder = rebuilder.unwrap_or_default();
        let mut sink = Sink::new(&mut self.block, &mut rebuilder, &mut output, &mut self.made);
        let mut old = self.old.over(&mut self.image);
        segment::decode(index, segment, coded, lead, self.tables.as_mut(), &mut old, &mut sink)?;
        sink.flush()?;
        output.hold_against(index, segment)
    }
}
