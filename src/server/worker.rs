//! One worker: a thread with a runtime, a socket on every address, and upstream
//! connections of its own, so that a request is read, decided, sent and
//! answered without another thread.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{net::TcpStream, runtime, sync::watch};

use super::{arrival::Peer, connection, gateway::Shared, rim::Rim};
use crate::{audit::WorkerTrail, pipeline::Pipeline};

/// How long accepting pauses when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often unused upstream connections are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// Serves on `sockets` until `finish` says so.
///
/// # Errors
///
/// If the system gives no runtime or takes a socket back.
pub fn run(
    shared: &Arc<Shared>,
    sockets: Vec<TcpListener>,
    mut finish: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let trail = shared.trail().for_worker();
        let pipeline = Arc::new(Pipeline::new(trail.clone()));
        let rim = Rim::new(Arc::clone(shared), Arc::clone(&pipeline));
        for socket in sockets {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            tokio::spawn(accept(
                listener,
                Arc::clone(shared),
                rim.clone(),
                trail.clone(),
            ));
        }
        let sweeping = async {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                pipeline.sweep();
            }
        };
        tokio::select! {
            // An error means that the gateway is gone: then there is nothing left to do either.
            _ = finish.wait_for(|finish| *finish) => {}
            () = sweeping => {}
        }
        Ok(())
    })
}

/// Accepts until the gateway stops, and then what was waiting already.
async fn accept(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    rim: Rim,
    trail: WorkerTrail,
) {
    let mut stopping = shared.stopping();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        match accepted {
            Ok((stream, address)) => {
                failing = false;
                begin(stream, Peer::Tcp(address), &shared, &rim, &trail).await;
            }
            Err(error) if is_one_connection(&error) => {}
            Err(error) => {
                if !failing {
                    tracing::error!(%error, "cannot accept connections for now");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    while let Some(Ok((stream, address))) = listener.accept().now_or_never() {
        begin(stream, Peer::Tcp(address), &shared, &rim, &trail).await;
    }
}

async fn begin(
    stream: TcpStream,
    peer: Peer,
    shared: &Arc<Shared>,
    rim: &Rim,
    trail: &WorkerTrail,
) {
    let Some(place) = shared.places().take(&peer).await else {
        refuse(shared, trail, peer, "connections-per-peer");
        return;
    };
    // Answers are one small write each: waiting for more would only cost time.
    let _ = stream.set_nodelay(true);
    let (shared, rim, trail) = (Arc::clone(shared), rim.clone(), trail.clone());
    tokio::spawn(async move {
        let _place = place;
        let bounds = shared.snapshot().bounds.clone();
        shared.metrics().connected();
        if let Err(reason) = connection::serve(stream, peer, rim, &bounds, shared.stopping()).await
        {
            refuse(&shared, &trail, peer, reason);
        }
    });
}

fn refuse(shared: &Shared, trail: &WorkerTrail, peer: Peer, reason: &'static str) {
    shared.metrics().connection_refused(reason);
    // An idle connection that is closed was not refused anything.
    if reason != "idle-timeout" {
        trail.connection_refused(&peer.to_string(), reason);
    }
}

/// Errors of accept that concern only the connection that was being accepted.
fn is_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
