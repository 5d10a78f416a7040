//! What the operating system tells the process.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The signals that end the process. They are listened for from the start on: none ends it at once.
#[derive(Clone, Debug)]
pub struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Listens for SIGTERM and Ctrl-C.
    ///
    /// # Errors
    /// It cannot be listened for them.
    pub fn listen() -> io::Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (heard, listener) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "Ctrl-C",
                    () = heard.closed() => return,
                };
                heard.send_modify(|times| *times += 1);
                if *heard.borrow() == 1 {
                    tracing::info!("stopping on {name}");
                } else {
                    tracing::warn!("stopping at once on another {name}");
                }
            }
        });
        Ok(Self(listener))
    }

    /// Ends when so many of them came since the start.
    pub async fn heard(&self, times: u32) {
        if self.0.clone().wait_for(|heard| *heard >= times).await.is_err() {
            // Nobody listens any more, so nothing is heard.
            std::future::pending::<()>().await;
        }
    }
}
