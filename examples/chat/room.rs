//! Who is here, and what waits to be sent to whom.

use fdtask::Handle;
use fdtask::channel::{Receiver, Sender, channel};
use fdtask::future::send_all;
use fdtask::net::Stream;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// How many lines wait for a client that does not read.
const QUEUE_LINES: usize = 64;

/// Who is here, by name.
pub type Room = Rc<RefCell<BTreeMap<String, Outbox>>>;

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
        send_all(&stream, &line).await?;
        if queue.is_empty() && missed.get() > 0 {
            send_all(&stream, format!("* You have missed {} lines.\n", missed.take()).as_bytes()).await?;
        }
    }
    Ok(())
}

/// A client that has a name. When it is dropped, however that comes about, it has left.
pub struct Guest {
    name: String,
    room: Room,
}

impl Guest {
    /// Enters the room, and tells the others.
    pub fn enter(room: &Room, name: String, outbox: Outbox) -> Guest {
        room.borrow_mut().insert(name.clone(), outbox);
        let guest = Guest { name, room: Rc::clone(room) };
        guest.tell_others(&format!("* {} is here.", guest.name));
        guest
    }

    pub fn say(&self, line: &str) {
        self.tell_others(&format!("{}: {line}", self.name));
    }

    fn tell_others(&self, line: &str) {
        let line: Rc<[u8]> = format!("{line}\n").into_bytes().into();
        for (_, outbox) in self.room.borrow().iter().filter(|(name, _)| **name != self.name) {
            outbox.post(&line);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.tell_others(&format!("* {} has left.", self.name));
        self.room.borrow_mut().remove(&self.name);
    }
}
