//! Inputs: structs whose fields know their own bounds, read with all errors at once in Django REST framework's words.

mod choice;
mod list;
mod name;
mod nested;
mod verbatim;

use std::{borrow::Cow, ops::Deref};

use chrono::{DateTime, SubsecRound as _, Utc};
use poem_openapi::{
    registry::MetaSchema,
    types::{MaybeUndefined, Type},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{error::Sentence, field_errors::FieldErrors};

pub use choice::choice;
pub use list::List;
pub use name::Name;
pub(crate) use name::shows_nothing;
pub use nested::nested;
pub use verbatim::Verbatim;

/// What is wrong with one field.
pub type Wrong = Vec<Sentence>;

/// What is wrong with what is not there and has to be.
pub(crate) const REQUIRED: &str = "This field is required.";
const NULL: &str = "This field may not be null.";
/// What is wrong with an empty text where there has to be one.
pub(crate) const BLANK: &str = "This field may not be blank.";
const NOT_A_STRING: &str = "Not a valid string.";

/// A type that a member of an input can have.
pub trait Field: Type + Sized {
    /// Whether null is a value of it.
    const NULLABLE: bool = false;

    /// Reads a value that is there and not null.
    ///
    /// # Errors
    /// The sentences for the client.
    fn from_value(value: Value) -> Result<Self, Wrong>;

    /// Reads the member: `None` is one that is not there.
    ///
    /// # Errors
    /// The sentences for the client.
    fn parse(member: Option<Value>) -> Result<Self, Wrong> {
        match member {
            None => wrong(REQUIRED),
            Some(Value::Null) => wrong(NULL),
            Some(value) => Self::from_value(value),
        }
    }
}

/// An object that [`input!`](crate::input) declared.
pub trait Input: Type + Sized + Send {
    /// Takes every field out of the object and notes all that is wrong; `None` if anything is.
    fn collect(object: &mut Map<String, Value>, errors: &mut FieldErrors) -> Option<Self>;
}

/// Takes one field out of an object.
pub fn take<T: Field>(
    object: &mut Map<String, Value>,
    name: &'static str,
    errors: &mut FieldErrors,
) -> Option<T> {
    let name = name.strip_prefix("r#").unwrap_or(name);
    match T::parse(object.remove(name)) {
        Ok(value) => Some(value),
        Err(sentences) => {
            errors.extend(name, sentences);
            None
        }
    }
}

/// The one sentence that is wrong.
///
/// # Errors
/// Always.
pub fn wrong<T>(sentence: impl Into<Sentence>) -> Result<T, Wrong> {
    Err(vec![sentence.into()])
}

/// The string a value is. Numbers and booleans are not: taking `1` for `"1"` hides mistakes.
///
/// # Errors
/// "Not a valid string."
pub fn string(value: Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        _ => wrong(NOT_A_STRING),
    }
}

/// Checks the length of a text, in characters; a text that may not be empty is blank when it is.
///
/// # Errors
/// The sentence that names the bound.
pub fn bounded(text: &str, min: usize, max: usize) -> Result<(), Wrong> {
    if text.is_empty() && min > 0 {
        return wrong(BLANK);
    }
    // The bytes bound the characters from above, so the usual text is measured without being walked.
    if (text.len() > max || text.len() < min * char::MAX.len_utf8())
        && !(min..=max).contains(&text.chars().count())
    {
        let more = text.chars().count() > max;
        return wrong(if more { too_long(max) } else { too_short(min) });
    }
    Ok(())
}

/// "Ensure this field has no more than `max` characters."
#[must_use]
pub fn too_long(max: usize) -> String {
    format!("Ensure this field has no more than {max} {}.", characters(max))
}

fn too_short(min: usize) -> String {
    format!("Ensure this field has at least {min} {}.", characters(min))
}

fn characters(n: usize) -> &'static str {
    if n == 1 { "character" } else { "characters" }
}

/// A text of `MIN` to `MAX` characters, without white space around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text itself.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> Deref for Text<MIN, MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> From<Text<MIN, MAX>> for String {
    fn from(text: Text<MIN, MAX>) -> Self {
        text.0
    }
}

impl<const MIN: usize, const MAX: usize> Field for Text<MIN, MAX> {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let text = trimmed(string(value)?);
        bounded(&text, MIN, MAX)?;
        Ok(Self(text))
    }
}

/// The text without white space around it, copied only if there is some.
#[must_use]
pub fn trimmed(text: String) -> String {
    let inner = text.trim();
    if inner.len() == text.len() { text } else { inner.to_owned() }
}

/// Says to the document that a type is a string; what else it says about it is up to `describe`.
macro_rules! string_type {
    ([$($generics:tt)*] $type:ty, $name:expr, $describe:expr) => {
        impl<$($generics)*> ::poem_openapi::types::Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> ::std::borrow::Cow<'static, str> {
                ::std::convert::Into::into($name)
            }

            fn schema_ref() -> ::poem_openapi::registry::MetaSchemaRef {
                let mut schema = ::poem_openapi::registry::MetaSchema::new("string");
                let describe: fn(&mut ::poem_openapi::registry::MetaSchema) = $describe;
                describe(&mut schema);
                ::poem_openapi::registry::MetaSchemaRef::Inline(::std::boxed::Box::new(schema))
            }

            fn as_raw_value(&self) -> ::std::option::Option<&Self> {
                ::std::option::Option::Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> ::std::boxed::Box<dyn ::std::iter::Iterator<Item = &'a Self> + 'a> {
                ::std::boxed::Box::new(::std::iter::once(self))
            }
        }
    };
}
pub(crate) use string_type;

string_type!([const MIN: usize, const MAX: usize] Text<MIN, MAX>, format!("text_{MIN}_{MAX}"), |schema| {
    lengths::<MIN, MAX>(schema);
});

/// Writes the bounds of a text into its schema.
pub(crate) fn lengths<const MIN: usize, const MAX: usize>(schema: &mut MetaSchema) {
    schema.min_length = (MIN > 0).then_some(MIN);
    schema.max_length = Some(MAX);
}

impl Field for bool {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        value.as_bool().map_or_else(|| wrong("Must be a valid boolean."), Ok)
    }
}

impl Field for Uuid {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let id = value.as_str().and_then(|text| Uuid::try_parse(text).ok());
        id.map_or_else(|| wrong("Must be a valid UUID."), Ok)
    }
}

impl Field for DateTime<Utc> {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let time = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        time.map_or_else(
            || {
                wrong(
                    "Datetime has wrong format. Use one of these formats instead: \
                     YYYY-MM-DDThh:mm:ss[.uuuuuu][+HH:MM|-HH:MM|Z].",
                )
            },
            |time| Ok(time.to_utc().trunc_subsecs(6)),
        )
    }
}

/// Integers are read as the widest type there is, so that one out of bounds is told apart from one that is none.
macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn from_value(value: Value) -> Result<Self, Wrong> {
                let wide = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
                let Some(wide) = wide else { return wrong("A valid integer is required.") };
                Self::try_from(wide).or_else(|_| wrong(if wide < 0 {
                    format!("Ensure this value is greater than or equal to {}.", Self::MIN)
                } else {
                    format!("Ensure this value is less than or equal to {}.", Self::MAX)
                }))
            }
        }
    )*};
}
integers!(i16, i32, i64, u16, u32, u64);

/// Optional, and if it is there not null.
impl<T: Field> Field for Option<T> {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        T::from_value(value).map(Some)
    }

    fn parse(member: Option<Value>) -> Result<Self, Wrong> {
        match member {
            None => Ok(None),
            member => T::parse(member).map(Some),
        }
    }
}

/// Optional, and null says "none": for a PATCH that can take a value away.
impl<T: Field> Field for MaybeUndefined<T> {
    const NULLABLE: bool = true;

    fn from_value(value: Value) -> Result<Self, Wrong> {
        T::from_value(value).map(Self::Value)
    }

    fn parse(member: Option<Value>) -> Result<Self, Wrong> {
        match member {
            None => Ok(Self::Undefined),
            Some(Value::Null) => Ok(Self::Null),
            Some(value) => Self::from_value(value),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let Value::Array(values) = value else {
            let kind = kind(&value);
            return wrong(format!("Expected a list of items but got type \"{kind}\"."));
        };
        let mut items = Self::with_capacity(values.len());
        let mut sentences = Wrong::new();
        for (index, value) in values.into_iter().enumerate() {
            match T::parse(Some(value)) {
                Ok(item) => items.push(item),
                Err(found) => sentences.extend(found.into_iter().map(|sentence| in_item(index, &sentence))),
            }
        }
        if sentences.is_empty() { Ok(items) } else { Err(sentences) }
    }
}

// Errors are lists of sentences, one level deep; an item's are told apart by its place in the list.
fn in_item(index: usize, sentence: &str) -> Sentence {
    Cow::Owned(format!("Item {}: {sentence}", index + 1))
}

/// What Django REST framework calls the type of a value.
#[must_use]
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// Declares an input: a struct, its schema and its parser. A field of type `Option<T>` may be left out; a PATCH is an
/// input whose every field is one. Doc comments become the document's descriptions.
///
/// ```
/// tenantry::input! {
///     /// Who knocks.
///     pub struct LoginIn {
///         /// The name chosen at sign-up.
///         pub username: tenantry::http::Text<1, 150>,
///         /// Stay signed in.
///         pub remember: Option<bool>,
///     }
/// }
/// ```
#[macro_export]
macro_rules! input {
    ($(#[doc = $doc:expr])* $vis:vis struct $name:ident {
        $($(#[doc = $member_doc:expr])* $member_vis:vis $member:ident: $type:ty),* $(,)?
    }) => {
        $(#[doc = $doc])*
        $vis struct $name {
            $($(#[doc = $member_doc])* $member_vis $member: $type,)*
        }

        /// What comes in and goes out holds secrets and people's data: it says no more than what it is.
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(::std::stringify!($name)).finish_non_exhaustive()
            }
        }

        $crate::__object_type!($name, [$($doc),*], [$(($member, $type, [$($member_doc),*],
            <$type as $crate::http::macros::Type>::IS_REQUIRED, <$type as $crate::http::Field>::NULLABLE)),*]);

        impl $crate::http::Input for $name {
            fn collect(
                object: &mut $crate::http::macros::Map<String, $crate::http::macros::Value>,
                errors: &mut $crate::http::FieldErrors,
            ) -> Option<Self> {
                $(let $member = $crate::http::input::take::<$type>(object, stringify!($member), errors);)*
                Some(Self { $($member: $member?),* })
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __object_type {
    ($name:ident, [$($doc:expr),*], [$(($member:ident, $type:ty, [$($member_doc:expr),*], $required:expr, $nullable:expr)),*]) => {
        impl $crate::http::macros::Type for $name {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> ::std::borrow::Cow<'static, str> {
                ::std::borrow::Cow::Borrowed(stringify!($name))
            }

            fn schema_ref() -> $crate::http::macros::MetaSchemaRef {
                $crate::http::macros::MetaSchemaRef::Reference(stringify!($name).to_owned())
            }

            fn register(registry: &mut $crate::http::macros::Registry) {
                registry.create_schema::<Self, _>(stringify!($name).to_owned(), |_registry| {
                    $(<$type as $crate::http::macros::Type>::register(_registry);)*
                    $crate::http::macros::object(concat!($($doc, "\n"),*), ::std::vec![$($crate::http::macros::Member {
                        name: stringify!($member),
                        doc: concat!($($member_doc, "\n"),*),
                        schema: <$type as $crate::http::macros::Type>::schema_ref(),
                        required: $required,
                        nullable: $nullable,
                    }),*])
                });
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(::std::iter::once(self))
            }
        }
    };
}
