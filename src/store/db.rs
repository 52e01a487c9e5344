//! The async front of a [`Store`]: threads that own the connections, so that no loop ever waits on a disk.
//!
//! One writer takes every poll that waits and commits them together: throughput does not hang on the disk's sync, and
//! each caller is still answered only after the commit. Commands that need no loop use a [`Store`] directly.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

use super::{Cycle, Store, StoreError};

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Writer,
    Reader,
}

/// Many callers, a few threads; cheap to clone.
#[derive(Clone)]
pub struct Db {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` once it is shut down.
    queues: Mutex<Option<Queues>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Clone)]
struct Queues {
    writer: Sender<Work>,
    /// `None`: no readers, the writer reads as well.
    readers: Option<Sender<Work>>,
}

type Job = Box<dyn FnOnce(&mut dyn Store) + Send>;
type Answer = oneshot::Sender<Result<(), StoreError>>;

enum Work {
    Record(Box<Cycle>, Answer),
    Call(Job),
}

impl Db {
    /// Opens one store to write and some to read, and starts their threads. Without readers the writer does both.
    ///
    /// # Errors
    /// A store cannot be opened or a thread not be started.
    pub fn start(readers: usize, mut open: impl FnMut(Role) -> Result<Box<dyn Store>, StoreError>) -> Result<Self, StoreError> {
        // The writer first: it makes the database that the readers open.
        let mut store = open(Role::Writer)?;
        let (writer, work) = channel();
        let mut threads = vec![thread("store-writer", move || write(store.as_mut(), &work))?];
        let (reading, work) = channel();
        let work = Arc::new(Mutex::new(work));
        for _ in 0..readers {
            let (mut store, work) = (open(Role::Reader)?, Arc::clone(&work));
            threads.push(thread("store-reader", move || read(store.as_mut(), &work))?);
        }
        let queues = Mutex::new(Some(Queues { writer, readers: (readers > 0).then_some(reading) }));
        Ok(Self { shared: Arc::new(Shared { queues, threads: Mutex::new(threads) }) })
    }

    /// Records a poll; durable once it returns `Ok`. Polls that wait at the same time are committed together; should
    /// that fail, each is tried alone, so that a bad one spoils nobody else's.
    ///
    /// # Errors
    /// Those of [`Store::record`]; nothing of the cycle is stored then.
    pub async fn record(&self, cycle: Cycle) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue(Work::Record(Box::new(cycle), answer), Role::Writer);
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Runs a job on the writer's thread: any verb. Polls that wait at the same time go first.
    ///
    /// # Errors
    /// Those of the job; it panicked; the store was shut down.
    pub async fn call<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let (job, answered) = packed(job);
        self.queue(Work::Call(job), Role::Writer);
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Runs a job on a reader's thread, beside the writer: verbs that only read. It sees all that was answered before.
    ///
    /// # Errors
    /// As [`Db::call`].
    pub async fn read<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let (job, answered) = packed(job);
        self.queue(Work::Call(job), Role::Reader);
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Takes no more calls, finishes what is queued, and waits for the threads to end.
    pub async fn shutdown(&self) {
        drop(lock(&self.shared.queues).take());
        let threads = std::mem::take(&mut *lock(&self.shared.threads));
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
        // A thread cannot panic (its jobs are caught), and a runtime that is going down waits for blocking tasks itself.
        let _ = joined.await;
    }

    /// Hands work to a thread. After the shutdown it is dropped, and with it the answer's sender: that tells the caller.
    fn queue(&self, work: Work, role: Role) {
        let queues = lock(&self.shared.queues).clone();
        // A thread ends only when its queue does, and then nothing can be lost that was promised.
        let _ = match (queues, role) {
            (Some(Queues { readers: Some(readers), .. }), Role::Reader) => readers.send(work).map_err(drop),
            (Some(Queues { writer, .. }), _) => writer.send(work).map_err(drop),
            (None, _) => Err(()),
        };
    }
}

/// A lock of ours is never held over anything that panics; were it, the value would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let started = Builder::new().name(name.to_owned()).spawn(body);
    started.map_err(|error| StoreError::Failed { doing: "starting a thread for the database", source: Box::new(error) })
}

/// A job that sends its result, and where the result arrives.
fn packed<T, F>(job: F) -> (Job, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::new(move |store| {
        // A caller that went away does not need the result.
        let _ = answer.send(caught(|| job(store)));
    });
    (job, answered)
}

fn write(store: &mut dyn Store, work: &Receiver<Work>) {
    while let Ok(first) = work.recv() {
        let (mut cycles, mut answers, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        for work in std::iter::once(first).chain(work.try_iter()) {
            match work {
                Work::Record(cycle, answer) => {
                    cycles.push(*cycle);
                    answers.push(answer);
                }
                Work::Call(job) => calls.push(job),
            }
        }
        record(store, &cycles, answers);
        calls.into_iter().for_each(|job| job(store));
    }
}

fn record(store: &mut dyn Store, cycles: &[Cycle], answers: Vec<Answer>) {
    let together = if cycles.is_empty() { Ok(()) } else { caught(|| store.record(cycles)) };
    for (cycle, answer) in cycles.iter().zip(answers) {
        let alone = match &together {
            Ok(()) => Ok(()),
            // It waited long enough already.
            Err(StoreError::Busy(why)) => Err(StoreError::Busy(why.clone())),
            Err(_) => caught(|| store.record(std::slice::from_ref(cycle))),
        };
        // A caller that went away does not need the answer.
        let _ = answer.send(alone);
    }
}

fn read(store: &mut dyn Store, work: &Mutex<Receiver<Work>>) {
    loop {
        let next = lock(work).recv();
        match next {
            Ok(Work::Call(job)) => job(store),
            Ok(Work::Record(cycle, answer)) => record(store, &[*cycle], vec![answer]),
            Err(_) => return,
        }
    }
}

/// A panic answers one caller with an error; the connection rolled back while it unwound.
fn caught<T>(job: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
        let source = format!("a bug in issuerwatch: {}", text.unwrap_or_else(|| "a panic".to_owned())).into();
        Err(StoreError::Failed { doing: "asking the database", source })
    })
}

fn closed() -> StoreError {
    StoreError::Failed { doing: "asking the database", source: "it was shut down".into() }
}
