//! What goes on while somebody plays.

use std::{future::Future, io, time::Duration};

use tokio::time::sleep;

use super::stage::{KEY, Stage};
use crate::{
    audit::{End, Follower, OutcomeKind, Row},
    cli::output::try_outln,
};

/// How often the trail is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// Says of each call how it ended, and what the simulated Alloy got, until `end`.
pub async fn show(stage: &Stage, end: impl Future<Output = io::Result<()>>) -> anyhow::Result<()> {
    let (mut follower, _) = Follower::begin(&stage.trail_directory(), 0)?;
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            ended = &mut end => return Ok(ended?),
            () = sleep(EVERY) => {}
        }
        let mut lines = Vec::new();
        follower.read(|row| lines.push(line(&row)))?;
        for line in lines {
            try_outln!("{line}")?;
        }
    }
}

fn line(row: &Row) -> String {
    let time = row.time.get(11..19).unwrap_or_default();
    let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let what = format!("{}/{}", of(&row.user), of(&row.credential));
    let ended = row.ended.as_str();
    let who = of(&row.tenant);
    let status = row.status.unwrap_or_default();
    let how = match (row.upstream_status, row.ended) {
        (Some(upstream), _) => format!("Alloy got `bearer {KEY}` and answered {upstream}"),
        (None, End::Outcome(OutcomeKind::InDoubt)) => "Alloy got it, and no answer came".to_owned(),
        (None, _) => format!("{status} {}: nothing was sent", of(&row.code)),
    };
    format!("  {time}  {ended:11}  {who:8}  {what:12}  {how}")
}
