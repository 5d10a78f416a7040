//! What streams of notifications cost: memory, heartbeats, and the time from a commit to its event.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use poem::FromRequest as _;
use sea_orm::{EntityTrait as _, QueryOrder as _, QuerySelect as _};
use tenantry::{
    auth::{self, Device},
    entity::users::{Column, Entity},
    notifications::{self, Event, Kind},
    references::{self, Reference},
    streams::{StreamOptions, raise_file_limit},
    users,
};
use tenants::{TenantDb, TenantName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use uuid::Uuid;

use crate::{
    Failure,
    client::percentile,
    measure::Bench,
    report::{Streams, millis, say},
    seed::{Seeder, Target},
};

/// Far more than tenants have happen to them, and little enough that what is measured is no queue.
const WRITES_PER_SECOND: u32 = 100;
/// Longer than any event takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// What stands before the number of a write, in the text of its notification.
const MARK: &str = "write-";

/// Somebody who is shown notifications.
struct Reader {
    db: TenantDb,
    user: Uuid,
    host: String,
    token: String,
}

/// Opens streams, and writes notifications for random ones of those who have them. The writer is another process than
/// the server's: each write is announced to it, which takes longest.
pub(crate) async fn measure(bench: &Bench<'_>, targets: &[Target]) -> Result<Option<Streams>, Failure> {
    let count = bench.options.streams;
    if count == 0 {
        return Ok(None);
    }
    say(&format!("opening {count} streams"));
    raise_file_limit();
    bench.seeder.app().tenancy.listen();
    let readers = readers(&bench.seeder, targets, count as usize).await?;
    let (_, before) = bench.processes.server_memory();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut streams = JoinSet::new();
    for reader in &readers {
        let stream = open(bench.service.address, reader).await?;
        let arrived = arrived.clone();
        // Errors cross tasks as text.
        streams.spawn(async move { read(stream, &arrived).await.map_err(|error| error.to_string()) });
    }
    say("waiting for two heartbeats of each");
    let heartbeat = StreamOptions::default().heartbeat;
    tokio::time::sleep(heartbeat).await;
    let used = bench.processes.cpu()?;
    tokio::time::sleep(heartbeat).await;
    let used = bench.processes.cpu()?.since(used);
    let (_, after) = bench.processes.server_memory();

    say("writing notifications");
    let committed = write(bench, &readers).await?;
    let expected: usize = committed.iter().map(|(reader, _)| streams_of(&readers, *reader)).sum();
    let mut delays = Vec::with_capacity(expected);
    while delays.len() < expected {
        let (number, at): (usize, Instant) =
            timeout(PATIENCE, arrivals.recv()).await?.ok_or("no stream is left")?;
        let (_, committed) = committed.get(number).ok_or("an event of no write")?;
        delays.push(at.saturating_duration_since(*committed));
    }
    if let Some(ended) = streams.try_join_next() {
        return Err(format!("a stream ended: {ended:?}").into());
    }
    streams.shutdown().await;
    delays.sort_unstable();
    let each = f64::from(count);
    Ok(Some(Streams {
        count,
        memory_each_kib: before
            .zip(after)
            .map(|(before, after)| f64::from(after.saturating_sub(before)) / each),
        heartbeat_server_cpu_ms: millis(used.server) / each,
        heartbeat_postgres_cpu_ms: millis(used.postgres) / each,
        events: u32::try_from(delays.len())?,
        writes_per_second: WRITES_PER_SECOND,
        delay_p50_ms: millis(percentile(&delays, 50)),
        delay_p99_ms: millis(percentile(&delays, 99)),
    }))
}

/// Signs users in, in as many tenants as there are: so that nobody has more streams than he may.
async fn readers(seeder: &Seeder, targets: &[Target], count: usize) -> Result<Vec<Reader>, Failure> {
    let app = seeder.app();
    let device = Device::from_request_without_body(&poem::Request::default()).await?;
    let mut readers = Vec::with_capacity(count);
    for (n, target) in targets.iter().enumerate().take(count) {
        // As many as are its share.
        let share = count / targets.len() + usize::from(n < count % targets.len());
        let tenant = app.tenancy.resolver().resolve(TenantName::Id(target.id)).await?;
        let db = app.tenancy.database_of(tenant.ok_or("a tenant is gone")?);
        let pks = Entity::find().select_only().column(Column::Pk).order_by_asc(Column::Pk);
        let pks: Vec<Uuid> = pks.limit(u64::try_from(share)?).into_tuple().all(&db).await?;
        let mut tokens = Vec::with_capacity(pks.len());
        for pk in pks {
            let account = users::find(&db, pk).await?.ok_or("a user is gone")?;
            let signed_in = auth::sign_in(app, &db, target.id, &account, &device).await?;
            tokens.push((pk, signed_in.token));
        }
        readers.extend(tokens.iter().cycle().take(share).map(|(user, token)| Reader {
            db: db.clone(),
            user: *user,
            host: target.host.clone(),
            token: token.clone(),
        }));
    }
    Ok(readers)
}

fn streams_of(readers: &[Reader], reader: usize) -> usize {
    let tenant = |reader: &Reader| reader.db.tenant().id;
    let him = &readers[reader];
    readers.iter().filter(|other| (tenant(other), other.user) == (tenant(him), him.user)).count()
}

async fn open(address: SocketAddr, reader: &Reader) -> Result<TcpStream, Failure> {
    let mut stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
    let request = format!(
        "GET /api/notifications/stream/ HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\nauthorization: Bearer {}\r\n\r\n",
        reader.host, reader.token
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.windows(9).any(|bytes| bytes == b": welcome") {
        if timeout(PATIENCE, stream.read_buf(&mut head)).await?? == 0 || head.len() > 4_096 {
            return Err(format!("no stream: {}", String::from_utf8_lossy(&head)).into());
        }
    }
    Ok(stream)
}

/// Tells which writes arrive when.
async fn read(
    mut stream: TcpStream,
    arrived: &mpsc::UnboundedSender<(usize, Instant)>,
) -> Result<(), Failure> {
    let mut buffer = Vec::with_capacity(2_048);
    while stream.read_buf(&mut buffer).await? > 0 {
        let now = Instant::now();
        let Some(end) = buffer.windows(2).rposition(|bytes| bytes == b"\n\n") else { continue };
        let text = str::from_utf8(&buffer[..end])?;
        for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let data: serde_json::Value = serde_json::from_str(data)?;
            let mark = data["object"]["display"].as_str().and_then(|display| display.strip_prefix(MARK));
            arrived.send((mark.ok_or("an event of nobody's")?.parse()?, now))?;
        }
        buffer.drain(..end + 2);
    }
    Err("the server ended it".into())
}

/// Writes notifications, and says for whom and when each was committed.
async fn write(bench: &Bench<'_>, readers: &[Reader]) -> Result<Vec<(usize, Instant)>, Failure> {
    let app = bench.seeder.app();
    let writes = bench.options.seconds * WRITES_PER_SECOND;
    let mut committed = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / WRITES_PER_SECOND);
    for number in 0..writes {
        pace.tick().await;
        let reader = rand::random_range(0..readers.len());
        let object = Reference::other(references::Kind::Session, None, format!("{MARK}{number}"));
        let event = Event { id: app.clock.uuid_v7(), actor: None, object };
        let tx = readers[reader].db.begin().await?;
        notifications::notify(app, &tx, &event, &[(readers[reader].user, Kind::NewDevice)]).await?;
        tx.commit().await?;
        committed.push((reader, Instant::now()));
    }
    Ok(committed)
}
