//! Argon2id, on threads of its own that give way to those that serve requests, with a bounded queue in front.

use std::{
    fmt,
    fmt::Display,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, available_parallelism},
    time::Instant,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use secrecy::{ExposeSecret, SecretString};
use tenants::{Timing, TimingFigures};
use tokio::sync::{Semaphore, TryAcquireError, oneshot};

use tracing::Instrument as _;

use super::stored::StoredHash;
use crate::{http::input::Wrong, users::identity::Password};

/// 19 MiB, two passes, one lane: the first choice of OWASP's Password Storage Cheat Sheet.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const PARALLELISM: u32 = 1;
/// How many blocks that is: a block has a KiB.
const USUAL_BLOCKS: usize = MEMORY_KIB as usize;

/// How many may wait for each core. A hash takes some 20 ms, so the last in the queue waits about a second.
const QUEUE_PER_CORE: usize = 48;

/// Why a password was not hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum HasherError {
    /// The queue is full: come back in a second.
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    /// A stored hash does not parse, or the hash was aborted.
    #[error("hashing failed: {0}")]
    Failed(String),
}

/// Hashes and checks passwords, at most one at a time for each core.
#[derive(Clone, Debug)]
pub struct Hasher {
    /// One permit for everybody who is hashing or waiting.
    queue: Arc<Semaphore>,
    threads: Threads,
    memory: Memory,
    /// How many were hashed or checked.
    runs: Arc<AtomicU64>,
    /// How it goes.
    counts: Arc<Counts>,
    /// What the password of somebody who does not exist is checked against, so that the answer takes as long.
    nobody: Arc<str>,
}

/// How hashing goes.
#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    running: AtomicUsize,
    refused: AtomicU64,
    wait: Timing,
    time: Timing,
}

/// A look at how hashing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HasherFigures {
    /// How many wait for their turn.
    pub waiting: usize,
    /// How many have it.
    pub running: usize,
    /// How many found the queue full.
    pub refused: u64,
    /// How long they waited.
    pub wait: TimingFigures,
    /// How long it took then.
    pub time: TimingFigures,
}

/// The memory that Argon2 fills, kept from one hash to the next: at most one piece for each core. Taken from the
/// allocator for each hash, it would have to be mapped page by page again, and each thread that has hashed would keep
/// its own.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Vec<Vec<Block>>>>);

impl Memory {
    fn with<T>(&self, blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
        let mut memory = self.pieces().pop().unwrap_or_default();
        memory.resize(blocks, Block::default());
        let result = work(&mut memory);
        // An old hash may have needed more than those of today, which nobody needs to keep.
        memory.truncate(USUAL_BLOCKS);
        memory.shrink_to(USUAL_BLOCKS);
        self.pieces().push(memory);
        result
    }

    fn pieces(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Block>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hasher {
    /// A hasher for this machine.
    ///
    /// # Errors
    /// [`HasherError::Failed`], if Argon2 refuses its parameters.
    pub fn new() -> Result<Self, HasherError> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let memory = Memory::default();
        Ok(Self {
            queue: Arc::new(Semaphore::new(cores * (QUEUE_PER_CORE + 1))),
            threads: Threads::start(cores).map_err(failed)?,
            nobody: hash(&memory, &[])?.into(),
            memory,
            runs: Arc::default(),
            counts: Arc::default(),
        })
    }

    /// The hash of a password, in the PHC string format, with a random salt.
    ///
    /// # Errors
    /// [`HasherError::Busy`] at once, when the queue is full.
    pub async fn hash(&self, password: SecretString) -> Result<String, HasherError> {
        let memory = self.memory.clone();
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.run(move || hash(&memory, password.expose_secret().as_bytes())).await?
    }

    /// What [`judge`](super::judge) says of a password: it may take as long as a hash, so it waits in the same queue.
    ///
    /// # Errors
    /// [`HasherError::Busy`] at once, when the queue is full.
    pub async fn judge(
        &self,
        password: &Password,
        own_words: &[&str],
    ) -> Result<Result<(), Wrong>, HasherError> {
        let password = password.clone();
        let own_words: Vec<String> = own_words.iter().map(|&word| word.to_owned()).collect();
        self.run(move || super::judge(&password, &own_words)).await
    }

    /// Whether this is the password that was hashed. With no hash, for somebody who does not exist, the answer is no
    /// and takes as long.
    ///
    /// # Errors
    /// [`HasherError::Busy`] at once, when the queue is full; [`HasherError::Failed`] for a hash that does not parse.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, HasherError> {
        let (memory, nobody) = (self.memory.clone(), Arc::clone(&self.nobody));
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.run(move || {
            let matches =
                matches(&memory, password.expose_secret().as_bytes(), hash.as_deref().unwrap_or(&nobody))?;
            Ok(matches && hash.is_some())
        })
        .await?
    }

    /// How many passwords were hashed or checked so far.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// How it goes.
    #[must_use]
    pub fn figures(&self) -> HasherFigures {
        let counts = &self.counts;
        HasherFigures {
            waiting: counts.waiting.load(Ordering::Relaxed),
            running: counts.running.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
            wait: counts.wait.figures(),
            time: counts.time.figures(),
        }
    }

    /// Whether a hash was made with other parameters than those of today.
    #[must_use]
    pub fn is_outdated(&self, hash: &str) -> bool {
        let today = PasswordHash::new(&self.nobody);
        match (PasswordHash::new(hash), today) {
            (Ok(hash), Ok(today)) => {
                (hash.algorithm, hash.version, &hash.params)
                    != (today.algorithm, today.version, &today.params)
            }
            _ => true,
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HasherError> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                HasherError::Busy
            }
            TryAcquireError::Closed => HasherError::Failed("the hasher is closed".into()),
        })?;
        let (sender, result) = oneshot::channel();
        let (waiting, counts) = (One::more(&self.counts, |counts| &counts.waiting), Arc::clone(&self.counts));
        let since = Instant::now();
        self.threads.run(move || {
            // Held until the work is done, also when the request that asked for it is gone. One that is gone before it
            // had its turn costs nothing.
            let _held = place;
            drop(waiting);
            if !sender.is_closed() {
                counts.wait.note(since.elapsed());
                let (_running, since) = (One::more(&counts, |counts| &counts.running), Instant::now());
                let done = work();
                counts.time.note(since.elapsed());
                sender.send(done).ok();
            }
        });
        let span = tracing::info_span!(target: "trace", "hashing");
        result
            .instrument(span)
            .await
            .map_err(|_| HasherError::Failed("the work broke: the log of that time says where".into()))
    }
}

/// One more of those who wait or run, until it is dropped.
struct One(Arc<Counts>, fn(&Counts) -> &AtomicUsize);

impl One {
    fn more(counts: &Arc<Counts>, which: fn(&Counts) -> &AtomicUsize) -> Self {
        which(counts).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts), which)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.1(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far hashing steps back: a thread that serves a request gets the core at once, and nine tenths of it for as long as
/// it wants. Someone who signs in may wait; those who are at work notice nothing of a thousand who sign in.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

#[cfg(target_os = "linux")]
fn step_back() -> rustix::io::Result<()> {
    let this = Some(rustix::thread::gettid());
    let niceness = rustix::process::getpriority_process(this)?;
    rustix::process::setpriority_process(this, niceness + NICENESS)
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread for each core. They end with the last one who could give them work.
#[derive(Clone)]
struct Threads(mpsc::Sender<Work>);

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Threads")
    }
}

impl Threads {
    fn start(count: usize) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Work>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..count {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new().name("hasher".into()).spawn(move || {
                // Of this thread alone, on Linux: elsewhere it would be the whole process.
                #[cfg(target_os = "linux")]
                step_back().ok();
                loop {
                    // One waits for work, the others for him.
                    let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(work) = next else { return };
                    // The panic has written its own line into the log, and who waits for the result hears that there is none.
                    catch_unwind(AssertUnwindSafe(work)).ok();
                }
            })?;
        }
        Ok(Self(sender))
    }

    fn run(&self, work: impl FnOnce() + Send + 'static) {
        // The threads go on for as long as there is a sender. Work that is dropped tells who waits for it.
        self.0.send(Box::new(work)).ok();
    }
}

fn failed(error: impl Display) -> HasherError {
    HasherError::Failed(error.to_string())
}

/// A new hash, with the parameters of today and a random salt.
fn hash(memory: &Memory, password: &[u8]) -> Result<String, HasherError> {
    let params = Params::new(MEMORY_KIB, PASSES, PARALLELISM, None).map_err(failed)?;
    let salt = Salt::new(&rand::random::<[u8; 16]>()).map_err(failed)?;
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    fill(memory, Version::V0x13, &params, password, &salt, &mut output)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(failed)?,
        salt: Some(salt),
        hash: Some(Output::new(&output).map_err(failed)?),
    };
    Ok(hash.to_string())
}

/// Whether this password was hashed to that, with the parameters the hash itself names.
fn matches(memory: &Memory, password: &[u8], hash: &str) -> Result<bool, HasherError> {
    let StoredHash { version, params, salt, expected } = StoredHash::parse(hash).map_err(failed)?;
    let mut output = vec![0; expected.len()];
    fill(memory, version, &params, password, &salt, &mut output)?;
    // Outputs are compared in constant time.
    Ok(Output::new(&output).map_err(failed)? == expected)
}

fn fill(
    memory: &Memory,
    version: Version,
    params: &Params,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
) -> Result<(), HasherError> {
    let argon2 = Argon2::new(Algorithm::Argon2id, version, params.clone());
    memory
        .with(params.block_count(), |blocks| {
            argon2.hash_password_into_with_memory(password, salt, output, blocks)
        })
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let hasher = Hasher::new().unwrap();
        let hash = hasher.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(!hasher.is_outdated(&hash));
        assert!(hasher.is_outdated(&hash.replace("t=2", "t=3")));
        assert!(hasher.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify("Correct horse".into(), Some(hash)).await.unwrap());
    }

    #[test]
    fn a_hash_is_checked_by_its_own_parameters_and_by_anybody() {
        use argon2::{PasswordHasher as _, PasswordVerifier as _};

        let memory = Memory::default();
        let params = Params::new(8 * 1024, 3, 2, Some(24)).unwrap();
        let other =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(b"password").unwrap();
        let other = other.to_string();
        assert!(matches(&memory, b"password", &other).unwrap(), "{other}");
        assert!(!matches(&memory, b"Password", &other).unwrap());
        let own = super::hash(&memory, b"password").unwrap();
        assert!(Argon2::default().verify_password(b"password", own.as_str()).is_ok());
        assert_eq!(memory.pieces().len(), 1, "one piece of memory did for all");
    }

    #[tokio::test]
    async fn nobody_has_a_password() {
        let hasher = Hasher::new().unwrap();
        assert!(!hasher.verify("".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn work_that_breaks_is_told_and_breaks_nothing_else() {
        let hasher = Hasher::new().unwrap();
        for _ in 0..=available_parallelism().unwrap().get() {
            let broke = hasher.run(|| panic!("on purpose")).await;
            assert!(matches!(broke, Err(HasherError::Failed(_))), "{broke:?}");
        }
        assert_eq!(hasher.run(|| 1).await.unwrap(), 1);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn hashing_gives_way_and_nothing_else_does() {
        let niceness = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let before = niceness();
        let hashing = Hasher::new().unwrap().run(niceness).await.unwrap();
        assert_eq!(hashing, (before + NICENESS).min(19), "of the thread that hashes");
        assert_eq!(niceness(), before, "of the others");
    }

    #[tokio::test]
    async fn a_full_queue_says_so_at_once() {
        let hasher = Hasher::new().unwrap();
        let all = u32::try_from(hasher.queue.available_permits()).unwrap();
        let _full = hasher.queue.acquire_many(all).await.unwrap();
        assert!(matches!(hasher.hash("anything".into()).await, Err(HasherError::Busy)));
    }
}
