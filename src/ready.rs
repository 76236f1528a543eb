//! The ready deque: the tasks that can run, by the numbers of their slots. The seed's `tasks`.
//!
//! A turn takes from its front all that was in it when the turn began, and whatever becomes ready meanwhile goes to its
//! back. So it is kept in two vectors, which change places when a turn begins: one is only read, the other only grows.

/// Most tasks are resumed because the only descriptor they wait for has fired. This bit, beside the number of a slot, says that
/// there is another reason, which the slot tells.
///
/// With this bit the number is larger than that of any slot, so the usual look-up finds no slot. In this way the most common case
/// needs no test for the bit.
pub(crate) const OTHERWISE: u32 = 1 << 31;

/// See the module's text.
#[derive(Default)]
pub(crate) struct ReadyDeque {
    /// The tasks of the turn that is being taken. Between two turns all of them have been taken out, unless a turn was stopped.
    front: Vec<u32>,
    /// How many of them have been taken out.
    taken: usize,
    /// The tasks that have become ready since the turn began.
    back: Vec<u32>,
}

impl ReadyDeque {
    #[inline]
    pub(crate) fn push_back(&mut self, slot: u32) {
        self.back.push(slot);
    }

    /// Everything that is in the deque now belongs to the turn that begins.
    pub(crate) fn begin_turn(&mut self) {
        if self.taken == self.front.len() {
            self.front.clear();
            std::mem::swap(&mut self.front, &mut self.back);
        } else {
            // The turn before was stopped: the tasks that it left over go first.
            self.front.drain(..self.taken);
            self.front.append(&mut self.back);
        }
        self.taken = 0;
    }

    /// Takes out the next task of the turn.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<u32> {
        let slot = self.front.get(self.taken).copied()?;
        self.taken += 1;
        Some(slot)
    }

    /// How many tasks the turn has, including those that have been taken out.
    pub(crate) fn turn_len(&self) -> usize {
        self.front.len()
    }

    /// The task that will be taken out when `count` others have been; with 0, the next one.
    #[inline]
    pub(crate) fn ahead(&self, count: usize) -> Option<u32> {
        self.front.get(self.taken + count).copied()
    }

    /// The slot of the task that was taken out last.
    pub(crate) fn last_taken(&self) -> Option<u32> {
        self.front.get(self.taken.checked_sub(1)?).map(|slot| slot & !OTHERWISE)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.front.len() && self.back.is_empty()
    }

    /// What is in the deque, from its front to its back.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.front[self.taken..].iter().chain(&self.back).map(|slot| slot & !OTHERWISE)
    }
}
