//! HTTP requests that wait for what comes back over the downstream topic. One task owns the table; an answer for a
//! request that nobody waits for any more is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gochat_proto::bus::v1::{Ack, Refusal};
use tokio::sync::{mpsc, oneshot};

/// Requests are looked through for those given up this often.
const SWEEP: Duration = Duration::from_secs(1);
const QUEUE_MAX: usize = 4096;

/// How a send ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// It is durable.
    Acked(Ack),
    /// It was not taken.
    Refused(Refusal),
}

enum Note {
    Wait(u64, oneshot::Sender<Outcome>),
    Done(u64, Outcome),
}

/// A handle on the table.
#[derive(Clone)]
pub(crate) struct Waiting {
    notes: mpsc::Sender<Note>,
    next: Arc<AtomicU64>,
}

impl Waiting {
    /// The table's handle, and the task that owns it; the task ends when all handles are gone.
    pub(crate) fn new() -> (Waiting, impl Future<Output = ()> + Send) {
        let (notes, inbox) = mpsc::channel(QUEUE_MAX);
        (Waiting { notes, next: Arc::new(AtomicU64::new(1)) }, run(inbox))
    }

    /// A new request number, above 0, and where its outcome will come.
    pub(crate) async fn register(&self) -> (u64, oneshot::Receiver<Outcome>) {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        // The table gone means the process ends: the receiver says so.
        let _ = self.notes.send(Note::Wait(request, sender)).await;
        (request, receiver)
    }

    /// Completes a request.
    pub(crate) async fn complete(&self, request: u64, outcome: Outcome) {
        let _ = self.notes.send(Note::Done(request, outcome)).await;
    }
}

async fn run(mut inbox: mpsc::Receiver<Note>) {
    let mut waiting: HashMap<u64, oneshot::Sender<Outcome>> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            note = inbox.recv() => match note {
                Some(Note::Wait(request, sender)) => {
                    waiting.insert(request, sender);
                }
                Some(Note::Done(request, outcome)) => {
                    if let Some(sender) = waiting.remove(&request) {
                        let _ = sender.send(outcome);
                    }
                }
                None => return,
            },
            _ = sweep.tick() => waiting.retain(|_, sender| !sender.is_closed()),
        }
    }
}
