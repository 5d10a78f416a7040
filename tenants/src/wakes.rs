//! Who is to be woken in other processes, and how they are told.

use std::{collections::HashSet, str::FromStr};

use uuid::Uuid;

use crate::listener::Nonsense;

/// How many users are noted to be announced. Where there are more, so many are to look that all may as well.
const MOST_NOTED: usize = 4_096;
/// How long the text of an announcement is at most: PostgreSQL takes less than 8,000 bytes.
const ANNOUNCEMENT_BYTES: usize = 7_900;

/// A user of a tenant.
pub(crate) type Who = (Uuid, Uuid);

/// Who is to be woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wakes {
    /// These.
    Of(HashSet<Who>),
    /// All there are.
    Everybody,
}

impl Default for Wakes {
    fn default() -> Self {
        Self::Of(HashSet::new())
    }
}

impl Wakes {
    /// Whether that is nobody.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Of(whom) if whom.is_empty())
    }

    /// Wakes these, too.
    pub(crate) fn add(&mut self, others: Self) {
        if let (Self::Of(whom), Self::Of(others)) = (&mut *self, others) {
            whom.extend(others);
            if whom.len() <= MOST_NOTED {
                return;
            }
        }
        *self = Self::Everybody;
    }
}

/// What one process tells the others: `wake`, who says so, and tenants and users or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) origin: Uuid,
    /// `None`: everybody.
    pub(crate) whom: Option<Vec<Who>>,
}

/// The texts that announce this, each short enough for one NOTIFY; they are made of letters, digits, blanks, `*` and `/`.
pub(crate) fn announcements(origin: Uuid, wakes: &Wakes) -> Vec<String> {
    let start = format!("wake {}", origin.simple());
    let Wakes::Of(whom) = wakes else { return vec![start + " *"] };
    let mut texts: Vec<String> = Vec::new();
    for (tenant, user) in whom {
        let one = format!(" {}/{}", tenant.simple(), user.simple());
        match texts.last_mut() {
            Some(text) if text.len() + one.len() <= ANNOUNCEMENT_BYTES => text.push_str(&one),
            _ => texts.push(format!("{start}{one}")),
        }
    }
    texts
}

impl FromStr for Announcement {
    type Err = Nonsense;

    fn from_str(text: &str) -> Result<Self, Nonsense> {
        let id = |text: &str| Uuid::try_parse(text).map_err(|_| Nonsense);
        let rest = text.strip_prefix("wake ").ok_or(Nonsense)?;
        let (origin, whom) = rest.split_once(' ').ok_or(Nonsense)?;
        let origin = id(origin)?;
        if whom == "*" {
            return Ok(Self { origin, whom: None });
        }
        let who = |who: &str| {
            let (tenant, user) = who.split_once('/').ok_or(Nonsense)?;
            Ok((id(tenant)?, id(user)?))
        };
        Ok(Self { origin, whom: Some(whom.split(' ').map(who).collect::<Result<_, _>>()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> Uuid {
        Uuid::from_u128(n as u128)
    }

    fn wakes(count: usize) -> Wakes {
        Wakes::Of((0..count).map(|n| (id(n), id(n + 1))).collect())
    }

    #[test]
    fn announcements_are_understood_as_they_were_meant_however_many_they_name() {
        for count in [1, 2, 118, 119, 120, 121, 1_000, MOST_NOTED] {
            let texts = announcements(id(7), &wakes(count));
            let mut heard = HashSet::new();
            for text in &texts {
                assert!(text.len() < 8_000, "{}", text.len());
                let announcement: Announcement = text.parse().unwrap();
                assert_eq!(announcement.origin, id(7));
                heard.extend(announcement.whom.unwrap());
            }
            assert_eq!(Wakes::Of(heard), wakes(count));
            assert_eq!(texts.len(), count.div_ceil(119), "{count} users");
        }
        let [text] = announcements(id(7), &Wakes::Everybody).try_into().unwrap();
        assert_eq!(text.parse(), Ok(Announcement { origin: id(7), whom: None }));
        assert!(announcements(id(7), &Wakes::default()).is_empty());
    }

    #[test]
    fn what_makes_no_sense_wakes_nobody() {
        let (a, b) = (id(1).simple(), id(2).simple());
        for text in [
            "",
            "wake",
            "wake ",
            "wake *",
            &format!("wake {a}"),
            &format!("wake {a} "),
            &format!("wake {a} {b}"),
            &format!("wake {a} {b}/"),
            &format!("wake {a} {b}/{a} "),
            &format!("wake {a}  *"),
            &format!("wake x {a}/{b}"),
            "💥",
        ] {
            assert_eq!(text.parse::<Announcement>(), Err(Nonsense), "{text:?}");
        }
    }

    #[test]
    fn of_too_many_everybody_is_told() {
        let mut noted = Wakes::default();
        assert!(noted.is_empty());
        noted.add(wakes(MOST_NOTED));
        assert_eq!(noted, wakes(MOST_NOTED));
        // Who is noted already makes them no more.
        noted.add(wakes(1));
        assert_eq!(noted, wakes(MOST_NOTED));
        noted.add(wakes(MOST_NOTED + 1));
        assert_eq!(noted, Wakes::Everybody);
        noted.add(wakes(1));
        assert_eq!(noted, Wakes::Everybody);
    }
}
