//! A small service behind the edge, called over real sockets.

mod bodies;
mod browsers;
mod conditions;
mod documents;
mod edges;
mod lists;
mod service;
mod wire;
