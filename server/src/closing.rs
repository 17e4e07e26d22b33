//! The word that a door closes, for whoever waits behind it: a live tail ends, a long poll is answered with what there is.

use tokio::sync::watch;

/// Tells whoever answers through a door that it closes. Its default is a door that never does.
#[derive(Clone, Debug, Default)]
pub struct Closing(Option<watch::Receiver<bool>>);

impl Closing {
    pub(crate) fn new(closing: watch::Receiver<bool>) -> Self {
        Self(Some(closing))
    }

    /// Completes when the door closes.
    pub(crate) async fn wait(&mut self) {
        match &mut self.0 {
            // A sender that is gone closes as well.
            Some(closing) => drop(closing.wait_for(|closing| *closing).await),
            None => std::future::pending().await,
        }
    }
}
