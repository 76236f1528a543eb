//! A client and its server, who are connected: what one of them sends is passed on to the other.

use crate::flow::Flow;
use fdtask::net::Stream;
use fdtask::{Context, Task, Wait, channel};
use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// When one end is gone, and the other takes nothing for so long of what that one had said, the rest is given up. It may take as
/// long until it is seen that the one is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// What moves is looked at in so many steps per timeout, which may so become that much longer, and never shorter.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// A client, and its connection to the target.
pub struct Tunnel {
    name: String,
    client: Rc<Stream>,
    server: Stream,
    up: Flow,
    down: Flow,
    patience: Duration,
    /// None as long as both ways are open.
    look: Option<Look>,
    /// Says by its end that the tunnel has ended.
    _alive: channel::Sender<()>,
}

impl Tunnel {
    /// It is given up when one end will say no more and nothing has moved for as long as `patience`.
    pub fn new(name: String, ends: (Rc<Stream>, Stream), patience: Duration, alive: channel::Sender<()>) -> Tunnel {
        let ((client, server), (up, down)) = (ends, <(Flow, Flow)>::default());
        Tunnel { name, client, server, up, down, patience, look: None, _alive: alive }
    }

    fn failure(&mut self) -> Option<io::Error> {
        self.up.failure.take().or(self.down.failure.take())
    }

    /// Whether nothing has moved for too long, now that one way is over.
    fn has_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let Tunnel { client, server, up, down, .. } = self;
        let is_whole = up.failure.is_none() && down.failure.is_none();
        let (now, patience) = (cx.now(), if is_whole { self.patience } else { STALL_TIMEOUT });
        let look = match self.look.take() {
            Some(look) if now < look.at + patience / LOOKS_PER_TIMEOUT => look,
            // Nobody says that an end has taken something: there is room again only when much of the kernel's queue is free.
            before => {
                let progress = [up.progress(server), down.progress(client)];
                let since = before.filter(|before| before.progress == progress).map_or(now, |before| before.since);
                Look { progress, since, at: now }
            }
        };
        let Look { since, at, .. } = *self.look.insert(look);
        cx.or(Wait::Until(at + patience / LOOKS_PER_TIMEOUT));
        since + patience <= now
    }
}

impl Task for Tunnel {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let Tunnel { client, server, up, down, .. } = self;
        if cx.timed_out() {
            up.look_at(server);
            down.look_at(client);
        }
        // Both, whatever fired: if both did, only one of them is the reason, and a busy one must not keep the other waiting.
        let waits = (up.advance(client, server, cx)?, down.advance(server, client, cx)?);
        let is_one_over = up.is_over() || down.is_over();
        // Nobody waits for an end that has been sent everything, while there is no room for what it says.
        if !up.unsent.is_empty() || !down.unsent.is_empty() {
            cx.or(Wait::Until(cx.now() + STALL_TIMEOUT));
        }
        match waits {
            (Wait::Done, Wait::Done) => self.failure().map_or(Ok(Wait::Done), Err),
            // What an end had said before is passed on, and answered if it is not gone, as long as something moves.
            _ if is_one_over && self.has_stalled(cx) => Err(self.failure().unwrap_or(ErrorKind::TimedOut.into())),
            (Wait::Done, wait) | (wait, Wait::Done) => Ok(wait),
            (up, down) => {
                cx.or(up);
                Ok(down)
            }
        }
    }

    fn name(&self) -> Cow<'_, str> {
        self.name.as_str().into()
    }
}

/// What had moved either way when that was looked at, and since when it has been the same.
struct Look {
    progress: [Option<(u64, usize)>; 2],
    since: Instant,
    at: Instant,
}
