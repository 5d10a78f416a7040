//! Tells the other processes who is to look again, by NOTIFY on a connection of its own.
//!
//! Never in the transaction that changes something: commits with a NOTIFY stand in line behind each other, in the whole
//! cluster. Here they are few and short, however much is written: one transaction in [`PAUSE`] for everything that was
//! committed meanwhile, and none that waits for the disk.

use std::time::Duration;

use tokio::{task::AbortHandle, time::timeout};

use crate::{
    connection::{Connection, Login},
    listener::CHANNEL,
    live::Live,
    wakes::Wakes,
};

/// What `pg_stat_activity` calls the connection.
const APPLICATION_NAME: &str = "tenantry announcer";
/// The time between two announcements. What comes first is announced at once.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an announcement may take, a new connection included.
const DEADLINE: Duration = Duration::from_secs(5);
/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Announces for as long as it is held.
#[derive(Debug)]
pub(crate) struct Announcing {
    task: AbortHandle,
    live: Live,
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.live.set_announced(false);
        self.task.abort();
    }
}

/// Starts to announce, on a connection of this login, opened when there is something to say.
pub(crate) fn announce(login: &Login, live: &Live) -> Announcing {
    live.set_announced(true);
    // Announcements are lost with the server anyway, so their commits need not wait for the disk.
    let options = login.0.clone().application_name(APPLICATION_NAME).options([("synchronous_commit", "off")]);
    let announcer = Announcer { login: Login(options), live: live.clone(), connection: None };
    Announcing { task: tokio::spawn(announcer.run()).abort_handle(), live: live.clone() }
}

struct Announcer {
    login: Login,
    live: Live,
    connection: Option<Connection>,
}

impl Announcer {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let wakes = self.live.take_noted().await;
            if self.tell(&wakes).await {
                pause = FIRST_PAUSE;
                tokio::time::sleep(PAUSE).await;
            } else {
                // Together with what comes meanwhile, which is bounded.
                self.live.note(wakes);
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Whether the others were told. A connection that broke since its last use is replaced once.
    async fn tell(&mut self, wakes: &Wakes) -> bool {
        let is_new = self.connection.is_none();
        if self.try_to_tell(wakes).await {
            return true;
        }
        !is_new && self.try_to_tell(wakes).await
    }

    async fn try_to_tell(&mut self, wakes: &Wakes) -> bool {
        let notify = |text: String| format!("NOTIFY {CHANNEL}, '{text}'");
        let batch: Vec<String> = self.live.announcements(wakes).into_iter().map(notify).collect();
        let connection = self.connection.take();
        let told = async {
            let mut connection = match connection {
                Some(connection) => connection,
                None => Connection::open(&self.login, DEADLINE).await?,
            };
            // One transaction, as all statements of one batch are.
            connection.batch(&batch.join("; ")).await?;
            Ok::<_, sqlx::Error>(connection)
        };
        match timeout(DEADLINE, told).await {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "other processes are not told for now what to look at");
                false
            }
            Err(_) => {
                tracing::warn!("other processes are not told for now what to look at: no answer in time");
                false
            }
        }
    }
}
