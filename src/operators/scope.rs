//! What an API key may be used for.

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::input::{Field, Wrong, choice};

/// One thing an API key may be used for. None of them includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Make and change tenants, make API keys, rotate keys.
    Provision,
    /// Delete tenants, operators and API keys.
    Destroy,
}

impl Scope {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Provision => "provision",
            Self::Destroy => "destroy",
        }
    }
}

impl Field for Scope {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        choice(value)
    }
}

/// Some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    read: bool,
    provision: bool,
    destroy: bool,
}

impl Scopes {
    /// What a person who signed in has.
    pub const ALL: Self = Self { read: true, provision: true, destroy: true };

    /// Whether this is one of them.
    #[must_use]
    pub fn has(self, scope: Scope) -> bool {
        match scope {
            Scope::Read => self.read,
            Scope::Provision => self.provision,
            Scope::Destroy => self.destroy,
        }
    }

    /// Whether all of those are among them.
    #[must_use]
    pub fn include(self, those: Self) -> bool {
        those.list().into_iter().all(|scope| self.has(scope))
    }

    /// All of them, in the order of the contract.
    #[must_use]
    pub fn list(self) -> Vec<Scope> {
        let all = [Scope::Read, Scope::Provision, Scope::Destroy];
        all.into_iter().filter(|scope| self.has(*scope)).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        let mut all = Self { read: false, provision: false, destroy: false };
        for scope in scopes {
            match scope {
                Scope::Read => all.read = true,
                Scope::Provision => all.provision = true,
                Scope::Destroy => all.destroy = true,
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_include_none_but_themselves() {
        let scopes = |list: &[Scope]| list.iter().copied().collect::<Scopes>();
        let both = scopes(&[Scope::Destroy, Scope::Read, Scope::Read]);
        assert_eq!(both.list(), [Scope::Read, Scope::Destroy]);
        assert!(both.include(scopes(&[Scope::Read])) && both.include(both) && Scopes::ALL.include(both));
        assert!(!both.include(scopes(&[Scope::Provision])) && !both.include(Scopes::ALL));
    }
}
