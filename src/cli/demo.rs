//! `demo`: the real gateway before a simulated Alloy, over real TLS on loopback.

mod caller;
mod live;
mod stage;
mod story;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{
    Exit,
    output::{Unwritable, try_outln},
};
use stage::Stage;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Play the whole story, verify it, and end
    #[arg(long)]
    once: bool,
}

/// Runs the demo.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stage = Stage::set(args.once)?;
    let played = match args.once {
        true => story::play(&stage),
        false => runtime.block_on(let_play(&stage)),
    };
    // However it went: what was set up is taken down.
    runtime.block_on(stage.strike());
    Ok(if played? { Exit::Ok } else { Exit::Failure })
}

async fn let_play(stage: &Stage) -> anyhow::Result<bool> {
    introduce(stage)?;
    live::show(stage, until_told_to_end()).await?;
    try_outln!("\nstopping: calls under way get their answers, the trail is sealed")?;
    Ok(true)
}

async fn until_told_to_end() -> std::io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended,
        _ = terminated.recv() => Ok(()),
    }
}

/// What a newcomer needs to play.
fn introduce(stage: &Stage) -> Result<(), Unwritable> {
    let exe = std::env::current_exe().unwrap_or_else(|_| "alloy-gateway".into());
    let exe = exe.display();
    let base = stage.base();
    let admin = stage.admin();
    let trail = stage.trail_directory();
    let trail = trail.display();
    let config = stage.config_path();
    let config = config.display();
    let billing = stage.billing();
    let support = stage.support();
    try_outln!(
        "\
alloy-gateway demo: the real gateway before a simulated Alloy, all on this machine.

Your apps hold a token and can only delete credentials of the users they may touch.
The gateway alone holds the Alloy key. Every call is written down before it is sent.

  gateway  {base}
  Alloy    {alloy} (simulated, over real TLS)
  config   {config}
  trail    {trail}

Paste into another terminal:

  # delete a credential: 200, and again: 404, since it is gone
  curl -i -X DELETE {base}/users/ana/credentials/slack -H 'Authorization: Bearer {billing}'

  # a stranger: 401
  curl -i -X DELETE {base}/users/ana/credentials/github

  # this tenant may touch the user bob only: 403
  curl -i -X DELETE {base}/users/ana/credentials/github -H 'Authorization: Bearer {support}'

  # six at once, five are allowed: 429 with an honest Retry-After
  for n in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{{http_code}}\\n' -X DELETE {base}/users/bob/credentials/c$n -H 'Authorization: Bearer {support}'; done

  # who deleted slack, and did it go through?
  {exe} audit query {trail} --credential slack

  # the trail: one line before and one after each call, hash-chained, and whether it is as it was written
  cat {trail}/*.jsonl
  {exe} audit verify {trail}

  # how it goes, as a page: open {admin}/status in a browser

  # is it ready? what does it count?
  curl -i {admin}/readyz
  curl -s {admin}/metrics | grep requests_total

Read the config above while it runs, and copy config/example.yaml. Ctrl-C ends it, and takes all of it away.

Calls stand here as they end, from the trail:",
        alloy = stage.alloy_url(),
    )
}

/// How long the story waits for anything on this machine.
const PATIENCE: Duration = Duration::from_secs(10);
