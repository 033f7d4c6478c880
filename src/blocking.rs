//! Where an async task may wait for the disk.
//!
//! Store calls run on the calling thread, never in `spawn_blocking`: on a paused timeline tasks due at the same instant
//! would then finish in a different order from run to run. On a multi-thread runtime the other tasks of the thread
//! move to another one meanwhile.
//!
//! Invariant: every call of the store from async code passes [`inline`], but for the admin service's, which may take
//! minutes: they have threads of their own, which do not hold up a shutdown.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work` on this thread and lets the runtime's other tasks go on where it can.
pub fn inline<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

    #[test]
    fn it_runs_without_a_runtime() {
        assert_eq!(inline(|| 7), 7);
    }

    #[tokio::test]
    async fn it_runs_on_a_single_thread() {
        assert_eq!(inline(|| 7), 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn on_many_threads_other_tasks_go_on_meanwhile() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let caller = tokio::spawn(async move { inline(move || receiver.recv()) });
        tokio::spawn(async move { sender.send(7) }).await.unwrap().unwrap();
        assert_eq!(caller.await.unwrap(), Ok(7));
    }
}
