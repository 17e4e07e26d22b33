//! Where commands wait for the committer: a bounded queue, and all that wakes the committer in one place.
//!
//! Contract: commands come out in the order in which they went in. A full inbox makes a caller wait or tells it so, as it
//! chose. When the committer is gone, whoever waits for a place is told, and commands left behind are dropped, which their
//! callers learn from their tickets. Nothing here outlives a crash.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// Why a command did not go in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotTaken {
    /// There is no place at the moment.
    Full,
    /// The committer is gone, or told to stop.
    Gone,
}

/// What the committer was woken by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Commands wait.
    Commands,
    /// It is time to make the last batch provable.
    Confirm,
    /// It is to stop, and no command is left.
    Stop,
}

struct Waiting<C> {
    commands: VecDeque<C>,
    // Whether the committer sleeps, how many commands are worth waking it for, and how many callers wait for a place.
    asleep: bool,
    worth: usize,
    crowd: usize,
    stop: bool,
    gone: bool,
    confirm_at: Option<Instant>,
}

impl<C> Waiting<C> {
    fn is_shut(&self) -> bool {
        self.stop || self.gone
    }
}

/// The queue between callers and committer.
pub(crate) struct Inbox<C> {
    waiting: Mutex<Waiting<C>>,
    arrived: Condvar,
    room: Condvar,
    commands_max: usize,
}

impl<C> Inbox<C> {
    pub(crate) fn new(commands_max: usize) -> Self {
        let waiting = Waiting {
            commands: VecDeque::new(),
            asleep: false,
            worth: 1,
            crowd: 0,
            stop: false,
            gone: false,
            confirm_at: None,
        };
        Self {
            waiting: Mutex::new(waiting),
            arrived: Condvar::new(),
            room: Condvar::new(),
            commands_max: commands_max.max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<C>> {
        self.waiting.lock().expect("inbox lock")
    }

    /// How many commands may wait.
    pub(crate) fn commands_max(&self) -> usize {
        self.commands_max
    }

    /// Puts a command in, and waits for a place when `patient`.
    pub(crate) fn put(&self, command: C, patient: bool) -> Result<(), NotTaken> {
        let mut waiting = self.lock();
        while !waiting.is_shut() && waiting.commands.len() >= self.commands_max {
            if !patient {
                return Err(NotTaken::Full);
            }
            waiting.crowd += 1;
            waiting = self.room.wait(waiting).expect("inbox lock");
            waiting.crowd -= 1;
        }
        if waiting.is_shut() {
            return Err(NotTaken::Gone);
        }
        waiting.commands.push_back(command);
        if waiting.commands.len() >= waiting.worth {
            self.wake(waiting);
        }
        Ok(())
    }

    // Whoever is awake looks again before it sleeps, so that a wake-up is paid only when somebody sleeps.
    fn wake(&self, mut waiting: MutexGuard<'_, Waiting<C>>) {
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.arrived.notify_one();
        }
    }

    /// Whether no command waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().commands.is_empty()
    }

    /// Takes the commands that wait, at most so many.
    pub(crate) fn take(&self, max: usize) -> Vec<C> {
        let mut waiting = self.lock();
        let count = waiting.commands.len().min(max);
        let taken = waiting.commands.drain(..count).collect();
        if waiting.crowd > 0 && count > 0 {
            self.room.notify_all();
        }
        taken
    }

    /// Takes back, in front of all others, what was taken and not used.
    pub(crate) fn put_back(&self, unused: impl DoubleEndedIterator<Item = C> + ExactSizeIterator) {
        if unused.len() > 0 {
            let mut waiting = self.lock();
            unused
                .rev()
                .for_each(|command| waiting.commands.push_front(command));
        }
    }

    /// Sleeps until there is something to do.
    pub(crate) fn wait(&self) -> Woken {
        let mut waiting = self.lock();
        loop {
            if !waiting.commands.is_empty() {
                return Woken::Commands;
            }
            if waiting.stop {
                return Woken::Stop;
            }
            (waiting.asleep, waiting.worth) = (true, 1);
            waiting = match waiting.confirm_at {
                None => self.arrived.wait(waiting).expect("inbox lock"),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        waiting.asleep = false;
                        waiting.confirm_at = None;
                        return Woken::Confirm;
                    }
                    self.arrived.wait_timeout(waiting, left).expect("inbox lock").0
                }
            };
            waiting.asleep = false;
        }
    }

    /// Sleeps until `done`, which somebody else makes true before it calls [`Inbox::nudge`]; or until so many commands wait, if
    /// that is asked for; or until the time is up, if there is one.
    pub(crate) fn wait_until(
        &self,
        done: impl Fn() -> bool,
        or_commands: Option<usize>,
        deadline: Option<Instant>,
    ) {
        let worth = or_commands.map(|count| count.min(self.commands_max));
        let mut waiting = self.lock();
        while !done() && worth.is_none_or(|worth| waiting.commands.len() < worth) {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            (waiting.asleep, waiting.worth) = (true, worth.unwrap_or(usize::MAX));
            waiting = match left {
                None => self.arrived.wait(waiting).expect("inbox lock"),
                Some(left) => self.arrived.wait_timeout(waiting, left).expect("inbox lock").0,
            };
            waiting.asleep = false;
        }
    }

    /// Has the committer look again at what it waits for.
    pub(crate) fn nudge(&self) {
        self.wake(self.lock());
    }

    /// Has the committer make the last batch provable at a time, unless something is appended meanwhile.
    pub(crate) fn confirm_at(&self, at: Instant) {
        let mut waiting = self.lock();
        // Later than what the committer sleeps towards: it will look again then.
        if waiting.confirm_at.replace(at).is_none() {
            self.wake(waiting);
        }
    }

    /// Takes nothing any more, and has the committer stop when no command is left.
    pub(crate) fn stop(&self) {
        let mut waiting = self.lock();
        waiting.stop = true;
        self.wake(waiting);
        self.room.notify_all();
    }

    /// The committer is gone: takes nothing any more, and hands out what waits.
    pub(crate) fn close(&self) -> Vec<C> {
        let mut waiting = self.lock();
        waiting.gone = true;
        let left = waiting.commands.drain(..).collect();
        drop(waiting);
        self.room.notify_all();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_full_inbox_says_so_and_takes_again_what_there_is_room_for() {
        let inbox = Inbox::new(2);
        assert_eq!(inbox.put(1, false), Ok(()));
        assert_eq!(inbox.put(2, true), Ok(()));
        assert_eq!(inbox.put(3, false), Err(NotTaken::Full));
        assert_eq!(inbox.take(1), vec![1]);
        assert_eq!(inbox.put(3, false), Ok(()));
        let mut taken = inbox.take(9).into_iter();
        assert_eq!(taken.next(), Some(2));
        inbox.put_back(taken);
        inbox.put_back(vec![1, 2].into_iter());
        assert_eq!(inbox.take(9), vec![1, 2, 3]);
    }

    #[test]
    fn who_waits_for_a_place_gets_it_or_learns_that_there_is_none_any_more() {
        let inbox = Inbox::new(1);
        inbox.put(0, true).expect("there is room");
        let outcomes = std::thread::scope(|scope| {
            let callers: Vec<_> = (1..4)
                .map(|n| {
                    scope.spawn({
                        let inbox = &inbox;
                        move || inbox.put(n, true)
                    })
                })
                .collect();
            while inbox.lock().crowd < 3 {
                std::thread::yield_now();
            }
            assert_eq!(inbox.take(1), vec![0]);
            while inbox.is_empty() || inbox.lock().crowd < 2 {
                std::thread::yield_now();
            }
            let left = inbox.close();
            assert_eq!(left.len(), 1);
            callers
                .into_iter()
                .map(|c| c.join().expect("no panic"))
                .collect::<Vec<_>>()
        });
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
        assert_eq!(outcomes.iter().filter(|o| **o == Err(NotTaken::Gone)).count(), 2);
    }

    #[test]
    fn who_waits_for_something_else_looks_again_when_nudged() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (inbox, done) = (Inbox::<()>::new(1), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| inbox.wait_until(|| done.load(Ordering::SeqCst), None, None));
            done.store(true, Ordering::SeqCst);
            inbox.nudge();
        });
    }

    #[test]
    fn fewer_commands_than_it_is_worth_do_not_end_the_wait_for_something_else() {
        let inbox = Inbox::new(9);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                inbox.wait_until(|| false, Some(3), None);
                inbox.wait_until(|| false, Some(4), Some(Instant::now()));
                inbox.take(9)
            });
            (0..3).for_each(|n| inbox.put(n, true).expect("there is room"));
            assert_eq!(waits.join().expect("no panic"), vec![0, 1, 2]);
        });
    }

    #[test]
    fn a_stop_comes_after_the_commands_and_a_confirmation_at_its_time() {
        let inbox = Inbox::new(4);
        inbox.confirm_at(Instant::now());
        assert_eq!(inbox.wait(), Woken::Confirm);
        inbox.confirm_at(Instant::now() + Duration::from_secs(3600));
        inbox.put(7, true).expect("there is room");
        inbox.stop();
        assert_eq!(inbox.put(8, true), Err(NotTaken::Gone));
        assert_eq!(inbox.wait(), Woken::Commands);
        assert_eq!(inbox.take(1), vec![7]);
        assert_eq!(inbox.wait(), Woken::Stop);
    }
}
