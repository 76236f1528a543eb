//! Sockets, and the tasks that use them: [`Acceptor`] and [`Echo`] are the seed's `tcp_server` and `echo_handler`.
//!
//! The scheduler knows nothing of sockets. It keeps one rule for this module: a connection's place in its [`Limit`] is given back
//! only when everything that its task owned is closed.

mod acceptor;
mod echo;
mod idle;
mod limit;
mod lines;
mod listener;
mod refusal;
mod stream;

pub use crate::futile::{FUTILE_PAUSE, FUTILE_RESUMES_MAX};
pub use crate::sys::raise_descriptor_limit;
pub use acceptor::{ACCEPTS_PER_RESUME_MAX, Acceptor};
pub use echo::{DRAIN_BYTES_MAX, DRAIN_GRACE, ECHO_PREFIX, Echo, RECV_CHUNK_BYTES};
pub use limit::Limit;
pub use lines::Lines;
pub use listener::Listener;
pub use refusal::DESCRIPTORS_RETRY;
pub use stream::Stream;

pub(crate) use crate::futile::{Futile, try_again};
pub(crate) use idle::Idle;
pub(crate) use refusal::{Pauses, Refusal};
