//! A page of a list whose rows can be read and unread.

use std::borrow::Cow;

use poem_openapi::{
    registry::{MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

use super::{Page, describe, number};

/// As [`Page`], and how many are unread of all there are, whatever the page shows.
#[derive(Debug, Serialize)]
pub struct UnreadPage<T> {
    count: u64,
    unread_count: u64,
    next: Option<String>,
    previous: Option<String>,
    results: Vec<T>,
}

impl<T> Page<T> {
    /// The same page, which tells how many are unread, too.
    #[must_use]
    pub fn with_unread(self, unread_count: u64) -> UnreadPage<T> {
        let Self { count, next, previous, results } = self;
        UnreadPage { count, unread_count, next, previous, results }
    }
}

impl<T: Type> Type for UnreadPage<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        Page::<T>::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        Page::<T>::schema_ref()
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(Self::name().into_owned(), |registry| {
            let mut schema = describe::<T>(registry);
            schema.required.insert(1, "unread_count");
            schema.properties.insert(1, ("unread_count", number("How many of all are unread.")));
            schema
        });
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}
