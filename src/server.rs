//! What callers connect to: listeners, connections, and the rim around the
//! pipeline.

// The start and the end, and what all parts share meanwhile.
mod gateway;
mod phases;
mod readiness;
mod shared;

// Where connections come in, and how many may.
mod inherited;
mod listener;
mod listening;
mod slots;
mod worker;

// Which thread runs a worker.
pub mod driver;

// One connection, and who ends it.
mod alarm;
mod connection;
mod progress;
mod watchdog;

// What looks at its bytes before hyper does.
mod frame_guard;
mod guarded_stream;
mod head_guard;

// One request, on its way into the pipeline.
mod access_line;
mod rim;
mod turn;

pub use self::{
    connection::H2_STREAMS_MAX,
    gateway::{Cut, CutBy, Drain, Gateway, StartError, Stopped, why_not_bound},
    inherited::Inherited,
    listener::{SEND_BUFFER_BYTES, bind_admin, bind_unix, try_tcp, try_unix},
    shared::Shared,
};
