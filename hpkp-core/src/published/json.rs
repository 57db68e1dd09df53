//! JSON (RFC 8259) for records. The reader borrows strings from the line. The writer writes the canonical form whose
//! hash is the id.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 16;

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// Not JSON.
    NotJson,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// An object has two members of one name.
    Duplicate,
}

/// A value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value<'a> {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(Map<'a>),
}

/// The members of an object, sorted by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Map<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Map<'a> {
    /// Inserts a member. The caller ensures that no member has the same name.
    pub(super) fn insert(&mut self, name: impl Into<Cow<'a, str>>, value: Value<'a>) {
        let name = name.into();
        let at = self.0.partition_point(|(other, _)| *other < name);
        self.0.insert(at, (name, value));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    pub(super) fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The others stay sorted.
    pub(super) fn remove(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1)
    }
}

impl<'a> Value<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// [`JsonError::NotJson`], [`JsonError::TooDeep`] and [`JsonError::Duplicate`].
    pub(super) fn read(text: &'a str) -> Result<Self, JsonError> {
        let faults = Faults::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let seed = Nested { depth: 0, faults: &faults };
        let value = seed.deserialize(&mut deserializer);
        let value = value.and_then(|value| deserializer.end().map(|()| value));
        match value {
            _ if faults.is_too_deep.get() => Err(JsonError::TooDeep),
            Err(_) => Err(JsonError::NotJson),
            // Readers differ in which of two members of one name counts.
            Ok(_) if faults.has_duplicate.get() => Err(JsonError::Duplicate),
            Ok(value) => Ok(value),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    pub(super) fn as_u64(&self) -> Option<u64> {
        if let Self::Number(number) = self { number.as_u64() } else { None }
    }

    pub(super) fn as_i64(&self) -> Option<i64> {
        if let Self::Number(number) = self { number.as_i64() } else { None }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

macro_rules! from_numbers {
    ($($number:ty),*) => {
        $(impl From<$number> for Value<'_> {
            fn from(value: $number) -> Self {
                Self::Number(value.into())
            }
        })*
    };
}
from_numbers!(u16, u32, u64, usize, i64);

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(Cow::Owned(text))
    }
}

impl<'a, T: Into<Value<'a>>> FromIterator<T> for Value<'a> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

/// Faults in a text that may still be JSON.
#[derive(Default)]
struct Faults {
    is_too_deep: Cell<bool>,
    has_duplicate: Cell<bool>,
}

/// Reads a value at this depth of nesting.
#[derive(Clone, Copy)]
struct Nested<'f> {
    depth: usize,
    faults: &'f Faults,
}

impl Nested<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            self.faults.is_too_deep.set(true);
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth, ..self })
    }
}

impl<'a> DeserializeSeed<'a> for Nested<'_> {
    type Value = Value<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Value<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Nested<'_> {
    type Value = Value<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value<'a>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'a>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'a>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'a>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'a>, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Value<'a>, E> {
        Ok(Value::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'a>, E> {
        Ok(Value::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut values: A) -> Result<Value<'a>, A::Error> {
        let nested = self.deeper()?;
        let mut array = Vec::new();
        while let Some(value) = values.next_element_seed(nested)? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Value<'a>, A::Error> {
        let nested = self.deeper()?;
        let mut map: Vec<(Cow<'a, str>, Value<'a>)> = Vec::with_capacity(16);
        let mut is_sorted = true;
        while let Some(name) = members.next_key_seed(Name)? {
            is_sorted &= map.last().is_none_or(|(last, _)| *last < name);
            map.push((name, members.next_value_seed(nested)?));
        }
        if !is_sorted {
            map.sort_by(|(a, _), (b, _)| a.cmp(b));
            if map.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                self.faults.has_duplicate.set(true);
            }
        }
        Ok(Value::Object(Map(map)))
    }
}

/// Reads a member's name.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Appends an object: members sorted by name, no blanks.
pub(super) fn write_object(members: &Map<'_>, text: &mut String) {
    text.push('{');
    for (index, (name, value)) in members.0.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_string(name, text);
        text.push(':');
        write_value(value, text);
    }
    text.push('}');
}

fn write_value(value: &Value<'_>, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        // Writing to a String cannot fail.
        Value::Number(number) => drop(write!(text, "{number}")),
        Value::String(string) => write_string(string, text),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(value, text);
            }
            text.push(']');
        }
        Value::Object(members) => write_object(members, text),
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    let mut rest = string;
    while let Some(at) = rest.bytes().position(|byte| !is_plain(byte)) {
        let (plain, escaped) = rest.split_at(at);
        text.push_str(plain);
        match escaped.as_bytes()[0] {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            control => drop(write!(text, "\\u{control:04x}")),
        }
        rest = &escaped[1..];
    }
    text.push_str(rest);
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_borrowed_and_members_are_written_sorted() {
        let value = Value::read(r#" {"b": ["x", 1.5, -2], "a\u0062": "\n", "a": {}} "#).unwrap();
        let Value::Object(members) = &value else { panic!("{value:?}") };
        let Some(Value::Array(values)) = members.get("b") else { panic!("{value:?}") };
        assert!(matches!(values[0], Value::String(Cow::Borrowed("x"))));
        let mut text = String::new();
        write_object(members, &mut text);
        assert_eq!(text, r#"{"a":{},"ab":"\u000a","b":["x",1.5,-2]}"#);
    }

    #[test]
    fn two_members_of_one_name_are_refused_in_any_spelling() {
        for text in [r#"{"a":1,"b":2,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"x":{"a":1,"a":1}}]"#]
        {
            assert_eq!(Value::read(text), Err(JsonError::Duplicate), "{text}");
        }
        assert!(Value::read(r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#).is_ok());
        assert_eq!(Value::read(r#"{"a":1,"a":2"#), Err(JsonError::NotJson));
    }
}
