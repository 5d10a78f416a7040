//! Lists, page by page.

mod unread;

use std::{borrow::Cow, marker::PhantomData};

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;
use url::form_urlencoded;

pub use self::unread::UnreadPage;
use super::{
    edge::Origin, error::Problem, field_errors::FieldErrors, input::too_long, query, routes::canonical,
};

/// How many results a page has if nobody says.
pub const DEFAULT_PAGE_SIZE: u64 = 20;
/// How many it has at most.
pub const MAX_PAGE_SIZE: u64 = 100;
/// How long a search may be, in characters.
const MAX_SEARCH: usize = 200;
/// Every word is a condition of its own in the query.
const MAX_WORDS: usize = 10;

/// What a list can do.
pub trait Listing: Send + Sync + 'static {
    /// The fields a client may order by, in either direction.
    const FIELDS: &'static [&'static str];
    /// The order if nobody asks for one: a field, behind `-` if descending.
    const DEFAULT: &'static str;
    /// What a search looks at, for the document; `None` if there is no search.
    const SEARCH: Option<&'static str>;
}

/// One criterion of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// One of the listing's fields.
    pub field: &'static str,
    /// From the last to the first.
    pub descending: bool,
}

impl Order {
    fn of(text: &str, fields: &'static [&'static str]) -> Option<Self> {
        let name = text.strip_prefix('-');
        let field = fields.iter().find(|field| **field == name.unwrap_or(text))?;
        Some(Self { field, descending: name.is_some() })
    }
}

/// How a query is ordered that goes by one column, and by the id where that is the same.
#[must_use]
pub fn direction(descending: bool) -> sea_orm::Order {
    if descending { sea_orm::Order::Desc } else { sea_orm::Order::Asc }
}

/// Which page a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// This one, from 1.
    At(u64),
    /// The last one.
    Last,
    /// One there can't be.
    Nonsense,
}

/// Which part of a list a request asks for.
#[derive(Debug)]
pub struct PageQuery<L> {
    number: Number,
    size: u64,
    words: Vec<String>,
    order: Vec<Order>,
    links: Links,
    listing: PhantomData<fn() -> L>,
}

/// What the links to other pages are made of.
#[derive(Debug)]
struct Links {
    origin: String,
    path: String,
    query: String,
}

/// The rows of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many rows come before it.
    pub offset: u64,
    /// How many it has at most.
    pub limit: u64,
    number: u64,
    count: u64,
}

impl<L: Listing> PageQuery<L> {
    /// The words a row must have, all of them.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The order asked for, or the default; never empty. Ties are to be broken by id.
    #[must_use]
    pub fn order(&self) -> &[Order] {
        &self.order
    }

    /// Whether the last of the first criterion comes first.
    #[must_use]
    pub fn is_descending(&self) -> bool {
        self.order.first().is_some_and(|order| order.descending)
    }

    /// The rows to read of a list with `count` rows.
    ///
    /// # Errors
    /// 404 for a page that is not there. Page 1 always is.
    pub fn window(&self, count: u64) -> Result<Window, Problem> {
        let last = count.div_ceil(self.size).max(1);
        let number = match self.number {
            Number::At(number) if (1..=last).contains(&number) => number,
            Number::Last => last,
            Number::At(_) | Number::Nonsense => return Err(Problem::invalid_page()),
        };
        Ok(Window { offset: (number - 1) * self.size, limit: self.size, number, count })
    }

    /// The answer: these rows and the links to those before and after.
    #[must_use]
    pub fn page<T>(&self, window: &Window, results: Vec<T>) -> Page<T> {
        let more = window.offset + window.limit < window.count;
        Page {
            count: window.count,
            next: more.then(|| self.links.to(window.number + 1)),
            previous: (window.number > 1).then(|| self.links.to(window.number - 1)),
            results,
        }
    }

    fn read(request: &Request) -> Result<Self, Problem> {
        let origin = request.data::<Origin>().map(|origin| origin.0.to_string()).unwrap_or_default();
        let path = canonical(request.original_uri().path());
        Self::of(origin, path, request.uri().query().unwrap_or_default())
    }

    /// What a query string asks for. Its links lead nowhere: for whoever asks for a page without a request.
    ///
    /// # Errors
    /// 400 for a search that makes no sense.
    pub fn parse(query: &str) -> Result<Self, Problem> {
        Self::of(String::new(), String::new(), query)
    }

    fn of(origin: String, path: String, query: &str) -> Result<Self, Problem> {
        let [mut page, mut page_size, mut search, mut ordering] = [const { Cow::Borrowed("") }; 4];
        // Of a parameter given twice the last one counts, as in Django.
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "page" => page = value,
                "page_size" => page_size = value,
                "search" if L::SEARCH.is_some() => search = value,
                "ordering" => ordering = value,
                _ => {}
            }
        }
        Ok(Self {
            number: page_number(page.trim()),
            size: size(page_size.trim()),
            words: words(&search)?,
            order: order::<L>(&ordering),
            links: Links { origin, path, query: query.to_owned() },
            listing: PhantomData,
        })
    }
}

fn page_number(text: &str) -> Number {
    match text {
        "" => Number::At(1),
        "last" => Number::Last,
        text if digits(text) => text.parse().map_or(Number::Nonsense, Number::At),
        _ => Number::Nonsense,
    }
}

fn size(text: &str) -> u64 {
    if !digits(text) {
        return DEFAULT_PAGE_SIZE;
    }
    // Digits that don't fit are a size all the same: a large one.
    match text.parse().unwrap_or(u64::MAX) {
        0 => DEFAULT_PAGE_SIZE,
        size => size.min(MAX_PAGE_SIZE),
    }
}

/// `parse` alone would take a sign, too.
fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn words(search: &str) -> Result<Vec<String>, Problem> {
    let mut errors = FieldErrors::new();
    if search.len() > MAX_SEARCH && search.chars().count() > MAX_SEARCH {
        errors.push("search", too_long(MAX_SEARCH));
    }
    if search.contains('\0') {
        errors.push("search", "Null characters are not allowed.");
    }
    let words: Vec<&str> = search.split_whitespace().take(MAX_WORDS + 1).collect();
    if words.len() > MAX_WORDS {
        errors.push("search", format!("Ensure this field has no more than {MAX_WORDS} words."));
    }
    errors.into_result()?;
    Ok(words.into_iter().map(str::to_owned).collect())
}

fn order<L: Listing>(ordering: &str) -> Vec<Order> {
    let mut order: Vec<Order> = Vec::new();
    for wish in ordering.split(',').filter_map(|text| Order::of(text.trim(), L::FIELDS)) {
        if order.iter().all(|known| known.field != wish.field) {
            order.push(wish);
        }
    }
    if order.is_empty() {
        order.extend(Order::of(L::DEFAULT, L::FIELDS));
    }
    order
}

impl Links {
    /// The link to a page: this request's, with another `page`, which page 1 leaves out. The other parameters stay as the
    /// client wrote them.
    fn to(&self, number: u64) -> String {
        let mut link = format!("{}{}", self.origin, self.path);
        let mut separator = '?';
        let is_page = |pair: &&str| {
            form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(name, _)| name == "page")
        };
        // `pair.is_empty()` would be that of `poem_openapi`'s `Type`, which says no to every string.
        for pair in self.query.split('&').filter(|pair| !str::is_empty(pair) && !is_page(pair)) {
            link.push(separator);
            link.push_str(pair);
            separator = '&';
        }
        if number > 1 {
            link.push(separator);
            link.push_str("page=");
            link.push_str(&number.to_string());
        }
        link
    }
}

impl<'a, L: Listing> ApiExtractor<'a> for PageQuery<L> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        Some(query::describe(parameters::<L>()))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self::read(request)?)
    }
}

fn parameters<L: Listing>() -> Vec<(&'static str, MetaSchema)> {
    let mut page = MetaSchema::new("string");
    page.description = Some("Which page, from 1; `last` is the last one.");
    page.default = Some("1".into());
    let mut size = MetaSchema::new("integer");
    size.description = Some("How many results a page has; more than 100 count as 100.");
    size.default = Some(DEFAULT_PAGE_SIZE.into());
    size.minimum = Some(1.0);
    let mut ordering = MetaSchema::new("string");
    ordering.description =
        Some("In which order; `-` before a field turns it around, commas separate several.");
    ordering.default = Some(L::DEFAULT.into());
    ordering.enum_items =
        L::FIELDS.iter().flat_map(|field| [(*field).into(), format!("-{field}").into()]).collect();
    let mut parameters = vec![("page", page), ("page_size", size), ("ordering", ordering)];
    if let Some(what) = L::SEARCH {
        let mut search = MetaSchema::new("string");
        search.description = Some(what);
        search.max_length = Some(MAX_SEARCH);
        parameters.push(("search", search));
    }
    parameters
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    count: u64,
    next: Option<String>,
    previous: Option<String>,
    results: Vec<T>,
}

impl<T> Page<T> {
    /// Those of this page.
    #[must_use]
    pub fn into_results(self) -> Vec<T> {
        self.results
    }
}

impl<T: Type> Type for Page<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    /// `UserPage` for a `UserOut`.
    fn name() -> Cow<'static, str> {
        let item = T::name();
        format!("{}Page", item.strip_suffix("Out").unwrap_or(&item)).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(Self::name().into_owned())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(Self::name().into_owned(), describe::<T>);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

/// The schema of a page of these.
fn describe<T: Type>(registry: &mut Registry) -> MetaSchema {
    T::register(registry);
    let link = |description| {
        let format = Some("uri");
        let schema = MetaSchema {
            format,
            description: Some(description),
            nullable: true,
            ..MetaSchema::new("string")
        };
        MetaSchemaRef::Inline(Box::new(schema))
    };
    MetaSchema {
        description: Some("One page of a list."),
        required: vec!["count", "next", "previous", "results"],
        properties: vec![
            ("count", number("How many there are on all pages.")),
            ("next", link("The page after this one.")),
            ("previous", link("The page before this one.")),
            ("results", Vec::<T>::schema_ref()),
        ],
        ..MetaSchema::new("object")
    }
}

fn number(description: &'static str) -> MetaSchemaRef {
    let schema =
        MetaSchema { description: Some(description), ..MetaSchema::new_with_format("integer", "int64") };
    MetaSchemaRef::Inline(Box::new(schema))
}

#[cfg(test)]
mod tests;
