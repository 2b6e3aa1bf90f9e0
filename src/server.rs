//! What callers connect to: listeners, connections, and the rim around the
//! pipeline.

mod arrival;
mod connection;
mod connection_end;
mod frame_guard;
mod gateway;
mod guarded_stream;
mod head_guard;
mod inherited;
mod listener;
mod phases;
mod progress;
mod rim;
mod shared;
mod slots;
mod turn;
mod watchdog;
mod worker;

pub use self::{
    arrival::{Arrival, Origin, Peer},
    connection::H2_STREAMS_MAX,
    connection_end::ConnectionEnd,
    gateway::{Drain, Gateway, StartError, Stopped, why_not_bound},
    inherited::Inherited,
    listener::{SEND_BUFFER_BYTES, bind_admin, bind_unix},
    shared::Shared,
};
