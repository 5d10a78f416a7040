//! What the operating system tells the process.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The signals that end the process, and the one by which its files are looked at again. They are listened for from the
/// start on: none ends it at once.
#[derive(Clone, Debug)]
pub struct Signals {
    ends: watch::Receiver<u32>,
    hangups: watch::Receiver<u64>,
}

impl Signals {
    /// Listens for SIGTERM, Ctrl-C and SIGHUP.
    ///
    /// # Errors
    /// It cannot be listened for them.
    pub fn listen() -> io::Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        let (heard, ends) = watch::channel(0);
        let (hung_up, hangups) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "Ctrl-C",
                    _ = hangup.recv() => {
                        hung_up.send_modify(|times| *times += 1);
                        continue;
                    }
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
        Ok(Self { ends, hangups })
    }

    /// Ends when so many of those that end the process came since the start.
    pub async fn heard(&self, times: u32) {
        if self.ends.clone().wait_for(|heard| *heard >= times).await.is_err() {
            // Nobody listens any more, so nothing is heard.
            std::future::pending::<()>().await;
        }
    }

    /// How often SIGHUP came since the start.
    pub(super) fn hangups(&self) -> watch::Receiver<u64> {
        self.hangups.clone()
    }

    /// Never ends: says of each SIGHUP that there is nothing to look at again.
    pub async fn note_hangups(&self) {
        let (mut hangups, mut noted) = (self.hangups(), 0);
        while let Ok(times) = hangups.wait_for(|times| *times > noted).await.map(|times| *times) {
            noted = times;
            tracing::info!("SIGHUP changes nothing: there are no certificates to look at again");
        }
        std::future::pending::<()>().await;
    }
}
