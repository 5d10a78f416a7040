//! Who has to go when there is no room for another one.
//!
//! Whoever comes anew must not decide that alone: where the longest idle of all had to go, a crowd that keeps its connections
//! busy would drive everybody else out. So it is one of the client that has most.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::sync::Notify;

/// How long a connection is without a request at least until it may have to go: one may be on its way.
const SILENT: Duration = Duration::from_secs(1);
/// And how long where one of a client would go instead that has fewer: who has many and keeps all of them busy would drive
/// everybody else out. From nearby, a first request has come by then. Proxies are spared that, for it is many whose requests they pass on.
const OF_MANY: Duration = Duration::from_millis(25);
/// And how long since something began to come that is no request yet: a packet that was lost is sent again after a second,
/// and once more after another two (RFC 6298, 2.1 and 5.5).
const BEGUN: Duration = Duration::from_secs(3);

/// What a connection without a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// For anything.
    Silent,
    /// For the rest of a head, or of a handshake.
    Begun,
}

impl Stage {
    fn lasts(self) -> Duration {
        match self {
            Self::Silent => SILENT,
            Self::Begun => BEGUN,
        }
    }
}

/// A place among those of a client that wait: first those that wait for anything, each of them since longest.
pub(super) type Place = (Stage, u64);
/// A place among clients: who has most connections is the first, and who waits longest among those that have as many.
type Rank = (Reverse<usize>, Place, IpNet);

/// All clients that have a connection.
#[derive(Debug, Default)]
pub(super) struct Clients {
    next: u64,
    of: HashMap<IpNet, Client>,
    ranks: BTreeSet<Rank>,
}

#[derive(Debug, Default)]
struct Client {
    connections: usize,
    is_exempt: bool,
    waiting: BTreeMap<Place, (Instant, Arc<Notify>)>,
}

impl Client {
    fn rank(&self, network: IpNet) -> Option<Rank> {
        let (place, _) = self.waiting.first_key_value()?;
        Some((Reverse(self.connections), *place, network))
    }
}

impl Clients {
    /// How many connections one has.
    pub(super) fn connections(&self, network: IpNet) -> usize {
        self.of.get(&network).map_or(0, |client| client.connections)
    }

    /// It has one more. That waits for nothing yet. One that `is_exempt` has as many as there is room for.
    pub(super) fn come(&mut self, network: IpNet, is_exempt: bool) {
        self.change(network, |client| {
            client.connections += 1;
            client.is_exempt = is_exempt;
        });
    }

    /// It has one less.
    pub(super) fn leave(&mut self, network: IpNet) {
        self.change(network, |client| client.connections = client.connections.saturating_sub(1));
    }

    /// One of its connections begins to wait.
    pub(super) fn rest(&mut self, network: IpNet, stage: Stage, dismissed: Arc<Notify>) -> Place {
        let place = (stage, self.next);
        self.next += 1;
        self.change(network, |client| client.waiting.insert(place, (Instant::now(), dismissed)));
        place
    }

    /// It waits no more. Whether it had not been sent away by then.
    pub(super) fn rise(&mut self, network: IpNet, place: Place) -> bool {
        self.change(network, |client| client.waiting.remove(&place).is_some())
    }

    /// Whether it still waits.
    pub(super) fn waits(&self, network: IpNet, place: Place) -> bool {
        self.of.get(&network).is_some_and(|client| client.waiting.contains_key(&place))
    }

    /// Sends one away; else says when there may be one to send away, if there is any that waits.
    pub(super) fn dismiss(&mut self) -> Result<(), Option<Instant>> {
        let (now, mut soonest) = (Instant::now(), None::<Instant>);
        let (mut of_many, mut chosen) = (None, None);
        for &(Reverse(connections), place, network) in &self.ranks {
            let Some(client) = self.of.get(&network) else { continue };
            let Some((since, _)) = client.waiting.get(&place) else { continue };
            let until = *since + place.0.lasts();
            if until <= now {
                let heavier = of_many.filter(|(most, _)| *most > connections);
                chosen = Some(heavier.map_or((network, place), |(_, heavier)| heavier));
                break;
            }
            soonest = Some(soonest.map_or(until, |soonest| soonest.min(until)));
            let may_go = place.0 == Stage::Silent && !client.is_exempt && *since + OF_MANY <= now;
            if of_many.is_none() && may_go {
                of_many = Some((connections, (network, place)));
            }
        }
        let Some((network, place)) = chosen else { return Err(soonest) };
        if let Some((_, dismissed)) = self.change(network, |client| client.waiting.remove(&place)) {
            dismissed.notify_one();
        }
        Ok(())
    }

    fn change<T>(&mut self, network: IpNet, change: impl FnOnce(&mut Client) -> T) -> T {
        let client = self.of.entry(network).or_default();
        if let Some(rank) = client.rank(network) {
            self.ranks.remove(&rank);
        }
        let changed = change(client);
        if let Some(rank) = client.rank(network) {
            self.ranks.insert(rank);
        } else if client.connections == 0 {
            self.of.remove(&network);
        }
        changed
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }
}
