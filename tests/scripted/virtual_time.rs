//! A real poller in virtual time: what is ready fires as ever, and to sleep until an instant takes no time.

use fdtask::Side;
use fdtask::poller::{Patience, Poller, Waiters};
use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Instant;

/// Calls `before_sleep` whenever it is to sleep and nothing has fired. A sleep that has no end returns at once, for whoever takes
/// single turns.
pub struct Virtual<F> {
    pub real: Box<dyn Poller>,
    pub now: Rc<Cell<Instant>>,
    pub before_sleep: F,
}

impl<F: FnMut(Patience)> Poller for Virtual<F> {
    fn now(&self) -> Instant {
        self.now.get()
    }

    fn identity(&self, fd: RawFd) -> io::Result<(u64, u64)> {
        self.real.identity(fd)
    }

    fn watch(&mut self, fd: RawFd, side: Side, owned: bool) {
        self.real.watch(fd, side, owned);
    }

    fn unwatch(&mut self, fd: RawFd, side: Side) {
        self.real.unwatch(fd, side);
    }

    fn forget(&mut self, fd: RawFd) {
        self.real.forget(fd);
    }

    fn wait(&mut self, patience: Patience, waiters: &mut Waiters) -> io::Result<()> {
        let mut nobody = Waiters::default();
        self.real.wait(Patience::Look, &mut nobody)?;
        let fired = nobody.take_unclaimed();
        let is_over = match patience {
            Patience::Look => true,
            Patience::Until(until) => until <= self.now.get(),
            Patience::Forever => false,
        };
        if fired.is_empty() && !is_over {
            (self.before_sleep)(patience);
            if let Patience::Until(until) = patience {
                self.now.set(until);
            }
        }
        for one in fired {
            waiters.fire(one);
        }
        Ok(())
    }
}
