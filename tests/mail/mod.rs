//! Mails on their way: over a real conversation with a mail server, by workers, and into the browser of a developer.

#[cfg(test)]
mod conversation;
#[cfg(test)]
mod development;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod life;
#[cfg(test)]
pub(crate) mod support;
#[cfg(test)]
mod workers;
