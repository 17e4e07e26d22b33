//! Beats: the signed request that renews leases, from a thread and a runtime of its own, never by the one that work loads.

use super::link::Link;
use crate::clock::running_ms;
use crate::exchange::{Beat, BeatAnswer, decode, encode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// Beats until it is told to stop. Returns the thread's handle.
pub(crate) fn beat_from_own_thread(
    link: Arc<Link>,
    period: Duration,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("ledger-beat".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(e) => {
                    tracing::error!(error = %e, "no runtime for beats; leases will not be renewed");
                    return;
                }
            };
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        () = tokio::time::sleep(period_of(&link, period)) => beat(&link, period).await,
                        _ = stop.wait_for(|stop| *stop) => return,
                    }
                }
            });
        })
}

// As configured, and at least four times in a lease as long as the gateway gives.
fn period_of(link: &Link, configured: Duration) -> Duration {
    match link.term_ms.load(Ordering::Acquire) {
        0 => configured,
        term_ms => configured.min(Duration::from_millis(u64::from(term_ms) / 4)),
    }
}

async fn beat(link: &Link, period: Duration) {
    let sent_ms = running_ms();
    let body = encode(&Beat {
        fences: link.jobs().fences(),
    });
    // Without an answer the lease simply is not renewed; the link's loops tell that the gateway is away.
    let Ok(answer) = link
        .gateway()
        .exchange("beat", body, period.max(Duration::from_secs(1)))
        .await
    else {
        return;
    };
    let Ok(answer) = decode::<BeatAnswer>("beat", &answer) else {
        return;
    };
    link.beat_ms.store(sent_ms, Ordering::Release);
    if answer.hello {
        link.greet_soon();
    }
    for (fence, standing) in answer.standing {
        link.jobs().heed(&fence, standing);
    }
}
