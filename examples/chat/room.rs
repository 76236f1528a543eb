//! Who is here, and what waits to be sent to whom.

use fdtask::Handle;
use fdtask::channel::{Receiver, Sender, channel};
use fdtask::future::{next_turn, send_all};
use fdtask::net::Stream;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Instant;

/// How many lines wait for a client that does not read.
const QUEUE_LINES: usize = 64;

/// How many lines all that are here may say in one turn. They are sent in the next, so those of two turns may be in a queue at a
/// time; if these were more than it holds, a client that reads would miss some, too.
const LINES_PER_TURN_MAX: usize = QUEUE_LINES / 4;

/// Lines that wait for a client are sent to it together, until there are so many bytes.
const SEND_BYTES: usize = 4096;

/// Who is here, and who may speak.
#[derive(Default)]
pub struct Room {
    /// By name.
    pub guests: RefCell<BTreeMap<String, Outbox>>,
    /// How often the floor has been asked for.
    asked: Cell<usize>,
    /// The first so many of those who have asked have it, as of the turn that began then.
    granted: Cell<(usize, Option<Instant>)>,
}

impl Room {
    /// Waits until the others may be told something. Who has asked first is first, so many who never pause keep nobody waiting.
    pub async fn floor(&self, scheduler: &Handle) {
        let before = self.asked.replace(self.asked.get() + 1);
        loop {
            let now = Some(scheduler.now());
            let (mut granted, turn) = self.granted.get();
            if turn != now {
                // What nobody has asked for in its turn is not granted any more.
                granted = granted.min(before) + LINES_PER_TURN_MAX;
                self.granted.set((granted, now));
            }
            if before < granted {
                return;
            }
            next_turn().await;
        }
    }
}

/// The lines for one client. Clones share them.
#[derive(Clone)]
pub struct Outbox {
    lines: Sender<Rc<[u8]>>,
    /// How many there was no room for. Until the client has been told, no other follows.
    missed: Rc<Cell<usize>>,
}

impl Outbox {
    /// An empty one, and what sends its lines until the last clone is gone.
    pub fn new(scheduler: &Handle, stream: Rc<Stream>) -> (Outbox, impl Future<Output = io::Result<()>> + use<>) {
        let (lines, queue) = channel(scheduler, QUEUE_LINES);
        let missed = Rc::new(Cell::new(0));
        (Outbox { lines, missed: Rc::clone(&missed) }, deliver(stream, queue, missed))
    }

    pub fn post(&self, line: &Rc<[u8]>) {
        if self.missed.get() > 0 || self.lines.try_send(Rc::clone(line)).is_err() {
            self.missed.update(|missed| missed + 1);
        }
    }
}

/// Sends a client its lines, and then how many there was no room for: they were posted after all that are in the queue.
async fn deliver(stream: Rc<Stream>, queue: Receiver<Rc<[u8]>>, missed: Rc<Cell<usize>>) -> io::Result<()> {
    while let Some(line) = queue.recv().await {
        let mut lines = line.to_vec();
        while lines.len() < SEND_BYTES
            && let Ok(line) = queue.try_recv()
        {
            lines.extend_from_slice(&line);
        }
        send_all(&stream, &lines).await?;
        if queue.is_empty() && missed.get() > 0 {
            send_all(&stream, format!("* You have missed {} lines.\n", missed.take()).as_bytes()).await?;
        }
    }
    Ok(())
}

/// A client that has a name. When it is dropped, however that comes about, it has left.
pub struct Guest {
    name: String,
    room: Rc<Room>,
}

impl Guest {
    /// Enters the room, and tells the others.
    pub fn enter(room: &Rc<Room>, name: String, outbox: Outbox) -> Guest {
        room.guests.borrow_mut().insert(name.clone(), outbox);
        let guest = Guest { name, room: Rc::clone(room) };
        guest.tell_others(&format!("* {} is here.", guest.name));
        guest
    }

    pub fn say(&self, line: &str) {
        self.tell_others(&format!("{}: {line}", self.name));
    }

    fn tell_others(&self, line: &str) {
        let line: Rc<[u8]> = format!("{line}\n").into_bytes().into();
        for (_, outbox) in self.room.guests.borrow().iter().filter(|(name, _)| **name != self.name) {
            outbox.post(&line);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.tell_others(&format!("* {} has left.", self.name));
        self.room.guests.borrow_mut().remove(&self.name);
    }
}
