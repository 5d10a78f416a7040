//! What stands between the service and everybody: how much it takes on, how long it waits, and how it speaks TLS.

#[cfg(test)]
mod clocks;
#[cfg(test)]
mod encryption;
#[cfg(test)]
mod shedding;
#[cfg(test)]
mod slowness;
#[cfg(test)]
mod support;
